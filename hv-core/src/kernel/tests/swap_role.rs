//! The fake component that keeps VMs that are out: as the real one, but that it compresses nothing, and checks what the core promises.

use crate::memory::{PhysAddr, core_memory};
use abi::component::layout;
use abi::limits::PAGE_SIZE;
use abi::message::Message;
use abi::swap::{Bundle, KEPT_OFFSET, Kept, SHEET_STRIDE, SwapCommand, SwapEvent, UNIT_BYTES, WINDOW_BYTES, tier};
use abi::vm::VmId;
use ring::SharedMemory;
use std::collections::BTreeMap;

/// Bytes that a page takes in the pool.
const PACKED: u32 = 256;

/// What lies in the pool at a place.
#[derive(Clone)]
struct Stored {
    bundle: Bundle,
    pages: Vec<(u32, Vec<u8>)>,
    kept: Vec<u8>,
}

pub struct Swap {
    /// The topmost of its page tables, and the sheets of its windows.
    pub root: u64,
    pub sheets: SharedMemory,
    pub pool_bytes: u64,
    /// Bytes of it that stay free for exchanges.
    pub kept_free: u64,
    /// What it knows to be in the pool.
    pub known: BTreeMap<VmId, Bundle>,
    /// The same of single pages, by the numbers of their orders.
    pub pages: BTreeMap<u64, (VmId, Bundle)>,
    /// What is there, whether it knows or not.
    pool: BTreeMap<u32, Stored>,
    /// What lies on the disks, by region.
    disk: BTreeMap<u32, Stored>,
    /// Whether the disks give nothing back.
    pub unread: bool,
    /// After how many events it moves a bundle on to the disks, 0 for never; those that the core was told of, by the number of the order.
    pub moves: u64,
    moving: BTreeMap<VmId, u64>,
    told: u64,
    /// Who was given back what lay in the pool, by the number of the order.
    loaded: BTreeMap<VmId, u64>,
    /// It says that what lies there was damaged.
    pub spoil: bool,
    /// It has been asked for what is not there.
    pub surprises: u32,
    /// It answers nothing.
    pub silent: bool,
}

/// The frame at an address of a component, and whether that may write there.
fn translate(root: u64, at: u64) -> Option<(PhysAddr, bool)> {
    let mut table = PhysAddr::new(root);
    for level in (0..4).rev() {
        let index = usize::try_from(at >> (12 + 9 * level) & 511).expect("nine bits");
        let entry = core_memory(table, PAGE_SIZE).load64(index * 8).expect("in the page");
        if entry & 1 == 0 {
            return None;
        }
        let next = PhysAddr::new(entry & 0x000f_ffff_ffff_f000);
        if level == 0 {
            return Some((next, entry & 2 != 0));
        }
        table = next;
    }
    None
}

impl Swap {
    pub fn new(root: u64, sheets: SharedMemory, pool_bytes: u64) -> Self {
        Swap {
            root,
            sheets,
            pool_bytes,
            kept_free: 0,
            known: BTreeMap::new(),
            pages: BTreeMap::new(),
            pool: BTreeMap::new(),
            disk: BTreeMap::new(),
            unread: false,
            moves: 0,
            moving: BTreeMap::new(),
            told: 0,
            loaded: BTreeMap::new(),
            spoil: false,
            surprises: 0,
            silent: false,
        }
    }

    /// A page of a window, and whether it may be written.
    fn page(&self, window: u32, index: usize) -> Option<(SharedMemory, bool)> {
        let at = layout::SWAP_WINDOW + u64::from(window) * WINDOW_BYTES + index as u64 * PAGE_SIZE;
        let (frame, write) = translate(self.root, at)?;
        Some((core_memory(frame, PAGE_SIZE), write))
    }

    fn sheet(&self, window: u32) -> SharedMemory {
        let stride = usize::try_from(SHEET_STRIDE).expect("small");
        self.sheets.sub(window as usize * stride, stride).expect("a window")
    }

    /// Where so many bytes do not overlap what it knows.
    fn place(&self, bytes: u32) -> Option<u32> {
        let units = |bytes: u32| bytes.div_ceil(u32::try_from(UNIT_BYTES).expect("small"));
        let in_pool = self.known.values().filter(|other| !other.is_on_disk());
        let in_pool = in_pool.chain(self.pages.values().map(|(_, bundle)| bundle));
        let taken: Vec<_> = in_pool.map(|other| (other.place, other.place + units(other.bytes))).collect();
        let ends = core::iter::once(0).chain(taken.iter().map(|&(_, end)| end));
        let fits = |&place: &u32| {
            let end = place + units(bytes);
            u64::from(end) * UNIT_BYTES as u64 <= self.pool_bytes
                && taken.iter().all(|&(first, behind)| end <= first || place >= behind)
        };
        ends.filter(fits).min()
    }

