//! Somebody at a terminal who is at a console: the line that is typed stays below what the VM says.

use super::{Console, Said};
use crate::editor::{Editor, Typed};
use crate::peer::{FAILED, IDLE};
use crate::session::{Session, Stop, with_returns};
use crate::shell::columns;
use crate::width::of_text;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use ilwaco::task::race;
use ilwaco::time::{Instant, timeout};
use ssh::Stream;

/// Somebody at a terminal.
pub struct Seat<'s> {
    session: &'s Session,
    console: &'s Console<'s>,
    editor: Editor,
    screen: Vec<u8>,
}

impl<'s> Seat<'s> {
    /// At a console.
    pub fn new(session: &'s Session, console: &'s Console<'s>) -> Seat<'s> {
        Seat { session, console, editor: Editor::new("", columns(session)), screen: Vec::new() }
    }

    /// Goes on until one of them ends. The status.
    ///
    /// # Errors
    ///
    /// [`Stop`].
    pub async fn sit(mut self) -> Result<u32, Stop> {
        let vm = self.console.vm;
        self.note(&format!(
            "console of {vm}: it gets each line that you type; Ctrl-], Ctrl-D, ~. or a line ~q ends this"
        ));
        let mut typed = Instant::now();
        loop {
            let over = self.hear();
            if let Some(why) = over {
                self.note(&why);
                self.flush().await?;
                return Ok(FAILED);
            }
            let mut byte = [0];
            match self.session.try_read(&mut byte) {
                Some(0) if self.screen.is_empty() => {
                    let left = IDLE.saturating_sub(typed.elapsed());
                    timeout(left, race(self.session.changed(), self.console.came.notified())).await?;
                    if self.editor.set_columns(columns(self.session)) {
                        self.editor.draw(&mut self.screen);
                    }
                }
                // Something may come while that is said, so it is looked again.
                Some(0) => self.flush().await?,
                None if !self.session.is_open() => return Err(Stop::Gone),
                None => return self.leave().await,
                Some(_) => {
                    typed = Instant::now();
                    if let Some(status) = self.key(byte[0]).await? {
                        return Ok(status);
                    }
                }
            }
        }
    }

    /// A key: the status, when that was the last one.
    async fn key(&mut self, byte: u8) -> Result<Option<u32>, Stop> {
        match self.editor.take(byte, &mut self.screen) {
            Some(Typed::End | Typed::Escape) => return self.leave().await.map(Some),
            None if self.editor.before() == "~." => return self.leave().await.map(Some),
            Some(Typed::Line(line)) => {
                // What stood in front of it stands above now.
                self.editor.set_prompt("");
                self.flush().await?;
                match self.console.take(format!("{line}\n").as_bytes()).await {
                    Ok(true) => {}
                    Ok(false) => return self.leave().await.map(Some),
                    Err(why) => {
                        if self.hear().is_none() {
                            self.note(&why);
                        }
                        self.flush().await?;
                        return Ok(Some(FAILED));
                    }
                }
            }
            Some(Typed::Dropped) => self.editor.set_prompt(""),
            None | Some(Typed::Tab(_)) => {}
        }
        Ok(None)
    }

    /// Shows what the VM has said above the line that is typed. Why nothing more comes.
    fn hear(&mut self) -> Option<String> {
        // Where it is over, all that was said before is there.
        let over = self.console.over.borrow().clone();
        let collected = self.console.collected.take();
        for Said { missed, text } in collected.0 {
            if missed != 0 {
                self.note(&format!("{missed} bytes missed"));
            }
            self.above(&String::from_utf8_lossy(&text));
        }
        over
    }

    /// Shows a text of the VM's. Its last line, if that has no end yet, stands in front of what is typed.
    fn above(&mut self, text: &str) {
        self.editor.hide(&mut self.screen);
        let all = format!("{}{text}", self.editor.prompt());
        let (lines, rest) = all.rsplit_once('\n').map_or(("", &all[..]), |(lines, rest)| (lines, rest));
        if lines.len() + rest.len() < all.len() {
            self.screen.extend(with_returns(lines.as_bytes()));
            self.screen.extend(b"\r\n");
        }
        if of_text(rest) > self.editor.columns() / 2 {
            self.screen.extend(rest.as_bytes());
            self.screen.extend(b"\r\n");
            self.editor.set_prompt("");
        } else {
            self.editor.set_prompt(rest);
        }
        self.editor.draw(&mut self.screen);
    }

    /// Says something that is not the VM's.
    fn note(&mut self, what: &str) {
        self.editor.leave(&mut self.screen);
        self.screen.extend(format!("[{what}]\r\n").as_bytes());
    }

    async fn leave(&mut self) -> Result<u32, Stop> {
        self.editor.leave(&mut self.screen);
        self.flush().await?;
        Ok(0)
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        let screen = core::mem::take(&mut self.screen);
        self.session.write(Stream::Output, &screen).await
    }
}
