//! Every state that a power cut may leave: what was flushed, and any part of what was written since.

use super::log::{Event, Logged};
use super::model::{Model, Version};
use crate::error::{Context, Result, fail};
use disk_format::{
    BLOCK_BYTES, Block, CHECKS_PER_BLOCK, Check, Checked, Entry, Kind, Place, Seen, Set, Stripes, check_blocks,
    checked, look, place_of_check, recognise, zeroed,
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
    /// What the virtual disk is called.
    name: String,
    /// It as it was at first: its blocks and their number.
    entry: Entry,
    /// The epoch of each snapshot, by its id: the one that was under way when it was taken.
    taken: HashMap<u32, u64>,
    /// The ids that no state can lack any more.
    durable: HashSet<u32>,
    /// Blocks where superblocks and directories lie.
    places: Vec<u64>,
    model: Model,
    /// What contents are blocks of epochs.
    versions: HashMap<usize, Version>,
    /// The highest epoch of which something was written.
    epoch: u64,
    /// What was judged before: superblocks and directories, and what these say; blocks of checks; and blocks by virtual disk, number, content and check.
    sets: HashMap<Vec<usize>, Vec<Entry>>,
    rows: HashSet<(u64, usize, bool)>,
    judged: HashMap<(u32, u64, usize, [u8; 8]), Checked>,
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
            name: name.to_owned(),
            entry,
            taken: HashMap::new(),
            durable: HashSet::new(),
            places,
            model: Model::default(),
            versions: HashMap::new(),
            epoch: 0,
            sets: HashMap::new(),
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
        for entry in self.entries_at_the_end()? {
            for number in 0..entry.blocks {
                lies.extend(entry.data(number).and_then(|at| self.place(at)).map(|place| (place, number)));
            }
        }
        for event in &self.events {
            let Event::Write { disk, block, content } = *event else { continue };
            if let Some(&number) = lies.get(&(disk, block)) {
                self.versions.insert(content, self.model.learn(number, &self.contents[content])?);
            }
        }
        Ok(())
    }

    /// What is on the set when all was written. Nothing is ever taken out of a directory.
    fn entries_at_the_end(&self) -> Result<Vec<Entry>> {
        let mut last = self.base.clone();
        for event in &self.events {
            if let Event::Write { disk, block, content } = *event {
                last[disk].insert(block, content);
            }
        }
        let at = |disk: usize, block: u64| last[disk].get(&block).map(|&content| &*self.contents[content]);
        let (set, seen) = assemble(self.blocks, last.len(), at)?;
        let found = entries(&set, &seen, &self.stripes, at)?;
        Ok(found.into_iter().filter(|entry| matches!(entry.kind, Kind::Disk { .. })).collect())
    }

    /// Snapshots that were seen.
    pub fn snapshots(&self) -> usize {
        self.taken.len()
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
        let entries = self.is_recognised(there)?;
        // What is there without anything that may be lost is there from then on.
        if let Some(lost) = self.durable.iter().find(|id| !entries.iter().any(|entry| entry.id == **id)) {
            fail!("the directory has lost the virtual disk with the id {lost}");
        }
        if there.is_empty() {
            self.durable.extend(entries.iter().map(|entry| entry.id));
        }
        for entry in entries.iter().filter(|entry| matches!(entry.kind, Kind::Disk { .. })) {
            let is_own = entry.name.as_str() == self.name;
            // A snapshot has what was there when it was taken: something of that epoch, and nothing of a later one.
            let now = self.epoch;
            let epoch = if is_own { now } else { *self.taken.entry(entry.id).or_insert(now) };
            self.disk(there, entry, &entries, epoch).context(|| format!("virtual disk {}", entry.name))?;
        }
        Ok(())
    }

    /// The blocks of checks of a virtual disk: what they hold.
    fn rows_of(&mut self, there: &[Pending], entry: &Entry) -> Result<Vec<usize>> {
        let mut rows = Vec::new();
        for row in 0..check_blocks(entry.blocks) {
            let place = self.place(entry.first + row).context(|| "a block of checks lies nowhere".into())?;
            let holds = self.holds(there, place);
            self.nobody_elses(row, holds, entry.beneath.is_some())?;
            rows.push(holds);
        }
        Ok(rows)
    }

    /// Checks a virtual disk in a state, when something of `epoch` has been written, and nothing of a later one.
    fn disk(&mut self, there: &[Pending], entry: &Entry, entries: &[Entry], epoch: u64) -> Result<()> {
        // It and what lies beneath.
        let mut all = vec![(*entry, self.rows_of(there, entry)?)];
        while let Some(id) = all.last().and_then(|(last, _)| last.beneath) {
            let beneath = entries.iter().find(|other| other.id == id).context(|| "nothing lies beneath".into())?;
            all.push((*beneath, self.rows_of(there, beneath)?));
        }
        let blocks: Vec<u64> = self.model.blocks().collect();
        for number in blocks {
            let (row, byte) = place_of_check(number);
            let row = usize::try_from(row).unwrap_or(usize::MAX);
            let checks = all
                .iter()
                .filter_map(|(own, rows)| Some((own, Check::in_block(&self.contents[*rows.get(row)?], byte))));
            // The first one that does not say that it is what the next one has.
            let found = checks.into_iter().find(|(own, check)| *check != Check::INHERITED || own.beneath.is_none());
            let (own, check) = found.context(|| "no such block".into())?;
            let at = own.data(number).and_then(|at| self.place(at)).context(|| "no such block".into())?;
            let content = self.holds(there, at);
            let (data, id) = (&self.contents[content], own.id);
            let judged = self
                .judged
                .entry((id, number, content, check.to_bytes()))
                .or_insert_with(|| check.judge(id, number, data));
            let found = match judged {
                Checked::Zeros => None,
                Checked::Good => {
                    let version = self.versions.get(&content).copied();
                    Some(version.context(|| format!("block {number} is taken for good and is none of its own"))?)
                }
                Checked::Bad => fail!("block {number} is an error"),
            };
            if !self.model.allows(number, found, epoch) {
                fail!("block {number} holds {found:?}");
            }
        }
        Ok(())
    }

    /// Blocks that nobody has changed were never written, as a block of checks says.
    fn nobody_elses(&mut self, row: u64, content: usize, inherits: bool) -> Result<()> {
        if self.rows.contains(&(row, content, inherits)) {
            return Ok(());
        }
        let changed: HashSet<u64> = self.model.blocks().collect();
        let first = row * CHECKS_PER_BLOCK;
        for number in
            (first..self.entry.blocks.min(first + CHECKS_PER_BLOCK)).filter(|number| !changed.contains(number))
        {
            let fresh = if inherits { Check::INHERITED } else { Check::UNWRITTEN };
            if Check::in_block(&self.contents[content], place_of_check(number).1) != fresh {
                fail!("block {number}, which nobody has written, has a check");
            }
        }
        self.rows.insert((row, content, inherits));
        Ok(())
    }

    /// The set is found, whole, with its directory: what that says.
    fn is_recognised(&mut self, there: &[Pending]) -> Result<Vec<Entry>> {
        let disks = self.base.len();
        let places = (0..disks).flat_map(|disk| self.places.iter().map(move |&block| (disk, block)));
        let key: Vec<usize> = places.map(|place| self.holds(there, place)).collect();
        if let Some(known) = self.sets.get(&key) {
            return Ok(known.clone());
        }
        let at = |disk, block| self.contents.get(self.holds(there, (disk, block))).map(|block| &**block);
        let (set, seen) = assemble(self.blocks, disks, at)?;
        let found = entries(&set, &seen, &self.stripes, at)?;
        if !found.iter().any(|entry| entry.name == self.entry.name) {
            fail!("the directory lacks {}", self.entry.name);
        }
        self.sets.insert(key, found.clone());
        Ok(found)
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
