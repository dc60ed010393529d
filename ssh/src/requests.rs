//! What a client that has logged in says about channels (RFC 4254).

use crate::channel::{Channel, Size, Terminal, WINDOW, WINDOW_BESIDE, Wanted};
use crate::connection::{CHANNELS, Connection, Event};
use crate::end::End;
use crate::number::{
    CHANNEL_CLOSE, CHANNEL_DATA, CHANNEL_EOF, CHANNEL_EXTENDED_DATA, CHANNEL_FAILURE, CHANNEL_OPEN,
    CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE, CHANNEL_REQUEST, CHANNEL_SUCCESS, CHANNEL_WINDOW_ADJUST,
    GLOBAL_REQUEST, REQUEST_FAILURE, UNIMPLEMENTED, open_failure,
};
use crate::serving::MESSAGE;
use crate::wire::{Message, Reader};
use alloc::string::{String, ToString};

/// Bytes of a command at most.
pub const COMMAND: usize = 8 * 1024;
/// Characters of the name of a kind of terminals.
const KIND: usize = 64;

const NONSENSE: End = End::protocol("a message about a channel makes no sense");

impl Connection {
    pub(crate) fn handle_channels(&mut self, number: u8, payload: &[u8]) -> Result<Option<Event>, End> {
        let mut reader = Reader::new(payload);
        reader.byte();
        match number {
            GLOBAL_REQUEST => {
                let name = reader.string().ok_or(NONSENSE)?;
                self.enough |= name == b"no-more-sessions@openssh.com";
                // Questions whether somebody is there are among them, and any answer is one.
                if reader.flag().ok_or(NONSENSE)? {
                    self.say(Message::new(REQUEST_FAILURE));
                }
                Ok(None)
            }
            CHANNEL_OPEN => self.open(reader).map(|()| None),
            CHANNEL_WINDOW_ADJUST
            | CHANNEL_DATA
            | CHANNEL_EXTENDED_DATA
            | CHANNEL_EOF
            | CHANNEL_CLOSE
            | CHANNEL_REQUEST => {
                let at = usize::try_from(reader.number().ok_or(NONSENSE)?).ok().filter(|at| *at < CHANNELS);
                let at =
                    at.filter(|at| self.channels[*at].is_some()).ok_or(End::protocol("there is no such channel"))?;
                self.about(number, at, reader)
            }
            // Answers to what is not asked here among them.
            _ => {
                self.say(Message::new(UNIMPLEMENTED).number(self.last_packet()));
                Ok(None)
            }
        }
    }

    fn open(&mut self, mut reader: Reader<'_>) -> Result<(), End> {
        let kind = reader.string().ok_or(NONSENSE)?;
        let (theirs, takes) = (reader.number().ok_or(NONSENSE)?, reader.number().ok_or(NONSENSE)?);
        let message = reader.number().ok_or(NONSENSE)?;
        let free = self.channels.iter().position(Option::is_none);
        let (why, text) = match free {
            _ if kind != b"session" && kind != b"direct-tcpip" && kind != b"direct-streamlocal@openssh.com" => {
                (open_failure::UNKNOWN_TYPE, "there are sessions only")
            }
            _ if kind != b"session" => (open_failure::PROHIBITED, "nothing is forwarded here"),
            _ if self.enough => (open_failure::PROHIBITED, "no more sessions were wanted"),
            None => (open_failure::SHORTAGE, "there are eight sessions already"),
            Some(at) => {
                let window = if self.channels() == 0 { WINDOW } else { WINDOW_BESIDE };
                self.channels[at] = Some(Channel::new(theirs, takes, message.max(1), window));
                let ours = u32::try_from(at).unwrap_or(0);
                let message = Message::new(CHANNEL_OPEN_CONFIRMATION).number(theirs).number(ours);
                self.say(message.number(window).number(MESSAGE));
                return Ok(());
            }
        };
        self.say(Message::new(CHANNEL_OPEN_FAILURE).number(theirs).number(why).string(text).string(""));
        Ok(())
    }

