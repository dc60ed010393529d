//! What a VM leaves in registers, and what another finds there.

use super::{Deed, Escape};
use crate::catch::{Act, attempt};
use crate::machine::{PAGE, hypercall, memory_bytes, offset, peek8, peek16, peek32, peek64, poke64, scratch, tsc};
use crate::{escaped, register};
use abi::guest::hypercall as number;
use core::arch::naked_asm;

/// How the crime of this name is committed.
pub fn deed(name: &str) -> Option<Deed> {
    Some(match name {
        "leave-state" => Deed::Forever(leave_state),
        "find-state" => Deed::Check(find_state),
        _ => return None,
    })
}

/// XCR0, to RDI.
#[unsafe(naked)]
unsafe extern "sysv64" fn read_xcr0(_: u64) {
    naked_asm!("xor ecx, ecx", "xgetbv", "mov [rdi], eax", "mov [rdi + 4], edx", "ret")
}

/// x87 and SSE state, to RDI: 512 bytes (SDM vol. 1, table 10-2).
#[unsafe(naked)]
unsafe extern "sysv64" fn store_legacy(_: u64) {
    naked_asm!("fxsave64 [rdi]", "ret")
}

/// YMM0 to YMM15, to RDI: 512 bytes.
#[unsafe(naked)]
unsafe extern "sysv64" fn store_ymm(_: u64) {
    naked_asm!(
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "vmovups [rdi + 32 * \\n], ymm\\n",
        ".endr",
        "ret"
    )
}

/// ZMM0 to ZMM31, then the opmasks, to RDI: 2,112 bytes.
#[unsafe(naked)]
unsafe extern "sysv64" fn store_zmm(_: u64) {
    naked_asm!(
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
        "vmovups [rdi + 64 * \\n], zmm\\n",
        ".endr",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
        "kmovw eax, k\\n",
        "mov [rdi + 2048 + 8 * \\n], rax",
        ".endr",
        "ret"
    )
}

/// CR2, to RDI.
#[unsafe(naked)]
unsafe extern "sysv64" fn store_cr2(_: u64) {
    naked_asm!("mov rax, cr2", "mov [rdi], rax", "ret")
}

/// FS base, GS base and the one that SWAPGS brings, to RDI.
#[unsafe(naked)]
unsafe extern "sysv64" fn store_bases(_: u64) {
    naked_asm!(
        "rdfsbase rax",
        "mov [rdi], rax",
        "rdgsbase rax",
        "mov [rdi + 8], rax",
        "swapgs",
        "rdgsbase rax",
        "mov [rdi + 16], rax",
        "swapgs",
        "ret"
    )
}

/// The pattern RDI into x87, MMX, XMM and CR2.
#[unsafe(naked)]
unsafe extern "sysv64" fn fill_legacy(_: u64) {
    naked_asm!(
        "fninit",
        ".rept 8",
        "fldpi",
        ".endr",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movq xmm\\n, rdi",
        "punpcklqdq xmm\\n, xmm\\n",
        ".endr",
        "mov cr2, rdi",
        "ret"
    )
}

/// The pattern in XMM0 into the rest of YMM.
#[unsafe(naked)]
unsafe extern "sysv64" fn fill_ymm(_: u64) {
    naked_asm!(
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "vinsertf128 ymm\\n, ymm\\n, xmm0, 1",
        ".endr",
        "ret"
    )
}

/// The pattern RDI into all of ZMM, and into the opmasks.
#[unsafe(naked)]
unsafe extern "sysv64" fn fill_zmm(_: u64) {
    naked_asm!(
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
        "vpbroadcastq zmm\\n, rdi",
        ".endr",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
        "kmovw k\\n, edi",
        ".endr",
        "ret"
    )
}

/// The pattern RDI, cut to an address, into FS base and both GS bases.
#[unsafe(naked)]
unsafe extern "sysv64" fn fill_bases(_: u64) {
    naked_asm!("shr rdi, 20", "wrfsbase rdi", "wrgsbase rdi", "swapgs", "inc rdi", "wrgsbase rdi", "ret")
}

/// What the processor has: AVX, AVX-512.
fn features() -> (bool, bool) {
    let place = scratch(0);
    if attempt(read_xcr0, place).is_some() {
        return (false, false);
    }
    let xcr0 = peek32(place);
    (xcr0 & 6 == 6, xcr0 & 0xe6 == 0xe6)
}

