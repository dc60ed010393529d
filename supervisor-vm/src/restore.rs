//! What was kept comes back when this VM starts: from its virtual disk to where it is known.

use crate::act::act;
use crate::audit;
use crate::chain;
use crate::command::Command;
use crate::keep::{How, OPENS};
use crate::library::Library;
use crate::lines::Lines;
use crate::node::Node;
use crate::save::save;
use crate::state::{Boot, NO_IMAGE, State};
use crate::store::Store;
use crate::store::block::HOLDS;
use crate::store::medium::Medium;
use crate::store::refused::Refused;
use crate::tenants;
use abi::control::{ControlReply, ControlRequest};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use chacha20::rand_core::Rng;
use ilwaco::disk::Disk;
use ilwaco::time::timeout;

/// Takes in what was kept. It is said what is.
pub async fn open(node: &Node) {
    let keep = &node.keep;
    let boot = match node.ask(ControlRequest::Boot, drop).await {
        Ok(ControlReply::Boot { low, high }) => [low, high],
        _ => [0; 2],
    };
    keep.boot.set(Boot { id: boot, ..Boot::default() });
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
    let mut state = State::of(&records).ok_or(Refused::Senseless)?;
    drop(records);
    let images = core::mem::take(&mut state.images);
    let library = Library::of(images, store.image_blocks()).ok_or(Refused::Senseless)?;
    let lines = timeout(OPENS, last_lines(&store)).await.map_err(|_| Refused::Silent)??;
    let is_same = state.boot.id == boot;
    if !is_same {
        // What lived then does no more, and that is kept as a whole.
        store.doubt();
    }
    node.audit.borrow_mut().go_on_behind(lines);
    node.keep.library.replace(library);
    node.keep.owners.replace(core::mem::take(&mut state.owners));
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
    for (tenant, limits) in state.quotas {
        keep.quotas.borrow_mut().insert(tenant.to_string(), limits);
        // The core knows them where it is the same start.
        if !is_same && let Err(why) = tenants::tell(node, tenant, limits).await {
            log::error!("state: the quota of the tenant {tenant} is not set: {why}");
        }
    }
    let lines = node.audit.borrow().count();
    let images_count = keep.library.borrow().iter().count();
    let start = if is_same { "this start" } else { "another start" };
    log::info!(
        "state: {names_count} names, {images_count} images, {tokens_count} tokens and {lines} lines of the audit log, of {start} of the machine"
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

/// Lets the VMs run that are to, and were not started since the machine was.
pub async fn resume(node: Rc<Node>) {
    let wanted: Vec<String> = {
        let names = node.names.borrow();
        let wanted = names.iter().filter(|(_, named)| named.runs && named.vm.is_none());
        wanted.map(|(name, _)| name.to_string()).collect()
    };
    let mut started = 0_usize;
    for name in &wanted {
        let command = Command::VmStart { name: name.clone() };
        match act(&node, audit::SUPERVISOR, &format!("vm start {name}"), command).await {
            Ok(_) => started += 1,
            Err(why) => log::error!("state: {why}"),
        }
    }
    if !wanted.is_empty() {
        log::info!("state: of {} VMs that ran when the machine went off, {started} run again", wanted.len());
    }
}
