//! Clocks: the TSC, what it is calibrated against, and the real-time clock.
//!
//! The rate that CPUID 15h names is not used: emulators report one that has nothing to do with their TSC.

use super::acpi::AcpiInfo;
use base::tsc;
use core::ptr::NonNull;
use x86::io::{inb, inl, outb};

/// A rate that was measured, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TscRate {
    /// Ticks per second.
    pub hz: u64,
    /// What it was measured against.
    pub against: &'static str,
}

/// A counter of a known rate.
enum Reference {
    Hpet { counter: NonNull<u32>, hz: u64 },
    PmTimer { port: u16 },
    Pit,
}

const PM_TIMER_HZ: u64 = 3_579_545;
const PIT_HZ: u64 = 1_193_182;
/// Measured time: 1/40 s, which the 16 bits of the PIT can count.
const PART_OF_SECOND: u64 = 40;
/// Reads of a counter that does not move before it counts as dead.
const PATIENCE: u32 = 200_000;

const PIT_DATA: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
const PIT_GATE: u16 = 0x61;

impl Reference {
    fn hpet(registers: NonNull<u8>) -> Option<Reference> {
        let at = |offset: usize| registers.as_ptr().wrapping_add(offset).cast::<u32>();
        // SAFETY: `registers` are the 1 KiB of the HPET, mapped uncached (IA-PC HPET 1.0a, section 2.3): period at 4,
        // configuration at 0x10, counter at 0xf0. Bit 0 of the configuration lets the counter run.
        let (period_fs, counter) = unsafe {
            at(0x10).write_volatile(at(0x10).read_volatile() | 1);
            (at(4).read_volatile(), NonNull::new(at(0xf0))?)
        };
        // The specification allows 100 ns at most; less than 1 ps is no period.
        (1_000..=100_000_000).contains(&period_fs).then(|| {
            let hz = 1_000_000_000_000_000 / u64::from(period_fs);
            Reference::Hpet { counter, hz }
        })
    }

    fn start(&self) {
        if let Reference::Pit = self {
            // Channel 2: gate on, speaker off; mode 0 with the largest count.
            for (port, value) in [(PIT_GATE, 1), (PIT_COMMAND, 0xb0), (PIT_DATA, 0xff), (PIT_DATA, 0xff)] {
                // SAFETY: the PIT's channel 2 and its gate, which nothing else uses.
                unsafe { outb(port, value) };
            }
        }
    }

    /// The counter, counting upwards.
    fn read(&self) -> u32 {
        match *self {
            // SAFETY: as in `hpet`.
            Reference::Hpet { counter, .. } => unsafe { counter.as_ptr().read_volatile() },
            // SAFETY: the ACPI timer's port; reading changes nothing.
            Reference::PmTimer { port } => unsafe { inl(port) },
            // SAFETY: the PIT's ports: latch channel 2, read low and high byte.
            Reference::Pit => unsafe {
                outb(PIT_COMMAND, 0x80);
                let low = inb(PIT_DATA);
                u32::from(!u16::from_le_bytes([low, inb(PIT_DATA)]))
            },
        }
    }

    /// Bits that count, ticks per second, name.
    fn shape(&self) -> (u32, u64, &'static str) {
        match *self {
            Reference::Hpet { hz, .. } => (u32::MAX, hz, "HPET"),
            // Some have 24 bits, and that is enough.
            Reference::PmTimer { .. } => (0x00ff_ffff, PM_TIMER_HZ, "ACPI timer"),
            Reference::Pit => (0xffff, PIT_HZ, "PIT"),
        }
    }

    /// Waits until the counter is not `old`; its value and the TSC then. `None` when it stands still.
    fn next(&self, old: u32) -> Option<(u32, u64)> {
        (0..PATIENCE).find_map(|_| {
            let now = self.read();
            (now != old).then(|| (now, tsc()))
        })
    }

    fn measure(&self) -> Option<TscRate> {
        let (mask, hz, against) = self.shape();
        self.start();
        let (start, start_tsc) = self.next(self.read())?;
        let wanted = hz / PART_OF_SECOND;
        let mut now = start;
        loop {
            let (count, end_tsc) = self.next(now)?;
            now = count;
            let elapsed = u64::from(count.wrapping_sub(start) & mask);
            if elapsed >= wanted {
                let ticks = u128::from(end_tsc.wrapping_sub(start_tsc)) * u128::from(hz) / u128::from(elapsed);
                let hz = u64::try_from(ticks).ok().filter(|&hz| hz >= 1_000_000)?;
                return Some(TscRate { hz, against });
            }
        }
    }
}

