//! VMs for tests.

use crate::bundle::{Entering, LINE, Leaving, PAGE};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// What a VM has: numbered pages, and what is kept beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    pub pages: Vec<(u32, Vec<u8>)>,
    pub kept: Vec<u8>,
}

impl Vm {
    /// One to come in with so many pages.
    pub fn empty(pages: u32) -> Vm {
        Vm { pages: (0..pages).map(|_| (0, vec![0; PAGE])).collect(), kept: vec![0; PAGE] }
    }

    pub fn count(&self) -> u32 {
        u32::try_from(self.pages.len()).expect("few")
    }

    fn at(&self, index: u32) -> &(u32, Vec<u8>) {
        &self.pages[usize::try_from(index).expect("small")]
    }

    fn at_mut(&mut self, index: u32) -> &mut (u32, Vec<u8>) {
        &mut self.pages[usize::try_from(index).expect("small")]
    }
}

impl Leaving for Vm {
    fn number(&self, index: u32) -> u32 {
        self.at(index).0
    }

    fn page(&self, index: u32, to: &mut [u8; PAGE]) {
        to.copy_from_slice(&self.at(index).1);
    }

    fn kept(&self, to: &mut [u8; PAGE]) {
        to.copy_from_slice(&self.kept);
    }
}

impl Entering for Vm {
    fn number(&mut self, index: u32, number: u32) {
        self.at_mut(index).0 = number;
    }

    fn line(&mut self, index: u32, line: usize, bytes: &[u8; LINE]) {
        self.at_mut(index).1[line * LINE..][..LINE].copy_from_slice(bytes);
    }

    fn kept(&mut self, line: usize, bytes: &[u8; LINE]) {
        self.kept[line * LINE..][..LINE].copy_from_slice(bytes);
    }
}

/// Bytes that nothing makes smaller.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let mut word = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    (0..bytes.div_ceil(8)).flat_map(|_| word().to_le_bytes()).take(bytes).collect()
}

/// Pages of zeros, of text, of noise, and of single words, mixed.
fn page() -> impl Strategy<Value = Vec<u8>> {
    let sparse = prop::collection::vec((0..PAGE, any::<u8>()), 0..40).prop_map(|bytes| {
        let mut page = vec![0; PAGE];
        bytes.into_iter().for_each(|(at, byte)| page[at] = byte);
        page
    });
    prop_oneof![
        3 => sparse,
        1 => any::<u64>().prop_map(|seed| noise(seed, PAGE)),
        1 => prop::collection::vec(any::<u8>(), 1..200).prop_map(|text| text.into_iter().cycle().take(PAGE).collect()),
    ]
}

/// Any VM with up to so many pages.
pub fn vm(pages: usize) -> impl Strategy<Value = Vm> {
    (prop::collection::btree_map(0..1_000_000_u32, page(), 0..=pages), page())
        .prop_map(|(pages, kept)| Vm { pages: pages.into_iter().collect(), kept })
}
