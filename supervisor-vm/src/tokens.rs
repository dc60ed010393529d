//! Tokens, with which programs may change things over HTTP. An operator makes one, and is shown it once: what is kept is a hash of it.

use crate::names::is_name;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use base64ct::{Base64UrlUnpadded, Encoding};
use core::fmt;
use sha2::{Digest, Sha256};

/// Tokens at most.
pub const MOST: usize = 64;
/// Bytes of chance in a token.
pub const BYTES: usize = 32;
/// What each begins with, so that whoever finds one knows what it is.
const BEGINS: &str = "foraker_";

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// That is no name.
    Bad,
    /// Another token has it.
    Taken,
    /// There are too many.
    Full,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Bad => f.write_str(
                "is no name: take 1 to 63 small letters, digits and dashes, with a letter or a digit at the start",
            ),
            TokenError::Taken => f.write_str("is the name of another token: `token rm` that one, or take another name"),
            TokenError::Full => {
                write!(f, "would be one token more than {MOST}: `token list` shows all, `token rm` takes one away")
            }
        }
    }
}

/// A token that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// The hash of what its owner shows.
    pub hash: [u8; 32],
    /// When, in milliseconds of Unix time.
    pub unix_ms: u64,
    /// How often it was shown and taken.
    pub used: u64,
}

/// All tokens, by their names.
#[derive(Default)]
pub struct Tokens {
    made: BTreeMap<String, Made>,
    /// Names of those that came or went since that was last asked.
    changed: BTreeSet<String>,
}

impl Tokens {
    /// Makes a token of this name out of chance. What its owner is to show.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub fn add(&mut self, name: &str, chance: &[u8; BYTES], unix_ms: u64) -> Result<String, TokenError> {
        let token = BEGINS.to_string() + &Base64UrlUnpadded::encode_string(chance);
        self.put(name, Made { hash: hash(&token), unix_ms, used: 0 })?;
        Ok(token)
    }

    /// Takes in a token that was made.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub fn put(&mut self, name: &str, made: Made) -> Result<(), TokenError> {
        if !is_name(name) {
            return Err(TokenError::Bad);
        }
        if self.made.contains_key(name) {
            return Err(TokenError::Taken);
        }
        if self.made.len() >= MOST {
            return Err(TokenError::Full);
        }
        self.made.insert(name.to_string(), made);
        self.changed.insert(name.to_string());
        Ok(())
    }

    /// The names of those that came or went since this was last asked, and what is known of them now.
    pub fn take_changed(&mut self) -> Vec<(String, Option<Made>)> {
        let changed = core::mem::take(&mut self.changed);
        changed.into_iter().map(|name| (name.clone(), self.made.get(&name).copied())).collect()
    }

    /// Takes a token away. False when there is none of this name.
    #[must_use]
    pub fn remove(&mut self, name: &str) -> bool {
        let removed = self.made.remove(name).is_some();
        if removed {
            self.changed.insert(name.to_string());
        }
        removed
    }

    /// The name of the token that somebody shows. It is compared by its hash: how long that takes says nothing of a token.
    pub fn take(&mut self, shown: &str) -> Option<&str> {
        let hash = hash(shown);
        let (name, made) = self.made.iter_mut().find(|(_, made)| made.hash == hash)?;
        made.used += 1;
        Some(name)
    }

    /// All, by their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Made)> {
        self.made.iter().map(|(name, made)| (name.as_str(), made))
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn a_token_is_known_until_it_is_taken_away() {
        let mut tokens = Tokens::default();
        let token = tokens.add("ci", &[7; BYTES], 1).expect("a token");
        assert_eq!(token.len(), BEGINS.len() + 43);
        assert_eq!(tokens.take(&token), Some("ci"));
        let short = &token[..token.len() - 1];
        for wrong in ["", "ci", short, &format!("{token}A"), &token.to_lowercase()] {
            assert_eq!(tokens.take(wrong), None, "{wrong}");
        }
        assert_eq!(tokens.iter().map(|(name, made)| (name, made.used)).next(), Some(("ci", 1)));
        assert!(tokens.take_changed().iter().map(|(name, made)| (name.as_str(), made.is_some())).eq([("ci", true)]));
        assert!(tokens.remove("ci") && !tokens.remove("ci"));
        assert_eq!((tokens.take_changed(), tokens.take_changed()), (Vec::from([("ci".to_string(), None)]), Vec::new()));
        assert_eq!(tokens.take(&token), None);
    }

    #[test]
    fn names_of_tokens_are_names_and_there_are_not_too_many() {
        let mut tokens = Tokens::default();
        assert_eq!(tokens.add("C I", &[1; BYTES], 1), Err(TokenError::Bad));
        for number in 0..MOST {
            let chance = [u8::try_from(number).expect("small"); BYTES];
            assert!(tokens.add(&format!("t{number}"), &chance, 1).is_ok());
        }
        assert_eq!(tokens.add("t0", &[1; BYTES], 1), Err(TokenError::Taken));
        assert_eq!(tokens.add("more", &[99; BYTES], 1), Err(TokenError::Full));
    }
}
