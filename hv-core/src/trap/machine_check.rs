//! Machine checks: what the processor says of hardware that fails (SDM vol. 3, chapter 16; APM vol. 2, chapter 9).
//!
//! An error lies in one of the processor's banks until somebody clears it. One that was corrected, or whose data nobody has
//! used yet, may lie there in silence; one that matters at once raises exception 18. Where that interrupts the core or a
//! component, only an error that they did not run into is survived; the loop finds it in its bank. Where it interrupts a
//! guest, the backend says so and the loop looks.

use abi::log;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// IA32_MCG_CAP: banks in bits 7..0, bit 8: IA32_MCG_CTL exists.
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MCG_CTL: u32 = 0x17b;
/// IA32_MC0_CTL, STATUS, ADDR and MISC; those of the next bank follow.
const MC0_CTL: u32 = 0x400;
const HAS_CTL: u64 = 1 << 8;
/// Banks that are looked at; processors have up to 32 (SDM vol. 3, 16.3.1.1).
const BANKS: u8 = 32;

/// IA32_MCG_STATUS: what was interrupted can go on.
const RIP_VALID: u64 = 1;

/// IA32_MCi_STATUS (SDM vol. 3, 16.3.2.2; APM vol. 2, 9.3.2.1).
mod status {
    pub(super) const VALID: u64 = 1 << 63;
    pub(super) const OVERFLOW: u64 = 1 << 62;
    pub(super) const UNCORRECTED: u64 = 1 << 61;
    pub(super) const MISC_VALID: u64 = 1 << 59;
    pub(super) const ADDRESS_VALID: u64 = 1 << 58;
    pub(super) const CONTEXT_CORRUPT: u64 = 1 << 57;
    /// Intel: somebody must act before the data is used, because it just was.
    pub(super) const ACTION_REQUIRED: u64 = 1 << 55;
    /// AMD: the data is bad, and nobody has used it.
    pub(super) const DEFERRED: u64 = 1 << 44;
}

/// What the processors of a make say in their own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    Intel,
    Amd,
}

/// How bad an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The hardware has mended it.
    Corrected,
    /// The data at the address is lost, and nobody has used it.
    Unused,
    /// The data at the address is lost, and what runs has used it.
    Used,
    /// Nobody can say what is damaged.
    Fatal,
}

/// An error that a bank holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardwareError {
    pub bank: u8,
    /// IA32_MCi_STATUS.
    pub status: u64,
    /// IA32_MCi_ADDR; 0 where the status says that there is none.
    pub address: u64,
    /// IA32_MCi_MISC; 0 where the status says that there is none.
    pub misc: u64,
}

impl HardwareError {
    /// How bad it is. An uncorrected error that took another one's place is fatal, since nobody knows what that one was; and so
    /// is one without an address, since it could be anywhere.
    pub fn severity(&self, make: Make) -> Severity {
        let has = |bit| self.status & bit != 0;
        let deferred = make == Make::Amd && has(status::DEFERRED);
        if !has(status::UNCORRECTED) && !deferred {
            Severity::Corrected
        } else if has(status::CONTEXT_CORRUPT | status::OVERFLOW) || self.frame(make).is_none() {
            Severity::Fatal
        } else if match make {
            Make::Intel => has(status::ACTION_REQUIRED),
            Make::Amd => !deferred,
        } {
            Severity::Used
        } else {
            Severity::Unused
        }
    }

    /// For the log.
    pub fn said(&self) -> log::HardwareError {
        let address = (self.status & status::ADDRESS_VALID != 0).then_some(self.address);
        log::HardwareError { bank: self.bank, status: self.status, address }
    }

    /// The frame that it lies in; `None` where it names none, or more than one.
    pub fn frame(&self, make: Make) -> Option<u64> {
        const PAGE_SHIFT: u64 = 12;
        if self.status & status::ADDRESS_VALID == 0 {
            return None;
        }
        if make == Make::Intel {
            // SDM vol. 3, 16.3.2.4: lowest bit of the address that counts, and what kind of address it is (2: physical).
            let (lowest, mode) = (self.misc & 0x3f, self.misc >> 6 & 7);
            if self.status & status::MISC_VALID == 0 || mode != 2 || lowest > PAGE_SHIFT {
                return None;
            }
        }
        Some(self.address >> PAGE_SHIFT)
    }
}

/// Errors of all banks.
pub type Errors = heapless::Vec<HardwareError, { BANKS as usize }>;

