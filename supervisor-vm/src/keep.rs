//! What outlives this VM: names, tokens, quotas, the host's key and the audit log, on the virtual disk that the VM was created with. Without one, or with
//! one that is not to be used, all of it ends with this VM, which is said.

use crate::chain;
use crate::node::Node;
use crate::state::{self, Boot};
use crate::store::Store;
use crate::store::history::{Line, Lines};
use crate::store::refused::{Refused, Unkept};
use abi::quota::Quota;
use abi::tenant::Tenant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use ilwaco::disk::Disk;
use ilwaco::sync::Mutex;
use ilwaco::time::{Duration, Instant, timeout};

/// The name of the virtual disk that is made for this VM. No other VM is given it.
pub const OPERATOR: &str = "operator";
/// How long the disk may take for all that is read at the start.
pub const OPENS: Duration = Duration::from_secs(60);
/// How long it may take for one change, and how long it is left alone when it took longer.
const COMMITS: Duration = Duration::from_secs(10);
/// Quotas that are kept at most.
const QUOTAS: usize = 1024;

/// How it is with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// There is none.
    Nowhere,
    /// There is one that is not used.
    Refused(Refused),
    /// All is kept.
    Kept,
    /// The last change was not.
    Unkept(Unkept),
}

/// What is kept, and where.
pub struct Keep {
    /// The disk, where it is used.
    pub store: Mutex<Option<Store<Disk>>>,
    /// How it is with it.
    pub how: Cell<How>,
    /// The name of the virtual disk, where there is one.
    pub disk: RefCell<Option<String>>,
    /// A disk that did not answer is not asked before.
    again: Cell<Option<Instant>>,
    /// The private key of the host.
    pub host: Cell<Option<[u8; 32]>>,
    /// Which start of the machine this is.
    pub boot: Cell<Boot>,
    /// The host's key, or which start of the machine this is, is not kept yet.
    pub unsaid: Cell<bool>,
    /// Quotas that were set here, by their tenants' names.
    pub quotas: RefCell<BTreeMap<String, Quota>>,
    /// Tenants whose quotas were set since they were last kept.
    changed: RefCell<BTreeSet<String>>,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep {
            store: Mutex::new(None),
            how: Cell::new(How::Nowhere),
            disk: RefCell::default(),
            again: Cell::new(None),
            host: Cell::new(None),
            boot: Cell::default(),
            unsaid: Cell::new(false),
            quotas: RefCell::default(),
            changed: RefCell::default(),
        }
    }
}

/// How it is with what is kept, as it is shown.
pub struct Shown {
    /// The name of the virtual disk.
    pub disk: Option<String>,
    /// Why not all is kept.
    pub why: Option<String>,
    /// Blocks of records that are taken, those that there are, and the numbers of the lines of the audit log from the oldest on.
    pub taken: Option<(u32, u32, u64, u64)>,
}

impl Keep {
    /// Why not all is kept; `None` where it is.
    pub fn why_not(&self) -> Option<String> {
        let disk = self.disk.borrow();
        let disk = disk.as_deref().unwrap_or("?");
        match self.how.get() {
            How::Kept => None,
            How::Nowhere => Some("this VM has no virtual disk to keep it on: disk= of its image".to_string()),
            How::Refused(why) => Some(format!("its virtual disk {disk} is not used: {why}")),
            How::Unkept(why) => Some(format!("the last change is not on its virtual disk {disk}: {why}")),
        }
    }

    /// Whether a virtual disk is this VM's own, or made for it.
    pub fn is_own(&self, name: &str) -> bool {
        name == OPERATOR || self.disk.borrow().as_deref() == Some(name)
    }

    /// Notes what a tenant's quota is from now on.
    pub fn note_quota(&self, tenant: Tenant, quota: Quota) {
        let mut quotas = self.quotas.borrow_mut();
        let name = tenant.to_string();
        if quotas.len() >= QUOTAS && !quotas.contains_key(&name) {
            // Of those without one it is only known that the manifest's does not count.
            quotas.retain(|_, quota| *quota != Quota::NONE);
        }
        if quotas.len() < QUOTAS || quotas.contains_key(&name) {
            quotas.insert(name.clone(), quota);
            self.changed.borrow_mut().insert(name);
        }
    }
}

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
    let quotas = keep.quotas.borrow();
    for name in keep.changed.take() {
        let tenant = Tenant::new(&name);
        records.extend(quotas.get(&name).and_then(|quota| state::quota_record(tenant?, *quota)));
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
    for (name, quota) in keep.quotas.borrow().iter() {
        records.extend(Tenant::new(name).and_then(|tenant| state::quota_record(tenant, *quota)));
    }
    for (name, made) in node.tokens.borrow().iter() {
        records.extend(state::token_record(name, Some(made)));
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
#[path = "keep_tests.rs"]
mod tests;
