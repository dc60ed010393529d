//! Extra boot arguments of VMs that wait: text in an arena of cells, which records point into.

use abi::control::CREATE_ARGS_BYTES;

/// Bytes of text in a cell; with the link it takes 64.
const TEXT_BYTES: usize = 60;
/// "No cell".
const NONE: u32 = u32::MAX;

/// A piece of somebody's arguments.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Cell {
    /// The next piece; of a free cell, the next free one.
    next: u32,
    text: [u8; TEXT_BYTES],
}

/// What unused memory holds.
pub const EMPTY_CELL: Cell = Cell { next: NONE, text: [0; TEXT_BYTES] };

const _: () = assert!(size_of::<Cell>() == 64);

/// Arguments as their creator gave them, padded with zeros.
pub type Extra = [u8; CREATE_ARGS_BYTES];

/// Where somebody's arguments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Args(u32);

impl Args {
    /// No arguments; they take no cell.
    pub const EMPTY: Args = Args(NONE);
}

/// All cells.
#[derive(Debug)]
pub struct Arena {
    cells: &'static mut [Cell],
    /// The first of those that were given back.
    free: u32,
    /// No cell from here on was ever taken.
    fresh: u32,
}

impl Arena {
    /// An arena without arguments.
    pub fn new(cells: &'static mut [Cell]) -> Self {
        Arena { cells, free: NONE, fresh: 0 }
    }

    /// Keep arguments. `None` when there are not enough cells; nothing has changed then.
    pub fn store(&mut self, extra: &Extra) -> Option<Args> {
        let len = extra.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let mut first = NONE;
        // From the last piece to the first, so that each knows the one behind it.
        for piece in extra[..len].rchunks(TEXT_BYTES) {
            let Some(at) = self.take() else {
                self.free(Args(first));
                return None;
            };
            let mut text = [0; TEXT_BYTES];
            text[..piece.len()].copy_from_slice(piece);
            self.cells[at as usize] = Cell { next: first, text };
            first = at;
        }
        Some(Args(first))
    }

    /// The arguments that were stored.
    pub fn read(&self, args: Args) -> Extra {
        let mut extra = [0; CREATE_ARGS_BYTES];
        let mut at = args.0;
        for piece in extra.chunks_mut(TEXT_BYTES) {
            let Some(cell) = self.cells.get(at as usize) else { break };
            piece.copy_from_slice(&cell.text[..piece.len()]);
            at = cell.next;
        }
        extra
    }

    /// Forget arguments.
    pub fn free(&mut self, args: Args) {
        let mut at = args.0;
        while let Some(cell) = self.cells.get_mut(at as usize) {
            let next = core::mem::replace(&mut cell.next, self.free);
            self.free = at;
            at = next;
        }
    }

    fn take(&mut self) -> Option<u32> {
        if let Some(cell) = self.cells.get(self.free as usize) {
            let at = self.free;
            self.free = cell.next;
            return Some(at);
        }
        let at = self.fresh;
        self.cells.get(at as usize)?;
        self.fresh += 1;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arena(cells: usize) -> Arena {
        Arena::new(vec![EMPTY_CELL; cells].leak())
    }

    #[test]
    fn none_take_no_cell() {
        let mut arena = arena(0);
        assert_eq!(arena.store(&[0; CREATE_ARGS_BYTES]), Some(Args::EMPTY));
        assert_eq!(arena.read(Args::EMPTY), [0; CREATE_ARGS_BYTES]);
        arena.free(Args::EMPTY);
        assert_eq!(arena.store(&[1; CREATE_ARGS_BYTES]), None);
    }

    proptest! {
        #[test]
        fn what_was_stored_is_read_until_it_is_freed(
            steps in prop::collection::vec((any::<u8>(), 0..=CREATE_ARGS_BYTES, any::<bool>()), 0..100)
        ) {
            let mut arena = arena(8);
            let mut kept: Vec<(Args, Extra)> = Vec::new();
            for (byte, len, free) in steps {
                if free && !kept.is_empty() {
                    let (args, _) = kept.swap_remove(usize::from(byte) % kept.len());
                    arena.free(args);
                    continue;
                }
                let mut extra = [0; CREATE_ARGS_BYTES];
                extra[..len].fill(byte);
                let in_cells = kept.iter().filter(|(args, _)| *args != Args::EMPTY).count();
                let takes_one = extra.iter().any(|&byte| byte != 0);
                match arena.store(&extra) {
                    Some(args) => kept.push((args, extra)),
                    None => prop_assert!(takes_one && in_cells == 8, "refused with {in_cells} of 8 cells taken"),
                }
                for (args, extra) in &kept {
                    prop_assert_eq!(&arena.read(*args), extra);
                }
            }
        }
    }
}
