//! What outlives this VM: names, tokens, quotas, the host's key and the audit log, on the virtual disk that the VM was created with. Without one, or with
//! one that is not to be used, all of it ends with this VM, which is said.

use crate::node::Node;
use crate::state::{self, Boot, NO_IMAGE, State};
use crate::store::block::HOLDS;
use crate::store::history::{Line, Lines};
use crate::store::medium::Medium;
use crate::store::refused::{Refused, Unkept};
use crate::store::{Store, clear};
use crate::tenants;
use crate::{audit, chain};
use abi::control::{ControlReply, ControlRequest};
use abi::quota::Quota;
use abi::tenant::Tenant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use chacha20::rand_core::Rng;
use core::cell::{Cell, RefCell};
use ilwaco::disk::Disk;
use ilwaco::sync::Mutex;
use ilwaco::time::{Duration, Instant, timeout};

/// The name of the virtual disk that is made for this VM. No other VM is given it.
pub const OPERATOR: &str = "operator";
/// How long the disk may take for all that is read at the start.
const OPENS: Duration = Duration::from_secs(60);
/// How long it may take for one change, and how long it is left alone when it took longer.
const COMMITS: Duration = Duration::from_secs(10);
/// Quotas that are kept at most.
const QUOTAS: usize = 1024;

/// How it is with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
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
    store: Mutex<Option<Store<Disk>>>,
    how: Cell<How>,
    /// The name of the virtual disk, where there is one.
    disk: RefCell<Option<String>>,
    /// A disk that did not answer is not asked before.
    again: Cell<Option<Instant>>,
    host: Cell<Option<[u8; 32]>>,
    boot: Cell<Boot>,
    /// What is to be said of the host's key or of the start of the machine is not kept yet.
    unsaid: Cell<bool>,
    quotas: RefCell<BTreeMap<String, Quota>>,
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

/// Takes in what was kept. It is said what is.
pub async fn open(node: &Node) {
    let keep = &node.keep;
    let boot = match node.ask(ControlRequest::Boot, drop).await {
        Ok(ControlReply::Boot { low, high }) => [low, high],
        _ => [0; 2],
    };
    keep.boot.set(Boot { id: boot, ended: 0 });
    let Some(disk) = Disk::attached() else { return };
    let own = node.ask(ControlRequest::DiskOf { slot: ilwaco::vm_id().slot }, drop).await;
    if let Ok(ControlReply::DiskOf { disk, .. }) = own {
        keep.disk.replace(Some(disk.as_str().to_string()));
    }
    if let Err(why) = open_on(node, disk, boot).await {
        keep.how.set(How::Refused(why));
    }
    match keep.why_not() {
        None => log::info!("state: kept on the virtual disk {}", keep.disk.borrow().as_deref().unwrap_or("?")),
        Some(why) => log::error!("state: kept until this VM ends only: {why}"),
    }
}

async fn open_on(node: &Node, disk: Disk, boot: [u64; 2]) -> Result<(), Refused> {
    if disk.is_read_only() {
        return Err(Refused::ReadOnly);
    }
    let mut chance = [0; 16];
    node.random.borrow_mut().fork().fill_bytes(&mut chance);
    let opened = timeout(OPENS, Store::open(disk, chance)).await.map_err(|_| Refused::Silent)?;
    let (mut store, records) = opened.map_err(|(_, why)| why)?;
    let state = State::of(&records).ok_or(Refused::Senseless)?;
    drop(records);
    let lines = timeout(OPENS, last_lines(&store)).await.map_err(|_| Refused::Silent)??;
    let is_same = state.boot.id == boot;
    if !is_same {
        // What lived then does no more, and that is kept as a whole.
        store.doubt();
    }
    node.audit.borrow_mut().go_on_behind(lines);
    take_in(node, state, is_same).await;
    *node.keep.store.lock().await = Some(store);
    node.keep.how.set(How::Kept);
    Ok(())
}

/// The last lines of the audit log, as many as are remembered.
async fn last_lines<M: Medium>(store: &Store<M>) -> Result<Lines, Refused> {
    let blocks = store.history().blocks();
    let mut last = Lines { first: store.history().next(), ..Lines::default() };
    for index in blocks.saturating_sub(chain::BYTES / HOLDS)..blocks {
        let lines = store.lines(index).await?;
        if last.lines.is_empty() {
            last = lines;
        } else {
            last.lines.extend(lines.lines);
        }
    }
    Ok(last)
}

