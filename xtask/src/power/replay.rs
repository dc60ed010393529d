//! Every state that a power cut may leave: what was flushed, and any part of what was written since.

use super::log::{Event, Logged};
use super::model::{Model, Version};
use crate::error::{Context, Result, fail};
use disk_format::{
    BLOCK_BYTES, Block, CHECKS_PER_BLOCK, Check, Checked, Entry, Place, Seen, Set, Stripes, check_blocks, checked,
    look, place_of_check, recognise, zeroed,
};
use std::collections::{HashMap, HashSet};

/// Of so many writes all subsets are checked, of more [`RANDOM`] ones and all prefixes.
const ALL: usize = 10;
const RANDOM: usize = 1000;

/// A write that is not durable: disk, its block, and what that holds.
type Pending = (usize, u64, usize);

/// A set of disks, from the first state to the last.
pub struct Replay {
    contents: Vec<Box<Block>>,
    /// Of each disk: what its blocks hold for certain.
    base: Vec<HashMap<u64, usize>>,
    events: Vec<Event>,
    pending: Vec<Pending>,
    blocks: u64,
    stripes: Stripes,
    entry: Entry,
    /// Blocks where superblocks and directories lie.
    places: Vec<u64>,
    model: Model,
    /// What contents are blocks of epochs.
    versions: HashMap<usize, Version>,
    /// The highest epoch of which something was written.
    epoch: u64,
    /// What was judged before: superblocks and directories, blocks of checks, and blocks by number, content and check.
    sets: HashSet<Vec<usize>>,
    rows: HashSet<(u64, usize)>,
    judged: HashMap<(u64, usize, [u8; 8]), Checked>,
    random: u64,
}

/// What was checked.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    /// States.
    pub states: u64,
    /// Epochs of the load.
    pub epochs: u64,
}

impl Replay {
    /// Of these disks, equally large, as they were before what was `logged`, in which the virtual disk `name` is loaded.
    pub fn new(before: &[Vec<u8>], logged: &Logged, name: &str, random: u64) -> Result<Replay> {
        let (mut contents, mut base) = (Vec::new(), Vec::new());
        for disk in before {
            let blocks = disk.as_chunks::<BLOCK_BYTES>().0;
            base.push((0..).zip(contents.len()..).take(blocks.len()).collect::<HashMap<u64, usize>>());
            contents.extend(blocks.iter().map(|block| Box::new(*block)));
        }
        let (disks, blocks) = (base.len(), base.first().map_or(0, HashMap::len) as u64);
        let events = logged.events(disks, &mut contents)?;
        let at = |disk: usize, block: u64| base[disk].get(&block).map(|&content| &*contents[content]);
        let (set, seen) = assemble(blocks, disks, at)?;
        let superblock = set.superblock_of(0, &seen).context(|| "there is no first member".into())?;
        let layout = superblock.layout();
        let stripes = superblock.stripes().context(|| "a superblock without stripes".into())?;
        let mut places: Vec<u64> = Place::ALL.iter().map(|place| place.block(blocks)).chain([0]).collect();
        places.extend(layout.directory_start..layout.data_start);
        let entry = entries(&set, &seen, &stripes, at)?.into_iter().find(|entry| entry.name.as_str() == name);
        let entry = entry.context(|| format!("there is no virtual disk {name}"))?;
        let mut replay = Replay {
            contents,
            base,
            events,
            pending: Vec::new(),
            blocks,
            stripes,
            entry,
            places,
            model: Model::default(),
            versions: HashMap::new(),
            epoch: 0,
            sets: HashSet::new(),
            rows: HashSet::new(),
            judged: HashMap::new(),
            random: random | 1,
        };
        replay.learn()?;
        Ok(replay)
    }

    /// Takes all flushes out of the log, as if the disks had not been asked for any.
    pub fn forget_flushes(&mut self) {
        self.events.retain(|event| matches!(event, Event::Write { .. }));
    }

