//! Files of images on this VM's virtual disk: written when an image is put, and read when a VM is to start whose image the core does not hold.

use crate::image_core;
use crate::image_order::ImageOrder;
use crate::keep::COMMITS;
use crate::library::Kept;
use crate::node::Node;
use crate::refusal::said;
use crate::store::extents::{Extent, NoPlace, places};
use abi::control::{ControlRequest, status};
use abi::image::NewImage;
use abi::limits::PAGE_SIZE;
use abi::vm::ImageId;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;
use elf_file::Elf;
use ilwaco::disk::{BLOCK_BYTES, DiskError};
use ilwaco::time::{Elapsed, Instant, timeout};
use sha2::{Digest, Sha256};

/// Blocks that are read or written before others have a turn at the disk.
const TURN: usize = 64;

/// Writes the file of an image where nothing else lies, so that it is durable. Where it lies, or why it cannot be kept, as long as the disk is as it is;
/// nothing of that is known to anybody before [`note`].
///
/// # Errors
///
/// There is no room for it, and what to do about that.
pub async fn shelve(node: &Node, name: &str, file: &[u8]) -> Result<Result<Vec<Extent>, String>, String> {
    let keep = &node.keep;
    let blocks = keep.store.lock().await.as_ref().map(crate::store::Store::image_blocks);
    let disk = keep.disk.borrow().clone().unwrap_or_default();
    let blocks = match blocks {
        None => return Ok(Err(keep.why_not().unwrap_or_default())),
        Some(0) => {
            return Ok(Err(format!(
                "its virtual disk {disk} has no room for images; one of more than 4 MiB has (mkdisk --disk {disk}=64MiB)"
            )));
        }
        Some(blocks) => blocks,
    };
    let place = keep.library.borrow().place(file.len(), blocks).map_err(|why| full(name, &disk, file.len(), why))?;
    Ok(match write(node, &place, file).await {
        Ok(()) => Ok(place),
        Err(why) => Err(format!("its virtual disk {disk} could not: {why}")),
    })
}

fn full(name: &str, disk: &str, bytes: usize, why: NoPlace) -> String {
    let wants = bytes.div_ceil(1024);
    let remedy = format!("`image rm` some, or give the operator's VM a larger disk (mkdisk --disk {disk}=SIZE)");
    match why {
        NoPlace::Full(blocks) => {
            let free = u64::from(blocks) * PAGE_SIZE / 1024;
            format!(
                "{name} wants {wants} KiB of the virtual disk {disk}, and {free} KiB of it are free for images: {remedy}"
            )
        }
        NoPlace::Scattered => {
            format!("{name} wants {wants} KiB of the virtual disk {disk}, which has these in too many pieces: {remedy}")
        }
    }
}

/// Whether the disk has just been silent, and is left alone.
fn is_silent(node: &Node) -> bool {
    node.keep.again.get().is_some_and(|again| Instant::now() < again)
}

/// What came of a turn at the disk.
fn turned<T>(node: &Node, done: Result<Result<T, DiskError>, Elapsed>) -> Result<T, String> {
    match done {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(Elapsed) => {
            node.keep.again.set(Some(Instant::now() + COMMITS));
            Err("it does not answer".to_string())
        }
    }
}

async fn write(node: &Node, place: &[Extent], file: &[u8]) -> Result<(), String> {
    let all: Vec<u32> = places(place).collect();
    for (places, part) in all.chunks(TURN).zip(file.chunks(TURN * BLOCK_BYTES)) {
        let guard = node.keep.store.lock().await;
        let store = guard.as_ref().filter(|_| !is_silent(node)).ok_or("it does not answer")?;
        turned(node, timeout(COMMITS, store.write_image(places.iter().copied(), part)).await)?;
    }
    let guard = node.keep.store.lock().await;
    let store = guard.as_ref().ok_or("it does not answer")?;
    turned(node, timeout(COMMITS, store.settle_image()).await)
}

async fn read(node: &Node, kept: &Kept) -> Result<Vec<u8>, String> {
    let bytes = usize::try_from(kept.file_bytes).unwrap_or(usize::MAX);
    let room = bytes.saturating_add(BLOCK_BYTES);
    let mut file = Vec::new();
    if !ilwaco::has_memory_for(room) || file.try_reserve_exact(room).is_err() {
        return Err("the supervisor has no memory for it now: try again when fewer are logged in".to_string());
    }
    let all: Vec<u32> = places(&kept.place).collect();
    for places in all.chunks(TURN) {
        let guard = node.keep.store.lock().await;
        let store = guard.as_ref().filter(|_| !is_silent(node)).ok_or("the disk does not answer")?;
        turned(node, timeout(COMMITS, store.read_image(places.iter().copied(), &mut file)).await)?;
    }
    file.truncate(bytes);
    Ok(file)
}

