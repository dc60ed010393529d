//! What a command says to whoever gave it.

use alloc::string::String;

/// What a command says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What was asked for.
    pub text: String,
    /// A word beside it, for people: it is no part of what programs read.
    pub aside: String,
}

impl From<String> for Said {
    fn from(text: String) -> Said {
        Said { text, aside: String::new() }
    }
}
