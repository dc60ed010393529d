//! What disks hold: superblocks and directories of up to four disks, and which sets they make.

use disk_format::{
    BLOCK_BYTES, Block, Change, Entry, EntryName, Kind, Layout, MAX_DEPTH, Place, SetId, State, Superblock,
    SuperblockRaw, checked, checksum, depth, directory_checksum, look, pack, recognise, zeroed,
};
use zerocopy::{FromBytes, IntoBytes};

/// Disks at most.
const DISKS: usize = 4;
/// Blocks of each disk.
const BLOCKS: u64 = 100;
/// Where a directory's blocks are, at most so many of each disk.
const DIRECTORY: u64 = 3;
const RAW: usize = size_of::<SuperblockRaw>();
/// One disk in the input: a byte whose lowest bit asks for checksums to be made good, four superblocks, and two directories of four
/// entries.
const DISK: usize = 1 + 4 * RAW + 2 * DIRECTORY_BYTES;
const DIRECTORY_BYTES: usize = 4 * 64;

/// The blocks of a disk that are not zeros.
struct Disk(Vec<(u64, Block)>);

impl Disk {
    fn read(&self, at: u64, to: &mut Block) {
        assert!(at < BLOCKS, "block {at} lies beyond the end");
        *to = self.0.iter().find(|(block, _)| *block == at).map_or_else(zeroed, |(_, block)| *block);
    }
}

/// The disk in these bytes.
fn disk(bytes: &[u8]) -> Option<Disk> {
    let (&first, rest) = bytes.split_first()?;
    let (superblocks, directories) = rest.split_at_checked(4 * RAW)?;
    let mut blocks = Vec::new();
    let mut sums = [0; 2];
    for ((at, part), sum) in (DIRECTORY..).zip(directories.chunks(DIRECTORY_BYTES)).zip(&mut sums) {
        let mut block = zeroed();
        block[..part.len()].copy_from_slice(part);
        blocks.push((at, block));
        *sum = directory_checksum(part);
    }
    for (place, part) in Place::ALL.into_iter().zip(superblocks.chunks_exact(RAW)) {
        let mut raw = SuperblockRaw::read_from_bytes(part).ok()?;
        let mut block = zeroed();
        if first & 1 != 0 {
            // Else hardly anything would get beyond them.
            let entries = usize::try_from(raw.entries.get()).unwrap_or(0).min(4);
            let directory = directories.chunks(DIRECTORY_BYTES).nth(place.slot.into()).unwrap_or_default();
            raw.directory_checksum = directory_checksum(&directory[..(entries * 64).min(directory.len())]).into();
            raw.checksum = 0.into();
            block[..RAW].copy_from_slice(raw.as_bytes());
            raw.checksum = checksum(&[&block]).into();
        }
        block[..RAW].copy_from_slice(raw.as_bytes());
        blocks.push((place.block(BLOCKS), block));
    }
    Some(Disk(blocks))
}

