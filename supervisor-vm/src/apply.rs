//! `fleet apply`: takes a fleet file from a client, and tells it how far its VMs are.

use crate::command::Command;
use crate::parse::parse;
use crate::peer::{FAILED, NO_COMMAND};
use crate::reconcile::{Allowed, Changes};
use crate::session::{Session, Stop};
use crate::{fleet, input};
use alloc::format;
use alloc::string::String;

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
/// [`Stop`]: the change that was being made then is made to its end or not at all, and those behind it are not made.
pub async fn apply(session: &Session, how: How) -> Result<u32, Stop> {
    let parsed = match input::text(session, "fleet file", FACTOR).await? {
        Ok(text) => fleet::parse(&text),
        Err(why) => {
            session.aside(&why).await?;
            return Ok(NO_COMMAND);
        }
    };
    let node = session.node();
    let planned = match parsed {
        Ok(members) => Changes::of(node, members, how.allowed).await,
        Err(why) => Err(why),
    };
    let mut changes = match planned {
        Ok(changes) => changes,
        Err(why) => return failed(session, &why).await,
    };
    if !how.dry_run
        && let Err(why) = make(session, &mut changes).await?
    {
        return failed(session, &why).await;
    }
    match changes.show(how.dry_run, how.json) {
        Ok(text) => session.out(&text).await.map(|()| 0),
        Err(why) => failed(session, &why).await,
    }
}

/// Makes all changes, and says how far it is. What was refused.
async fn make(session: &Session, changes: &mut Changes) -> Result<Result<(), String>, Stop> {
    let who = session.who();
    loop {
        match changes.some(session.node(), &who, STEP).await {
            Ok((done, all)) if done < all => session.aside(&format!("{done} of {all} changes\n")).await?,
            Ok(_) => return Ok(Ok(())),
            Err(why) => return Ok(Err(why)),
        }
    }
}

async fn failed(session: &Session, why: &str) -> Result<u32, Stop> {
    session.aside(&format!("{why}\n")).await?;
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
