//! What a virtual disk must hold, out of the blocks themselves: each tells of all changes of its epoch (`apps/disk-log`, `epochs.rs`).

use crate::error::{Result, fail};
use disk_format::Block;
use std::collections::{BTreeMap, HashMap};

const MAGIC: u64 = u64::from_le_bytes(*b"FKEPOCHS");
/// Words in front of the list of changes.
const HEADER: usize = 4;

/// What a block tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Its epoch.
    pub epoch: u64,
    /// Its place among the epoch's changes.
    pub place: usize,
}

/// All changes of all epochs.
#[derive(Default)]
pub struct Model {
    epochs: BTreeMap<u64, Vec<u64>>,
    /// Of each block: its changes in order, and whether each is a discard.
    changes: HashMap<u64, Vec<(Version, bool)>>,
}

impl Model {
    /// Reads a block that was written to `block` of the virtual disk.
    pub fn learn(&mut self, block: u64, data: &Block) -> Result<Version> {
        let words: Vec<u64> = data.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let [magic, epoch, place, count] = [words[0], words[1], words[2], words[3]];
        let [at, end] = [place, count].map(|word| usize::try_from(word).unwrap_or(usize::MAX));
        let list = words.get(HEADER..HEADER.saturating_add(end)).unwrap_or_default();
        let rest = words.iter().skip(HEADER + list.len());
        let is_whole = magic == MAGIC && rest.into_iter().all(|word| *word == epoch << 8 | place);
        if !is_whole || list.get(at) != Some(&(block << 1)) {
            fail!("what was written to block {block} is no block of an epoch: {:x?}", &words[..8]);
        }
        match self.epochs.get(&epoch) {
            Some(known) if known != list => fail!("two blocks of epoch {epoch} tell different things"),
            Some(_) => {}
            None => {
                self.epochs.insert(epoch, list.to_vec());
            }
        }
        Ok(Version { epoch, place: at })
    }

    /// All was read. The epochs that there are.
    pub fn complete(&mut self) -> Result<u64> {
        for (expected, (&epoch, list)) in (1..).zip(&self.epochs) {
            if epoch != expected {
                fail!("epoch {expected} was never written, and {epoch} was");
            }
            for (place, word) in list.iter().enumerate() {
                self.changes.entry(word >> 1).or_default().push((Version { epoch, place }, word & 1 != 0));
            }
        }
        Ok(self.epochs.len() as u64)
    }

    /// Blocks that are changed at any time.
    pub fn blocks(&self) -> impl Iterator<Item = u64> + '_ {
        self.changes.keys().copied()
    }

    /// Whether `block` may hold `found` (`None`: it was never written, or discarded) when something of `epoch` has been written, and nothing of a later one: what
    /// the epochs before have left, or any change of this one.
    pub fn allows(&self, block: u64, found: Option<Version>, epoch: u64) -> bool {
        let changes = self.changes.get(&block).map_or(&[][..], |changes| &changes[..]);
        let fits = |&(version, discard): &(Version, bool)| found.map_or(discard, |found| !discard && found == version);
        let durable = changes.iter().rfind(|(version, _)| version.epoch < epoch);
        durable.map_or(found.is_none(), fits) || changes.iter().filter(|(version, _)| version.epoch == epoch).any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(epoch: u64, place: u64, list: &[u64]) -> Block {
        let head = [MAGIC, epoch, place, list.len() as u64].into_iter().chain(list.iter().copied());
        let words = head.chain(std::iter::repeat(epoch << 8 | place)).take(512);
        let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.try_into().expect("a block")
    }

    #[test]
    fn what_a_block_may_hold() {
        let mut model = Model::default();
        // Block 3 is written twice and block 4 once; then 3 is discarded and 5 written.
        let (first, second) = (vec![3 << 1, 4 << 1, 3 << 1], vec![5 << 1, 3 << 1 | 1]);
        let version = |epoch, place| Version { epoch, place };
        assert_eq!(model.learn(3, &block(1, 2, &first)).expect("one"), version(1, 2));
        assert_eq!(model.learn(5, &block(2, 0, &second)).expect("one"), version(2, 0));
        assert!(model.learn(4, &block(1, 2, &first)).is_err(), "another block's");
        assert!(model.learn(5, &block(2, 0, &first)).is_err() && model.learn(3, &block(1, 0, &[6])).is_err());
        let mut torn = block(1, 1, &first);
        torn[4000] ^= 1;
        assert!(model.learn(4, &torn).is_err());
        assert_eq!(model.complete().expect("whole"), 2);
        let may = |block, found, epoch| model.allows(block, found, epoch);
        assert!(may(3, None, 0) && !may(3, Some(version(1, 0)), 0));
        assert!(may(3, None, 1) && may(3, Some(version(1, 0)), 1) && may(3, Some(version(1, 2)), 1));
        // All of epoch 1 is there once epoch 2 has begun.
        assert!(may(3, Some(version(1, 2)), 2) && may(3, None, 2) && !may(3, Some(version(1, 0)), 2));
        assert!(may(4, Some(version(1, 1)), 2) && !may(4, None, 2));
        assert!(may(3, None, 3) && !may(3, Some(version(1, 2)), 3) && !may(5, None, 3));
        assert!(may(9, None, 3));
    }
}
