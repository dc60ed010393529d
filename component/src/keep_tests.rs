use super::*;
use proptest::prelude::*;

fn memory(bytes: usize) -> SharedMemory {
    SharedMemory::from_static(Box::leak(vec![0_u64; bytes.div_ceil(8)].into_boxed_slice())).sub(0, bytes).expect("room")
}

fn loaded(memory: SharedMemory, version: u32) -> Option<Vec<u32>> {
    let mut items = vec![0; 64];
    let count = Keep::<u32>::new(memory, version).load(&mut items)?;
    items.truncate(count);
    Some(items)
}

fn stored(memory: SharedMemory, items: &[u32]) {
    assert!(Keep::new(memory, 1).store(items));
}

fn bytes(memory: SharedMemory) -> Vec<u8> {
    let mut bytes = vec![0; memory.len()];
    memory.read(0, &mut bytes).expect("room");
    bytes
}

#[test]
fn memory_that_is_zero_holds_nothing() {
    assert_eq!(loaded(memory(512), 1), None);
}

#[test]
fn the_last_list_is_found() {
    let memory = memory(512);
    for number in 0..10 {
        stored(memory, &vec![number; number as usize]);
        assert_eq!(loaded(memory, 1), Some(vec![number; number as usize]));
    }
}

#[test]
fn an_empty_list_is_a_list() {
    let memory = memory(512);
    stored(memory, &[1]);
    stored(memory, &[]);
    assert_eq!(loaded(memory, 1), Some(vec![]));
    assert_eq!(Keep::<u32>::new(memory, 1).count(), Some(0));
    assert_eq!(Keep::<u32>::new(memory, 2).count(), None);
}

#[test]
fn another_layout_is_not_read() {
    let memory = memory(512);
    stored(memory, &[1, 2, 3]);
    assert_eq!(loaded(memory, 2), None);
    assert_eq!(Keep::<u64>::new(memory, 1).load(&mut [0; 64]), None);
    // It is given up by the first store.
    assert!(Keep::<u32>::new(memory, 2).store(&[4]));
    assert_eq!((loaded(memory, 1), loaded(memory, 2)), (None, Some(vec![4])));
}

#[test]
fn what_does_not_fit_changes_nothing() {
    // Two headers, and three items in each copy.
    let memory = memory(2 * (KEEP_HEADER_BYTES + 16));
    stored(memory, &[1, 2, 3]);
    let mut keep = Keep::<u32>::new(memory, 1);
    assert_eq!(keep.capacity(), 4);
    assert!(!keep.store(&[0; 5]));
    assert_eq!(loaded(memory, 1), Some(vec![1, 2, 3]));
    assert_eq!(keep.load(&mut [0; 2]), None, "more than the caller has room for");
}

#[test]
fn memory_without_room_holds_nothing() {
    for bytes in [0, 8, 79, 2 * KEEP_HEADER_BYTES - 8] {
        let memory = memory(bytes);
        assert!(!Keep::<u32>::new(memory, 1).store(&[]), "{bytes}");
        assert_eq!(loaded(memory, 1), None);
    }
}

#[test]
fn a_liar_with_the_last_number_is_followed_by_the_truth() {
    let memory = memory(512);
    // A whole copy whose sequence number has no successor.
    let mut header = Header { magic: MAGIC, version: 1, item_bytes: 4, sequence: u64::MAX, items: 1, checksum: 0 };
    header.checksum = checksum(&header, [7].into_iter());
    memory.write(256, header.as_bytes()).expect("room");
    memory.write(256 + KEEP_HEADER_BYTES, &7_u32.to_le_bytes()).expect("room");
    assert_eq!(loaded(memory, 1), Some(vec![7]));
    stored(memory, &[1]);
    assert_eq!(loaded(memory, 1), Some(vec![1]));
    stored(memory, &[2]);
    assert_eq!(loaded(memory, 1), Some(vec![2]));
}

proptest! {
    /// Whenever the component dies in a store, the list before or the new one is found, and nothing else.
    #[test]
    fn a_torn_store_leaves_one_of_the_two(
        before in prop::collection::vec(any::<u32>(), 0..20),
        after in prop::collection::vec(any::<u32>(), 0..20),
        earlier in 0_usize..3,
        torn in prop::collection::vec((0_usize..256, 1_usize..64), 0..12),
    ) {
        let memory = memory(512);
        for _ in 0..earlier {
            stored(memory, &[9; 5]);
        }
        stored(memory, &before);
        let old = bytes(memory);
        stored(memory, &after);
        let new = bytes(memory);
        // The copy that was written, without its magic: any part of it may have got there.
        let at = if old[..256] == new[..256] { 256 } else { 0 };
        let mut mixed = new.clone();
        for (start, len) in torn {
            let range = at + start..(at + start + len).min(at + 256);
            mixed[range.clone()].copy_from_slice(&old[range]);
        }
        for magic in [0, MAGIC] {
            mixed[at..at + 8].copy_from_slice(&magic.to_le_bytes());
            memory.write(0, &mixed).expect("room");
            let found = loaded(memory, 1);
            let whole = mixed == new;
            let expected = if magic == MAGIC && whole { &after } else { &before };
            // By the magic alone a torn copy is told from a whole one; by the checksum, too.
            prop_assert_eq!(found.as_ref(), Some(expected));
            let next = [1, 2, 3];
            stored(memory, &next);
            prop_assert_eq!(loaded(memory, 1), Some(next.to_vec()));
        }
    }

    /// One spoilt byte spoils a copy, wherever it is that counts; the other one is found.
    #[test]
    fn a_spoilt_copy_falls_back_to_the_other(
        items in prop::collection::vec(any::<u32>(), 0..20),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..=255,
    ) {
        let memory = memory(512);
        stored(memory, &[5, 6]);
        stored(memory, &items);
        // The second store goes into the second copy.
        let at = 256 + at.index(KEEP_HEADER_BYTES + 4 * items.len());
        let was = memory.read8(at).expect("room");
        memory.write8(at, was ^ flip).expect("room");
        prop_assert_eq!(loaded(memory, 1), Some(vec![5, 6]));
        // With the other one spoilt as well, there is nothing.
        memory.write8(7, 0).expect("room");
        prop_assert_eq!(loaded(memory, 1), None);
    }

    /// Whatever lies there does no harm.
    #[test]
    fn any_bytes(content in prop::collection::vec(any::<u8>(), 512), magic in any::<[bool; 2]>(), header in any::<[u64; 3]>()) {
        let memory = memory(512);
        memory.write(0, &content).expect("room");
        for (copy, magic) in magic.into_iter().enumerate() {
            if magic {
                let words = [MAGIC, 4 << 32 | 1, header[0] % 4, header[1] % 80, header[2]];
                memory.write(copy * 256, words.as_bytes()).expect("room");
            }
        }
        let _ = loaded(memory, 1);
        stored(memory, &[1, 2]);
        prop_assert_eq!(loaded(memory, 1), Some(vec![1, 2]));
    }
}
