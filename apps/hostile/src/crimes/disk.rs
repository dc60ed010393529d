//! The rings of the VM's virtual disk: indices and epochs that make no sense, requests that are none, and blocks that are not its own. After each lie the disk must work again for a guest
//! that stops lying.

use super::rings::reset;
use super::{Deed, Escape};
use crate::machine::{Noise, PAGE, hypercall, offset, peek64, set64, tsc};
use crate::register;
use abi::guest::{REGISTER_PAGE, RegisterPage, device, hypercall as number};
use abi::guest_disk::{
    COMPLETION_SLOTS, COMPLETIONS, DISK_BASE, DiskOrder, DiskPage, PAGES, REQUEST_SLOTS, REQUESTS, SLOTS, status,
};
use abi::message::Message;
use abi::ring::{CONSUMER_WAITS, HEAD, HEADER_BYTES, IndexWord, PRODUCER_WAITS, SLOT_BYTES, TAIL};
use core::mem::offset_of;

/// How the crime of this name is committed.
pub fn deed(name: &str) -> Option<Deed> {
    Some(Deed::Check(match name {
        "disk-tail" => tails,
        "disk-head" => heads,
        "disk-epoch" => epochs,
        "disk-orders" => orders,
        "disk-blocks" => blocks,
        "disk-noise" => noise,
        _ => return None,
    }))
}

/// Without a disk there is nothing to lie about.
fn own_disk() -> Result<(), Escape> {
    let page = peek64(REGISTER_PAGE + offset(offset_of!(RegisterPage, disk_page)));
    Escape::unless(page == DISK_BASE, "this VM was created without a disk (disk=NAME); its page is at", page)
}

/// A word of the ring of requests, and of that of completions.
const fn asked(at: usize) -> u64 {
    // Within the page.
    DISK_BASE + (REQUESTS + at) as u64
}

const fn answered(at: usize) -> u64 {
    // Within the page.
    DISK_BASE + (COMPLETIONS + at) as u64
}

fn kick() {
    hypercall(number::KICK, device::DISK, 0);
}

/// Puts a request into its ring and kicks.
fn ask(message: &Message) {
    let tail = IndexWord::unpack(peek64(asked(TAIL)));
    let slot = asked(HEADER_BYTES) + u64::from(tail.index % REQUEST_SLOTS) * offset(SLOT_BYTES);
    set64(slot, u64::from(message.kind) | u64::from(message.id) << 32);
    for (at, &word) in (8..).step_by(8).zip(&message.words) {
        set64(slot + at, word);
    }
    set64(asked(TAIL), IndexWord { epoch: tail.epoch, index: tail.index.wrapping_add(1) }.pack());
    kick();
}

/// The status with which the request of this id ends, within so many milliseconds.
fn answer(id: u32, milliseconds: u64) -> Option<u64> {
    let hz = peek64(register!(tsc_hz));
    let until = tsc() + hz / 1000 * milliseconds;
    while tsc() < until {
        let (tail, head) = (IndexWord::unpack(peek64(answered(TAIL))), IndexWord::unpack(peek64(answered(HEAD))));
        if tail.index == head.index {
            hypercall(number::IDLE, tsc() + hz / 1000, 0);
            continue;
        }
        let slot = answered(HEADER_BYTES) + u64::from(head.index % COMPLETION_SLOTS) * offset(SLOT_BYTES);
        let (first, status) = (peek64(slot), peek64(slot + 8));
        set64(answered(HEAD), IndexWord { epoch: head.epoch, index: head.index.wrapping_add(1) }.pack());
        kick();
        // What was asked for before this ends now, too.
        if first >> 32 == u64::from(id) {
            return Some(status);
        }
    }
    None
}

/// Ends the lies: both rings begin anew, with an epoch that was never there, and a block is read and written.
fn recover(epoch: u32) -> Result<(), Escape> {
    for ring in [asked(0), answered(0)] {
        reset(ring, epoch);
    }
    for (id, order) in
        [(0x7000_0001, DiskOrder::Write { block: 0, slot: 1 }), (0x7000_0002, DiskOrder::Read { block: 0, slot: 2 })]
    {
        let mut status = None;
        // What was under way may have filled the ring of completions before this end has looked.
        for _ in 0..4 {
            ask(&Message { id, ..order.into() });
            status = answer(id, 2_000);
            if status.is_some() {
                break;
            }
        }
        let done = status == Some(status::DONE.into());
        Escape::unless(done, "the disk works no more; an honest request ended with", status.unwrap_or(u64::MAX))?;
    }
    Ok(())
}

