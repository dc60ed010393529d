//! Virtual disks: which there are, making, removing and copying them, and which VM has which. The disk component has them; the core passes questions on to it.

use crate::command::DiskPath;
use crate::names::{Named, parse_id};
use crate::node::{Node, living};
use crate::owners::{Over, Owned};
use crate::refusal::said;
use crate::save::{refuse_own, save};
use crate::show::as_json;
use crate::shown::shown;
use crate::walk::Walk;
use abi::attachment::Attachment;
use abi::control::{ControlReply, ControlRequest};
use abi::disk::{DiskReply, DiskRequest, PART, entry_kind, read, snapshot};
use abi::guest_disk::BLOCK_BYTES;
use abi::limits::Name;
use abi::tenant::Tenant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use ilwaco::control::Error;
use ilwaco::time::{Duration, sleep, timeout};
use quota_words::pages;
use serde::Serialize;

/// How long the disk component may take for an answer: disks that fall silent are given up after ten seconds each.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a part of a virtual disk is asked for while somebody else reads one, and how long in between: two seconds in all.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);
/// Memory that a VM which has a virtual disk takes in an answer.
const USER_BYTES: usize = 96;
/// VMs that are named where somebody has a disk.
const NAMED: usize = 5;

/// A virtual disk, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownDisk {
    name: String,
    bytes: u64,
    read_only: bool,
    beneath: Option<String>,
    tenant: Option<String>,
    vms: Vec<String>,
}

/// Bytes of so many blocks.
const fn bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK_BYTES as u64)
}

/// Asks the disk component.
async fn ask(node: &Node, request: DiskRequest) -> Result<DiskReply, String> {
    match timeout(PATIENCE, node.ask_disks(request)).await {
        Ok(reply) => reply.map_err(said),
        Err(_) => {
            Err("the disk component has said nothing for a minute: `disks` on the operator's line says more"
                .to_string())
        }
    }
}

/// A name as the disk component knows it.
fn named(name: &str) -> Result<Name, String> {
    let takes = || format!("`{}` is no name of a virtual disk: take 1 to 16 of a-z A-Z 0-9 - _ .", shown(name));
    Attachment::parse(name).filter(|_| !name.contains(':')).map(|parsed| parsed.disk).ok_or_else(takes)
}

/// A file on a virtual disk: `NAME:PATH`, or `NAME` for the file that is meant where none is said.
///
/// # Errors
///
/// It is no such thing.
pub fn path(text: &str, meant: &str) -> Result<DiskPath, String> {
    let (disk, path) = text.split_once(':').unwrap_or((text, meant));
    let disk = named(disk)?;
    if path.is_empty() {
        return Err(format!("`{}`: which file? give {disk}:PATH", shown(text)));
    }
    Ok(DiskPath { disk, path: path.to_string() })
}

/// Which virtual disk, and how: `NAME` or `NAME:ro`.
///
/// # Errors
///
/// It is no such thing.
pub fn parse(text: &str) -> Result<Attachment, String> {
    let takes =
        || format!("{}: give the name of a virtual disk, and :ro behind it for one that is read only", shown(text));
    Attachment::parse(text).ok_or_else(takes)
}

/// So many blocks.
///
/// # Errors
///
/// It is no size.
pub fn size(text: &str) -> Result<u64, String> {
    let takes = || format!("{}: give bytes, as 64M or 512K, whole blocks of 4 KiB", shown(text));
    pages(text).filter(|&blocks| blocks != 0).ok_or_else(takes)
}

