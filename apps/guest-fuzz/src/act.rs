//! What the guest does in one step.

use crate::{CORPUS_BYTES, Noise};
use abi::guest::{NIC_BASE, REGISTER_PAGE, RegisterPage, hypercall, pending};
use abi::nic::{RX_RING, TX_RING};
use core::mem::offset_of;

/// General registers but RSP, then RSP.
pub const REGISTERS: usize = 16;
/// Pages of page tables that random page tables are made of.
pub const TABLES: u32 = 8;
/// Entries of the first level that lead to them: 1 to this.
pub const ROOTS: u16 = 7;
/// Stores of a step at most.
pub const STORES: usize = 4;

/// A kind of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Random instructions with random registers.
    Instructions,
    /// Hypercalls with random numbers and arguments.
    Hypercalls,
    /// Random words in the register page.
    RegisterPage,
    /// Random words in the rings of console and NIC.
    Rings,
    /// Random page tables.
    PageTables,
}

/// All of them, with their names.
pub const CLASSES: [(Class, &str); 5] = [
    (Class::Instructions, "instructions"),
    (Class::Hypercalls, "hypercalls"),
    (Class::RegisterPage, "register-page"),
    (Class::Rings, "rings"),
    (Class::PageTables, "page-tables"),
];

/// Where things are in the guest's memory, so that random addresses hit something. Guest-physical, and linear below 512 GiB.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// The instructions.
    pub corpus: u64,
    /// Pages that nothing lies in.
    pub scratch: u64,
    /// Bytes of them.
    pub scratch_bytes: u64,
    /// [`TABLES`] pages of random page tables.
    pub tables: u64,
    /// The page table's first page with which steps run.
    pub root: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Slots of the receive ring, so that the transmit ring's place is known.
    pub rx_slots: u32,
    /// Slots of the transmit ring.
    pub tx_slots: u32,
}

/// A store of the low `bytes` (1, 2, 4, 8) of `value`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Store {
    /// Where; a multiple of `bytes`.
    pub address: u64,
    /// What.
    pub value: u64,
    /// How much; 0 for no store.
    pub bytes: u8,
}

/// A hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// RAX.
    pub number: u64,
    /// RDI; with `soon`, added to the time-stamp counter.
    pub first: u64,
    /// RSI.
    pub second: u64,
    /// Whether RDI is a time.
    pub soon: bool,
}

/// What is done with an address under random page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// It is read.
    Read,
    /// It is written.
    Write,
    /// It is called.
    Execute,
    /// Its translation is forgotten, then it is read.
    Invalidate,
    /// CR3 is loaded with it.
    Load,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Go on at this offset of the corpus with these registers and flags.
    Execute {
        /// Below [`CORPUS_BYTES`].
        offset: u32,
        /// RAX, RCX, RDX, RBX, RBP, RSI, RDI, R8 to R15, RSP.
        registers: [u64; REGISTERS],
        /// RFLAGS, without TF.
        flags: u64,
    },
    /// A hypercall.
    Call(Call),
    /// Stores into the register page, and something that makes the core look.
    Registers([Store; STORES], Trigger),
    /// Stores into rings, and a kick.
    Rings([Store; STORES], Call),
    /// Stores into page tables, and a touch of what they map.
    Tables([Store; STORES], u64, Touch),
}

/// What makes the core look at the register page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A hypercall.
    Call(Call),
    /// An undefined instruction.
    Fault,
}

impl Act {
    /// Its class.
    pub fn class(&self) -> Class {
        match self {
            Act::Execute { .. } => Class::Instructions,
            Act::Call(_) => Class::Hypercalls,
            Act::Registers(..) => Class::RegisterPage,
            Act::Rings(..) => Class::Rings,
            Act::Tables(..) => Class::PageTables,
        }
    }

    /// The next one.
    pub fn draw(noise: &mut Noise, places: &Places) -> Act {
        match noise.below(16) {
            0..5 => execute(noise, places),
            5..8 => Act::Call(call(noise, places)),
            8..10 => registers(noise, places),
            10..13 => rings(noise, places),
            _ => tables(noise, places),
        }
    }
}

