//! What others ask of the core: guests by exits and hypercalls, components by system calls, the controller by requests,
//! devices by interrupts.

mod control;
mod deliver;
mod exit;
mod hypercall;
mod interrupt;
mod next;
mod syscall;

use next::Next;
