//! What serves a channel does with it.

use crate::channel::{Channel, Size, Terminal};
use crate::connection::{Connection, WAITING};
use crate::number::{
    CHANNEL_CLOSE, CHANNEL_DATA, CHANNEL_EOF, CHANNEL_EXTENDED_DATA, CHANNEL_REQUEST, CHANNEL_WINDOW_ADJUST,
};
use crate::wire::Message;
use alloc::collections::VecDeque;

/// Bytes of a message of a channel, either way.
pub(crate) const MESSAGE: u32 = 4 * 1024;
/// What interrupts at a terminal.
const CTRL_C: u8 = 3;

/// Where what is written goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// What was asked for.
    Output,
    /// A word beside it.
    Error,
}

/// There is no channel any more, or the connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Connection {
    fn channel(&mut self, channel: usize) -> Option<&mut Channel> {
        self.channels.get_mut(channel)?.as_mut()
    }

    /// The terminal at the other end of a channel, if there is one.
    pub fn terminal(&self, channel: usize) -> Option<&Terminal> {
        self.channels.get(channel)?.as_ref()?.terminal.as_ref()
    }

    /// How large that terminal is.
    pub fn size(&self, channel: usize) -> Option<Size> {
        self.terminal(channel).map(|terminal| terminal.size)
    }

    /// Whether somebody may be there who takes what is written.
    pub fn is_open(&self, channel: usize) -> bool {
        let known = self.channels.get(channel).and_then(Option::as_ref);
        self.end.is_none() && known.is_some_and(|known| !known.closed && !known.left)
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.channels.iter().flatten().count()
    }

    /// Takes some of what has come on a channel: how many bytes, 0 where none are there yet. `None`: nothing comes any more.
    pub fn read(&mut self, channel: usize, to: &mut [u8]) -> Option<usize> {
        let ended = self.end.is_some();
        let known = self.channel(channel)?;
        let len = known.input.len().min(to.len());
        if len == 0 {
            let over = known.ended || known.closed || ended;
            return if over && known.input.is_empty() { None } else { Some(0) };
        }
        for (place, byte) in to.iter_mut().zip(known.input.drain(..len)) {
            *place = byte;
        }
        if known.input.is_empty() {
            known.input.shrink_to(0);
        }
        self.grant(channel);
        Some(len)
    }

    /// Whether the client wants what goes on to be stopped: by a signal, or at a terminal by Ctrl-C, with which all is dropped that was typed before.
    pub fn take_interrupt(&mut self, channel: usize) -> bool {
        let Some(known) = self.channel(channel) else { return false };
        let signal = core::mem::take(&mut known.interrupted);
        let key = known.terminal.as_ref().and_then(|_| known.input.iter().rposition(|byte| *byte == CTRL_C));
        if let Some(at) = key {
            known.input.drain(..=at);
            self.grant(channel);
        }
        signal || key.is_some()
    }

    /// Writes some bytes on a channel: how many are taken, 0 where that has to wait.
    ///
    /// # Errors
    ///
    /// Nobody takes them any more.
    pub fn write(&mut self, channel: usize, stream: Stream, bytes: &[u8]) -> Result<usize, Gone> {
        if !self.is_open(channel) {
            return Err(Gone);
        }
        let waits = self.holds() || self.output.len() >= WAITING;
        let known = self.channel(channel).ok_or(Gone)?;
        let most = known.takes.min(known.message).min(MESSAGE);
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(most);
        if waits || len == 0 {
            return Ok(0);
        }
        known.takes -= len;
        let taken = bytes.get(..usize::try_from(len).unwrap_or(0)).unwrap_or_default();
        let message = match stream {
            Stream::Output => Message::new(CHANNEL_DATA).number(known.theirs),
            // The only kind that there is (RFC 4254, 5.2).
            Stream::Error => Message::new(CHANNEL_EXTENDED_DATA).number(known.theirs).number(1),
        };
        self.say(message.string(taken));
        Ok(taken.len())
    }

    /// Ends a channel that was served, with a status.
    pub fn finish(&mut self, channel: usize, status: u32) {
        let Some(known) = self.channel(channel).filter(|known| !known.left) else { return };
        known.left = true;
        let (theirs, closed) = (known.theirs, known.closed);
        known.input = VecDeque::new();
        if !closed {
            self.say(Message::new(CHANNEL_REQUEST).number(theirs).string("exit-status").flag(false).number(status));
            self.say(Message::new(CHANNEL_EOF).number(theirs));
        }
        self.say(Message::new(CHANNEL_CLOSE).number(theirs));
        if closed {
            self.channels[channel] = None;
        }
    }

    /// Lets a client send more, where there is room for some that are worth a message.
    pub(crate) fn grant(&mut self, channel: usize) {
        if self.holds() || self.end.is_some() {
            return;
        }
        let Some(known) = self.channel(channel) else { return };
        let Some(room) = known.room() else { return };
        known.granted += room;
        let message = Message::new(CHANNEL_WINDOW_ADJUST).number(known.theirs).number(room);
        self.say(message);
    }
}
