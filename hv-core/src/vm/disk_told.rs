//! What whoever serves virtual disks knows of a VM.

/// What the disk striper has been told of a VM that has a virtual disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskTold {
    /// Nothing: the VM has not had its disk yet.
    Nothing,
    /// The start of this number has been told that it is there. Where that is not the one that lives, its rings have to begin anew.
    Attached(u32),
    /// It has had its disk, keeps it, and is out for the striper: nothing of it is under way, and its rings are as they will be found.
    Out,
}
