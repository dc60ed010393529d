//! From the core's jump to the component's `main`, and what a panic does.

use crate::Component;

/// Code with which a component exits that panicked.
pub const EXIT_PANIC: u64 = 101;

/// Makes `fn main(component: Component) -> !` the entry of a component and gives the image its notes. A program that makes tables
/// ([`Component::tables`]) says what they take, as [`abi::note::TableBytes`], behind the name of its function.
///
/// ```ignore
/// #![no_std]
/// #![no_main]
/// #![deny(unsafe_code)]
///
/// component::main!(main);
///
/// fn main(component: component::Component) -> ! {
///     loop {
///         component::wait(0, u64::MAX, 0);
///     }
/// }
/// ```
#[macro_export]
macro_rules! main {
    ($main:path) => {
        $crate::main!($main, $crate::abi::note::TableBytes::NONE);
    };
    ($main:path, $tables:expr) => {
        // The linker finds entry and note by symbol and section, which Rust calls unsafe attributes.
        #[allow(unsafe_code)]
        const _: () = {
            #[used]
            // SAFETY: the section holds notes only, and this is a whole one.
            #[unsafe(link_section = ".note.foraker")]
            static NOTE: $crate::abi::note::Note = $crate::abi::note::Note::new($crate::abi::note::KIND_COMPONENT);

            #[used]
            // SAFETY: as above.
            #[unsafe(link_section = ".note.foraker")]
            static TABLES: $crate::abi::note::TablesNote = $crate::abi::note::TablesNote::new($tables);

            // SAFETY: nothing else in a component is called `_start`.
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            extern "C" fn _start() -> ! {
                // The core starts here with RSP at the top of the stack, 16-byte aligned: the call makes it what the
                // calling convention expects. A zero frame pointer ends back-traces.
        ::core::arch::naked_asm!("xor ebp, ebp", "call {}", "ud2", sym enter)
            }

            extern "C" fn enter() -> ! {
                // SAFETY: the core has just started this component, with its information page mapped.
                unsafe { $crate::run($main) }
            }
        };
    };
}

/// Called by [`main!`] and nobody else.
///
/// # Safety
///
/// The caller is a component's entry: what `abi::component::layout` describes is mapped.
#[doc(hidden)]
pub unsafe fn run(main: fn(Component) -> !) -> ! {
    crate::logger::install(log::LevelFilter::Debug);
    // SAFETY: passed on to the caller.
    main(unsafe { Component::new() })
}

/// How often a last word is tried while the log has no room, and ticks in between.
#[cfg(target_os = "none")]
const LAST_WORD_TRIES: u32 = 100;
#[cfg(target_os = "none")]
const LAST_WORD_PAUSE: u64 = 2_000_000;

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(panic: &core::panic::PanicInfo<'_>) -> ! {
    use crate::syscall::{Error, exit, now, wait};
    use log::Level;
    for _ in 0..LAST_WORD_TRIES {
        let done = match panic.location() {
            Some(at) => crate::logger::print(
                Level::Error,
                format_args!("panicked at {}:{}: {}", at.file(), at.line(), panic.message()),
            ),
            None => crate::logger::print(Level::Error, format_args!("panicked: {}", panic.message())),
        };
        if done != Err(Error::Busy) {
            break;
        }
        wait(0, now().saturating_add(LAST_WORD_PAUSE), 0);
    }
    exit(EXIT_PANIC)
}
