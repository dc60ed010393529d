use super::*;
use crate::controls::pin;
extern crate std;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::string::ToString;

/// A Skylake server's values.
fn skylake() -> Capabilities {
    Capabilities {
        signature: 0x5_0654,
        features: 1 << 5 | 1 << 26,
        extended_features: 1,
        amd_features: 1 << 20,
        xcr0: 0x2ff,
        xsave_features: 0xf,
        xsave_ends: [0, 0, 832, 1024, 1088, 1152, 1664, 2688],
        feature_control: 0x5,
        basic: 0x00da_0400_0000_0004,
        pin_based: 0x0000_007f_0000_0016,
        primary: 0xfff9_fffe_0400_6172,
        secondary: 0x0553_7cff_0000_0000,
        exit: 0x01ff_ffff_0003_6dfb,
        entry: 0x0003_ffff_0000_11fb,
        misc: 0x7004_c1e7,
        ept_vpid: 0x0f01_0633_4141,
        cr0_fixed: [0x8000_0021, 0xffff_ffff],
        cr4_fixed: [0x2000, 0x0037_67ff],
    }
}

#[test]
fn skylake_is_good_enough() {
    let plan = skylake().plan().expect("good enough");
    assert_eq!(plan.revision, 4);
    assert_eq!(plan.timer_shift, 7);
    assert_eq!(plan.feature_control, None);
    assert!(plan.ept_accessed_dirty && plan.xsaveopt);
    assert_eq!(plan.invept, 1);
    assert_eq!(plan.xcr0, 0xe7, "no MPX, no PKRU");
    assert_eq!(plan.guest_cr0, 0x8001_0033);
    assert_eq!(plan.guest_cr4, 0x0005_2660);
    assert_eq!(plan.controls.pin_based, 0x5f);
    assert_eq!(plan.controls.primary, 0xa598_6dfa);
    assert_eq!(plan.controls.secondary, 0xe6);
    assert_eq!(plan.controls.exit, 0x002b_efff);
    assert_eq!(plan.controls.entry, 0xd3ff);
}

#[test]
fn an_open_feature_control_is_to_be_closed_with_vmx_on() {
    assert!(!skylake().plan().expect("good enough").timer_wrong);
    assert!(Capabilities { signature: 0x1_06a5, ..skylake() }.plan().expect("good enough").timer_wrong);
    let plan = Capabilities { feature_control: 0, ..skylake() }.plan().expect("good enough");
    assert_eq!(plan.feature_control, Some(5));
}

#[test]
fn what_is_missing_has_an_error_of_its_own() {
    let without = |msr: u64, bits: u32| msr & !(u64::from(bits) << 32);
    let s = skylake();
    let error = |capabilities: Capabilities| capabilities.plan().expect_err("deprived");

    assert_eq!(error(Capabilities { features: 1 << 26, ..s }), Unfit::NoVmx);
    let locked = error(Capabilities { feature_control: 1, ..s });
    assert_eq!(locked, Unfit::LockedByFirmware(1));
    assert_eq!(locked.to_string(), "VT-x is locked off by the firmware (IA32_FEATURE_CONTROL = 0x1)");

    let e = error(Capabilities { secondary: without(s.secondary, secondary::EPT), ..s });
    assert!(matches!(e, Unfit::NoEpt(_)));
    assert_eq!(e.to_string(), "VT-x secondary controls: the CPU lacks EPT (bit 1)");
    let e = error(Capabilities { secondary: without(s.secondary, secondary::UNRESTRICTED_GUEST), ..s });
    assert!(matches!(e, Unfit::NoUnrestrictedGuest(_)));
    assert_eq!(e.to_string(), "VT-x secondary controls: the CPU lacks unrestricted guest (bit 7)");
    let e = error(Capabilities { secondary: without(s.secondary, secondary::VPID), ..s });
    assert!(matches!(e, Unfit::NoVpid(_)));
    let e = error(Capabilities { pin_based: without(s.pin_based, pin::PREEMPTION_TIMER), ..s });
    assert!(matches!(e, Unfit::NoPreemptionTimer(_)));
    assert_eq!(e.to_string(), "VT-x pin-based controls: the CPU lacks VMX-preemption timer (bit 6)");
    let e = error(Capabilities { primary: without(s.primary, primary::MOV_DR | primary::SECONDARY), ..s });
    assert!(matches!(e, Unfit::Controls(_)));
    assert_eq!(
        e.to_string(),
        "VT-x primary controls: the CPU lacks MOV-DR exiting (bit 23), secondary controls (bit 31)"
    );

    for (bits, lacking) in [
        (1 << 6, "4-level tables"),
        (1 << 14, "write-back tables"),
        (1 << 20, "INVEPT"),
        (1 << 25 | 1 << 26, "INVEPT"),
        (1 << 32, "INVVPID of all contexts"),
        (1 << 42, "INVVPID of all contexts"),
    ] {
        match error(Capabilities { ept_vpid: s.ept_vpid & !bits, ..s }) {
            Unfit::EptLacks { what, .. } => assert_eq!(what, lacking),
            other => panic!("{other}"),
        }
    }
    assert!(matches!(error(Capabilities { features: 1 << 5, ..s }), Unfit::NoFeature(_)));
    assert!(matches!(error(Capabilities { amd_features: 0, ..s }), Unfit::NoFeature(_)));
    let e = error(Capabilities { cr4_fixed: [0x2000, 0x27ff], ..s });
    assert_eq!(e, Unfit::Fixed(crate::Error::FixedBits { register: "guest CR4", bits: 1 << 16 | 1 << 18 }));
    for e in [locked, e, Unfit::NoVmx] {
        assert!(!e.remedy().is_empty());
    }
}

