//! Rings: indices, epochs and records that make no sense. After each lie the ring must work again for a guest that stops lying.

use super::nic::{SLOT, TX_TAIL, header, kick, put, slots, word};
use super::{Deed, Escape, frames};
use crate::machine::{Noise, PAGE, hypercall, offset, peek32, peek64, poke64, scratch, set32, set64, tsc, yield_turn};
use crate::register;
use abi::control::ControlRequest;
use abi::guest::{
    CONSOLE_RING, CONSOLE_SLOTS, ERROR_ARGUMENT, NIC_BASE, REGISTER_PAGE, RegisterPage, device, hypercall as number,
};
use abi::guest_control::{CONTROL_PAGE, REQUESTS};
use abi::message::Message;
use abi::nic::{RX_RING, TX_RING, tx_slots_offset};
use abi::ring::{
    CONSUMER_WAITS, HEAD, HEADER_BYTES, IndexWord, PACKET_FRAME, PRODUCER_WAITS, SLOT_BYTES, TAIL, WRAP, WRAP_VALID,
};
use abi::vm::VmId;
use core::mem::offset_of;

/// How the crime of this name is committed.
pub fn deed(name: &str) -> Option<Deed> {
    Some(Deed::Check(match name {
        "tx-tail-ahead" => tail_ahead,
        "tx-tail-behind" => tail_behind,
        "tx-epoch" => epochs,
        "tx-records" => records,
        "tx-noise" => transmit_noise,
        "tx-wrap" => wraps,
        "tx-pages" => pages,
        "rx-wrap" => receive_wraps,
        "rx-head-ahead" => head_ahead,
        "rx-head-behind" => head_behind,
        "rx-producer-words" => producer_words,
        "nic-page-noise" => page_noise,
        "console-tail-ahead" => console_ahead,
        "console-noise" => console_noise,
        "console-endless-line" => console_endless,
        "control-ring" => control_ring,
        _ => return None,
    }))
}

const TX_HEAD: u64 = word(TX_RING, HEAD);
const TX_WRAP: u64 = word(TX_RING, WRAP);
const RX_TAIL: u64 = word(RX_RING, TAIL);
const RX_HEAD: u64 = word(RX_RING, HEAD);

/// Ends the lies: the transmit ring is empty where the demultiplexer says, and a good frame goes through.
fn recover() -> Result<(), Escape> {
    kick();
    for _ in 0..10 {
        set64(TX_TAIL, peek64(TX_HEAD));
        if frames::own_frame().is_ok() {
            return Ok(());
        }
    }
    Escape::because("the transmit ring works no more; its head is", peek64(TX_HEAD))
}

/// Begins a ring anew, as the core does: with an epoch that neither end has seen, both drop to empty. The way on for a guest
/// that has overwritten what the other end wrote.
pub fn reset(ring: u64, epoch: u32) {
    set32(ring + offset(PRODUCER_WAITS), 0);
    set32(ring + offset(CONSUMER_WAITS), 0);
    for at in [TAIL, HEAD] {
        set64(ring + offset(at), IndexWord { epoch, index: 0 }.pack());
    }
    set64(ring + offset(WRAP), 0);
    set32(ring + offset(abi::ring::EPOCH), epoch);
}

/// The transmit tail `ahead` slots before where it is.
fn lie_tail(ahead: u32) {
    let tail = IndexWord::unpack(peek64(TX_TAIL));
    set64(TX_TAIL, IndexWord { epoch: tail.epoch, index: tail.index.wrapping_add(ahead) }.pack());
    kick();
}

fn tail_ahead() -> Result<(), Escape> {
    for ahead in [1 << 31, (1 << 31) - 1, slots().1 + 1, 1 << 16, u32::MAX / 3] {
        lie_tail(ahead);
        recover()?;
    }
    Ok(())
}

fn tail_behind() -> Result<(), Escape> {
    for behind in [1, 2, slots().1, slots().1 + 1, 1 << 20] {
        lie_tail(0_u32.wrapping_sub(behind));
        recover()?;
    }
    Ok(())
}

fn epochs() -> Result<(), Escape> {
    let mut noise = Noise::new(3);
    let shared = word(TX_RING, abi::ring::EPOCH);
    let kept = peek32(shared);
    for _ in 0..100 {
        set64(TX_TAIL, noise.word());
        // Any number will do.
        #[allow(clippy::cast_possible_truncation)]
        set32(shared, noise.word() as u32);
        kick();
    }
    reset(NIC_BASE + TX_RING, kept.wrapping_add(1));
    recover()
}