    pub fn told(&mut self, event: SwapEvent, answers: &mut std::collections::VecDeque<Message>) {
        let answer = match event {
            SwapEvent::Hello => {
                self.known.clear();
                self.pages.clear();
                self.moving.clear();
                return;
            }
            SwapEvent::Holds { vm, bundle } if bundle.tier == tier::PAGE => {
                assert!(self.pages.insert(bundle.counter, (vm, bundle)).is_none(), "told twice");
                return;
            }
            SwapEvent::Forget { bundle, .. } if bundle.tier == tier::PAGE => {
                self.pages.remove(&bundle.counter);
                return;
            }
            SwapEvent::StorePages { vm, counter, pages, window, spare } => {
                let pool_bytes = self.pool_bytes;
                self.pool_bytes -= if spare { 0 } else { self.kept_free };
                for index in 0..pages {
                    let answer = self.store_page(vm, counter + u64::from(index), window, index);
                    answers.extend((!self.silent).then(|| Message::from(answer)));
                }
                assert!(self.page(window, pages as usize).is_none(), "{vm}: more pages than were said");
                self.pool_bytes = pool_bytes;
                return;
            }
            SwapEvent::Holds { vm, bundle } => {
                self.known.insert(vm, bundle);
                return;
            }
            SwapEvent::Forget { vm, bundle } => {
                self.forget(vm, &bundle);
                return;
            }
            SwapEvent::Store { vm, counter, pages, window, spare } => {
                let pool_bytes = self.pool_bytes;
                self.pool_bytes -= if spare { 0 } else { self.kept_free };
                let answer = self.store(vm, counter, pages, window);
                self.pool_bytes = pool_bytes;
                answer
            }
            SwapEvent::Load { vm, bundle, window } => self.load(vm, &bundle, window),
        };
        if !self.silent {
            answers.push_back(answer.into());
        }
        if self.moves != 0 {
            self.move_one(answers);
        }
    }

    /// Some of what lies in the pool lies on the disks now, too.
    fn move_one(&mut self, answers: &mut std::collections::VecDeque<Message>) {
        self.told += 1;
        let is_free = |vm: &VmId| !self.moving.contains_key(vm);
        let mut candidates = self.known.iter().filter(|(vm, bundle)| !bundle.is_on_disk() && is_free(vm));
        let candidate = candidates.next().filter(|_| self.told.is_multiple_of(self.moves));
        let Some((&vm, &bundle)) = candidate else { return };
        let Some(stored) = self.pool.get(&bundle.place).filter(|stored| stored.bundle == bundle).cloned() else {
            return;
        };
        let region = vm.slot.number();
        let bundle = Bundle { tier: tier::DISK, place: region, ..bundle };
        self.disk.insert(region, Stored { bundle, ..stored });
        self.moving.insert(vm, bundle.counter);
        answers.push_back(SwapCommand::Moved { vm, counter: bundle.counter }.into());
    }

    fn forget(&mut self, vm: VmId, bundle: &Bundle) {
        let was_moved = self.moving.get(&vm) == Some(&bundle.counter);
        if was_moved {
            self.moving.remove(&vm);
        }
        let is_it = |known: &Bundle| (known.counter, known.tier) == (bundle.counter, bundle.tier);
        if self.known.get(&vm).is_some_and(is_it) {
            self.known.remove(&vm);
            // The record names the other one now, unless the VM is in.
            let on_disk = self.disk.get(&vm.slot.number()).map(|stored| stored.bundle);
            let other = on_disk.filter(|other| {
                was_moved
                    && !bundle.is_on_disk()
                    && other.counter == bundle.counter
                    && self.loaded.get(&vm) != Some(&bundle.counter)
            });
            self.known.extend(other.map(|other| (vm, other)));
        }
    }

    fn store(&mut self, vm: VmId, counter: u64, count: u32, window: u32) -> SwapCommand {
        let sheet = self.sheet(window);
        let mut pages = Vec::new();
        for index in 0..count as usize {
            let (memory, write) = self.page(window, index).expect("it was promised");
            assert!(!write, "{vm} goes out and its pages can be written");
            let number = sheet.load32(4 * index).expect("in the sheet");
            assert!(pages.last().is_none_or(|(before, _)| *before < number), "{vm}: pages are not in order");
            let mut bytes = vec![0; usize::try_from(PAGE_SIZE).expect("small")];
            memory.read(0, &mut bytes).expect("a page");
            pages.push((number, bytes));
        }
        assert!(self.page(window, count as usize).is_none(), "{vm}: more pages than were said");
        pages.retain(|(_, bytes)| bytes.iter().any(|&byte| byte != 0));
        let mut kept = vec![0; size_of::<Kept>()];
        sheet.read(KEPT_OFFSET, &mut kept).expect("in the sheet");
        let count = u32::try_from(pages.len()).expect("few");
        let bytes = (count + 1) * PACKED;
        let Some(place) = self.place(bytes) else { return SwapCommand::Refused { vm, counter } };
        let bundle = Bundle { counter, checksum: !counter, place, bytes, pages: count, tier: tier::POOL };
        self.known.insert(vm, bundle);
        // It writes over whatever it knows nothing of.
        let units = u32::try_from(bytes as usize / UNIT_BYTES).expect("small");
        self.pool.retain(|&first, other| first + other.bundle.bytes / 64 <= place || first >= place + units);
        self.pool.insert(place, Stored { bundle, pages, kept });
        SwapCommand::Stored { vm, bundle }
    }

