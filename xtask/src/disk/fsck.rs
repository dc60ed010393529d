//! `fsck`: says what disks are, which belong together, and whether what is on them is what was written. It writes nothing.

use super::opened::{Disk, bytes_of, show};
use super::set::SetData;
use crate::error::{Context, Result};
use disk_format::{
    BLOCK_BYTES, CHECKS_PER_BLOCK, Check, Checked, Entry, Kind, Place, Seen, Set, check_blocks, checked,
    place_of_check, recognise, zeroed,
};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Bad blocks of a virtual disk that are named; the others are counted.
const NAMED: usize = 8;

#[derive(clap::Args)]
pub struct Args {
    /// The disks: image files or block devices, in any order
    #[arg(required = true)]
    disks: Vec<PathBuf>,
    /// Leave the blocks of virtual disks out
    #[arg(long)]
    quick: bool,
}

/// What was found: lines to print, and how many of them tell of something that is wrong.
#[derive(Default)]
pub struct Report {
    /// The lines.
    pub text: String,
    /// Faults.
    pub faults: usize,
    /// The names of virtual disks that can be written.
    pub writable: Vec<String>,
}

impl Report {
    fn say(&mut self, line: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn fault(&mut self, line: impl std::fmt::Display) {
        self.faults += 1;
        self.say(format_args!("FAULT  {line}"));
    }
}

pub fn fsck(args: &Args) -> Result<ExitCode> {
    let report = check(&args.disks, args.quick)?;
    print!("{}", report.text);
    if report.faults == 0 {
        println!("all is well");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} faults", report.faults);
    Ok(ExitCode::FAILURE)
}

/// Checks the disks at these places; without the blocks of virtual disks where `quick`.
pub fn check(paths: &[PathBuf], quick: bool) -> Result<Report> {
    let disks = paths.iter().map(|path| Disk::open(path, false)).collect::<Result<Vec<Disk>>>()?;
    let seen: Vec<Seen> = disks.iter().map(Disk::look).collect();
    let mut report = Report::default();
    for (number, (disk, seen)) in disks.iter().zip(&seen).enumerate() {
        let line = format!("disk {number}, {}: {seen}", disk.path.display());
        match seen {
            Seen::Member(_) | Seen::Shrunk(_) | Seen::Blank | Seen::Foreign => report.say(line),
            _ => report.fault(line),
        }
        let worn = seen.member().map_or(0, |member| member.worn);
        for place in Place::ALL.iter().filter(|place| worn >> place.number() & 1 != 0) {
            let where_ = if place.end { "end" } else { "start" };
            report.fault(format_args!(
                "disk {number}: superblock {} at the {where_} is bad; the other copy is good, and a later change writes it anew",
                place.slot
            ));
        }
    }
    let mut sets = 0;
    for set in recognise(&seen) {
        sets += 1;
        check_set(&set, &seen, &disks, quick, &mut report)?;
    }
    if sets == 0 {
        report.fault("there is no set on these disks");
    }
    Ok(report)
}

fn check_set(set: &Set, seen: &[Seen], disks: &[Disk], quick: bool, report: &mut Report) -> Result<()> {
    let superblock = &set.superblock;
    let name = superblock.name;
    let unit = show(bytes_of(superblock.stripe_unit.into()));
    let data = show(bytes_of(superblock.data_blocks));
    report.say(format_args!(
        "set {name} ({}): {} members with {data} of data each, stripe unit {unit}, generation {}",
        set.id, superblock.members, superblock.generation
    ));
    if set.is_out_of_order() {
        let order: Vec<String> = set.members().map(|(_, disk)| disk.to_string()).collect();
        report.say(format_args!("set {name}: its disks are, in order, {}", order.join(", ")));
    }
    for problem in &set.problems {
        report.fault(format_args!("set {name}: {problem}"));
    }
    let stripes = superblock.stripes().context(|| "a superblock without stripes".into())?;
    let mut entries: Option<Vec<Entry>> = None;
    for (member, disk) in set.members() {
        let Some(own) = set.superblock_of(member, seen) else { continue };
        let Some(disk) = disks.get(usize::from(disk)) else { continue };
        let layout = own.layout();
        let mut bytes = vec![0; usize::try_from(bytes_of(layout.directory_blocks.into())).unwrap_or(0)];
        let read = disk.read(layout.directory(own.generation), &mut bytes);
        match read.map(|()| checked(&bytes, own, &stripes).map(Iterator::collect)) {
            Ok(Ok(good)) => entries = entries.or(Some(good)),
            Ok(Err(fault)) => report.fault(format_args!("set {name}, member {member}: {fault}")),
            Err(error) => report.fault(format_args!("set {name}, member {member}: {error}")),
        }
    }
    let by_member: Vec<&Disk> = set.members().filter_map(|(_, disk)| disks.get(usize::from(disk))).collect();
    let data = SetData { disks: by_member, stripes };
    for entry in entries.iter().flatten() {
        let what = match entry.kind {
            Kind::Swap { region } => format!("{} swap regions of {}", entry.blocks / region, show(bytes_of(region))),
            Kind::Disk { read_only } => {
                if !read_only {
                    report.writable.push(entry.name.to_string());
                }
                let how = if read_only { ", never written" } else { "" };
                let beneath = entries.iter().flatten().find(|one| Some(one.id) == entry.beneath);
                let on = beneath.map_or_else(String::new, |one| format!(" on {}", one.name));
                format!("virtual disk of {}{on}{how}", show(bytes_of(entry.blocks)))
            }
        };
        let at = format!("from block {} of the set", entry.first);
        if matches!(entry.kind, Kind::Swap { .. }) || quick || !set.is_usable() {
            report.say(format_args!("  {}: {what}, {at}", entry.name));
            continue;
        }
        let written = check_disk(&data, entry, report)?;
        report.say(format_args!("  {}: {what}, {at}, {written} blocks written", entry.name));
    }
    Ok(())
}

/// Checks all blocks of a virtual disk. How many hold something.
fn check_disk(data: &SetData, entry: &Entry, report: &mut Report) -> Result<u64> {
    let (mut written, mut bad) = (0, 0);
    let mut checks = zeroed();
    let mut block = [0; BLOCK_BYTES];
    for row in 0..check_blocks(entry.blocks) {
        data.read(entry.first + row, &mut checks)?;
        let first = row * CHECKS_PER_BLOCK;
        for number in first..entry.blocks.min(first + CHECKS_PER_BLOCK) {
            let check = Check::in_block(&checks, place_of_check(number).1);
            // What is beneath is looked at there.
            if check == Check::UNWRITTEN || check == Check::INHERITED && entry.beneath.is_some() {
                continue;
            }
            written += 1;
            let Some(at) = entry.data(number) else { continue };
            let read = data.read(at, &mut block);
            if read.is_ok() && check.judge(entry.id, number, &block) == Checked::Good {
                continue;
            }
            bad += 1;
            if bad <= NAMED {
                let why = read.err().map_or_else(|| "it is not what was written".to_owned(), |error| error.to_string());
                report.fault(format_args!("{}: block {number}: {why}", entry.name));
            }
        }
    }
    if bad > NAMED {
        report.fault(format_args!("{}: {} more blocks are bad", entry.name, bad - NAMED));
    }
    Ok(written)
}
