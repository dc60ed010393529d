//! A guest in plain assembly: everything is in `guest.s`, written from docs/virtual-architecture.md alone, with its numbers
//! as literals. No Rust code runs; the language only insists on a panic handler.
#![no_std]
#![no_main]

core::arch::global_asm!(include_str!("guest.s"), options(raw));

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
