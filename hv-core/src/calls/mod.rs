//! What others ask of the core: guests by exits and hypercalls, components by system calls, devices by interrupts.

mod deliver;
mod exit;
mod hypercall;
mod interrupt;
mod next;
mod syscall;

use next::Next;
