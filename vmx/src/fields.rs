//! The fields of the VMCS (SDM vol. 3, appendix B), in one type per width and access.
//!
//! The type decides how wide a value is and whether the field can be written at all: writing a field's number instead of
//! its value, or a read-only field, does not compile. Fields that Foraker does not use are not listed.

/// A value of the width that a field has.
pub trait Value: Copy {
    /// From what VMREAD returns; the upper bits of a narrower field read as 0.
    fn from_raw(raw: u64) -> Self;
    /// For VMWRITE.
    fn into_raw(self) -> u64;
}

macro_rules! value {
    ($($type:ty)*) => {$(
        impl Value for $type {
            #[inline]
            // VMREAD clears the bits beyond the field's width (SDM vol. 3, 31.3, VMREAD).
            #[allow(clippy::cast_possible_truncation)]
            fn from_raw(raw: u64) -> Self {
                raw as $type
            }

            #[inline]
            #[allow(clippy::cast_lossless)]
            fn into_raw(self) -> u64 {
                self as u64
            }
        }
    )*};
}
value!(u16 u32 u64);

/// A field that can be read.
pub trait Field: Copy {
    /// What it holds.
    type Value: Value;
    /// Its encoding.
    fn encoding(self) -> u32;
}

/// A field that can be written.
pub trait Writable: Field {}

/// Width and type as bits 14..13 and 11..10 of an encoding have them (SDM vol. 3, 25.11.2).
const fn class(encoding: u32) -> (u32, u32) {
    (encoding >> 13 & 3, encoding >> 10 & 3)
}

const CONTROL: u32 = 0;
const READ_ONLY: u32 = 1;
const GUEST: u32 = 2;
const HOST: u32 = 3;
const W16: u32 = 0;
const W64: u32 = 1;
const W32: u32 = 2;
const NATURAL: u32 = 3;

