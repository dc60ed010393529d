//! Where a guest is, and what of it a guest may choose by way of its register page.

/// The address is no linear address that the guest could ever execute at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCanonical(pub u64);

/// Bit 1 is always 1. IF means nothing to a guest, since external interrupts exit whatever it is. It is set because Bochs
/// 2.7 lets them exit only from guests that are entered with it, or that have changed it since.
const ALWAYS: u64 = 1 << 1 | 1 << 9;
/// What a guest may load into RFLAGS by way of its register page: CF, PF, AF, ZF, SF, TF, DF, OF, RF, AC, ID. Not IOPL,
/// NT, VM, VIF, VIP.
const GUEST: u64 = 0x25_0dd5;

/// The flags that a guest gets when it asks for `flags`.
#[inline]
pub const fn filter_flags(flags: u64) -> u64 {
    flags & GUEST | ALWAYS
}

/// Whether bits 63 to 47 are equal (4-level paging).
#[inline]
pub const fn is_canonical(address: u64) -> bool {
    address.wrapping_add(1 << 47) < 1 << 48
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_filtered() {
        assert_eq!(filter_flags(0), 0x202);
        assert_eq!(filter_flags(u64::MAX), 0x25_0fd7);
        for (bit, taken) in [
            (0, true),
            (2, true),
            (4, true),
            (6, true),
            (7, true),
            (8, true),
            (9, false), // IF: set in any case
            (10, true),
            (11, true),
            (12, false), // IOPL
            (13, false),
            (14, false), // NT
            (16, true),
            (17, false), // VM
            (18, true),
            (19, false), // VIF
            (20, false), // VIP
            (21, true),
            (63, false),
        ] {
            assert_eq!(filter_flags(1 << bit) != 0x202, taken, "bit {bit}");
        }
    }

    #[test]
    fn canonical_addresses() {
        for good in [0, 0x7fff_ffff_ffff, 0xffff_8000_0000_0000, u64::MAX] {
            assert!(is_canonical(good), "{good:#x}");
        }
        for bad in [0x8000_0000_0000, 0xffff_7fff_ffff_ffff, 0x1234_5678_9abc_def0, 1 << 63] {
            assert!(!is_canonical(bad), "{bad:#x}");
        }
    }
}