fn tails() -> Result<(), Escape> {
    own_disk()?;
    for (epoch, ahead) in
        (0x100..).zip([REQUEST_SLOTS + 1, 1 << 16, 1 << 31, (1 << 31) - 1, u32::MAX, u32::MAX - REQUEST_SLOTS])
    {
        let tail = IndexWord::unpack(peek64(asked(TAIL)));
        set64(asked(TAIL), IndexWord { epoch: tail.epoch, index: tail.index.wrapping_add(ahead) }.pack());
        kick();
        recover(epoch)?;
    }
    Ok(())
}

fn heads() -> Result<(), Escape> {
    own_disk()?;
    for (epoch, ahead) in
        (0x200..).zip([1, COMPLETION_SLOTS + 1, 1 << 31, (1 << 31) - 1, u32::MAX, u32::MAX - COMPLETION_SLOTS])
    {
        let head = IndexWord::unpack(peek64(answered(HEAD)));
        set64(answered(HEAD), IndexWord { epoch: head.epoch, index: head.index.wrapping_add(ahead) }.pack());
        for id in 0..REQUEST_SLOTS {
            ask(&Message { id, ..DiskOrder::Read { block: 0, slot: 0 }.into() });
        }
        recover(epoch)?;
    }
    Ok(())
}

fn epochs() -> Result<(), Escape> {
    own_disk()?;
    let mut noise = Noise::new(11);
    for _ in 0..100 {
        for at in [abi::ring::EPOCH, TAIL, HEAD, PRODUCER_WAITS, CONSUMER_WAITS] {
            set64(asked(at) & !7, noise.word());
            set64(answered(at) & !7, noise.word());
        }
        kick();
    }
    recover(0x300)
}

/// Asks, and is to be told that.
fn told(id: u32, message: &Message, wanted: u16) -> Result<(), Escape> {
    ask(&Message { id, ..*message });
    let status = answer(id, 10_000);
    let is_it = status == Some(wanted.into());
    Escape::unless(is_it, "what is no request of this VM's ended with", status.unwrap_or(u64::MAX))
}

fn orders() -> Result<(), Escape> {
    own_disk()?;
    let mut id = 0;
    for kind in [0, 0x600, 0x605, 0x611, 0x511, u32::MAX] {
        id += 1;
        told(id, &Message::new(kind, [0, 0]), status::BAD_REQUEST)?;
    }
    for slot in [SLOTS, SLOTS + 1, 1 << 15, u16::MAX] {
        for order in [DiskOrder::Read { block: 0, slot }, DiskOrder::Write { block: 0, slot }] {
            id += 1;
            told(id, &order.into(), status::BAD_REQUEST)?;
        }
    }
    recover(0x400)
}

/// Behind its own blocks lie those of others.
fn blocks() -> Result<(), Escape> {
    own_disk()?;
    let own = peek64(DISK_BASE + offset(offset_of!(DiskPage, blocks)));
    let mut id = 0;
    for block in [own, own + 1, own + 64, 1 << 32, 1 << 52, u64::MAX - 1, u64::MAX] {
        let orders =
            [DiskOrder::Read { block, slot: 0 }, DiskOrder::Write { block, slot: 0 }, DiskOrder::Discard { block }];
        for order in orders {
            id += 1;
            told(id, &order.into(), status::OUT_OF_RANGE)?;
        }
    }
    // The page may say that it has more: what counts is what the machine knows.
    set64(DISK_BASE + offset(offset_of!(DiskPage, blocks)), u64::MAX);
    told(id + 1, &DiskOrder::Write { block: own, slot: 0 }.into(), status::OUT_OF_RANGE)?;
    set64(DISK_BASE + offset(offset_of!(DiskPage, blocks)), own);
    recover(0x500)
}

fn noise() -> Result<(), Escape> {
    own_disk()?;
    let mut noise = Noise::new(12);
    let own = peek64(DISK_BASE + offset(offset_of!(DiskPage, blocks)));
    for round in 0..50 {
        for at in (0..PAGES * PAGE).step_by(8) {
            set64(DISK_BASE + at, noise.word());
        }
        // Every other time so that what lies in the ring is looked at.
        if round % 2 == 0 {
            reset(asked(0), 0x600 + round);
            reset(answered(0), 0x600 + round);
            set64(asked(TAIL), IndexWord { epoch: 0x600 + round, index: REQUEST_SLOTS }.pack());
        }
        kick();
    }
    set64(DISK_BASE + offset(offset_of!(DiskPage, blocks)), own);
    recover(0x700)
}
