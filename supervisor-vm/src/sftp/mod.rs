//! Images by `scp` and `sftp`: a file that is written is an image of its name when it is closed. There is nothing to be read.

mod packet;

use crate::audit;
use crate::image_order::{FILE_BYTES, ImageOrder};
use crate::images;
use crate::input::PIECE;
use crate::peer::FAILED;
use crate::put::Receipt;
use crate::said::Said;
use crate::session::{Session, Stop};
use crate::shown::shown;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use packet::{Ask, Status};
use ssh::Stream;

/// A file that comes.
struct Coming<'n> {
    order: ImageOrder,
    receipt: Receipt<'n>,
}

/// Serves a client until it goes. The status.
///
/// # Errors
///
/// [`Stop`]: what was not closed is no image.
pub async fn serve(session: &Session) -> Result<u32, Stop> {
    let (mut bytes, mut piece, mut coming) = (Vec::new(), vec![0; PIECE], None);
    while let Some(read) = session.read(&mut piece).await? {
        bytes.extend_from_slice(piece.get(..read).unwrap_or_default());
        loop {
            let Some(split) = packet::split(&bytes) else {
                session.aside("that is no SFTP\n").await?;
                return Ok(FAILED);
            };
            let Some((from, to)) = split else { break };
            let Some((id, ask)) = bytes.get(from..to).and_then(packet::parse) else {
                session.aside("that is no SFTP\n").await?;
                return Ok(FAILED);
            };
            let answer = answer(session, &mut coming, id, ask).await?;
            session.write(Stream::Output, &answer).await?;
            bytes.drain(..to);
        }
    }
    Ok(0)
}

/// Why something is refused: clients have words of their own for that, so it is said beside, too.
async fn refuse(session: &Session, id: u32, status: Status, why: &str) -> Result<Vec<u8>, Stop> {
    session.aside(&format!("{why}\n")).await?;
    Ok(packet::status(id, status, why))
}

async fn answer<'n>(
    session: &'n Session,
    coming: &mut Option<Coming<'n>>,
    id: u32,
    ask: Ask<'_>,
) -> Result<Vec<u8>, Stop> {
    Ok(match ask {
        Ask::Init => packet::version(),
        Ask::RealPath { path } => packet::name(id, &format!("/{}", packet::name_of(path))),
        Ask::Stat { path: None } => packet::attributes(id, false),
        Ask::Stat { path: Some(path) } if packet::name_of(path).is_empty() => packet::attributes(id, true),
        // What is there is not written over: that is said when it comes.
        Ask::Stat { .. } => packet::status(id, Status::NoSuchFile, "there is nothing to be read here"),
        Ask::SetStat => packet::status(id, Status::Ok, ""),
        Ask::Open { path, flags } => match open(session, coming, packet::name_of(path), flags) {
            Ok(new) => {
                *coming = Some(new);
                packet::handle(id)
            }
            Err(why) => refuse(session, id, Status::Failure, &why).await?,
        },
        Ask::Write { offset, data } => match write(coming, offset, data) {
            Ok(()) => packet::status(id, Status::Ok, ""),
            Err(why) => {
                // What follows makes no image of it.
                *coming = None;
                refuse(session, id, Status::Failure, &why).await?
            }
        },
        Ask::Close => match coming.take() {
            Some(come) => match close(session, come).await {
                Ok(aside) => {
                    session.aside(&aside).await?;
                    packet::status(id, Status::Ok, "")
                }
                Err(why) => refuse(session, id, Status::Failure, &why).await?,
            },
            None => packet::status(id, Status::Failure, "no file is open"),
        },
        Ask::Other => {
            let why = "only images are put here: scp FILE admin@HOST:NAME, or ssh admin@HOST image put NAME < FILE";
            refuse(session, id, Status::Unsupported, why).await?
        }
    })
}

fn open<'n>(session: &'n Session, coming: &Option<Coming<'n>>, name: &str, flags: u32) -> Result<Coming<'n>, String> {
    if flags & packet::WRITE == 0 {
        return Err(String::from("there is nothing to be read here: an image cannot be got back"));
    }
    if coming.is_some() {
        return Err(String::from("another file is open: close that one first"));
    }
    let order = ImageOrder::new(name).map_err(|why| format!("`{}` {why}", shown(name)))?;
    Ok(Coming { order, receipt: session.node().receive(FILE_BYTES)? })
}

fn write(coming: &mut Option<Coming<'_>>, offset: u64, data: &[u8]) -> Result<(), String> {
    let Some(Coming { receipt, .. }) = coming else { return Err(String::from("no file is open")) };
    if offset != receipt.file.len() as u64 {
        return Err(String::from("a file comes from its beginning to its end"));
    }
    if receipt.file.len() + data.len() > FILE_BYTES {
        return Err(format!(
            "an image has {FILE_BYTES} bytes at most: strip it of what is for a debugger, or make it smaller"
        ));
    }
    receipt.file.extend_from_slice(data);
    Ok(())
}

/// A file is whole: it is an image, or why it is none. What is to be said beside.
async fn close(session: &Session, Coming { order, receipt }: Coming<'_>) -> Result<String, String> {
    let node = session.node();
    let said = images::put(node, &order, &receipt.file).await;
    drop(receipt);
    let text = format!("image put {}", order.name);
    let warning =
        audit::done(node, &session.who(), &text, said.as_ref().map_or_else(String::as_str, |_| audit::DONE)).await;
    said.map(|Said { text: _, aside }| aside + &warning.unwrap_or_default())
}
