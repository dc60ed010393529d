//! Disks in memory, and a set on them.

use disk_format::{
    BLOCK_BYTES, Block, Change, Entry, EntryName, Kind, Layout, Seen, SetId, State, Superblock, directory_checksum,
    look, pack, zeroed,
};
use std::collections::BTreeMap;

/// A disk: blocks that are not zeros, and how many there are.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Platter {
    pub blocks: u64,
    pub held: BTreeMap<u64, Box<Block>>,
}

impl Platter {
    pub fn new(blocks: u64) -> Platter {
        Platter { blocks, held: BTreeMap::new() }
    }

    pub fn write(&mut self, at: u64, block: &Block) {
        assert!(at < self.blocks, "a write beyond the end: {at}");
        self.held.insert(at, Box::new(*block));
    }

    pub fn read(&self, at: u64) -> Block {
        self.held.get(&at).map_or_else(zeroed, |block| **block)
    }

    pub fn look(&self) -> Seen {
        look(self.blocks, &mut zeroed(), |at, to| {
            assert!(at < self.blocks, "a read beyond the end: {at}");
            *to = self.read(at);
            true
        })
    }
}

/// All disks as they are seen.
pub fn see(disks: &[Platter]) -> Vec<Seen> {
    disks.iter().map(Platter::look).collect()
}

/// A directory with one virtual disk of so many blocks.
pub fn directory(blocks: u64) -> (Vec<u8>, u32) {
    let name = EntryName::new("web").expect("good");
    let entry = Entry { kind: Kind::Disk { read_only: false }, id: 0, name, first: 0, blocks, beneath: None };
    let mut bytes = vec![0; BLOCK_BYTES];
    let used = pack([&entry], &mut bytes).expect("room");
    let checksum = directory_checksum(&bytes[..used]);
    (bytes, checksum)
}

/// What the members of a set with this id are to say; member `i` has `1000 + i` blocks.
pub fn members(id: u8, count: u16) -> Vec<Superblock> {
    let layout = Layout::plan(1000, 16, 1).expect("large enough");
    let member = |member| Superblock {
        set: SetId::random([id; 16]),
        name: EntryName::new("lab").expect("good"),
        generation: 1,
        state: State::Proposed,
        member,
        members: count,
        stripe_unit: 16,
        member_blocks: 1000 + u64::from(member),
        directory_start: layout.directory_start,
        data_start: layout.data_start,
        data_blocks: layout.data_blocks,
        directory_blocks: layout.directory_blocks,
        entries: 0,
        directory_checksum: 0,
        next_id: 0,
        created: 1_700_000_000,
    };
    (0..count).map(member).collect()
}

/// Carries a change out on the disks, of which `disks[i]` is member `i`.
pub fn carry_out(change: &Change, members: &[Superblock], directory: &[u8], disks: &mut [Platter]) {
    let write = |member: u16, at: u64, block: &Block| {
        disks[usize::from(member)].write(at, block);
        Ok::<(), ()>(())
    };
    change.carry_out(members, directory, write, || Ok(())).expect("no errors");
}

/// A set with this id of so many members, in its first state.
pub fn set(id: u8, count: u16) -> Vec<Platter> {
    let members = members(id, count);
    let mut disks: Vec<Platter> = members.iter().map(|member| Platter::new(member.member_blocks)).collect();
    let (bytes, checksum) = directory(100);
    carry_out(&Change::first(1, checksum, 1), &members, &bytes, &mut disks);
    disks
}

/// Takes a good set to its next state.
pub fn go_on(disks: &mut [Platter], blocks: u64) {
    let seen = see(disks);
    let set = disk_format::recognise(&seen).next().expect("a set");
    assert!(set.is_usable(), "{:?}", set.problems);
    let (bytes, checksum) = directory(blocks);
    let change = Change::next(&set, 1, checksum, 1).expect("a number is left");
    let members: Vec<Superblock> =
        set.members().map(|(member, _)| *set.superblock_of(member, &seen).expect("it is there")).collect();
    carry_out(&change, &members, &bytes, disks);
}
