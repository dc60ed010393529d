//! The bootable loader: entry from GRUB, the linker script's symbols, and the panic handler. The rest is the library.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare {
    use core::panic::PanicInfo;
    use loader::LoaderImage;

    core::arch::global_asm!(include_str!("entry.s"));

    unsafe extern "C" {
        static __load_start: u8;
        static __end: u8;
    }

    /// Where entry.s goes: what GRUB left in EAX and EBX.
    #[unsafe(no_mangle)]
    extern "C" fn boot_main(magic: u32, information: u32) -> ! {
        let start = (&raw const __load_start).addr() as u64;
        let end = (&raw const __end).addr() as u64;
        loader::start(magic, information, LoaderImage { start, end })
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        loader::panicked(info)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("the loader runs on the bare machine only: cargo xtask run");
}
