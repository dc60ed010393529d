use super::*;
use std::collections::BTreeMap;
use std::string::ToString;

/// Bits of CPUID.7.0:EDX.
const MD_CLEAR: u32 = 1 << 10;
const IBRS: u32 = 1 << 26;
const FLUSH_L1D: u32 = 1 << 28;
const CAPABILITIES: u32 = 1 << 29;
const MICROCODE: u32 = MD_CLEAR | IBRS | FLUSH_L1D;
/// Bits of IA32_ARCH_CAPABILITIES.
const RDCL_NO: u64 = 1 << 0;
const IBRS_ALL: u64 = 1 << 1;
const RSBA: u64 = 1 << 2;
const SKIP_L1D: u64 = 1 << 3;
const SSB_NO: u64 = 1 << 4;
const MDS_NO: u64 = 1 << 5;
const TSX_CTRL: u64 = 1 << 7;
const TAA_NO: u64 = 1 << 8;
const MMIO_NO: u64 = 0b111 << 13;
const FB_CLEAR: u64 = 1 << 17;
const BHI_NO: u64 = 1 << 20;
const PBRSB_NO: u64 = 1 << 24;
const GDS_CTRL: u64 = 1 << 25;
const GDS_NO: u64 = 1 << 26;
const RFDS_NO: u64 = 1 << 27;
const RFDS_CLEAR: u64 = 1 << 28;
const ITS_NO: u64 = 1 << 62;
/// CPUID.7.2:EDX.
const BHI_CTRL: u32 = 1 << 4;
/// CPUID.80000008h:EBX.
const IBPB: u32 = 1 << 12;
const SSB_NO_AMD: u32 = 1 << 26;
const BTC_NO: u32 = 1 << 29;
const IBPB_RET: u32 = 1 << 30;
/// CPUID.80000021h:EAX.
const VERW_CLEAR: u32 = 1 << 5;
const AUTO_IBRS: u32 = 1 << 8;
const IBPB_BRTYPE: u32 = 1 << 28;
const SRSO_NO: u32 = 1 << 29;
const REDUCE: u32 = 1 << 31;
const AVX: u32 = 1 << 28;
const RTM: u32 = 1 << 11;

fn intel(model: u32, stepping: u32, controls: u32, capabilities: u64) -> Identity {
    let controls = controls | if capabilities != 0 { CAPABILITIES } else { 0 };
    Identity { family: 6, model, stepping, controls, capabilities, ..Identity::default() }
}

fn amd(family: u32, amd_extensions: u32, amd_more: [u32; 2]) -> Identity {
    Identity { make: Make::Amd, family, amd_extensions, amd_more, ..Identity::default() }
}

/// A row: name; processor; exposed to; open; always, at exits, between tenants, at entries, before components.
type Row = (&'static str, Identity, &'static str, &'static str, [&'static str; 5]);