/// Measures the TSC against the first of HPET, ACPI timer and PIT that counts. `map_hpet` maps the HPET's registers.
pub fn calibrate(acpi: &AcpiInfo, map_hpet: impl FnOnce(u64) -> Option<NonNull<u8>>) -> Option<TscRate> {
    let hpet = acpi.hpet.and_then(map_hpet).and_then(Reference::hpet);
    let pm_timer = acpi.pm_timer.map(|port| Reference::PmTimer { port });
    [hpet, pm_timer, Some(Reference::Pit)].into_iter().flatten().find_map(|reference| reference.measure())
}

fn cmos(register: u8) -> u8 {
    // SAFETY: the real-time clock's ports. Bit 7 of the index is the NMI mask, which stays off.
    unsafe {
        outb(0x70, register & 0x7f);
        inb(0x71)
    }
}

/// What the registers of the real-time clock hold: second, minute, hour, day, month, year, century, status B.
type RtcRegisters = [u8; 8];

/// Unix time in nanoseconds from the real-time clock, taken as UTC; 0 when the clock is missing or stands for nonsense.
/// `century` is the index of the century's register, 0 for none.
pub fn unix_ns(century: u8) -> u64 {
    let read = || -> RtcRegisters {
        let century = if century == 0 { 0 } else { cmos(century) };
        [cmos(0), cmos(2), cmos(4), cmos(7), cmos(8), cmos(9), century, cmos(0x0b)]
    };
    // An update may be under way (bit 7 of status A), or begin while the registers are read.
    for _ in 0..PATIENCE {
        if cmos(0x0a) & 0x80 != 0 {
            continue;
        }
        let first = read();
        if cmos(0x0a) & 0x80 == 0 && first == read() {
            return unix_seconds(first).unwrap_or(0) * 1_000_000_000;
        }
    }
    0
}

fn unix_seconds(registers: RtcRegisters) -> Option<u64> {
    let [second, minute, hour, day, month, year, century, status] = registers;
    let (binary, hours24) = (status & 4 != 0, status & 2 != 0);
    let value = |raw: u8| if binary { u64::from(raw) } else { u64::from(raw >> 4) * 10 + u64::from(raw & 15) };
    let (afternoon, hour) = (hour & 0x80 != 0 && !hours24, value(hour & 0x7f));
    let hour = if hours24 { hour } else { hour % 12 + if afternoon { 12 } else { 0 } };
    let century = value(century);
    let year = value(year) + if (19..=29).contains(&century) { century * 100 } else { 2000 };
    let (second, minute, day, month) = (value(second), value(minute), value(day), value(month));
    let sane =
        second < 61 && minute < 60 && hour < 24 && (1..=31).contains(&day) && (1..=12).contains(&month) && year >= 1970;
    sane.then(|| ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days from 1970-01-01 in the Gregorian calendar; the year begins in March here, so that the leap day is its last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // 1970-01-01 counted the same way from 0000-03-01.
    days - 719_468
}

#[cfg(test)]
mod tests {
    use super::{days_since_1970, unix_seconds};

    #[test]
    fn days() {
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        assert_eq!(days_since_1970(1972, 3, 1), 790);
        assert_eq!(days_since_1970(2000, 2, 29), 11_016);
        assert_eq!(days_since_1970(2026, 11, 20), 20_777);
    }

    #[test]
    fn real_time_clock() {
        // 2026-11-20 08:49:57, as BCD and as binary, in 24 hours and in 12.
        let seconds = 20_777 * 86_400 + 8 * 3_600 + 49 * 60 + 57;
        assert_eq!(unix_seconds([0x57, 0x49, 0x08, 0x20, 0x11, 0x26, 0x20, 2]), Some(seconds));
        assert_eq!(unix_seconds([57, 49, 8, 20, 11, 26, 0, 6]), Some(seconds));
        assert_eq!(unix_seconds([0x57, 0x49, 0x88, 0x20, 0x11, 0x26, 0x20, 0]), Some(seconds + 12 * 3_600));
        assert_eq!(unix_seconds([0x57, 0x49, 0x12, 0x20, 0x11, 0x26, 0x20, 0]), Some(seconds - 8 * 3_600));
        assert_eq!(unix_seconds([0xff; 8]), None);
        assert_eq!(unix_seconds([0; 8]), None);
    }
}
