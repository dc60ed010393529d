//! Images: those that came with the machine, and those that were put. The core holds those of which there are VMs, and others as long as it has room;
//! those that were put lie on this VM's virtual disk, too, where it has one ([`crate::shelf`]).

use crate::image_core::{ask, details, held, refused};
use crate::image_order::{ImageOrder, args_of};
use crate::image_query::ImageQuery;
use crate::lines::hex;
use crate::node::{Image, Node};
use crate::refusal::said;
use crate::said::Said;
use crate::shelf;
use crate::show::as_json;
use crate::walk::Walk;
use abi::control::{ControlRequest, status};
use abi::vm::ImageId;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use ilwaco::time::{Duration, Instant, sleep};
use serde::Serialize;

/// How long the core may be busy, and VMs may take to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// Memory that an answer takes for each image that there is, and for each that it shows.
const IMAGE_BYTES: usize = 160;
/// See `IMAGE_BYTES`.
const SHOWN_BYTES: usize = 400;
/// Users of an image that are named.
const NAMED: usize = 3;

#[derive(Serialize)]
struct ShownImage {
    name: String,
    memory_bytes: u64,
    kept: bool,
}

#[derive(Serialize)]
struct ShownDetails<'a> {
    name: &'a str,
    memory_bytes: u64,
    put: bool,
    file_bytes: Option<u64>,
    sha256: Option<String>,
    args: Option<String>,
    vms: Option<u64>,
    kept: bool,
    held: bool,
}

/// All images by their names: those that the core holds, and those that are kept.
async fn all(node: &Node) -> Result<BTreeMap<String, ShownImage>, String> {
    node.look_at_images().await.map_err(said)?;
    let shown =
        |name: &str, memory_bytes, kept| (name.to_string(), ShownImage { name: name.to_string(), memory_bytes, kept });
    let library = node.keep.library.borrow();
    let mut all: BTreeMap<_, _> = library.iter().map(|(name, kept)| shown(name, kept.memory_bytes, true)).collect();
    for Image { name, memory_bytes } in node.images.borrow().iter().filter(|image| !image.name.is_empty()) {
        all.entry(name.clone()).or_insert_with(|| shown(name, *memory_bytes, false).1);
    }
    Ok(all)
}

/// `image list --count`.
///
/// # Errors
///
/// What the core refuses.
pub async fn count(node: &Node, query: &ImageQuery, json: bool) -> Result<String, String> {
    let count = all(node).await?.into_keys().filter(|name| query.takes(name)).count();
    Ok(if json { format!("{{\"images\":{count}}}\n") } else { format!("{count}\n") })
}

/// `image list`: what is listed, and the name of the last one where it goes on.
///
/// # Errors
///
/// What the core refuses.
pub async fn list(node: &Node, query: &ImageQuery, json: bool) -> Result<(String, Option<String>), String> {
    let known = node.keep.library.borrow().iter().count() + node.images.borrow().len();
    let _room = node.room(known * IMAGE_BYTES + known.min(query.limit) * SHOWN_BYTES)?;
    let mut wanted = all(node).await?.into_values().filter(|image| query.takes(&image.name));
    let all: Vec<ShownImage> = wanted.by_ref().take(query.limit).collect();
    let more_after = wanted.next().and_then(|_| all.last().map(|last| last.name.clone()));
    if json {
        return Ok((as_json(&all)?, more_after));
    }
    let mut text = "NAME                  KiB  KEPT\n".to_string();
    for ShownImage { name, memory_bytes, kept } in &all {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<16} {:>8}  {}", memory_bytes / 1024, if *kept { "yes" } else { "-" });
    }
    Ok((text, more_after))
}

/// The names of all images.
///
/// # Errors
///
/// What the core refuses.
pub async fn all_names(node: &Node) -> Result<Vec<String>, String> {
    Ok(all(node).await?.into_keys().collect())
}

/// Names of images that begin so, a hundred at most.
pub async fn names(node: &Node, begun: &str) -> Vec<String> {
    all(node).await.unwrap_or_default().into_keys().filter(|name| name.starts_with(begun)).take(100).collect()
}

/// `image show`.
///
/// # Errors
///
/// There is no such image; what the core refuses.
pub async fn show(node: &Node, name: &str, json: bool) -> Result<String, String> {
    let (id, memory_bytes) = find(node, name).await?;
    let details = match id {
        Some(id) => details(node, id).await?,
        None => None,
    };
    let sent = details.as_ref().map(|(image, _)| image);
    // One that the core does not hold has no VMs.
    let kept = node.keep.library.borrow().get(name).cloned();
    let alone = kept.as_ref().filter(|_| id.is_none());
    let found = ShownDetails {
        name,
        memory_bytes,
        put: sent.is_some() || alone.is_some(),
        file_bytes: sent.map(held).or(alone.map(|kept| kept.held_bytes.into())),
        sha256: sent.map(|image| hex(&image.digest)).or(alone.map(|kept| hex(&kept.digest))),
        args: sent.map(args_of).or(alone.map(|kept| kept.args.clone())),
        vms: details.as_ref().map(|(_, vms)| *vms).or(alone.map(|_| 0)),
        kept: kept.is_some(),
        held: id.is_some(),
    };
    if json {
        return as_json(&found);
    }
    let yes = |yes: bool| Some(if yes { "yes" } else { "no" }.to_string());
    let mut text = String::new();
    for (key, value) in [
        ("name", Some(name.to_string())),
        ("memory", Some(format!("{} KiB", memory_bytes / 1024))),
        ("from", Some(if found.put { "image put" } else { "the machine's start" }.to_string())),
        ("bytes", found.file_bytes.map(|bytes| bytes.to_string())),
        ("sha256", found.sha256),
        ("args", found.args.filter(|args| !args.is_empty())),
        ("VMs", found.vms.map(|vms| vms.to_string())),
        ("kept", yes(found.kept)),
        ("held", yes(found.held)),
    ] {
        let _ = writeln!(text, "{key:<8} {}", value.as_deref().unwrap_or("-"));
    }
    Ok(text)
}