/// The processor's registers.
trait Registers {
    fn read(&self, msr: u32) -> u64;
    fn write(&mut self, msr: u32, value: u64);
}

/// Those of this CPU.
struct Msrs;

impl Registers for Msrs {
    fn read(&self, msr: u32) -> u64 {
        // SAFETY: `enable_machine_checks` was promised the architecture's registers and counted the banks, and no other is named here; reading
        // changes nothing.
        unsafe { x86::msr::rdmsr(msr) }
    }

    fn write(&mut self, msr: u32, value: u64) {
        // SAFETY: as `read`; what is written are the control and status words of error reporting.
        unsafe { x86::msr::wrmsr(msr, value) };
    }
}

/// The errors that the first `banks` banks hold; `clear` takes them out.
fn read_banks(registers: &mut impl Registers, banks: u8, clear: bool) -> Errors {
    let mut errors = Errors::new();
    for bank in 0..banks {
        let first = MC0_CTL + u32::from(bank) * 4;
        let word = registers.read(first + 1);
        if word & status::VALID == 0 {
            continue;
        }
        let address = if word & status::ADDRESS_VALID != 0 { registers.read(first + 2) } else { 0 };
        let misc = if word & status::MISC_VALID != 0 { registers.read(first + 3) } else { 0 };
        let _ = errors.push(HardwareError { bank, status: word, address, misc });
        if clear {
            registers.write(first + 1, 0);
        }
    }
    errors
}

/// Banks of this processor; none before [`enable_machine_checks`].
static COUNT: AtomicU8 = AtomicU8::new(0);
static AMD: AtomicBool = AtomicBool::new(false);
/// Machine checks that were survived, outside of guests.
static SURVIVED: AtomicU64 = AtomicU64::new(0);

/// The make that the banks are read for.
pub fn make() -> Make {
    if AMD.load(Ordering::Relaxed) { Make::Amd } else { Make::Intel }
}

/// Whether there are banks.
pub fn has_error_banks() -> bool {
    COUNT.load(Ordering::Relaxed) != 0
}

/// Machine checks since boot that interrupted the core or a component and were survived.
pub fn machine_checks() -> u64 {
    SURVIVED.load(Ordering::Relaxed)
}

/// Have all banks report, and machine checks come. Returns what is left from before the last reset, taken out.
///
/// # Safety
/// Ring 0; the processor has machine checks and their architecture (CPUID leaf 1, EDX bits 7 and 14), and the IDT is loaded.
pub unsafe fn enable_machine_checks(make: Make) -> Errors {
    let registers = &mut Msrs;
    let capabilities = registers.read(MCG_CAP);
    let banks = capabilities.to_le_bytes()[0].min(BANKS);
    let left = read_banks(registers, banks, true);
    if capabilities & HAS_CTL != 0 {
        registers.write(MCG_CTL, u64::MAX);
    }
    for bank in 0..banks {
        registers.write(MC0_CTL + u32::from(bank) * 4, u64::MAX);
    }
    registers.write(MCG_STATUS, 0);
    AMD.store(make == Make::Amd, Ordering::Relaxed);
    COUNT.store(banks, Ordering::Relaxed);
    // SAFETY: by this function's contract there is such a bit, and a handler.
    unsafe { x86::controlregs::cr4_write(x86::controlregs::cr4() | x86::controlregs::Cr4::CR4_ENABLE_MACHINE_CHECK) };
    left
}

/// What the banks hold, taken out; and whether what the last machine check interrupted can go on.
pub fn take_errors() -> (Errors, bool) {
    let banks = COUNT.load(Ordering::Relaxed);
    if banks == 0 {
        return (Errors::new(), true);
    }
    let registers = &mut Msrs;
    let word = registers.read(MCG_STATUS);
    let errors = read_banks(registers, banks, true);
    if word != 0 {
        registers.write(MCG_STATUS, 0);
    }
    (errors, word == 0 || word & RIP_VALID != 0)
}

/// There was a machine check in the core or in a component. Returns where the loop can deal with it.
pub(super) fn survive() {
    let registers = &mut Msrs;
    let word = registers.read(MCG_STATUS);
    // They stay for the loop.
    let errors = read_banks(registers, COUNT.load(Ordering::Relaxed), false);
    let make = make();
    let worst = errors.iter().find(|error| matches!(error.severity(make), Severity::Used | Severity::Fatal));
    if let Some(error) = worst {
        panic!("machine check: {}; {ADVICE}", error.said());
    }
    if word & RIP_VALID == 0 {
        panic!("machine check: the processor has lost its place (IA32_MCG_STATUS {word:#x}); {ADVICE}");
    }
    SURVIVED.fetch_add(1, Ordering::Relaxed);
    registers.write(MCG_STATUS, 0);
}

