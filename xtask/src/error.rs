//! Errors for whoever typed the command: one or more sentences that say what, where, why and what to do.

use std::fmt;

/// What went wrong, as text.
pub struct Error(String);

/// A result whose error is text for the user.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// `unwrap` in tests shows the sentence, not a struct.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Error {
    fn from(text: String) -> Self {
        Error(text)
    }
}

impl From<&str> for Error {
    fn from(text: &str) -> Self {
        Error(text.to_owned())
    }
}

/// Says what was tried when something failed.
pub trait Context<T> {
    /// The error becomes "`what`: cause".
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error(format!("{}: {error}", what())))
    }
}

impl<T> Context<T> for Option<T> {
    /// The error becomes "`what`".
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.ok_or_else(|| Error(what()))
    }
}

/// Returns from the function with an error made like `format!`.
macro_rules! fail {
    ($($arg:tt)*) => {
        return Err($crate::error::Error::from(format!($($arg)*)))
    };
}
pub(crate) use fail;
