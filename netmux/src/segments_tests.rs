//! What is cut is a stream of good segments, by the word of a reader that shares nothing with the one that cuts.

use super::*;
use crate::egress::Cause;
use crate::test_frames as frames;
use crate::test_machine::memory;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// A record: headers of 34 + 20 + `options` bytes, and data.
pub fn record(options: usize, flags: u8, sequence: u32, id: u16, data: &[u8]) -> Vec<u8> {
    let mut segment = vec![0, 80, 0x1f, 0x90];
    segment.extend(sequence.to_be_bytes());
    segment.extend([
        9,
        8,
        7,
        6,
        u8::try_from((5 + options / 4) << 4).expect("four bits"),
        flags,
        1,
        2,
        0xaa,
        0xbb,
        0,
        0,
    ]);
    segment.extend((0..options).map(|_| 1));
    segment.extend(data);
    let mac = crate::frame::Mac::of_slot(1);
    let mut all =
        frames::ipv4(mac, crate::frame::Mac::new([2, 4, 6, 8, 10, 12]), 0x0a00_0201, 0x0a00_0209, 6, &segment);
    all[18..20].copy_from_slice(&id.to_be_bytes());
    all
}

fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// As RFC 1071 describes it.
fn slow_sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    u16::try_from(sum).expect("folded")
}

/// Checks the lengths and sums of a frame, and returns its data.
pub fn judge(frame: &[u8]) -> &[u8] {
    assert!(frame.len() <= MAX_FRAME);
    assert_eq!(usize::from(word(frame, 16)), frame.len() - 14, "total length");
    assert_eq!(slow_sum(&[&frame[14..34]]), 0xffff, "checksum of the header");
    let len = u16::try_from(frame.len() - 34).expect("short").to_be_bytes();
    assert_eq!(slow_sum(&[&frame[26..34], &[0, 6], &len, &frame[34..]]), 0xffff, "checksum of the segment");
    &frame[34 + usize::from(frame[46] >> 4) * 4..]
}

/// Checks that these frames are what a record stands for.
pub fn judge_all(record: &[u8], cut: &[Vec<u8>], segment: usize) {
    let headers = 34 + usize::from(record[46] >> 4) * 4;
    let mut data: Vec<u8> = vec![];
    for (number, frame) in cut.iter().enumerate() {
        let (own, is_last) = (judge(frame), number + 1 == cut.len());
        assert!(own.len() == segment || is_last && !own.is_empty() && own.len() < segment, "{} bytes", own.len());
        let sequence = u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]]);
        let first = u32::from_be_bytes([record[38], record[39], record[40], record[41]]);
        assert_eq!(sequence, first.wrapping_add(u32::try_from(data.len()).expect("short")));
        assert_eq!(word(frame, 18), word(record, 18).wrapping_add(u16::try_from(number).expect("few")));
        let dropped = if is_last { 0 } else { FIN | PSH } | if number == 0 { 0 } else { CWR };
        assert_eq!(frame[47], record[47] & !dropped);
        // The rest is the same: all addresses and ports, what is acknowledged, the window, options.
        for range in [0..16, 20..24, 26..38, 42..47, 48..50, 52..headers] {
            assert_eq!(frame[range.clone()], record[range]);
        }
        data.extend(own);
    }
    assert_eq!(data, record[headers..]);
}

/// What a record begins with.
fn begin(record: &[u8]) -> [u8; HEADERS_MOST] {
    let mut bytes = [0; HEADERS_MOST];
    let len = record.len().min(HEADERS_MOST);
    bytes[..len].copy_from_slice(&record[..len]);
    bytes
}

/// All frames of a record.
fn cut(record: &[u8], segment: u16) -> Result<Vec<Vec<u8>>, Cause> {
    let whole = Segments::of(&begin(record), record.len(), segment)?;
    let (mut cut, mut from) = (vec![], 0);
    while whole.data_at(from) > 0 {
        let len = whole.data_at(from);
        let place = memory(MAX_FRAME);
        place.write(0, &record[whole.headers() + from..][..len]).expect("inside");
        let (head, headers) = whole.frame(from, len, sum(&place, 0, len));
        cut.push([&head[..headers], &record[whole.headers() + from..][..len]].concat());
        from += len;
    }
    assert_eq!(cut.len(), whole.count());
    Ok(cut)
}

proptest! {
    #[test]
    fn frames_are_good_and_make_the_whole(
        options in (0_usize..=10).prop_map(|words| 4 * words),
        flags in prop::sample::select([0x10, 0x18, 0x19, 0x11, 0x98, 0xd9].as_slice()),
        sequence: u32,
        id: u16,
        segment in 536_u16..=1420,
        data in prop::collection::vec(any::<u8>(), 1..8_000),
    ) {
        let record = record(options, flags, sequence, id, &data);
        let cut = cut(&record, segment).expect("good");
        judge_all(&record, &cut, segment.into());
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), len in 0_usize..10_000, segment: u16, good: bool) {
        let mut bytes = bytes;
        if good {
            let start = record(12, 0x18, 1, 2, &[0; 60]);
            bytes.splice(..bytes.len().min(20), start[..20].iter().copied());
        }
        if let Ok(whole) = Segments::of(&begin(&bytes), len, segment) {
            prop_assert!(whole.headers() + whole.segment() <= MAX_FRAME && whole.headers() + whole.data() == len);
            prop_assert!(whole.count() <= MAX_SEGMENTS / MIN_SEGMENT + 1);
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let good = record(0, 0x18, 7, 8, &[5; 3000]);
    assert_eq!(cut(&good, 1460).map(|frames| frames.len()), Ok(3));
    let spoilt = |at: usize, byte: u8| {
        let mut record = good.clone();
        record[at] = byte;
        cut(&record, 1460).err()
    };
    assert_eq!(spoilt(12, 0x86), Some(Cause::Type));
    // Options of IPv4, fragments, UDP; SYN, RST, urgent; a total length of something else; headers too short and beyond all there is.
    for (at, byte) in
        [(14, 0x46), (14, 0x65), (20, 0x20), (21, 1), (23, 17), (47, 2), (47, 4), (47, 0x30), (17, 9), (46, 0x40)]
    {
        assert_eq!(spoilt(at, byte), Some(Cause::Malformed), "{byte:#x} at {at}");
    }
    for segment in [0, 1, 535, 1461, u16::MAX] {
        assert_eq!(cut(&good, segment).err(), Some(Cause::Malformed), "{segment}");
    }
    // Nothing but headers, and more than a record may have.
    assert_eq!(cut(&record(0, 0x18, 7, 8, &[]), 1460).err(), Some(Cause::Malformed));
    assert_eq!(cut(&record(0, 0x18, 7, 8, &[0; MAX_SEGMENTS - 53]), 1460).err(), Some(Cause::Malformed));
    assert!(cut(&record(0, 0x18, 7, 8, &[0; MAX_SEGMENTS - 54]), 1460).is_ok());
}

#[test]
fn a_nic_is_given_what_it_adds_to() {
    let record = record(12, 0x18, 7, 8, &[5; 3000]);
    let whole = Segments::of(&begin(&record), record.len(), 1448).expect("good");
    let (head, headers) = whole.for_nic();
    assert_eq!((headers, word(&head, 16), word(&head, 24)), (66, 0, 0));
    assert_eq!(word(&head, 50), slow_sum(&[&record[26..34], &[0, 6]]), "addresses and protocol, and no length");
}
