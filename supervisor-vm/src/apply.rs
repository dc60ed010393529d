//! `fleet apply`: takes a fleet file from a client, and tells it how far its VMs are.

use crate::command::{Command, DiskPath};
use crate::parse::parse;
use crate::peer::{FAILED, NO_COMMAND};
use crate::reconcile::{Allowed, Changes};
use crate::session::{Session, Stop};
use crate::{audit, disk_file, fleet, input};
use alloc::format;
use alloc::string::String;

/// Changes between two words about how far it is.
const STEP: usize = 100;
/// Memory that a file takes while it is read, over its bytes.
const FACTOR: usize = 8;

/// How a file is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct How {
    from: Option<DiskPath>,
    allowed: Allowed,
    dry_run: bool,
    json: bool,
}

impl How {
    /// Whether the file lies on a virtual disk, and not on standard input.
    pub fn is_on_disk(&self) -> bool {
        self.from.is_some()
    }
}

/// What a line asks for, when that is to apply a fleet file and nothing else.
pub fn asked(line: &str) -> Option<How> {
    match &parse(line).ok()?[..] {
        [(_, Command::FleetApply { from, dry_run, replace, prune, json })] => {
            let allowed = Allowed { replace: *replace, prune: *prune };
            Some(How { from: from.clone(), allowed, dry_run: *dry_run, json: *json })
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
    let node = session.node();
    let parsed = match &how.from {
        Some(from) => match read(session, from).await? {
            Ok(text) => fleet::parse(&text),
            Err(why) => return failed(session, &why).await,
        },
        None => match input::text(session, "fleet file", FACTOR).await? {
            Ok(text) => fleet::parse(&text),
            Err(why) => {
                session.aside(&why).await?;
                return Ok(NO_COMMAND);
            }
        },
    };
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

/// The file on a virtual disk, whose reading is written down, since it is somebody's.
async fn read(session: &Session, from: &DiskPath) -> Result<Result<String, String>, Stop> {
    let (node, DiskPath { disk, path }) = (session.node(), from);
    let text = disk_file::text(node, disk.as_str(), path, FACTOR).await;
    let outcome = text.as_ref().map_or_else(String::as_str, |_| audit::DONE);
    if let Some(warning) =
        audit::done(node, &session.who(), &format!("fleet apply --disk {disk}:{path}"), outcome).await
    {
        session.aside(&warning).await?;
    }
    Ok(text)
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
        assert_eq!(
            asked("fleet apply --json --replace"),
            Some(How { from: None, allowed, dry_run: false, json: true })
        );
        assert!(
            asked("fleet apply --disk a:b/vms.toml --dry-run").is_some_and(|how| how.from.is_some() && how.dry_run)
        );
        for other in ["fleet apply && vm list", "vm list", "fleet apply --all", ""] {
            assert_eq!(asked(other), None, "{other}");
        }
    }
}