/// Who has which virtual disk: VMs that live, and those with a name that were created with one.
async fn users(node: &Node) -> Result<BTreeMap<String, Vec<String>>, String> {
    let _room = node.room(node.at_most(usize::MAX / USER_BYTES).await? * USER_BYTES)?;
    let (mut users, mut walk) = (BTreeMap::<String, Vec<String>>::new(), Walk::vms(node, 0));
    loop {
        let vms = walk.next().await.map_err(said)?;
        if vms.is_empty() {
            break;
        }
        let questions: Vec<_> = vms.iter().map(|vm| ControlRequest::DiskOf { slot: vm.id.slot }).collect();
        let replies = node.ask_each(&questions).await.map_err(said)?;
        for (vm, reply) in vms.iter().zip(replies) {
            let ControlReply::DiskOf { vm: id, disk, .. } = reply else { continue };
            if id == vm.id && !disk.is_empty() {
                let called = node.names.borrow().of(id).map_or_else(|| id.to_string(), ToString::to_string);
                users.entry(disk.as_str().to_string()).or_default().push(called);
            }
        }
    }
    for (name, Named { terms, .. }) in node.names.borrow().iter() {
        if terms.disk.is_none() {
            continue;
        }
        let of = users.entry(terms.disk.disk.as_str().to_string()).or_default();
        if !of.iter().any(|other| other == name) {
            of.push(name.to_string());
        }
    }
    Ok(users)
}

/// All virtual disks, in the order in which they lie.
async fn all(node: &Node) -> Result<Vec<ShownDisk>, String> {
    let mut all = Vec::new();
    for index in 0..u16::MAX {
        match ask(node, DiskRequest::Entry { index }).await? {
            DiskReply::Entry { kind, name, blocks, beneath, .. } => {
                if matches!(kind, entry_kind::DISK | entry_kind::READ_ONLY) {
                    all.push(ShownDisk {
                        name: name.as_str().to_string(),
                        bytes: bytes(blocks),
                        read_only: kind == entry_kind::READ_ONLY,
                        beneath: (!beneath.is_empty()).then(|| beneath.as_str().to_string()),
                        tenant: node.keep.owners.borrow().of(name.as_str()).map(|owned| owned.tenant.to_string()),
                        vms: Vec::new(),
                    });
                }
            }
            DiskReply::None => break,
            _ => return Err(said(Error::Answer)),
        }
    }
    Ok(all)
}

/// Blocks that a virtual disk has.
///
/// # Errors
///
/// There is no such virtual disk; what the core refuses.
pub async fn blocks_of(node: &Node, name: &str) -> Result<u64, String> {
    let name = named(name)?;
    for disk in all(node).await? {
        if disk.name == name.as_str() {
            return Ok(disk.bytes / bytes(1));
        }
    }
    Err(no_disk(name.as_str()))
}

/// A part of a block of a virtual disk that no VM writes.
///
/// # Errors
///
/// One does; what is there is damaged or cannot be read; what the core refuses.
pub async fn read_part(node: &Node, name: &str, block: u64, part: u16) -> Result<[u8; PART], String> {
    let name = named(name)?;
    let why = |why: &str| Err(format!("block {block} of {name} {why}"));
    let (mut how, mut bytes) = (read::BUSY, [0; PART]);
    for _ in 0..TRIES {
        let DiskReply::Read { how: then, bytes: found } = ask(node, DiskRequest::Read { name, block, part }).await?
        else {
            return Err(said(Error::Answer));
        };
        (how, bytes) = (then, found);
        if how != read::BUSY {
            break;
        }
        // Another VM that may reads a block, which takes as long as the disks do.
        sleep(PAUSE).await;
    }
    match how {
        read::DONE => Ok(bytes),
        read::NO_SUCH_DISK => Err(no_disk(name.as_str())),
        read::OUTSIDE => why("does not exist"),
        read::IN_USE => Err(format!("a VM writes {name}: `vm stop` it, or `disk snapshot {name} NEW` and read that")),
        read::BUSY => Err(format!("another one reads a virtual disk: try {name} again")),
        read::CORRUPT => why("is not as it was written: `scrub` on the operator's line says which are"),
        _ => why("cannot be read: `disks` on the operator's line says more"),
    }
}

