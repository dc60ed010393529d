//! The pool against a model: what is stored and not forgotten comes back, whatever happens in between.

use super::*;
use crate::test_vm::{Vm, noise, vm};
use proptest::prelude::*;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

const VM: VmId = VmId::new(3, 1);

fn memory(bytes: usize) -> SharedMemory {
    SharedMemory::from_static(Box::leak(vec![0_u64; bytes / 8].into_boxed_slice()))
}

fn pool(bytes: usize) -> (Pool, SharedMemory) {
    let memory = memory(bytes);
    (Pool::new(memory).expect("large enough"), memory)
}

fn work() -> Box<Work> {
    Box::new(Work::new())
}

fn noisy(pages: u32) -> Vm {
    Vm { pages: (0..pages).map(|number| (number, noise(number.into(), 4096))).collect(), kept: vec![0; 4096] }
}

fn store(pool: &mut Pool, id: VmId, counter: u64, vm: &Vm, spare: bool) -> Result<Bundle, Full> {
    pool.store(&mut work(), id, counter, vm, vm.count(), spare)
}

fn load(pool: &mut Pool, id: VmId, bundle: &Bundle) -> Result<Vm, Damage> {
    let mut vm = Vm::empty(bundle.pages);
    pool.load(&mut work(), id, bundle, &mut vm).map(|()| vm)
}

#[test]
fn the_largest_bundle_is_known() {
    let (mut pool, _) = pool(4 << 20);
    let mut largest = noisy(u32::try_from(WINDOW_PAGES).expect("few"));
    largest.kept = noise(99, 4096);
    let bundle = store(&mut pool, VM, 1, &largest, true).expect("room");
    assert!(bundle.bytes / 256 <= LARGEST && bundle.bytes / 256 > LARGEST - 40, "{} of {LARGEST}", bundle.bytes / 256);
    assert_eq!(load(&mut pool, VM, &bundle), Ok(largest));
}

#[test]
fn who_goes_out_for_somebody_finds_room_where_others_do_not() {
    let (mut pool, _) = pool(256 << 10);
    let vm = noisy(4);
    let stored: Vec<_> = (1..).map_while(|counter| store(&mut pool, VM, counter, &vm, false).ok()).collect();
    let (all, free) = pool.room();
    assert!(free >= all / 4 && free < all / 4 + 17 * 1024, "a quarter stays free of a small pool: {free} of {all}");
    assert_eq!(pool.holding().vms, u32::try_from(stored.len()).expect("few"));
    assert!(store(&mut pool, VM, 100, &vm, true).is_ok());
    assert_eq!(store(&mut pool, VM, 101, &vm, false), Err(Full));
    // As soon as one is forgotten, there is room for one.
    assert!(pool.forget(&stored[0]) && pool.forget(&stored[1]));
    assert!(store(&mut pool, VM, 102, &vm, false).is_ok());
}

#[test]
fn what_was_given_back_is_not_read_again_to_be_forgotten_and_is_forgotten_once() {
    let (mut pool, memory) = pool(1 << 20);
    let bundles: Vec<_> =
        (1..12).map(|counter| store(&mut pool, VM, counter, &noisy(1), false).expect("room")).collect();
    for bundle in &bundles {
        load(&mut pool, VM, bundle).expect("whole");
        load(&mut pool, VM, bundle).expect("whole");
        // A byte of its content, which only a checksum would find.
        let at = usize::try_from(bundle.place).expect("small") * UNIT_BYTES + 100;
        memory.write8(at, memory.read8(at).expect("inside") ^ 1).expect("inside");
    }
    let forgotten: Vec<_> = bundles.iter().map(|bundle| pool.forget(bundle)).collect();
    assert_eq!(forgotten, [[false; 3].as_slice(), &[true; WINDOWS]].concat(), "the last ones are known");
    assert!(bundles.iter().all(|bundle| !pool.forget(bundle)), "once");
    // One that did not come back whole the last time is not known to be.
    let bundle = store(&mut pool, VM, 20, &noisy(1), false).expect("room");
    load(&mut pool, VM, &bundle).expect("whole");
    let at = usize::try_from(bundle.place).expect("small") * UNIT_BYTES + 100;
    memory.write8(at, memory.read8(at).expect("inside") ^ 1).expect("inside");
    load(&mut pool, VM, &bundle).expect_err("spoilt");
    assert!(!pool.forget(&bundle));
}

#[test]
fn what_was_spoilt_is_found_out_and_harms_nobody() {
    let (mut pool, memory) = pool(1 << 20);
    let (vm, other) = (noisy(3), noisy(5));
    let bundle = store(&mut pool, VM, 1, &vm, false).expect("room");
    let another = store(&mut pool, VmId::new(4, 1), 2, &other, false).expect("room");
    let first = usize::try_from(bundle.place).expect("small") * UNIT_BYTES;
    for at in [0, 4, 100, 255, 256 + 77] {
        let byte = memory.read8(first + at).expect("inside");
        memory.write8(first + at, byte ^ 0x10).expect("inside");
        let damage = load(&mut pool, VM, &bundle).expect_err("spoilt");
        assert!(matches!(damage, Damage::Checksum | Damage::Chain), "{at}: {damage}");
        let free = pool.room().1;
        assert!(!pool.forget(&bundle) && pool.room().1 == free, "nobody knows whose cells these are");
        memory.write8(first + at, byte).expect("inside");
    }
    // A link into somebody else's chain.
    let [a, b] = [&bundle, &another].map(|bundle| usize::try_from(bundle.place).expect("small") * UNIT_BYTES);
    let link = memory.read32(b).expect("inside");
    memory.write32(a, link).expect("inside");
    assert_eq!(load(&mut pool, VM, &bundle), Err(Damage::Checksum));
    assert!(!pool.forget(&bundle));
    assert_eq!(load(&mut pool, VmId::new(4, 1), &another), Ok(other));
    assert!(pool.forget(&another));
}

