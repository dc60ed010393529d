//! The log on the simulated machine.

use disk_log::{Found, Log, LogError, epochs, sweep};
use ilwaco::block_on;
use ilwaco::disk::{BLOCK_BYTES, Disk, DiskError};
use ilwaco::sim::Sim;

fn disk() -> Disk {
    Disk::attached().expect("it was attached")
}

#[test]
fn what_was_appended_is_found_again_and_the_oldest_makes_room() {
    let _sim = Sim::new("");
    Sim::attach_disk(&[0; 4 * BLOCK_BYTES], false);
    block_on(async {
        let mut log = Log::open(disk()).await.expect("opens");
        assert!(log.is_empty() && log.last() == 0);
        for number in 1..=6_u64 {
            assert_eq!(log.append(format!("record {number}").as_bytes()).await, Ok(number));
        }
        assert_eq!(log.append(&[0; BLOCK_BYTES]).await, Err(LogError::TooLong));
        let log = Log::open(disk()).await.expect("opens");
        assert_eq!((log.len(), log.last()), (4, 6));
        assert_eq!(log.read(6).await.expect("read").as_deref(), Some(&b"record 6"[..]));
        assert_eq!(log.read(2).await, Ok(None), "the sixth has its place");
        assert_eq!((log.read(0).await, log.read(7).await), (Ok(None), Ok(None)));
    });
}

#[test]
fn a_block_that_is_no_record_is_none_and_one_that_cannot_be_read_is_an_error() {
    let _sim = Sim::new("");
    // A record of the second block in the first one.
    let mut bytes = vec![0; 2 * BLOCK_BYTES];
    bytes[..8].copy_from_slice(b"FKLOGREC");
    bytes[8] = 2;
    Sim::attach_disk(&bytes, false);
    block_on(async {
        assert!(Log::open(disk()).await.expect("opens").is_empty());
        Sim::spoil_block(1, abi_status::CORRUPT);
        assert_eq!(Log::open(disk()).await.expect_err("spoilt"), LogError::Disk(DiskError::Corrupt));
        assert_eq!(sweep(&disk()).await.corrupt, 1);
    });
}

/// Statuses of completions, as docs/messages.md has them.
mod abi_status {
    pub const CORRUPT: u16 = 2;
}

#[test]
fn a_sweep_depends_on_what_is_where() {
    let sum = |bytes: &[u8]| {
        let _sim = Sim::new("");
        Sim::attach_disk(bytes, true);
        block_on(async { sweep(&disk()).await })
    };
    let (mut one, mut other) = (vec![0; 20 * BLOCK_BYTES], vec![0; 20 * BLOCK_BYTES]);
    (one[0], other[BLOCK_BYTES]) = (1, 1);
    let (one, other) = (sum(&one), sum(&other));
    assert_eq!((one.zeros, other.zeros, one.corrupt, one.failed), (19, 19, 0, 0));
    assert_ne!(one.sum, other.sum);
    assert_eq!(sum(&[0; 3 * BLOCK_BYTES]), Found { zeros: 3, ..Found::default() });
}

#[test]
fn each_block_of_an_epoch_tells_all_of_it() {
    let _sim = Sim::new("");
    Sim::attach_disk(&vec![0; 600 * BLOCK_BYTES], false);
    block_on(async {
        assert_eq!(epochs::epochs(&disk(), 40, 7).await, 0);
        let (mut block, mut newest, mut written) = (Box::new([0; BLOCK_BYTES]), 0, 0);
        for number in 0..600 {
            disk().read(number, &mut block).await.expect("read");
            let words: Vec<u64> = block.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
            if words[0] == 0 {
                continue;
            }
            assert_eq!(words[0], epochs::MAGIC);
            let (place, count) = (usize::try_from(words[2]).expect("small"), usize::try_from(words[3]).expect("small"));
            let of = |word: &u64| epochs::Change { block: word >> 1, discard: word & 1 != 0 };
            let changes: Vec<_> = words[epochs::HEADER..][..count].iter().map(of).collect();
            assert_eq!(changes[place], epochs::Change { block: number, discard: false });
            assert!(
                changes[place + 1..].iter().all(|later| later.block != number),
                "a later one of the same block counts"
            );
            assert_eq!(*block, *epochs::content(words[1], place, &changes));
            (newest, written) = (newest.max(words[1]), written + 1);
        }
        assert!(newest == 40 && written > 8, "{newest} {written}");
    });
}
