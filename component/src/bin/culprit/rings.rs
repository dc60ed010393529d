//! Lies in all rings, as their producer and as their consumer, towards the core and towards a peer.
#![allow(unsafe_code)]

use crate::{Outcome, pause};
use component::Component;
use component::abi::component::layout;
use component::abi::ring::{EPOCH, HEAD, HEADER_BYTES, IndexWord, SLOT_BYTES, TAIL};
use component::ring::SharedMemory;

/// How often the others get the chance to stumble over a lie.
const CHANCES: u32 = 3;

/// The memory of ring `index`.
fn memory(component: &Component, index: usize) -> Option<SharedMemory> {
    let info = component.info().rings.get(index)?;
    let base = usize::try_from(layout::RINGS + index as u64 * layout::RING_STRIDE).ok()?;
    let bytes = HEADER_BYTES + usize::try_from(info.slots).ok()? * SLOT_BYTES;
    // SAFETY: the core maps header and slots of each ring there; this component makes no other way to them in this life.
    Some(unsafe { SharedMemory::new(core::ptr::with_exposed_provenance_mut(base), bytes) })
}

fn each(component: &Component, lie: impl Fn(&SharedMemory) -> Option<()>) -> Outcome {
    let count = usize::try_from(component.info().ring_count).unwrap_or(0);
    for _ in 0..CHANCES {
        for index in 0..count {
            let told = memory(component, index).and_then(|memory| lie(&memory));
            crate::expect("a ring is where it should be", 1, told.is_some().into())?;
        }
        component::notify(u64::MAX);
        pause();
    }
    // The last lie stays behind.
    Ok(())
}

/// All bits of all headers and slots: the epoch becomes the one before the first.
pub fn ones(component: &Component) -> Outcome {
    each(component, |ring| {
        let words = ring.len() / 8;
        (0..words).try_for_each(|word| ring.store64(word * 8, u64::MAX))
    })
}

/// Indices for the epoch that the next reset makes if it only counts.
pub fn foretell(component: &Component) -> Outcome {
    each(component, |ring| {
        let next = ring.load32(EPOCH)?.wrapping_add(1);
        ring.store64(TAIL, IndexWord { epoch: next, index: 0x7777_7777 }.pack())?;
        ring.store64(HEAD, IndexWord { epoch: next, index: 0x3333_3333 }.pack())
    })
}

/// An epoch that is past, so that counting leads back to the one that the others are in, and indices in that one.
pub fn turn_back(component: &Component) -> Outcome {
    let index = |epoch| IndexWord { epoch, index: 0x1234_5678 }.pack();
    each(component, |ring| {
        let now = ring.load32(EPOCH)?;
        ring.store64(TAIL, index(now))?;
        ring.store64(HEAD, index(now))
    })?;
    // Not before the others have had their chance, or they would follow.
    let count = usize::try_from(component.info().ring_count).unwrap_or(0);
    for ring in (0..count).filter_map(|index| memory(component, index)) {
        if let Some(now) = ring.load32(EPOCH) {
            let _ = ring.store32(EPOCH, now.wrapping_sub(1));
        }
    }
    Ok(())
}
