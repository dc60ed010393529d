//! All disks of all controllers, by one number each.

use crate::drivers::{Controller, Geometry, Op, Request};
use crate::latencies::Latencies;
use abi::disk::DiskReply;
use disk_format::{BLOCK_BYTES, Block};
use ring::SharedMemory;

/// Tags of requests that are waited for on the spot; those of the store follow, as many.
pub(crate) const TAGS: u16 = 1 << 14;
/// Controllers at most.
pub const MAX_CONTROLLERS: usize = 4;
/// Disks at most.
pub const MAX_DISKS: usize = 16;
/// How long a disk may take for a request, in seconds.
pub const PATIENCE: u64 = 10;
/// Blocks of memory for requests that are waited for on the spot: one, and one more for each disk that falls silent meanwhile.
const WAITED_BLOCKS: usize = 4;
/// Bytes of them.
pub const WAITED_BYTES: usize = WAITED_BLOCKS * BLOCK_BYTES;
/// Buffers that can be lost to disks that have fallen silent.
const MAX_LOST: usize = 96;
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
    /// The disk has said nothing for ten seconds, now or before: it is not asked again.
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
    /// Those that it has now.
    pub queue: u16,
    /// How long the last ones have taken.
    pub latencies: Latencies,
}

impl Disk {
    fn new(place: (usize, usize), geometry: Geometry) -> Disk {
        Disk { place, geometry, requests: 0, errors: 0, queue: 0, latencies: Latencies::default() }
    }
}

/// All of them.
pub struct Disks<C, H> {
    controllers: heapless::Vec<C, MAX_CONTROLLERS>,
    /// Requests that each controller was given and has not ended.
    away: [u32; MAX_CONTROLLERS],
    /// Bit `i`: controller `i` was asked for something since it had nothing to do.
    asked: u32,
    list: heapless::Vec<Disk, MAX_DISKS>,
    memory: SharedMemory,
    /// Where [`WAITED_BYTES`] lie for requests that are waited for on the spot.
    buffers: usize,
    host: H,
    last_tag: u16,
    /// As many requests were given tags by [`Disks::next_tag`].
    tagged: u16,
    /// Bit `i`: disk `i` has let a request expire, and is not asked again: it may never have room for another one.
    silent: u32,
    /// Memory that such a disk may still read and write.
    lost: heapless::Vec<usize, MAX_LOST>,
}

impl<C: Controller, H: Host> Disks<C, H> {
    /// The disks of these controllers, in order. The `WAITED_BYTES` from `buffers` on in the DMA memory are theirs.
    pub fn new(controllers: heapless::Vec<C, MAX_CONTROLLERS>, memory: SharedMemory, buffers: usize, host: H) -> Self {
        let mut list = heapless::Vec::new();
        for (number, controller) in controllers.iter().enumerate() {
            for (disk, &geometry) in controller.disks().iter().enumerate() {
                // Those beyond the room are not used.
                let _ = list.push(Disk::new((number, disk), geometry));
            }
        }
        Disks {
            controllers,
            away: [0; MAX_CONTROLLERS],
            asked: 0,
            list,
            memory,
            buffers,
            host,
            last_tag: 0,
            tagged: 0,
            silent: 0,
            lost: heapless::Vec::new(),
        }
    }

    /// The disks by their numbers.
    pub fn list(&self) -> &[Disk] {
        &self.list
    }

