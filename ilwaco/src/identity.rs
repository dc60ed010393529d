//! Who this VM is can change: a clone wakes up as another one, a VM that moved has another clock. Whatever was built on the
//! old identity is dropped before any task runs again.

use crate::args::Args;
use crate::{clock, net, registers};

/// Takes note if the identity has changed.
#[inline]
pub(crate) fn look() {
    if registers::take_identity() {
        changed();
    }
}

/// Becomes whoever the register page says. Connections are gone without a word, which could only come from the wrong address;
/// secrets and generators are seeded anew; time goes on without a jump, by the new clock.
#[cold]
#[inline(never)]
fn changed() {
    clock::change();
    net::change(&Args::of_this_vm());
    log::info!("another identity: this is {} now", registers::vm_id());
}