fn records() -> Result<(), Escape> {
    let body = [0xff; 64];
    for (len, kind, slots_taken) in [
        (u16::MAX, PACKET_FRAME, 1),
        (60, PACKET_FRAME, 0),
        (60, PACKET_FRAME, u16::MAX),
        (60, PACKET_FRAME, 257),
        (0, PACKET_FRAME, 1),
        (0, abi::ring::PACKET_PAD, 0),
        (0, abi::ring::PACKET_PAD, 1),
        (0, abi::ring::PACKET_PAD, u16::MAX),
        (60, abi::ring::PACKET_PAD, 2),
        (60, 0, 2),
        (60, 7, 2),
        // Several segments in one, of none in each frame.
        (60, abi::ring::PACKET_SEGMENTS, 2),
        (u16::MAX, abi::ring::PACKET_SEGMENTS, 1),
        (60, u16::MAX, u16::MAX),
        (1514, PACKET_FRAME, 1),
    ] {
        put(&body, len, kind, slots_taken);
        kick();
        recover()?;
    }
    Ok(())
}

/// The transmit ring's index from which on the next round begins, and its epoch.
fn next_round() -> (u32, u32) {
    let tail = IndexWord::unpack(peek64(TX_TAIL));
    ((tail.index | (slots().1 - 1)).wrapping_add(1), tail.epoch)
}

/// Says that the ring goes on at `to`, in `epoch`, and that it is filled up to `tail`.
fn wrap(to: u32, epoch: u32, tail: u32) {
    set64(TX_WRAP, IndexWord { epoch, index: to }.pack());
    let epoch = IndexWord::unpack(peek64(TX_TAIL)).epoch;
    set64(TX_TAIL, IndexWord { epoch, index: tail }.pack());
    kick();
}

fn wraps() -> Result<(), Escape> {
    for _ in 0..3 {
        // An honest one: nothing is in the ring, and one frame is at slot 0.
        recover()?;
        let (to, epoch) = next_round();
        let base = NIC_BASE + tx_slots_offset(slots().0);
        header(base, 60, PACKET_FRAME, 2);
        wrap(to | WRAP_VALID, epoch, to.wrapping_add(2));
        let head = IndexWord::unpack(peek64(TX_HEAD)).index;
        Escape::unless(head == to.wrapping_add(2), "an honest wrap was not followed; the head is", head.into())?;
        set64(TX_WRAP, 0);
        recover()?;
        let n = slots().1;
        for (to, epoch, tail) in [
            (to, epoch, to.wrapping_add(2)),
            (to.wrapping_add(n) | WRAP_VALID, epoch, to.wrapping_add(n + 2)),
            (to.wrapping_add(4) | WRAP_VALID, epoch, to.wrapping_add(6)),
            (to | WRAP_VALID, epoch.wrapping_add(1), to.wrapping_add(2)),
            (to | WRAP_VALID, epoch, to.wrapping_add(n + 1)),
            (to | WRAP_VALID, epoch, to.wrapping_sub(1)),
            (to.wrapping_sub(n) | WRAP_VALID, epoch, to),
            (u32::MAX, epoch, u32::MAX),
        ] {
            wrap(to, epoch, tail);
            set64(TX_WRAP, 0);
            recover()?;
        }
    }
    let mut noise = Noise::new(8);
    for _ in 0..100 {
        set64(TX_WRAP, noise.word() | u64::from(WRAP_VALID));
        lie_tail(u32::try_from(noise.word() & 0x1ff).unwrap_or(0));
    }
    set64(TX_WRAP, 0);
    recover()
}

/// Idles for so many milliseconds, whatever is pending: time enough for the demultiplexer to give pages back.
fn sleep(milliseconds: u64) {
    let until = tsc() + peek64(register!(tsc_hz)) / 1000 * milliseconds;
    let enabled = peek64(register!(enabled));
    set64(register!(enabled), 0);
    while tsc() < until {
        hypercall(number::IDLE, until, 0);
    }
    set64(register!(enabled), enabled);
}

