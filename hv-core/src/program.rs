//! What makes a package the program of the core for one kind of processor.

/// Makes the core's program that begins with this function (`start_vmx` or `start_svm`): entry, note of this kind ([`abi::note`]), the linker script's symbols
/// and the panic handler.
#[macro_export]
macro_rules! main {
    ($start:path, $kind:expr) => {
        use core::panic::PanicInfo;
        use $crate::CoreImage;

        core::arch::global_asm!(include_str!("../../hv-core/src/entry.s"));

        // SAFETY: the section holds notes only, and this is a whole one.
        #[unsafe(link_section = ".note.foraker")]
        #[used]
        static NOTE: abi::note::Note = abi::note::Note::new($kind | $crate::HOOKS);

        unsafe extern "C" {
            static __text_start: u8;
            static __text_end: u8;
            static __rodata_end: u8;
            static __stack_guard: u8;
            static __end: u8;
        }

        /// Where entry.s goes: what the loader left in RDI.
        #[unsafe(no_mangle)]
        extern "C" fn core_main(record: u64) -> ! {
            let image = CoreImage {
                physical: 0,
                text_start: (&raw const __text_start).addr() as u64,
                text_end: (&raw const __text_end).addr() as u64,
                rodata_end: (&raw const __rodata_end).addr() as u64,
                stack_guard: (&raw const __stack_guard).addr() as u64,
                end: (&raw const __end).addr() as u64,
            };
            $start(record, image)
        }

        #[panic_handler]
        fn panic(info: &PanicInfo<'_>) -> ! {
            $crate::panicked(info)
        }
    };
}