/// Stores all state into scratch pages 2 (legacy, bases, CR2), 3 (YMM) and 4 (ZMM). Returns the bytes that are in use of each.
fn store() -> Result<[(u64, u64); 4], Escape> {
    let take = |act: Act, place: u64| attempt(act, place).is_none();
    let (avx, avx512) = features();
    let legacy = scratch(2);
    Escape::unless(take(store_legacy, legacy), "FXSAVE faults", 0)?;
    Escape::unless(take(store_cr2, legacy + 1024), "reading CR2 faults", 0)?;
    // A processor without these instructions has nothing there that a guest could set.
    let bases = take(store_bases, legacy + 2048);
    Escape::unless(!avx || take(store_ymm, scratch(3)), "reading YMM faults", 0)?;
    Escape::unless(!avx512 || take(store_zmm, scratch(4)), "reading ZMM faults", 0)?;
    Ok([
        // The last 96 bytes of an FXSAVE area are the software's, and the instruction leaves them alone.
        (legacy, 416),
        (legacy + 2048, if bases { 24 } else { 0 }),
        (scratch(3), if avx { 512 } else { 0 }),
        (scratch(4), if avx512 { 2112 } else { 0 }),
    ])
}

/// All is as the virtual architecture says that it is at the start.
fn find_state() -> Result<(), Escape> {
    let areas = store()?;
    let (legacy, _) = areas[0];
    Escape::unless(peek16(legacy) == 0x37f, "the x87 control word is", peek16(legacy).into())?;
    Escape::unless(peek16(legacy + 2) == 0, "the x87 status word is", peek16(legacy + 2).into())?;
    Escape::unless(peek8(legacy + 4) == 0, "the x87 tags are", peek8(legacy + 4).into())?;
    Escape::unless(peek32(legacy + 24) == 0x1f80, "MXCSR is", peek32(legacy + 24).into())?;
    let zero = |from: u64, to: u64, what: &'static str| {
        (from..to).step_by(8).try_for_each(|at| Escape::unless(peek64(at) == 0, what, peek64(at)))
    };
    zero(legacy + 8, legacy + 24, "the x87 instruction or data pointer is")?;
    zero(legacy + 32, legacy + 416, "an x87 or XMM register holds")?;
    zero(legacy + 1024, legacy + 1032, "CR2 is")?;
    for ((from, bytes), what) in
        areas[1..].iter().zip(["a segment base is", "a YMM register holds", "a ZMM register holds"])
    {
        zero(*from, from + bytes, what)?;
    }
    Ok(())
}

/// A number that says something about all state.
fn digest(areas: [(u64, u64); 4]) -> u64 {
    let words = areas.into_iter().flat_map(|(from, bytes)| (from..from + bytes).step_by(8));
    words
        .chain([scratch(2) + 1024])
        .fold(0, |digest: u64, at| digest.rotate_left(7) ^ peek64(at).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn leave_state() -> ! {
    let pattern = 0x5ec2_e75e_0000_0000 | peek64(register!(vm_id)) & 0xffff_ffff;
    let mut address = 8 << 20;
    while address < memory_bytes() {
        // SAFETY: Ilwaco's heap ends far below.
        unsafe { poke64(address, pattern) };
        address += PAGE * 16;
    }
    let (avx, avx512) = features();
    attempt(fill_legacy, pattern);
    attempt(fill_bases, pattern);
    if avx {
        attempt(fill_ymm, pattern);
    }
    if avx512 {
        attempt(fill_zmm, pattern);
    }
    let expected = store().map(digest);
    if !matches!(expected, Ok(digest) if digest != 0) {
        escaped(expected.err().unwrap_or(Escape { what: "the state cannot be filled", value: 0 }));
    }
    let pause = peek64(register!(tsc_hz)) / 1_000;
    let mut rounds = 0_u64;
    loop {
        hypercall(number::IDLE, if rounds.is_multiple_of(2) { 0 } else { tsc() + pause }, offset(0));
        let found = store().map(digest);
        if found != expected {
            escaped(found.err().unwrap_or(Escape { what: "its state was changed, after rounds", value: rounds }));
        }
        rounds += 1;
    }
}
