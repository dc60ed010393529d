//! What a client types for a VM: its lines, and the word among them that is not for the VM.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// What begins a line that is not for the VM; doubled, the line is, without the first one.
const ESCAPE: u8 = b'~';

/// What a client says to the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// That it has enough.
    Quit,
}

/// Bytes that the VM has not got yet.
#[derive(Debug, Default)]
pub struct Typed {
    ready: VecDeque<u8>,
    /// The beginning of a line that may be not for the VM.
    held: Vec<u8>,
    /// Whether the beginning of the line has gone to the VM.
    inside: bool,
}

impl Typed {
    /// Takes what was typed. What of it is for the supervisor; nothing behind a [`Line::Quit`] is taken.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Line> {
        for &byte in bytes {
            // A terminal that is not cooked sends another end of the line.
            let byte = if byte == b'\r' { b'\n' } else { byte };
            match (&self.held[..], byte) {
                (b"", ESCAPE) if !self.inside => self.held.push(byte),
                (b"~", b'q') => self.held.push(byte),
                (b"~q", b'\n') => return Some(Line::Quit),
                (b"~", ESCAPE) => {
                    self.held.clear();
                    self.ready.push_back(byte);
                    self.inside = true;
                }
                _ => {
                    self.release();
                    self.ready.push_back(byte);
                    self.inside = byte != b'\n';
                }
            }
        }
        None
    }

    /// Nothing more comes: what is held back is for the VM, and its last line ends.
    pub fn end(&mut self) {
        self.release();
        if self.ready.back().map_or(self.inside, |&last| last != b'\n') {
            self.ready.push_back(b'\n');
        }
        self.inside = false;
    }

    fn release(&mut self) {
        self.inside |= !self.held.is_empty();
        self.ready.extend(self.held.drain(..));
    }

    /// Bytes for the VM.
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// The first ones of them.
    pub fn front(&self, most: usize) -> Vec<u8> {
        self.ready.iter().take(most).copied().collect()
    }

    /// The VM has so many of them.
    pub fn drop_front(&mut self, count: usize) {
        self.ready.drain(..count.min(self.ready.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the VM gets of these packets, and whether the client has enough.
    fn typed(packets: &[&str]) -> (Vec<u8>, bool) {
        let mut typed = Typed::default();
        let quits = packets.iter().any(|packet| typed.take(packet.as_bytes()).is_some());
        if !quits {
            typed.end();
        }
        (typed.front(usize::MAX), quits)
    }

    #[test]
    fn lines_go_to_the_vm_but_for_the_word_that_ends_it() {
        for (packets, expected, quits) in [
            (&["hello\n"][..], "hello\n", false),
            (&["hel", "lo"], "hello\n", false),
            (&["a\r"], "a\n", false),
            (&[""], "", false),
            (&["a\n~q\nb\n"], "a\n", true),
            (&["a\n", "~", "q", "\n"], "a\n", true),
            (&["a~q\n"], "a~q\n", false),
            (&["~qa\n~\n~q"], "~qa\n~\n~q\n", false),
            (&["~~q\n~~~\n"], "~q\n~~\n", false),
        ] {
            assert_eq!(typed(packets), (expected.as_bytes().to_vec(), quits), "{packets:?}");
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_it_is_cut(text in "[~q\na]{0,12}", at in 0_usize..12) {
            let (left, right) = text.split_at(at.min(text.len()));
            prop_assert_eq!(typed(&[left, right]), typed(&[&text]));
        }
    }
}
