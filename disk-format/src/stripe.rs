//! Where the blocks of a set lie on its members.
//!
//! The data of a set is one row of blocks. It is cut into stripe units, which are dealt out to the members in turn.

/// How the blocks of a set are dealt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stripes {
    members: u64,
    unit: u64,
    data_start: u64,
    data_blocks: u64,
}

/// Blocks that lie one behind the other on one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which member.
    pub member: u16,
    /// Its first block there.
    pub block: u64,
    /// How many blocks.
    pub blocks: u64,
    /// Which block of the whole it begins with, from 0.
    pub offset: u64,
}

impl Stripes {
    /// `members` of which each has `data_blocks` from `data_start` on, in units of `unit` blocks. `None` when that cannot be: no member,
    /// no unit, data that is no whole number of units, or more than can be counted.
    pub fn new(members: u16, unit: u32, data_start: u64, data_blocks: u64) -> Option<Stripes> {
        let (members, unit) = (u64::from(members), u64::from(unit));
        let whole = members > 0 && unit > 0 && data_blocks.is_multiple_of(unit);
        data_start.checked_add(data_blocks)?;
        data_blocks.checked_mul(members)?;
        whole.then_some(Stripes { members, unit, data_start, data_blocks })
    }

    /// Blocks of the set.
    pub fn blocks(&self) -> u64 {
        // Does not overflow: `new` has tried.
        self.data_blocks * self.members
    }

    /// Blocks in a stripe unit.
    pub fn unit(&self) -> u64 {
        self.unit
    }

    /// Where one block is: its member, and which of that member's blocks it is; `None` where there is no such block.
    #[inline]
    pub fn place(&self, at: u64) -> Option<(u16, u64)> {
        if at >= self.blocks() {
            return None;
        }
        if self.members == 1 {
            return Some((0, self.data_start + at));
        }
        let (row, within) = (at / self.unit, at % self.unit);
        // Below the number of members, which has 16 bits.
        let member = u16::try_from(row % self.members).unwrap_or(0);
        Some((member, self.data_start + row / self.members * self.unit + within))
    }

    /// The pieces of the `blocks` from `first` on, in order; none when they are not all there. With one member there is one piece.
    pub fn pieces(&self, first: u64, blocks: u64) -> impl Iterator<Item = Piece> + use<> {
        let end = first.checked_add(blocks).filter(|&end| end <= self.blocks());
        let (this, mut next) = (*self, first);
        core::iter::from_fn(move || {
            let left = end?.checked_sub(next).filter(|&left| left > 0)?;
            let (row, within) = (next / this.unit, next % this.unit);
            let blocks = if this.members == 1 { left } else { left.min(this.unit - within) };
            let piece = Piece {
                // Below the number of members, which has 16 bits.
                member: u16::try_from(row % this.members).unwrap_or(0),
                block: this.data_start + row / this.members * this.unit + within,
                blocks,
                offset: next - first,
            };
            next += blocks;
            Some(piece)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn units_are_dealt_out_in_turn() {
        let stripes = Stripes::new(3, 4, 100, 16).expect("good");
        let piece = |member, block, blocks, offset| Piece { member, block, blocks, offset };
        let all: Vec<Piece> = stripes.pieces(2, 15).collect();
        assert_eq!(
            all,
            [piece(0, 102, 2, 0), piece(1, 100, 4, 2), piece(2, 100, 4, 6), piece(0, 104, 4, 10), piece(1, 104, 1, 14)]
        );
        assert_eq!(stripes.pieces(47, 1).collect::<Vec<_>>(), [piece(2, 115, 1, 0)]);
        assert_eq!(
            stripes.pieces(48, 1).count() + stripes.pieces(40, 9).count() + stripes.pieces(u64::MAX, 2).count(),
            0
        );
        assert_eq!(stripes.pieces(0, 0).count(), 0);
        let one = Stripes::new(1, 4, 100, 16).expect("good");
        assert_eq!(one.pieces(3, 13).collect::<Vec<_>>(), [piece(0, 103, 13, 0)]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(Stripes::new(0, 4, 0, 16), None);
        assert_eq!(Stripes::new(1, 0, 0, 16), None);
        assert_eq!(Stripes::new(1, 4, 0, 17), None);
        assert_eq!(Stripes::new(2, 1, 0, u64::MAX / 2 + 1), None);
        assert_eq!(Stripes::new(1, 1, 1, u64::MAX), None);
    }

    proptest! {
        /// Every block of the set has a place of its own within the members' data, and there is no other place.
        #[test]
        fn each_block_has_a_place_of_its_own(members in 1_u16..6, unit in 1_u32..9, rows in 1_u64..6, start in 0_u64..99) {
            let stripes = Stripes::new(members, unit, start, rows * u64::from(unit)).expect("good");
            let place = |block| {
                let pieces: Vec<Piece> = stripes.pieces(block, 1).collect();
                assert_eq!(stripes.place(block), pieces.first().map(|piece| (piece.member, piece.block)));
                let [Piece { member, block, blocks: 1, offset: 0 }] = pieces[..] else { panic!("{pieces:?}") };
                assert!(member < members && (start..start + rows * u64::from(unit)).contains(&block));
                (member, block)
            };
            let places: BTreeSet<(u16, u64)> = (0..stripes.blocks()).map(place).collect();
            prop_assert_eq!(places.len() as u64, stripes.blocks());
            prop_assert_eq!(stripes.blocks(), rows * u64::from(unit) * u64::from(members));
        }

        /// The pieces of many blocks are those of each.
        #[test]
        fn pieces_are_their_blocks(members in 1_u16..6, unit in 1_u32..9, rows in 1_u64..6, first in 0_u64..200, blocks in 0_u64..200) {
            let stripes = Stripes::new(members, unit, 7, rows * u64::from(unit)).expect("good");
            let of = |piece: Piece| (0..piece.blocks).map(move |i| (piece.member, piece.block + i, piece.offset + i));
            let whole: Vec<_> = stripes.pieces(first, blocks).flat_map(of).collect();
            let each: Vec<_> = (0..blocks)
                .flat_map(|i| stripes.pieces(first + i, 1).map(move |piece| (piece.member, piece.block, i)))
                .collect();
            if first + blocks <= stripes.blocks() {
                prop_assert_eq!(whole, each);
            } else {
                prop_assert!(whole.is_empty());
            }
        }
    }
}
