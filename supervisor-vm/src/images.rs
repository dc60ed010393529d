//! Images: those that came with the machine, and those that were put. The core holds them, so a new start of this VM finds all of them.

use crate::image_order::{ImageOrder, args_of, pages};
use crate::lines::hex;
use crate::node::{Image, Node};
use crate::refusal::said;
use crate::show::as_json;
use abi::control::{ControlReply, ControlRequest, status};
use abi::image::{BYTES, NewImage};
use abi::limits::{LIVE_IMAGES, PAGE_SIZE};
use abi::request_page::Piece;
use abi::vm::ImageId;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use ilwaco::control::Error;
use ilwaco::time::{Duration, Instant, sleep};
use serde::Serialize;
use zerocopy::{FromBytes, IntoBytes};

/// How long the core may be busy, and VMs may take to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// Users of an image that are named.
const NAMED: usize = 3;

#[derive(Serialize)]
struct ShownImage {
    name: String,
    memory_bytes: u64,
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
}

/// `image list`.
///
/// # Errors
///
/// What the core refuses.
pub async fn list(node: &Node, json: bool) -> Result<String, String> {
    node.look_at_images().await.map_err(said)?;
    let images = node.images.borrow();
    let all: Vec<ShownImage> = images
        .iter()
        .filter(|image| !image.name.is_empty())
        .map(|Image { name, memory_bytes }| ShownImage { name: name.clone(), memory_bytes: *memory_bytes })
        .collect();
    if json {
        return as_json(&all);
    }
    let mut text = "NAME                  KiB\n".to_string();
    for ShownImage { name, memory_bytes } in &all {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<16} {:>8}", memory_bytes / 1024);
    }
    Ok(text)
}

/// `image show`.
///
/// # Errors
///
/// There is no such image; what the core refuses.
pub async fn show(node: &Node, name: &str, json: bool) -> Result<String, String> {
    let (id, Image { memory_bytes, .. }) = find(node, name).await?;
    let details = details(node, id).await?;
    let sent = details.as_ref().map(|(image, _)| image);
    let found = ShownDetails {
        name,
        memory_bytes,
        put: sent.is_some(),
        file_bytes: sent.map(|image| image.program.segments().iter().map(|segment| segment.bytes).sum()),
        sha256: sent.map(|image| hex(&image.digest)),
        args: sent.map(args_of),
        vms: details.as_ref().map(|(_, vms)| *vms),
    };
    if json {
        return as_json(&found);
    }
    let mut text = String::new();
    for (key, value) in [
        ("name", Some(name.to_string())),
        ("memory", Some(format!("{} KiB", memory_bytes / 1024))),
        ("from", Some(if found.put { "image put" } else { "the machine's start" }.to_string())),
        ("bytes", found.file_bytes.map(|bytes| bytes.to_string())),
        ("sha256", found.sha256),
        ("args", found.args.filter(|args| !args.is_empty())),
        ("VMs", found.vms.map(|vms| vms.to_string())),
    ] {
        let _ = writeln!(text, "{key:<8} {}", value.as_deref().unwrap_or("-"));
    }
    Ok(text)
}

async fn find(node: &Node, name: &str) -> Result<(ImageId, Image), String> {
    node.look_at_images().await.map_err(said)?;
    node.image(name).ok_or_else(|| node.no_image(name))
}

/// What the core knows of an image that was put, and how many VMs it has; `None` for one that came with the machine.
async fn details(node: &Node, image: ImageId) -> Result<Option<(NewImage, u64)>, String> {
    let mut control = node.control().await;
    // A small number.
    let to = Piece { offset: 0, len: u16::try_from(BYTES).unwrap_or(u16::MAX) };
    match control.ask(ControlRequest::ImageDetails { image, to }, drop).await.map_err(said)? {
        ControlReply::Done { status: status::OK, value } => {
            let bytes = control.read(to).unwrap_or_default();
            let image = NewImage::read_from_bytes(&bytes).map_err(|_| said(Error::Answer))?;
            Ok(Some((image, value)))
        }
        ControlReply::Done { status: status::NOT_FOUND, .. } => Ok(None),
        ControlReply::Done { status, .. } => Err(said(Error::Refused(status))),
        _ => Err(said(Error::Answer)),
    }
}

/// Asks the core for something about an image, again while it is busy.
async fn ask(node: &Node, request: ControlRequest, page: &[u8]) -> Result<(u32, u64), String> {
    let at_most = Instant::now() + PATIENCE;
    loop {
        let mut control = node.control().await;
        if control.write(0, page).is_none() {
            return Err(said(Error::Answer));
        }
        match control.ask(request, drop).await.map_err(said)? {
            ControlReply::Done { status: status::BUSY, .. } if Instant::now() < at_most => {}
            ControlReply::Done { status, value } => return Ok((status, value)),
            _ => return Err(said(Error::Answer)),
        }
        drop(control);
        sleep(Duration::from_millis(10)).await;
    }
}

