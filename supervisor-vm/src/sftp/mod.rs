//! Images by `scp` and `sftp`: a file that is written is an image of its name when it is closed. Images that are kept can be got back, and so can the audit log
//! and the machine's log.

mod packet;
mod place;

use crate::audit;
use crate::image_order::{FILE_BYTES, ImageOrder};
use crate::images;
use crate::input::PIECE;
use crate::log_query::LogQuery;
use crate::machine_log;
use crate::node::Node;
use crate::peer::FAILED;
use crate::put::Receipt;
use crate::refusal::said;
use crate::said::Said;
use crate::save;
use crate::session::{Session, Stop};
use crate::shelf;
use crate::shown::shown;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use packet::{Ask, Entry, Status};
use place::{AUDIT, IMAGES, LOG, Place};
use ssh::Stream;

/// Entries of a folder that are told at once.
const ENTRIES: usize = 64;
/// Lines of the machine's log: all that are kept.
const LINES: usize = usize::MAX;

/// What is open: one thing at a time.
enum Open<'n> {
    /// Nothing.
    Nothing,
    /// A file that comes: what it is called, and what that asks for.
    Coming { called: String, order: Box<ImageOrder>, receipt: Receipt<'n> },
    /// A file that goes.
    Going(Vec<u8>),
    /// What is still to be told of a folder.
    Folder(Vec<Entry>),
}

/// Serves a client until it goes. The status.
///
/// # Errors
///
/// [`Stop`]: what was not closed is no image.
pub async fn serve(session: &Session) -> Result<u32, Stop> {
    let (mut bytes, mut piece, mut open) = (Vec::new(), vec![0; PIECE], Open::Nothing);
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
            let answer = answer(session, &mut open, id, ask).await?;
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

async fn answer<'n>(session: &'n Session, open: &mut Open<'n>, id: u32, ask: Ask<'_>) -> Result<Vec<u8>, Stop> {
    let node = session.node();
    Ok(match ask {
        Ask::Init => packet::version(),
        Ask::RealPath { path } => packet::name(id, &Place::of(path).path()),
        Ask::Stat { path: None } => match open {
            Open::Going(bytes) => packet::attributes(id, &Entry::file("", Some(bytes.len() as u64))),
            Open::Folder(_) => packet::attributes(id, &Entry::folder("")),
            Open::Coming { .. } | Open::Nothing => packet::attributes(id, &Entry::file("", None)),
        },
        Ask::Stat { path: Some(path) } => match stat(node, Place::of(path)).await {
            Ok(Some(entry)) => packet::attributes(id, &entry),
            Ok(None) => packet::status(id, Status::NoSuchFile, "there is no such image"),
            Err(why) => refuse(session, id, Status::Failure, &why).await?,
        },
        Ask::SetStat => packet::status(id, Status::Ok, ""),
        Ask::Open { path, flags } => match begin(node, open, path, flags).await {
            Ok(new) => {
                *open = new;
                packet::handle(id)
            }
            Err((status, why)) => refuse(session, id, status, &why).await?,
        },
        Ask::OpenFolder { path } => match folder(node, open, Place::of(path)).await {
            Ok(entries) => {
                *open = Open::Folder(entries);
                packet::handle(id)
            }
            Err((status, why)) => refuse(session, id, status, &why).await?,
        },
        Ask::ReadFolder => match open {
            Open::Folder(entries) if !entries.is_empty() => {
                let rest = entries.split_off(entries.len().min(ENTRIES));
                packet::names(id, &core::mem::replace(entries, rest))
            }
            Open::Folder(_) => packet::status(id, Status::End, ""),
            _ => packet::status(id, Status::Failure, "no folder is open"),
        },
        Ask::Read { offset, len } => match open {
            Open::Going(bytes) => match piece(bytes, offset, len) {
                [] => packet::status(id, Status::End, ""),
                piece => packet::data(id, piece),
            },
            _ => packet::status(id, Status::Failure, "no file is open to be read"),
        },
        Ask::Write { offset, data } => match write(open, offset, data) {
            Ok(()) => packet::status(id, Status::Ok, ""),
            Err(why) => {
                // What follows makes no image of it.
                *open = Open::Nothing;
                refuse(session, id, Status::Failure, &why).await?
            }
        },
        Ask::Close => match core::mem::replace(open, Open::Nothing) {
            Open::Coming { called, order, receipt } => match close(session, &called, &order, receipt).await {
                Ok(aside) => {
                    session.aside(&aside).await?;
                    packet::status(id, Status::Ok, "")
                }
                Err(why) => refuse(session, id, Status::Failure, &why).await?,
            },
            Open::Going(_) | Open::Folder(_) => packet::status(id, Status::Ok, ""),
            Open::Nothing => packet::status(id, Status::Failure, "nothing is open"),
        },
        Ask::Remove { path } => match remove(session, Place::of(path)).await {
            Ok(aside) => {
                session.aside(&aside).await?;
                packet::status(id, Status::Ok, "")
            }
            Err((status, why)) => refuse(session, id, status, &why).await?,
        },
        Ask::Other => {
            let why = "only images are put here and removed: scp FILE admin@HOST:NAME, or ssh admin@HOST image put NAME < FILE";
            refuse(session, id, Status::Unsupported, why).await?
        }
    })
}

