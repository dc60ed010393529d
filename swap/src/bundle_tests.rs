//! Bundles there and back, and bytes that are none.

use super::*;
use crate::test_vm::{Vm, noise, vm};
use proptest::prelude::*;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

fn work() -> Box<Work> {
    Box::new(Work::new())
}

fn head(vm: &Vm) -> Head {
    Head::new(7, 9, vm.count())
}

fn encoded(vm: &Vm) -> Vec<u8> {
    let mut bytes = Vec::new();
    let put = |part: &[u8]| {
        bytes.extend(part);
        Ok::<(), ()>(())
    };
    work().encode(head(vm), vm, put).expect("never refused");
    bytes
}

/// What comes out of these bytes, and how many of them are left.
fn decoded(head: Head, mut bytes: &[u8]) -> Result<(Vm, usize), Damage> {
    let mut vm = Vm::empty(head.pages.min(1000));
    let take = |to: &mut [u8]| {
        let (now, rest) = bytes.split_at_checked(to.len()).ok_or(Damage::Short)?;
        to.copy_from_slice(now);
        bytes = rest;
        Ok(())
    };
    work().decode(head, &mut vm, take)?;
    Ok((vm, bytes.len()))
}

#[test]
fn zeros_take_no_room_and_noise_takes_its_own() {
    let pages =
        |page: Vec<u8>| Vm { pages: (0..64).map(|number| (number, page.clone())).collect(), kept: vec![0; PAGE] };
    // A head, two blocks, and twelve bytes for each page.
    assert_eq!(encoded(&pages(vec![0; PAGE])).len(), 24 + 2 * 4 + 65 * 12);
    assert_eq!(encoded(&pages(noise(1, PAGE))).len(), 24 + 65 * (4 + 12) - 4 + 64 * PAGE);
    // Text: each page is made smaller by itself.
    let text: Vec<u8> = b"GET / HTTP/1.1\r\n".iter().copied().cycle().take(PAGE).collect();
    assert!(encoded(&pages(text)).len() < 64 * 100);
}

#[test]
fn pages_with_little_in_them_share_a_block() {
    let mut page = vec![0; PAGE];
    page[100] = 1;
    page[4095] = 2;
    let vm = Vm { pages: (0..30).map(|number| (number, page.clone())).collect(), kept: page.clone() };
    let bytes = encoded(&vm);
    assert_eq!(u16::from_le_bytes([bytes[24], bytes[25]]), 31, "all in one");
    // Of each a mask, a length, and five or eight bytes.
    assert_eq!(bytes.len(), 24 + 4 + 31 * (12 + 7 + 10));
}

#[test]
fn another_head_is_another_bundle() {
    let vm = Vm { pages: vec![(3, vec![1; PAGE])], kept: vec![2; PAGE] };
    let bytes = encoded(&vm);
    assert_eq!(decoded(head(&vm), &bytes), Ok((vm, 0)));
    for other in [Head::new(8, 9, 1), Head::new(7, 8, 1), Head::new(7, 9, 2)] {
        assert_eq!(decoded(other, &bytes), Err(Damage::Other));
    }
}

#[test]
fn pages_in_another_order_and_blocks_with_nothing_are_refused() {
    let vm = Vm { pages: vec![(5, vec![1; PAGE]), (3, vec![1; PAGE])], kept: vec![0; PAGE] };
    assert_eq!(decoded(head(&vm), &encoded(&vm)), Err(Damage::Senseless("a page is not where it should be")));
    let vm = Vm::empty(0);
    let mut bytes = encoded(&vm);
    bytes[24] = 0;
    assert_eq!(decoded(head(&vm), &bytes), Err(Damage::Senseless("a block names no page")));
    bytes[24] = 65;
    assert_eq!(decoded(head(&vm), &bytes), Err(Damage::Senseless("a block names too many pages")));
}

/// Text has no zeros to leave away, and what has many is not worth LZ4's time.
#[test]
fn each_block_has_the_form_that_serves_it() {
    let form = |page: Vec<u8>| {
        let bytes = encoded(&Vm { pages: vec![(0, page)], kept: vec![0; PAGE] });
        Form::of(u16::from_le_bytes([bytes[26], bytes[27]])).expect("one of them")
    };
    let repeated = |part: &[u8]| part.iter().copied().cycle().take(PAGE).collect::<Vec<u8>>();
    assert_eq!(form(noise(3, PAGE)), Form::Plain);
    assert_eq!(form(repeated(b"GET / HTTP/1.1\r\n")), Form::Lz4);
    assert_eq!(form(repeated(&[0x70, 0x12, 0x43, 0, 0, 0, 0, 0])), Form::Sparse);
    // Seven of eight bytes, but the same ones: LZ4 takes far less.
    assert_eq!(form(repeated(&[1, 2, 3, 4, 5, 6, 7, 0])), Form::Lz4);
    // The same of bytes that are not the same: it takes more.
    let numbers = noise(3, PAGE).chunks(8).flat_map(|word| [&word[..7], &[0]].concat()).collect();
    assert_eq!(form(numbers), Form::Sparse);
}

#[test]
fn a_form_that_there_is_not_is_refused() {
    let vm = Vm { pages: vec![(0, vec![1; PAGE])], kept: vec![0; PAGE] };
    let mut bytes = encoded(&vm);
    bytes[27] |= 0xc0;
    assert_eq!(decoded(head(&vm), &bytes), Err(Damage::Senseless("a block has a form that there is not")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn there_and_back(vm in vm(100)) {
        let bytes = encoded(&vm);
        prop_assert_eq!(decoded(head(&vm), &bytes), Ok((vm, 0)));
    }

    #[test]
    fn what_is_cut_or_spoilt_never_panics(vm in vm(10), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let mut bytes = encoded(&vm);
        prop_assert_eq!(decoded(head(&vm), &bytes[..at.index(bytes.len())]), Err(Damage::Short));
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        // What comes out may be wrong: the checksum is looked at before.
        let _ = decoded(head(&vm), &bytes);
    }
}
