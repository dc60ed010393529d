//! The local APIC (SDM vol. 3, chapter 11): x2APIC where there is one, else xAPIC; its timer takes TSC deadlines.

use super::vectors;
use abi::boot::features;
use abi::log::Timer;
use core::ptr::NonNull;
use x86::msr::{IA32_APIC_BASE, IA32_TSC_DEADLINE, rdmsr, wrmsr};

// Register numbers: MSR 0x800 + n in x2APIC mode, offset 16 * n in xAPIC mode.
const ID: u32 = 0x02;
const TASK_PRIORITY: u32 = 0x08;
const END_OF_INTERRUPT: u32 = 0x0b;
const SPURIOUS: u32 = 0x0f;
const TIMER: u32 = 0x32;
const THERMAL: u32 = 0x33;
const PERFORMANCE: u32 = 0x34;
const LINT0: u32 = 0x35;
const LINT1: u32 = 0x36;
const ERROR: u32 = 0x37;
const INITIAL_COUNT: u32 = 0x38;
const CURRENT_COUNT: u32 = 0x39;
const DIVIDE: u32 = 0x3e;

const X2APIC_MSR: u32 = 0x800;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const NMI: u32 = 4 << 8;
const TSC_DEADLINE: u32 = 2 << 17;
const DIVIDE_BY_1: u32 = 0b1011;

/// The local APIC of the CPU that runs.
#[derive(Debug)]
pub struct LocalApic {
    /// Registers in xAPIC mode.
    registers: Option<NonNull<u32>>,
    deadline: bool,
    /// Timer ticks per TSC tick, a 32.32 fixed-point number; for the one-shot timer.
    rate: u64,
}

// SAFETY: the registers are this CPU's own wherever they are reached from; nothing in them belongs to a thread.
unsafe impl Send for LocalApic {}

impl LocalApic {
    /// Switches the APIC of this CPU on: all sources masked but NMI (LINT1), the timer armed by [`LocalApic::timer_set`] only.
    /// Without `registers` it runs in x2APIC mode. `of` is what the processor has ([`abi::boot::features`]).
    ///
    /// # Safety
    /// Interrupts are off; the processor has a local APIC, and x2APIC mode unless there are `registers`, which are its 4 KiB, uncached.
    pub unsafe fn enable(of: u32, registers: Option<NonNull<u32>>) -> LocalApic {
        // SAFETY: the MSR exists where there is a local APIC.
        let base_msr = unsafe { rdmsr(IA32_APIC_BASE) };
        // Straight from "off" to x2APIC is not allowed (SDM 11.12.5), so first the one, then the other.
        // SAFETY: as above; interrupts are off.
        unsafe {
            wrmsr(IA32_APIC_BASE, base_msr | BASE_ENABLE);
            if registers.is_none() {
                wrmsr(IA32_APIC_BASE, base_msr | BASE_ENABLE | BASE_X2APIC);
            }
        }
        let mut apic = LocalApic { registers, deadline: of & features::TSC_DEADLINE != 0, rate: 1 << 32 };
        for source in [THERMAL, PERFORMANCE, LINT0] {
            apic.write(source, MASKED);
        }
        apic.write(LINT1, NMI);
        apic.write(ERROR, vectors::ERROR.into());
        apic.write(TASK_PRIORITY, 0);
        apic.write(SPURIOUS, SOFTWARE_ENABLE | u32::from(vectors::SPURIOUS));
        let mode = if apic.deadline { TSC_DEADLINE } else { 0 };
        apic.write(DIVIDE, DIVIDE_BY_1);
        apic.write(TIMER, mode | u32::from(vectors::TIMER));
        // In xAPIC mode the register write must be through before the first deadline is (SDM 11.5.4.1).
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        apic.timer_stop();
        apic
    }

    /// Measures the one-shot timer against the TSC, where deadlines are not supported. Takes 5 ms.
    pub fn calibrate(&mut self, tsc_hz: u64) {
        if self.deadline {
            return;
        }
        let span = (tsc_hz / 200).max(1);
        self.write(TIMER, MASKED);
        self.write(INITIAL_COUNT, u32::MAX);
        let start = base::tsc();
        let mut now = start;
        while now.wrapping_sub(start) < span {
            now = base::tsc();
        }
        let ticks = u32::MAX - self.read(CURRENT_COUNT);
        self.write(INITIAL_COUNT, 0);
        self.write(TIMER, vectors::TIMER.into());
        let rate = (u128::from(ticks) << 32) / u128::from(now.wrapping_sub(start));
        self.rate = u64::try_from(rate).unwrap_or(u64::MAX);
    }

    /// Arms the timer for the time `deadline` of the TSC; a deadline in the past fires at once. There is one deadline, the
    /// last that was set.
    #[inline]
    pub fn timer_set(&mut self, deadline: u64) {
        if self.deadline {
            // 0 would disarm it.
            // SAFETY: the MSR exists, as CPUID said; it only arms this CPU's timer.
            unsafe { wrmsr(IA32_TSC_DEADLINE, deadline.max(1)) };
        } else {
            let ticks = (u128::from(deadline.saturating_sub(base::tsc())) * u128::from(self.rate)) >> 32;
            // A deadline beyond the counter's range fires early; the core looks at the TSC and sets it again.
            self.write(INITIAL_COUNT, u32::try_from(ticks).unwrap_or(u32::MAX).max(1));
        }
    }

    /// Disarms the timer. An interrupt that is already requested still comes.
    #[inline]
    pub fn timer_stop(&mut self) {
        if self.deadline {
            // SAFETY: as in `timer_set`.
            unsafe { wrmsr(IA32_TSC_DEADLINE, 0) };
        } else {
            self.write(INITIAL_COUNT, 0);
        }
    }

    /// Ends the interrupt that is being served.
    #[inline]
    pub fn eoi(&mut self) {
        self.write(END_OF_INTERRUPT, 0);
    }

    /// This CPU's APIC id.
    pub fn id(&self) -> u32 {
        let id = self.read(ID);
        if self.registers.is_some() { id >> 24 } else { id }
    }

    /// For the log.
    pub fn timer(&self) -> Timer {
        Timer { x2apic: self.registers.is_none(), deadline: self.deadline }
    }

    #[inline]
    fn read(&self, register: u32) -> u32 {
        match self.registers {
            // SAFETY: register numbers are below 0x40, so inside the 4 KiB that `enable` was given.
            Some(registers) => unsafe { registers.as_ptr().wrapping_add(register as usize * 4).read_volatile() },
            // The upper half of these MSRs is reserved.
            // SAFETY: the MSR exists in x2APIC mode; reading it changes nothing.
            #[allow(clippy::cast_possible_truncation)]
            None => unsafe { rdmsr(X2APIC_MSR + register) as u32 },
        }
    }

    #[inline]
    fn write(&mut self, register: u32, value: u32) {
        match self.registers {
            // SAFETY: as in `read`; these registers change this CPU's interrupts only.
            Some(registers) => unsafe { registers.as_ptr().wrapping_add(register as usize * 4).write_volatile(value) },
            // SAFETY: the MSR exists in x2APIC mode, and the values written here have no reserved bits.
            None => unsafe { wrmsr(X2APIC_MSR + register, value.into()) },
        }
    }
}
