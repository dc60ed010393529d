//! Quotas of virtual disks in `system.toml`: the core does not know them, so they come with this program.

use crate::fleet;
use crate::medium::{Part, text};
use crate::node::Node;

/// Takes them in: those that were said on the running machine count before them.
pub fn take(node: &Node) {
    let told = match text(Part::Quotas) {
        Ok(None) => return,
        Ok(Some(text)) => fleet::parse(text),
        Err(why) => Err(why),
    };
    match told {
        Ok(told) => {
            let mut owners = node.keep.owners.borrow_mut();
            for told in told.tenants {
                if let Some(Some(blocks)) = told.change.disk {
                    owners.note_told(told.tenant, blocks);
                }
            }
        }
        Err(why) => log::error!("the quotas of virtual disks in system.toml: {why}"),
    }
}
