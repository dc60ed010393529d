//! What is written down: what people do, and which VMs end.

pub use crate::com1::DONE;
use crate::com1::Ear;
use crate::keep::How;
use crate::node::Node;
use crate::save;
use abi::control::{ControlReply, ControlRequest};
use abi::end::EndReason;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use ilwaco::time::{Duration, sleep, unix_millis};

/// How often the core is asked who has ended.
const EACH: Duration = Duration::from_secs(1);
/// Who acts where nobody has asked.
pub const SUPERVISOR: &str = "supervisor";

/// Writes down what somebody has done, keeps that and what has changed, and says the hash in the machine's log: what was said there is on the disk. What
/// is to be said where it is not kept.
pub async fn done(node: &Node, who: &str, what: &str, outcome: &str) -> Option<String> {
    let (number, hash) = node.audit.borrow_mut().add(unix_millis(), who, what, outcome);
    let kept = save::save(node).await;
    log::info!("audit: line {number} is {hash}");
    save::warning(kept)
}

/// Writes down which VMs have ended since the core was last asked.
///
/// # Errors
///
/// As [`ilwaco::control::Control::ask`].
pub async fn note_ended(node: &Node) -> Result<(), ilwaco::control::Error> {
    let noted = note_all(node).await;
    // Whether it is kept is said in the log.
    let _ = save::save(node).await;
    noted
}

async fn note_all(node: &Node) -> Result<(), ilwaco::control::Error> {
    loop {
        // Two may ask: the one who comes second with the same answer has nothing to add.
        let from = node.audit.borrow().ended;
        let reply = node.ask(ControlRequest::Ended { from }, drop).await?;
        let ControlReply::Ended { number, vm, reason, detail } = reply else { return Ok(()) };
        let audit = &mut *node.audit.borrow_mut();
        if number < audit.ended {
            continue;
        }
        let lost = number - audit.ended;
        if lost > 0 {
            let what = format!("{lost} VMs ended");
            audit.add(
                unix_millis(),
                "core",
                &what,
                "which ones nobody knows: more than the core remembers ended in a second",
            );
        }
        let reason = EndReason::from_raw(reason).map_or("?", EndReason::text);
        let outcome = if detail == 0 { reason.to_string() } else { format!("{reason} (detail {detail:#x})") };
        audit.add(unix_millis(), "core", &format!("{vm} ended"), &outcome);
        audit.ended = number + 1;
    }
}

/// Tells the core up to where all is written down that was done on COM1, for who waits for that there; and the machine's log the hash of the last line about it. What is
/// told is `told` then.
///
/// # Errors
///
/// As [`ilwaco::control::Control::ask`].
async fn tell_noted(node: &Node, ear: &mut Ear, told: &mut u64) -> Result<(), ilwaco::control::Error> {
    // What has to be kept and is not yet is told of when it is.
    if ear.heard() == *told || matches!(node.keep.how.get(), How::Unkept(_)) {
        return Ok(());
    }
    if let Some((number, hash)) = ear.take_last() {
        log::info!("audit: line {number} is {hash}");
    }
    let until = ear.heard();
    node.ask(ControlRequest::Noted { until }, drop).await?;
    *told = until;
    Ok(())
}

/// Writes down for ever who ends, and what is done on COM1.
pub async fn watch(node: Rc<Node>) {
    let mut ear = Ear::new(&node.keep);
    let mut told = 0;
    loop {
        if let Err(why) = ear.listen(&node).await {
            log::warn!("audit: the core does not say what it has logged: {why}");
        }
        if let Err(error) = note_ended(&node).await {
            log::warn!("audit: the core does not say who has ended: {error}");
        }
        if let Err(error) = tell_noted(&node, &mut ear, &mut told).await {
            log::warn!("audit: the core does not hear how much is written down: {error}");
        }
        sleep(EACH).await;
    }
}
