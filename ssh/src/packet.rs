//! Packets (RFC 4253, 6), in clear at first and then as `chacha20-poly1305@openssh.com` has them: the length is encrypted with one key, everything else with
//! another one, and the tag is over both.

use crate::end::End;
use crate::number::reason;
use alloc::vec::Vec;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::Rng;
use ssh_cipher::aead::{AeadInOut, KeyInit};
use ssh_cipher::cipher::{KeyIvInit, StreamCipher};
use ssh_cipher::{ChaCha20, ChaCha20Poly1305, ChaChaKey, ChaChaNonce, Tag};

/// Bytes of a packet at most, without its length and its tag (RFC 4253, 6.1).
pub const PACKET: usize = 35_000;
/// Bytes of the length in front of a packet, and of the tag behind it.
const LENGTH: usize = 4;
const TAG: usize = 16;
/// What a packet's length is a multiple of.
const BLOCK: usize = 8;
/// Bytes of padding at least.
const PADDING: usize = 4;
/// A buffer that has become larger is given back when its packet was read.
const KEPT: usize = 4096;
/// When new keys are wanted: bytes (RFC 4253, 9), and packets.
const BYTES: u64 = 1 << 30;
const PACKETS: u32 = 1 << 28;
/// Packets with the same keys at most: a number must not come twice.
const MOST_PACKETS: u32 = 1 << 31;

/// The keys of one direction.
pub(crate) struct Keys {
    body: ChaChaKey,
    length: ChaChaKey,
}

impl Keys {
    /// The two halves of what was derived.
    pub(crate) fn new(halves: &[[u8; 32]; 2]) -> Keys {
        Keys { body: halves[0].into(), length: halves[1].into() }
    }

    fn crypt_length(&self, nonce: &ChaChaNonce, length: &mut [u8; LENGTH]) {
        ChaCha20::new(&self.length, nonce).apply_keystream(length);
    }
}

/// What is counted of one direction.
#[derive(Default)]
struct Count {
    sequence: u32,
    bytes: u64,
    packets: u32,
}

impl Count {
    fn nonce(&self) -> ChaChaNonce {
        u64::from(self.sequence).to_be_bytes().into()
    }

    fn add(&mut self, bytes: usize) {
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// New keys count from now on; with strict key exchange the numbers begin anew.
    fn begin(&mut self, strict: bool) {
        let sequence = if strict { 0 } else { self.sequence };
        *self = Count { sequence, ..Count::default() };
    }

    fn is_worn(&self) -> bool {
        self.bytes >= BYTES || self.packets >= PACKETS
    }
}

/// What is sent.
#[derive(Default)]
pub(crate) struct Sealing {
    keys: Option<Keys>,
    count: Count,
}

impl Sealing {
    /// Appends a packet to `out`.
    pub(crate) fn seal(&mut self, payload: &[u8], random: &mut ChaCha20Rng, out: &mut Vec<u8>) {
        // The length counts for the blocks where it is not encrypted apart.
        let clear = if self.keys.is_some() { 0 } else { LENGTH };
        let mut padding = BLOCK - (clear + 1 + payload.len()) % BLOCK;
        if padding < PADDING {
            padding += BLOCK;
        }
        let length = u32::try_from(1 + payload.len() + padding).unwrap_or(u32::MAX);
        let start = out.len();
        out.extend(length.to_be_bytes());
        // At most 11.
        out.push(u8::try_from(padding).unwrap_or(u8::MAX));
        out.extend(payload);
        let mut noise = [0; BLOCK + PADDING];
        random.fill_bytes(&mut noise);
        out.extend(noise.iter().take(padding));
        if let Some(keys) = &self.keys {
            let nonce = self.count.nonce();
            let mut length = length.to_be_bytes();
            keys.crypt_length(&nonce, &mut length);
            let packet = &mut out[start..];
            packet[..LENGTH].copy_from_slice(&length);
            let body = &mut packet[LENGTH..];
            // It refuses more than 16 bytes beside, and these are four.
            let tag = ChaCha20Poly1305::new(&keys.body).encrypt_inout_detached(&nonce, &length, body.into());
            out.extend(tag.unwrap_or_default());
        }
        self.count.add(out.len() - start);
    }

    /// New keys from the next packet on.
    pub(crate) fn begin(&mut self, keys: Keys, strict: bool) {
        self.keys = Some(keys);
        self.count.begin(strict);
    }