/// Bytes of a file from there on, as many as are told at once.
fn piece(bytes: &[u8], offset: u64, len: u32) -> &[u8] {
    let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(packet::READ_MOST);
    rest.get(..len).unwrap_or(rest)
}

/// All images, those that are kept with their size.
async fn entries(node: &Node) -> Result<Vec<Entry>, String> {
    let names = images::all_names(node).await?;
    let library = node.keep.library.borrow();
    let entry = |name: String| Entry::file(&name, library.get(&name).map(|kept| kept.file_bytes.into()));
    Ok(names.into_iter().map(entry).collect())
}

/// What is at a place; `None` for nothing.
async fn stat(node: &Node, place: Place<'_>) -> Result<Option<Entry>, String> {
    Ok(match place {
        Place::Top | Place::Images => Some(Entry::folder("")),
        Place::Audit | Place::Log => Some(Entry::file("", None)),
        Place::Image(name) => entries(node).await?.into_iter().find(|entry| entry.name == name),
        Place::Nothing => None,
    })
}

fn nothing_else(open: &Open<'_>) -> Result<(), (Status, String)> {
    match open {
        Open::Nothing => Ok(()),
        _ => Err((Status::Failure, "another file is open: close that one first".to_string())),
    }
}

async fn folder(node: &Node, open: &Open<'_>, place: Place<'_>) -> Result<Vec<Entry>, (Status, String)> {
    nothing_else(open)?;
    match place {
        Place::Top => Ok(Vec::from([Entry::file(AUDIT, None), Entry::folder(IMAGES), Entry::file(LOG, None)])),
        Place::Images => entries(node).await.map_err(|why| (Status::Failure, why)),
        _ => Err((Status::NoSuchFile, format!("there is one folder here: {IMAGES}"))),
    }
}

async fn begin<'n>(node: &'n Node, open: &Open<'n>, path: &[u8], flags: u32) -> Result<Open<'n>, (Status, String)> {
    nothing_else(open)?;
    let failed = |why: String| (Status::Failure, why);
    match Place::of(path) {
        Place::Image(called) if flags & packet::WRITE != 0 => {
            let order = Box::new(ImageOrder::called(called).map_err(failed)?);
            let receipt = node.receive(FILE_BYTES).map_err(failed)?;
            Ok(Open::Coming { called: called.to_string(), order, receipt })
        }
        _ if flags & packet::WRITE != 0 => {
            Err((Status::Denied, "only images are put here: scp FILE admin@HOST:NAME".to_string()))
        }
        Place::Image(name) => shelf::fetch(node, name).await.map(Open::Going).map_err(failed),
        Place::Audit => {
            audit::note_ended(node).await.map_err(|error| failed(said(error)))?;
            save::export(node).await.map(|text| Open::Going(text.into_bytes())).map_err(failed)
        }
        Place::Log => {
            let wanted = LogQuery { lines: LINES, ..LogQuery::default() };
            machine_log::show(node, &wanted).await.map(|text| Open::Going(text.into_bytes())).map_err(failed)
        }
        Place::Top | Place::Images => Err(failed("that is a folder".to_string())),
        Place::Nothing => Err((Status::NoSuchFile, "there is no such file".to_string())),
    }
}

fn write(open: &mut Open<'_>, offset: u64, data: &[u8]) -> Result<(), String> {
    let Open::Coming { receipt, .. } = open else { return Err(String::from("no file is open to be written")) };
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
async fn close(session: &Session, called: &str, order: &ImageOrder, receipt: Receipt<'_>) -> Result<String, String> {
    let node = session.node();
    let said = images::put(node, order, &receipt.file).await;
    drop(receipt);
    let text = match called.split_once(',') {
        Some((_, rest)) => format!("image put {} ({})", order.name, shown(rest)),
        None => format!("image put {}", order.name),
    };
    let warning =
        audit::done(node, &session.who(), &text, said.as_ref().map_or_else(String::as_str, |_| audit::DONE)).await;
    said.map(|Said { text: _, aside }| aside + &warning.unwrap_or_default())
}

/// `image rm`. What is to be said beside.
async fn remove(session: &Session, place: Place<'_>) -> Result<String, (Status, String)> {
    let Place::Image(name) = place else {
        return Err((Status::Denied, "only images are removed here".to_string()));
    };
    let node = session.node();
    let done = images::remove(node, name).await;
    let text = format!("image rm {}", shown(name));
    let warning =
        audit::done(node, &session.who(), &text, done.as_ref().map_or_else(String::as_str, |_| audit::DONE)).await;
    done.map(|_| warning.unwrap_or_default()).map_err(|why| (Status::Failure, why))
}
