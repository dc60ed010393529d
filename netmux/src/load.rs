//! A wire for benchmarks, in the place of a NIC: clients that ask web servers in VMs for a document, whether others have been answered or not.
//!
//! Requests come as a Poisson process with a fixed seed, each on a TCP connection of its own. The clients live in the demultiplexer, so they answer as soon as
//! a frame has come, as machines of their own would, whichever VM computes meanwhile; and all happens in the machine's time, so figures repeat to the last digit where
//! that counts instructions. What the clients execute counts as the demultiplexer's. The wire loses nothing and takes no time.

mod clients;
mod latencies;
mod plan;
mod players;
mod segment;
mod sweep;
mod zipf;

use crate::drivers::{Faults, Nic, Received};
use crate::frame::Mac;
use crate::policy::RoundRobin;
use abi::nic::{MAX_SEGMENTS, Node};
use abi::note::TableBytes;
use abi::vm::Slot;
use clients::{Client, Clients};
use component::{Component, now};
use plan::Plan;
use players::Players;
use ring::SharedMemory;
use segment::Heard;

/// The program's tables: those of any demultiplexer, and the clients.
pub const TABLES: TableBytes = {
    let tables = crate::tables::<RoundRobin>();
    // Dozens.
    #[allow(clippy::cast_possible_truncation)]
    let per_slot = tables.per_slot + (size_of::<Client>() + 2 * latencies::BYTES + zipf::BYTES) as u32;
    TableBytes { per_slot, ..tables }
};

/// The NIC's own address, which says what those of VMs are.
const MAC: Mac = Mac::new([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
/// Where frames of VMs lie, and those for VMs.
const SENT: usize = 0;
const RECEIVED: usize = MAX_SEGMENTS.next_multiple_of(8);
/// Where frames come one by one: how long the wire rests after each, so that the VM that it is for runs meanwhile.
const REST_US: u64 = 2;

/// Serves the VMs with such a wire, for ever. The policy's name says what happens on it (`load/plan.rs`).
///
/// # Panics
///
/// When the policy's name says nothing of the kind, and as [`crate::run()`].
pub fn run(component: &Component) -> ! {
    let info = component.info();
    crate::run::run_on::<RoundRobin, _>(component, |tables, memory| {
        let Some(plan) = Plan::read(info.policy.as_str(), tables.slots()) else {
            panic!(
                "the policy is called ask-RATE-COUNT-VMS, sweep-RATE-SYNS, zipf-EXPONENT-RATE-THOUSANDS, curve-EXPONENT-RATE-THOUSANDS, \
                 get-DOCUMENT-CLIENTS-TIMES-VMS, all-..., ack-..., one-..., far-... or play-PLAYERS-SECONDS-VMS, and not {}",
                info.policy.as_str()
            )
        };
        let way = if plan.far { info.tsc_hz / 1_000_000 * plan::WAY_US } else { 0 };
        let plan = Plan { hz: info.tsc_hz, start: now(), way, ..plan };
        let (clients, players) = (Clients::new(tables, plan), Players::new(tables, plan));
        Wire {
            memory,
            clients,
            players,
            rest: if plan.one_by_one { plan.hz / 1_000_000 * REST_US } else { 0 },
            quiet: 0,
            frame: None,
        }
    })
}

/// Where a VM is: the address of its card.
fn mac_of(vm: u32) -> [u8; 6] {
    Mac::of(Node::of_nic(MAC.bytes()), Slot::new(vm)).bytes()
}

/// The wire.
struct Wire {
    memory: SharedMemory,
    clients: Clients,
    players: Players,
    /// Ticks from one frame to the next, where they come one by one; 0: all at once. And until when nothing comes.
    rest: u64,
    quiet: u64,
    /// Length of the frame that lies in the receive buffer.
    frame: Option<usize>,
}

impl Wire {
    /// The next frame for a VM, in the receive buffer. Its length.
    fn next(&mut self, now: u64) -> Option<usize> {
        if now < self.quiet {
            return None;
        }
        let mut frame = [0; segment::MOST];
        let len = self.clients.next(now, &mut frame).or_else(|| self.players.next(now, &mut frame))?;
        self.memory.write(RECEIVED, frame.get(..len)?)?;
        Some(len)
    }

    /// Takes in what a VM has sent: `len` bytes, whose headers are whole, or those of a record that a NIC would cut.
    fn take(&mut self, len: usize, is_record: bool) {
        let now = now();
        let mut frame = [0; segment::READ];
        let read = len.min(frame.len());
        if let Some(headers) = frame.get_mut(..read)
            && self.memory.read(SENT, headers).is_some()
        {
            match if is_record { segment::read_record(headers, len) } else { segment::read(headers) } {
                Some(Heard::Datagram { client, vm }) => self.players.listen(now, client, vm),
                Some(heard) => self.clients.hear(now, heard),
                None => {}
            }
        }
        self.clients.own += component::now().saturating_sub(now);
    }
}

impl Nic for Wire {
    fn memory(&self) -> SharedMemory {
        self.memory
    }

    fn mac(&self) -> Mac {
        MAC
    }

    fn link_up(&self) -> bool {
        true
    }

    fn interrupt(&mut self) {}

    fn received(&mut self) -> Option<Received> {
        if self.frame.is_none() {
            let start = now();
            self.frame = self.next(start);
            self.clients.own += now().saturating_sub(start);
        }
        self.frame.map(|len| Received { offset: RECEIVED, len })
    }

    fn release(&mut self) {
        self.frame = None;
        if self.rest > 0 {
            self.quiet = now() + self.rest;
        }
    }

    fn buffer(&mut self) -> Option<usize> {
        Some(SENT)
    }

    fn send(&mut self, len: usize) {
        self.take(len, false);
    }

    fn cuts(&self) -> bool {
        true
    }

    fn buffer_of(&mut self, _len: usize) -> Option<usize> {
        Some(SENT)
    }

    fn send_segments(&mut self, len: usize, _headers: usize, _segment: u16) {
        self.take(len, true);
    }

    fn flush(&mut self) {}

    fn interrupt_on_space(&mut self) -> bool {
        false
    }

    fn faults(&self) -> Faults {
        Faults::default()
    }

    fn due(&self) -> u64 {
        self.clients.due().min(self.players.due()).max(self.quiet)
    }
}