    pub(crate) fn is_worn(&self) -> bool {
        self.count.is_worn()
    }
}

/// What comes.
#[derive(Default)]
pub(crate) struct Opening {
    keys: Option<Keys>,
    count: Count,
    /// Of the next packet what has come.
    buffer: Vec<u8>,
    /// Its length, once that is known.
    length: Option<usize>,
}

impl Opening {
    /// Takes bytes, at most to the end of a packet: how many, and the packet if it is whole. [`Opening::payload`] says what is in it.
    ///
    /// # Errors
    ///
    /// It is none, or not the one that was sent.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Vec<u8>>), End> {
        let mut taken = 0;
        let length = match self.length {
            Some(length) => length,
            None => {
                taken += self.fill(bytes, LENGTH);
                let Ok(length) = <[u8; LENGTH]>::try_from(&self.buffer[..]) else { return Ok((taken, None)) };
                *self.length.insert(self.checked(length)?)
            }
        };
        let tag = if self.keys.is_some() { TAG } else { 0 };
        let whole = LENGTH + length + tag;
        taken += self.fill(bytes.get(taken..).unwrap_or_default(), whole);
        if self.buffer.len() < whole {
            return Ok((taken, None));
        }
        let mut packet = core::mem::take(&mut self.buffer);
        self.length = None;
        if let Some(keys) = &self.keys {
            let (head, rest) = packet.split_at_mut(LENGTH);
            let (body, tag) = rest.split_at_mut(length);
            let wrong = || End::new(reason::MAC_ERROR, "a packet is not as it was sent");
            let tag = Tag::try_from(&*tag).map_err(|_| wrong())?;
            let cipher = ChaCha20Poly1305::new(&keys.body);
            cipher.decrypt_inout_detached(&self.count.nonce(), head, body.into(), &tag).map_err(|_| wrong())?;
        }
        packet.truncate(LENGTH + length);
        self.count.add(whole);
        if self.count.packets >= MOST_PACKETS {
            return Err(End::new(reason::BY_APPLICATION, "too many packets with the same keys"));
        }
        Ok((taken, Some(packet)))
    }

    /// Fills the buffer up to so many bytes: how many it takes.
    fn fill(&mut self, bytes: &[u8], up_to: usize) -> usize {
        let taken = bytes.len().min(up_to.saturating_sub(self.buffer.len()));
        let len = self.buffer.len();
        if len + taken > self.buffer.capacity() {
            // No more than the packet has, and no more than twice what has come of it.
            self.buffer.reserve_exact((up_to - len).min(taken.max(len)));
        }
        self.buffer.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// The length that a packet says it has.
    fn checked(&self, mut length: [u8; LENGTH]) -> Result<usize, End> {
        let clear = match &self.keys {
            Some(keys) => {
                keys.crypt_length(&self.count.nonce(), &mut length);
                0
            }
            None => LENGTH,
        };
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        // Of a packet that was changed on its way, the length is any number.
        let bad = |why| End::new(reason::PROTOCOL_ERROR, why);
        if length > PACKET {
            return Err(bad("a packet has more than 35,000 bytes"));
        }
        if length < 1 + PADDING || !(clear + length).is_multiple_of(BLOCK) {
            return Err(bad("a packet has a length that none has"));
        }
        Ok(length)
    }

    /// What is in a packet.
    ///
    /// # Errors
    ///
    /// It has nothing but padding, or not as much.
    pub(crate) fn payload(packet: &[u8]) -> Result<&[u8], End> {
        let padding = packet.get(LENGTH).map_or(0, |padding| usize::from(*padding));
        let end = packet.len().checked_sub(padding).filter(|end| *end > LENGTH + 1 && padding >= PADDING);
        end.and_then(|end| packet.get(LENGTH + 1..end))
            .ok_or_else(|| End::new(reason::PROTOCOL_ERROR, "a packet has nothing in it"))
    }

    /// Takes the buffer of a packet back.
    pub(crate) fn give_back(&mut self, mut packet: Vec<u8>) {
        if packet.capacity() <= KEPT {
            packet.clear();
            self.buffer = packet;
        }
    }

    /// New keys from the next packet on.
    pub(crate) fn begin(&mut self, keys: Keys, strict: bool) {
        self.keys = Some(keys);
        self.count.begin(strict);
    }

    pub(crate) fn is_worn(&self) -> bool {
        self.count.is_worn()
    }

    /// Whether what comes is not encrypted yet.
    pub(crate) fn is_clear(&self) -> bool {
        self.keys.is_none()
    }

    /// The number of the packet that was taken last.
    pub(crate) fn last(&self) -> u32 {
        self.count.sequence.wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chacha20::rand_core::SeedableRng;

    /// Both ends here count alike, so what they count is held against the cipher itself.
    #[test]
    fn numbers_begin_anew_with_strict_exchanges_alone() {
        let halves = [[1; 32], [2; 32]];
        for (strict, number) in [(true, 0_u64), (false, 2)] {
            let (mut sealing, mut out) = (Sealing::default(), Vec::new());
            let mut random = ChaCha20Rng::from_seed([0; 32]);
            sealing.seal(b"one", &mut random, &mut out);
            sealing.seal(b"two", &mut random, &mut out);
            sealing.begin(Keys::new(&halves), strict);
            out.clear();
            sealing.seal(b"three", &mut random, &mut out);
            let nonce: ChaChaNonce = number.to_be_bytes().into();
            let mut length: [u8; 4] = out[..4].try_into().expect("four");
            ChaCha20::new(&halves[1].into(), &nonce).apply_keystream(&mut length);
            assert_eq!(u32::from_be_bytes(length), 16, "{strict}");
            let (head, tag) = (out[..4].to_vec(), Tag::try_from(&out[20..]).expect("a tag"));
            let body = &mut out[4..20];
            let cipher = ChaCha20Poly1305::new(&halves[0].into());
            assert!(cipher.decrypt_inout_detached(&nonce, &head, (&mut *body).into(), &tag).is_ok(), "{strict}");
            assert_eq!(body[..6], [10, b't', b'h', b'r', b'e', b'e']);
        }
    }
}