    /// Checks all states. What was checked; the error is the first state that must not be.
    pub fn check(&mut self) -> Result<Count> {
        let epochs = self.model.complete()?;
        let mut count = Count { states: 0, epochs };
        let mut is_new = true;
        for event in self.events.clone() {
            match event {
                Event::Write { disk, block, content } => {
                    self.pending.push((disk, block, content));
                    self.epoch = self.epoch.max(self.versions.get(&content).map_or(0, |version| version.epoch));
                    is_new = true;
                }
                Event::Flush { disk } => {
                    // Else these are states that were there before the last flush.
                    if is_new {
                        count.states += self.all()?;
                    }
                    for &(_, block, content) in self.pending.iter().filter(|one| one.0 == disk) {
                        self.base[disk].insert(block, content);
                    }
                    self.pending.retain(|one| one.0 != disk);
                    is_new = false;
                }
            }
        }
        count.states += self.all()?;
        Ok(count)
    }

    /// Learns of all epochs.
    fn learn(&mut self) -> Result<()> {
        // Where each block of the virtual disk lies.
        let mut lies = HashMap::new();
        for number in 0..self.entry.blocks {
            lies.extend(self.entry.data(number).and_then(|at| self.place(at)).map(|place| (place, number)));
        }
        for event in &self.events {
            let Event::Write { disk, block, content } = *event else { continue };
            if let Some(&number) = lies.get(&(disk, block)) {
                self.versions.insert(content, self.model.learn(number, &self.contents[content])?);
            }
        }
        Ok(())
    }

    /// Disk and block of a block of the set.
    fn place(&self, at: u64) -> Option<(usize, u64)> {
        self.stripes.pieces(at, 1).next().map(|piece| (usize::from(piece.member), piece.block))
    }

    /// All states in which some of what is not durable is there. How many.
    fn all(&mut self) -> Result<u64> {
        let (count, mut states) = (self.pending.len(), 0);
        let pending = std::mem::take(&mut self.pending);
        let mut check = |is_there: &dyn Fn(usize) -> bool, replay: &mut Replay| {
            states += 1;
            let there: Vec<Pending> = (0..count).filter(|&one| is_there(one)).map(|one| pending[one]).collect();
            replay.state(&there).context(|| {
                format!(
                    "after {} of {count} writes since the last flushes, epoch {}: {there:?}",
                    there.len(),
                    replay.epoch
                )
            })
        };
        if count <= ALL {
            for subset in 0..1_u32 << count {
                check(&|one| subset >> one & 1 != 0, self)?;
            }
        } else {
            for prefix in 0..=count {
                check(&|one| one < prefix, self)?;
            }
            for _ in 0..RANDOM {
                let bits: Vec<bool> = (0..count).map(|_| self.coin()).collect();
                check(&|one| bits[one], self)?;
            }
        }
        self.pending = pending;
        Ok(states)
    }

    fn coin(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 40 & 1 != 0
    }

    /// What a block holds in a state: the number of it.
    fn holds(&self, there: &[Pending], (disk, block): (usize, u64)) -> usize {
        let written = there.iter().rfind(|one| (one.0, one.1) == (disk, block)).map(|one| one.2);
        written.or_else(|| self.base[disk].get(&block).copied()).unwrap_or(0)
    }

