//! One session on a connection (RFC 4254, 5 and 6).

use alloc::collections::VecDeque;
use alloc::string::String;

/// Bytes that may come before they are read: of a channel that is alone, and of others beside it.
pub const WINDOW: u32 = 8 * 1024;
/// See [`WINDOW`].
pub const WINDOW_BESIDE: u32 = 2 * 1024;
/// Columns and rows of a terminal that does not say how many it has, and at most.
const SIZE: Size = Size { columns: 80, rows: 24 };
const MOST: u32 = 1000;

/// What is on the other end of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// What kind it is, as in `xterm`.
    pub kind: String,
    /// How large it is now.
    pub size: Size,
}

/// How large a terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line, from 1 to 1,000.
    pub columns: u32,
    /// Lines, from 1 to 1,000.
    pub rows: u32,
}

impl Size {
    /// What a client says; 0 where it does not know.
    pub(crate) fn said(columns: u32, rows: u32) -> Size {
        let sound = |said: u32, otherwise| if said == 0 { otherwise } else { said.min(MOST) };
        Size { columns: sound(columns, SIZE.columns), rows: sound(rows, SIZE.rows) }
    }
}

/// What a client wants of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To be asked for one line after the other.
    Shell,
    /// This line.
    Command(String),
    /// To be sent files, in version 3 of SFTP (draft-ietf-secsh-filexfer-02).
    Sftp,
}

/// A channel.
pub(crate) struct Channel {
    /// Its number at the client.
    pub(crate) theirs: u32,
    /// Bytes that the client takes, and bytes of one message of these.
    pub(crate) takes: u32,
    pub(crate) message: u32,
    /// Bytes that the client may send now, and how many that is where nothing waits to be read.
    pub(crate) granted: u32,
    pub(crate) window: u32,
    /// What has come.
    pub(crate) input: VecDeque<u8>,
    /// Nothing comes any more.
    pub(crate) ended: bool,
    /// The client has closed it; so have we.
    pub(crate) closed: bool,
    pub(crate) left: bool,
    /// Somebody serves it.
    pub(crate) served: bool,
    pub(crate) terminal: Option<Terminal>,
    /// The client wants what goes on to be stopped.
    pub(crate) interrupted: bool,
}

impl Channel {
    pub(crate) fn new(theirs: u32, takes: u32, message: u32, window: u32) -> Channel {
        Channel {
            theirs,
            takes,
            message,
            granted: window,
            window,
            input: VecDeque::new(),
            ended: false,
            closed: false,
            left: false,
            served: false,
            terminal: None,
            interrupted: false,
        }
    }

    /// Bytes that the client may send beyond what it was told: some that are worth a message.
    pub(crate) fn room(&self) -> Option<u32> {
        let waiting = u32::try_from(self.input.len()).unwrap_or(u32::MAX);
        let room = self.window.saturating_sub(self.granted).saturating_sub(waiting);
        (room >= self.window / 2 && !self.ended && !self.closed && !self.left).then_some(room)
    }
}
