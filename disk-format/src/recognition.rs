//! Which disks belong together, and whether they are all there.

use crate::look::{Member, Seen};
use crate::superblock::{MAX_MEMBERS, SetId, State, Superblock};
use core::cmp::Reverse;
use core::fmt;

/// Why a set cannot be used. Disks are numbered as they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A member is not there.
    Missing {
        /// Which, from 0.
        member: u16,
    },
    /// Two disks say that they are the same member.
    Duplicate {
        /// Which, from 0.
        member: u16,
        /// The two.
        disks: [u8; 2],
    },
    /// A disk does not have the set's present state: it was away when the others went on, or is a copy from before.
    Stale {
        /// Which.
        disk: u8,
        /// Its newest generation.
        generation: u64,
        /// The set's.
        newest: u64,
    },
    /// A disk has become smaller.
    Shrunk {
        /// Which.
        disk: u8,
        /// Its blocks.
        blocks: u64,
        /// The blocks that it had.
        recorded: u64,
    },
    /// A disk says something else about the set than the others of the same generation.
    Disagrees {
        /// Which.
        disk: u8,
        /// About what.
        field: &'static str,
    },
    /// No generation was ever completed: whoever made the set did not come to the end.
    Unfinished,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing { member } => write!(f, "member {member} is missing: connect its disk"),
            Problem::Duplicate { member, disks: [a, b] } => {
                write!(f, "disks {a} and {b} both are member {member}: one is a copy of the other; remove it")
            }
            Problem::Stale { disk, generation, newest } => write!(
                f,
                "disk {disk} is stale: its generation is {generation}, and the set's is {newest}; it was away when the others went on, or \
                 is a copy from before"
            ),
            Problem::Shrunk { disk, blocks, recorded } => {
                write!(f, "disk {disk} has shrunk: it has {blocks} blocks, and had {recorded}; give it its size back")
            }
            Problem::Disagrees { disk, field } => {
                write!(
                    f,
                    "disk {disk} disagrees with the others about {field}: it was changed by something else than Foraker"
                )
            }
            Problem::Unfinished => f.write_str("it was never completed: make it anew"),
        }
    }
}

/// A set of which a disk was seen.
#[derive(Clone, Debug)]
pub struct Set {
    /// Its id.
    pub id: SetId,
    /// A superblock of its present state; of any, when there is none.
    pub superblock: Superblock,
    /// Which disk is which member, as they were given. Of duplicates, the first.
    pub disks: [Option<u8>; MAX_MEMBERS],
    /// The highest generation that any disk has, perhaps only proposed.
    pub highest: u64,
    /// Why it cannot be used. At most so many are kept.
    pub problems: heapless::Vec<Problem, { 2 * MAX_MEMBERS }>,
}

impl Set {
    /// Whether it can be used: all of its disks are there and have the same present state.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.problems.is_empty()
    }

    /// Its members that are there, in order: which member, and on which disk.
    pub fn members(&self) -> impl Iterator<Item = (u16, u8)> + '_ {
        (0..).zip(&self.disks).filter_map(|(member, disk)| Some((member, (*disk)?)))
    }

    /// Whether the disks were given in another order than that of the members. That does no harm.
    #[must_use]
    pub fn is_out_of_order(&self) -> bool {
        !self.members().map(|(_, disk)| disk).is_sorted()
    }

    /// The superblock of the present state on the disk of `member`, out of what was seen.
    #[must_use]
    pub fn superblock_of<'a>(&self, member: u16, seen: &'a [Seen]) -> Option<&'a Superblock> {
        let disk = (*self.disks.get(usize::from(member))?)?;
        let member = seen.get(usize::from(disk))?.member()?;
        at(member, self.superblock.generation)
    }

    fn complain(&mut self, problem: Problem) {
        // Those beyond the room are not needed to know that the set cannot be used.
        let _ = self.problems.push(problem);
    }
}

/// The sets of which disks were seen, in the order of their first disks. At most 256 disks are considered.
pub fn recognise(seen: &[Seen]) -> impl Iterator<Item = Set> + '_ {
    let first_of_its_set = move |(at, disk): (usize, &Seen)| {
        let id = disk.member()?.newest()?.set;
        let earlier = seen[..at].iter().filter_map(|seen| seen.member()?.newest()).any(|other| other.set == id);
        (!earlier).then_some(id)
    };
    seen.iter().take(256).enumerate().filter_map(first_of_its_set).filter_map(move |id| assemble(id, seen))
}

/// The member's superblock of a generation.
fn at(member: &Member, generation: u64) -> Option<&Superblock> {
    member.slots.iter().flatten().find(|superblock| superblock.generation == generation)
}

fn assemble(id: SetId, seen: &[Seen]) -> Option<Set> {
    let disks = || {
        let numbered = (0..=u8::MAX).zip(seen);
        numbered.filter_map(|(disk, seen)| {
            let member = seen.member().filter(|member| member.newest().is_some_and(|newest| newest.set == id))?;
            Some((disk, seen, member))
        })
    };
    let superblocks = || disks().flat_map(|(.., member)| member.slots.iter().flatten());
    // What one member has as committed, all have at least as proposed: the set has reached it.
    let committed = superblocks().filter(|superblock| superblock.state == State::Committed);
    // Of equal ones the first.
    let present = committed.min_by_key(|superblock| Reverse(superblock.generation));
    let newest = superblocks().min_by_key(|superblock| Reverse(superblock.generation))?;
    let superblock = *present.unwrap_or(newest);
    let mut set =
        Set { id, superblock, disks: [None; MAX_MEMBERS], highest: newest.generation, problems: heapless::Vec::new() };
    if present.is_none() {
        set.complain(Problem::Unfinished);
    }
    for (disk, seen, member) in disks() {
        let Some(own) = member.newest() else { continue };
        let Some(place) = set.disks.get_mut(usize::from(own.member)) else { continue };
        match *place {
            Some(other) => set.complain(Problem::Duplicate { member: own.member, disks: [other, disk] }),
            None => *place = Some(disk),
        }
        if let Seen::Shrunk(_) = seen {
            set.complain(Problem::Shrunk { disk, blocks: member.blocks, recorded: own.member_blocks });
        }
        match at(member, superblock.generation) {
            None => {
                let (generation, newest) = (own.generation, superblock.generation);
                set.complain(Problem::Stale { disk, generation, newest });
            }
            Some(same) => {
                if let Some(field) = disagreement(same, &superblock) {
                    set.complain(Problem::Disagrees { disk, field });
                }
            }
        }
    }
    for member in 0..superblock.members {
        if set.disks.get(usize::from(member)).is_some_and(Option::is_none) {
            set.complain(Problem::Missing { member });
        }
    }
    Some(set)
}

/// The first thing about which two members of the same generation say something else.
fn disagreement(one: &Superblock, other: &Superblock) -> Option<&'static str> {
    let same = [
        ("its members", one.members == other.members),
        ("its name", one.name == other.name),
        ("the stripe unit", one.stripe_unit == other.stripe_unit),
        ("the place of the directory", one.directory_start == other.directory_start),
        ("the size of the directory", one.directory_blocks == other.directory_blocks),
        ("the place of the data", one.data_start == other.data_start),
        ("the size of the data", one.data_blocks == other.data_blocks),
        ("the directory", (one.entries, one.directory_checksum) == (other.entries, other.directory_checksum)),
        ("the next id", one.next_id == other.next_id),
        ("when it was made", one.created == other.created),
    ];
    same.iter().find(|(_, same)| !same).map(|(field, _)| *field)
}