    /// Checks a state.
    fn state(&mut self, there: &[Pending]) -> Result<()> {
        self.is_recognised(there)?;
        let place = |replay: &Replay, at| replay.place(at).context(|| "a block lies nowhere".into());
        let mut rows = Vec::new();
        for row in 0..check_blocks(self.entry.blocks) {
            let holds = self.holds(there, place(self, self.entry.first + row)?);
            self.nobody_elses(row, holds)?;
            rows.push(holds);
        }
        let blocks: Vec<u64> = self.model.blocks().collect();
        for number in blocks {
            let (row, byte) = place_of_check(number);
            let row = usize::try_from(row).ok().and_then(|row| rows.get(row)).context(|| "no such block".into())?;
            let check = Check::in_block(&self.contents[*row], byte);
            let at = self.entry.data(number).context(|| "no such block".into())?;
            let content = self.holds(there, place(self, at)?);
            let (data, id) = (&self.contents[content], self.entry.id);
            let judged =
                self.judged.entry((number, content, check.to_bytes())).or_insert_with(|| check.judge(id, number, data));
            let found = match judged {
                Checked::Zeros => None,
                Checked::Good => {
                    let version = self.versions.get(&content).copied();
                    Some(version.context(|| format!("block {number} is taken for good and is none of its own"))?)
                }
                Checked::Bad => fail!("block {number} is an error"),
            };
            if !self.model.allows(number, found, self.epoch) {
                fail!("block {number} holds {found:?}");
            }
        }
        Ok(())
    }

    /// Blocks that nobody has changed were never written, as a block of checks says.
    fn nobody_elses(&mut self, row: u64, content: usize) -> Result<()> {
        if self.rows.contains(&(row, content)) {
            return Ok(());
        }
        let changed: HashSet<u64> = self.model.blocks().collect();
        let first = row * CHECKS_PER_BLOCK;
        for number in
            (first..self.entry.blocks.min(first + CHECKS_PER_BLOCK)).filter(|number| !changed.contains(number))
        {
            if Check::in_block(&self.contents[content], place_of_check(number).1) != Check::UNWRITTEN {
                fail!("block {number}, which nobody has written, has a check");
            }
        }
        self.rows.insert((row, content));
        Ok(())
    }

    /// The set is found, whole, with its directory.
    fn is_recognised(&mut self, there: &[Pending]) -> Result<()> {
        let disks = self.base.len();
        let places = (0..disks).flat_map(|disk| self.places.iter().map(move |&block| (disk, block)));
        let key: Vec<usize> = places.map(|place| self.holds(there, place)).collect();
        if self.sets.contains(&key) {
            return Ok(());
        }
        let at = |disk, block| self.contents.get(self.holds(there, (disk, block))).map(|block| &**block);
        let (set, seen) = assemble(self.blocks, disks, at)?;
        if !entries(&set, &seen, &self.stripes, at)?.contains(&self.entry) {
            fail!("the directory lacks {}", self.entry.name);
        }
        self.sets.insert(key);
        Ok(())
    }
}

/// The set on these disks, which must be whole.
fn assemble<'a>(blocks: u64, disks: usize, at: impl Fn(usize, u64) -> Option<&'a Block>) -> Result<(Set, Vec<Seen>)> {
    let look_at =
        |disk| look(blocks, &mut zeroed(), |block, to: &mut Block| at(disk, block).map(|from| *to = *from).is_some());
    let seen: Vec<Seen> = (0..disks).map(look_at).collect();
    let mut sets = recognise(&seen);
    let (Some(set), None) = (sets.next(), sets.next()) else {
        fail!("there is not one set: {}", seen.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    };
    drop(sets);
    match set.problems.first() {
        Some(problem) => fail!("the set is not recognised: {problem}"),
        None => Ok((set, seen)),
    }
}

/// The entries of a set, which all members must have.
fn entries<'a>(
    set: &Set,
    seen: &[Seen],
    stripes: &Stripes,
    at: impl Fn(usize, u64) -> Option<&'a Block>,
) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    for (member, disk) in set.members() {
        let own = set.superblock_of(member, seen).context(|| "a member without a superblock".into())?;
        let (layout, mut bytes) = (own.layout(), Vec::new());
        for block in (layout.directory(own.generation)..).take(layout.directory_blocks as usize) {
            bytes.extend(at(usize::from(disk), block).context(|| "a directory beyond the disk".into())?);
        }
        match checked(&bytes, own, stripes) {
            Ok(entries) => found = entries.collect(),
            Err(fault) => fail!("the directory of member {member}: {fault}"),
        }
    }
    Ok(found)
}
