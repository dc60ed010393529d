//! The pool: bundles in chains of cells, and what the core's records say of them.

use crate::bundle::{Damage, Entering, Head, Leaving, Work};
use crate::cells::{CELL, Cells, Full, PAYLOAD};
use abi::swap::{Bundle, UNIT_BYTES, WINDOW_PAGES, WINDOWS, tier};
use abi::vm::VmId;
use core::hash::Hasher;
use ring::SharedMemory;
use twox_hash::XxHash64;

/// The checksum of nothing: XXH64, which finds what chance has changed as a CRC of 64 bits does, with a fifth of its instructions. Against purpose there is
/// the seal, on the disks.
pub fn checksum() -> XxHash64 {
    XxHash64::with_seed(0)
}

/// Cells of the largest bundle: all pages of a window, of which nothing can be compressed. So many stay free for the exchange of a VM that goes out for
/// one that comes in, unless that is more than a quarter of the pool.
pub const LARGEST: u32 = {
    // A block for each page, and one for what is kept.
    let bytes = size_of::<Head>() + (WINDOW_PAGES + 1) * (4 + 12 + crate::bundle::PAGE);
    // Some thousands.
    #[allow(clippy::cast_possible_truncation)]
    {
        bytes.div_ceil(PAYLOAD) as u32
    }
};

/// What the pool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// VMs, and single pages.
    pub vms: u32,
    /// Bytes of the pool that they take.
    pub bytes: u64,
    /// Pages that they have.
    pub pages: u64,
}

/// How far a bundle in the pool was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    cell: u32,
    left: u32,
    /// Bytes of that cell.
    used: usize,
}

/// Bytes of content of a bundle that takes so many bytes of the pool.
pub const fn content_bytes(bytes: u32) -> usize {
    // Widening only.
    bytes as usize / CELL * PAYLOAD
}

/// The pool.
pub struct Pool {
    cells: Cells,
    holding: Holding,
    /// Those that were given back last and found to be whole, each once: they are forgotten a moment later, and need not be read for that again.
    whole: heapless::Deque<Bundle, WINDOWS>,
}

impl Pool {
    /// An empty pool in this memory; `None` where it has no room for anything. What lies there is found again by [`Pool::holds`].
    pub fn new(memory: SharedMemory) -> Option<Self> {
        Some(Pool { cells: Cells::new(memory)?, holding: Holding::default(), whole: heapless::Deque::new() })
    }

    /// It holds nothing, as far as is known.
    pub fn clear(&mut self) {
        self.cells.clear();
        self.holding = Holding::default();
        self.whole.clear();
    }

    /// What it holds.
    pub fn holding(&self) -> Holding {
        self.holding
    }

    /// Bytes that it has room for, and bytes of these that are free.
    pub fn room(&self) -> (u64, u64) {
        let bytes = |cells: u32| u64::from(cells) * CELL as u64;
        (bytes(self.cells.count()), bytes(self.cells.free()))
    }

    /// The core's record says that this bundle lies here: nobody writes there until it is forgotten.
    ///
    /// # Errors
    /// Something else lies there. The VM is not lost by that yet: [`Pool::load`] will say it again.
    pub fn holds(&mut self, bundle: &Bundle) -> Result<(), Damage> {
        let (first, cells) = self.chain(bundle).ok_or(Damage::Chain)?;
        let is_new = self.cells.is_free(first);
        self.cells.claim(first, cells).map_err(|_| Damage::Chain)?;
        if is_new {
            self.count(bundle);
        }
        Ok(())
    }

    /// Puts a VM with so many pages into the pool, under this number. `spare`: another bundle is forgotten for it, so it may take what is kept free.
    ///
    /// # Errors
    /// [`Full`], and nothing was stored.
    pub fn store(
        &mut self,
        work: &mut Work,
        vm: VmId,
        counter: u64,
        from: &impl Leaving,
        pages: u32,
        spare: bool,
    ) -> Result<Bundle, Full> {
        let keep = if spare { 0 } else { LARGEST.min(self.cells.count() / 4) };
        let mut writer = self.cells.write(keep);
        work.encode(Head::new(vm.raw(), counter, pages), from, |bytes| writer.put(bytes))?;
        let (first, cells) = writer.finish()?;
        let bytes = cells * u32::try_from(CELL).unwrap_or(0);
        let place = u32::try_from(self.cells.offset(first) / UNIT_BYTES);
        let checksum = self.checksum(first, cells);
        // Neither fails: the pool is not so large, and the chain was written just now.
        let (Ok(place), Some(checksum)) = (place, checksum) else {
            self.cells.release(first, cells);
            return Err(Full);
        };
        let bundle = Bundle { counter, checksum, place, bytes, pages, tier: tier::POOL };
        self.count(&bundle);
        Ok(bundle)
    }