macro_rules! fields {
    ($(#[$doc:meta])* $name:ident: $value:ty, $width:ident, $type:ident { $($field:ident = $encoding:literal,)* }) => {
        $(#[$doc])*
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // The SDM's names.
        pub enum $name { $($field = $encoding,)* }

        impl $name {
            /// Every field of this type.
            pub const ALL: &[$name] = &[$($name::$field),*];
        }

        // An encoding in the wrong enum would have the wrong width or access: refused when this is compiled. Bit 0 is
        // set only in encodings of the upper halves of 64-bit fields.
        const _: () = {
            $({
                let (width, kind) = class($encoding);
                assert!(width == $width && kind == $type && $encoding & 1 == 0, stringify!($field));
            })*
        };

        impl Field for $name {
            type Value = $value;
            #[inline]
            fn encoding(self) -> u32 {
                self as u32
            }
        }
    };
}

fields! {
    /// 16-bit controls (B.1.1).
    Control16: u16, W16, CONTROL {
        Vpid = 0x0000,
    }
}
fields! {
    /// 16-bit guest state (B.1.2).
    Guest16: u16, W16, GUEST {
        EsSelector = 0x0800,
        CsSelector = 0x0802,
        SsSelector = 0x0804,
        DsSelector = 0x0806,
        FsSelector = 0x0808,
        GsSelector = 0x080a,
        LdtrSelector = 0x080c,
        TrSelector = 0x080e,
    }
}
fields! {
    /// 16-bit host state (B.1.3).
    Host16: u16, W16, HOST {
        EsSelector = 0x0c00,
        CsSelector = 0x0c02,
        SsSelector = 0x0c04,
        DsSelector = 0x0c06,
        FsSelector = 0x0c08,
        GsSelector = 0x0c0a,
        TrSelector = 0x0c0c,
    }
}
fields! {
    /// 64-bit controls (B.2.1).
    Control64: u64, W64, CONTROL {
        TscOffset = 0x2010,
        EptPointer = 0x201a,
        EnclsBitmap = 0x202e,
        EnclvBitmap = 0x2036,
    }
}
fields! {
    /// 64-bit read-only data (B.2.2).
    ReadOnly64: u64, W64, READ_ONLY {
        GuestPhysicalAddress = 0x2400,
    }
}
fields! {
    /// 64-bit guest state (B.2.3).
    Guest64: u64, W64, GUEST {
        LinkPointer = 0x2800,
        DebugCtl = 0x2802,
        Pat = 0x2804,
        Efer = 0x2806,
    }
}
fields! {
    /// 64-bit host state (B.2.4).
    Host64: u64, W64, HOST {
        Pat = 0x2c00,
        Efer = 0x2c02,
    }
}
fields! {
    /// 32-bit controls (B.3.1).
    Control32: u32, W32, CONTROL {
        PinBased = 0x4000,
        Primary = 0x4002,
        ExceptionBitmap = 0x4004,
        PageFaultMask = 0x4006,
        PageFaultMatch = 0x4008,
        Cr3TargetCount = 0x400a,
        Exit = 0x400c,
        ExitMsrStoreCount = 0x400e,
        ExitMsrLoadCount = 0x4010,
        Entry = 0x4012,
        EntryMsrLoadCount = 0x4014,
        EntryInterruption = 0x4016,
        Secondary = 0x401e,
    }
}
fields! {
    /// 32-bit read-only data (B.3.2).
    ReadOnly32: u32, W32, READ_ONLY {
        InstructionError = 0x4400,
        ExitReason = 0x4402,
        ExitInterruption = 0x4404,
        ExitInterruptionError = 0x4406,
        IdtVectoring = 0x4408,
        IdtVectoringError = 0x440a,
        InstructionLength = 0x440c,
    }
}
fields! {
    /// 32-bit guest state (B.3.3).
    Guest32: u32, W32, GUEST {
        EsLimit = 0x4800,
        CsLimit = 0x4802,
        SsLimit = 0x4804,
        DsLimit = 0x4806,
        FsLimit = 0x4808,
        GsLimit = 0x480a,
        LdtrLimit = 0x480c,
        TrLimit = 0x480e,
        GdtrLimit = 0x4810,
        IdtrLimit = 0x4812,
        EsRights = 0x4814,
        CsRights = 0x4816,
        SsRights = 0x4818,
        DsRights = 0x481a,
        FsRights = 0x481c,
        GsRights = 0x481e,
        LdtrRights = 0x4820,
        TrRights = 0x4822,
        Interruptibility = 0x4824,
        Activity = 0x4826,
        SysenterCs = 0x482a,
        PreemptionTimer = 0x482e,
    }
}
fields! {
    /// 32-bit host state (B.3.4).
    Host32: u32, W32, HOST {
        SysenterCs = 0x4c00,
    }
}
fields! {
    /// Natural-width controls (B.4.1).
    ControlNatural: u64, NATURAL, CONTROL {
        Cr0Mask = 0x6000,
        Cr4Mask = 0x6002,
        Cr0Shadow = 0x6004,
        Cr4Shadow = 0x6006,
    }
}
fields! {
    /// Natural-width read-only data (B.4.2).
    ReadOnlyNatural: u64, NATURAL, READ_ONLY {
        Qualification = 0x6400,
    }
}
fields! {
    /// Natural-width guest state (B.4.3).
    GuestNatural: u64, NATURAL, GUEST {
        Cr0 = 0x6800,
        Cr3 = 0x6802,
        Cr4 = 0x6804,
        EsBase = 0x6806,
        CsBase = 0x6808,
        SsBase = 0x680a,
        DsBase = 0x680c,
        FsBase = 0x680e,
        GsBase = 0x6810,
        LdtrBase = 0x6812,
        TrBase = 0x6814,
        GdtrBase = 0x6816,
        IdtrBase = 0x6818,
        Dr7 = 0x681a,
        Rsp = 0x681c,
        Rip = 0x681e,
        Rflags = 0x6820,
        PendingDebug = 0x6822,
        SysenterEsp = 0x6824,
        SysenterEip = 0x6826,
    }
}
fields! {
    /// Natural-width host state (B.4.4).
    HostNatural: u64, NATURAL, HOST {
        Cr0 = 0x6c00,
        Cr3 = 0x6c02,
        Cr4 = 0x6c04,
        FsBase = 0x6c06,
        GsBase = 0x6c08,
        TrBase = 0x6c0a,
        GdtrBase = 0x6c0c,
        IdtrBase = 0x6c0e,
        SysenterEsp = 0x6c10,
        SysenterEip = 0x6c12,
        Rsp = 0x6c14,
        Rip = 0x6c16,
    }
}

// The read-only types are missing here on purpose.
macro_rules! writable {
    ($($name:ident)*) => { $(impl Writable for $name {})* };
}
writable!(Control16 Guest16 Host16 Control64 Guest64 Host64 Control32 Guest32 Host32 ControlNatural GuestNatural HostNatural);

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    /// What the bits of each encoding of `fields` say: bytes (8 for natural width) and type.
    fn decode<F: Field>(fields: &[F]) -> Vec<(u32, usize, u32)> {
        fields
            .iter()
            .map(|field| {
                let encoding = field.encoding();
                assert_eq!(encoding & !0x6ffe, 0, "{encoding:#x}: reserved bits, or the upper half of a field");
                let bytes = [2, 8, 4, 8][usize::try_from(encoding >> 13 & 3).expect("2 bits")];
                assert_eq!(bytes, size_of::<F::Value>(), "{encoding:#x}");
                (encoding, bytes, encoding >> 10 & 3)
            })
            .collect()
    }

    #[test]
    fn encodings_have_the_width_and_the_access_of_their_type() {
        let mut seen = BTreeSet::new();
        let mut check = |fields: Vec<(u32, usize, u32)>, kind| {
            for (encoding, _, found) in fields {
                assert_eq!(found, kind, "{encoding:#x}");
                assert!(seen.insert(encoding), "{encoding:#x} twice");
            }
        };
        check(decode(Control16::ALL), CONTROL);
        check(decode(Control32::ALL), CONTROL);
        check(decode(Control64::ALL), CONTROL);
        check(decode(ControlNatural::ALL), CONTROL);
        check(decode(ReadOnly32::ALL), READ_ONLY);
        check(decode(ReadOnly64::ALL), READ_ONLY);
        check(decode(ReadOnlyNatural::ALL), READ_ONLY);
        check(decode(Guest16::ALL), GUEST);
        check(decode(Guest32::ALL), GUEST);
        check(decode(Guest64::ALL), GUEST);
        check(decode(GuestNatural::ALL), GUEST);
        check(decode(Host16::ALL), HOST);
        check(decode(Host32::ALL), HOST);
        check(decode(Host64::ALL), HOST);
        check(decode(HostNatural::ALL), HOST);
    }

    #[test]
    fn encodings_are_those_of_the_x86_crate() {
        use x86::vmx::vmcs::{control, guest, host, ro};
        for (ours, theirs) in [
            (Control16::Vpid.encoding(), control::VPID),
            (Control64::TscOffset.encoding(), control::TSC_OFFSET_FULL),
            (Control64::EptPointer.encoding(), control::EPTP_FULL),
            (Control32::PinBased.encoding(), control::PINBASED_EXEC_CONTROLS),
            (Control32::Primary.encoding(), control::PRIMARY_PROCBASED_EXEC_CONTROLS),
            (Control32::Secondary.encoding(), control::SECONDARY_PROCBASED_EXEC_CONTROLS),
            (Control32::ExceptionBitmap.encoding(), control::EXCEPTION_BITMAP),
            (Control32::Exit.encoding(), control::VMEXIT_CONTROLS),
            (Control32::Entry.encoding(), control::VMENTRY_CONTROLS),
            (Control32::EntryInterruption.encoding(), control::VMENTRY_INTERRUPTION_INFO_FIELD),
            (ControlNatural::Cr0Mask.encoding(), control::CR0_GUEST_HOST_MASK),
            (ControlNatural::Cr4Shadow.encoding(), control::CR4_READ_SHADOW),
            (ReadOnly32::ExitReason.encoding(), ro::EXIT_REASON),
            (ReadOnly32::InstructionError.encoding(), ro::VM_INSTRUCTION_ERROR),
            (ReadOnly32::ExitInterruption.encoding(), ro::VMEXIT_INTERRUPTION_INFO),
            (ReadOnly32::IdtVectoring.encoding(), ro::IDT_VECTORING_INFO),
            (ReadOnly32::InstructionLength.encoding(), ro::VMEXIT_INSTRUCTION_LEN),
            (ReadOnly64::GuestPhysicalAddress.encoding(), ro::GUEST_PHYSICAL_ADDR_FULL),
            (ReadOnlyNatural::Qualification.encoding(), ro::EXIT_QUALIFICATION),
            (Guest16::TrSelector.encoding(), guest::TR_SELECTOR),
            (Guest32::CsRights.encoding(), guest::CS_ACCESS_RIGHTS),
            (Guest32::IdtrLimit.encoding(), guest::IDTR_LIMIT),
            (Guest32::PreemptionTimer.encoding(), guest::VMX_PREEMPTION_TIMER_VALUE),
            (Guest32::Interruptibility.encoding(), guest::INTERRUPTIBILITY_STATE),
            (Guest64::LinkPointer.encoding(), guest::LINK_PTR_FULL),
            (Guest64::Efer.encoding(), guest::IA32_EFER_FULL),
            (GuestNatural::Rip.encoding(), guest::RIP),
            (GuestNatural::Rsp.encoding(), guest::RSP),
            (GuestNatural::Rflags.encoding(), guest::RFLAGS),
            (GuestNatural::PendingDebug.encoding(), guest::PENDING_DBG_EXCEPTIONS),
            (Host16::TrSelector.encoding(), host::TR_SELECTOR),
            (Host64::Efer.encoding(), host::IA32_EFER_FULL),
            (HostNatural::Rsp.encoding(), host::RSP),
            (HostNatural::Rip.encoding(), host::RIP),
            (HostNatural::GsBase.encoding(), host::GS_BASE),
        ] {
            assert_eq!(ours, theirs);
        }
    }
}
