//! What the operator is told when the core refuses something.

use crate::command::Command;
use crate::host::Host;
use abi::control::{ControlRequest, status};
use abi::limits::LIVE_TENANTS;

/// Prints why `request`, which `command` needs, was answered with this status, and what to do.
pub(crate) fn say(command: Command, request: ControlRequest, status: u32, host: &mut impl Host) {
    let word = command.word();
    match (status, command) {
        (status::NO_MODULE, Command::Policy(_, policy)) => host.print(format_args!(
            "error {word}: the module of {policy} was not loaded at boot; add it to the boot entry"
        )),
        (status::BAD_MODULE, Command::Policy(_, policy)) => host.print(format_args!(
            "error {word}: the module of {policy} was refused at boot, the log says why; rebuild it"
        )),
        (status::BUSY, Command::Policy(..)) => host
            .print(format_args!("error {word}: another policy is just being replaced; try again")),
        (
            status::NOT_FOUND,
            Command::Vm(n)
            | Command::Destroy(n)
            | Command::Shutdown(n)
            | Command::Identity(n, _)
            | Command::State(n)
            | Command::Restore(n),
        ) => {
            host.print(format_args!("error {word}: no VM in slot {n}; \"vms\" lists them"));
        }
        (status::NOT_FOUND, Command::Frame(address)) => host.print(format_args!(
            "error {word}: no memory is known at {address:#x}; \"frames\" shows whose all frames are"
        )),
        (status::BUSY, Command::Restore(_)) => host.print(format_args!(
            "error {word}: it waits for a page; try again in a moment"
        )),
        (status::BAD_REQUEST, Command::Restore(_)) => host.print(format_args!(
            "error {word}: what was loaded is no state, or one that this processor cannot have; load all that \"state\" showed, from 0 on"
        )),
        (status::BAD_CLAIM, _) => host.print(format_args!(
            "error {word}: its reserve is beyond its limit, of which one is the image's; say both, as in reserve=96KiB limit=1MiB"
        )),
        (status::NOT_FOUND, _) => {
            host.print(format_args!("error {word}: it is gone meanwhile; look again"));
        }
        (status::TENANTS_TAKEN, _) => host.print(format_args!(
            "error {word}: {LIVE_TENANTS} tenants have VMs or quotas, and this is another one; end the VMs of one and take its quota away, or name one that is there: \"tenants\" lists them"
        )),
        (status::NO_SPACE, _) => host.print(format_args!(
            "error {word}: no free VM slot or not enough frames; destroy a VM first, \"frames\" shows what is free"
        )),
        (status::NOT_ADMITTED, _) => host.print(format_args!(
            "error {word}: it is out or waits for admission, so it has not been anybody yet; try again when it runs"
        )),
        (status::NO_ARGUMENTS, _) => host.print(format_args!(
            "error {word}: no room for its boot arguments beside those of all VMs that wait for admission; wait until some are admitted"
        )),
        (status::NO_ADDRESS, _) => host.print(format_args!(
            "error {word}: VMs of this image start with the first packet, and this one has no address; boot with net=ADDRESS/PREFIX or start=now"
        )),
        (status::MOVED, _) => host.print(format_args!(
            "error {word}: others come and go, and take its slot each time; try again"
        )),
        (status::BUSY, _) => host.print(format_args!(
            "error {word}: a component has still to hear of VMs that came and went before; try again in a moment"
        )),
        (status, _) => {
            host.print(format_args!("error {word}: the core refused {request:?} with status {status}"));
        }
    }
}
