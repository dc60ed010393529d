//! `mkdisk`: makes a set of disks.

use super::opened::{Disk, bytes_of, show};
use super::set::SetData;
use crate::error::{Context, Result, fail};
use crate::manifest::model::Bytes;
use crate::workspace::{Temporary, scratch};
use disk_format::{
    BLOCK_BYTES, Block, CHECKS_PER_BLOCK, Change, Check, ENTRIES_PER_BLOCK, Entry, EntryName, Kind, Layout,
    MAX_MEMBERS, Place, SetId, State, Superblock, check_blocks, directory_checksum, is_blank, pack, zeroed,
};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Blocks of a directory: room for 256 entries.
const DIRECTORY_BLOCKS: u32 = 4;
/// Blocks that are written at once.
const CHUNK: u64 = CHECKS_PER_BLOCK;

#[derive(clap::Args)]
pub struct Args {
    /// The members: image files, which are made where they are not there, or block devices
    #[arg(required = true)]
    disks: Vec<PathBuf>,
    /// Size of image files that are made
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    size: Bytes,
    /// Name of the set
    #[arg(long, value_name = "NAME", default_value = "foraker", value_parser = name)]
    name: EntryName,
    /// Stripe unit
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = size)]
    stripe: Bytes,
    /// Room for swap regions
    #[arg(long, value_name = "SIZE", value_parser = size)]
    swap: Option<Bytes>,
    /// Size of one swap region
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    swap_region: Bytes,
    /// A virtual disk that reads as zeros
    #[arg(long, value_name = "NAME=SIZE", value_parser = empty)]
    disk: Vec<Wanted>,
    /// A virtual disk that is never written, with what is in a file
    #[arg(long, value_name = "NAME=FILE", value_parser = image)]
    image: Vec<Wanted>,
    /// A virtual disk that is never written, with the files of a folder, as guests that serve files want it
    #[arg(long, value_name = "NAME=DIR", value_parser = files)]
    files: Vec<Wanted>,
    /// Leave out the virtual disk "operator" of 32 MiB, on which the operator's VM keeps what it knows
    #[arg(long)]
    no_operator: bool,
    /// Write over whatever is on the disks
    #[arg(long)]
    force: bool,
}

/// The virtual disk on which the operator's VM keeps what it knows.
pub const OPERATOR: &str = "operator";
/// Its bytes.
const OPERATOR_BYTES: u64 = 32 << 20;

/// A virtual disk that is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    name: EntryName,
    holds: Holds,
}

#[derive(Clone, Debug)]
enum Holds {
    Zeros(u64),
    File(PathBuf),
    /// The files of a folder, of which an image is made.
    Folder(PathBuf),
}

fn size(text: &str) -> Result<Bytes, String> {
    Bytes::try_from(text.to_owned())
}

fn name(text: &str) -> Result<EntryName, String> {
    EntryName::new(text).ok_or_else(|| format!("\"{text}\" is no name: write 1 to 16 of a-z, A-Z, 0-9, - _ ."))
}

fn empty(text: &str) -> Result<Wanted, String> {
    let (first, second) = text.split_once('=').ok_or("write NAME=SIZE, as in log=16MiB")?;
    Ok(Wanted { name: name(first)?, holds: Holds::Zeros(size(second)?.0) })
}

fn image(text: &str) -> Result<Wanted, String> {
    let (first, second) = text.split_once('=').ok_or("write NAME=FILE, as in web=tree.img")?;
    Ok(Wanted { name: name(first)?, holds: Holds::File(second.into()) })
}

fn files(text: &str) -> Result<Wanted, String> {
    let (first, second) = text.split_once('=').ok_or("write NAME=DIR, as in files=./public")?;
    Ok(Wanted { name: name(first)?, holds: Holds::Folder(second.into()) })
}

/// `mkdisk` as one types it.
#[derive(clap::Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(flatten)]
    args: Args,
}