    /// Gives a VM back what it had. The bundle stays.
    ///
    /// # Errors
    /// What lies there is not what was stored; `to` may have been given something already when that is found in the content, not by the checksum.
    pub fn load(&mut self, work: &mut Work, vm: VmId, bundle: &Bundle, to: &mut impl Entering) -> Result<(), Damage> {
        let (first, cells) = self.chain(bundle).ok_or(Damage::Chain)?;
        let _ = self.take_whole(bundle);
        match self.checksum(first, cells) {
            None => return Err(Damage::Chain),
            Some(checksum) if checksum != bundle.checksum => return Err(Damage::Checksum),
            Some(_) => {}
        }
        let mut chain = self.cells.read(first, cells);
        let (mut cell, mut used) = ([0; PAYLOAD], PAYLOAD);
        work.decode(Head::new(vm.raw(), bundle.counter, bundle.pages), to, |mut to| {
            while !to.is_empty() {
                if used == PAYLOAD {
                    cell = chain.cell().map_err(|_| Damage::Chain)?.ok_or(Damage::Short)?;
                    used = 0;
                }
                let part = to.len().min(PAYLOAD - used);
                let (now, rest) = core::mem::take(&mut to).split_at_mut(part);
                now.copy_from_slice(&cell[used..used + part]);
                used += part;
                to = rest;
            }
            Ok(())
        })?;
        if self.whole.is_full() {
            self.whole.pop_front();
        }
        // It has room now.
        let _ = self.whole.push_back(*bundle);
        Ok(())
    }

    /// Whether this bundle was found to be whole when it was given back, and nobody has asked for that since.
    fn take_whole(&mut self, bundle: &Bundle) -> bool {
        let before = self.whole.len();
        self.whole.retain(|known| known != bundle);
        self.whole.len() < before
    }

    /// The bundle is not needed any more: its cells are cleared and free. False, and nothing is done, when something else lies there: it has been forgotten
    /// already, or is damaged, and then nobody knows whose cells its chain leads to. (These are free again after the next start.)
    pub fn forget(&mut self, bundle: &Bundle) -> bool {
        let Some((first, cells)) = self.chain(bundle) else { return false };
        if !self.take_whole(bundle) && self.checksum(first, cells) != Some(bundle.checksum) {
            return false;
        }
        self.cells.release(first, cells);
        self.holding.vms = self.holding.vms.saturating_sub(1);
        self.holding.bytes = self.holding.bytes.saturating_sub(bundle.bytes.into());
        self.holding.pages = self.holding.pages.saturating_sub(bundle.pages.into());
        true
    }

    /// Whether more of it is taken than should be where there are disks: what has lain there for longest moves on.
    pub fn is_crowded(&self) -> bool {
        self.cells.count() - self.cells.free() > self.cells.count() / 4
    }

    /// The head of what lies at this place, as a bundle of so many bytes, and where its content begins; `None` when that is no bundle. It is not known to be whole.
    pub fn begin(&self, place: u32, bytes: u32) -> Option<(Head, Cursor)> {
        let (first, cells) = self.chain(&Bundle { place, bytes, ..Bundle::NONE })?;
        let cell = self.cells.read(first, cells).cell().ok()??;
        Some((Head::read(&cell)?, Cursor { cell: first, left: cells, used: 0 }))
    }

    /// The next bytes of content, and zeros behind its end.
    ///
    /// # Errors
    /// The chain leads astray.
    pub fn fill(&self, cursor: &mut Cursor, mut to: &mut [u8]) -> Result<(), Damage> {
        while cursor.left > 0 && !to.is_empty() {
            let mut chain = self.cells.read(cursor.cell, cursor.left);
            let cell = chain.cell().map_err(|_| Damage::Chain)?.ok_or(Damage::Short)?;
            let rest = cell.get(cursor.used..).unwrap_or_default();
            let part = rest.len().min(to.len());
            let (now, later) = core::mem::take(&mut to).split_at_mut(part);
            now.copy_from_slice(&rest[..part]);
            to = later;
            cursor.used += part;
            if cursor.used == PAYLOAD {
                let (cell, left) = chain.rest();
                *cursor = Cursor { cell, left, used: 0 };
            }
        }
        to.fill(0);
        Ok(())
    }

    fn count(&mut self, bundle: &Bundle) {
        self.holding.vms += 1;
        self.holding.bytes += u64::from(bundle.bytes);
        self.holding.pages += u64::from(bundle.pages);
    }

    /// The first cell of a bundle, and how many it has.
    fn chain(&self, bundle: &Bundle) -> Option<(u32, u32)> {
        let place = usize::try_from(bundle.place).ok()?.checked_mul(UNIT_BYTES)?;
        let cells = bundle.bytes / u32::try_from(CELL).ok()?;
        (1..=self.cells.count()).contains(&cells).then_some((self.cells.at(place)?, cells))
    }

    /// The checksum over the content of a chain; `None` when it leads astray.
    fn checksum(&self, first: u32, cells: u32) -> Option<u64> {
        let mut sum = checksum();
        let mut chain = self.cells.read(first, cells);
        while let Some(cell) = chain.cell().ok()? {
            sum.write(&cell);
        }
        Some(sum.finish())
    }
}

const _: () = assert!(CELL.is_multiple_of(UNIT_BYTES));

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