/// Up to four disks. True when they make a set that can be used.
pub fn run(data: &[u8]) -> bool {
    let disks: Vec<Disk> = data.chunks_exact(DISK).take(DISKS).filter_map(disk).collect();
    let mut seen = Vec::new();
    for disk in &disks {
        let read = |at, to: &mut Block| {
            disk.read(at, to);
            true
        };
        seen.push(look(BLOCKS, &mut zeroed(), read));
    }
    let mut usable = false;
    for set in recognise(&seen) {
        assert!(set.problems.iter().all(|problem| !problem.to_string().is_empty()));
        if !set.is_usable() {
            continue;
        }
        usable = true;
        let stripes = set.superblock.stripes().expect("a superblock that is good has stripes");
        let members: Vec<u8> = set.members().map(|(_, disk)| disk).collect();
        assert_eq!(members.len(), usize::from(set.superblock.members), "{:?}", set.superblock);
        let change = Change::next(&set, 0, 0, 0);
        let mut last = None;
        for piece in stripes.pieces(0, stripes.blocks().min(1000)) {
            let own = set.superblock_of(piece.member, &seen).expect("all are there");
            // Nothing of the data lies where something else does.
            let end = piece.block + piece.blocks;
            let layout = own.layout();
            assert!(
                end <= BLOCKS
                    && Place::ALL.iter().all(|place| !(piece.block..end).contains(&place.block(own.member_blocks)))
            );
            assert!(layout.directory_start + 2 * u64::from(layout.directory_blocks) <= piece.block, "{own:?}");
            assert!(last.is_none_or(|last| last < piece.offset));
            last = Some(piece.offset);
            if let Some(change) = change {
                // Nor does a change touch the present state.
                let present = Place::of(own.generation).map(|place| place.block(own.member_blocks));
                let next = [false, true].map(|end| change.superblock(own, State::Proposed, end).0);
                assert!(next.iter().all(|at| *at < BLOCKS && !present.contains(at)), "{own:?}");
                assert_ne!(change.directory_block(own, 0), Some(layout.directory(own.generation)));
            }
        }
        for (member, disk) in set.members() {
            let own = set.superblock_of(member, &seen).expect("all are there");
            let mut bytes = Vec::new();
            for index in 0..u64::from(own.directory_blocks) {
                let mut block = zeroed();
                disks[usize::from(disk)].read(own.layout().directory(own.generation) + index, &mut block);
                bytes.extend(block);
            }
            let Ok(entries) = checked(&bytes, own, &stripes) else { continue };
            let mut end = 0;
            for entry in entries {
                assert!(end <= entry.first && entry.end() <= stripes.blocks(), "{entry:?}");
                end = entry.end();
                let last = entry.data(entry.blocks - 1);
                assert!(last.is_none_or(|last| entry.first < last && last < end), "{entry:?}");
                let below = depth(&bytes, own.entries as usize, &entry);
                assert!(
                    below.is_some_and(|below| below <= MAX_DEPTH && (below > 0) == entry.beneath.is_some()),
                    "{entry:?}"
                );
                let regions = (0..4).filter_map(|number| entry.swap_region(number));
                assert!(regions.into_iter().all(|(first, blocks)| entry.first <= first && first + blocks <= end));
            }
        }
    }
    usable
}

/// One disk of a set: two generations, and their directories.
fn seed(members: u16, member: u16, generations: [Option<(u64, State)>; 2], fix: u8) -> Vec<u8> {
    let layout = Layout::plan(BLOCKS, 4, 1).expect("large enough");
    let name = |text| EntryName::new(text).expect("good");
    let entries = [
        Entry { kind: Kind::Swap { region: 4 }, id: 0, name: name("swap"), first: 0, blocks: 16, beneath: None },
        Entry { kind: Kind::Disk { read_only: true }, id: 1, name: name("web"), first: 16, blocks: 7, beneath: None },
        Entry {
            kind: Kind::Disk { read_only: false },
            id: 2,
            name: name("log"),
            first: 40,
            blocks: 7,
            beneath: Some(1),
        },
    ];
    let mut directory = vec![0; DIRECTORY_BYTES];
    let used = pack(&entries, &mut directory).expect("room");
    let mut bytes = vec![fix];
    for place in Place::ALL {
        let Some((generation, state)) = generations[usize::from(place.slot)] else {
            bytes.extend([0; RAW]);
            continue;
        };
        let superblock = Superblock {
            set: SetId::random([7; 16]),
            name: name("lab"),
            generation,
            state,
            member,
            members,
            stripe_unit: 4,
            member_blocks: BLOCKS,
            directory_start: layout.directory_start,
            data_start: layout.data_start,
            data_blocks: layout.data_blocks,
            directory_blocks: 1,
            entries: 3,
            directory_checksum: directory_checksum(&directory[..used]),
            next_id: 3,
            created: 1_700_000_000,
        };
        bytes.extend(&superblock.encode(place)[..RAW]);
    }
    bytes.extend(&directory);
    bytes.extend(&directory);
    bytes
}

/// Sets of one to three members: new, changed, changing, stale; with checksums to be made good, and as they are.
pub fn seeds() -> Vec<Vec<u8>> {
    use State::{Committed, Proposed};
    let new = [None, Some((1, Committed))];
    let changed = [Some((4, Committed)), Some((3, Committed))];
    let changing = [Some((4, Proposed)), Some((3, Committed))];
    let set = |of: &[[Option<(u64, State)>; 2]], fix| {
        let members = u16::try_from(of.len()).expect("few");
        (0..).zip(of).flat_map(|(member, &generations)| seed(members, member, generations, fix)).collect::<Vec<u8>>()
    };
    vec![
        set(&[new], 1),
        set(&[changed, changed], 1),
        set(&[changing, changed], 1),
        set(&[changing, changing, changing], 1),
        set(&[new, changed], 1),
        set(&[changed], 0),
    ]
}

const _: () = assert!(DIRECTORY_BYTES <= BLOCK_BYTES);
