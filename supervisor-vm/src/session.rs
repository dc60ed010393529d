//! What serves a channel has of it: who is at the other end, what comes, and where what is said goes.

use crate::keys::fingerprint;
use crate::link::Link;
use crate::node::Node;
use crate::peer::IDLE;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::future::Future;
use ilwaco::task::{Either, race};
use ilwaco::time::{Elapsed, timeout};
use ssh::{Size, Stream};

/// Why a channel is served no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nobody is there any more.
    Gone,
    /// The client does not go on.
    Slow,
    /// It wants what goes on to be stopped: Ctrl-C at a terminal, or a signal.
    Interrupted,
}

impl From<Elapsed> for Stop {
    fn from(_: Elapsed) -> Stop {
        Stop::Slow
    }
}

/// A channel that is served. When it is dropped, the channel ends with the status.
pub struct Session {
    link: Rc<Link>,
    channel: usize,
    /// The status of what was asked for.
    pub status: Cell<u32>,
}

impl Session {
    /// The channel of this number.
    pub fn new(link: Rc<Link>, channel: usize) -> Session {
        Session { link, channel, status: Cell::new(0) }
    }

    /// What is asked and told about.
    pub fn node(&self) -> &Node {
        self.link.server.node()
    }

    /// The same, for what outlives this.
    pub fn shared_node(&self) -> Rc<Node> {
        self.link.server.shared_node()
    }

    /// Where the client is, for people.
    pub fn name(&self) -> &str {
        &self.link.name
    }

    /// The fingerprint of its key.
    pub fn user(&self) -> String {
        self.link.connection.borrow().user().map(|key| fingerprint(&key)).unwrap_or_default()
    }

    /// Who does what is done here, as the audit log has it.
    pub fn who(&self) -> String {
        format!("{} at {}", self.user(), self.name())
    }

    /// How large the terminal at the other end is; `None` where there is none.
    pub fn size(&self) -> Option<Size> {
        self.link.connection.borrow().size(self.channel)
    }

    /// Whether somebody may be there.
    pub fn is_open(&self) -> bool {
        self.link.connection.borrow().is_open(self.channel)
    }

    /// Completes when something may have changed: there is input, room for output, another size, or nobody any more.
    pub async fn changed(&self) {
        if let Some(changed) = self.link.changed.get(self.channel) {
            changed.notified().await;
        }
    }

    /// What has come: how many bytes, 0 where none are there yet. `None`: nothing comes any more.
    pub fn try_read(&self, to: &mut [u8]) -> Option<usize> {
        let read = self.link.connection.borrow_mut().read(self.channel, to);
        self.link.push();
        read
    }

    /// Waits for input: how many bytes, `None` when nothing comes any more.
    ///
    /// # Errors
    ///
    /// [`Stop::Slow`] when nothing comes for too long, [`Stop::Gone`] where that is since nobody is there.
    pub async fn read(&self, to: &mut [u8]) -> Result<Option<usize>, Stop> {
        let read = async {
            loop {
                match self.try_read(to) {
                    Some(0) => self.changed().await,
                    None if !self.is_open() => return Err(Stop::Gone),
                    read => return Ok(read),
                }
            }
        };
        timeout(IDLE, read).await?
    }

    /// Says these bytes as they are.
    ///
    /// # Errors
    ///
    /// [`Stop::Gone`], and [`Stop::Slow`] where nobody takes them.
    pub async fn write(&self, stream: Stream, bytes: &[u8]) -> Result<(), Stop> {
        self.write_unless(stream, bytes, || false).await
    }

    async fn write_unless(&self, stream: Stream, bytes: &[u8], stops: impl Fn() -> bool) -> Result<(), Stop> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if stops() {
                return Err(Stop::Interrupted);
            }
            let written = self.link.connection.borrow_mut().write(self.channel, stream, rest);
            let len = written.map_err(|_| Stop::Gone)?;
            self.link.push();
            rest = rest.get(len..).unwrap_or_default();
            if len == 0 {
                timeout(IDLE, self.changed()).await?;
            }
        }
        Ok(())
    }

    /// Says a text, with the ends of lines as the other end wants them, unless what goes on is to be stopped.
    ///
    /// # Errors
    ///
    /// [`Stop`].
    pub async fn say(&self, stream: Stream, text: &[u8]) -> Result<(), Stop> {
        let stops = || self.is_interrupted();
        match self.size() {
            Some(_) => self.write_unless(stream, &with_returns(text), stops).await,
            None => self.write_unless(stream, text, stops).await,
        }
    }

    /// Says a text that was asked for.
    ///
    /// # Errors
    ///
    /// [`Stop`].
    pub async fn out(&self, text: &str) -> Result<(), Stop> {
        self.say(Stream::Output, text.as_bytes()).await
    }

    /// Says a text beside it. At a terminal both are one, and would come out of turn.
    ///
    /// # Errors
    ///
    /// [`Stop`].
    pub async fn aside(&self, text: &str) -> Result<(), Stop> {
        let stream = if self.size().is_some() { Stream::Output } else { Stream::Error };
        self.say(stream, text.as_bytes()).await
    }

    /// Whether what goes on is to be stopped, which is asked once.
    pub fn is_interrupted(&self) -> bool {
        let is_interrupted = self.link.connection.borrow_mut().take_interrupt(self.channel);
        self.link.push();
        is_interrupted
    }

    /// Waits for something, unless what goes on is to be stopped, or nobody is there any more.
    ///
    /// # Errors
    ///
    /// [`Stop::Gone`] and [`Stop::Interrupted`].
    pub async fn wait_for<T>(&self, something: impl Future<Output = T>) -> Result<T, Stop> {
        let stopped = async {
            loop {
                if self.is_interrupted() {
                    return Stop::Interrupted;
                }
                if !self.is_open() {
                    return Stop::Gone;
                }
                self.changed().await;
            }
        };
        match race(something, stopped).await {
            Either::Left(done) => Ok(done),
            Either::Right(stop) => Err(stop),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.link.connection.borrow_mut().finish(self.channel, self.status.get());
        self.link.left();
    }
}

/// A text with the ends of its lines as terminals want them.
pub fn with_returns(text: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(text.len() + text.len() / 32);
    for byte in text {
        if *byte == b'\n' {
            all.push(b'\r');
        }
        all.push(*byte);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_the_left() {
        assert_eq!(with_returns(b"a\n\nb"), b"a\r\n\r\nb");
    }
}
