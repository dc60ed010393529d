//! What one disk shows of itself.

use crate::block::{Block, is_blank};
use crate::layout::Place;
use crate::superblock::{Flaw, Superblock, VERSION};
use core::fmt;

/// A disk that is a member of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The superblock of even generations and that of odd ones. Not both are missing, and both tell of the same member.
    pub slots: [Option<Superblock>; 2],
    /// Bit `i`: the copy at place `i` is not what its slot says. The next change of the set writes it anew.
    pub worn: u8,
    /// Blocks of the disk.
    pub blocks: u64,
}

impl Member {
    /// Its newest superblock.
    #[must_use]
    pub fn newest(&self) -> Option<&Superblock> {
        self.slots.iter().flatten().max_by_key(|superblock| superblock.generation)
    }
}

/// What a disk is, as far as it can be told from the disk alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It holds zeros wherever a member has something. It is not ours.
    Blank,
    /// It holds something that is not ours.
    Foreign,
    /// It could not be read, at this block for one.
    Unreadable(u64),
    /// It is ours, of a version that this program does not know.
    Version(u32),
    /// It is ours, and no superblock is left that is good; this is wrong with one of them.
    Damaged(Flaw),
    /// Its superblocks tell of different members, as when part of another disk was copied over it.
    Mixed,
    /// It is a member, and has fewer blocks than it had: those at its end are missing.
    Shrunk(Member),
    /// It is a member.
    Member(Member),
}

impl Seen {
    /// The member, whole or shrunk.
    #[must_use]
    pub fn member(&self) -> Option<&Member> {
        match self {
            Seen::Member(member) | Seen::Shrunk(member) => Some(member),
            _ => None,
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Blank => f.write_str("blank; it is left alone"),
            Seen::Foreign => f.write_str("not ours; it is left alone"),
            Seen::Unreadable(block) => {
                write!(f, "block {block} cannot be read, so nobody knows whose it is; it is left alone")
            }
            Seen::Version(version) => {
                write!(f, "ours, of version {version}, and this program knows version {VERSION}; it is left alone")
            }
            Seen::Damaged(flaw) => write!(f, "ours, and no superblock is good; of one: {flaw}"),
            Seen::Mixed => f.write_str(
                "ours, and its superblocks tell of different members: part of another disk was copied over it",
            ),
            Seen::Shrunk(member) | Seen::Member(member) => match member.newest() {
                Some(superblock) => {
                    let Superblock { member, members, name, set, generation, .. } = superblock;
                    write!(f, "member {member} of {members} of the set {name} ({set}), generation {generation}")
                }
                None => f.write_str("a member"),
            },
        }
    }
}

/// What is at one place.
#[derive(Clone, Copy)]
enum At {
    /// Zeros.
    Blank,
    Good(Superblock),
    Flawed(Flaw),
    Unreadable,
    /// The disk ends before.
    Beyond,
}

/// Looks at a disk of so many blocks. `read` reads the block of this number, and says whether it could; `buffer` is what it reads into. Seven
/// blocks are read at most.
pub fn look(blocks: u64, buffer: &mut Block, mut read: impl FnMut(u64, &mut Block) -> bool) -> Seen {
    let mut unreadable = None;
    let mut at = |block: u64, place: Option<Place>, buffer: &mut Block| {
        if block >= blocks {
            return At::Beyond;
        }
        if !read(block, buffer) {
            unreadable = unreadable.or(Some(block));
            return At::Unreadable;
        }
        match place.map_or(Err(Flaw::Magic), |place| Superblock::decode(buffer, place)) {
            Ok(superblock) => At::Good(superblock),
            Err(_) if is_blank(buffer) => At::Blank,
            Err(flaw) => At::Flawed(flaw),
        }
    };
    let first = at(0, None, buffer);
    let mut found = [At::Beyond; 4];
    for place in Place::ALL.iter().filter(|place| !place.end) {
        found[index(*place)] = at(place.block(blocks), Some(*place), buffer);
    }
    // The end is where the start says, or, where that says nothing, where the disk ends.
    let start = found.iter().filter_map(good).max_by_key(|superblock| superblock.generation);
    let end = start.map_or(blocks, |superblock| superblock.member_blocks);
    for place in Place::ALL.iter().filter(|place| place.end) {
        found[index(*place)] = at(place.block(end), Some(*place), buffer);
    }
    // Where the disk ends elsewhere, nobody else's superblock may be.
    let mut strange = None;
    for place in Place::ALL.iter().filter(|place| place.end && end != blocks && blocks > 4) {
        let other = at(place.block(blocks), Some(*place), buffer);
        strange = strange.or(good(&other).copied());
    }
    judge(blocks, &found, strange, first, unreadable)
}

fn judge(blocks: u64, found: &[At; 4], strange: Option<Superblock>, first: At, unreadable: Option<u64>) -> Seen {
    let mut flaws = found.iter().filter_map(|at| if let At::Flawed(flaw) = at { Some(*flaw) } else { None });
    if let Some(version) =
        flaws.clone().find_map(|flaw| if let Flaw::Version(version) = flaw { Some(version) } else { None })
    {
        return Seen::Version(version);
    }
    let Some(any) = found.iter().find_map(good) else {
        return match flaws.find(|flaw| *flaw != Flaw::Magic) {
            Some(flaw) => Seen::Damaged(flaw),
            None if unreadable.is_some() => Seen::Unreadable(unreadable.unwrap_or(0)),
            None if found.iter().chain([&first]).all(|at| matches!(at, At::Blank | At::Beyond)) => Seen::Blank,
            None => Seen::Foreign,
        };
    };
    if !found.iter().filter_map(good).chain(&strange).all(|other| is_of_the_same_disk(any, other)) {
        return Seen::Mixed;
    }
    let mut member = Member { slots: [None; 2], worn: 0, blocks };
    for (slot, to) in member.slots.iter_mut().enumerate() {
        // One generation's two copies: those at the end are written after those at the start.
        let copies = [slot, slot + 2];
        *to =
            copies.iter().filter_map(|&at| good(&found[at])).max_by_key(|copy| (copy.generation, copy.state)).copied();
        for at in copies {
            let as_it_should_be = match &found[at] {
                At::Good(copy) => Some(*copy) == *to,
                At::Blank => to.is_none(),
                _ => false,
            };
            member.worn |= u8::from(!as_it_should_be) << at;
        }
    }
    if any.member_blocks > blocks { Seen::Shrunk(member) } else { Seen::Member(member) }
}

fn good(at: &At) -> Option<&Superblock> {
    if let At::Good(superblock) = at { Some(superblock) } else { None }
}

fn index(place: Place) -> usize {
    usize::from(place.slot) + if place.end { 2 } else { 0 }
}

/// Whether two superblocks can be on one disk.
fn is_of_the_same_disk(one: &Superblock, other: &Superblock) -> bool {
    let of =
        |it: &Superblock| (it.set, it.member, it.members, it.member_blocks, it.layout(), it.stripe_unit, it.created);
    of(one) == of(other)
}