impl Args {
    /// The arguments in these words.
    pub fn parse<W: Into<OsString> + Clone>(words: impl IntoIterator<Item = W>) -> Result<Args> {
        let line = <Line as clap::Parser>::try_parse_from(words).context(|| "mkdisk".into())?;
        Ok(line.args)
    }
}

pub fn mkdisk(args: Args) -> Result<ExitCode> {
    println!("{}", make(&with_operator(args)?)?);
    Ok(ExitCode::SUCCESS)
}

/// The same with the virtual disk of the operator's VM, unless there is one of its name, or none is wanted.
fn with_operator(mut args: Args) -> Result<Args> {
    let name = name(OPERATOR)?;
    let mut all = args.image.iter().chain(&args.files).chain(&args.disk);
    if !args.no_operator && !all.any(|wanted| wanted.name == name) {
        args.disk.push(Wanted { name, holds: Holds::Zeros(OPERATOR_BYTES) });
    }
    Ok(args)
}

/// Makes the set. What it is, for people.
pub fn make(args: &Args) -> Result<String> {
    if args.disks.len() > MAX_MEMBERS {
        fail!("{} disks are too many: a set has {MAX_MEMBERS} at most", args.disks.len());
    }
    let unit = blocks(args.stripe, "--stripe")?;
    let Some(unit) = u32::try_from(unit).ok().filter(|&unit| unit > 0) else { fail!("--stripe: give 4KiB at least") };
    let disks = open(args)?;
    let (wanted, _images) = wanted(args)?;
    // Before anything is made: a set that cannot be leaves nothing behind.
    let smallest = disks.iter().map(Member::blocks).min().unwrap_or(0);
    let Some(layout) = Layout::plan(smallest, unit, DIRECTORY_BLOCKS).filter(|layout| layout.fits(smallest)) else {
        fail!("a disk of {} has no room for data: make it larger, or --stripe smaller", show(bytes_of(smallest)));
    };
    let mut superblock = Superblock {
        set: SetId::random(random()?),
        name: args.name,
        generation: 1,
        state: State::Proposed,
        member: 0,
        members: u16::try_from(disks.len()).context(|| "too many disks".into())?,
        stripe_unit: unit,
        member_blocks: 0,
        directory_start: layout.directory_start,
        data_start: layout.data_start,
        data_blocks: layout.data_blocks,
        directory_blocks: layout.directory_blocks,
        entries: 0,
        directory_checksum: 0,
        next_id: 0,
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()),
    };
    let stripes = superblock.stripes().context(|| "this set cannot be".into())?;
    let entries = plan(args, &wanted, stripes.unit(), stripes.blocks())?;
    let mut directory = vec![0; usize::try_from(bytes_of(DIRECTORY_BLOCKS.into())).unwrap_or(0)];
    let used =
        pack(entries.iter().map(|(entry, _)| entry), &mut directory).context(|| "too many virtual disks".into())?;
    superblock.entries = u32::try_from(entries.len()).context(|| "too many virtual disks".into())?;

    let disks = disks.into_iter().map(Member::ready).collect::<Result<Vec<Disk>>>()?;
    forget(&disks)?;
    let data = SetData { disks: disks.iter().collect(), stripes };
    for (entry, holds) in &entries {
        fill(&data, entry, holds)?;
    }
    data.flush()?;
    let members: Vec<Superblock> = (0..)
        .zip(&disks)
        .map(|(member, disk)| Superblock { member, member_blocks: disk.blocks, ..superblock })
        .collect();
    let change = Change::first(superblock.entries, directory_checksum(&directory[..used]), superblock.entries);
    let write = |member: u16, at, block: &Block| match disks.get(usize::from(member)) {
        Some(disk) => disk.write(at, block),
        None => fail!("there is no disk for member {member}"),
    };
    change.carry_out(&members, &directory, write, || data.flush())?;
    let (name, count, size) = (superblock.name, superblock.members, show(bytes_of(stripes.blocks())));
    Ok(format!("set {name} ({}): {count} disks, {size} of data, {} entries", superblock.set, superblock.entries))
}

