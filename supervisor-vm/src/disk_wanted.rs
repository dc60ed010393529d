//! The virtual disk that a VM wants when it starts. One that it cannot have would end it a moment later, and only the log would say why; so whoever starts it is
//! told before. Whoever serves disks judges all the same: what is known here may be old.

use crate::names::Named;
use crate::node::{Node, living};
use crate::refusal::said;
use crate::shown::shown;
use abi::attachment::{self, Attachment};
use abi::control::{ControlReply, ControlRequest, status};
use abi::disk::{DiskReply, DiskRequest, entry_kind};
use abi::limits::Name;
use abi::vm::VmId;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use ilwaco::control::Error;
use ilwaco::time::{Duration, timeout};

/// How long whoever serves disks may say nothing before a VM starts without an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the directory of the set says of a virtual disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Disk,
    NeverWritten,
    Nothing,
}

/// Judges whether a VM could have its virtual disk if it started now.
///
/// # Errors
///
/// Why not, and what to do.
pub async fn judge(node: &Node, vm: &str) -> Result<(), String> {
    let wanted = node.names.borrow().get(vm).map_or(Attachment::NONE, |named| named.terms.disk);
    if wanted.is_none() {
        return Ok(());
    }
    let refused = |why: String| Err(format!("{} does not start: {why}", shown(vm)));
    // Who is silent, or starts anew, judges later, when it is there again.
    match timeout(PATIENCE, look_up(node, wanted.disk)).await {
        Err(_) => return Ok(()),
        Ok(Err(error @ Error::Refused(status::NO_DISKS))) => return refused(said(error)),
        Ok(Err(_)) => return Ok(()),
        Ok(Ok(found)) => {
            if let Some(why) = unfit(vm, wanted, found) {
                return refused(why);
            }
        }
    }
    let others: Vec<(String, VmId)> = others(node.names.borrow().iter(), vm, wanted).collect();
    for (other, id) in others {
        let lives = living(&mut *node.control().await, id).await.map_err(said)?.is_some();
        // Its name may be another VM's by now.
        if lives && node.names.borrow().get(&other).is_some_and(|named| named.vm == Some(id)) {
            let disk = wanted.disk.as_str();
            return refused(format!("{other} has {disk}: `vm stop {other}` first, or let both have {disk}:ro"));
        }
    }
    // Those that others have created.
    if let Ok(Ok(Some(id))) = timeout(PATIENCE, nameless(node, wanted)).await {
        let disk = wanted.disk.as_str();
        return refused(format!("{id} has {disk}: `vm stop {id}` first, or let both have {disk}:ro"));
    }
    Ok(())
}

/// A VM without a name that has a virtual disk, of which one or the other writes.
async fn nameless(node: &Node, wanted: Attachment) -> Result<Option<VmId>, Error> {
    let mut from = 0_u16;
    loop {
        let DiskReply::VmLoad { index, vm, disk, .. } = node.ask_disks(DiskRequest::VmLoad { index: from }).await?
        else {
            return Ok(None);
        };
        if disk == wanted.disk && node.names.borrow().of(vm).is_none() {
            let reply = node.ask(ControlRequest::DiskOf { slot: vm.slot }, drop).await?;
            if let ControlReply::DiskOf { vm: id, disk, mode, .. } = reply
                && (id, disk) == (vm, wanted.disk)
                && !(wanted.is_read_only() && mode == attachment::mode::READ_ONLY)
            {
                return Ok(Some(id));
            }
        }
        // Each answer leads on, or this would never end.
        from = match index.checked_add(1) {
            Some(next) if index >= from => next,
            _ => return Ok(None),
        };
    }
}

/// Looks a virtual disk up.
async fn look_up(node: &Node, wanted: Name) -> Result<Found, Error> {
    for index in 0..u16::MAX {
        match node.ask_disks(DiskRequest::Entry { index }).await? {
            DiskReply::Entry { kind: entry_kind::DISK, name, .. } if name == wanted => return Ok(Found::Disk),
            DiskReply::Entry { kind: entry_kind::READ_ONLY, name, .. } if name == wanted => {
                return Ok(Found::NeverWritten);
            }
            DiskReply::Entry { .. } => {}
            _ => break,
        }
    }
    Ok(Found::Nothing)
}

/// Why a virtual disk is not what a VM wants, if it is not.
fn unfit(vm: &str, wanted: Attachment, found: Found) -> Option<String> {
    let disk = wanted.disk.as_str();
    match found {
        Found::Nothing => Some(format!(
            "there is no virtual disk `{}`: `disk list` shows all, `disk attach {vm} DISK` gives it another one, `disk detach {vm}` none",
            shown(disk)
        )),
        Found::NeverWritten if !wanted.is_read_only() => {
            Some(format!("{disk} is never written: `disk attach {vm} {disk}:ro`"))
        }
        Found::Disk | Found::NeverWritten => None,
    }
}

/// VMs with a name that were started with the same virtual disk, of which one or the other writes.
fn others<'n>(
    names: impl Iterator<Item = (&'n str, &'n Named)>,
    vm: &str,
    wanted: Attachment,
) -> impl Iterator<Item = (String, VmId)> {
    names.filter_map(move |(name, Named { terms, vm: id, .. })| {
        let same = terms.disk.disk == wanted.disk && name != vm;
        let both_read = terms.disk.is_read_only() && wanted.is_read_only();
        id.filter(|_| same && !both_read).map(|id| (name.to_string(), id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::NO_IMAGE;
    use abi::terms::Terms;

    fn disk(text: &str) -> Attachment {
        Attachment::parse(text).expect("a disk")
    }

    #[test]
    fn a_disk_that_is_not_there_or_never_written_is_said_with_the_remedy() {
        let why = unfit("a", disk("docs"), Found::Nothing).expect("there is none");
        assert!(why.starts_with("there is no virtual disk `docs`: ") && why.contains("disk attach a DISK"), "{why}");
        let why = unfit("a", disk("docs"), Found::NeverWritten).expect("it would write");
        assert_eq!(why, "docs is never written: `disk attach a docs:ro`");
        for (wanted, found) in [("docs", Found::Disk), ("docs:ro", Found::Disk), ("docs:ro", Found::NeverWritten)] {
            assert_eq!(unfit("a", disk(wanted), found), None);
        }
    }

    #[test]
    fn those_are_in_the_way_that_have_it_while_one_writes() {
        let named = |text: &str, vm| Named {
            image: NO_IMAGE,
            image_name: "httpd".to_string(),
            terms: Terms { disk: disk(text), ..Terms::UNSAID },
            args: String::new(),
            vm,
            of_fleet: false,
            runs: false,
        };
        let id = |slot| Some(VmId::new(slot, 1));
        let all = [("a", named("docs", id(1))), ("b", named("docs:ro", id(2))), ("c", named("docs", None))];
        let other = [("d", named("logs", id(4)))];
        let in_the_way = |vm: &str, wanted| -> Vec<String> {
            others(all.iter().chain(&other).map(|(name, named)| (*name, named)), vm, disk(wanted))
                .map(|(name, _)| name)
                .collect()
        };
        assert_eq!(in_the_way("e", "docs"), ["a", "b"]);
        assert_eq!(in_the_way("e", "docs:ro"), ["a"]);
        assert_eq!(in_the_way("a", "docs"), ["b"]);
        assert_eq!(in_the_way("d", "logs"), Vec::<String>::new());
    }
}