fn pages() -> Result<(), Escape> {
    let (rx, tx) = slots();
    let base = NIC_BASE + tx_slots_offset(rx);
    for round in 0..2 {
        // All of the ring is said to be filled. Of most pages nobody has seen anything.
        lie_tail(tx);
        recover()?;
        // Its pages cannot be given back, whatever the demultiplexer does with them.
        for page in (base..base + u64::from(tx) * SLOT).step_by(4096) {
            set64(page, round);
            let answer = hypercall(number::GIVE_BACK, page / PAGE, 1);
            let kept = peek64(page);
            Escape::unless(
                answer >= abi::guest::ERROR_MIN && kept == round,
                "a page of a ring was given back",
                answer,
            )?;
        }
        // A record that is stored, and shown when its page has gone meanwhile: what is there then is not a frame.
        for slot in (0..tx).step_by(64) {
            header(base + u64::from(slot) * SLOT, 60, PACKET_FRAME, 2);
        }
        sleep(1_300);
        lie_tail(2);
        recover()?;
        // Stores into pages that are about to go, up to the last moment.
        for at in 0..50 {
            set64(base + at * 64 % (u64::from(tx) * SLOT), at);
            sleep(7);
        }
        recover()?;
    }
    Ok(())
}

fn transmit_noise() -> Result<(), Escape> {
    let mut noise = Noise::new(4);
    let (rx, tx) = slots();
    let base = NIC_BASE + tx_slots_offset(rx);
    for round in 0..50 {
        for at in (base..base + u64::from(tx) * SLOT).step_by(8) {
            set64(at, noise.word());
        }
        let tail = IndexWord::unpack(peek64(TX_HEAD));
        let ahead = u32::try_from(noise.word() & 0xff).unwrap_or(0);
        let honest = IndexWord { epoch: tail.epoch, index: tail.index.wrapping_add(ahead) }.pack();
        set64(TX_TAIL, if round % 2 == 0 { honest } else { noise.word() });
        kick();
    }
    recover()
}

/// Has the demultiplexer put a frame into the receive ring: the answer to an ARP question, or whatever is broadcast.
fn provoke() {
    for _ in 0..4 {
        frames::ask_gateway();
    }
}

/// The receive head `ahead` slots before where it is, while frames come; then as it should be.
fn lie_head(ahead: u32) -> Result<(), Escape> {
    let head = IndexWord::unpack(peek64(RX_HEAD));
    set64(RX_HEAD, IndexWord { epoch: head.epoch, index: head.index.wrapping_add(ahead) }.pack());
    provoke();
    set64(RX_HEAD, peek64(RX_TAIL));
    recover()
}

fn head_ahead() -> Result<(), Escape> {
    [1, slots().0, 1 << 31, (1 << 31) - 1].into_iter().try_for_each(lie_head)
}

fn head_behind() -> Result<(), Escape> {
    [1, slots().0, slots().0 + 1, 1 << 30].into_iter().try_for_each(|behind: u32| lie_head(0_u32.wrapping_sub(behind)))
}

fn receive_wraps() -> Result<(), Escape> {
    let mut noise = Noise::new(9);
    for round in 0..100 {
        let head = IndexWord::unpack(peek64(RX_HEAD));
        let near = IndexWord { epoch: head.epoch, index: (head.index | (slots().0 - 1)).wrapping_add(1) | WRAP_VALID };
        set64(word(RX_RING, WRAP), if round % 2 == 0 { near.pack() } else { noise.word() });
        provoke();
        set64(RX_HEAD, peek64(RX_TAIL));
    }
    set64(word(RX_RING, WRAP), 0);
    reset(NIC_BASE + RX_RING, 79);
    recover()
}

fn producer_words() -> Result<(), Escape> {
    let mut noise = Noise::new(5);
    for _ in 0..100 {
        for at in [TAIL, PRODUCER_WAITS, HEAD, CONSUMER_WAITS] {
            set64(word(RX_RING, at), noise.word());
        }
        provoke();
    }
    reset(NIC_BASE + RX_RING, 77);
    recover()
}

fn page_noise() -> Result<(), Escape> {
    let kept = scratch(5);
    let copy = |from: u64, to: u64| {
        for at in (0..PAGE).step_by(8) {
            // SAFETY: between the NIC page and a scratch page, where no Rust object lies.
            unsafe { poke64(to + at, peek64(from + at)) };
        }
    };
    copy(NIC_BASE, kept);
    let mut noise = Noise::new(6);
    for _ in 0..100 {
        for at in (0..PAGE).step_by(8) {
            set64(NIC_BASE + at, noise.word());
        }
        kick();
    }
    copy(kept, NIC_BASE);
    reset(NIC_BASE + TX_RING, 78);
    reset(NIC_BASE + RX_RING, 78);
    recover()
}