/// The file of an image that is kept, as it was put.
///
/// # Errors
///
/// There is no such image, it is not kept, or its file is not as it was put.
pub async fn fetch(node: &Node, name: &str) -> Result<Vec<u8>, String> {
    let kept = node.keep.library.borrow().get(name).cloned();
    let Some(kept) = kept else {
        node.look_at_images().await.map_err(said)?;
        node.knows_image(name).ok_or_else(|| node.no_image(name))?;
        return Err(format!(
            "{name} is not kept on a virtual disk of the operator's VM, so its file cannot be got back"
        ));
    };
    let file = read(node, &kept).await.map_err(|why| format!("{name} cannot be read: {why}"))?;
    let found: [u8; 32] = Sha256::digest(&file).into();
    if found != kept.digest {
        return Err(format!("the file of {name} is not as it was put: `image rm {name}`, and put it again"));
    }
    Ok(file)
}

/// An image that lies there is one from now on. It is on the disk when this VM has kept what has changed.
pub fn note(node: &Node, image: &NewImage, bytes: usize, place: Vec<Extent>) {
    let kept = Kept {
        memory_bytes: image.entry.memory_bytes,
        file_bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        held_bytes: image_core::held(image).try_into().unwrap_or(u32::MAX),
        digest: image.digest,
        args: crate::image_order::args_of(image),
        place,
        used: Cell::new(0),
    };
    let mut library = node.keep.library.borrow_mut();
    library.add(image.entry.name.as_str(), kept);
    library.note_use(image.entry.name.as_str());
}

/// Gives the core an image that a file holds; images that are kept and of which there are no VMs make room for it. Who calls this holds
/// [`Node::sends`].
///
/// # Errors
///
/// What the core refuses: it holds nothing of it then.
pub async fn send(node: &Node, image: &NewImage, elf: &Elf, file: &[u8]) -> Result<ImageId, String> {
    loop {
        match image_core::send(node, image, elf, file).await? {
            Ok(id) => return Ok(id),
            Err((status::NO_SPACE | status::NO_FRAMES, _)) if make_room(node).await? => {}
            Err((status, value)) => {
                return Err(image_core::refused(image.entry.name.as_str(), status, value, image.pages()));
            }
        }
    }
}

/// Gives the core an image that is kept, if it does not hold it.
///
/// # Errors
///
/// There is none of this name, its file is not as it was put, or the core has no room for it.
pub async fn load(node: &Node, name: &str) -> Result<ImageId, String> {
    // Whoever else wants it finds it there.
    let _turn = node.sends.lock().await;
    node.look_at_images().await.map_err(said)?;
    node.keep.library.borrow_mut().note_use(name);
    if let Some((id, _)) = node.image(name) {
        return Ok(id);
    }
    let kept = node.keep.library.borrow().get(name).cloned().ok_or_else(|| node.no_image(name))?;
    let disk = node.keep.disk.borrow().clone().unwrap_or_default();
    let file =
        read(node, &kept).await.map_err(|why| format!("{name} cannot be read from the virtual disk {disk}: {why}"))?;
    let order = ImageOrder::kept(name, &kept).map_err(ToString::to_string)?;
    let (image, elf) = order.of_file(&file).map_err(|why| {
        format!(
            "{name} on the virtual disk {disk} is no image of this machine: {why}; `image rm {name}`, and put it again"
        )
    })?;
    let id = send(node, &image, &elf, &file).await?;
    node.look_at_images().await.map_err(said)?;
    Ok(id)
}

/// Takes from the core the image that was wanted least lately, of those that are kept and of which there are no VMs. Whether there was one.
///
/// # Errors
///
/// What the core refuses.
pub async fn make_room(node: &Node) -> Result<bool, String> {
    node.look_at_images().await.map_err(said)?;
    let mut idle: Vec<(u64, String, ImageId)> = {
        let library = node.keep.library.borrow();
        let held =
            library.iter().filter_map(|(name, kept)| Some((kept.used.get(), name.to_string(), node.image(name)?.0)));
        held.collect()
    };
    idle.sort_unstable();
    for (_, name, id) in idle {
        match image_core::details(node, id).await? {
            Some((image, 0)) if image.entry.name.as_str() == name => {}
            _ => continue,
        }
        if image_core::ask(node, ControlRequest::ImageRemove { image: id }, &[]).await?.0 == status::OK {
            log::debug!("images: the core holds {name} no more");
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
