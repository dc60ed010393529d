//! The fleet file of the boot medium: `cargo xtask build-iso --fleet FILE` puts it into this program, in a place that is kept for it.

use crate::node::Node;
use crate::reconcile::{Allowed, Changes};
use crate::save;
use crate::{audit, fleet};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use core::hint::black_box;

/// Bytes of a file at most.
pub const MOST: usize = 64 * 1024;
/// Changes between two words about how far it is.
const STEP: usize = 100;
/// What was done by it.
const WHAT: &str = "fleet apply, from the boot medium";

/// The place, as the program has it in memory. `xtask/src/fleet.rs` looks for it by its mark.
#[repr(C)]
struct Place {
    mark: [u8; 16],
    /// Bytes of the file, in little-endian.
    length: [u8; 4],
    file: [u8; MOST],
}

/// Nobody but `xtask` writes there, and before the program starts.
static PLACE: Place = Place { mark: *b"FORAKER-FLEET-01", length: [0; 4], file: [0; MOST] };

/// The file; `None` where there is none.
///
/// # Errors
///
/// What is wrong with it.
fn file() -> Result<Option<&'static str>, String> {
    // What the compiler sees there is not what is there.
    let place = black_box(&PLACE);
    let length = usize::try_from(u32::from_le_bytes(place.length)).unwrap_or(usize::MAX);
    if black_box(place.mark[0]) == 0 || length == 0 {
        return Ok(None);
    }
    let bytes = place.file.get(..length).ok_or_else(|| format!("it has {length} bytes, and {MOST} have room"))?;
    core::str::from_utf8(bytes).map(Some).map_err(|_| "it is no text".to_string())
}

/// Lets the VMs be as the file says, where there is one. What was done is said in the log, and written down.
pub async fn apply(node: Rc<Node>) {
    let text = match file() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_nobody_has_given_a_file_has_none() {
        assert_eq!(file(), Ok(None));
        let bytes = core::mem::size_of::<Place>();
        assert_eq!(
            (bytes, core::mem::offset_of!(Place, length), core::mem::offset_of!(Place, file)),
            (MOST + 20, 16, 20)
        );
    }
}
