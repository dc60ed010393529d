//! The way to the disk striper: its rings, the runs of blocks behind them, and sessions ([`abi::swap_disk`]).

use crate::seal::BLOCK;
use abi::message::Message;
use abi::swap_disk::{DATA_BYTES, RUN_BLOCKS, RUNS, SwapDiskReply, SwapDiskRequest};
use component::{Inbox, Outbox};
use ring::SharedMemory;

/// What joins both.
pub struct Ports {
    /// Requests.
    pub requests: Outbox,
    /// Answers.
    pub replies: Inbox,
    /// What lies behind the requests.
    pub data: SharedMemory,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Or read.
    pub write: bool,
    /// Its run.
    pub run: usize,
    /// The swap region.
    pub region: u32,
    /// Its first block there.
    pub first: u32,
    /// How many.
    pub blocks: u16,
}

/// The way to the striper.
pub struct Link {
    ports: Option<Ports>,
    /// The session that was asked for.
    session: u32,
    /// Whether it has begun.
    up: bool,
    /// Whether that was since the last look.
    is_new: bool,
    regions: u32,
    region_blocks: u32,
    writable: bool,
    last_id: u32,
    /// Requests that have ended: run, id, status.
    ended: heapless::Deque<(usize, u32, u16), { 2 * RUNS }>,
    rings: bool,
}

impl Link {
    /// By way of these ports; `None` where there is no striper.
    pub fn new(ports: Option<Ports>) -> Self {
        let mut link = Link {
            ports: ports.filter(|ports| ports.data.len() >= DATA_BYTES),
            session: 0,
            up: false,
            is_new: false,
            regions: 0,
            region_blocks: 0,
            writable: false,
            last_id: 0,
            ended: heapless::Deque::new(),
            rings: false,
        };
        link.hello();
        link
    }

    /// Whether there is no striper at all.
    pub fn is_absent(&self) -> bool {
        self.ports.is_none()
    }

    /// Whether requests can be asked.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Whether there is a region of this number.
    pub fn has(&self, region: u32) -> bool {
        self.up && region < self.regions
    }

    /// Whether anything can be written.
    pub fn takes_writes(&self) -> bool {
        self.up && self.writable && self.regions > 0
    }

    /// Blocks of a region.
    pub fn region_blocks(&self) -> u32 {
        self.region_blocks
    }

    /// The notification bit of answers.
    pub fn doorbell(&self) -> u64 {
        self.ports.as_ref().map_or(0, |ports| ports.replies.doorbell)
    }

    /// The bell to ring.
    pub fn bell(&mut self) -> u64 {
        let bell = self.ports.as_ref().map_or(0, |ports| ports.requests.doorbell);
        if core::mem::take(&mut self.rings) { bell } else { 0 }
    }

    /// Shows what was asked for.
    pub fn publish(&mut self) {
        if let Some(ports) = &mut self.ports {
            ports.requests.publish();
        }
    }

    /// A session begins.
    fn hello(&mut self) {
        let Some(ports) = &mut self.ports else { return };
        self.up = false;
        self.session = self.session.wrapping_add(1).max(1);
        self.ended.clear();
        // A full ring is one of a striper that has died: its successor asks again.
        self.rings |= ports.requests.send(&SwapDiskRequest::Hello { session: self.session }.into());
    }

    /// Takes what has come. True: look again at once.
    pub fn hear(&mut self) -> bool {
        let Some(ports) = &mut self.ports else { return false };
        let (mut began, mut fresh) = (None, false);
        let ended = &mut self.ended;
        let session = self.session;
        let all = ports.replies.drain(|message| match SwapDiskReply::try_from(message) {
            Ok(SwapDiskReply::Regions { session: 0, .. }) => (began, fresh) = (None, true),
            Ok(SwapDiskReply::Regions { session: of, regions, region_blocks, writable }) if of == session => {
                began = Some((regions, region_blocks, writable));
            }
            Ok(SwapDiskReply::Ended { run, status }) => {
                // No more than were asked for; a striper that says more is not believed.
                let _ = ended.push_back((run.into(), message.id, status));
            }
            _ => {}
        });
        if let Some((regions, region_blocks, writable)) = began {
            (self.up, self.is_new) = (true, true);
            (self.regions, self.region_blocks, self.writable) = (regions, region_blocks, writable);
        }
        if fresh {
            self.hello();
        }
        !all
    }

    /// Whether a session has begun since the last time.
    pub fn take_new_session(&mut self) -> bool {
        core::mem::take(&mut self.is_new)
    }

    /// A request that has ended: its run, its id, and how.
    pub fn ended(&mut self) -> Option<(usize, u32, u16)> {
        self.ended.pop_front().filter(|_| self.up).filter(|(run, ..)| *run < RUNS)
    }

    /// Asks for something. Its id, which is not 0; `None` when it cannot be asked for now.
    pub fn ask(&mut self, order: &Order) -> Option<u32> {
        let ports = self.ports.as_mut().filter(|_| self.up)?;
        let &Order { write, run, region, first, blocks } = order;
        let run = u16::try_from(run).ok()?;
        let request = if write {
            SwapDiskRequest::Write { region, first, blocks, run }
        } else {
            SwapDiskRequest::Read { region, first, blocks, run }
        };
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let id = self.last_id;
        let staged = ports.requests.stage(&Message { id, ..request.into() });
        self.rings |= staged;
        staged.then_some(id)
    }

    /// A block of a run, copied.
    pub fn load(&self, run: usize, block: usize, to: &mut [u8; BLOCK]) -> Option<()> {
        self.ports.as_ref()?.data.read((run * RUN_BLOCKS + block) * BLOCK, to)
    }

    /// Puts a block into a run.
    pub fn store(&self, run: usize, block: usize, from: &[u8; BLOCK]) -> Option<()> {
        self.ports.as_ref()?.data.write((run * RUN_BLOCKS + block) * BLOCK, from)
    }
}
