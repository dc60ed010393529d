//! Keeps what has changed on this VM's virtual disk, and says how it is with it.

use crate::chain;
use crate::keep::{COMMITS, How, OPENS, Shown};
use crate::library;
use crate::lines::{Line, Lines};
use crate::node::Node;
use crate::state;
use crate::store::refused::{Refused, Unkept};
use abi::guest_disk::BLOCK_BYTES;
use abi::tenant::Tenant;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use ilwaco::time::{Instant, timeout};

/// A line of the audit log that is on its way to the disk.
struct Owned {
    number: u64,
    before: [u8; 32],
    text: String,
}

/// Keeps what has changed since the last time. It is durable then.
///
/// # Errors
///
/// [`Unkept`]. Without a disk that is used, nothing is kept, and that is no error.
pub async fn save(node: &Node) -> Result<(), Unkept> {
    let keep = &node.keep;
    let mut guard = keep.store.lock().await;
    // Where there is none, nobody wants to know what has changed.
    let changed = take_changed(node);
    let leaving = keep.library.borrow().leaving();
    let Some(store) = guard.as_mut() else { return Ok(()) };
    let next = store.history().next();
    let owned = |line: Line<'_>| Owned { number: line.number, before: line.before, text: line.text.to_string() };
    let lines: Vec<Owned> = node.audit.borrow().since(next).map(owned).collect();
    if changed.is_empty() && lines.is_empty() && keep.how.get() == How::Kept && store.is_sound() {
        return Ok(());
    }
    let kept = match keep.again.get() {
        Some(again) if Instant::now() < again => {
            store.doubt();
            Err(Unkept::Silent)
        }
        _ => {
            let lines = lines.iter().map(|line| Line { number: line.number, before: line.before, text: &line.text });
            timeout(COMMITS, store.commit(&changed, || all(node), lines)).await.unwrap_or(Err(Unkept::Silent))
        }
    };
    if kept.is_ok() {
        // Nothing on the disk speaks of these any more, whatever happens.
        keep.library.borrow_mut().left(leaving);
    }
    let before = keep.how.get();
    let now = kept.map_or_else(How::Unkept, |()| How::Kept);
    keep.how.set(now);
    if kept == Err(Unkept::Silent) {
        keep.again.set(Some(Instant::now() + COMMITS));
    } else {
        keep.again.set(None);
    }
    match keep.why_not() {
        Some(why) if before != now => log::error!("state: {why}"),
        None if before != now => log::info!("state: all is kept again"),
        _ => {}
    }
    kept
}

/// Records of what has changed.
fn take_changed(node: &Node) -> Vec<Vec<u8>> {
    let keep = &node.keep;
    let mut records = Vec::new();
    for (name, named) in node.names.borrow_mut().take_changed() {
        records.extend(state::vm_record(&name, named.as_ref()));
    }
    for (name, made) in node.tokens.borrow_mut().take_changed() {
        records.extend(state::token_record(&name, made.as_ref()));
    }
    records.extend(keep.library.borrow_mut().take_changed());
    records.extend(keep.owners.borrow_mut().take_changed());
    let quotas = keep.quotas.borrow();
    for name in keep.changed.take() {
        let tenant = Tenant::new(&name);
        records.extend(quotas.get(&name).and_then(|limits| state::quota_record(tenant?, *limits)));
    }
    let mut boot = keep.boot.get();
    let ended = node.audit.borrow().ended;
    let is_unsaid = keep.unsaid.replace(false);
    if is_unsaid || boot.ended != ended {
        boot.ended = ended;
        keep.boot.set(boot);
        records.extend(boot.record());
    }
    if is_unsaid {
        records.extend(keep.host.get().and_then(|key| state::host_record(&key)));
    }
    records
}

/// Records of all that is known.
fn all(node: &Node) -> Vec<Vec<u8>> {
    let keep = &node.keep;
    let mut records = Vec::new();
    records.extend(keep.host.get().and_then(|key| state::host_record(&key)));
    records.extend(keep.boot.get().record());
    for (name, limits) in keep.quotas.borrow().iter() {
        records.extend(Tenant::new(name).and_then(|tenant| state::quota_record(tenant, *limits)));
    }
    for (name, made) in node.tokens.borrow().iter() {
        records.extend(state::token_record(name, Some(made)));
    }
    records.extend(keep.owners.borrow().records());
    for (name, kept) in keep.library.borrow().iter() {
        records.extend(library::record(name, Some(kept)));
    }
    for (name, named) in node.names.borrow().iter() {
        records.extend(state::vm_record(name, Some(named)));
    }
    records
}

/// All lines of the audit log: those on the disk that are remembered no more, and those that are.
///
/// # Errors
///
/// The disk cannot be read.
pub async fn export(node: &Node) -> Result<String, String> {
    let guard = node.keep.store.lock().await;
    let Some(store) = guard.as_ref() else { return Ok(node.audit.borrow().export()) };
    // Lines as they are read, and as the text, which grows.
    let _room = node.room(store.history().blocks() * 4 * BLOCK_BYTES)?;
    let mut older = Lines::default();
    let read = async {
        for index in 0..store.history().blocks() {
            // Nothing is added meanwhile that would take a line out of memory that was not read: it would have to be kept first.
            let first = node.audit.borrow().first();
            let lines = store.lines(index).await?;
            if lines.first >= first {
                break;
            }
            if older.lines.is_empty() {
                (older.first, older.before) = (lines.first, lines.before);
            }
            older.lines.extend(lines.lines);
        }
        Ok(())
    };
    let read: Result<Result<(), Refused>, _> = timeout(OPENS, read).await;
    let read = read.unwrap_or(Err(Refused::Silent));
    drop(guard);
    read.map_err(|why| format!("the older lines are on the virtual disk, and {why}"))?;
    let audit = node.audit.borrow();
    let Some(missing) = audit.first().checked_sub(older.first).filter(|_| !older.lines.is_empty()) else {
        return Ok(audit.export());
    };
    let mut text = chain::Audit::beginning(older.first, &older.before);
    let missing = usize::try_from(missing).unwrap_or(usize::MAX);
    older.lines.iter().take(missing).for_each(|(line, _)| text.push_str(line));
    audit.since(0).for_each(|line| text.push_str(line.text));
    Ok(text)
}

/// How it is with what is kept.
pub async fn shown(node: &Node) -> Shown {
    let guard = node.keep.store.lock().await;
    let taken = guard.as_ref().map(|store| {
        let (taken, blocks, _) = store.taken();
        (taken, blocks, store.history().oldest(), store.history().next() - 1)
    });
    Shown { disk: node.keep.disk.borrow().clone(), why: node.keep.why_not(), taken }
}

/// Whether names end with this VM.
pub fn forgets(node: &Node) -> bool {
    node.keep.why_not().is_some()
}

/// What is to be said where a change was made and is not kept.
pub fn warning(kept: Result<(), Unkept>) -> Option<String> {
    kept.err().map(|why| format!("this is not kept, and ends with the operator's VM: {why}\n"))
}

/// That a VM may not have a disk, or that nothing may be done with it.
///
/// # Errors
///
/// It is this VM's own.
pub fn refuse_own(node: &Node, disk: &str) -> Result<(), String> {
    if node.keep.is_own(disk) {
        return Err(format!(
            "{disk} is the disk of the operator's VM, with the private key of this machine: no other VM has it, and no copy is made"
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "save_tests.rs"]
mod tests;