/// An image by its name: its number where the core holds it, and bytes of memory that a VM of it has.
///
/// # Errors
///
/// There is none; what the core refuses.
pub async fn find(node: &Node, name: &str) -> Result<(Option<ImageId>, u64), String> {
    node.look_at_images().await.map_err(said)?;
    node.knows_image(name).ok_or_else(|| node.no_image(name))
}

/// Makes an image of a file: it is kept on the disk where that is possible, and the core holds it. What to say of it, when what has changed is kept, too.
///
/// # Errors
///
/// What is wrong with the file, that the disk has no room for it, or what the core refuses: there is no such image then, and nothing of it is left.
pub async fn put(node: &Node, order: &ImageOrder, file: &[u8]) -> Result<Said, String> {
    let (image, elf) = order.of_file(file)?;
    let name = image.entry.name;
    let _turn = node.sends.lock().await;
    if node.keep.library.borrow().get(name.as_str()).is_some() {
        return Err(refused(name.as_str(), status::TAKEN, 0, 0));
    }
    let place = shelf::shelve(node, name.as_str(), file).await?;
    shelf::send(node, &image, &elf, file).await?;
    node.look_at_images().await.map_err(said)?;
    let aside = match place {
        Ok(place) => {
            shelf::note(node, &image, file.len(), place);
            String::new()
        }
        Err(why) => format!("{name} is gone when the machine is off, and its VMs do not start again: {why}\n"),
    };
    let text = format!("{name} is an image of {} pages; its SHA-256 is {}\n", image.pages(), hex(&image.digest));
    Ok(Said { text, aside })
}

/// `image rm`.
///
/// # Errors
///
/// There is no such image, it came with the machine, or VMs are made of it: which.
pub async fn remove(node: &Node, name: &str) -> Result<String, String> {
    let _turn = node.sends.lock().await;
    let (id, _) = find(node, name).await?;
    let is_kept = node.keep.library.borrow().get(name).is_some();
    let at_most = Instant::now() + PATIENCE;
    loop {
        let (users, all) = users(node, name, id).await?;
        if all != 0 {
            let more = if all > users.len() { format!(" and {} more", all - users.len()) } else { String::new() };
            return Err(format!("{}{more} are made of {name}: `vm destroy` them first", users.join(", ")));
        }
        let Some(id) = id else { break };
        match ask(node, ControlRequest::ImageRemove { image: id }, &[]).await? {
            (status::OK, _) => break,
            // One that came with the machine has the name of one that was kept.
            (status::NOT_FOUND, _) if is_kept => break,
            (status::NOT_FOUND, _) => {
                return Err(format!("{name} came with the machine, whose system.toml names it: it stays"));
            }
            // Somebody is just being taken apart.
            (status::IN_USE, _) if Instant::now() < at_most => sleep(Duration::from_millis(20)).await,
            (status::IN_USE, vms) => return Err(format!("{vms} VMs of {name} are still ending: try again")),
            (status, value) => return Err(refused(name, status, value, 0)),
        }
    }
    node.keep.library.borrow_mut().remove(name);
    node.look_at_images().await.map_err(said)?;
    Ok(format!("{name} is no image any more\n"))
}

/// Some of the VMs that are made of an image, by their names where they have some, running or not; and how many there are.
async fn users(node: &Node, of: &str, image: Option<ImageId>) -> Result<(Vec<String>, usize), String> {
    let (mut users, mut all) = (Vec::new(), 0);
    let mut add = |user: String| {
        all += 1;
        if users.len() < NAMED {
            users.push(user);
        }
    };
    let mut last = String::new();
    loop {
        let names = node.names.borrow();
        let Some((name, named)) = names.behind(&last) else { break };
        last = name.to_string();
        if named.image_name == of {
            add(last.clone());
        }
    }
    let Some(image) = image else { return Ok((users, all)) };
    let Some((_, 1..)) = details(node, image).await? else { return Ok((users, all)) };
    let mut walk = Walk::vms(node, 0);
    loop {
        let vms = walk.next().await.map_err(said)?;
        if vms.is_empty() {
            break;
        }
        for vm in vms {
            let ends = vm.state == abi::control::vm_state::ENDING;
            if vm.image == image && !ends && node.names.borrow().of(vm.id).is_none() {
                add(vm.id.to_string());
            }
        }
    }
    Ok((users, all))
}
