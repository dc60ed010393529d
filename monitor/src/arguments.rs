//! Boot arguments, word by word.

use crate::mistake::Mistake;
use abi::guest::BOOT_ARGS_MAX;

/// The boot arguments that the operator gives to a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments(heapless::Vec<u8, BOOT_ARGS_MAX>);

impl Arguments {
    /// None.
    pub const fn new() -> Self {
        Arguments(heapless::Vec::new())
    }

    /// Appends a word with what stands between it and the next.
    ///
    /// # Errors
    ///
    /// [`Mistake::LongArguments`].
    pub fn push(&mut self, word: &str) -> Result<(), Mistake> {
        // A space may stand where nothing fits any more: perhaps nothing follows.
        let fits = self.0.len() + word.len() <= self.0.capacity();
        let word = if fits { word } else { word.trim_end_matches(' ') };
        self.0.extend_from_slice(word.as_bytes()).map_err(|_| Mistake::LongArguments)
    }

    /// None again.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// All of them, without spaces at the end.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.trim_ascii_end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_fit_and_spaces_at_the_end_do_not_count() {
        let mut args = Arguments::new();
        args.push(&"x".repeat(BOOT_ARGS_MAX - 2)).expect("fits");
        args.push("y  ").expect("a space fits, and no second one is needed");
        assert_eq!(args.as_bytes().len(), BOOT_ARGS_MAX - 1);
        args.push("zz").expect_err("one too many");
        args.clear();
        assert_eq!(args, Arguments::new());
    }
}