/// A number that means something somewhere, or nothing.
fn word(noise: &mut Noise, places: &Places) -> u64 {
    let low = noise.word() & 0xfff;
    match noise.below(20) {
        0..7 => places.scratch + noise.word() % places.scratch_bytes,
        7 => places.scratch,
        // Not its entries: see `is_vital`.
        8 => REGISTER_PAGE + (low | 0x100),
        9..11 => NIC_BASE + noise.word() % (10 << 12),
        11 => places.corpus + noise.word() % CORPUS_BYTES as u64,
        12..14 => table_address(noise),
        14 => low,
        15 => places.memory_bytes.wrapping_sub(8).wrapping_add(low % 16),
        16 => 1 << noise.below(64),
        17 => u64::MAX - low,
        18 => noise.pick(&[0, 1, 2, 0x8000_0000, 0xc000_0080, 0x3f8, 0x7fff_ffff_ffff, 0x8000_0000_0000]),
        _ => noise.word(),
    }
}

fn execute(noise: &mut Noise, places: &Places) -> Act {
    let slot = noise.below(u32::try_from(CORPUS_BYTES / 16).unwrap_or(1));
    let into = if noise.one_in(4) { noise.below(16) } else { 0 };
    let mut registers = [0; REGISTERS];
    registers.iter_mut().for_each(|register| *register = word(noise, places));
    // Counts of repetitions that come to an end, mostly.
    if !noise.one_in(8) {
        registers[1] &= 0xff;
    }
    if !noise.one_in(4) {
        registers[REGISTERS - 1] = places.scratch + ((noise.word() % places.scratch_bytes) & !7);
    }
    // CF, PF, AF, ZF, SF, DF, OF, AC, ID.
    Act::Execute { offset: slot * 16 + into, registers, flags: (noise.word() & 0x24_0cd5) | 2 }
}

/// Ticks of the time-stamp counter that a step may sleep.
const SLEEP: u64 = 20_000;

fn call(noise: &mut Noise, places: &Places) -> Call {
    let number = match noise.below(16) {
        // The end is not what steps are about.
        0..9 => noise.pick(&[
            hypercall::NOP,
            hypercall::IDLE,
            hypercall::KICK,
            hypercall::ALARM,
            hypercall::UPCALL_RETURN,
            hypercall::FAULT_RETURN,
            hypercall::GIVE_BACK,
            hypercall::TAKE,
        ]),
        9..14 => noise.pick(&[hypercall::GIVE_BACK, hypercall::TAKE]),
        14 => u64::from(noise.below(12)) + 3,
        _ => noise.word(),
    };
    let number = if noise.one_in(4096) { hypercall::EXIT } else { number };
    let mut call = Call { number, first: word(noise, places), second: word(noise, places), soon: false };
    match number {
        hypercall::IDLE | hypercall::ALARM if !noise.one_in(16) => {
            call.first = noise.word() % SLEEP;
            call.soon = true;
        }
        hypercall::GIVE_BACK | hypercall::TAKE if !noise.one_in(4) => {
            call.first = (places.scratch >> 12) + noise.word() % (places.scratch_bytes >> 12);
            call.second = u64::from(noise.below(3));
        }
        // It would give back what the guest itself stands on.
        hypercall::GIVE_BACK if call.first < places.memory_bytes >> 12 && !noise.one_in(1024) => {
            call.first += places.memory_bytes >> 12;
        }
        hypercall::KICK => call.first = if noise.one_in(8) { call.first } else { u64::from(noise.below(5)) },
        _ => {}
    }
    call
}

/// What the guest cannot go on without: its entries and their stacks.
fn is_vital(offset: u64) -> bool {
    (offset_of!(RegisterPage, upcall_entry) as u64..offset_of!(RegisterPage, enabled) as u64).contains(&offset)
}

