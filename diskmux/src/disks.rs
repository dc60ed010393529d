//! All disks of all controllers, by one number each.

use crate::drivers::{Controller, Geometry, Op, Request};
use disk_format::{BLOCK_BYTES, Block};
use ring::SharedMemory;

/// Controllers at most.
pub const MAX_CONTROLLERS: usize = 4;
/// Disks at most.
pub const MAX_DISKS: usize = 16;
/// How long a disk may take for a request, in seconds.
const PATIENCE: u64 = 10;
/// Tags of requests that are waited for on the spot.
const WAITED: u16 = 1 << 15;

/// What the disks need from outside.
pub trait Host {
    /// Ticks of the clock.
    fn now(&mut self) -> u64;
    /// Ticks in a second.
    fn hz(&self) -> u64;
    /// Sleeps until an interrupt has come, but no longer than until the time `until`. Bits of those that came: bit `i` for controller `i`.
    fn sleep(&mut self, until: u64) -> u32;
    /// The interrupts of these controllers may come again.
    fn acknowledge(&mut self, controllers: u32);
}

/// A request that was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// There is no such disk or block, or the disk takes no writes.
    Nonsense,
    /// The disk says that it could not.
    Error,
    /// The disk has said nothing for ten seconds.
    TimeOut,
}

/// A disk, and what it was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// Its controller, and its number there.
    place: (usize, usize),
    /// What it is.
    pub geometry: Geometry,
    /// Requests that it was given.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
}

/// All of them.
pub struct Disks<C, H> {
    controllers: heapless::Vec<C, MAX_CONTROLLERS>,
    list: heapless::Vec<Disk, MAX_DISKS>,
    memory: SharedMemory,
    /// Where the block lies that is waited for on the spot.
    buffer: usize,
    host: H,
    last_tag: u16,
}

impl<C: Controller, H: Host> Disks<C, H> {
    /// The disks of these controllers, in order. The block from `buffer` on in the DMA memory is theirs.
    pub fn new(controllers: heapless::Vec<C, MAX_CONTROLLERS>, memory: SharedMemory, buffer: usize, host: H) -> Self {
        let mut list = heapless::Vec::new();
        for (number, controller) in controllers.iter().enumerate() {
            for (disk, &geometry) in controller.disks().iter().enumerate() {
                // Those beyond the room are not used.
                let _ = list.push(Disk { place: (number, disk), geometry, requests: 0, errors: 0 });
            }
        }
        Disks { controllers, list, memory, buffer, host, last_tag: 0 }
    }

    /// The disks by their numbers.
    pub fn list(&self) -> &[Disk] {
        &self.list
    }

    /// What drives a disk ([`abi::disk::driver`]).
    pub fn driver(&self, disk: usize) -> u16 {
        let of = self.list.get(disk).and_then(|disk| self.controllers.get(disk.place.0));
        of.map_or(0, Controller::driver)
    }

    /// The DMA memory.
    pub fn memory(&self) -> SharedMemory {
        self.memory
    }

    /// What the disks have from outside.
    pub fn host(&mut self) -> &mut H {
        &mut self.host
    }

    /// Whether any controller is to be asked from time to time.
    pub fn is_polled(&self) -> bool {
        self.controllers.iter().any(Controller::is_polled)
    }

    /// Starts a request. False when the disk has no room for it now; an error when it never will.
    ///
    /// # Errors
    /// [`Failed::Nonsense`].
    pub fn start(&mut self, tag: u16, disk: usize, op: Op, block: u64, buffer: usize) -> Result<bool, Failed> {
        let disk = self.list.get_mut(disk).ok_or(Failed::Nonsense)?;
        let Geometry { blocks, read_only } = disk.geometry;
        if op != Op::Flush && block >= blocks || op == Op::Write && read_only {
            return Err(Failed::Nonsense);
        }
        let (controller, number) = disk.place;
        let controller = self.controllers.get_mut(controller).ok_or(Failed::Nonsense)?;
        let started = controller.start(tag, Request { disk: number, op, block, buffer });
        disk.requests += u64::from(started);
        Ok(started)
    }

    /// Notes that a request to this disk has failed.
    pub fn failed(&mut self, disk: usize) {
        if let Some(disk) = self.list.get_mut(disk) {
            disk.errors += 1;
        }
    }

    /// A request that has ended: its tag, and whether it was done.
    pub fn done(&mut self) -> Option<(u16, bool)> {
        let done = self.controllers.iter_mut().find_map(Controller::done)?;
        Some((done.tag, done.good))
    }

    /// Interrupts of these controllers have come.
    pub fn interrupts(&mut self, controllers: u32) {
        for (number, controller) in self.controllers.iter_mut().enumerate() {
            if controllers >> number & 1 != 0 {
                controller.interrupt();
            }
        }
        if controllers != 0 {
            self.host.acknowledge(controllers);
        }
    }

    /// Does one request and waits for its end. Nothing else may be under way.
    fn wait_for(&mut self, disk: usize, op: Op, block: u64) -> Result<(), Failed> {
        // Another tag each time: an answer that comes too late is for nobody.
        self.last_tag = self.last_tag.wrapping_add(1) | WAITED;
        let tag = self.last_tag;
        let give_up = self.host.now().saturating_add(PATIENCE.saturating_mul(self.host.hz()));
        // A ten-thousandth of a second.
        let nap = self.host.hz() / 10_000;
        let mut started = false;
        loop {
            if !started {
                started = self.start(tag, disk, op, block, self.buffer)?;
            }
            while let Some((ended, good)) = self.done() {
                if ended == tag {
                    return if good { Ok(()) } else { Err(Failed::Error) };
                }
            }
            let now = self.host.now();
            if now >= give_up {
                return Err(Failed::TimeOut);
            }
            let until = if started && !self.is_polled() { give_up } else { now.saturating_add(nap) };
            let came = self.host.sleep(until);
            self.interrupts(came);
        }
    }

    fn counted(&mut self, disk: usize, op: Op, block: u64) -> Result<(), Failed> {
        let result = self.wait_for(disk, op, block);
        if result.is_err() {
            self.failed(disk);
        }
        result
    }

    /// Reads a block, and waits for it.
    ///
    /// # Errors
    /// When it was not read.
    pub fn read(&mut self, disk: usize, block: u64, to: &mut Block) -> Result<(), Failed> {
        self.counted(disk, Op::Read, block)?;
        self.memory.read(self.buffer, to).ok_or(Failed::Nonsense)
    }

    /// Writes a block, and waits until the disk has it. It is durable after [`Disks::flush`].
    ///
    /// # Errors
    /// When it was not written.
    pub fn write(&mut self, disk: usize, block: u64, from: &Block) -> Result<(), Failed> {
        self.memory.write(self.buffer, from).ok_or(Failed::Nonsense)?;
        self.counted(disk, Op::Write, block)
    }

    /// Makes durable what was written to a disk.
    ///
    /// # Errors
    /// When nobody knows whether it is.
    pub fn flush(&mut self, disk: usize) -> Result<(), Failed> {
        self.counted(disk, Op::Flush, 0)
    }
}

const _: () = assert!(BLOCK_BYTES == 4096);
