//! `fleet apply`: takes a fleet file from a client, and tells it how far its VMs are.

use crate::command::Command;
use crate::node::Node;
use crate::parse::parse;
use crate::peer::{FAILED, Failure, NO_COMMAND, Peer, Server};
use crate::reconcile::{Allowed, Changes};
use crate::{fleet, input};
use alloc::format;
use alloc::string::String;
use zssh::Channel;

/// Changes between two words about how far it is.
const STEP: usize = 100;
/// Memory that a file takes while it is read, over its bytes.
const FACTOR: usize = 8;

/// How a file is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    allowed: Allowed,
    dry_run: bool,
    json: bool,
}

/// What a line asks for, when that is to apply a fleet file and nothing else.
pub fn asked(line: &str) -> Option<How> {
    match parse(line).ok()?[..] {
        [(_, Command::FleetApply { dry_run, replace, prune, json })] => {
            Some(How { allowed: Allowed { replace, prune }, dry_run, json })
        }
        _ => None,
    }
}

/// Reads a file to its end, and lets the VMs be as it says. The status.
///
/// # Errors
///
/// The connection breaks: the change that was being made then is made to its end or not at all, and those behind it are not made.
pub async fn apply<'a>(
    channel: &mut Channel<'_, '_, Peer<'a>>,
    server: &Server,
    name: &str,
    how: How,
) -> Result<u32, Failure<'a>> {
    let parsed = match input::text(channel, "fleet file", FACTOR).await? {
        Ok(text) => fleet::parse(&text),
        Err(why) => {
            channel.write_all_stderr(why.as_bytes()).await?;
            return Ok(NO_COMMAND);
        }
    };
    let who = format!("{} at {name}", channel.user());
    let node = server.node();
    let planned = match parsed {
        Ok(members) => Changes::of(node, members, how.allowed).await,
        Err(why) => Err(why),
    };
    let mut changes = match planned {
        Ok(changes) => changes,
        Err(why) => return failed(channel, &why).await,
    };
    if !how.dry_run
        && let Err(why) = make(channel, node, &who, &mut changes).await?
    {
        return failed(channel, &why).await;
    }
    match changes.show(how.dry_run, how.json) {
        Ok(text) => channel.write_all_stdout(text.as_bytes()).await.map(|()| 0),
        Err(why) => failed(channel, &why).await,
    }
}

/// Makes all changes, and says how far it is. What was refused.
async fn make<'a>(
    channel: &mut Channel<'_, '_, Peer<'a>>,
    node: &Node,
    who: &str,
    changes: &mut Changes,
) -> Result<Result<(), String>, Failure<'a>> {
    loop {
        match changes.some(node, who, STEP).await {
            Ok((done, all)) if done < all => {
                channel.write_all_stderr(format!("{done} of {all} changes\n").as_bytes()).await?;
            }
            Ok(_) => return Ok(Ok(())),
            Err(why) => return Ok(Err(why)),
        }
    }
}

async fn failed<'a>(channel: &mut Channel<'_, '_, Peer<'a>>, why: &str) -> Result<u32, Failure<'a>> {
    channel.write_all_stderr(format!("{why}\n").as_bytes()).await?;
    Ok(FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_applied_alone() {
        let allowed = Allowed { replace: true, prune: false };
        assert_eq!(asked("fleet apply --json --replace"), Some(How { allowed, dry_run: false, json: true }));
        for other in ["fleet apply && vm list", "vm list", "fleet apply --all", ""] {
            assert_eq!(asked(other), None, "{other}");
        }
    }
}
