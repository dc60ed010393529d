//! A bundle that is read from a disk: its blocks come one after the other, and its parts go to a window as far as they are whole.

use crate::bundle::{Damage, Decoder, Entering, Head, PART, Work};
use crate::pool::{checksum, content_bytes};
use crate::seal::{BLOCK, BODY, Label, Sealer};
use abi::swap::{Bundle, WINDOWS};
use abi::vm::VmId;
use core::hash::Hasher;
use twox_hash::XxHash64;

/// Memory that nobody else sees.
pub struct Buffers {
    /// A block that is sealed or opened.
    pub block: [u8; BLOCK],
    /// What is between the blocks of a bundle and its parts, for each window.
    pub carries: [[u8; PART + BODY]; WINDOWS],
}

impl Buffers {
    /// Nothing is in them.
    pub const fn new() -> Self {
        Buffers { block: [0; BLOCK], carries: [[0; PART + BODY]; WINDOWS] }
    }
}

/// A bundle that is read.
pub struct Read {
    /// Whose.
    pub vm: VmId,
    /// What the core's record says of it.
    pub bundle: Bundle,
    decoder: Decoder,
    checksum: XxHash64,
    /// Bytes of content that have not been read.
    pub left: usize,
    /// Bytes of content that wait for the rest of their part.
    carried: usize,
    /// Blocks that were read.
    pub blocks: u32,
    /// The request that is under way: its id, and its blocks.
    pub asked: Option<(u32, u16)>,
    /// How often a request has failed.
    pub tries: u8,
    /// When it is asked for next.
    pub at: u64,
    /// When it was asked for first.
    pub since: u64,
}

/// The label of a bundle's blocks.
pub fn label(vm: VmId, counter: u64, pages: u32, bytes: u32) -> Label {
    // As few as fit into a window.
    let bytes = u32::try_from(content_bytes(bytes)).unwrap_or(u32::MAX);
    Label { vm: vm.raw(), counter, pages, bytes }
}

impl Read {
    /// Nothing of it was read.
    pub fn new(vm: VmId, bundle: Bundle, now: u64) -> Self {
        Read {
            vm,
            bundle,
            decoder: Decoder::new(Head::new(vm.raw(), bundle.counter, bundle.pages)),
            checksum: checksum(),
            left: content_bytes(bundle.bytes),
            carried: 0,
            blocks: 0,
            asked: None,
            tries: 0,
            at: now,
            since: now,
        }
    }

    /// Whether its VM has all of it, as it was.
    pub fn is_whole(&self) -> bool {
        self.left == 0 && self.decoder.is_done() && self.checksum.finish() == self.bundle.checksum
    }

    /// Opens its next block, and gives its VM what is whole.
    ///
    /// # Errors
    /// It is not the block that was sealed, or makes no sense.
    pub fn take_block(
        &mut self,
        sealer: &Sealer,
        sealed: &mut [u8; BLOCK],
        carry: &mut [u8; PART + BODY],
        work: &mut Work,
        to: &mut impl Entering,
    ) -> Result<(), Damage> {
        let label = label(self.vm, self.bundle.counter, self.bundle.pages, self.bundle.bytes);
        let body = sealer.open(&label, self.blocks, sealed).ok_or(Damage::Seal)?;
        self.blocks += 1;
        let content = &body[..self.left.min(body.len())];
        self.checksum.write(content);
        self.left -= content.len();
        // What is carried is less than a part.
        let room =
            carry.get_mut(self.carried..self.carried + content.len()).ok_or(Damage::Senseless("a part is too long"))?;
        room.copy_from_slice(content);
        let filled = self.carried + content.len();
        let mut used = 0;
        while !self.decoder.is_done() {
            let mut at = used;
            let source = &carry[..filled];
            let part = work.decode_part(&mut self.decoder, to, |to| {
                to.copy_from_slice(source.get(at..at + to.len()).ok_or(Damage::Short)?);
                at += to.len();
                Ok(())
            });
            match part {
                Ok(()) => used = at,
                Err(Damage::Short) => break,
                Err(damage) => return Err(damage),
            }
        }
        if self.decoder.is_done() {
            used = filled;
        }
        carry.copy_within(used..filled, 0);
        self.carried = filled - used;
        Ok(())
    }
}