fn store(address: u64, value: u64, noise: &mut Noise) -> Store {
    let bytes = noise.pick(&[1, 2, 4, 8, 8]);
    Store { address: address & !(u64::from(bytes) - 1), value, bytes }
}

fn registers(noise: &mut Noise, places: &Places) -> Act {
    let mut stores = [Store::default(); STORES];
    for place in &mut stores[..] {
        let mut offset = match noise.below(4) {
            // The fields of both, of the core, and what lies behind them.
            0 => u64::from(noise.below(320)),
            1 => 192 + u64::from(noise.below(128)),
            2 => 2048 + u64::from(noise.below(256)),
            _ => u64::from(noise.below(4096)),
        };
        // A fault without an entry ends the VM: it may, but seldom.
        if is_vital(offset) && !noise.one_in(256) {
            offset += 32;
        }
        *place = store(REGISTER_PAGE + offset, word(noise, places), noise);
    }
    let number = noise.pick(&[hypercall::NOP, hypercall::KICK, hypercall::ALARM, hypercall::IDLE]);
    let trigger = match noise.below(4) {
        0 => Trigger::Fault,
        _ => Trigger::Call(Call {
            number,
            first: if number == hypercall::KICK { 1 } else { noise.word() % SLEEP },
            second: 0,
            soon: number != hypercall::KICK,
        }),
    };
    Act::Registers(stores, trigger)
}

fn rings(noise: &mut Noise, places: &Places) -> Act {
    let console = noise.one_in(3);
    let (header, slots, bytes) = if console {
        (REGISTER_PAGE + abi::guest::CONSOLE_RING, REGISTER_PAGE + abi::guest::CONSOLE_RING + 256, 1024)
    } else {
        let pages = (u64::from(places.rx_slots) * 64).next_multiple_of(4096);
        if noise.one_in(4) {
            (NIC_BASE + RX_RING, NIC_BASE + 4096, u64::from(places.rx_slots) * 64)
        } else {
            (NIC_BASE + TX_RING, NIC_BASE + 4096 + pages, u64::from(places.tx_slots) * 64)
        }
    };
    let mut stores = [Store::default(); STORES];
    for place in &mut stores[..] {
        *place = match noise.below(8) {
            // Indices and flags; small ones, and of an epoch that there may be.
            0..3 => {
                let field = noise.pick(&[0_u64, 0, 8, 16, 64, 72, 128]);
                let value =
                    if noise.one_in(3) { noise.word() } else { (noise.word() % 512) | ((noise.word() % 3) << 32) };
                Store { address: header + field, value, bytes: noise.pick(&[4, 8]) }
            }
            3 => store(header + noise.word() % 256, word(noise, places), noise),
            // The header of a record, which may be right.
            4..6 => {
                let length = noise.word() % 1600;
                let slots_of = if noise.one_in(4) { noise.word() & 0xffff } else { (8 + length).div_ceil(64) };
                let kind = noise.pick(&[1_u64, 1, 2, 0, 0xffff]);
                let value = length | (kind << 16) | (slots_of << 32);
                Store { address: slots + ((noise.word() % bytes) & !63), value, bytes: 8 }
            }
            // From and to other VMs: MAC addresses, types.
            6 => store(slots + ((noise.word() % bytes) & !63) + 8 + noise.word() % 48, noise.word(), noise),
            _ => store(slots + noise.word() % bytes, word(noise, places), noise),
        };
    }
    let device = if noise.one_in(16) { u64::from(noise.below(5)) } else { u64::from(console) };
    Act::Rings(stores, Call { number: hypercall::KICK, first: device, second: 0, soon: false })
}

/// Indices of entries that are written and walked, so that walks meet what was written.
const INDICES: [u64; 4] = [0, 1, 2, 511];

/// An address whose walk goes through the random tables.
fn table_address(noise: &mut Noise) -> u64 {
    let root = 1 + u64::from(noise.below(u32::from(ROOTS)));
    let [a, b, c] = [noise.pick(&INDICES), noise.pick(&INDICES), noise.pick(&INDICES)];
    (root << 39) | (a << 30) | (b << 21) | (c << 12) | (noise.word() & 0xfff)
}

