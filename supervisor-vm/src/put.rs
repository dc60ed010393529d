//! `image put`: takes a file from a client. It is read to its end before anything is done with it: who hangs up in the middle has done nothing.

use crate::command::Command;
use crate::image_order::{FILE_BYTES, ImageOrder};
use crate::input::{NO_TERMINAL, PIECE};
use crate::node::Node;
use crate::parse::{parse, says_json};
use crate::peer::FAILED;
use crate::said::Said;
use crate::session::{Session, Stop};
use crate::{audit, images};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// What a line asks for, when that is to take an image and nothing else; and the line.
pub fn asked(line: &str) -> Option<(String, ImageOrder)> {
    let [(text, Command::ImagePut { order })] = <[_; 1]>::try_from(parse(line).ok()?).ok()? else { return None };
    Some((text, order))
}

/// The only place in which a file is received, with the memory for it.
pub struct Receipt<'n> {
    node: &'n Node,
    /// What has come.
    pub file: Vec<u8>,
}

impl Node {
    /// A place for a file of so many bytes at most.
    ///
    /// # Errors
    ///
    /// Somebody else is sending one, or there is no memory for it.
    pub fn receive(&self, bytes: usize) -> Result<Receipt<'_>, String> {
        if self.receives.get() {
            return Err(String::from("another image is being received: try again when that is done"));
        }
        let mut file = Vec::new();
        if !ilwaco::has_memory_for(bytes) || file.try_reserve_exact(bytes).is_err() {
            return Err(String::from(
                "the supervisor has no memory for the file now: try again when fewer are logged in",
            ));
        }
        self.receives.set(true);
        Ok(Receipt { node: self, file })
    }
}

impl Drop for Receipt<'_> {
    fn drop(&mut self) {
        self.node.receives.set(false);
    }
}

/// Reads a file to its end, and gives it to the core as an image. The status.
///
/// # Errors
///
/// [`Stop`]: it is no image then.
pub async fn put(session: &Session, (text, order): (String, ImageOrder)) -> Result<u32, Stop> {
    if session.size().is_some() {
        session.aside(NO_TERMINAL).await?;
        return Ok(FAILED);
    }
    let mut receipt = session.node().receive(FILE_BYTES);
    let mut too_long = false;
    let mut piece = vec![0; PIECE];
    // All is read: whoever sends it hears then what is wrong with it.
    while let Some(read) = session.read(&mut piece).await? {
        let Ok(Receipt { file, .. }) = &mut receipt else { continue };
        too_long |= file.len() + read > FILE_BYTES;
        if !too_long {
            file.extend_from_slice(piece.get(..read).unwrap_or_default());
        }
    }
    let said = match &receipt {
        _ if too_long => Err(format!(
            "an image has {FILE_BYTES} bytes at most: strip it of what is for a debugger, or make it smaller"
        )),
        Ok(receipt) => images::put(session.node(), &order, &receipt.file).await,
        Err(why) => Err(why.clone()),
    };
    drop(receipt);
    let outcome = said.as_ref().map_or_else(String::as_str, |_| audit::DONE);
    let warning = audit::done(session.node(), &session.who(), &text, outcome).await;
    let json = says_json(&text);
    match said.and_then(|said| if json { said.as_json() } else { Ok(said) }) {
        Ok(Said { text, aside }) => {
            session.out(&text).await?;
            session.aside(&(aside + &warning.unwrap_or_default())).await.map(|()| 0)
        }
        Err(why) => session.aside(&format!("{why}\n")).await.map(|()| FAILED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_comes_alone() {
        let (text, order) = asked("image  put shop -- a=b").expect("it is asked for");
        assert_eq!((text.as_str(), order.name.as_str()), ("image put shop -- a=b", "shop"));
        for other in ["image put shop && vm list", "image list", "image put", "image put Shop", ""] {
            assert!(asked(other).is_none(), "{other}");
        }
    }
}
