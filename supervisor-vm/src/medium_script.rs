//! The script of the boot medium, which `cargo xtask build-iso --script FILE` puts there: commands that are carried out when the machine has started.

use crate::act::act;
use crate::audit;
use crate::command::Command;
use crate::medium::{Part, text};
use crate::node::Node;
use crate::parse::parse;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};

/// What was done by it.
const WHAT: &str = "script, from the boot medium";

/// Carries it out, where there is one, up to the first line that fails. What was done is said in the log, and written down.
pub async fn run(node: Rc<Node>) {
    let text = match text(Part::Script) {
        Ok(None) => return,
        Ok(Some(text)) => Ok(text),
        Err(why) => Err(why),
    };
    // Its commands are carried out once, not as often as this VM is made anew.
    let generation = ilwaco::vm_id().generation;
    if generation > 1 {
        log::info!("script: another operator's VM has carried it out since the machine has started");
        return;
    }
    let done = match text {
        Ok(text) => carry_out(&node, text).await,
        Err(why) => Err(why),
    };
    match &done {
        Ok(commands) => log::info!("script: {commands} commands are carried out"),
        Err(why) => log::error!("script: {why}"),
    }
    // Whether it is kept is said in the log.
    audit::done(&node, audit::SUPERVISOR, WHAT, done.as_ref().map_or_else(String::as_str, |_| audit::DONE)).await;
}

/// Carries out one line after the other. How many commands there were.
///
/// # Errors
///
/// The first line that fails, and why; those before it are carried out.
async fn carry_out(node: &Node, text: &str) -> Result<usize, String> {
    let mut count = 0;
    for (line, number) in text.lines().zip(1_u32..) {
        let at = |why: String| format!("line {number}: {why}");
        for (words, command) in parse(line).map_err(at)? {
            if matches!(command, Command::TokenNew { .. }) {
                return Err(at(
                    "a token is shown to whoever makes it, and here the log would have it: make it over SSH"
                        .to_string(),
                ));
            }
            let said = act(node, audit::SUPERVISOR, &words, command).await.map_err(at)?;
            for line in said.text.lines().chain(said.aside.lines()) {
                log::info!("script: {line}");
            }
            count += 1;
        }
    }
    Ok(count)
}