/// Every family, with the microcode that its maker gave out last, and some without.
fn rows() -> Vec<Row> {
    let old = "spectre-v1,spectre-v2,meltdown,ssb,l1tf,mds,vmscape";
    let old_open = "spectre-v1,meltdown,ssb";
    let with_avx = |of: Identity| Identity { features: AVX, ..of };
    let skylake = "spectre-v1,spectre-v2,meltdown,ssb,l1tf,mds,taa,mmio,retbleed,gds,vmscape";
    let adl = IBRS_ALL | RDCL_NO | MDS_NO | TAA_NO | MMIO_NO | PBRSB_NO;
    let first = ["none", "rsb,ibrs", "ibpb,rsb", "verw,l1d", "ibpb,rsb"];
    vec![
        ("Nehalem, no microcode", intel(0x1a, 5, 0, 0), old, old, ["none"; 5]),
        ("Nehalem", intel(0x1a, 5, MICROCODE, 0), old, old_open, first),
        ("Westmere", intel(0x2c, 2, MICROCODE, 0), old, old_open, first),
        ("Sandy Bridge", intel(0x2a, 7, MICROCODE, 0), old, old_open, first),
        ("Ivy Bridge", intel(0x3e, 4, MICROCODE, 0), old, old_open, first),
        ("Haswell", intel(0x3c, 3, MICROCODE, 0), old, old_open, first),
        (
            "Haswell, server",
            intel(0x3f, 2, MICROCODE, 0),
            "spectre-v1,spectre-v2,meltdown,ssb,l1tf,mds,mmio,vmscape",
            old_open,
            first,
        ),
        (
            "Broadwell, server",
            Identity { extended: RTM, ..intel(0x4f, 1, MICROCODE, 0) },
            "spectre-v1,spectre-v2,meltdown,ssb,l1tf,mds,taa,mmio,vmscape",
            old_open,
            first,
        ),
        (
            "Skylake, no microcode",
            with_avx(Identity { extended: RTM, ..intel(0x5e, 3, 0, 0) }),
            skylake,
            skylake,
            ["none"; 5],
        ),
        (
            "Skylake",
            with_avx(Identity { extended: RTM, ..intel(0x5e, 3, MICROCODE, GDS_CTRL) }),
            skylake,
            old_open,
            first,
        ),
        (
            "Kaby Lake under a hypervisor that flushes",
            with_avx(intel(0x9e, 9, MICROCODE, SKIP_L1D | GDS_CTRL | RSBA)),
            "spectre-v1,spectre-v2,meltdown,ssb,l1tf,mds,mmio,retbleed,gds,vmscape",
            old_open,
            ["none", "rsb,ibrs", "ibpb,rsb", "verw", "ibpb,rsb"],
        ),
        (
            "Cascade Lake",
            with_avx(intel(0x55, 7, MICROCODE, IBRS_ALL | RDCL_NO | MDS_NO | TSX_CTRL | FB_CLEAR | GDS_CTRL)),
            "spectre-v1,spectre-v2,ssb,taa,mmio,retbleed,bhi,its,pbrsb,gds,vmscape",
            "spectre-v1,ssb",
            ["eibrs", "ibpb,rsb,bhb,call", "none", "verw", "none"],
        ),
        (
            "Comet Lake",
            with_avx(intel(0xa5, 2, MICROCODE, IBRS_ALL | RDCL_NO | MDS_NO | TAA_NO | FB_CLEAR | GDS_CTRL | ITS_NO)),
            "spectre-v1,spectre-v2,ssb,mmio,retbleed,bhi,pbrsb,gds,vmscape",
            "spectre-v1,ssb",
            ["eibrs", "bhb,call", "ibpb,rsb", "verw", "ibpb,rsb"],
        ),
        (
            "Ice Lake, server",
            with_avx(intel(0x6a, 6, MICROCODE, IBRS_ALL | RDCL_NO | MDS_NO | TAA_NO | FB_CLEAR | GDS_CTRL | SSB_NO)),
            "spectre-v1,spectre-v2,mmio,bhi,pbrsb,gds",
            "spectre-v1",
            ["eibrs", "bhb,call", "ibpb,rsb", "verw", "none"],
        ),
        (
            "Tiger Lake",
            with_avx(intel(0x8c, 1, MICROCODE, IBRS_ALL | RDCL_NO | MDS_NO | TAA_NO | MMIO_NO | GDS_NO)),
            "spectre-v1,spectre-v2,ssb,bhi,pbrsb",
            "spectre-v1,ssb",
            ["eibrs", "bhb,call", "ibpb,rsb", "none", "none"],
        ),
        (
            "Rocket Lake, no microcode for gathers",
            with_avx(intel(0xa7, 1, MICROCODE, IBRS_ALL | RDCL_NO | MDS_NO | TAA_NO | FB_CLEAR | PBRSB_NO)),
            "spectre-v1,spectre-v2,ssb,mmio,retbleed,bhi,gds",
            "spectre-v1,ssb,gds",
            ["eibrs", "bhb", "ibpb,rsb", "verw", "none"],
        ),
        (
            "Alder Lake",
            Identity { more_controls: BHI_CTRL, ..intel(0x97, 2, MICROCODE, adl | RFDS_CLEAR) },
            "spectre-v1,spectre-v2,ssb,rfds,bhi,vmscape",
            "spectre-v1,ssb",
            ["eibrs,bhi-dis-s", "none", "ibpb,rsb", "verw", "ibpb,rsb"],
        ),
        (
            "Raptor Lake, no microcode for register files",
            Identity { more_controls: BHI_CTRL, ..intel(0xb7, 1, MICROCODE, adl) },
            "spectre-v1,spectre-v2,ssb,rfds,bhi,vmscape",
            "spectre-v1,ssb,rfds",
            ["eibrs,bhi-dis-s", "none", "ibpb,rsb", "none", "ibpb,rsb"],
        ),
        (
            "Sapphire Rapids",
            Identity { more_controls: BHI_CTRL, ..intel(0x8f, 8, MICROCODE, adl | RFDS_NO) },
            "spectre-v1,spectre-v2,ssb,bhi,vmscape",
            "spectre-v1,ssb",
            ["eibrs,bhi-dis-s", "none", "ibpb,rsb", "none", "ibpb,rsb"],
        ),
        (
            "one that is not known yet and denies everything",
            intel(0xdd, 0, MICROCODE, adl | RFDS_NO | BHI_NO | SSB_NO),
            "spectre-v1,spectre-v2",
            "spectre-v1",
            ["eibrs", "none", "ibpb,rsb", "none", "none"],
        ),
        ("Bonnell", intel(0x1c, 10, 0, 0), "none", "none", ["none"; 5]),
        (
            "Silvermont",
            intel(0x37, 8, MD_CLEAR | IBRS, 0),
            "spectre-v1,spectre-v2,meltdown,mds,vmscape",
            "spectre-v1,meltdown",
            ["none", "rsb,ibrs", "ibpb,rsb", "verw", "ibpb,rsb"],
        ),
        (
            "Goldmont",
            intel(0x5c, 9, IBRS, RDCL_NO | SSB_NO | RFDS_CLEAR),
            "spectre-v1,spectre-v2,rfds,vmscape",
            "spectre-v1",
            ["none", "rsb,ibrs", "ibpb,rsb", "verw", "ibpb,rsb"],
        ),
        (
            "Goldmont Plus",
            intel(0x7a, 1, IBRS, RDCL_NO | IBRS_ALL | RFDS_CLEAR),
            "spectre-v1,spectre-v2,ssb,rfds,bhi",
            "spectre-v1,ssb",
            ["eibrs", "bhb", "ibpb,rsb", "verw", "none"],
        ),
        (
            "Tremont",
            intel(0x96, 1, IBRS | MD_CLEAR, RDCL_NO | IBRS_ALL | MDS_NO | FB_CLEAR | RFDS_CLEAR | BHI_NO),
            "spectre-v1,spectre-v2,ssb,mmio,rfds",
            "spectre-v1,ssb",
            ["eibrs", "none", "ibpb,rsb", "verw", "none"],
        ),
        (
            "Gracemont",
            Identity { more_controls: BHI_CTRL, ..intel(0xbe, 0, MICROCODE, adl | RFDS_CLEAR) },
            "spectre-v1,spectre-v2,ssb,rfds,bhi,vmscape",
            "spectre-v1,ssb",
            ["eibrs,bhi-dis-s", "none", "ibpb,rsb", "verw", "ibpb,rsb"],
        ),
        (
            "Knights Landing",
            intel(0x57, 1, MD_CLEAR | IBRS, 0),
            "spectre-v1,spectre-v2,meltdown,mds,vmscape",
            "spectre-v1,meltdown",
            ["none", "rsb,ibrs", "ibpb,rsb", "verw", "ibpb,rsb"],
        ),
        ("10h", amd(0x10, 0, [0; 2]), "spectre-v1,spectre-v2,vmscape", "spectre-v1,spectre-v2,vmscape", ["none"; 5]),
        ("12h", amd(0x12, 0, [0; 2]), "spectre-v1,spectre-v2,vmscape", "spectre-v1,spectre-v2,vmscape", ["none"; 5]),
        (
            "14h",
            amd(0x14, 0, [0; 2]),
            "spectre-v1,spectre-v2,ssb,vmscape",
            "spectre-v1,spectre-v2,ssb,vmscape",
            ["none"; 5],
        ),
        (
            "15h",
            amd(0x15, IBPB, [0; 2]),
            "spectre-v1,spectre-v2,ssb,retbleed,vmscape",
            "spectre-v1,ssb",
            ["none", "ibpb,rsb", "none", "none", "none"],
        ),
        (
            "16h, no microcode",
            amd(0x16, 0, [0; 2]),
            "spectre-v1,spectre-v2,ssb,retbleed,vmscape",
            "spectre-v1,spectre-v2,ssb,retbleed,vmscape",
            ["none"; 5],
        ),
        (
            "17h, Zen to Zen 2",
            amd(0x17, IBPB, [0; 2]),
            "spectre-v1,spectre-v2,ssb,retbleed,srso,vmscape",
            "spectre-v1,ssb",
            ["none", "ibpb,rsb", "none", "none", "none"],
        ),
        (
            "18h, Hygon",
            amd(0x18, IBPB, [0; 2]),
            "spectre-v1,spectre-v2,ssb,retbleed,srso,vmscape",
            "spectre-v1,ssb",
            ["none", "ibpb,rsb", "none", "none", "none"],
        ),
        (
            "19h, Zen 3, first microcode",
            amd(0x19, IBPB | BTC_NO, [0, 0]),
            "spectre-v1,spectre-v2,ssb,tsa,srso,vmscape",
            "spectre-v1,ssb,tsa,srso",
            ["none", "ibpb,rsb", "none", "none", "none"],
        ),
        (
            "19h, Zen 3",
            amd(0x19, IBPB | BTC_NO, [VERW_CLEAR | IBPB_BRTYPE, 0]),
            "spectre-v1,spectre-v2,ssb,tsa,srso,vmscape",
            "spectre-v1,ssb",
            ["none", "ibpb,rsb", "none", "verw", "none"],
        ),
        (
            "19h, Zen 4",
            amd(0x19, IBPB | BTC_NO | IBPB_RET, [VERW_CLEAR | IBPB_BRTYPE | AUTO_IBRS, 0b010]),
            "spectre-v1,spectre-v2,ssb,tsa,srso,vmscape",
            "spectre-v1,ssb",
            ["autoibrs", "ibpb", "none", "verw", "none"],
        ),
        (
            "1Ah, Zen 5",
            amd(0x1a, IBPB | BTC_NO | IBPB_RET | SSB_NO_AMD, [AUTO_IBRS | IBPB_BRTYPE | REDUCE, 0b110]),
            "spectre-v1,spectre-v2,srso,vmscape",
            "spectre-v1",
            ["autoibrs,bp-spec-reduce", "none", "ibpb,rsb", "none", "ibpb"],
        ),
        (
            "1Ah without the bit",
            amd(0x1a, IBPB | BTC_NO | IBPB_RET, [AUTO_IBRS | IBPB_BRTYPE, 0b110]),
            "spectre-v1,spectre-v2,ssb,srso,vmscape",
            "spectre-v1,ssb",
            ["autoibrs", "ibpb", "none", "none", "none"],
        ),
        (
            "one that is not known yet",
            amd(0x1b, IBPB | BTC_NO | IBPB_RET, [AUTO_IBRS | SRSO_NO, 0b110]),
            "spectre-v1,spectre-v2,ssb,vmscape",
            "spectre-v1,ssb",
            ["autoibrs", "none", "ibpb,rsb", "none", "ibpb"],
        ),
    ]
}

