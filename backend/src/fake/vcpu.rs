//! A scripted guest's processor.

use super::{Asked, FakeBackend, FakeError, Step};
use crate::{
    Access, Backend, BadState, Barriers, Corrupt, Corruption, Exit, FourLevel, GeneralRegisters, Interrupted, Layout,
    NotCanonical, Vcpu, VcpuConfig, VcpuState, filter_flags, is_canonical,
};
use abi::guest::hypercall;

/// What a processor that was set up holds.
const SET_UP: u64 = u64::from_le_bytes(*b"set up!!");
/// What a processor that was released holds.
const RELEASED: u64 = u64::from_le_bytes(*b"released");
/// Vector registers in which it keeps what it does next.
const RETRY: usize = 14;
/// Ticks of one entry and exit.
const ENTRY_TICKS: u64 = 50;

/// A processor. All zeros is one that was not set up yet.
#[repr(C)]
pub struct FakeVcpu<const TIMER: bool> {
    life: u64,
    slot: u32,
    /// The next entry fails.
    spoilt: bool,
    /// It tries the last access again, in the way of [`Access`], counted from 1; 0 for no access.
    retry: u8,
    retry_address: u64,
    /// What the access writes, where it is more than a touch.
    retry_value: u64,
    retry_pokes: bool,
    bus_locks: u32,
    root: u64,
    /// Physical address of the control structure.
    frame: u64,
    tsc_offset: u64,
    registers: GeneralRegisters,
    at: Interrupted,
}

impl<const TIMER: bool> FakeVcpu<TIMER> {
    fn check(&self, cpu: &FakeBackend<TIMER>) {
        assert!(self.life == SET_UP, "a processor is used that is not set up: {:#x}", self.life);
        assert!(
            cpu.ram.read(self.frame) == SET_UP ^ u64::from(self.slot),
            "somebody has written to the control structure of the VM in slot {}",
            self.slot
        );
    }

    /// Try the access again that was not allowed. True when it is done.
    fn access(&mut self, cpu: &mut FakeBackend<TIMER>) -> Result<(), Exit> {
        let access = match self.retry {
            1 => Access::Read,
            2 => Access::Write,
            3 => Access::Execute,
            _ => return Ok(()),
        };
        match cpu.translate(self.root, self.retry_address, access) {
            Ok(physical) => {
                self.retry = 0;
                if self.retry_pokes {
                    cpu.ram.write(physical, self.retry_value);
                }
                Ok(())
            }
            Err(present) => Err(Exit::MemoryFault { address: self.retry_address, access, present }),
        }
    }

    /// Do one step; an exit, if it makes one.
    fn perform(&mut self, cpu: &mut FakeBackend<TIMER>, step: Step) -> Option<Exit> {
        match step {
            Step::Compute(ticks) => cpu.wires.spend(ticks),
            Step::Touch { page, access } => {
                self.retry = match access {
                    Access::Read => 1,
                    Access::Write => 2,
                    Access::Execute => 3,
                };
                self.retry_address = u64::from(page) << 12;
                self.retry_pokes = false;
                return self.access(cpu).err();
            }
            Step::Poke { address, value } => {
                self.retry = 2;
                self.retry_address = address & !7;
                self.retry_value = value;
                self.retry_pokes = true;
                return self.access(cpu).err();
            }
            Step::Store { address } => {
                return self.perform(cpu, Step::Poke { address, value: self.registers.rax });
            }
            Step::Hypercall { number, a, b } => {
                self.registers.rax = number;
                self.registers.rdi = a;
                self.registers.rsi = b;
                return Some(Exit::Hypercall);
            }
            Step::Halt => return Some(Exit::Halt),
            Step::Exception { vector } => return Some(Exit::Exception { vector, error_code: 0, address: 0 }),
            Step::Refused { class } => return Some(Exit::Refused { class, detail: 0 }),
            Step::TripleFault => return Some(Exit::TripleFault),
            Step::EntryFailure => return Some(Exit::EntryFailure { error: 7, detail: 0 }),
            Step::Unknown => return Some(Exit::Unknown { reason: 99, detail: 0 }),
            Step::Nmi => return Some(Exit::Nmi),
            Step::MachineCheck => return Some(Exit::MachineCheck),
            Step::Served => return Some(Exit::Served),
            Step::BusLock => {
                self.bus_locks += 1;
                return Some(Exit::Served);
            }
        }
        None
    }

