//! What makes a guest exit: everything but what is listed as free, with the reason.

use crate::plan::Intercepts;

/// Bits of the third intercept word (APM vol. 2, table B-1, offset 00Ch).
#[allow(missing_docs)]
pub mod third {
    pub const INTR: u32 = 1 << 0;
    pub const NMI: u32 = 1 << 1;
    pub const SMI: u32 = 1 << 2;
    pub const INIT: u32 = 1 << 3;
    pub const VINTR: u32 = 1 << 4;
    pub const CR0_SELECTIVE: u32 = 1 << 5;
    pub const RDTSC: u32 = 1 << 14;
    pub const RDPMC: u32 = 1 << 15;
    pub const PUSHF: u32 = 1 << 16;
    pub const POPF: u32 = 1 << 17;
    pub const CPUID: u32 = 1 << 18;
    pub const RSM: u32 = 1 << 19;
    pub const IRET: u32 = 1 << 20;
    pub const INT_N: u32 = 1 << 21;
    pub const INVD: u32 = 1 << 22;
    pub const PAUSE: u32 = 1 << 23;
    pub const HLT: u32 = 1 << 24;
    pub const INVLPG: u32 = 1 << 25;
    pub const INVLPGA: u32 = 1 << 26;
    pub const IOIO: u32 = 1 << 27;
    pub const MSR: u32 = 1 << 28;
    pub const TASK_SWITCH: u32 = 1 << 29;
    pub const FERR_FREEZE: u32 = 1 << 30;
    pub const SHUTDOWN: u32 = 1 << 31;
}

/// Bits of the third word that are clear, and why the guest may have that.
pub const FREE: [(u32, &str); 13] = [
    (third::SMI, "belongs to the firmware, which the core cannot watch"),
    (third::INIT, "resets the CPU as it would outside a guest"),
    (third::VINTR, "there are no virtual interrupts"),
    (third::CR0_SELECTIVE, "every write of CR0 exits already"),
    (third::RDTSC, "reads the time, to which the offset is added"),
    (third::PUSHF, "shows flags that are the guest's own"),
    (third::POPF, "changes flags that are the guest's own; IF means nothing, because V_INTR_MASKING is set"),
    (third::RSM, "raises #UD outside system management mode"),
    (third::IRET, "the guest has no segments to return to"),
    (third::INT_N, "raises #GP, because the guest has no IDT"),
    (third::PAUSE, "wastes the guest's own time"),
    (third::INVLPG, "forgets translations of the guest's own"),
    (third::FERR_FREEZE, "cannot happen: CR0.NE is set and stays so"),
];

const fn free() -> u32 {
    let mut word = 0;
    let mut i = 0;
    while i < FREE.len() {
        word |= FREE[i].0;
        i += 1;
    }
    word
}

/// Bits of the fourth intercept word (offset 010h).
#[allow(missing_docs)]
pub mod fourth {
    pub const VMRUN: u32 = 1 << 0;
    pub const VMMCALL: u32 = 1 << 1;
    pub const VMLOAD: u32 = 1 << 2;
    pub const VMSAVE: u32 = 1 << 3;
    pub const STGI: u32 = 1 << 4;
    pub const CLGI: u32 = 1 << 5;
    pub const SKINIT: u32 = 1 << 6;
    pub const RDTSCP: u32 = 1 << 7;
    pub const ICEBP: u32 = 1 << 8;
    pub const WBINVD: u32 = 1 << 9;
    pub const MONITOR: u32 = 1 << 10;
    pub const MWAIT: u32 = 1 << 11;
    pub const XSETBV: u32 = 1 << 13;
    pub const RDPRU: u32 = 1 << 14;
}

/// Bits of the fifth intercept word (offset 014h).
#[allow(missing_docs)]
pub mod fifth {
    pub const INVPCID: u32 = 1 << 2;
    pub const MCOMMIT: u32 = 1 << 3;
    /// The bus lock threshold (APM vol. 2, 15.14.5).
    pub const BUS_LOCK: u32 = 1 << 5;
}

/// `bit`, if there is such an instruction.
const fn when(has: bool, bit: u32) -> u32 {
    if has { bit } else { 0 }
}

impl Intercepts {
    /// For a CPU that has RDPRU, INVPCID, MCOMMIT and a bus lock threshold or not: their bits do not exist otherwise.
    pub const fn new(rdpru: bool, invpcid: bool, mcommit: bool, bus_lock: bool) -> Intercepts {
        Intercepts {
            // CR0, CR2, CR3 and CR4 hold what the guest may know; CR8 is the task priority, which it does not have.
            cr_reads: !(1 << 0 | 1 << 2 | 1 << 3 | 1 << 4),
            // CR2 and CR3 are the guest's own: nested paging confines what its tables say.
            cr_writes: !(1 << 2 | 1 << 3),
            dr_reads: u16::MAX,
            dr_writes: u16::MAX,
            // Vector 2 is not an exception: NMI has a bit of its own.
            exceptions: !(1 << 2),
            third: !free(),
            fourth: fourth::VMRUN
                | fourth::VMMCALL
                | fourth::VMLOAD
                | fourth::VMSAVE
                | fourth::STGI
                | fourth::CLGI
                | fourth::SKINIT
                | fourth::RDTSCP
                | fourth::ICEBP
                | fourth::WBINVD
                | fourth::MONITOR
                | fourth::MWAIT
                | fourth::XSETBV
                | when(rdpru, fourth::RDPRU),
            fifth: when(invpcid, fifth::INVPCID) | when(mcommit, fifth::MCOMMIT) | when(bus_lock, fifth::BUS_LOCK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_is_free() {
        let all = Intercepts::new(true, true, true, true);
        assert_eq!(all.third, 0xbd44_bfc3);
        for (bit, why) in FREE {
            assert_eq!(all.third & bit, 0);
            assert!(!why.is_empty());
        }
        assert_eq!(FREE.iter().map(|(bit, _)| bit.count_ones()).sum::<u32>(), 32 - all.third.count_ones());
        assert_eq!(all.fourth, 0x6fff);
        assert_eq!(all.fifth, 0x2c);
        assert_eq!(all.exceptions, 0xffff_fffb);
        assert_eq!((all.cr_reads, all.cr_writes), (0xffe2, 0xfff3));
        let least = Intercepts::new(false, false, false, false);
        assert_eq!((least.fourth, least.fifth), (0x2fff, 0), "bits that do not exist stay clear");
    }
}
