//! What a machine wrote to its disks, and in which order it flushed them.
//!
//! Each disk has a log of its writes in the format of Linux's dm-log-writes, as QEMU's `blklogwrites` makes them. Which disk did what before which other
//! one stands in QEMU's trace of virtio-blk requests: a write counts from when the disk has it, a flush when it has ended.

use crate::error::{Context, Result, fail};
use disk_format::{BLOCK_BYTES, Block};
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const SECTOR: usize = 512;
/// Sectors of a block.
const SECTORS: u64 = (BLOCK_BYTES / SECTOR) as u64;
/// The events that QEMU traces.
pub const TRACED: [&str; 3] = ["virtio_blk_handle_write", "virtio_blk_handle_read", "virtio_blk_req_complete"];

/// What was done, to which disk. Blocks are of 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A block is written: the number of what it may hold from now on.
    Write { disk: usize, block: u64, content: usize },
    /// All that was written before is durable.
    Flush { disk: usize },
}

/// Where the logs of a machine's disks are.
#[derive(Clone, Debug)]
pub struct Logged(PathBuf);

impl Logged {
    /// Logs in `dir` of so many disks, empty so far.
    pub fn make(dir: &Path, disks: usize) -> Result<Logged> {
        let logged = Logged(dir.to_owned());
        for path in (0..disks).map(|disk| logged.disk(disk)) {
            std::fs::write(&path, []).context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(logged)
    }

    /// The log of a disk.
    pub fn disk(&self, disk: usize) -> PathBuf {
        self.0.join(format!("disk{disk}.log"))
    }

    /// The trace.
    pub fn trace(&self) -> PathBuf {
        self.0.join("trace.log")
    }

    /// All that was done to so many disks, in order, once the machine is off. What was written is appended to `contents`.
    pub fn events(&self, disks: usize, contents: &mut Vec<Box<Block>>) -> Result<Vec<Event>> {
        let open = |path: PathBuf| std::fs::read(&path).context(|| format!("cannot read {}", path.display()));
        let writes = (0..disks).map(|disk| writes(&open(self.disk(disk))?, contents)).collect::<Result<Vec<_>>>()?;
        ordered(&requests(&String::from_utf8_lossy(&open(self.trace())?))?, writes)
    }
}

/// A step of a request to a disk, which is known by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Writes { disk: u64, first: u64, blocks: u64 },
    Flushed { disk: u64 },
}

/// The steps in a trace. No disk is flushed while it writes, else nobody could say what of that is durable.
fn requests(trace: &str) -> Result<Vec<Step>> {
    let (mut steps, mut reads, mut writes) = (Vec::new(), HashSet::new(), HashMap::new());
    for line in trace.lines() {
        let Some(at) = TRACED.iter().find_map(|event| Some((*event, line.find(event)?))) else { continue };
        let words: Vec<&str> = line[at.1..].split_ascii_whitespace().collect();
        let number = |key: &str| {
            let word = words.iter().skip_while(|word| **word != key).nth(1)?;
            word.strip_prefix("0x").map_or_else(|| word.parse().ok(), |digits| u64::from_str_radix(digits, 16).ok())
        };
        let number = |key| number(key).context(|| format!("QEMU traces what has no {key}: {line}"));
        let (disk, request) = (number("vdev")?, number("req")?);
        if at.0 == TRACED[0] {
            let (sector, sectors) = (number("sector")?, number("nsectors")?);
            if sector % SECTORS != 0 || sectors % SECTORS != 0 {
                fail!("diskmux writes parts of blocks: {line}");
            }
            steps.push(Step::Writes { disk, first: sector / SECTORS, blocks: sectors / SECTORS });
            writes.insert(request, disk);
        } else if at.0 == TRACED[1] {
            reads.insert(request);
        } else if !reads.remove(&request) && writes.remove(&request).is_none() {
            if writes.values().any(|other| *other == disk) {
                fail!("a disk is flushed while it writes: {line}");
            }
            steps.push(Step::Flushed { disk });
        }
    }
    Ok(steps)
}

/// Of each block of a disk, what was written to it, in order: numbers in `contents`.
type Writes = HashMap<u64, VecDeque<usize>>;

/// The steps as events. Which disk is which is seen from what was written where.
fn ordered(steps: &[Step], mut writes: Vec<Writes>) -> Result<Vec<Event>> {
    let mut written: HashMap<u64, HashMap<u64, usize>> = HashMap::new();
    for step in steps {
        if let Step::Writes { disk, first, blocks } = *step {
            let of = written.entry(disk).or_default();
            (first..first + blocks).for_each(|block| *of.entry(block).or_default() += 1);
        }
    }
    let mut disks = HashMap::new();
    for (address, counts) in written {
        let same =
            |log: &Writes| log.len() == counts.len() && log.iter().all(|(at, all)| counts.get(at) == Some(&all.len()));
        let mut fit = (0..writes.len()).filter(|&disk| same(&writes[disk]));
        match (fit.next(), fit.next()) {
            (Some(disk), None) => disks.insert(address, disk),
            (first, _) => {
                fail!("{} log of writes is that of a disk that was traced", first.map_or("no", |_| "more than one"))
            }
        };
    }
    let mut events = Vec::new();
    for step in steps {
        match *step {
            Step::Flushed { disk } => events.extend(disks.get(&disk).map(|&disk| Event::Flush { disk })),
            Step::Writes { disk, first, blocks } => {
                for block in first..first + blocks {
                    let disk = disks.get(&disk).copied().unwrap_or(0);
                    let content = writes[disk].get_mut(&block).and_then(VecDeque::pop_front);
                    let content = content.context(|| format!("a write to block {block} is not in the log"))?;
                    events.push(Event::Write { disk, block, content });
                }
            }
        }
    }
    Ok(events)
}

