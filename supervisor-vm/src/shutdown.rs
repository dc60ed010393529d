//! Powers the machine off, when somebody has asked for it.

use crate::node::Node;
use abi::control::ControlRequest;
use alloc::rc::Rc;

/// Waits until the machine is to be powered off, and does it.
pub async fn watch(node: Rc<Node>) {
    loop {
        node.power.due().await;
        // Where it works there is no answer.
        let why = node.ask(ControlRequest::PowerOff, drop).await;
        node.power.stays();
        log::error!("the machine does not go off: {why:?}; switch it off");
    }
}
