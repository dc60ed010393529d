//! What an operator has written wrong.

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// There is no such command.
    Unknown,
    /// A known command with other arguments than it takes.
    Arguments {
        /// The command's word.
        word: &'static str,
        /// What it takes.
        takes: &'static str,
    },
    /// More extra boot arguments than any VM has room for.
    LongArguments,
    /// What is said of the VM's address is none.
    Address,
    /// A word about the VM's terms whose value makes no sense.
    Terms {
        /// The word in front of the `=`.
        word: &'static str,
        /// What can be written.
        takes: &'static str,
    },
}
