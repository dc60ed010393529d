use super::*;
use crate::block_on;
use crate::sim::Sim;
use crate::sim::SimEvent;
use crate::task::{spawn, yield_now};
use crate::time::{Duration, sleep};
use std::cell::Cell;
use std::vec;

const EMPTY: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// A machine whose disk has so many blocks, never written.
fn machine(blocks: usize, read_only: bool) -> Sim {
    let sim = Sim::new("");
    Sim::attach_disk(&vec![0; blocks * BLOCK_BYTES], read_only);
    sim
}

fn disk() -> Disk {
    Disk::attached().expect("it was attached")
}

#[test]
fn a_vm_without_a_disk_has_none() {
    let _sim = Sim::new("");
    assert_eq!(Disk::attached(), None);
}

#[test]
fn what_was_written_is_read_and_what_was_not_is_zeros() {
    let _sim = machine(4, false);
    block_on(async {
        let disk = disk();
        assert_eq!((disk.blocks(), disk.is_read_only()), (4, false));
        let mut block = [7; BLOCK_BYTES];
        assert_eq!(disk.read(3, &mut block).await, Ok(()));
        assert_eq!(block, EMPTY);
        for number in 0..4 {
            disk.write(number, &[u8::try_from(number).expect("small") + 1; BLOCK_BYTES]).await.expect("written");
        }
        disk.flush().await.expect("flushed");
        disk.discard(1).await.expect("discarded");
        for (number, holds) in [(0, 1), (1, 0), (2, 3), (3, 4)] {
            assert_eq!(disk.read(number, &mut block).await, Ok(()));
            assert_eq!(block, [holds; BLOCK_BYTES], "block {number}");
        }
    });
    assert_eq!(Sim::disk_bytes()[BLOCK_BYTES * 2], 3);
}

#[test]
fn each_failure_has_its_error_and_leaves_the_buffer_alone() {
    let _sim = machine(4, true);
    Sim::spoil_block(1, status::CORRUPT);
    Sim::spoil_block(2, status::FAILED);
    Sim::spoil_block(3, status::BAD_REQUEST);
    block_on(async {
        let (disk, mut block) = (disk(), [7; BLOCK_BYTES]);
        assert!(disk.is_read_only());
        assert_eq!(disk.read(1, &mut block).await, Err(DiskError::Corrupt));
        assert_eq!(disk.read(2, &mut block).await, Err(DiskError::Failed));
        assert_eq!(disk.read(3, &mut block).await, Err(DiskError::Answer));
        assert_eq!(disk.read(4, &mut block).await, Err(DiskError::OutOfRange));
        assert_eq!(disk.write(0, &block).await, Err(DiskError::ReadOnly));
        assert_eq!(disk.discard(0).await, Err(DiskError::ReadOnly));
        assert_eq!(block, [7; BLOCK_BYTES]);
    });
}

#[test]
fn many_tasks_have_requests_on_their_way_and_each_gets_its_own() {
    let _sim = machine(64, false);
    Sim::hold_disk();
    thread_local_count(0);
    block_on(async {
        for number in 0..40_u8 {
            let task = async move {
                let disk = disk();
                disk.write(number.into(), &[number; BLOCK_BYTES]).await.expect("written");
                let mut block = EMPTY;
                disk.read(number.into(), &mut block).await.expect("read");
                assert_eq!(block, [number; BLOCK_BYTES]);
                thread_local_count(1);
            };
            spawn(task).expect("few tasks");
        }
        sleep(Duration::from_millis(1)).await;
        assert!(Sim::disk_orders().is_empty(), "nothing was answered");
        // In the wrong order, what there is room for.
        Sim::release_disk();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(thread_local_count(0), 40);
    });
    let orders = Sim::disk_orders();
    let first = orders[..FLIGHTS].iter().map(|order| match order {
        DiskOrder::Write { block, .. } => *block,
        _ => u64::MAX,
    });
    assert!(first.eq((0..8).rev()), "as many as there are slots were asked for at once");
}

/// Adds to a number of this thread. What it is then.
fn thread_local_count(more: u32) -> u32 {
    std::thread_local! { static COUNT: Cell<u32> = const { Cell::new(0) }; }
    COUNT.with(|count| {
        count.set(count.get() + more);
        count.get()
    })
}

