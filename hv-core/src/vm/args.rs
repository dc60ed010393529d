//! Boot arguments of VMs that wait: bytes in an arena of cells, which records point into. Nobody here reads them.

use abi::guest::BOOT_ARGS_MAX;
use abi::record::{Args, Cell, NONE, PIECE_BYTES};

/// The boot arguments of a VM.
pub type BootArgs = heapless::Vec<u8, BOOT_ARGS_MAX>;

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
    /// An arena of these cells, of which the first `taken` hold arguments already.
    pub fn new(cells: &'static mut [Cell], taken: u32) -> Self {
        Arena { cells, free: NONE, fresh: taken }
    }

    /// Keep arguments. `None` when there are not enough cells; nothing has changed then.
    pub fn store(&mut self, args: &[u8]) -> Option<Args> {
        let mut first = NONE;
        // From the last piece to the first, so that each knows the one behind it.
        let pieces = args.chunks(PIECE_BYTES);
        for piece in pieces.rev() {
            let Some(at) = self.take() else {
                self.free(Args::at(first));
                return None;
            };
            let cell = &mut self.cells[at as usize];
            // What lies behind the piece is not read, so it is not filled.
            cell.bytes[..piece.len()].copy_from_slice(piece);
            // A piece is not longer than a cell.
            cell.len = u8::try_from(piece.len()).unwrap_or(0);
            cell.next = first;
            first = at;
        }
        Some(Args::at(first))
    }

    /// Put the arguments that were stored into `into`, in place of what is there.
    pub fn read(&self, args: Args, into: &mut BootArgs) {
        into.clear();
        let mut at = args.first();
        while let Some(cell) = self.cells.get(at as usize) {
            // No more were stored than there is room for, and no chain is longer than that.
            if into.extend_from_slice(&cell.bytes[..usize::from(cell.len).min(PIECE_BYTES)]).is_err() {
                break;
            }
            at = cell.next;
        }
    }

    /// Forget arguments.
    pub fn free(&mut self, args: Args) {
        let mut at = args.first();
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
    use abi::record::cells_for;
    use proptest::prelude::*;

    fn arena(cells: usize) -> Arena {
        Arena::new(vec![Cell::EMPTY; cells].leak(), 0)
    }

    fn read(arena: &Arena, args: Args) -> Vec<u8> {
        let mut into = BootArgs::from_slice(b"what was there").expect("short");
        arena.read(args, &mut into);
        into.to_vec()
    }

    #[test]
    fn none_take_no_cell() {
        let mut arena = arena(0);
        assert_eq!(arena.store(&[]), Some(Args::EMPTY));
        assert!(read(&arena, Args::EMPTY).is_empty());
        arena.free(Args::EMPTY);
        assert_eq!(arena.store(&[1]), None);
    }

    #[test]
    fn zeros_are_bytes_as_others() {
        let mut arena = arena(3);
        let args = arena.store(&[0; 2 * PIECE_BYTES + 1]).expect("room");
        assert_eq!(read(&arena, args), [0; 2 * PIECE_BYTES + 1]);
    }

    #[test]
    fn what_boot_has_laid_is_read_and_freed_as_what_was_stored() {
        let (a, b) = ([b'a'; PIECE_BYTES], [b'b'; PIECE_BYTES]);
        let (cells, texts) = (vec![Cell::EMPTY; 5].leak(), [[&a[..], b"a"].concat(), b"".to_vec(), [b, b].concat()]);
        let pieces: [(&[u8], u32); 4] = [(&a, 1), (b"a", NONE), (&b, 3), (&b, NONE)];
        for (cell, (piece, next)) in cells.iter_mut().zip(pieces) {
            *cell = Cell::new(piece, next);
        }
        let laid = [Args::at(0), Args::EMPTY, Args::at(2)];
        let mut arena = Arena::new(cells, 4);
        assert_eq!(laid.map(|args| read(&arena, args)), texts);
        let more = arena.store(b"d").expect("the last one");
        assert_eq!(arena.store(b"e"), None);
        arena.free(laid[2]);
        let again = arena.store(&[b'f'; 2 * PIECE_BYTES]).expect("two were given back");
        assert_eq!(
            [laid[0], more, again].map(|args| read(&arena, args)),
            [texts[0].clone(), b"d".to_vec(), vec![b'f'; 2 * PIECE_BYTES]]
        );
    }

    proptest! {
        #[test]
        fn what_was_stored_is_read_until_it_is_freed(
            steps in prop::collection::vec((any::<u8>(), 0..=BOOT_ARGS_MAX, any::<bool>()), 0..100)
        ) {
            let mut arena = arena(24);
            let mut kept: Vec<(Args, Vec<u8>)> = Vec::new();
            for (byte, len, free) in steps {
                if free && !kept.is_empty() {
                    let (args, _) = kept.swap_remove(usize::from(byte) % kept.len());
                    arena.free(args);
                    continue;
                }
                let text = vec![byte; len];
                let taken: usize = kept.iter().map(|(_, text)| cells_for(text.len())).sum();
                match arena.store(&text) {
                    Some(args) => kept.push((args, text)),
                    None => prop_assert!(taken + cells_for(len) > 24, "refused with {taken} of 24 cells taken"),
                }
                for (args, text) in &kept {
                    prop_assert_eq!(&read(&arena, *args), text);
                }
            }
        }
    }
}
