//! Boot arguments, word by word.

use crate::command::Mistake;
use abi::control::CREATE_ARGS_BYTES;

/// Boot arguments as a request carries them: padded with zeros.
pub struct Arguments {
    bytes: [u8; CREATE_ARGS_BYTES],
    len: usize,
}

impl Arguments {
    /// None.
    pub const fn new() -> Self {
        Arguments { bytes: [0; CREATE_ARGS_BYTES], len: 0 }
    }

    /// Appends a word with what stands between it and the next.
    ///
    /// # Errors
    ///
    /// [`Mistake::LongArguments`].
    pub fn push(&mut self, word: &str) -> Result<(), Mistake> {
        // A space may stand where nothing fits any more: perhaps nothing follows.
        let word = if self.len + word.len() > self.bytes.len() { word.trim_end_matches(' ') } else { word };
        let place = self.bytes.get_mut(self.len..self.len + word.len()).ok_or(Mistake::LongArguments)?;
        place.copy_from_slice(word.as_bytes());
        self.len += word.len();
        Ok(())
    }

    /// All of them, without spaces at the end.
    pub fn finish(mut self) -> [u8; CREATE_ARGS_BYTES] {
        while self.len > 0 && self.bytes[self.len - 1] == b' ' {
            self.len -= 1;
            self.bytes[self.len] = 0;
        }
        self.bytes
    }
}
