use super::fsck::check;
use super::mkdisk::{Args, make};
use super::opened::Disk;
use crate::workspace::{Temporary, scratch};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

fn mkdisk(dir: &Path, line: &str) -> Result<String, String> {
    let dir = dir.display().to_string();
    let words = line.split_whitespace().map(|word| word.replace("DIR", &dir));
    Args::parse(words).and_then(|args| make(&args)).map_err(|error| error.to_string())
}

/// What fsck says of the disks: its faults, and everything.
fn fsck(disks: &[PathBuf]) -> (Vec<String>, String) {
    let report = check(disks, false).unwrap();
    let faults = report.text.lines().filter_map(|line| line.strip_prefix("FAULT  "));
    let faults: Vec<String> = faults.map(str::to_owned).collect();
    assert_eq!(faults.len(), report.faults);
    (faults, report.text)
}

/// Three disks with swap regions, a tree of which every third block is zeros, and a log; and what is in the tree.
fn three() -> (Temporary, Vec<PathBuf>, Vec<u8>) {
    let dir = scratch("disks").unwrap();
    let mut tree: Vec<u8> = (0..300_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    for block in tree.chunks_mut(4096).step_by(3) {
        block.fill(0);
    }
    fs::write(dir.path().join("tree"), &tree).unwrap();
    let line = "DIR/a DIR/b DIR/c --size 1MiB --stripe 16KiB --swap 256KiB --swap-region 64KiB --image web=DIR/tree --disk log=1MiB";
    mkdisk(dir.path(), line).unwrap();
    let disks = ["a", "b", "c"].map(|name| dir.path().join(name)).to_vec();
    (dir, disks, tree)
}

fn patch(disk: &Path, at: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(disk).unwrap().write_all_at(bytes, at).unwrap();
}

/// The bytes from block `first` of a set of three disks with a stripe unit of four blocks and data from block 12 on, by the manual's formula.
fn by_formula(disks: &[PathBuf], first: usize, blocks: usize) -> Vec<u8> {
    let disks: Vec<Vec<u8>> = disks.iter().map(|disk| fs::read(disk).unwrap()).collect();
    let block = |b: usize| {
        let at = (12 + b / 4 / 3 * 4 + b % 4) * 4096;
        disks[b / 4 % 3][at..at + 4096].to_vec()
    };
    (first..first + blocks).flat_map(block).collect()
}

#[test]
fn what_mkdisk_makes_is_what_was_asked_for() {
    let (_dir, disks, tree) = three();
    let (faults, text) = fsck(&disks);
    assert!(faults.is_empty(), "{text}");
    for line in [
        "3 members with 960 KiB of data each, stripe unit 16 KiB, generation 1",
        "swap: 4 swap regions of 64 KiB, from block 0 of the set",
        "web: virtual disk of 296 KiB, never written, from block 64 of the set, 49 blocks written",
        "log: virtual disk of 1 MiB, from block 140 of the set, 0 blocks written",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    // Behind one block of checks lies the tree; its last block is filled with zeros.
    let mut there = by_formula(&disks, 65, 74);
    assert!(there[tree.len()..].iter().all(|&byte| byte == 0));
    there.truncate(tree.len());
    assert!(there == tree, "the tree is not where it should be");
    // The order does not matter.
    let (faults, text) = fsck(&[disks[2].clone(), disks[0].clone(), disks[1].clone()]);
    assert!(faults.is_empty() && text.contains("its disks are, in order, 1, 2, 0"), "{text}");
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let (_dir, disks, _) = three();
    // Block 66 of the set, the second of the tree: unit 16, so disk 1, its row 5, third block.
    let at = (12 + 5 * 4 + 2) * 4096 + 77;
    let old = fs::read(&disks[1]).unwrap()[at];
    patch(&disks[1], at as u64, &[old ^ 4]);
    assert_eq!(fsck(&disks).0, ["web: block 1: it is not what was written"]);
    patch(&disks[1], at as u64, &[old]);
    assert!(fsck(&disks).0.is_empty());
    // A directory, of generation 1: blocks 7 to 10.
    patch(&disks[2], 7 * 4096 + 40, &[9]);
    let faults = fsck(&disks).0;
    assert_eq!(faults, ["set foraker, member 2: the directory's checksum is wrong: it was torn or has rotted"]);
    // A superblock: the other copy is there.
    let (_dir, disks, _) = three();
    patch(&disks[0], 2 * 4096 + 50, &[9]);
    let faults = fsck(&disks).0;
    assert!(matches!(&faults[..], [one] if one.contains("disk 0: superblock 1 at the start is bad")), "{faults:?}");
    // A lost block of checks makes errors, not zeros.
    let (_dir, disks, _) = three();
    patch(&disks[1], (12 + 5 * 4) * 4096, &[0; 4096]);
    let faults = fsck(&disks).0;
    assert_eq!((faults.len(), faults[8].as_str()), (9, "web: 66 more blocks are bad"));
}

#[test]
fn what_is_wrong_with_a_set_is_named() {
    let (dir, disks, _) = three();
    let missing = fsck(&disks[..2]).0;
    assert_eq!(missing, ["set foraker: member 2 is missing: connect its disk"]);
    let copy = dir.path().join("copy");
    fs::copy(&disks[1], &copy).unwrap();
    let twice = fsck(&[&disks[..], &[copy]].concat()).0;
    assert_eq!(twice, ["set foraker: disks 1 and 3 both are member 1: one is a copy of the other; remove it"]);
    OpenOptions::new().write(true).open(&disks[0]).unwrap().set_len(1 << 19).unwrap();
    let faults = fsck(&disks).0;
    let shrunk = "set foraker: disk 0 has shrunk: it has 128 blocks, and had 256; give it its size back";
    assert!(faults.contains(&shrunk.to_owned()), "{faults:?}");
    let other = scratch("disks").unwrap();
    mkdisk(other.path(), "DIR/x --name other --size 1MiB --stripe 16KiB").unwrap();
    let (faults, text) = fsck(&[other.path().join("x")]);
    assert!(faults.is_empty() && text.contains("set other ("), "{text}");
    fs::write(dir.path().join("none"), [1; 8192]).unwrap();
    let (faults, text) = fsck(&[dir.path().join("none")]);
    assert_eq!(faults, ["there is no set on these disks"]);
    assert!(text.contains("not ours; it is left alone"), "{text}");
}

#[test]
fn a_disk_that_is_not_blank_is_never_written() {
    let (dir, disks, _) = three();
    let before: Vec<Vec<u8>> = disks.iter().map(|disk| fs::read(disk).unwrap()).collect();
    let refused = mkdisk(dir.path(), "DIR/new DIR/b --size 1MiB --stripe 16KiB").unwrap_err();
    assert!(refused.contains("is not blank (member 1 of 3 of the set foraker"), "{refused}");
    assert!(!dir.path().join("new").exists(), "nothing is left behind");
    // Other systems' labels may lie anywhere near the ends.
    for at in [510, 16_384, (1 << 22) - 1024] {
        let foreign = dir.path().join("foreign");
        fs::write(&foreign, vec![0; 1 << 22]).unwrap();
        patch(&foreign, at, &[0x55]);
        let held = fs::read(&foreign).unwrap();
        let refused = mkdisk(dir.path(), "DIR/foreign").unwrap_err();
        assert!(refused.contains("is not blank"), "{refused}");
        assert!(fs::read(&foreign).unwrap() == held);
    }
    assert!(disks.iter().map(|disk| fs::read(disk).unwrap()).eq(before));
    // With --force it is made anew, and nothing of the old set is left.
    mkdisk(dir.path(), "DIR/a --force --stripe 16KiB --name anew").unwrap();
    let (faults, text) = fsck(&disks[..1]);
    assert!(faults.is_empty() && text.contains("set anew (") && !text.contains("foraker ("), "{text}");
    assert!(Disk::open(&disks[0], false).unwrap().look().member().is_some_and(|member| member.slots[0].is_none()));
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let dir = scratch("disks").unwrap();
    fs::write(dir.path().join("empty"), []).unwrap();
    for (line, why) in [
        ("", "required arguments were not provided"),
        ("DIR/a --size 4MB", "is no size"),
        ("DIR/a --size 64KiB", "has no room for data"),
        ("DIR/a --stripe 6KiB", "no whole number of 4 KiB"),
        ("DIR/a --stripe 0KiB", "give 4KiB at least"),
        ("DIR/a --name a/b", "is no name"),
        ("DIR/a --disk x", "write NAME=SIZE"),
        ("DIR/a --disk x=1MiB --disk x=1MiB", "two of this name"),
        ("DIR/a --disk x=64MiB", "does not fit"),
        ("DIR/a --image x=DIR/empty", "cannot be empty"),
        ("DIR/a --image x=DIR/nowhere", "cannot read"),
        ("DIR/a --swap 3MiB --swap-region 2MiB", "no whole number of regions"),
        ("DIR/a DIR/a", "given twice"),
        ("DIR", "cannot open"),
    ] {
        let refused = mkdisk(dir.path(), line).expect_err(line);
        assert!(refused.contains(why), "{line}: {refused}");
        assert!(!dir.path().join("a").exists(), "{line} leaves something behind");
    }
    let many: String = (0..17).map(|i| format!("DIR/{i} ")).collect();
    assert!(mkdisk(dir.path(), &many).is_err_and(|refused| refused.contains("too many")));
}

/// The manual's example, as it stands there, below a folder.
#[test]
fn the_manuals_example_works() {
    let manual = fs::read_to_string(crate::workspace::root().join("docs/operations.md")).unwrap();
    let (_, section) = manual.split_once("\n## Disks\n").expect("the section");
    let lines = section.split("\n## ").next().unwrap().lines();
    let commands: Vec<&str> =
        lines.filter_map(|line| line.strip_prefix("    cargo xtask ")?.split("  ").next()).collect();
    let [make, check] = commands[..] else { panic!("{commands:?}") };
    let dir = scratch("disks").unwrap();
    fs::write(dir.path().join("tree.img"), vec![7; 1 << 20]).unwrap();
    let place = |word: &str| {
        word.replace("d0", "DIR/d0").replace("d1", "DIR/d1").replace("d2", "DIR/d2").replace("tree.img", "DIR/tree.img")
    };
    mkdisk(dir.path(), &place(make.strip_prefix("mkdisk ").expect("mkdisk"))).unwrap();
    let disks: Vec<PathBuf> =
        check.strip_prefix("fsck ").expect("fsck").split(' ').map(|name| dir.path().join(name)).collect();
    assert_eq!(disks.len(), 3);
    let (faults, text) = fsck(&disks);
    assert!(faults.is_empty() && text.contains("web: virtual disk of 1 MiB, never written"), "{text}");
}

#[test]
fn a_folder_becomes_a_disk_of_its_files() {
    let dir = scratch("folder").unwrap();
    fs::create_dir(dir.path().join("public")).unwrap();
    fs::write(dir.path().join("public/index.html"), "<h1>a folder</h1>").unwrap();
    mkdisk(dir.path(), "DIR/a DIR/b --size 4MiB --stripe 16KiB --files web=DIR/public").unwrap();
    let (faults, text) = fsck(&["a", "b"].map(|name| dir.path().join(name)));
    assert!(faults.is_empty() && text.contains("web: virtual disk of "), "{text}");
    let bytes: Vec<u8> = ["a", "b"].iter().flat_map(|name| fs::read(dir.path().join(name)).unwrap()).collect();
    assert!(bytes.windows(17).any(|part| part == b"<h1>a folder</h1>"));
    let error = mkdisk(dir.path(), "DIR/c --files web=DIR/missing").unwrap_err();
    assert!(error.contains("is no folder") && !dir.path().join("c").exists(), "{error}");
}

#[test]
fn the_operators_disk_is_made_unless_it_is_there_or_not_wanted() {
    let dir = scratch("disks").unwrap();
    let made = |name: &str, more: &str| {
        let path = dir.path().join(name);
        let line = format!("{} --size 64MiB {more}", path.display());
        let made = mkdisk_as_typed(&line);
        (path, made)
    };
    let (path, done) = made("a", "");
    assert_eq!((done, super::has_operator(std::slice::from_ref(&path)).unwrap()), (Ok(()), true));
    assert!(fsck(&[path]).1.contains("operator: virtual disk of 32 MiB, "));
    let (path, done) = made("b", "--no-operator --disk operators=4KiB");
    assert_eq!((done, super::has_operator(&[path]).unwrap()), (Ok(()), false));
    let (path, done) = made("c", "--disk operator=64KiB");
    assert_eq!((done, super::has_operator(std::slice::from_ref(&path)).unwrap()), (Ok(()), true));
    assert!(fsck(&[path]).1.contains("operator: virtual disk of 64 KiB, "));
    let (path, done) = made("d", "--disk most=40MiB");
    assert!(
        done.unwrap_err().ends_with("; --disk operator=4MiB makes it smaller, --no-operator leaves it out")
            && !path.exists()
    );
    fs::write(dir.path().join("never"), [1; 4096]).unwrap();
    let (path, done) = made("e", &format!("--image operator={}/never", dir.path().display()));
    assert_eq!((done, super::has_operator(&[path]).unwrap()), (Ok(()), false));
    assert!(!super::has_operator(&[]).unwrap());
}

/// `mkdisk` as one types it.
fn mkdisk_as_typed(line: &str) -> Result<(), String> {
    let done = Args::parse(line.split_whitespace()).and_then(super::mkdisk::mkdisk);
    done.map(drop).map_err(|error| error.to_string())
}
