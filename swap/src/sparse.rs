//! Lines without the zeros of their words.
//!
//! What an idle VM holds is mostly pointers and small numbers: of the words of eight bytes in its lines most are zero, and of the others the upper bytes are.
//! Without these it takes about as little room as LZ4 makes of it, and comes back with a fifth of the instructions.
//!
//! Of each line there is a byte that says which of its words are not zero (bit 0: the first); for each of these, half a byte that says how many bytes it
//! takes up to the highest that is not zero, two in a byte and the first in its lower half; and these bytes, from the lowest on.

/// Bytes of a line.
pub const LINE: usize = 64;
/// Bytes of a word.
const WORD: usize = 8;
/// Words of a line.
const WORDS: usize = LINE / WORD;

/// Writes lines without the zeros of their words to the beginning of `to`; how many bytes that took, or `None` where they do not fit with [`WORD`] bytes behind
/// them, which may be written to as well: each word is written whole, and the next one over its zeros.
pub fn pack(lines: &[u8], to: &mut [u8]) -> Option<usize> {
    let mut used = 0;
    for line in lines.as_chunks::<LINE>().0 {
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(line.as_chunks::<WORD>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        // Of eight words, four bits each.
        let (mut mask, mut lengths, mut shift) = (0_u8, 0_u32, 0);
        for (at, &word) in words.iter().enumerate() {
            if word != 0 {
                mask |= 1 << at;
                lengths |= bytes_of(word) << shift;
                shift += 4;
            }
        }
        *to.get_mut(used)? = mask;
        *to.get_mut(used + 1..)?.first_chunk_mut()? = lengths.to_le_bytes();
        used += 1 + (mask.count_ones() as usize).div_ceil(2);
        for &word in words.iter().filter(|word| **word != 0) {
            *to.get_mut(used..)?.first_chunk_mut()? = word.to_le_bytes();
            used += bytes_of(word) as usize;
        }
    }
    to.len().checked_sub(used).filter(|rest| *rest >= WORD).map(|_| used)
}

/// Writes all of `lines` from what [`pack`] made of them, which are the first `len` bytes of `packed`; `None` where these are not as many as that takes. What
/// lies behind them in `packed` does not matter, but it should be [`WORD`] bytes at least: the last words are not found where there is less.
pub fn unpack(packed: &[u8], len: usize, lines: &mut [u8]) -> Option<()> {
    let mut used = 0;
    for line in lines.as_chunks_mut::<LINE>().0 {
        let mask = *packed.get(used)?;
        let mut lengths = u32::from_le_bytes(*packed.get(used + 1..)?.first_chunk()?);
        used += 1 + (mask.count_ones() as usize).div_ceil(2);
        let words = line.as_chunks_mut::<WORD>().0;
        words.fill([0; WORD]);
        for at in ones(mask.into()) {
            let bytes = lengths & 0xf;
            lengths >>= 4;
            // None of a word that is not zero is nothing.
            if !(1..=u64::BITS / 8).contains(&bytes) {
                return None;
            }
            let value = u64::from_le_bytes(*packed.get(used..)?.first_chunk()?);
            words[at % WORDS] = (value & (u64::MAX >> (u64::BITS - 8 * bytes))).to_le_bytes();
            used += bytes as usize;
        }
    }
    (used == len).then_some(())
}

/// The numbers of the bits that are set, from the lowest on.
pub fn ones(mut mask: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let at = mask.trailing_zeros() as usize;
        (mask != 0).then(|| {
            mask &= mask - 1;
            at
        })
    })
}

/// Bytes up to the highest that is not zero.
fn bytes_of(word: u64) -> u32 {
    (u64::BITS - word.leading_zeros()).div_ceil(8)
}

const _: () = assert!(WORDS == 8);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    /// In `room` bytes, and a word behind them.
    fn packed(lines: &[u8], room: usize) -> Option<Vec<u8>> {
        let mut to = vec![0xaa; room + WORD];
        let len = pack(lines, &mut to)?;
        to.truncate(len);
        Some(to)
    }

    /// With room for a word behind it.
    fn unpacked(packed: &[u8], lines: &mut [u8]) -> Option<()> {
        let mut longer = packed.to_vec();
        longer.extend([0xff; WORD]);
        unpack(&longer, packed.len(), lines)
    }

    #[test]
    fn what_is_not_zero_is_named_by_a_mask_and_lengths() {
        let mut line = vec![0; LINE];
        (line[0], line[3], line[16], line[63]) = (5, 6, 9, 7);
        let bytes = packed(&line, 80).expect("there is room");
        let words = [5, 0, 0, 6, 9, 0, 0, 0, 0, 0, 0, 0, 7];
        assert_eq!(bytes, [&[0b1000_0101, 0x14, 0x8][..], &words].concat());
        let mut back = vec![9; LINE];
        assert_eq!((unpacked(&bytes, &mut back), &back), (Some(()), &line));
        // One byte less or more is something else.
        assert_eq!(unpacked(&bytes[..bytes.len() - 1], &mut back), None);
        assert_eq!(unpacked(&[&bytes[..], &[0]].concat(), &mut back), None);
        assert_eq!(packed(&line, bytes.len() - 1), None);
        assert_eq!(packed(&line, bytes.len()), Some(bytes));
    }

    #[test]
    fn lengths_beyond_a_word_and_of_nothing_are_refused() {
        let mut line = [0; LINE];
        for length in [9, 15] {
            assert_eq!(unpacked(&[&[1, length][..], &[1; 16]].concat(), &mut line), None, "{length}");
        }
        // Nothing of a word is no word that is not zero.
        assert_eq!(unpacked(&[1, 0], &mut line), None);
        assert_eq!(unpacked(&[1, 1, 77], &mut line), Some(()));
        assert_eq!(line[..9], [77, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn full_lines_take_little_more_and_empty_ones_a_byte() {
        let len = |lines: &[u8]| packed(lines, 4 * 69).map(|bytes| bytes.len());
        assert_eq!(len(&[1; 4 * LINE]), Some(4 * (1 + 4 + 64)));
        assert_eq!(len(&[0; 4 * LINE]), Some(4));
        assert_eq!(len(&[]), Some(0));
        assert_eq!(unpacked(&[], &mut []), Some(()));
    }

    #[test]
    fn bits_are_named_from_the_lowest_on() {
        let all = |mask| ones(mask).collect::<Vec<_>>();
        assert_eq!((all(0), all(0b1011), all(1 << 63 | 1)), (vec![], vec![0, 1, 3], vec![0, 63]));
        assert_eq!(all(u64::MAX), (0..64).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn there_and_back(lines in prop::collection::vec(prop_oneof![4 => Just(0), 1 => any::<u8>()], 0..8 * LINE)) {
            let lines: Vec<u8> = lines[..lines.len() / LINE * LINE].to_vec();
            let bytes = packed(&lines, lines.len() / LINE * 69).expect("as long as it can get");
            let mut back = vec![3; lines.len()];
            prop_assert_eq!(unpacked(&bytes, &mut back), Some(()));
            prop_assert_eq!(back, lines);
        }

        #[test]
        fn whatever_the_bytes_are_it_ends(packed in prop::collection::vec(any::<u8>(), 0..600), len in 0..700_usize) {
            let _ = unpack(&packed, len, &mut [0; 8 * LINE]);
        }
    }
}
