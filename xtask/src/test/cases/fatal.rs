//! Boots that must not succeed: each ends in a message with code, cause and remedy. Guest images that must not run: each is
//! refused, and the other VMs run.

use super::elf::{self, Segment};
use super::ensure;
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::manifest::model::Tenant;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab};
use zerocopy::IntoBytes;

/// A processor with everything, for tests that take something away.
const GENERIC: &str = "level=6, mmx=1, apic=x2apic, simd=avx2, sse4a=0, xsave=1, xsaveopt=1, bmi=bmi2, fsgsbase=1, pcid=1, smep=1, 1g_pages=1, x86_64=1";

pub const CASES: &[Case] = &[
    Case { name: "fatal: no long mode", asserts: "a 32-bit processor is refused", run: no_long_mode },
    Case {
        name: "fatal: no virtualization",
        asserts: "a processor with neither VT-x nor SVM is refused",
        run: no_virtualization,
    },
    Case {
        name: "fatal: no EPT",
        asserts: "VT-x without nested paging is refused, and the control named",
        run: no_ept,
    },
    Case {
        name: "fatal: CPU feature",
        asserts: "a processor that lacks a feature is refused and the feature named",
        run: no_feature,
    },
    Case { name: "fatal: little memory", asserts: "a machine with 32 MiB is refused", run: little_memory },
    Case { name: "fatal: no manifest", asserts: "a boot without manifest is refused", run: no_manifest },
    Case { name: "fatal: garbage manifest", asserts: "a manifest that is none is refused", run: garbage_manifest },
    Case {
        name: "fatal: damaged manifest",
        asserts: "a manifest with one flipped bit is refused",
        run: damaged_manifest,
    },
    Case { name: "fatal: truncated manifest", asserts: "half a manifest is refused", run: truncated_manifest },
    Case {
        name: "fatal: missing module",
        asserts: "a component whose module is missing is refused and named",
        run: missing_module,
    },
    Case {
        name: "fatal: missing core",
        asserts: "a boot without the core for this processor is refused, and the core named",
        run: missing_core,
    },
    Case {
        name: "fatal: foreign core",
        asserts: "the other processor's core in the place of this one's is refused",
        run: foreign_core,
    },
    Case {
        name: "fatal: damaged module",
        asserts: "a flipped bit in the core, a component, a policy or an image is found, and the module named",
        run: damaged_module,
    },
    Case {
        name: "fatal: garbage module",
        asserts: "a component that is no program is refused and named",
        run: garbage_module,
    },
    Case { name: "fatal: foreign module", asserts: "a guest in a component's place is refused", run: foreign_module },
    Case {
        name: "fatal: unknown option",
        asserts: "an unknown boot option is refused with the known ones",
        run: unknown_option,
    },
    Case {
        name: "fatal: unknown image",
        asserts: "an unknown image is refused with the known ones",
        run: unknown_image,
    },
    Case {
        name: "fatal: quota",
        asserts: "more VMs of a tenant, or VMs that may hold more memory, than its quota allows are refused with both numbers, from the options and from the module",
        run: quota,
    },
    Case {
        name: "fatal: unknown policy",
        asserts: "an unknown policy is refused with the known ones",
        run: unknown_policy,
    },
    Case { name: "fatal: bad value", asserts: "a value that makes no sense is refused", run: bad_value },
    Case {
        name: "bad image: no ELF",
        asserts: "a guest image that is not ELF is refused and named",
        run: image_not_elf,
    },
    Case { name: "bad image: too big", asserts: "a guest image beyond its VM's memory is refused", run: image_too_big },
    Case {
        name: "bad image: overlaps",
        asserts: "a guest image with overlapping segments is refused",
        run: image_overlaps,
    },
    Case {
        name: "bad image: W+X",
        asserts: "a guest image with a writable and executable segment is refused",
        run: image_wx,
    },
    Case {
        name: "bad image: ABI 1",
        asserts: "a guest image that was built for ABI 1 is refused, and both versions are named",
        run: image_of_abi_1,
    },
    Case {
        name: "bad image: cut short",
        asserts: "a guest image that ends within a segment is refused",
        run: image_cut,
    },
    Case {
        name: "fatal: no unrestricted guest",
        asserts: "VT-x without unrestricted guest is refused",
        run: no_unrestricted_guest,
    },
    Case { name: "fatal: no SVM", asserts: "an AMD processor without SVM is refused", run: no_svm },
    Case { name: "fatal: no nested paging", asserts: "SVM without nested paging is refused", run: no_nested_paging },
    Case { name: "fatal: no NIC", asserts: "a machine without the device of a component is refused", run: no_nic },
];

