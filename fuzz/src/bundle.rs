//! Bundles of VMs that are out: any bytes, as they would be behind a checksum that happens to be right.

use swap::bundle::{Damage, Entering, Head, LINE, Leaving, PAGE, Work};

/// Pages of the VM that is wanted.
const PAGES: u32 = 20;
const HEAD: (u64, u64) = (7, 9);

/// A VM, as what is in its lines, and whether it was told to do what it must not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Vm {
    pages: Vec<(u32, Vec<u8>)>,
    kept: Vec<u8>,
}

impl Vm {
    fn new() -> Vm {
        Vm { pages: (0..PAGES).map(|_| (0, vec![0; PAGE])).collect(), kept: vec![0; PAGE] }
    }

    fn page_mut(&mut self, index: u32) -> &mut (u32, Vec<u8>) {
        // Beyond the pages that were asked for is a panic, as it should be.
        &mut self.pages[index as usize]
    }
}

impl Leaving for Vm {
    fn number(&self, index: u32) -> u32 {
        self.pages[index as usize].0
    }

    fn page(&self, index: u32, to: &mut [u8; PAGE]) {
        to.copy_from_slice(&self.pages[index as usize].1);
    }

    fn kept(&self, to: &mut [u8; PAGE]) {
        to.copy_from_slice(&self.kept);
    }
}

impl Entering for Vm {
    fn number(&mut self, index: u32, number: u32) {
        self.page_mut(index).0 = number;
    }

    fn line(&mut self, index: u32, line: usize, bytes: &[u8; LINE]) {
        self.page_mut(index).1[line * LINE..][..LINE].copy_from_slice(bytes);
    }

    fn kept(&mut self, line: usize, bytes: &[u8; LINE]) {
        self.kept[line * LINE..][..LINE].copy_from_slice(bytes);
    }
}

fn head() -> Head {
    Head::new(HEAD.0, HEAD.1, PAGES)
}

fn encoded(vm: &Vm) -> Vec<u8> {
    let mut bytes = Vec::new();
    let put = |part: &[u8]| {
        bytes.extend(part);
        Ok::<(), std::convert::Infallible>(())
    };
    let Ok(()) = Work::new().encode(head(), vm, put);
    bytes
}

fn decoded(mut bytes: &[u8]) -> Result<Vm, Damage> {
    let mut vm = Vm::new();
    let take = |to: &mut [u8]| {
        let (now, rest) = bytes.split_at_checked(to.len()).ok_or(Damage::Short)?;
        to.copy_from_slice(now);
        bytes = rest;
        Ok(())
    };
    Work::new().decode(head(), &mut vm, take)?;
    Ok(vm)
}

/// What can be read is a VM: all its pages, in order, and one that reads the same when it has gone out and come in again.
pub fn run(data: &[u8]) -> bool {
    let Ok(vm) = decoded(data) else { return false };
    assert!(vm.pages.is_sorted_by(|a, b| a.0 < b.0));
    assert_eq!(decoded(&encoded(&vm)).as_ref(), Ok(&vm));
    true
}

/// VMs of zeros, of little, of text and of what cannot be compressed.
pub fn seeds() -> Vec<Vec<u8>> {
    let vm = |page: &dyn Fn(u32) -> Vec<u8>| {
        let pages = (0..PAGES).map(|index| (index * 3, page(index))).collect();
        encoded(&Vm { pages, kept: page(77) })
    };
    let little = |index: u32| {
        let mut page = vec![0; PAGE];
        page[index as usize * 11] = 1;
        page
    };
    let text = |index: u32| format!("page {index} of a guest, ").bytes().cycle().take(PAGE).collect();
    let mixed = |index: u32| if index.is_multiple_of(2) { text(index) } else { little(index) };
    let noise = |index: u32| {
        let mut random = crate::mutate::Random::new(index.into());
        (0..PAGE).map(|_| u8::try_from(random.below(256)).expect("small")).collect()
    };
    let sparse = |index: u32| if index == 5 { noise(index) } else { little(index) };
    vec![vm(&|_| vec![0; PAGE]), vm(&little), vm(&text), vm(&mixed), vm(&sparse)]
}