#[test]
fn a_bundle_is_one_vms_of_one_order() {
    let (mut pool, _) = pool(1 << 20);
    let bundle = store(&mut pool, VM, 5, &noisy(1), false).expect("room");
    assert_eq!(load(&mut pool, VmId::new(3, 2), &bundle), Err(Damage::Other));
    assert_eq!(load(&mut pool, VM, &Bundle { counter: 6, ..bundle }), Err(Damage::Other));
    assert_eq!(load(&mut pool, VM, &Bundle { pages: 2, ..bundle }), Err(Damage::Other));
    for place in [bundle.place + 1, 0, u32::MAX] {
        assert_eq!(load(&mut pool, VM, &Bundle { place, ..bundle }), Err(Damage::Chain));
    }
    for bytes in [0, 255, u32::MAX] {
        assert_eq!(load(&mut pool, VM, &Bundle { bytes, ..bundle }), Err(Damage::Chain));
    }
    assert_eq!(pool.holds(&Bundle { place: 1, ..bundle }), Err(Damage::Chain));
}

#[test]
fn what_is_forgotten_twice_is_nobody_elses() {
    let (mut pool, memory) = pool(1 << 20);
    let bundle = store(&mut pool, VM, 1, &noisy(3), false).expect("room");
    assert!(pool.forget(&bundle) && !pool.forget(&bundle));
    let successor = store(&mut pool, VM, 2, &noisy(3), false).expect("room");
    assert!(!pool.forget(&bundle));
    assert_eq!(pool.holding(), Holding { vms: 1, bytes: successor.bytes.into(), pages: 3 });
    assert!(pool.forget(&successor));
    assert_eq!((pool.holding(), pool.room().0), (Holding::default(), pool.room().1));
    // Nothing of either can be found in the cells.
    let mut all = vec![0; (1 << 20) - 4096];
    memory.read(4096, &mut all).expect("inside");
    assert!(all.into_iter().all(|byte| byte == 0));
}

#[derive(Clone, Debug)]
enum Step {
    Store {
        vm: Vm,
        spare: bool,
    },
    Load(prop::sample::Index),
    Forget(prop::sample::Index),
    /// The component dies, in the middle of a store of this VM, and its successor is told what there is.
    Restart(Vm),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (vm(12), any::<bool>()).prop_map(|(vm, spare)| Step::Store { vm, spare }),
        2 => any::<prop::sample::Index>().prop_map(Step::Load),
        2 => any::<prop::sample::Index>().prop_map(Step::Forget),
        1 => vm(12).prop_map(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn like_a_list_of_vms(steps in prop::collection::vec(step(), 1..40)) {
        let (mut pool, memory) = pool(160 << 10);
        let mut model: Vec<(VmId, Bundle, Vm)> = Vec::new();
        for (counter, step) in (1..).zip(steps) {
            let id = VmId::new(u32::try_from(counter).expect("small"), 1);
            match step {
                Step::Store { vm, spare } => {
                    let free = pool.room().1;
                    match store(&mut pool, id, counter, &vm, spare) {
                        Ok(bundle) => {
                            prop_assert_eq!((bundle.counter, bundle.pages), (counter, vm.count()));
                            prop_assert_eq!(pool.room().1 + u64::from(bundle.bytes), free);
                            model.push((id, bundle, vm));
                        }
                        Err(Full) => prop_assert_eq!(pool.room().1, free),
                    }
                }
                Step::Load(which) if !model.is_empty() => {
                    let (id, bundle, vm) = &model[which.index(model.len())];
                    let came = load(&mut pool, *id, bundle);
                    prop_assert_eq!(came.as_ref(), Ok(vm));
                }
                Step::Forget(which) if !model.is_empty() => {
                    let (_, bundle, _) = model.swap_remove(which.index(model.len()));
                    prop_assert!(pool.forget(&bundle));
                }
                Step::Restart(vm) => {
                    // What it had stored and nobody has heard of.
                    let _ = store(&mut pool, id, counter, &vm, true);
                    pool = Pool::new(memory).expect("large enough");
                    for (_, bundle, _) in &model {
                        prop_assert_eq!(pool.holds(bundle), Ok(()));
                        prop_assert_eq!(pool.holds(bundle), Ok(()), "once more makes no difference");
                    }
                }
                _ => {}
            }
            let bytes = model.iter().map(|(_, bundle, _)| u64::from(bundle.bytes)).sum();
            let pages = model.iter().map(|(_, bundle, _)| u64::from(bundle.pages)).sum();
            let vms = u32::try_from(model.len()).expect("few");
            prop_assert_eq!(pool.holding(), Holding { vms, bytes, pages });
            let (all, free) = pool.room();
            prop_assert_eq!(free + bytes, all);
        }
        for (id, bundle, vm) in &model {
            let came = load(&mut pool, *id, bundle);
            prop_assert_eq!(came.as_ref(), Ok(vm));
        }
    }
}