fn tables(noise: &mut Noise, places: &Places) -> Act {
    let mut stores = [Store::default(); STORES];
    for place in &mut stores[..] {
        let table = |noise: &mut Noise| places.tables + (u64::from(noise.below(TABLES)) << 12);
        let target = match noise.below(8) {
            0..4 => table(noise),
            4 => places.scratch + ((noise.word() % places.scratch_bytes) & !0xfff),
            5 => noise.pick(&[
                0,
                REGISTER_PAGE,
                NIC_BASE,
                NIC_BASE + 4096,
                places.corpus,
                places.root,
                places.memory_bytes,
            ]),
            6 => 1 << (12 + noise.below(40)),
            _ => noise.word() & 0x000f_ffff_ffff_f000,
        };
        // Present and writable, mostly.
        let flags = match noise.below(4) {
            0 => noise.word() & 0xfff,
            1 => 0x83,
            _ => 3,
        };
        let high = if noise.one_in(8) { noise.word() & 0xfff0_0000_0000_0000 } else { 0 };
        let address = table(noise) + 8 * noise.pick(&INDICES);
        *place = Store { address, value: target | flags | high, bytes: 8 };
    }
    let touch = match noise.below(2048) {
        0 => Touch::Load,
        1..500 => Touch::Write,
        500..700 => Touch::Execute,
        700..900 => Touch::Invalidate,
        _ => Touch::Read,
    };
    Act::Tables(stores, table_address(noise), touch)
}

/// What ends the idle of a step that sleeps: its alarm.
pub const ENABLED: u64 = pending::ALARM;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Counts;

    const PLACES: Places = Places {
        corpus: 0x4_0000,
        scratch: 0x10_0000,
        scratch_bytes: 0x8000,
        tables: 0x11_0000,
        root: 0x12_0000,
        memory_bytes: 0x20_0000,
        rx_slots: 256,
        tx_slots: 256,
    };

    #[test]
    fn every_class_comes_and_the_seed_says_what() {
        let (mut one, mut same, mut other) = (Noise::new(3), Noise::new(3), Noise::new(4));
        let mut counts = Counts::default();
        let mut differs = false;
        for _ in 0..10_000 {
            let act = Act::draw(&mut one, &PLACES);
            assert_eq!(act, Act::draw(&mut same, &PLACES));
            differs |= act != Act::draw(&mut other, &PLACES);
            let index = CLASSES.iter().position(|(class, _)| *class == act.class()).expect("one of them");
            counts.0[index] += 1;
        }
        std::println!("{counts}");
        assert!(differs && counts.0.iter().all(|&count| count > 500), "{counts}");
    }

    #[test]
    fn hypercalls_of_every_number_come() {
        let mut noise = Noise::new(9);
        let mut numbers = [0_u32; 10];
        for _ in 0..100_000 {
            if let Act::Call(call) = Act::draw(&mut noise, &PLACES) {
                numbers[usize::try_from(call.number.min(9)).expect("small")] += 1;
            }
        }
        assert!(numbers.iter().all(|&count| count > 0), "{numbers:?}");
    }

    #[test]
    fn stores_are_aligned_and_keep_to_their_pages() {
        let mut noise = Noise::new(11);
        for _ in 0..100_000 {
            let (stores, pages) = match Act::draw(&mut noise, &PLACES) {
                Act::Registers(stores, _) => (stores, REGISTER_PAGE..REGISTER_PAGE + 4096 + 32),
                Act::Rings(stores, _) => (stores, REGISTER_PAGE..NIC_BASE + 10 * 4096),
                Act::Tables(stores, ..) => (stores, PLACES.tables..PLACES.tables + 4096 * u64::from(TABLES)),
                _ => continue,
            };
            for store in stores {
                assert_eq!(store.address % u64::from(store.bytes), 0, "{store:x?}");
                assert!(pages.contains(&store.address), "{store:x?}");
            }
        }
    }
}
