//! A wire for benchmarks, in the place of a NIC: clients that ask web servers in VMs for a document, whether others have been answered or not.
//!
//! Requests come as a Poisson process with a fixed seed, each on a TCP connection of its own. The clients live in the demultiplexer, so they answer as soon as
//! a frame has come, as machines of their own would, whichever VM computes meanwhile; and all happens in the machine's time, so figures repeat to the last digit where
//! that counts instructions. What the clients execute counts as the demultiplexer's. The wire loses nothing and takes no time.

mod clients;
mod latencies;
mod plan;
mod segment;
mod sweep;
mod zipf;

use crate::drivers::{Faults, Nic, Received};
use crate::frame::Mac;
use crate::policy::RoundRobin;
use abi::nic::{MAX_FRAME, Node};
use abi::note::TableBytes;
use abi::vm::Slot;
use clients::{Client, Clients};
use component::{Component, now};
use plan::Plan;
use ring::SharedMemory;

/// The program's tables: those of any demultiplexer, and the clients.
pub const TABLES: TableBytes = {
    let tables = crate::tables::<RoundRobin>();
    // Dozens.
    #[allow(clippy::cast_possible_truncation)]
    let per_slot = tables.per_slot + (size_of::<Client>() + latencies::BYTES + zipf::BYTES) as u32;
    TableBytes { per_slot, ..tables }
};

/// The NIC's own address, which says what those of VMs are.
const MAC: Mac = Mac::new([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
/// Where frames of VMs lie, and those for VMs.
const SENT: usize = 0;
const RECEIVED: usize = MAX_FRAME.next_multiple_of(8);

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
                "the policy is called ask-RATE-COUNT-VMS, sweep-RATE-SYNS or zipf-EXPONENT-RATE-THOUSANDS, and not {}",
                info.policy.as_str()
            )
        };
        let plan = Plan { hz: info.tsc_hz, start: now(), ..plan };
        Wire { memory, clients: Clients::new(tables, plan), frame: None }
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
    /// Length of the frame that lies in the receive buffer.
    frame: Option<usize>,
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
            let mut frame = [0; segment::MOST];
            let len = self.clients.next(now(), &mut frame)?;
            self.memory.write(RECEIVED, frame.get(..len)?)?;
            self.frame = Some(len);
        }
        self.frame.map(|len| Received { offset: RECEIVED, len })
    }

    fn release(&mut self) {
        self.frame = None;
    }

    fn buffer(&mut self) -> Option<usize> {
        Some(SENT)
    }

    fn send(&mut self, len: usize) {
        let mut frame = [0; segment::READ];
        let read = len.min(frame.len());
        if let Some(frame) = frame.get_mut(..read)
            && self.memory.read(SENT, frame).is_some()
        {
            self.clients.hear(now(), frame);
        }
    }

    fn flush(&mut self) {}

    fn interrupt_on_space(&mut self) -> bool {
        false
    }

    fn faults(&self) -> Faults {
        Faults::default()
    }

    fn due(&self) -> u64 {
        self.clients.due()
    }
}
