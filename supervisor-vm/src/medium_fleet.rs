//! The fleet file of the boot medium, which `cargo xtask build-iso --fleet FILE` puts there.

use crate::medium::{Part, text};
use crate::node::Node;
use crate::reconcile::{Allowed, Changes};
use crate::save;
use crate::{audit, fleet};
use alloc::rc::Rc;
use alloc::string::{String, ToString};

/// Changes between two words about how far it is.
const STEP: usize = 100;
/// What was done by it.
const WHAT: &str = "fleet apply, from the boot medium";

/// Lets the VMs be as the file says, where there is one. What was done is said in the log, and written down.
pub async fn apply(node: Rc<Node>) {
    let text = match text(Part::Fleet) {
        Ok(None) => return,
        Ok(Some(text)) => Ok(text),
        Err(why) => Err(why),
    };
    let done = match text {
        Ok(text) => apply_text(&node, text).await,
        Err(why) => Err(why),
    };
    match &done {
        Ok(summary) => log::info!("fleet: {}", summary.trim_end()),
        Err(why) => log::error!("fleet: the file of the boot medium: {why}"),
    }
    // Whether it is kept is said in the log.
    audit::done(&node, audit::SUPERVISOR, WHAT, done.as_ref().map_or_else(String::as_str, |_| audit::DONE)).await;
}

async fn apply_text(node: &Node, text: &str) -> Result<String, String> {
    if save::forgets(node) && ilwaco::vm_id().generation > 1 {
        return Err(
            "another operator's VM has applied it, and its names were not kept: VMs that run would be made a second time. `fleet apply` does it all the same"
                .to_string(),
        );
    }
    let mut changes = Changes::of(node, fleet::parse(text)?, Allowed::default()).await?;
    loop {
        let (done, all) = changes.some(node, audit::SUPERVISOR, STEP).await?;
        if done == all {
            return changes.show(false, false);
        }
    }
}