/// `disk list`.
///
/// # Errors
///
/// The machine has no disks; what the core refuses.
pub async fn list(node: &Node, json: bool) -> Result<String, String> {
    let mut all = all(node).await?;
    let mut users = users(node).await?;
    for disk in &mut all {
        disk.vms = users.remove(&disk.name).unwrap_or_default();
    }
    if json {
        return as_json(&all);
    }
    let mut text = "NAME                      KiB MODE       LIES ON          TENANT VMS\n".to_string();
    for ShownDisk { name, bytes, read_only, beneath, tenant, vms } in &all {
        let mode = if *read_only { "read-only" } else { "read-write" };
        let (beneath, kib) = (beneath.as_deref().unwrap_or("-"), bytes / 1024);
        let tenant = tenant.as_deref().unwrap_or("-");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<16} {kib:>12} {mode:<10} {beneath:<16} {tenant:<6} {}", few(vms));
    }
    Ok(text)
}

/// Some names, and how many more there are.
fn few(names: &[String]) -> String {
    match names.len().saturating_sub(NAMED) {
        _ if names.is_empty() => "-".to_string(),
        0 => names.join(", "),
        more => format!("{} and {more} more", names.get(..NAMED).unwrap_or_default().join(", ")),
    }
}

/// How a change ended, of `name`; where it is one, `new` comes.
fn ended(reply: &DiskReply, name: &str, new: &str) -> Result<(), String> {
    let &DiskReply::Snapped { why, needed, free } = reply else { return Err(said(Error::Answer)) };
    Err(match why {
        snapshot::TAKEN => return Ok(()),
        snapshot::NO_SET => "no set of disks is in use: `disks` on the operator's line says why".to_string(),
        snapshot::READ_ONLY_SET => {
            "a disk of the set takes no writes: make it writable and start the machine again".to_string()
        }
        snapshot::NO_SUCH_DISK => no_disk(name),
        snapshot::NEVER_WRITTEN => format!("{name} is never written: it stays as it is without a snapshot"),
        snapshot::BAD_NAME => {
            format!("`{}` is no name of a virtual disk: take 1 to 16 of a-z A-Z 0-9 - _ .", shown(new))
        }
        snapshot::NAME_TAKEN => format!("there is a {new} already: take another name"),
        snapshot::TOO_DEEP => {
            format!("as many snapshots of {name} lie beneath each other as may: copy it to a new virtual disk first")
        }
        snapshot::FULL => "the directory of the set is full: `disk rm` one that is not needed".to_string(),
        snapshot::NO_ROOM => format!(
            "{new} needs {} KiB of the set in one piece, its checks included, and {} KiB are free: `disk rm` one that is not needed",
            bytes(needed) / 1024,
            bytes(free) / 1024
        ),
        snapshot::BUSY => "another virtual disk is being made, copied, removed or scrubbed: try again".to_string(),
        snapshot::FAILED => {
            "a disk could not do it, and nothing has changed: `disks` on the operator's line and the log say which"
                .to_string()
        }
        snapshot::IN_USE => format!("a VM has {name}: `disk list` says which; end it first"),
        snapshot::BENEATH => {
            format!("another virtual disk lies on {name}: `disk list` says which; remove that one first")
        }
        snapshot::BAD_SIZE => "a virtual disk has 4K at least".to_string(),
        _ => said(Error::Answer),
    })
}

fn no_disk(name: &str) -> String {
    format!("there is no virtual disk `{}`: `disk list` shows all", shown(name))
}

/// Says whose a virtual disk of so many blocks will be, before there is one, so that none comes that is not counted.
///
/// # Errors
///
/// The tenant may not have so much; there is one of the name.
async fn count(node: &Node, name: &str, owned: Option<Owned>) -> Result<(), String> {
    let there: BTreeSet<String> = all(node).await?.into_iter().map(|disk| disk.name).collect();
    if there.contains(name) {
        return Err(format!("there is a {name} already: take another name"));
    }
    {
        let mut owners = node.keep.owners.borrow_mut();
        owners.retain(&there);
        if let Some(Owned { tenant, blocks }) = owned {
            owners.check(tenant, blocks).map_err(|over| beyond(tenant, over))?;
        }
        owners.set(name, owned);
    }
    if let Err(why) = save(node).await.map_err(|why| why.to_string()) {
        log::warn!("disks: whose {name} is is not kept: {why}");
    }
    Ok(())
}