#[test]
fn lesser_cpus_get_less() {
    let plan =
        Capabilities { ept_vpid: skylake().ept_vpid & !(1 << 21 | 1 << 25), ..skylake() }.plan().expect("enough");
    assert!(!plan.ept_accessed_dirty);
    assert_eq!(plan.invept, 2);
    let plan = Capabilities { extended_features: 0, xsave_features: 0, ..skylake() }.plan().expect("enough");
    assert_eq!(plan.guest_cr4 & cr::CR4_FSGSBASE, 0);
    assert!(!plan.xsaveopt);
}

#[test]
fn only_msrs_that_exist_are_read() {
    let asked = RefCell::new(BTreeSet::new());
    let rdmsr = |values: fn(u32) -> u64| {
        let asked = &asked;
        move |number| {
            asked.borrow_mut().insert(number);
            values(number)
        }
    };
    let cpuid = |ecx: u32| move |leaf: u32, _| if leaf == 0 { [0x16, 0, 0, 0] } else { [0, 0, ecx, 0] };

    Capabilities::gather(cpuid(0), rdmsr(|_| u64::MAX));
    assert!(asked.borrow().is_empty(), "no VT-x");

    // No secondary controls, hence none of the MSRs that describe them; no "true" MSRs either.
    Capabilities::gather(cpuid(1 << 5), rdmsr(|number| if number == msr::IA32_VMX_BASIC { 4 } else { 0 }));
    assert!(asked.borrow().contains(&msr::IA32_VMX_PROCBASED_CTLS));
    assert!(!asked.borrow().contains(&msr::IA32_VMX_PROCBASED_CTLS2));
    assert!(!asked.borrow().contains(&msr::IA32_VMX_EPT_VPID_CAP));
    assert!(!asked.borrow().contains(&msr::IA32_VMX_TRUE_EXIT_CTLS));

    asked.borrow_mut().clear();
    let found = Capabilities::gather(cpuid(1 << 5), rdmsr(|_| u64::MAX));
    assert!(asked.borrow().contains(&msr::IA32_VMX_TRUE_PROCBASED_CTLS));
    assert!(!asked.borrow().contains(&msr::IA32_VMX_PROCBASED_CTLS));
    assert_eq!(found.ept_vpid, u64::MAX);
}

#[test]
fn xsave_areas_are_measured() {
    let cpuid = |leaf: u32, sub: u32| match (leaf, sub) {
        (0, _) => [0xd, 0, 0, 0],
        (1, _) => [0, 0, 1 << 26, 0],
        (0xd, 0) => [0x7, 0, 0, 0],
        (0xd, 1) => [1, 0, 0, 0],
        (0xd, 2) => [256, 576, 0, 0],
        _ => [0; 4],
    };
    let found = Capabilities::gather(cpuid, |_| 0);
    assert_eq!((found.xcr0, found.xsave_ends[2], found.xsave_features), (7, 832, 1));
}
