//! The VMCS that is loaded on this CPU: reading and writing its fields.

use crate::error::Error;
use crate::fields::{Field, ReadOnly32, Value, Writable};
use core::arch::asm;
use core::marker::PhantomData;

/// Proof that a certain VMCS is the current one of this CPU, for as long as nobody else can use what stands for the
/// CPU ([`Vtx`](crate::Vtx)) to load another. Neither `Send` nor `Sync`.
pub struct LoadedVmcs<'cpu> {
    cpu: PhantomData<(&'cpu mut (), *const ())>,
}

impl<'cpu> LoadedVmcs<'cpu> {
    /// # Safety
    /// `_cpu` stands for a CPU, on which the VMCS that the caller means is current, and nobody can load another one without it.
    #[inline]
    pub(crate) unsafe fn assume<Cpu>(_cpu: &'cpu mut Cpu) -> Self {
        LoadedVmcs { cpu: PhantomData }
    }

    /// Write a field.
    ///
    /// # Errors
    /// [`Error::Field`] when the CPU does not have it.
    pub fn write<F: Writable + Field>(&mut self, field: F, value: F::Value) -> Result<(), Error> {
        let failed: u8;
        // SAFETY: VMWRITE in VMX root operation, to a VMCS that only `&mut self` can change. What a field may do to
        // memory is bounded by what `Vcpu` writes: this type is not public.
        unsafe {
            asm!("vmwrite {field}, {value}", "setna {failed}", failed = out(reg_byte) failed,
                field = in(reg) u64::from(field.encoding()), value = in(reg) value.into_raw(), options(nostack));
        }
        if failed == 0 { Ok(()) } else { Err(self.refused(field.encoding())) }
    }

    /// Read a field that every CPU has, at the price of one instruction: with a current VMCS, which this type proves,
    /// VMREAD can fail only for a field that does not exist (SDM vol. 3, 31.3). For the fields of the first VT-x, of EPT,
    /// of VPID and of the preemption timer only, which `Capabilities::plan` insists on.
    #[inline]
    pub fn get<F: Field>(&self, field: F) -> F::Value {
        Value::from_raw(self.get_raw(field))
    }

    /// [`LoadedVmcs::get`], zero-extended to 64 bits.
    #[inline]
    pub fn get_raw<F: Field>(&self, field: F) -> u64 {
        let raw: u64;
        // SAFETY: VMREAD in VMX root operation, which `Vtx` stands for, changes a register and flags, no memory.
        unsafe {
            asm!("vmread {raw}, {field}", raw = out(reg) raw, field = in(reg) u64::from(field.encoding()),
                options(nomem, nostack));
        }
        raw
    }

    /// Write a field that every CPU has; see [`LoadedVmcs::get`].
    #[inline]
    pub fn set<F: Writable + Field>(&mut self, field: F, value: F::Value) {
        // SAFETY: as `write`.
        unsafe {
            asm!("vmwrite {field}, {value}", field = in(reg) u64::from(field.encoding()),
                value = in(reg) value.into_raw(), options(nostack));
        }
    }

    #[cold]
    fn refused(&self, encoding: u32) -> Error {
        Error::Field { encoding, error: self.get(ReadOnly32::InstructionError) }
    }
}
