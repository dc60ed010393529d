//! Who owns which frames, as ranges in the boot record.

use crate::memory::{Frames, Owner};
use abi::boot::{MAX_RANGES, Range, owner};
use abi::limits::PAGE_SIZE;

/// There are more ranges than the record has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// Writes who owns what, and returns how many ranges that are. What nobody owns but the firmware is left out.
///
/// # Errors
/// [`TooMany`].
pub fn write(frames: &Frames, to: &mut [Range; MAX_RANGES]) -> Result<u32, TooMany> {
    let (mut at, mut count) = (0, 0);
    while let Some((of, end)) = frames.run(at) {
        let (start, id) = (at, 0);
        at = end;
        let (owner, id) = match of {
            Owner::Free => (owner::FREE, id),
            Owner::Core => (owner::CORE, id),
            Owner::Module => (owner::MODULE, id),
            Owner::Loader => (owner::LOADER, id),
            Owner::Golden(image) => (owner::GOLDEN, image),
            _ => continue,
        };
        let range = to.get_mut(count).ok_or(TooMany)?;
        *range = Range { start: start * PAGE_SIZE, end: end * PAGE_SIZE, owner, id };
        count += 1;
    }
    u32::try_from(count).map_err(|_| TooMany)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::frames::Entry;

    #[test]
    fn neighbours_of_one_owner_are_one_range() {
        let mut frames = Frames::new(vec![Entry::RESERVED; 64].leak());
        assert!(frames.add_free(8, 40));
        frames.claim(4, 6, Owner::Loader);
        frames.claim(50, 64, Owner::Module);
        frames.hand_over(52, 53, Owner::Module, Owner::Loader);
        assert_eq!(frames.alloc(Owner::Golden(3), 0).map(|frame| frame.frame()), Some(8));
        let mut ranges = [Range { start: 0, end: 0, owner: 0, id: 0 }; MAX_RANGES];
        let count = write(&frames, &mut ranges).expect("few");
        let short: Vec<_> =
            ranges[..count as usize].iter().map(|r| (r.start >> 12, r.end >> 12, r.owner, r.id)).collect();
        let expected = [
            (4, 6, owner::LOADER, 0),
            (8, 9, owner::GOLDEN, 3),
            (9, 40, owner::FREE, 0),
            (50, 52, owner::MODULE, 0),
            (52, 53, owner::LOADER, 0),
            (53, 64, owner::MODULE, 0),
        ];
        assert_eq!(short, expected);
    }

    #[test]
    fn too_many_are_said() {
        let mut frames = Frames::new(vec![Entry::RESERVED; 2 * MAX_RANGES + 4].leak());
        for number in 0..=MAX_RANGES as u64 {
            frames.claim(2 * number, 2 * number + 1, Owner::Core);
        }
        let mut ranges = [Range { start: 0, end: 0, owner: 0, id: 0 }; MAX_RANGES];
        assert_eq!(write(&frames, &mut ranges), Err(TooMany));
    }
}