/// The console's ring.
const CONSOLE: u64 = REGISTER_PAGE + CONSOLE_RING;
const CONSOLE_TAIL: u64 = CONSOLE + TAIL as u64;
const CONSOLE_HEAD: u64 = CONSOLE + HEAD as u64;
const CONSOLE_TEXT: u64 = CONSOLE + HEADER_BYTES as u64;

fn kick_console() {
    hypercall(number::KICK, device::CONSOLE, 0);
}

/// The console works for those who write to it honestly: the core's head moves.
fn console_works() -> Result<(), Escape> {
    kick_console();
    set64(CONSOLE_TAIL, peek64(CONSOLE_HEAD));
    kick_console();
    let before = IndexWord::unpack(peek64(CONSOLE_HEAD));
    let slot = CONSOLE_TEXT + u64::from(before.index % CONSOLE_SLOTS) * SLOT;
    // Two bytes of text, the line ends here.
    set64(slot, u64::from_le_bytes([2, 0, b'o', b'k', 0, 0, 0, 0]));
    set64(CONSOLE_TAIL, IndexWord { epoch: before.epoch, index: before.index.wrapping_add(1) }.pack());
    kick_console();
    let after = IndexWord::unpack(peek64(CONSOLE_HEAD));
    Escape::unless(after.index == before.index.wrapping_add(1), "the console works no more; its head is", after.pack())
}

fn console_ahead() -> Result<(), Escape> {
    for ahead in [CONSOLE_SLOTS + 1, 1 << 31, u32::MAX, 1 << 16] {
        let tail = IndexWord::unpack(peek64(CONSOLE_TAIL));
        set64(CONSOLE_TAIL, IndexWord { epoch: tail.epoch, index: tail.index.wrapping_add(ahead) }.pack());
        kick_console();
        console_works()?;
    }
    Ok(())
}

fn console_noise() -> Result<(), Escape> {
    let mut noise = Noise::new(7);
    let end = CONSOLE_TEXT + u64::from(CONSOLE_SLOTS) * SLOT;
    let epoch = peek32(CONSOLE + offset(abi::ring::EPOCH));
    for round in 0..20 {
        for at in (CONSOLE..end).step_by(8) {
            set64(at, noise.word());
        }
        if round % 2 == 0 {
            // Noise that looks like text to be printed.
            set32(CONSOLE + offset(abi::ring::EPOCH), epoch);
            set64(CONSOLE_TAIL, IndexWord { epoch, index: round }.pack());
        }
        kick_console();
    }
    reset(CONSOLE, epoch.wrapping_add(1));
    console_works()
}

fn console_endless() -> Result<(), Escape> {
    for _ in 0..100 {
        let tail = IndexWord::unpack(peek64(CONSOLE_TAIL));
        for slot in 0..CONSOLE_SLOTS {
            // 255 bytes, and more to come.
            let place = CONSOLE_TEXT + u64::from(slot) * SLOT;
            set64(place, u64::from_le_bytes([255, 255, b'e', b'n', b'd', b'l', b'e', b's']));
        }
        set64(CONSOLE_TAIL, IndexWord { epoch: tail.epoch, index: tail.index.wrapping_add(CONSOLE_SLOTS) }.pack());
        kick_console();
    }
    console_works()?;
    // The core shows so many lines a second. The verdict must be among them.
    let until = tsc() + peek64(register!(tsc_hz)) / 4;
    while tsc() < until {
        hypercall(number::IDLE, until, 0);
    }
    Ok(())
}

/// Forges what a VM that controls the machine would have in its memory, and rings.
fn control_ring() -> Result<(), Escape> {
    let page = peek64(REGISTER_PAGE + offset(offset_of!(RegisterPage, control_page)));
    Escape::unless(page == 0, "it is said to have a control page; that is at", page)?;
    let ring = CONTROL_PAGE + offset(REQUESTS);
    let requests = (0..8).map(|slot| ControlRequest::Destroy { vm: VmId::new(slot, 1) });
    for (slot, request) in (0_u64..).zip(requests.chain([ControlRequest::PowerOff])) {
        let message = Message::from(request);
        let at = ring + offset(HEADER_BYTES) + slot * offset(SLOT_BYTES);
        set64(at, u64::from(message.kind) | (slot + 1) << 32);
        set64(at + 8, message.words[0]);
    }
    set64(ring + offset(TAIL), 9);
    let result = hypercall(number::KICK, device::CONTROL, 0);
    Escape::unless(result == ERROR_ARGUMENT, "the core looks at a control ring; KICK returned", result)?;
    for _ in 0..3 {
        yield_turn();
    }
    Ok(())
}