/// Each message has a cause, then behind a dash what to do; and it holds all of `words`.
fn says(line: &str, words: &[&str]) -> Result<()> {
    let remedy = line.split_once(" — ").map(|(_, remedy)| remedy.trim()).unwrap_or_default();
    ensure(!remedy.is_empty(), || format!("no remedy in: {line}"))?;
    match words.iter().find(|word| !line.contains(*word)) {
        Some(word) => fail!("\"{word}\" is not in: {line}"),
        None => Ok(()),
    }
}

fn no_long_mode(lab: &Lab) -> Result<()> {
    // Said by code that runs before the options are read, so the machine halts.
    let running = lab.boot("").cpu("p3_katmai").start()?;
    running.wait_for("FATAL F001: ", BOOT).map(|_| ())
}

fn no_virtualization(lab: &Lab) -> Result<()> {
    says(&lab.boot("").cpuid(&format!("{GENERIC}, vmx=0")).fails_with("F010")?, &["VT-x", "SVM"])
}

fn no_unrestricted_guest(lab: &Lab) -> Result<()> {
    says(&lab.boot("").cpu("corei5_lynnfield_750").fails_with("F013")?, &["unrestricted guest (bit 7)"])
}

fn no_svm(lab: &Lab) -> Result<()> {
    says(&lab.boot("").cpu("EPYC,-svm").fails_with("F010")?, &["VT-x", "SVM"])
}

fn no_nested_paging(lab: &Lab) -> Result<()> {
    says(&lab.boot("").cpu("EPYC,-npt").fails_with("F026")?, &["nested paging"])
}

fn no_ept(lab: &Lab) -> Result<()> {
    says(&lab.boot("").cpuid(&format!("{GENERIC}, vmx=1")).fails_with("F012")?, &["EPT (bit 1)"])
}

fn no_feature(lab: &Lab) -> Result<()> {
    says(&lab.boot("").cpu("corei7_sandy_bridge_2600k").fails_with("F009")?, &["1 GiB pages"])
}

fn little_memory(lab: &Lab) -> Result<()> {
    says(&lab.boot("").megs(32).fails_with("F004")?, &["MiB"])
}

fn no_manifest(lab: &Lab) -> Result<()> {
    says(&lab.boot("").without_module("manifest").fails_with("F015")?, &["'manifest'"])
}

fn garbage_manifest(lab: &Lab) -> Result<()> {
    let garbage = b"This is not the manifest that you are looking for.".repeat(40);
    says(&lab.boot("").module("manifest", garbage).fails_with("F016")?, &["not a Foraker manifest"])
}

fn damaged_manifest(lab: &Lab) -> Result<()> {
    let mut bytes = lab.module("manifest")?;
    let last = bytes.len() - 100;
    bytes[last] ^= 0x10;
    says(&lab.boot("").module("manifest", bytes).fails_with("F016")?, &["checksum"])
}

fn truncated_manifest(lab: &Lab) -> Result<()> {
    let mut bytes = lab.module("manifest")?;
    bytes.truncate(bytes.len() / 2);
    says(&lab.boot("").module("manifest", bytes).fails_with("F016")?, &["truncated"])
}

fn missing_module(lab: &Lab) -> Result<()> {
    says(&lab.boot("").without_module("sched-fair").fails_with("F017")?, &["sched-fair"])
}

/// The cores for this lab's processors and for the others.
fn cores(lab: &Lab) -> [&'static str; 2] {
    if lab.kind() == Kind::Bochs { ["core-vmx", "core-svm"] } else { ["core-svm", "core-vmx"] }
}

fn missing_core(lab: &Lab) -> Result<()> {
    let [own, other] = cores(lab);
    says(&lab.boot("").without_module(own).fails_with("F017")?, &[own])?;
    // Nobody misses the other one.
    let running = lab.boot("vms=httpd").without_module(other).start()?;
    running.wait_for("httpd: serving", BOOT).map(|_| ())
}

fn foreign_core(lab: &Lab) -> Result<()> {
    let [own, other] = cores(lab);
    let module = lab.module(other)?;
    says(&lab.boot("").module(own, module).fails_with("F018")?, &[own, "another kind"])
}

fn damaged_module(lab: &Lab) -> Result<()> {
    let [core, _] = cores(lab);
    for module in [core, "netmux"] {
        says(&lab.boot("").damaged(module).fails_with("F029")?, &[module, "content"])?;
    }
    // What is not needed is refused, and the rest go on.
    let running = lab.boot("vms=asm-guest,httpd").damaged("sched-stride").damaged("httpd").start()?;
    running.wait_for("policy stride cannot be chosen: its module 'sched-stride' is refused: its content", BOOT)?;
    running.wait_for("image httpd: its module is refused: its content", BOOT)?;
    running.wait_for("checks passed", BOOT)?;
    running.must_not_say(0, "FATAL")
}

fn garbage_module(lab: &Lab) -> Result<()> {
    says(&lab.boot("").module("netmux", vec![0x90; 10_000]).fails_with("F018")?, &["netmux", "not an ELF file"])
}

