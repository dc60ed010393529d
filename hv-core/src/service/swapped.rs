//! What became of VMs that went out and came in.

/// What is counted of VMs that go out and come in, from boot on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Swapped {
    /// Those that went out.
    pub stored: u64,
    /// Those that came in again.
    pub loaded: u64,
    /// Those for whom there was no room in the pool.
    pub refused: u64,
    /// Those that ended because what came back was damaged, or nothing did.
    pub damaged: u64,
    /// Those that were moved from the pool to the disks.
    pub moved: u32,
    /// Pages that went out one by one.
    pub pages_out: u64,
    /// Those of them that came back.
    pub pages_in: u64,
}
