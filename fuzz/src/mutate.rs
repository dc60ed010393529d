//! Inputs made of others: a small mutator that is the same everywhere and in every run. libFuzzer has a better one.

/// Marsaglia's xorshift64.
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 8).unwrap_or(0).checked_rem(bound).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}

/// Numbers at which readers are wrong.
const EDGES: [u64; 14] =
    [0, 1, 2, 3, 7, 8, 0x7f, 0xff, 0x1000, 0x7fff_ffff, 0xffff_ffff, u64::MAX >> 1, u64::MAX - 4095, u64::MAX];

/// The same in text: limits of the readers are among them.
const DECIMALS: [u64; 12] = [0, 1, 30, 255, 4096, 65_535, 1 << 16, 1 << 20, 1 << 26, 1 << 31, 1 << 32, u64::MAX - 1];

/// One of `inputs`, changed in one to four places.
pub fn changed(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        change(&mut bytes, inputs, random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, inputs: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len());
    let some = random.below(24);
    match random.below(10) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.byte();
            }
        }
        // A number of one to eight bytes, in either order, mostly where numbers are.
        3 | 4 => {
            let len = 1 << random.below(4);
            let at = if random.below(2) == 0 { at & !(len - 1) } else { at };
            let edge = EDGES[random.below(EDGES.len())];
            let number = edge.wrapping_add(random.below(3) as u64).wrapping_sub(1);
            let mut number = number.to_le_bytes();
            number[..len].rotate_left(if random.below(4) == 0 { len / 2 } else { 0 });
            if let Some(place) = bytes.get_mut(at..at + len) {
                place.copy_from_slice(&number[..len]);
            }
        }
        5 => bytes.truncate(at),
        // A piece of itself or of another, in place of what was there or between.
        6 => {
            let other = &inputs[random.below(inputs.len())];
            let from = random.below(other.len());
            let piece = other[from..(from + some).min(other.len())].to_vec();
            let end = if random.below(2) == 0 { at } else { (at + piece.len()).min(bytes.len()) };
            bytes.splice(at..end, piece);
        }
        // The next number in text.
        8 => {
            let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|place| at + place) else { return };
            let len = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = DECIMALS[random.below(DECIMALS.len())].wrapping_add(random.below(3) as u64).wrapping_sub(1);
            bytes.splice(start..start + len, number.to_string().into_bytes());
        }
        7 => drop(bytes.drain(at..(at + some).min(bytes.len()))),
        _ => {
            let byte = random.byte();
            bytes.splice(at..at, std::iter::repeat_n(byte, some));
        }
    }
}
