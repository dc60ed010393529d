//! Boot arguments: words and `key=value` pairs, separated by spaces.

use alloc::string::String;

/// The boot arguments of this VM.
#[derive(Clone, Debug)]
pub struct Args(String);

impl Args {
    /// Those that the VM was started with.
    pub fn of_this_vm() -> Args {
        Args(crate::registers::boot_args())
    }

    /// From a text.
    pub fn new(text: impl Into<String>) -> Args {
        Args(text.into())
    }

    /// All words.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.split_ascii_whitespace()
    }

    /// The value of `key=value`; the last one counts, so that what is added behind overrides.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.words()
            .filter_map(|word| word.split_once('='))
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .last()
    }

    /// True when `word` stands there by itself.
    pub fn has(&self, word: &str) -> bool {
        self.words().any(|each| each == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_pairs() {
        let args = Args::new("verbose ip=10.0.2.16/24  gw=10.0.2.2 crime=a=b ip=dhcp");
        assert_eq!(args.get("ip"), Some("dhcp"));
        assert_eq!(args.get("gw"), Some("10.0.2.2"));
        assert_eq!(args.get("crime"), Some("a=b"));
        assert_eq!(args.get("verbose"), None);
        assert!(args.has("verbose") && !args.has("ip") && !args.has("verb"));
        assert_eq!(Args::new("").words().count(), 0);
        assert_eq!(Args::new("a= =b").get("a"), Some(""));
    }
}