/// In the order of their bits, as they are shown.
fn sorted(exposures: &str) -> Vec<&str> {
    let mut all: Vec<_> = exposures.split(',').collect();
    all.sort_unstable();
    all
}

#[test]
fn each_family_gets_what_it_needs() {
    for (name, of, exposed, open, done) in rows() {
        let plan = plan(&of, Mode::Auto);
        assert_eq!(sorted(&plan.exposed.to_string()), sorted(exposed), "{name}: exposed");
        assert_eq!(sorted(&plan.open.to_string()), sorted(open), "{name}: open");
        let [tenant, entry, component] = [plan.tenant, plan.entry, plan.component].map(|set| set.to_string());
        assert_eq!([Setup(plan.setup).to_string(), plan.exit.to_string(), tenant, entry, component], done, "{name}");
        assert!(plan.is_valid() && plan.mode == mode::AUTO, "{name}");
    }
}

#[test]
fn off_is_nothing_and_everything_is_open() {
    for (name, of, exposed, ..) in rows() {
        let plan = plan(&of, Mode::Off);
        assert!(plan.is_valid() && plan.is_none() && plan.setup == 0 && plan.mode == mode::OFF, "{name}");
        assert_eq!((plan.open, sorted(&plan.exposed.to_string())), (plan.exposed, sorted(exposed)), "{name}");
    }
}