/// Gives the core an image that a file holds. What to say of it.
///
/// # Errors
///
/// What is wrong with the file, or what the core refuses: there is no such image then, and nothing of it is left.
pub async fn put(node: &Node, order: &ImageOrder, file: &[u8]) -> Result<String, String> {
    let (image, elf) = order.of_file(file)?;
    let name = image.entry.name;
    let wants = image.pages();
    let piece = |bytes: &[u8]| Piece { offset: 0, len: u16::try_from(bytes.len()).unwrap_or(u16::MAX) };
    let begin = ControlRequest::ImageBegin { from: piece(image.as_bytes()) };
    let id = match ask(node, begin, image.as_bytes()).await? {
        (status::OK, value) => ImageId::new(u32::try_from(value).map_err(|_| said(Error::Answer))?),
        (status, value) => return Err(refused(name.as_str(), status, value, wants)),
    };
    let mut put = (status::OK, 0);
    for (page, bytes) in (0..).zip(pages(file, &elf)) {
        put = ask(node, ControlRequest::ImagePage { image: id, page, from: piece(bytes) }, bytes).await?;
        if put.0 != status::OK {
            break;
        }
    }
    if put.0 == status::OK {
        put = ask(node, ControlRequest::ImageEnd { image: id }, &[]).await?;
    }
    if put.0 != status::OK {
        ask(node, ControlRequest::ImageRemove { image: id }, &[]).await?;
        return Err(refused(name.as_str(), put.0, put.1, wants));
    }
    node.look_at_images().await.map_err(said)?;
    Ok(format!("{name} is an image of {wants} pages; its SHA-256 is {}\n", hex(&image.digest)))
}

/// Why the core does not take an image that wants so many pages.
fn refused(name: &str, status: u32, value: u64, wants: u64) -> String {
    let kib = |pages: u64| pages.saturating_mul(PAGE_SIZE / 1024);
    match status {
        status::TAKEN => format!("there is an image {name}: `image rm {name}` first, or take another name"),
        status::NO_SPACE => format!("there are {LIVE_IMAGES} images, and no machine has more: `image rm` one"),
        status::NO_FRAMES => format!(
            "{name} wants {} KiB of memory, and {} KiB are free that are kept for no VM: end VMs, or `image rm` one",
            kib(wants + 1),
            kib(value)
        ),
        status::BUSY => "another one sends an image just now, or the pager is behind: try again".to_string(),
        status::BAD_REQUEST => {
            "the core takes it for none that could be: build core and supervisor from one source".to_string()
        }
        status => said(Error::Refused(status)),
    }
}

/// `image rm`.
///
/// # Errors
///
/// There is no such image, it came with the machine, or VMs are made of it: which.
pub async fn remove(node: &Node, name: &str) -> Result<String, String> {
    let (id, _) = find(node, name).await?;
    let at_most = Instant::now() + PATIENCE;
    loop {
        let (users, all) = users(node, id).await?;
        if all != 0 {
            let more = if all > users.len() { format!(" and {} more", all - users.len()) } else { String::new() };
            return Err(format!("{}{more} are made of {name}: `vm destroy` them first", users.join(", ")));
        }
        match ask(node, ControlRequest::ImageRemove { image: id }, &[]).await? {
            (status::OK, _) => break,
            (status::NOT_FOUND, _) => {
                return Err(format!("{name} came with the machine, whose system.toml names it: it stays"));
            }
            // Somebody is just being taken apart.
            (status::IN_USE, _) if Instant::now() < at_most => sleep(Duration::from_millis(20)).await,
            (status::IN_USE, vms) => return Err(format!("{vms} VMs of {name} are still ending: try again")),
            (status, value) => return Err(refused(name, status, value, 0)),
        }
    }
    node.look_at_images().await.map_err(said)?;
    Ok(format!("{name} is no image any more\n"))
}

/// Some of the VMs that are made of an image, by their names where they have some, running or not; and how many there are.
async fn users(node: &Node, image: ImageId) -> Result<(Vec<String>, usize), String> {
    let (mut users, mut all) = (Vec::new(), 0);
    let mut add = |user: String| {
        all += 1;
        if users.len() < NAMED {
            users.push(user);
        }
    };
    let (of, mut last) = (node.image_name(image), String::new());
    loop {
        let names = node.names.borrow();
        let Some((name, named)) = names.behind(&last) else { break };
        last = name.to_string();
        if named.image_name == of {
            add(last.clone());
        }
    }
    let Some((_, 1..)) = details(node, image).await? else { return Ok((users, all)) };
    let mut from = 0;
    while let Some(vm) = node.next_vm(from).await.map_err(said)? {
        from = vm.id.slot.number().saturating_add(1);
        let ends = vm.state == abi::control::vm_state::ENDING;
        if vm.image == image && !ends && node.names.borrow().of(vm.id).is_none() {
            add(vm.id.to_string());
        }
    }
    Ok((users, all))
}