#[test]
fn a_successor_of_the_striper_is_asked_again_in_the_same_order() {
    let _sim = machine(8, false);
    block_on(async {
        disk();
        // The ids run over meanwhile.
        with_rings(|rings| rings.last = u32::MAX - 2).expect("a disk");
        Sim::hold_disk();
        for number in 0..3_u8 {
            spawn(async move { disk().write(5, &[number + 1; BLOCK_BYTES]).await.expect("written") }).expect("few");
        }
        spawn(async {
            disk().flush().await.expect("flushed");
            thread_local_count(1);
        })
        .expect("few");
        sleep(Duration::from_millis(1)).await;
        assert_eq!(thread_local_count(0), 0);
        Sim::restart_disk();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(thread_local_count(0), 1);
        let mut block = EMPTY;
        disk().read(5, &mut block).await.expect("read");
        assert_eq!(block, [3; BLOCK_BYTES], "the last one of three");
        assert_eq!(Sim::disk_orders().len(), 5, "each once");
        assert_eq!(Sim::disk_orders()[3], DiskOrder::Flush);
    });
}

#[test]
fn a_request_that_nobody_waits_for_keeps_its_slot_until_it_has_ended() {
    let _sim = machine(16, false);
    block_on(async {
        let disk = disk();
        Sim::hold_disk();
        {
            let data = [9; BLOCK_BYTES];
            let mut left = core::pin::pin!(disk.write(9, &data));
            let polled = poll_fn(|cx| Poll::Ready(left.as_mut().poll(cx).is_ready())).await;
            assert!(!polled);
        }
        // Others take all other places; this one's is not among them.
        for number in 0..8_u8 {
            let task = async move { disk.write(number.into(), &[1; BLOCK_BYTES]).await.expect("written") };
            spawn(task).expect("few");
        }
        sleep(Duration::from_millis(1)).await;
        Sim::release_disk();
        sleep(Duration::from_millis(1)).await;
        yield_now().await;
    });
    let bytes = Sim::disk_bytes();
    assert_eq!([bytes[9 * BLOCK_BYTES], bytes[0], bytes[7 * BLOCK_BYTES]], [9, 1, 1]);
    assert_eq!(Sim::disk_orders().len(), 9);
}

#[test]
fn the_program_begins_when_the_disk_is_there() {
    let _sim = machine(2, false);
    let memory = platform::disk().expect("a disk");
    memory.store32(offset_of!(DiskPage, state), state::COMING).expect("in the page");
    Sim::on_idle(move |now, _| {
        memory.store32(offset_of!(DiskPage, state), state::READY).expect("in the page");
        let at = offset_of!(abi::guest::RegisterPage, pending);
        platform::registers().fetch_or64(at, pending::DISK).expect("in the page");
        SimEvent::Wake(now + 1000)
    });
    let before = Sim::now();
    block_on(async { assert!(Sim::now() > before) });
}

#[test]
fn slots_are_cleared_when_it_was_quiet_but_for_those_of_requests() {
    let _sim = machine(4, false);
    Sim::let_vms_go_out();
    let is_clear = |slot: usize| {
        let mut block = EMPTY;
        platform::disk().and_then(|memory| memory.read((1 + slot) * BLOCK_BYTES, &mut block)).expect("a slot");
        block == EMPTY
    };
    block_on(async move {
        let disk = disk();
        disk.write(0, &[7; BLOCK_BYTES]).await.expect("written");
        let mut block = EMPTY;
        disk.read(0, &mut block).await.expect("read");
        assert!(!is_clear(0));
        sleep(Duration::from_secs(3)).await;
        assert!(is_clear(0));
        // One that is on its way keeps what it is to write.
        Sim::hold_disk();
        spawn(async move { disk.write(1, &[9; BLOCK_BYTES]).await.expect("written") }).expect("room");
        sleep(Duration::from_secs(3)).await;
        assert!(!is_clear(0));
        Sim::release_disk();
        sleep(Duration::from_secs(3)).await;
        assert!(is_clear(0));
    });
    assert_eq!(Sim::disk_bytes()[..BLOCK_BYTES], [7; BLOCK_BYTES]);
    assert_eq!(Sim::disk_bytes()[BLOCK_BYTES..2 * BLOCK_BYTES], [9; BLOCK_BYTES]);
}