    fn about(&mut self, number: u8, at: usize, mut reader: Reader<'_>) -> Result<Option<Event>, End> {
        let Some(channel) = &mut self.channels[at] else { return Ok(None) };
        match number {
            CHANNEL_WINDOW_ADJUST => {
                let more = reader.number().ok_or(NONSENSE)?;
                channel.takes = channel.takes.checked_add(more).ok_or(End::protocol("a window is too large"))?;
                Ok(Some(Event::Changed(at)))
            }
            CHANNEL_DATA | CHANNEL_EXTENDED_DATA => {
                let is_input = number == CHANNEL_DATA || reader.number().is_none();
                let data = reader.string().ok_or(NONSENSE)?;
                let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
                if channel.closed || channel.ended {
                    return Err(End::protocol("something comes behind the end of a channel"));
                }
                channel.granted =
                    channel.granted.checked_sub(len).ok_or(End::protocol("more comes than there is room for"))?;
                // What comes when nobody reads any more is dropped, as is what else there is but input.
                if !is_input || channel.left {
                    self.grant(at);
                    return Ok(None);
                }
                channel.input.extend(data);
                Ok(Some(Event::Changed(at)))
            }
            CHANNEL_EOF => {
                channel.ended = true;
                Ok(Some(Event::Changed(at)))
            }
            CHANNEL_CLOSE => {
                if channel.closed {
                    return Err(End::protocol("a channel is closed twice"));
                }
                (channel.closed, channel.ended) = (true, true);
                let (theirs, left, served) = (channel.theirs, channel.left, channel.served);
                if !left && !served {
                    self.say(Message::new(CHANNEL_CLOSE).number(theirs));
                }
                if left || !served {
                    self.channels[at] = None;
                }
                Ok(Some(Event::Changed(at)))
            }
            _ => self.request(at, reader),
        }
    }

    fn request(&mut self, at: usize, mut reader: Reader<'_>) -> Result<Option<Event>, End> {
        let Some(channel) = &mut self.channels[at] else { return Ok(None) };
        let (kind, answer) = (reader.string().ok_or(NONSENSE)?, reader.flag().ok_or(NONSENSE)?);
        let theirs = channel.theirs;
        let begins = !channel.served && !channel.closed && !channel.left;
        let mut event = None;
        let good = match kind {
            b"pty-req" if begins => {
                let kind = reader.text().ok_or(NONSENSE)?;
                let size = size(&mut reader)?;
                // The modes are the client's own affair: every key comes as it is typed.
                let kind: String = kind.chars().filter(char::is_ascii_graphic).take(KIND).collect();
                channel.terminal = Some(Terminal { kind, size });
                true
            }
            b"window-change" => {
                let size = size(&mut reader)?;
                if let Some(terminal) = &mut channel.terminal {
                    terminal.size = size;
                }
                event = Some(Event::Changed(at));
                channel.terminal.is_some()
            }
            b"shell" if begins => {
                channel.served = true;
                event = Some(Event::Serve(at, Wanted::Shell));
                true
            }
            b"exec" if begins => {
                let line = reader.string().ok_or(NONSENSE)?;
                let line = core::str::from_utf8(line).ok().filter(|line| line.len() <= COMMAND);
                channel.served = line.is_some();
                event = line.map(|line| Event::Serve(at, Wanted::Command(line.to_string())));
                line.is_some()
            }
            b"subsystem" if begins => {
                channel.served = reader.string().ok_or(NONSENSE)? == b"sftp";
                event = channel.served.then_some(Event::Serve(at, Wanted::Sftp));
                channel.served
            }
            b"signal" => {
                channel.interrupted |= matches!(reader.string().ok_or(NONSENSE)?, b"INT" | b"TERM" | b"HUP" | b"QUIT");
                event = Some(Event::Changed(at));
                true
            }
            // Nobody here has an environment, which is no harm.
            b"env" => true,
            _ => false,
        };
        if answer {
            self.say(Message::new(if good { CHANNEL_SUCCESS } else { CHANNEL_FAILURE }).number(theirs));
        }
        Ok(event)
    }
}

fn size(reader: &mut Reader<'_>) -> Result<Size, End> {
    let (columns, rows) = (reader.number().ok_or(NONSENSE)?, reader.number().ok_or(NONSENSE)?);
    Ok(Size::said(columns, rows))
}
