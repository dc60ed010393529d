//! What follows from serving a VM's exit.

/// Whether the VM can be entered again at once.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Enter,
    /// It cannot run, or it gave its turn up.
    Leave,
}
