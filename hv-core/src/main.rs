//! The bootable core: entry from GRUB, the linker script's symbols, and the panic handler. The rest is `hv_core`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare {
    use core::panic::PanicInfo;
    use hv_core::CoreImage;

    core::arch::global_asm!(include_str!("boot/entry.s"));

    unsafe extern "C" {
        static __load_start: u8;
        static __text_start: u8;
        static __text_end: u8;
        static __rodata_end: u8;
        static __stack_guard: u8;
        static __end: u8;
    }

    /// Where entry.s goes: what GRUB left in EAX and EBX.
    #[unsafe(no_mangle)]
    extern "C" fn boot_main(magic: u32, information: u32) -> ! {
        let image = CoreImage {
            load_start: (&raw const __load_start).addr() as u64,
            text_start: (&raw const __text_start).addr() as u64,
            text_end: (&raw const __text_end).addr() as u64,
            rodata_end: (&raw const __rodata_end).addr() as u64,
            stack_guard: (&raw const __stack_guard).addr() as u64,
            end: (&raw const __end).addr() as u64,
        };
        hv_core::start(magic, information, image)
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        hv_core::panicked(info)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("the core runs on the bare machine only: cargo xtask run");
}