/// Why a tenant does not get a virtual disk, and what to do.
fn beyond(tenant: Tenant, Over { would, quota }: Over) -> String {
    let (would, quota) = (would / 1024, quota / 1024);
    format!(
        "with it the virtual disks of the tenant {tenant} would have {would} KiB, and its quota is {quota} KiB: `disk rm` one that is not needed, or `tenant set {tenant} --disk {would}K`"
    )
}

/// What came of a question for a virtual disk that was counted. One that was refused is not; one of which nobody knows is, until it is seen that it is not there.
fn come(node: &Node, reply: &DiskReply, name: &str, new: &str) -> Result<(), String> {
    let done = ended(reply, name, new);
    if done.is_err() {
        node.keep.owners.borrow_mut().set(new, None);
    }
    done
}

/// `disk create`: a virtual disk of so many blocks, which counts for a tenant or for nobody.
///
/// # Errors
///
/// Why there can be none.
pub async fn create(node: &Node, name: &str, blocks: u64, tenant: Option<Tenant>) -> Result<String, String> {
    let asked = named(name)?;
    let _turn = node.makes.lock().await;
    count(node, name, tenant.map(|tenant| Owned { tenant, blocks })).await?;
    let reply = ask(node, DiskRequest::Create { name: asked, blocks }).await?;
    come(node, &reply, name, name)?;
    Ok(format!("{name} is there, of {} KiB of zeros\n", bytes(blocks) / 1024))
}

/// `disk snapshot`. It counts for the tenant of what it is taken of, as a whole.
///
/// # Errors
///
/// Why there can be none.
pub async fn snapshot(node: &Node, name: &str, new: &str) -> Result<String, String> {
    refuse_own(node, name)?;
    refuse_own(node, new)?;
    let (asked, becomes) = (named(name)?, named(new)?);
    let _turn = node.makes.lock().await;
    let owned = node.keep.owners.borrow().of(name);
    count(node, new, owned).await?;
    let reply = ask(node, DiskRequest::Snapshot { name: asked, new: becomes }).await?;
    come(node, &reply, name, new)?;
    Ok(format!("{new} is what {name} was just now\n"))
}

/// `disk rm`.
///
/// # Errors
///
/// Somebody has it, or is to have it; why it cannot be.
pub async fn remove(node: &Node, name: &str) -> Result<String, String> {
    let asked = named(name)?;
    let _turn = node.makes.lock().await;
    if let Some(of) = users(node).await?.get(name) {
        return Err(format!("{name} is the disk of {}: `vm destroy` what is not needed, or `disk detach` it", few(of)));
    }
    let reply = ask(node, DiskRequest::Remove { name: asked }).await?;
    ended(&reply, name, name)?;
    node.keep.owners.borrow_mut().set(name, None);
    Ok(format!("{name} is removed\n"))
}

/// Whether a virtual disk of this name is there, as it is shown.
///
/// # Errors
///
/// What the core refuses.
pub async fn find(node: &Node, name: &str) -> Result<Option<ShownDisk>, String> {
    Ok(all(node).await?.into_iter().find(|disk| disk.name == name))
}

/// `disk attach`: a VM that does not run has it from its next start on.
///
/// # Errors
///
/// It runs; there is no such VM or disk, or the disk is never written.
pub async fn attach(node: &Node, vm: &str, disk: Attachment) -> Result<String, String> {
    let name = disk.disk.as_str();
    refuse_own(node, name)?;
    let Some(found) = find(node, name).await? else { return Err(no_disk(name)) };
    if found.read_only && !disk.is_read_only() {
        return Err(format!("{name} is never written: `disk attach {} {name}:ro`", shown(vm)));
    }
    change(node, vm, disk).await?;
    Ok(format!("{vm} has {disk} from its next start on\n"))
}