/// What to do about an error that could not be corrected.
pub const ADVICE: &str = "the hardware reports an error that it could not correct: look at the firmware's event log, and replace what it \
                          names (address: memory; none: processor or board)";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    struct Fake(BTreeMap<u32, u64>);

    impl Registers for Fake {
        fn read(&self, msr: u32) -> u64 {
            self.0.get(&msr).copied().unwrap_or(0)
        }
        fn write(&mut self, msr: u32, value: u64) {
            self.0.insert(msr, value);
        }
    }

    const UC: u64 = status::VALID | status::UNCORRECTED;
    const PLACE: u64 = status::ADDRESS_VALID | status::MISC_VALID;

    fn error(word: u64, misc: u64) -> HardwareError {
        HardwareError { bank: 3, status: word, address: 0x1234, misc }
    }

    #[test]
    fn banks_are_read_and_emptied() {
        let mut registers = Fake(BTreeMap::new());
        registers.write(0x401 + 4 * 2, status::VALID | 0x150);
        registers.write(0x402 + 4 * 2, 7);
        registers.write(0x401 + 4 * 4, UC | PLACE);
        registers.write(0x402 + 4 * 4, 0x1234);
        registers.write(0x403 + 4 * 4, 0x8c);
        registers.write(0x401 + 4 * 5, UC);
        let found = [
            HardwareError { bank: 2, status: status::VALID | 0x150, address: 0, misc: 0 },
            HardwareError { bank: 4, status: UC | PLACE, address: 0x1234, misc: 0x8c },
        ];
        assert_eq!(read_banks(&mut registers, 5, false), found, "bank 5 does not exist");
        assert_eq!(read_banks(&mut registers, 5, true), found);
        assert_eq!(read_banks(&mut registers, 5, true), []);
    }

    #[test]
    fn how_bad_it_is_on_intel() {
        let severity = |word, misc| error(word, misc).severity(Make::Intel);
        assert_eq!(severity(status::VALID | PLACE, 0x8c), Severity::Corrected);
        assert_eq!(severity(status::VALID | status::OVERFLOW, 0), Severity::Corrected);
        assert_eq!(severity(UC | PLACE, 0x8c), Severity::Unused);
        // The line of the issue that asked for this.
        assert_eq!(severity(0xbd00_0000_0000_00c0, 0x8c), Severity::Unused);
        assert_eq!(severity(UC | PLACE | status::ACTION_REQUIRED, 0x86), Severity::Used);
        for fatal in [status::CONTEXT_CORRUPT, status::OVERFLOW] {
            assert_eq!(severity(UC | PLACE | fatal, 0x8c), Severity::Fatal);
        }
        assert_eq!(severity(UC | status::MISC_VALID, 0x8c), Severity::Fatal, "no address");
        assert_eq!(severity(UC | status::ADDRESS_VALID, 0x8c), Severity::Fatal, "of what kind?");
        assert_eq!(severity(UC | PLACE, 0x4c), Severity::Fatal, "linear");
        assert_eq!(severity(UC | PLACE, 0x8d), Severity::Fatal, "more than a page");
        assert_eq!(severity(status::VALID | status::DEFERRED, 0), Severity::Corrected, "a bit of AMD's");
    }

    #[test]
    fn how_bad_it_is_on_amd() {
        let severity = |word| error(word, 0).severity(Make::Amd);
        assert_eq!(severity(status::VALID | PLACE), Severity::Corrected);
        assert_eq!(severity(status::VALID | PLACE | status::DEFERRED), Severity::Unused);
        assert_eq!(severity(UC | status::ADDRESS_VALID), Severity::Used);
        assert_eq!(severity(UC), Severity::Fatal);
        assert_eq!(severity(UC | PLACE | status::CONTEXT_CORRUPT), Severity::Fatal);
    }

    #[test]
    fn its_words() {
        assert_eq!(error(UC | PLACE, 0).said().to_string(), "bank 3, status 0xac00000000000000, address 0x1234");
        assert_eq!(error(UC, 0).said().to_string(), "bank 3, status 0xa000000000000000");
    }
}