fn foreign_module(lab: &Lab) -> Result<()> {
    let guest = lab.module("asm-guest")?;
    says(&lab.boot("").module("pager-sieve", guest).fails_with("F018")?, &["pager-sieve"])
}

fn unknown_option(lab: &Lab) -> Result<()> {
    let line = lab.boot("colour=red").fails_with("F019")?;
    says(&line, &["'colour=red'", "vms", "quantum", "net", "log", "sched", "pager"])
}

fn unknown_image(lab: &Lab) -> Result<()> {
    let line = lab.boot("vms=httpd,apache").fails_with("F019")?;
    says(&line, &["'apache'", "httpd", "hostile", "asm-guest"])
}

fn quota(lab: &Lab) -> Result<()> {
    let boot = |options: &str, key, value| {
        lab.boot(options).system(|system| {
            system.tenant.push(Tenant::new("blue", &[(key, value)]));
            system
                .image
                .iter_mut()
                .filter(|image| image.name == "httpd")
                .for_each(|image| image.tenant = Some("blue".into()));
        })
    };
    let line = boot("vms=httpd*2,asm-guest,httpd", "vms", "2").fails_with("F019")?;
    says(&line, &["asks for 3 VMs of the tenant blue, whose quota is 2", "[[tenant]]"])?;
    let line = boot("log=info", "memory", "16M").module("vms", b"httpd*5\n".to_vec()).fails_with("F019")?;
    says(&line, &["of the tenant blue that may hold ", "and its quota is 16384KiB"])
}

fn unknown_policy(lab: &Lab) -> Result<()> {
    says(&lab.boot("sched=justice").fails_with("F019")?, &["'sched=justice'", "fair, round-robin, stride, lottery"])
}

fn bad_value(lab: &Lab) -> Result<()> {
    says(&lab.boot("quantum=soon").fails_with("F019")?, &["'quantum=soon'", "quantum=10ms"])?;
    says(&lab.boot("vms=httpd*none").fails_with("F019")?, &["'none'"])
}

/// Boots with the image `httpd` replaced by `bytes`: it is refused and named, and the VM of another image runs.
fn bad_image(lab: &Lab, bytes: Vec<u8>, words: &[&str]) -> Result<()> {
    let running = lab.boot("vms=httpd,asm-guest").module("httpd", bytes).start()?;
    let line = running.wait_for("image httpd: its module is refused: ", BOOT)?;
    if let Some(word) = words.iter().find(|word| !line.contains(*word)) {
        fail!("\"{word}\" is not in: {line}");
    }
    running.wait_for("1 VMs of image 0 are not created", BOOT)?;
    running.wait_for("checks passed", BOOT)?;
    running.must_not_say(0, "FATAL")
}

/// Boots with an image `httpd` whose loadable segments `change` has changed.
fn changed_image(lab: &Lab, change: impl FnOnce(&mut Vec<Segment>), words: &[&str]) -> Result<()> {
    let mut bytes = lab.module("httpd")?;
    elf::change_segments(&mut bytes, change)?;
    bad_image(lab, bytes, words)
}

fn image_not_elf(lab: &Lab) -> Result<()> {
    bad_image(lab, b"#!/bin/sh\necho hello\n".to_vec(), &["not an ELF file"])
}

fn image_too_big(lab: &Lab) -> Result<()> {
    let grow = |segments: &mut Vec<Segment>| {
        if let Some(last) = segments.last_mut() {
            last.memory_bytes = 1 << 30;
        }
    };
    changed_image(lab, grow, &["outside the memory"])
}

fn image_overlaps(lab: &Lab) -> Result<()> {
    changed_image(lab, |segments| segments[1].address = segments[0].address, &["overlaps"])
}

fn image_wx(lab: &Lab) -> Result<()> {
    changed_image(
        lab,
        |segments| segments[0].flags = elf::READ | elf::WRITE | elf::EXECUTE,
        &["writable and executable"],
    )
}

fn image_of_abi_1(lab: &Lab) -> Result<()> {
    let mut bytes = lab.module("httpd")?;
    let note = abi::note::Note::new(abi::note::KIND_GUEST);
    let Some(at) = bytes.windows(size_of_val(&note)).position(|bytes| bytes == note.as_bytes()) else {
        fail!("the image has no note");
    };
    let old = abi::note::Note { abi_version: 1, ..note };
    bytes[at..at + size_of_val(&old)].copy_from_slice(old.as_bytes());
    bad_image(lab, bytes, &["it was built for ABI version 1, this core has version 2"])
}

fn image_cut(lab: &Lab) -> Result<()> {
    let mut bytes = lab.module("httpd")?;
    bytes.truncate(bytes.len() / 3);
    bad_image(lab, bytes, &["ends before"])
}

fn no_nic(lab: &Lab) -> Result<()> {
    says(&lab.boot("").without_net().fails_with("F022")?, &["netmux"])
}
