//! A log on a virtual disk: an example of the block interface. Boot arguments say what it does:
//!
//! - `append=N` (3 unless said): opens the log, says what is in it, and appends so many records, each durable before the next;
//! - `mode=read`: reads the whole disk, many blocks at a time, and says what it has found;
//! - `mode=epochs epochs=N seed=N`: writes and discards in such a way that any block tells what must be there when the power fails;
//! - `mode=many count=N width=N op=read|write order=scattered`: so many requests, so many at a time, in the order of the blocks unless they are to be scattered;
//! - `mode=load`: writes, reads, flushes and discards from several tasks until the VM is asked to end itself, and checks what it reads.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod epochs;
mod load;
mod log;
mod many;
mod sweep;

pub use crate::log::{Log, LogError};
use ilwaco::args::Args;
use ilwaco::disk::Disk;
use ilwaco::println;
pub use load::load;
pub use sweep::{Found, sweep};

/// Does what the boot arguments say. The code that the VM ends with: 0 when all went well, 1 without a disk, 2 when it failed.
pub async fn serve() -> u64 {
    let args = Args::of_this_vm();
    let Some(disk) = Disk::attached() else {
        println!("disk-log: this VM has no disk; create it with disk=NAME");
        return 1;
    };
    let how = if disk.is_read_only() { "to read" } else { "to write" };
    println!("disk-log: a disk of {} blocks, {how}", disk.blocks());
    match args.get("mode") {
        Some("read") => {
            let Found { zeros, corrupt, failed, sum } = sweep(&disk).await;
            println!("disk-log: read zeros={zeros} corrupt={corrupt} failed={failed} sum={sum:016x}");
            0
        }
        Some("epochs") => {
            let number = |key| args.get(key).and_then(|text| text.parse().ok());
            epochs::epochs(&disk, number("epochs").unwrap_or(25), number("seed").unwrap_or(1)).await
        }
        Some("many") => {
            let number = |key| args.get(key).and_then(|text| text.parse().ok());
            let (count, width) = (number("count").unwrap_or(1000), number("width").unwrap_or(1));
            let write = args.get("op") == Some("write");
            let step = if args.get("order") == Some("scattered") { many::SCATTERED } else { 1 };
            many::many(&disk, many::Load { count, width, write, step }).await
        }
        Some("load") => load(&disk).await,
        _ => append(disk, args.get("append").and_then(|count| count.parse().ok()).unwrap_or(3)).await,
    }
}

async fn append(disk: Disk, count: u32) -> u64 {
    let mut log = match Log::open(disk).await {
        Ok(log) => log,
        Err(error) => {
            println!("disk-log: the log cannot be opened: {error}");
            return 2;
        }
    };
    println!("disk-log: records={} last={}", log.len(), log.last());
    for _ in 0..count {
        match log.append(b"another one").await {
            Ok(sequence) => println!("disk-log: record {sequence} is durable"),
            Err(error) => {
                println!("disk-log: nothing is appended: {error}");
                return 2;
            }
        }
    }
    println!("disk-log: done");
    0
}
