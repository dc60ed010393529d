//! Disk drivers behind one trait: one file a driver.

pub mod ide;
pub mod virtio;

/// What a disk is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Bring blocks into memory.
    Read,
    /// Take blocks from memory.
    Write,
    /// Make durable all writes that are done.
    Flush,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The controller's disk.
    pub disk: usize,
    /// What it is to do.
    pub op: Op,
    /// Block of 4 KiB.
    pub block: u64,
    /// Where in the DMA memory the block goes or comes from: at a page's beginning.
    pub buffer: usize,
}

/// What a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks of 4 KiB; what is no whole block at its end is not used.
    pub blocks: u64,
    /// It takes no writes.
    pub read_only: bool,
}

/// A request that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// As it was started with.
    pub tag: u16,
    /// Whether the disk says that it was done.
    pub good: bool,
}

/// Whatever disks are connected to. One block a request; many requests at the same time, as many as it takes.
pub trait Controller {
    /// What drives it ([`abi::disk::driver`]).
    fn driver(&self) -> u16;
    /// Its disks.
    fn disks(&self) -> &[Geometry];
    /// Starts a request. False when there is no room for another one now, or it asks for what there is not: nothing was started.
    fn start(&mut self, tag: u16, request: Request) -> bool;
    /// A request that has ended, each once. What the device says of requests that it was not given counts for nothing.
    fn done(&mut self) -> Option<Done>;
    /// Its interrupt has come.
    fn interrupt(&mut self);
    /// It raises no interrupts: [`Controller::done`] is to be asked from time to time while there are requests.
    fn is_polled(&self) -> bool;
}