fn word(bytes: &[u8], at: usize) -> Result<u64> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map(|word| u64::from_le_bytes(*word)).context(|| "a log of writes ends too early".into())
}

/// The writes in a log, and what they wrote, which goes to `contents`.
fn writes(log: &[u8], contents: &mut Vec<Box<Block>>) -> Result<Writes> {
    // Magic, version, number of entries, bytes of a sector.
    if word(log, 0)? != MAGIC || word(log, 8)? != 1 || word(log, 24)? & 0xffff_ffff != SECTOR as u64 {
        fail!("this is no log of writes with sectors of 512 bytes");
    }
    let (mut writes, mut at) = (Writes::new(), SECTOR);
    for _ in 0..word(log, 16)? {
        let [sector, sectors, flags] = [word(log, at)?, word(log, at + 8)?, word(log, at + 16)?];
        at += SECTOR;
        if flags != 0 && (flags != FLUSH || sectors != 0) || sector % SECTORS != 0 || sectors % SECTORS != 0 {
            fail!("a log of writes has what diskmux never asks for: {sectors} sectors from {sector}, flags {flags:#x}");
        }
        for block in (sector / SECTORS..).take(usize::try_from(sectors / SECTORS).unwrap_or(0)) {
            let data = log.get(at..).and_then(|rest| rest.first_chunk::<BLOCK_BYTES>());
            writes.entry(block).or_default().push_back(contents.len());
            contents.push(Box::new(*data.context(|| "a log of writes ends too early".into())?));
            at += BLOCK_BYTES;
        }
    }
    Ok(writes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sector: u64, sectors: u64, flags: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = [sector, sectors, flags, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(512, 0);
        bytes.extend(std::iter::repeat_n(7, usize::try_from(sectors * 512).expect("small")));
        bytes
    }

    #[test]
    fn a_log_is_read() {
        let head = |count: u64| {
            let mut bytes: Vec<u8> = [MAGIC, 1, count, 512].iter().flat_map(|word| word.to_le_bytes()).collect();
            bytes.resize(512, 0);
            bytes
        };
        let log = [head(3), entry(16, 16, 0), entry(0, 0, FLUSH), entry(24, 8, 0)].concat();
        let mut contents = Vec::new();
        let read = writes(&log, &mut contents).expect("a log");
        assert!(read.len() == 2 && read[&2] == [0] && read[&3] == [1, 2] && contents.len() == 3 && contents[2][9] == 7);
        let bad = |log: &[u8]| writes(log, &mut Vec::new()).is_err();
        assert!(bad(&log[..2000]) && bad(&log[512..]), "too short, no head");
        assert!(bad(&[head(1), entry(4, 8, 0)].concat()), "half a block");
        assert!(bad(&[head(1), entry(8, 8, 2)].concat()), "flags");
    }

    #[test]
    fn the_trace_says_who_was_first() {
        let write = |disk: u64, request: u64, block: u64| {
            format!("1@2.3:virtio_blk_handle_write vdev {disk:#x} req {request:#x} sector {} nsectors 8\n", block * 8)
        };
        let end =
            |disk: u64, request: u64| format!("virtio_blk_req_complete vdev {disk:#x} req {request:#x} status 0\n");
        let read = "virtio_blk_handle_read vdev 0xb req 0x9 sector 1 nsectors 1\nvirtio_blk_req_complete vdev 0xb req 0x9 status 0\n";
        let trace =
            [write(0xa, 1, 5), write(0xb, 2, 5), end(0xb, 2), end(0xb, 3), write(0xb, 2, 6), end(0xa, 1), end(0xa, 1)];
        let steps = requests(&(trace.concat() + read)).expect("a trace");
        let log = |blocks: &[(u64, usize)]| {
            blocks.iter().map(|&(block, content)| (block, [content].into())).collect::<Writes>()
        };
        let events = ordered(&steps, vec![log(&[(5, 0), (6, 1)]), log(&[(5, 2)])]).expect("one order");
        let write_of = |disk, block, content| Event::Write { disk, block, content };
        let flush = |disk| Event::Flush { disk };
        assert_eq!(events, [write_of(1, 5, 2), write_of(0, 5, 0), flush(0), write_of(0, 6, 1), flush(1)]);
        assert!(ordered(&steps, vec![log(&[(5, 0)]), log(&[(5, 2)])]).is_err(), "another disk's log");
        assert!(requests(&(write(0xa, 1, 5) + &end(0xa, 3))).is_err(), "flushed while it writes");
    }
}