/// `disk detach`: a VM that does not run has none from its next start on, or the one that its image names.
///
/// # Errors
///
/// It runs, or has none; there is no such VM.
pub async fn detach(node: &Node, vm: &str) -> Result<String, String> {
    let had = change(node, vm, Attachment::NONE).await?;
    if had.is_none() {
        return Err(format!("{vm} was created without a disk"));
    }
    Ok(format!("{vm} has {had} no more\n"))
}

/// Changes the terms of a VM that does not run; the disk that was in them.
async fn change(node: &Node, vm: &str, disk: Attachment) -> Result<Attachment, String> {
    if parse_id(vm).is_some() {
        return Err(format!(
            "{vm} runs or did, and a VM has the disk that it was created with: name one that has a name"
        ));
    }
    // Whoever starts it waits here.
    let mut control = node.control().await;
    let none = || format!("no VM has the name `{}`: `vm create` makes one, `vm list` shows all", shown(vm));
    let runs = node.names.borrow().get(vm).ok_or_else(none)?.vm;
    if let Some(id) = runs
        && living(&mut control, id).await.map_err(said)?.is_some()
    {
        return Err(format!("{vm} runs, and has the disk that it was started with: `vm stop {vm}` first"));
    }
    node.names.borrow_mut().set_disk(vm, disk).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).expect("short")
    }

    #[test]
    fn names_and_sizes_are_as_the_set_takes_them() {
        assert_eq!(named("web.1_a-B"), Ok(name("web.1_a-B")));
        for bad in ["", "a/b", "web:ro", "seventeen-letters"] {
            assert!(named(bad).expect_err(bad).contains("is no name of a virtual disk"), "{bad}");
        }
        assert_eq!((size("4K"), size("1G")), (Ok(1), Ok(1 << 18)));
        for bad in ["0", "1", "many", ""] {
            assert!(size(bad).expect_err(bad).contains("give bytes"), "{bad}");
        }
        assert!(parse("a:rw").is_err_and(|why| why.starts_with("a:rw: give the name")));
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let reply = |why| DiskReply::Snapped { why, needed: 300, free: 2 };
        assert_eq!(ended(&reply(snapshot::TAKEN), "a", "b"), Ok(()));
        let mut all = Vec::new();
        for why in snapshot::NO_SET..=snapshot::BAD_SIZE {
            let said = ended(&reply(why), "a", "b").expect_err("refused");
            assert!(!said.contains("no answer") && !all.contains(&said), "{why}: {said}");
            all.push(said);
        }
        assert!(all.iter().any(|said| {
            said.starts_with("b needs 1200 KiB of the set in one piece, its checks included, and 8 KiB are free")
        }));
        assert!(ended(&reply(99), "a", "b").is_err_and(|said| said.contains("no answer")));
        assert!(ended(&DiskReply::None, "a", "b").is_err());
    }

    #[test]
    fn a_refusal_names_tenant_quota_and_remedy() {
        let blue = Tenant::new("blue").expect("a name");
        let why = "with it the virtual disks of the tenant blue would have 96 KiB, and its quota is 64 KiB: `disk rm` one that is not needed, or `tenant set blue --disk 96K`";
        assert_eq!(beyond(blue, Over { would: 96 << 10, quota: 64 << 10 }), why);
    }

    #[test]
    fn some_are_named() {
        let names: Vec<String> = (0..7).map(|number| format!("n{number}")).collect();
        assert_eq!([few(&[]), few(&names[..2]), few(&names)], ["-", "n0, n1", "n0, n1, n2, n3, n4 and 2 more"]);
    }
}