#[test]
fn strict_is_all_that_the_processor_has_and_no_less_than_auto() {
    for (name, of, ..) in rows() {
        let (auto, strict) = (plan(&of, Mode::Auto), plan(&of, Mode::Strict));
        assert!(strict.is_valid() && strict.mode == mode::STRICT, "{name}");
        assert_eq!((strict.setup, strict.exposed, strict.open), (auto.setup, auto.exposed, auto.open), "{name}");
        for (strict, auto) in [
            (strict.exit, auto.exit),
            (strict.tenant, auto.tenant),
            (strict.tenant, auto.entry),
            (strict.entry, auto.entry),
            (strict.component, auto.component),
        ] {
            assert!(strict.contains(auto), "{name}: {strict} is less than {auto}");
        }
        // What it does not have would raise #GP.
        let all = strict.exit.with(strict.tenant).with(strict.entry).with(strict.component);
        assert_eq!(all.contains(Barriers::IBPB), of.has_ibpb(), "{name}");
        assert_eq!(all.contains(Barriers::L1D), of.control(28), "{name}");
        assert!(!all.contains(Barriers::IBRS) || of.has_ibrs(), "{name}");
    }
    let strict = plan(&intel(0x1c, 10, 0, 0), Mode::Strict);
    assert_eq!((strict.exit.to_string(), strict.tenant.to_string()), ("rsb,bhb".into(), "rsb".into()));
    let strict = plan(&intel(0x8f, 8, MICROCODE, IBRS_ALL), Mode::Strict);
    assert_eq!(strict.tenant.to_string(), "ibpb,rsb,verw,l1d");
    assert_eq!((strict.entry.to_string(), strict.component.to_string()), ("verw,l1d".into(), "ibpb,rsb".into()));
}

