//! VMs that go on from the state of a processor of another maker.

use super::ensure;
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::test::Case;
use crate::test::lab::{BOOT, Boot, Lab, Running};
use abi::vcpu::{General, Level, VcpuState};
use std::fmt::Write;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    Case {
        name: "state: from VT-x to SVM",
        asserts: "a state of general registers, x87, SSE and AVX that was written on Bochs is read on QEMU, where the guest goes on",
        run: to_svm,
    },
    Case { name: "state: from SVM to VT-x", asserts: "the same the other way", run: to_vtx },
    Case {
        name: "state: refused",
        asserts: "what is no state, or one of a level that the processor does not have, is refused with words",
        run: refused,
    },
];

/// Bytes on a line to the monitor.
const LINE: usize = 400;

/// A machine with the guest in assembly, which does this with its state.
fn guest<'l>(lab: &'l Lab, does: &'static str, svm: bool) -> Boot<'l> {
    let boot = lab.boot("vms=asm-guest").system(move |system| {
        for image in system.image.iter_mut().filter(|image| image.name == "asm-guest") {
            image.args = format!("state={does}");
        }
    });
    if svm { boot.qemu_with("e1000") } else { boot }
}

/// The state of the VM in slot 0, as the operator's line shows it.
fn read(running: &Running) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for line in running.monitor("state 0")? {
        let (_, hex) = line.split_once(" bytes=").ok_or_else(|| format!("no bytes in: {line}"))?;
        ensure(line.starts_with(&format!("state index=0 at={} ", bytes.len())), || line.clone())?;
        for pair in hex.as_bytes().chunks(2) {
            let pair = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
            bytes.push(pair.ok_or_else(|| format!("not hexadecimal: {line}"))?);
        }
    }
    Ok(bytes)
}

/// Lets the VM in slot 0 go on from these bytes.
fn write(running: &Running, bytes: &[u8]) -> Result<()> {
    for (index, piece) in bytes.chunks(LINE).enumerate() {
        let mut line = format!("load {} ", index * LINE);
        for byte in piece {
            // Into memory.
            let _ = write!(line, "{byte:02x}");
        }
        running.monitor(&line)?;
    }
    running.monitor("restore 0").map(|_| ())
}

/// The state of a guest that holds, with the level that its machine's AVX makes it.
fn held(lab: &Lab, svm: bool) -> Result<VcpuState> {
    let running = guest(lab, "hold", svm).start()?;
    running.wait_for("asm-guest: holds", BOOT)?;
    running.wait_for_monitor()?;
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let bytes = read(&running)?;
        let state = VcpuState::from_bytes(&bytes).map_err(|why| format!("{} bytes: {why:?}", bytes.len()))?;
        // Until it has put something into the last one.
        if state.general.r15 == 0x1515_5a5a_5a5a_1515 {
            running.power_off()?;
            return Ok(state);
        }
        ensure(Instant::now() < end, || format!("it has not come to hold: {:x?}", state.general))?;
    }
}

/// What a guest that holds has, field by field, as far as all machines have it.
fn is_as_put(state: &VcpuState, level: Level) -> Result<()> {
    let general = state.general;
    let found = [general.rdi, general.rbx, general.rdx, general.rbp, general.r8, general.r14];
    let put = [0x0505, 0x0202, 0x0303, 0x0606, 0x0808, 0x1414].map(|n: u64| n << 48 | 0x5a5a_5a5a << 16 | n);
    ensure(found == put && general.rax == 0, || format!("{general:x?}"))?;
    ensure(state.level == level.raw(), || format!("level {} instead of {level:?}", state.level))?;
    ensure(state.rflags == 0xad7, || format!("rflags {:#x}", state.rflags))?;
    ensure(state.cr2 == 0x4444_2222_2222 && state.cr3 == 0x2000, || format!("{:#x} {:#x}", state.cr2, state.cr3))?;
    let bases = [state.fs_base, state.gs_base, state.kernel_gs_base];
    let some = [0x1111_f5f5_f5f5, 0x2222_6565_6565, 0x3333_7878_7878];
    ensure(bases == some || (bases == [0; 3] && general.r12 & 1 == 0), || format!("{bases:x?}"))?;
    // 1.0, log2 e and pi were pushed, the first of them last.
    let x87 = state.x87;
    ensure((x87.control, x87.status >> 11 & 7, x87.tags) == (0x27f, 5, 0xe0), || format!("{x87:x?}"))?;
    ensure(x87.registers[0] == [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f], || format!("{x87:x?}"))?;
    ensure(state.mxcsr == 0xdfa0, || format!("mxcsr {:#x}", state.mxcsr))?;
    for (number, xmm) in (1_u64..).zip(state.xmm) {
        let low = number * 0x0001_0003_0005_0007;
        let pattern = [low, low.rotate_left(32)];
        ensure(xmm == pattern, || format!("xmm{}: {xmm:x?} instead of {pattern:x?}", number - 1))?;
    }
    let high = if level == Level::Base { [[0; 2]; 16] } else { state.xmm };
    ensure(state.ymm_high == high, || format!("{:x?}", state.ymm_high))
}

fn moves(lab: &Lab, from_svm: bool) -> Result<()> {
    let state = held(lab, from_svm)?;
    is_as_put(&state, Level::Avx)?;
    let running = guest(lab, "await", !from_svm).start()?;
    running.wait_for("asm-guest: awaits", BOOT)?;
    running.wait_for_monitor()?;
    write(&running, state.to_bytes())?;
    running.wait_for("asm-guest: goes on from a state, all as it was", Duration::from_secs(20))?;
    let end = running.wait_for("vm0.1 ended: ", Duration::from_secs(20))?;
    ensure(end.contains("0x2b"), || format!("it did not end with code 43: {end}"))?;
    running.power_off()
}

fn to_svm(lab: &Lab) -> Result<()> {
    moves(lab, false)
}

fn to_vtx(lab: &Lab) -> Result<()> {
    moves(lab, true)
}

fn refused(lab: &Lab) -> Result<()> {
    let running = guest(lab, "hold", lab.kind() == Kind::Qemu).start()?;
    running.wait_for("asm-guest: holds", BOOT)?;
    running.wait_for_monitor()?;
    let good = VcpuState::from_bytes(&read(&running)?).map_err(|why| format!("no state: {why:?}"))?;
    let avx512 = VcpuState { level: Level::Avx512.raw(), opmask: [1; 8], ..good };
    let nowhere = VcpuState { rip: 1 << 47, ..good };
    let mxcsr = VcpuState { mxcsr: u32::MAX, ..good };
    let mut bad = vec![nowhere.to_bytes().to_vec(), mxcsr.to_bytes().to_vec(), good.to_bytes()[..100].to_vec()];
    if lab.kind() == Kind::Qemu {
        bad.push(avx512.to_bytes().to_vec());
    }
    for bytes in bad {
        match write(&running, &bytes) {
            Ok(()) => fail!("a bad state of {} bytes is taken", bytes.len()),
            Err(error) => {
                let error = error.to_string();
                ensure(error.contains("what was loaded is no state, or one that this processor"), || error.clone())?;
            }
        }
    }
    // Its own is taken, and it holds on.
    write(&running, good.to_bytes())?;
    let again = VcpuState::from_bytes(&read(&running)?).map_err(|why| format!("no state: {why:?}"))?;
    // It has gone around its loop once more.
    let same = VcpuState { tsc: again.tsc, general: General { rcx: 0, ..good.general }, ..good };
    ensure(again == same, || format!("{again:x?} instead of {same:x?}"))?;
    running.must_not_say(0, "ended: ")?;
    running.power_off()
}