/// A member before anything is written.
enum Member {
    There(Disk),
    New(PathBuf, u64),
}

impl Member {
    fn blocks(&self) -> u64 {
        match self {
            Member::There(disk) => disk.blocks,
            Member::New(_, bytes) => bytes / bytes_of(1),
        }
    }

    fn ready(self) -> Result<Disk> {
        match self {
            Member::There(disk) => Ok(disk),
            Member::New(path, bytes) => Disk::create(&path, bytes),
        }
    }
}

/// All members, of which those that are there hold nothing, or may be written over. Nothing is written.
fn open(args: &Args) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    let mut paths = Vec::new();
    for path in &args.disks {
        if !path.exists() {
            if paths.contains(path) {
                fail!("{} is given twice", path.display());
            }
            paths.push(path.clone());
            members.push(Member::New(path.clone(), args.size.0));
            continue;
        }
        let whole = path.canonicalize().context(|| format!("cannot find {}", path.display()))?;
        if paths.contains(&whole) {
            fail!("{} is given twice", path.display());
        }
        paths.push(whole);
        let disk = Disk::open(path, true)?;
        if !args.force && !disk.is_blank()? {
            fail!(
                "{} is not blank ({}): give another disk, or --force to lose what is on it",
                path.display(),
                disk.look()
            );
        }
        members.push(Member::There(disk));
    }
    Ok(members)
}

/// Lets the disks be nobody's, so that one whose set does not become whole is not taken for what it was.
fn forget(disks: &[Disk]) -> Result<()> {
    for disk in disks {
        // A set that was there before and had another size has its end elsewhere.
        let old = disk.look().member().and_then(|member| member.newest().copied());
        let ends = [disk.blocks, old.map_or(disk.blocks, |old| old.member_blocks)];
        disk.write(0, &zeroed())?;
        for end in ends {
            for place in Place::ALL.map(|place| place.block(end)).into_iter().filter(|&at| at < disk.blocks) {
                disk.write(place, &zeroed())?;
            }
        }
        disk.flush()?;
    }
    Ok(())
}

/// All virtual disks that are wanted, with an image of each folder; these go with what is returned beside them.
fn wanted(args: &Args) -> Result<(Vec<Wanted>, Option<Temporary>)> {
    let mut all: Vec<Wanted> = args.image.iter().chain(&args.files).chain(&args.disk).cloned().collect();
    if args.files.is_empty() {
        return Ok((all, None));
    }
    let dir = scratch("trees")?;
    for Wanted { name, holds } in &mut all {
        if let Holds::Folder(folder) = holds {
            let image = dir.path().join(name.to_string());
            super::tree::make(folder, &image)?;
            *holds = Holds::File(image);
        }
    }
    Ok((all, Some(dir)))
}