/// Takes in what was kept. `is_same`: it is about this start of the machine.
async fn take_in(node: &Node, state: State, is_same: bool) {
    let keep = &node.keep;
    keep.host.set(state.host);
    if is_same {
        keep.boot.set(state.boot);
        node.audit.borrow_mut().ended = state.boot.ended;
    }
    let (names_count, tokens_count) = (state.names.len(), state.tokens.len());
    for (name, mut named) in state.names {
        named.image = node.image(&named.image_name).map_or(NO_IMAGE, |(number, _)| number);
        named.vm = named.vm.filter(|_| is_same);
        if let Err(why) = node.names.borrow_mut().add(&name, named) {
            log::error!("state: a VM that was kept is forgotten: `{name}` {why}");
        }
    }
    for (name, made) in state.tokens {
        if let Err(why) = node.tokens.borrow_mut().put(&name, made) {
            log::error!("state: a token that was kept is forgotten: `{name}` {why}");
        }
    }
    // These are on the disk.
    drop((node.names.borrow_mut().take_changed(), node.tokens.borrow_mut().take_changed()));
    for (tenant, quota) in state.quotas {
        keep.quotas.borrow_mut().insert(tenant.to_string(), quota);
        // The core knows them where it is the same start.
        if !is_same && let Err(why) = tenants::tell(node, tenant, quota).await {
            log::error!("state: the quota of the tenant {tenant} is not set: {why}");
        }
    }
    let lines = node.audit.borrow().count();
    let start = if is_same { "this start" } else { "another start" };
    log::info!(
        "state: {names_count} names, {tokens_count} tokens and {lines} lines of the audit log, of {start} of the machine"
    );
}

/// The host's key: the one that was kept, or a new one, which is kept from now on. Whether it was kept.
pub async fn host_key(node: &Node) -> ([u8; 32], bool) {
    if let Some(key) = node.keep.host.get() {
        return (key, true);
    }
    let mut key = [0; 32];
    node.random.borrow_mut().fork().fill_bytes(&mut key);
    node.keep.host.set(Some(key));
    node.keep.unsaid.set(true);
    // Before anybody is told of it.
    let _ = save(node).await;
    (key, false)
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

/// `state begin-anew`: writes over a disk that is not used, and keeps all on it from now on.
///
/// # Errors
///
/// There is none, it is used, or it could not be used in any case.
pub async fn begin_anew(node: &Node) -> Result<String, String> {
    let keep = &node.keep;
    let (Some(disk), Some(name)) = (Disk::attached(), keep.disk.borrow().clone()) else {
        return Err("this VM has no virtual disk: disk= of its image gives it one".to_string());
    };
    match keep.how.get() {
        How::Refused(why) if why.can_be_begun_anew() => {}
        How::Refused(why) => return Err(format!("{name} cannot be used: {why}")),
        _ => return Err(format!("{name} is in use, and holds what this VM knows: there is nothing to begin anew")),
    }
    let mut chance = [0; 16];
    node.random.borrow_mut().fork().fill_bytes(&mut chance);
    let begun = async {
        clear(&disk).await.map_err(|error| Refused::Disk(0, error))?;
        let (mut store, _) = Store::open(disk, chance).await.map_err(|(_, why)| why)?;
        store.doubt();
        Ok(store)
    };
    let begun: Result<Result<_, Refused>, _> = timeout(OPENS, begun).await;
    let store = begun.unwrap_or(Err(Refused::Silent)).map_err(|why| format!("{name} cannot be used: {why}"))?;
    *keep.store.lock().await = Some(store);
    keep.how.set(How::Kept);
    save(node).await.map_err(|why| format!("{name} is begun anew, and nothing is on it yet: {why}"))?;
    Ok(format!("{name} has what this VM knows from now on\n"))
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

/// Lets the VMs run that are to, and were not started since the machine was.
pub async fn resume(node: Rc<Node>) {
    let wanted: Vec<String> = {
        let names = node.names.borrow();
        let wanted = names.iter().filter(|(_, named)| named.runs && named.vm.is_none());
        wanted.map(|(name, _)| name.to_string()).collect()
    };
    let mut started = 0_usize;
    for name in &wanted {
        let command = crate::command::Command::VmStart { name: name.clone() };
        match crate::act::act(&node, audit::SUPERVISOR, &format!("vm start {name}"), command).await {
            Ok(_) => started += 1,
            Err(why) => log::error!("state: {why}"),
        }
    }
    if !wanted.is_empty() {
        log::info!("state: of {} VMs that ran when the machine went off, {started} run again", wanted.len());
    }
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
