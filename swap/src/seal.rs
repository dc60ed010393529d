//! How bundles are sealed on their way to a disk: block by block, so that each can be read, judged and opened by itself, and whoever has the disk can neither read
//! nor change one.
//!
//! A block of 4,096 bytes is [`BODY`] bytes of the bundle, or fewer and zeros in the last one, encrypted with ChaCha20, and the tag of Poly1305 (RFC 8439); what is
//! only there to fill the block costs nothing. The nonce is the number of the order to
//! store the bundle, which the core gives once, and the number of the block. What is authenticated beside it says whose block it is and of how many bytes. So a block of
//! another VM, of an earlier bundle or from another place does not open: the core's record has the number of the one that counts.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Tag};
use zerocopy::{Immutable, IntoBytes};

/// Bytes of a block on a disk.
pub const BLOCK: usize = 4096;
/// Bytes of a tag.
const TAG: usize = 16;
/// Bytes of a bundle in a block.
pub const BODY: usize = BLOCK - TAG;

/// Whose blocks they are, and of what.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
pub struct Label {
    /// [`abi::vm::VmId::raw`].
    pub vm: u64,
    /// The number of the order to store the bundle.
    pub counter: u64,
    /// Pages in it.
    pub pages: u32,
    /// Bytes of it.
    pub bytes: u32,
}

impl Label {
    /// Blocks of it.
    pub fn blocks(&self) -> u32 {
        // A block has some thousands of bytes.
        #[allow(clippy::cast_possible_truncation)]
        self.bytes.div_ceil(BODY as u32)
    }

    /// Bytes of it in block `index`: as many as there can be, but for the last one.
    fn bytes_in(&self, index: u32) -> usize {
        // Components run on 64-bit machines.
        (self.bytes as usize).saturating_sub((index as usize).saturating_mul(BODY)).min(BODY)
    }
}

/// What has the key.
pub struct Sealer(ChaCha20Poly1305);

impl Sealer {
    /// With this key.
    pub fn new(key: &[u8; 32]) -> Self {
        Sealer(ChaCha20Poly1305::new(key.into()))
    }

    /// Seals block `index`, in front of which the bytes of the bundle lie: the same bytes always into the same block.
    pub fn seal(&self, label: &Label, index: u32, block: &mut [u8; BLOCK]) {
        let (body, tag) = block.split_at_mut(BODY);
        let (body, rest) = body.split_at_mut(label.bytes_in(index));
        rest.fill(0);
        let made = self.0.encrypt_inout_detached(&nonce(label, index).into(), label.as_bytes(), body.into());
        match made {
            Ok(made) => tag.copy_from_slice(&made),
            // Only for what is longer than 256 GiB.
            Err(_) => block.fill(0),
        }
    }

    /// Opens block `index`: its bytes of the bundle. `None` when it is not the one that was sealed so; nothing of it can be used.
    pub fn open<'b>(&self, label: &Label, index: u32, block: &'b mut [u8; BLOCK]) -> Option<&'b [u8]> {
        let (body, tag) = block.split_at_mut(BODY);
        let body = &mut body[..label.bytes_in(index)];
        let tag = Tag::try_from(&*tag).ok()?;
        let nonce = nonce(label, index).into();
        self.0.decrypt_inout_detached(&nonce, label.as_bytes(), (&mut *body).into(), &tag).ok()?;
        Some(body)
    }
}

fn nonce(label: &Label, index: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&label.counter.to_le_bytes());
    nonce[8..].copy_from_slice(&index.to_le_bytes());
    nonce
}

const _: () = assert!(size_of::<Label>() == 24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_vm::noise;
    use proptest::prelude::*;
    use std::vec::Vec;

    const FIRST: u128 = 0x98da_6891_d7f4_f64d_597c_22d7_eac1_c7f7;
    const LAST: u128 = 0x8192_bc96_b70e_89e7_970c_c3db_fb4b_196b;
    const LABEL: Label = Label { vm: 7, counter: 9, pages: 3, bytes: 8160 };

    fn sealed(sealer: &Sealer, label: &Label, index: u32, body: &[u8]) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..BODY].copy_from_slice(body);
        sealer.seal(label, index, &mut block);
        block
    }

    #[test]
    fn it_is_the_construction_of_rfc_8439() {
        // What another implementation makes of the same bytes.
        let key = core::array::from_fn(|i| 0x80 + u8::try_from(i).expect("small"));
        let body: Vec<u8> = (0..BODY).map(|i| u8::try_from(i % 251).expect("small")).collect();
        let block = sealed(&Sealer::new(&key), &LABEL, 1, &body);
        let word = |at: usize| u128::from_be_bytes(block[at..at + TAG].try_into().expect("as long"));
        assert_eq!((word(0), word(BODY)), (FIRST, LAST));
    }

    #[test]
    fn of_the_last_block_only_what_there_is_is_sealed() {
        let (sealer, label) = (Sealer::new(&[1; 32]), Label { bytes: 4080 + 100, ..LABEL });
        assert_eq!((label.blocks(), label.bytes_in(0), label.bytes_in(1), label.bytes_in(2)), (2, BODY, 100, 0));
        let body = noise(3, BODY);
        let block = sealed(&sealer, &label, 1, &body);
        assert!(block[100..BODY].iter().all(|byte| *byte == 0) && block[..100] != body[..100]);
        assert_eq!(sealer.open(&label, 1, &mut block.clone()), Some(&body[..100]));
        assert!(sealer.open(&Label { bytes: 4080 + 99, ..label }, 1, &mut block.clone()).is_none());
    }

    proptest! {
        #[test]
        fn only_the_very_block_opens(seed: u64, at in 0..BLOCK * 8) {
            let (sealer, other) = (Sealer::new(&[1; 32]), Sealer::new(&[2; 32]));
            let body = noise(seed, BODY);
            let block = sealed(&sealer, &LABEL, 1, &body);
            prop_assert!(!block.windows(16).any(|part| body.windows(16).next() == Some(part)));
            let mut again = block;
            prop_assert_eq!(sealer.open(&LABEL, 1, &mut again), Some(&body[..]));
            let labels = [
                Label { vm: 8, ..LABEL },
                Label { counter: 8, ..LABEL },
                Label { pages: 4, ..LABEL },
                Label { bytes: 8161, ..LABEL },
                Label { bytes: 8159, ..LABEL },
            ];
            for label in labels {
                prop_assert!(sealer.open(&label, 1, &mut block.clone()).is_none());
            }
            prop_assert!(sealer.open(&LABEL, 0, &mut block.clone()).is_none());
            prop_assert!(other.open(&LABEL, 1, &mut block.clone()).is_none());
            let mut flipped = block;
            flipped[at / 8] ^= 1 << (at % 8);
            prop_assert!(sealer.open(&LABEL, 1, &mut flipped).is_none());
        }
    }
}
