//! Where a guest's VMCALLs were found. VMCALL raises #UD on this maker's CPUs, and an exit for #UD does not say what the
//! instruction was; walking the guest's page tables each time would cost more than everything else.
//!
//! A place that is remembered is only a shortcut to the bytes: they are read anew each time, and so are the entries of the
//! guest's page tables that led there. So it is never out of date, whatever the guest has done to its tables and its TLB.

use crate::instruction::VMCALL;
use crate::linear::{Entry, Path};
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

/// Places that are remembered: what a guest of some fifteen hypercalls uses between two of its blocks, and what the
/// context's page has room for. A power of two. They come in pairs: two calls that a guest makes in turn, and that would have the
/// same place by chance, must not cost two walks each time.
const PLACES: usize = 8;

/// One place.
#[derive(Clone, Copy)]
#[repr(C)]
struct Place {
    /// [`NOWHERE`] for none.
    rip: u64,
    cr3: u64,
    /// Four bytes, of which the first three count.
    bytes: *const u8,
    /// Why it is there.
    path: Path,
}

impl Place {
    #[inline(always)]
    fn is(&self, rip: u64, cr3: u64) -> bool {
        self.rip == rip && self.cr3 == cr3
    }
}

/// Not a linear address, so no instruction is there.
const NOWHERE: u64 = 1 << 63;
const NONE: Place =
    Place { rip: NOWHERE, cr3: 0, bytes: ptr::null(), path: [Entry { at: NonNull::dangling(), said: 0 }; 4] };

/// The places of one guest.
pub(crate) struct Code([Place; PLACES]);

/// Where a place is kept; the other one of the pair is the next best. Compilers put many a VMCALL at the same distance from a multiple of 16, so that the lowest bits
/// say little: this is Fibonacci hashing (Knuth, The Art of Computer Programming, vol. 3, 6.4).
fn index(rip: u64) -> usize {
    // A few bits are left.
    #[allow(clippy::cast_possible_truncation)]
    {
        (rip.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - PLACES.ilog2())) as usize
    }
}

impl Code {
    /// Forget all places.
    pub(crate) fn clear(&mut self) {
        self.0 = [NONE; PLACES];
    }

    /// Remember that the instruction at `rip` is at `bytes`, because the entries of `path` say so. What was remembered in its place has
    /// the other one of the pair from then on.
    ///
    /// # Safety
    /// Four bytes can be read there, and the entries, until `clear`.
    pub(crate) unsafe fn remember(&mut self, rip: u64, cr3: u64, bytes: NonNull<u8>, path: Path) {
        let index = index(rip);
        if !self.0[index].is(rip, cr3) {
            self.0[index ^ 1] = self.0[index];
        }
        self.0[index] = Place { rip, cr3, bytes: bytes.as_ptr(), path };
    }

    /// Whether the instruction at `rip` is known to be VMCALL.
    ///
    /// # Safety
    /// `clear` has been called, and `rip` is canonical.
    #[inline(always)]
    pub(crate) unsafe fn is_vmcall(&self, rip: u64, cr3: u64) -> bool {
        let index = index(rip);
        let mut place = &self.0[index];
        if !place.is(rip, cr3) {
            place = &self.0[index ^ 1];
            if !place.is(rip, cr3) {
                return false;
            }
        }
        for entry in &place.path {
            // SAFETY: as below.
            if unsafe { entry.at.as_ref() }.load(Ordering::Relaxed) != entry.said {
                return false;
            }
        }
        // SAFETY: the place is one that was remembered, since its RIP is canonical. `remember`'s contract; the guest does not run, so nobody writes there.
        let bytes = unsafe { place.bytes.cast::<u32>().read_unaligned() };
        bytes & 0xff_ffff == u32::from_le_bytes([VMCALL[0], VMCALL[1], VMCALL[2], 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    #[test]
    fn calls_at_the_ends_of_functions_do_not_displace_each_other() {
        // Where functions of 16 and 256 bytes after each other have their calls.
        for step in [0x10, 0x100] {
            let mut indices: [usize; PLACES] =
                core::array::from_fn(|function| index(0x3_7537 + function as u64 * step));
            indices.sort_unstable();
            let different = 1 + indices.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(different >= PLACES / 2, "{step:#x}: {indices:?}");
        }
    }

    #[test]
    fn two_calls_in_turn_are_both_remembered() {
        // Where a build of Ilwaco had the one that idles and the one that asks for the disk.
        let first = 0x2_8f9b_u64;
        let mut others = (1..).map(|step| first + step).filter(|&rip| index(rip) == index(first));
        let same = [first, others.next().expect("many"), others.next().expect("many")];
        let bytes = [0x0f_u8, 0x01, 0xc1, 0x90];
        let table = AtomicU64::new(0x1003);
        let path = [Entry { at: NonNull::from(&table), said: 0x1003 }; 4];
        let mut code = Code([NONE; PLACES]);
        // SAFETY: the arrays live to the end of this function.
        let remember = |code: &mut Code, rip| unsafe { code.remember(rip, 0x1000, NonNull::from(&bytes).cast(), path) };
        // SAFETY: nothing is there but what was remembered, and the addresses are canonical.
        let known = |code: &Code| same.map(|rip| unsafe { code.is_vmcall(rip, 0x1000) });
        remember(&mut code, same[0]);
        remember(&mut code, same[1]);
        assert_eq!(known(&code), [true, true, false]);
        // Anew, since the page tables lead elsewhere meanwhile, say: that costs no other one its place.
        remember(&mut code, same[1]);
        assert_eq!(known(&code), [true, true, false]);
        remember(&mut code, same[2]);
        assert_eq!(known(&code), [false, true, true], "the one that was remembered first had to go");
        let neighbour = (first..).find(|&rip| index(rip) == index(first) ^ 1).expect("many");
        remember(&mut code, neighbour);
        assert_eq!(known(&code), [false, true, false], "the one that was in its place has the other one");
    }

    #[test]
    fn the_bytes_count_not_the_memory_of_them() {
        let mut code = Code([NONE; PLACES]);
        let bytes = [0x0f_u8, 0x01, 0xc1, 0x90];
        let others = [0x0f_u8, 0x0b, 0xc1, 0x90];
        // SAFETY: here and below: there is no place but those that are remembered, and the addresses are canonical.
        let known = |code: &Code, rip, cr3| unsafe { code.is_vmcall(rip, cr3) };
        assert!(!known(&code, 0, 0));
        let tables = [const { AtomicU64::new(0x1003) }; 4];
        let path = tables.each_ref().map(|entry| Entry { at: NonNull::from(entry), said: 0x1003 });
        // SAFETY: the arrays live to the end of this function.
        unsafe {
            code.remember(0x2_0000, 0x1000, NonNull::from(&bytes).cast(), path);
            code.remember(0x2_0001, 0x1000, NonNull::from(&others).cast(), path);
        }
        assert!(known(&code, 0x2_0000, 0x1000));
        assert!(!known(&code, 0x2_0000, 0x3000), "other page tables");
        assert!(!known(&code, 0x2_0001, 0x1000), "no VMCALL there now");
        for entry in &tables {
            entry.store(0x2003, Ordering::Relaxed);
            assert!(!known(&code, 0x2_0000, 0x1000), "the page tables lead elsewhere now");
            entry.store(0x1003, Ordering::Relaxed);
            assert!(known(&code, 0x2_0000, 0x1000));
        }
        code.clear();
        assert!(!known(&code, 0x2_0000, 0x1000));
    }
}