    /// Run until the next exit.
    fn go(&mut self, cpu: &mut FakeBackend<TIMER>, ticks: u64) -> Exit {
        let start = cpu.wires.now();
        cpu.wires.spend(ENTRY_TICKS);
        if self.spoilt {
            return Exit::EntryFailure { error: 8, detail: 0 };
        }
        loop {
            if cpu.wires.is_waiting() && !cpu.deaf {
                if !TIMER {
                    return Exit::InterruptPending;
                }
                if let Some(vector) = cpu.wires.take() {
                    return Exit::Interrupt { vector };
                }
            }
            if cpu.ends_quantum() && cpu.wires.now() - start >= ticks {
                return Exit::QuantumEnd;
            }
            if let Err(exit) = self.access(cpu) {
                return exit;
            }
            let step = (cpu.script)(self.slot);
            let step = step.unwrap_or(Step::Hypercall { number: hypercall::IDLE, a: u64::MAX, b: 0 });
            if let Some(exit) = self.perform(cpu, step) {
                return exit;
            }
        }
    }
}

impl<const TIMER: bool> Corrupt for FakeVcpu<TIMER> {
    fn corrupt(&mut self, _: &mut Self::Cpu, _: Corruption) {
        self.spoilt = true;
    }
}

impl<const TIMER: bool> Vcpu for FakeVcpu<TIMER> {
    type Cpu = FakeBackend<TIMER>;

    unsafe fn init(
        &mut self,
        cpu: &mut Self::Cpu,
        config: &VcpuConfig<'_, FourLevel<super::FakeFormat>>,
    ) -> Result<(), FakeError> {
        assert!(self.life == 0, "a processor is set up twice, or in a frame that was not zeroed: {:#x}", self.life);
        if cpu.refuse > 0 {
            cpu.refuse -= 1;
            return Err(FakeError);
        }
        self.life = SET_UP;
        self.slot = config.slot;
        self.root = config.tables.root();
        self.frame = config.frame;
        self.tsc_offset = config.tsc_offset;
        self.registers = GeneralRegisters { rdi: config.argument, ..GeneralRegisters::default() };
        self.at = Interrupted { rip: config.entry, rsp: 0, rflags: filter_flags(0), rax: 0 };
        cpu.ram.write(self.frame, SET_UP ^ u64::from(self.slot));
        Ok(())
    }

    fn registers(&mut self) -> &mut GeneralRegisters {
        &mut self.registers
    }

    fn run(&mut self, cpu: &mut Self::Cpu, ticks: u64) -> Exit {
        self.check(cpu);
        cpu.entries += 1;
        let before = core::mem::replace(&mut cpu.pending, Barriers::NONE).with(cpu.entry);
        cpu.note(Asked::Entry(self.slot, before));
        let exit = self.go(cpu, ticks);
        cpu.note(Asked::Exit(self.slot, cpu.exit));
        exit
    }

    fn position(&self, cpu: &mut Self::Cpu) -> Interrupted {
        self.check(cpu);
        Interrupted { rax: self.registers.rax, ..self.at }
    }

    fn set_position(&mut self, cpu: &mut Self::Cpu, position: &Interrupted) -> Result<(), NotCanonical> {
        self.check(cpu);
        if !is_canonical(position.rip) {
            return Err(NotCanonical(position.rip));
        }
        // Elsewhere it does something else.
        self.retry = 0;
        self.at = Interrupted { rflags: filter_flags(position.rflags), ..*position };
        Ok(())
    }

    fn skip_instruction(&mut self, cpu: &mut Self::Cpu) {
        self.check(cpu);
        self.at.rip = self.at.rip.wrapping_add(3);
    }

    fn export(&mut self, cpu: &mut Self::Cpu, tsc: u64, to: &mut VcpuState) {
        self.check(cpu);
        let general = self.registers.export(self.at.rsp);
        *to = VcpuState { general, rip: self.at.rip, rflags: self.at.rflags, ..VcpuState::INITIAL };
        to.tsc = tsc.wrapping_add(self.tsc_offset);
        // A real one tries the access again because it is at the instruction.
        to.xmm[RETRY] = [u64::from(self.retry) | u64::from(self.retry_pokes) << 8, self.retry_address];
        to.xmm[RETRY + 1][0] = self.retry_value;
    }

    fn import(&mut self, cpu: &mut Self::Cpu, from: &VcpuState) -> Result<(), BadState> {
        self.check(cpu);
        // Without AVX.
        Layout::gather(0x3, |_, _| [0; 4]).check(from)?;
        self.registers = GeneralRegisters::from(&from.general);
        self.at = Interrupted { rip: from.rip, rsp: from.general.rsp, rflags: from.rflags, rax: from.general.rax };
        let [how, address] = from.xmm[RETRY];
        self.retry = u8::try_from(how & 0xff).unwrap_or(0);
        (self.retry_pokes, self.retry_address) = (how >> 8 & 1 != 0, address);
        self.retry_value = from.xmm[RETRY + 1][0];
        Ok(())
    }

    fn bus_locks(&self) -> u32 {
        self.bus_locks
    }

    fn release(&mut self, cpu: &mut Self::Cpu) {
        self.check(cpu);
        self.life = RELEASED;
        cpu.ram.write(self.frame, 0);
    }
}