    /// How a disk does, for who asks.
    pub fn load(&self, index: u16) -> DiskReply {
        let Some(disk) = self.list.get(usize::from(index)) else { return DiskReply::None };
        let [p50_us, p99_us] = [50, 99].map(|percent| disk.latencies.quantile(percent));
        DiskReply::DiskLoad { index, queue: disk.queue, p50_us, p99_us }
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

    /// Blocks that one request to this disk may have; 0 where there is no such disk.
    pub fn run(&self, disk: usize) -> usize {
        self.list.get(disk).and_then(|disk| self.controllers.get(disk.place.0)).map_or(0, Controller::run)
    }

    /// Starts a request for as many blocks from `block` on as there are `buffers`, or for a flush, which has none. False when the disk has no room for it now; an error
    /// when it never will.
    ///
    /// # Errors
    /// [`Failed::Nonsense`]; [`Failed::TimeOut`] for a disk that has [expired](Disks::expire).
    pub fn start(&mut self, tag: u16, disk: usize, op: Op, block: u64, buffers: &[usize]) -> Result<bool, Failed> {
        if self.silent >> disk & 1 != 0 {
            return Err(Failed::TimeOut);
        }
        let disk = self.list.get_mut(disk).ok_or(Failed::Nonsense)?;
        let Geometry { blocks, read_only } = disk.geometry;
        let end = block.checked_add(buffers.len() as u64);
        if op != Op::Flush && end.is_none_or(|end| end > blocks) || op == Op::Write && read_only {
            return Err(Failed::Nonsense);
        }
        let (at, number) = disk.place;
        let controller = self.controllers.get_mut(at).ok_or(Failed::Nonsense)?;
        // What it would never take is not tried for ever.
        if buffers.len() > controller.run() || (op == Op::Flush) != buffers.is_empty() {
            return Err(Failed::Nonsense);
        }
        let started = controller.start(tag, Request { disk: number, op, block, buffers });
        disk.requests += u64::from(started);
        disk.queue += u16::from(started);
        self.away[at] += u32::from(started);
        self.asked |= 1 << at;
        Ok(started)
    }

    /// A tag, below those of the store, for a request that somebody does not wait for on the spot: another one each time, so that an answer that
    /// comes late is for nobody.
    pub fn next_tag(&mut self) -> u16 {
        self.tagged = (self.tagged + 1) % TAGS;
        self.tagged
    }

    /// Notes that a request to this disk, which it has had since then, has ended.
    pub fn ended(&mut self, disk: usize, since: u64, good: bool) {
        let (now, hz) = (self.host.now(), self.host.hz());
        if let Some(disk) = self.list.get_mut(disk) {
            disk.queue = disk.queue.saturating_sub(1);
            disk.errors += u64::from(!good);
            disk.latencies.add(now.saturating_sub(since), hz);
        }
    }

    /// Notes that nobody waits any more for a request to this disk.
    pub fn given_up(&mut self, disk: usize) {
        if let Some(disk) = self.list.get_mut(disk) {
            disk.queue = disk.queue.saturating_sub(1);
            disk.errors += 1;
        }
    }

    /// A disk has let a request with these buffers expire: it is not asked again, and they are not used again, since the disk may end the request
    /// at any time.
    pub fn expire(&mut self, disk: usize, buffers: &[usize]) {
        self.given_up(disk);
        self.silent |= 1 << disk;
        // Without room for them nothing is started any more.
        if self.lost.extend_from_slice(buffers).is_err() {
            self.silent = u32::MAX;
        }
    }

    /// Whether a disk that has expired may still read and write this buffer.
    pub fn is_lost(&self, buffer: usize) -> bool {
        self.lost.contains(&buffer)
    }

    /// A request that has ended: its tag, and whether it was done.
    pub fn done(&mut self) -> Option<(u16, bool)> {
        let mut left = self.asked;
        while left != 0 {
            let number = left.trailing_zeros() as usize;
            left &= left - 1;
            let (controller, away) = (self.controllers.get_mut(number)?, self.away.get_mut(number)?);
            let done = controller.done();
            *away = away.saturating_sub(u32::from(done.is_some()));
            // One that had no room for a request, and has none itself, may have to be asked, too.
            if *away == 0 && !controller.is_polled() {
                self.asked &= !(1 << number);
            }
            if let Some(done) = done {
                return Some((done.tag, done.good));
            }
        }
        None
    }

    /// Interrupts of these controllers have come.
    pub fn interrupts(&mut self, controllers: u32) {
        if controllers == 0 {
            return;
        }
        for (number, controller) in self.controllers.iter_mut().enumerate() {
            if controllers >> number & 1 != 0 {
                controller.interrupt();
            }
        }
        self.host.acknowledge(controllers);
    }

    /// The buffer of the next request that is waited for.
    fn buffer(&self) -> Result<usize, Failed> {
        let mut all = (0..WAITED_BLOCKS).map(|block| self.buffers + block * BLOCK_BYTES);
        all.find(|&buffer| !self.is_lost(buffer)).ok_or(Failed::TimeOut)
    }

    /// Does one request and waits for its end. Nothing else may be under way.
    fn wait_for(&mut self, disk: usize, op: Op, block: u64, buffer: usize) -> Result<(), Failed> {
        // Another tag each time: an answer that comes too late is for nobody.
        self.last_tag = self.last_tag.wrapping_add(1) | WAITED;
        let tag = self.last_tag;
        let give_up = self.host.now().saturating_add(PATIENCE.saturating_mul(self.host.hz()));
        // A ten-thousandth of a second.
        let nap = self.host.hz() / 10_000;
        let (mut started, mut since) = (false, 0);
        loop {
            if !started {
                let buffers = if op == Op::Flush { &[][..] } else { &[buffer] };
                started = self.start(tag, disk, op, block, buffers)?;
                since = self.host.now();
            }
            while let Some((ended, good)) = self.done() {
                if ended == tag {
                    self.ended(disk, since, good);
                    return if good { Ok(()) } else { Err(Failed::Error) };
                }
            }
            let now = self.host.now();
            if now >= give_up {
                self.expire(disk, &[buffer]);
                return Err(Failed::TimeOut);
            }
            let until = if started && !self.is_polled() { give_up } else { now.saturating_add(nap) };
            let came = self.host.sleep(until);
            self.interrupts(came);
        }
    }

    /// Reads a block, and waits for it.
    ///
    /// # Errors
    /// When it was not read.
    pub fn read(&mut self, disk: usize, block: u64, to: &mut Block) -> Result<(), Failed> {
        let buffer = self.buffer()?;
        self.wait_for(disk, Op::Read, block, buffer)?;
        self.memory.read(buffer, to).ok_or(Failed::Nonsense)
    }

    /// Writes a block, and waits until the disk has it. It is durable after [`Disks::flush`].
    ///
    /// # Errors
    /// When it was not written.
    pub fn write(&mut self, disk: usize, block: u64, from: &Block) -> Result<(), Failed> {
        let buffer = self.buffer()?;
        self.memory.write(buffer, from).ok_or(Failed::Nonsense)?;
        self.wait_for(disk, Op::Write, block, buffer)
    }

    /// Makes durable what was written to a disk.
    ///
    /// # Errors
    /// When nobody knows whether it is.
    pub fn flush(&mut self, disk: usize) -> Result<(), Failed> {
        let buffer = self.buffer()?;
        self.wait_for(disk, Op::Flush, 0, buffer)
    }
}

const _: () = assert!(BLOCK_BYTES == 4096 && MAX_DISKS <= 32);
