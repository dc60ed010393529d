//! Who may log in: the public keys among the boot arguments.

use alloc::string::String;
use alloc::vec::Vec;
use base64ct::{Base64, Base64Unpadded, Encoding};
use ilwaco::args::Args;
use sha2::{Digest, Sha256};

/// The name of the kind of keys, as it stands in a key.
const KIND: &[u8] = b"ssh-ed25519";
/// Bytes of a public key.
const KEY: usize = 32;

/// The keys of those who may log in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<[u8; KEY]>);

impl Keys {
    /// Those that each `key=` names: the second word of the line in an OpenSSH file with a public key. And the words that are no keys.
    pub fn of(args: &Args) -> (Keys, Vec<&str>) {
        let words = args.words().filter_map(|word| word.strip_prefix("key="));
        let (mut keys, mut bad) = (Keys::default(), Vec::new());
        for word in words {
            match parse(word) {
                Some(key) => keys.0.push(key),
                None => bad.push(word),
            }
        }
        (keys, bad)
    }

    /// Whether this key is one of them.
    pub fn has(&self, key: &[u8; KEY]) -> bool {
        self.0.contains(key)
    }

    /// Their fingerprints.
    pub fn fingerprints(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(fingerprint)
    }
}

/// The public key in the Base64 of an OpenSSH line: two strings with their lengths in front.
fn parse(word: &str) -> Option<[u8; KEY]> {
    let bytes = Base64::decode_vec(word).ok()?;
    let rest = bytes.strip_prefix(&wire(KIND.len())[..])?.strip_prefix(KIND)?;
    rest.strip_prefix(&wire(KEY)[..])?.try_into().ok()
}

/// A length in front of a string. A small number.
fn wire(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(0).to_be_bytes()
}

/// A key's fingerprint, as OpenSSH shows it.
pub fn fingerprint(key: &[u8; KEY]) -> String {
    let mut hash = Sha256::new();
    for part in [KIND, key] {
        hash.update(wire(part.len()));
        hash.update(part);
    }
    let mut text = String::from("SHA256:");
    text.push_str(&Base64Unpadded::encode_string(&hash.finalize()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORD: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJ6vnvQSr0kzEjM27BCB2oFmu9vRTHAqRUsHEJYTOoFD";

    #[test]
    fn a_key_is_the_second_word_of_a_public_key_file() {
        let args = Args::new(alloc::format!("ip=dhcp key={WORD} key=nonsense"));
        let (keys, bad) = Keys::of(&args);
        assert_eq!(bad, ["nonsense"]);
        let key = parse(WORD).expect("a key");
        assert!(keys.has(&key) && !keys.has(&[0; 32]));
        assert_eq!(keys.fingerprints().count(), 1);
    }

    #[test]
    fn what_is_no_key_is_none() {
        for bad in [
            "",
            "AAAA",
            &WORD[..60],
            "AAAAB3NzaC1yc2EAAAADAQABAAABgQC7",
            &WORD.replace("C3Nz", "C3N0"),
            "====",
            "\u{e9}",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(Keys::of(&Args::new("keys=1")).0, Keys::default(), "nobody may log in where nobody says who");
    }
}
