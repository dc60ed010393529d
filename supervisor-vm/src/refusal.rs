//! What cannot be done, in the operator's words.

use crate::names::parse_id;
use crate::node::Node;
use crate::shown::shown;
use abi::control::status;
use abi::vm::VmId;
use alloc::format;
use alloc::string::{String, ToString};
use ilwaco::control::Error;

/// What a refusal of the core means.
pub fn said(error: Error) -> String {
    match error {
        Error::Refused(status::BUSY) => "a component is behind with its messages: try again".to_string(),
        Error::Refused(status::NO_ADDRESS) => {
            "VMs of this image start with the first packet for them, and this one has no address: give the machine a static network (net=)"
                .to_string()
        }
        Error::Refused(status::NO_ARGUMENTS) => {
            "there is no room for more boot arguments of VMs that wait: end some, or let them start first".to_string()
        }
        Error::Refused(status::BAD_CLAIM) => "it could not start with its reserve and limit: change those of its image".to_string(),
        Error::Refused(status::NOT_FOUND) => "there is no such VM: `vm list` shows all".to_string(),
        error => format!("{error}"),
    }
}

/// The id of a VM that the operator names; it may have ended.
///
/// # Errors
///
/// There is none of this name, or it does not run.
pub fn running(node: &Node, vm: &str) -> Result<VmId, String> {
    if let Some(id) = parse_id(vm) {
        return Ok(id);
    }
    match node.names.borrow().get(vm) {
        Some(named) => named.vm.ok_or_else(|| format!("{vm} does not run: `vm start {vm}` lets it")),
        None => Err(format!("there is no VM `{}`: `vm list` shows all", shown(vm))),
    }
}