/// No MSR but what CPUID announces.
#[test]
fn nothing_is_done_that_the_processor_does_not_have() {
    for (name, of, ..) in rows() {
        let bare = Identity { controls: 0, amd_extensions: 0, amd_more: [0; 2], capabilities: 0, ..of };
        let plan = plan(&bare, Mode::Auto);
        assert!(plan.is_none() && plan.setup == 0, "{name}");
    }
}

#[test]
fn everything_is_read_from_its_place() {
    let leaves = BTreeMap::from([
        ((0, 0), [7, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
        ((1, 0), [0x0005_0657, 0, 1 << 28, 0]),
        ((7, 0), [2, 1 << 11, 0, MICROCODE | CAPABILITIES]),
        ((7, 2), [0, 0, 0, BHI_CTRL]),
        ((0x8000_0000, 0), [0x8000_0008, 0, 0, 0]),
        ((0x8000_0008, 0), [0, 0x1234, 0, 0]),
        ((0x8000_0021, 0), [9, 9, 9, 9]),
    ]);
    let cpuid = |leaf, subleaf| leaves.get(&(leaf, subleaf)).copied().unwrap_or_default();
    let found = Identity::gather(cpuid, |number| if number == 0x10a { 0x2b } else { panic!("{number:#x}") });
    let expected = Identity {
        features: AVX,
        extended: RTM,
        more_controls: BHI_CTRL,
        amd_extensions: 0x1234,
        ..intel(0x55, 7, MICROCODE, 0x2b)
    };
    assert_eq!(found, expected);

    let zen4 = BTreeMap::from([
        ((0, 0), [0x10, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
        ((1, 0), [0x00a1_0f11, 0, 0, 0]),
        ((7, 0), [1, 0, 0, 0]),
        ((7, 2), [0, 0, 0, 9]),
        ((0x8000_0000, 0), [0x8000_0028, 0, 0, 0]),
        ((0x8000_0008, 0), [0, IBPB, 0, 0]),
        ((0x8000_0021, 0), [AUTO_IBRS, 0, 2, 0]),
    ]);
    let cpuid = |leaf, subleaf| zen4.get(&(leaf, subleaf)).copied().unwrap_or_default();
    let found = Identity::gather(cpuid, |number| panic!("{number:#x} is not there"));
    assert_eq!(found, Identity { model: 0x11, stepping: 1, ..amd(0x19, IBPB, [AUTO_IBRS, 2]) });
    // Before family 0Fh the extended model counts for nothing.
    let found = Identity::gather(|leaf, _| if leaf == 1 { [0x0001_0540, 0, 0, 0] } else { [0; 4] }, |_| 0);
    assert_eq!((found.family, found.model), (5, 4));
    let hygon = |leaf, _| match leaf {
        0 => [1, 0x6f67_7948, 0x656e_6975, 0x6e65_476e],
        1 => [0x0090_0f01, 0, 0, 0],
        _ => [0; 4],
    };
    let found = Identity::gather(hygon, |_| 0);
    assert_eq!((found.make, found.family, found.model), (Make::Amd, 0x18, 0));
}

#[test]
fn the_boot_says_it_in_two_lines() {
    let lines =
        Lines(plan(&intel(0x97, 2, MICROCODE, IBRS_ALL | RDCL_NO | MDS_NO | TAA_NO | PBRSB_NO | BHI_NO), Mode::Auto));
    assert_eq!(
        lines.exposed().to_string(),
        "side channels: exposed to spectre-v1,spectre-v2,ssb,rfds,vmscape; open: spectre-v1,ssb,rfds"
    );
    assert_eq!(
        lines.done().to_string(),
        "barriers auto: always eibrs; at exits none; between tenants ibpb,rsb; at entries none; before components ibpb,rsb"
    );
}