    /// One page goes out by itself.
    fn store_page(&mut self, vm: VmId, counter: u64, window: u32, index: u32) -> SwapCommand {
        let (memory, write) = self.page(window, index as usize).expect("it was promised");
        assert!(!write, "a page of {vm} goes out and can be written");
        let mut bytes = vec![0; usize::try_from(PAGE_SIZE).expect("small")];
        memory.read(0, &mut bytes).expect("a page");
        let Some(place) = self.place(PACKED) else { return SwapCommand::Refused { vm, counter } };
        let bundle = Bundle { counter, checksum: !counter, place, bytes: PACKED, pages: 1, tier: tier::PAGE };
        self.pages.insert(counter, (vm, bundle));
        let units = PACKED / 64;
        self.pool.retain(|&first, other| first + other.bundle.bytes / 64 <= place || first >= place + units);
        self.pool.insert(place, Stored { bundle, pages: vec![(0, bytes)], kept: Vec::new() });
        SwapCommand::Stored { vm, bundle }
    }

    fn load_page(&mut self, vm: VmId, bundle: &Bundle, window: u32) -> SwapCommand {
        let counter = bundle.counter;
        assert_eq!(
            self.pages.get(&counter),
            Some(&(vm, *bundle)),
            "a page of {vm} comes from what swap was not told of"
        );
        let stored = self.pool.get(&bundle.place).filter(|stored| stored.bundle == *bundle && !self.spoil).cloned();
        let Some(stored) = stored else {
            self.surprises += u32::from(!self.spoil);
            return SwapCommand::Damaged { vm, counter };
        };
        let (memory, write) = self.page(window, 0).expect("it was promised");
        assert!(write && self.page(window, 1).is_none(), "one page of {vm} comes in");
        memory.write(0, &stored.pages[0].1).expect("a page");
        SwapCommand::Loaded { vm, counter }
    }

    fn load(&mut self, vm: VmId, bundle: &Bundle, window: u32) -> SwapCommand {
        if bundle.tier == tier::PAGE {
            return self.load_page(vm, bundle, window);
        }
        let counter = bundle.counter;
        assert_eq!(self.known.get(&vm), Some(bundle), "{vm} comes in from what swap was not told of");
        if bundle.is_on_disk() && self.unread {
            return SwapCommand::Unread { vm, counter };
        }
        let from = if bundle.is_on_disk() { &self.disk } else { &self.pool };
        let stored = from.get(&bundle.place).filter(|stored| stored.bundle == *bundle && !self.spoil).cloned();
        let Some(stored) = stored else {
            self.surprises += u32::from(!self.spoil);
            return SwapCommand::Damaged { vm, counter };
        };
        let sheet = self.sheet(window);
        for (index, (number, bytes)) in stored.pages.iter().enumerate() {
            let (memory, write) = self.page(window, index).expect("it was promised");
            assert!(write, "{vm} comes in and its pages cannot be written");
            sheet.store32(4 * index, *number).expect("in the sheet");
            memory.write(0, bytes).expect("a page");
        }
        sheet.write(KEPT_OFFSET, &stored.kept).expect("in the sheet");
        if !bundle.is_on_disk() {
            self.loaded.insert(vm, counter);
        }
        SwapCommand::Loaded { vm, counter }
    }

    /// Change what lies in the pool of a VM: the number of its first page, or what it needs beside its pages.
    pub fn falsify(&mut self, vm: VmId, change: impl FnOnce(&mut Vec<u32>, &mut Kept)) {
        use zerocopy::{FromBytes, IntoBytes};
        let bundle = self.known[&vm];
        let stored = self.pool.get_mut(&bundle.place).expect("it lies there");
        let mut numbers: Vec<_> = stored.pages.iter().map(|(number, _)| *number).collect();
        let mut kept = Kept::read_from_bytes(&stored.kept).expect("it is one");
        change(&mut numbers, &mut kept);
        stored.kept = kept.as_bytes().to_vec();
        for ((number, _), new) in stored.pages.iter_mut().zip(numbers) {
            *number = new;
        }
    }
}
