//! `SharedMemory`: what lies outside is refused, what lies inside is copied exactly.

mod common;

use common::{Random, memory};
use ring::{ByteMemory, Memory, SharedMemory};

#[test]
fn accesses_beyond_the_end_or_misaligned_are_refused() {
    let whole = memory(64);
    let inner = whole.sub(8, 16).unwrap();
    assert_eq!((inner.len(), inner.is_empty()), (16, false));
    for offset in [9, 15, 16, 17, usize::MAX - 7, usize::MAX] {
        assert_eq!(inner.write64(offset, 1), None, "{offset}");
        assert_eq!((inner.read64(offset), inner.load64(offset), inner.store64(offset, 1)), (None, None, None));
        assert_eq!((inner.fetch_or64(offset, 1), inner.fetch_and64(offset, 1)), (None, None));
    }
    for offset in [1, 2, 3, 13, 14, 15, 16, usize::MAX - 3, usize::MAX] {
        assert_eq!((inner.read32(offset), inner.write32(offset, 1)), (None, None), "{offset}");
        assert_eq!((inner.load32(offset), inner.store32(offset, 1)), (None, None));
    }
    assert_eq!((inner.read16(15), inner.write16(1, 1), inner.read8(16), inner.write8(16, 1)), (None, None, None, None));
    assert_eq!(
        (inner.sub(0, 17).is_none(), inner.sub(16, 1).is_none(), inner.sub(17, 0).is_none()),
        (true, true, true)
    );
    assert!(inner.sub(usize::MAX, 2).is_none() && inner.sub(2, usize::MAX).is_none());
    assert!(inner.sub(16, 0).unwrap().is_empty());
    assert_eq!((inner.read(9, &mut [0; 8]), inner.write(9, &[1; 8]), inner.clear(9, 8)), (None, None, None));
    assert_eq!((inner.copy_to(9, &whole, 0, 8), inner.copy_to(0, &whole, 57, 8)), (None, None));
    assert!(inner.header().is_none() && inner.slots(1).is_none() && whole.slots(0).is_none());
    assert!(whole.slots(1).is_some());
    for offset in (0..64).step_by(8) {
        assert_eq!(whole.read64(offset), Some(0));
    }
}

#[test]
fn a_part_lies_in_its_whole() {
    let words = Box::leak(vec![0_u64; 8].into_boxed_slice());
    let address = words.as_ptr().addr();
    let whole = SharedMemory::from_static(words);
    assert_eq!(whole.base().addr(), address);
    assert_eq!(whole.sub(24, 8).unwrap().base().addr(), address + 24);
}

#[test]
fn values_are_little_endian_and_each_width_touches_its_bytes_only() {
    let memory = memory(16);
    memory.write64(0, 0x0807_0605_0403_0201).unwrap();
    assert_eq!((memory.read8(3), memory.read16(2), memory.read32(4)), (Some(4), Some(0x0403), Some(0x0807_0605)));
    memory.write8(0, 0xff).unwrap();
    memory.write16(2, 0xeeee).unwrap();
    memory.write32(4, 0xdddd_dddd).unwrap();
    assert_eq!(memory.read64(0), Some(0xdddd_dddd_eeee_02ff));
    memory.store64(0, 0b1100).unwrap();
    assert_eq!(memory.fetch_or64(0, 0b0011), Some(0b1100));
    assert_eq!(memory.fetch_and64(0, 0b0110), Some(0b1111));
    assert_eq!((memory.load64(0), memory.load32(4), memory.store32(4, 5)), (Some(0b0110), Some(0), Some(())));
    assert_eq!((memory.load32(4), memory.load64(0)), (Some(5), Some(5 << 32 | 0b0110)));
    assert_eq!(memory.read64(8), Some(0));
}

/// Every length around the words that the copies work in, at every alignment, and nothing beside the range.
#[test]
fn copies_are_exact_at_every_length_and_alignment() {
    let mut random = Random::new(1);
    let source: Vec<u8> = (0..160).map(|_| random.byte() | 1).collect();
    // Miri interprets each byte's copy: lengths and alignments on both sides of a word have to do.
    let (most, step) = if cfg!(miri) { (20, 3) } else { (100, 1) };
    for len in 0..most {
        for shift in (0..9).step_by(step) {
            let (a, b) = (memory(160), memory(160));
            a.write(shift, &source[..len]).unwrap();
            assert_eq!(bytes(&a), window(&source, shift, len), "write {len} at {shift}");
            a.copy_to(shift, &b, 13, len).unwrap();
            assert_eq!(bytes(&b), window(&source, 13, len), "copy {len} from {shift}");
            let mut out = [0; 160];
            b.read(13, &mut out[shift..shift + len]).unwrap();
            assert_eq!(out.to_vec(), bytes(&a), "read {len} to {shift}");
            a.write(0, &source).unwrap();
            a.clear(shift, len).unwrap();
            let cleared: Vec<u8> = source
                .iter()
                .enumerate()
                .map(|(i, &byte)| if (shift..shift + len).contains(&i) { 0 } else { byte })
                .collect();
            assert_eq!(bytes(&a), cleared, "clear {len} at {shift}");
        }
    }
}

fn window(source: &[u8], at: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; 160];
    bytes[at..at + len].copy_from_slice(&source[..len]);
    bytes
}

fn bytes(memory: &SharedMemory) -> Vec<u8> {
    (0..memory.len()).map(|offset| memory.read8(offset).unwrap()).collect()
}

/// As whoever is generic over the memory sees it.
#[test]
fn a_byte_memory_is_empty_when_it_has_no_bytes() {
    fn is_empty(memory: &impl ByteMemory) -> bool {
        memory.is_empty()
    }
    let memory = memory(16);
    assert!(!is_empty(&memory));
    assert!(is_empty(&memory.sub(16, 0).unwrap()));
}