/// What lies where in the set.
fn plan(args: &Args, disks: &[Wanted], unit: u64, room: u64) -> Result<Vec<(Entry, Holds)>> {
    let mut wanted = Vec::new();
    if let Some(swap) = args.swap {
        let region = blocks(args.swap_region, "--swap-region")?;
        let all = blocks(swap, "--swap")?;
        if region == 0 || all == 0 || !all.is_multiple_of(region) {
            let (swap, region) = (show(swap.0), show(args.swap_region.0));
            fail!("--swap: {swap} are no whole number of regions of {region}");
        }
        wanted.push((name("swap")?, Kind::Swap { region }, all, Holds::Zeros(0)));
    }
    for Wanted { name, holds } in disks {
        let (bytes, read_only) = match holds {
            Holds::Zeros(bytes) => (*bytes, false),
            Holds::File(path) | Holds::Folder(path) => (file_bytes(path)?, true),
        };
        if bytes == 0 {
            fail!("{name}: a virtual disk cannot be empty");
        }
        wanted.push((*name, Kind::Disk { read_only }, bytes.div_ceil(bytes_of(1)), holds.clone()));
    }
    if wanted.len() as u64 > u64::from(DIRECTORY_BLOCKS) * ENTRIES_PER_BLOCK {
        fail!(
            "{} virtual disks are too many: there is room for {}",
            wanted.len(),
            u64::from(DIRECTORY_BLOCKS) * ENTRIES_PER_BLOCK
        );
    }
    let mut entries: Vec<(Entry, Holds)> = Vec::new();
    let mut first = 0_u64;
    for (id, (name, kind, blocks, holds)) in (0..).zip(wanted) {
        if entries.iter().any(|(other, _)| other.name == name) {
            fail!("{name}: there are two of this name");
        }
        let entry = Entry { kind, id, name, first, blocks, beneath: None };
        if entry.end() > room {
            let (needed, room) = (show(bytes_of(entry.end())), show(bytes_of(room)));
            let without = if name == self::name(OPERATOR)? {
                "; --disk operator=4MiB makes it smaller, --no-operator leaves it out"
            } else {
                ""
            };
            fail!("{name} does not fit: {needed} are needed up to its end, and the set has {room}{without}");
        }
        first = entry.end().next_multiple_of(unit);
        entries.push((entry, holds));
    }
    Ok(entries)
}

fn file_bytes(path: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(path).context(|| format!("cannot read {}", path.display()))?;
    if !metadata.is_file() {
        fail!("{} is no file", path.display());
    }
    Ok(metadata.len())
}

/// Writes a virtual disk: its checks, and the blocks that are not zeros. Nothing for swap regions, which nobody reads before they are written.
fn fill(data: &SetData, entry: &Entry, holds: &Holds) -> Result<()> {
    if matches!(entry.kind, Kind::Swap { .. }) {
        return Ok(());
    }
    let mut source = match holds {
        Holds::Zeros(_) => None,
        Holds::File(path) | Holds::Folder(path) => {
            Some(File::open(path).context(|| format!("cannot open {}", path.display()))?)
        }
    };
    for row in 0..check_blocks(entry.blocks) {
        let mut checks = [Check::UNWRITTEN.to_bytes(); BLOCK_BYTES / size_of::<Check>()];
        let first = row * CHUNK;
        let count = CHUNK.min(entry.blocks - first);
        if let Some(source) = &mut source {
            let mut bytes = vec![0; usize::try_from(bytes_of(count)).unwrap_or(0)];
            read_up_to(source, &mut bytes).context(|| format!("cannot read what {} is to hold", entry.name))?;
            for ((number, block), check) in (first..).zip(bytes.as_chunks::<BLOCK_BYTES>().0).zip(&mut checks) {
                if is_blank(block) {
                    continue;
                }
                let at = entry.data(number).context(|| "a block beyond the end".into())?;
                data.write(at, block)?;
                *check = Check::of(entry.id, number, block).to_bytes();
            }
        }
        data.write(entry.first + row, checks.as_flattened())?;
    }
    Ok(())
}

/// Fills `to`, with zeros where the file ends.
fn read_up_to(from: &mut File, to: &mut [u8]) -> std::io::Result<()> {
    let mut at = 0;
    while at < to.len() {
        match from.read(&mut to[at..])? {
            0 => break,
            count => at += count,
        }
    }
    Ok(())
}

fn blocks(size: Bytes, option: &str) -> Result<u64> {
    if !size.0.is_multiple_of(bytes_of(1)) {
        fail!("{option}: {} bytes are no whole number of 4 KiB", size.0);
    }
    Ok(size.0 / bytes_of(1))
}

/// Sixteen bytes that nobody can guess.
fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut source = File::open("/dev/urandom").context(|| "cannot open /dev/urandom".into())?;
    source.read_exact(&mut bytes).context(|| "cannot read /dev/urandom".into())?;
    Ok(bytes)
}
