//! What the core is asked about images.

use crate::image_order::pages;
use crate::node::Node;
use crate::refusal::said;
use abi::control::{ControlReply, ControlRequest, status};
use abi::image::{BYTES, NewImage};
use abi::limits::{LIVE_IMAGES, PAGE_SIZE};
use abi::request_page::Piece;
use abi::vm::ImageId;
use alloc::format;
use alloc::string::{String, ToString};
use elf_file::Elf;
use ilwaco::control::Error;
use ilwaco::time::{Duration, Instant, sleep};
use zerocopy::{FromBytes, IntoBytes};

/// How long the core may be busy.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of the segments of an image.
pub fn held(image: &NewImage) -> u64 {
    image.program.segments().iter().map(|segment| segment.bytes).sum()
}

/// What the core knows of an image that was put, and how many VMs it has; `None` for one that came with the machine.
///
/// # Errors
///
/// What the core refuses.
pub async fn details(node: &Node, image: ImageId) -> Result<Option<(NewImage, u64)>, String> {
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
///
/// # Errors
///
/// It does not answer as it should.
pub async fn ask(node: &Node, request: ControlRequest, page: &[u8]) -> Result<(u32, u64), String> {
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

/// Gives the core an image that a file holds. The core's status and value, where it refuses: it holds nothing of it then.
///
/// # Errors
///
/// It does not answer as it should.
pub async fn send(
    node: &Node,
    image: &NewImage,
    elf: &Elf,
    file: &[u8],
) -> Result<Result<ImageId, (u32, u64)>, String> {
    let piece = |bytes: &[u8]| Piece { offset: 0, len: u16::try_from(bytes.len()).unwrap_or(u16::MAX) };
    let begin = ControlRequest::ImageBegin { from: piece(image.as_bytes()) };
    let id = match ask(node, begin, image.as_bytes()).await? {
        (status::OK, value) => ImageId::new(u32::try_from(value).map_err(|_| said(Error::Answer))?),
        refused => return Ok(Err(refused)),
    };
    let mut put = (status::OK, 0);
    for (page, bytes) in (0..).zip(pages(file, elf)) {
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
        return Ok(Err(put));
    }
    Ok(Ok(id))
}

/// Why the core does not take an image that wants so many pages.
pub fn refused(name: &str, status: u32, value: u64, wants: u64) -> String {
    let kib = |pages: u64| pages.saturating_mul(PAGE_SIZE / 1024);
    match status {
        status::TAKEN => format!("there is an image {name}: `image rm {name}` first, or take another name"),
        status::NO_SPACE => format!(
            "VMs can be of {LIVE_IMAGES} images at once, and the core holds so many, of which there are VMs or which are not kept: `vm stop` all VMs of one image, or `image rm` one"
        ),
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
