use super::*;
use crate::vm::{EMPTY_ARGS, EMPTY_RECORD};
use abi::limits::Name;
use abi::manifest::{ANY, IMAGE_ARGS_BYTES};

fn image(args: &[u8]) -> Image {
    let mut all = [0; IMAGE_ARGS_BYTES];
    all[..args.len()].copy_from_slice(args);
    let name = Name::new("guest").expect("short");
    Image {
        name,
        module: name,
        memory_bytes: 1 << 20,
        rx_slots: 0,
        tx_slots: 0,
        args: all,
        rate: 1,
        burst: 2,
        weight: 3,
        net: ANY,
        pager: ANY,
        flags: 0,
        reserve_frames: abi::manifest::RESERVE_LEAST,
        limit_frames: 300,
        tenant: 0,
        reserved: 0,
    }
}

const NET: Net = Net::Static { address: 0x0a00_0210, prefix: 24, gateway: None };

/// What is written and what is missing with so many records and cells, of images of which one was refused.
fn written(requests: &[VmRequest], records: usize, cells: usize) -> (Written, Vec<Missing>) {
    let images = [Some(image(b"")), None, Some(image(&[b'x'; IMAGE_ARGS_BYTES]))];
    let mut missing = Vec::new();
    let found = write(
        requests,
        &NET,
        |number| images.get(number)?.as_ref(),
        &mut vec![EMPTY_RECORD; records],
        &mut vec![EMPTY_ARGS; cells],
        |why| missing.push(why),
    );
    (found, missing)
}

#[test]
fn all_that_are_asked_for_are_written() {
    let requests = [VmRequest { image: 0, count: 3 }, VmRequest { image: 2, count: 2 }];
    // The address, and 128 bytes before it: three cells.
    assert_eq!(written(&requests, 5, 9), (Written { slots: 5, cells: 9 }, vec![]));
    let images = [image(b""), image(b""), image(&[b'x'; IMAGE_ARGS_BYTES])];
    assert_eq!(more_cells(&requests, |number| images.get(number), &NET), 4);
    assert_eq!(more_cells(&requests, |number| images[..1].get(number), &Net::Dhcp), 0);
}

#[test]
fn what_cannot_be_written_is_said_and_the_others_are() {
    let requests =
        [VmRequest { image: 0, count: 1 }, VmRequest { image: 1, count: 7 }, VmRequest { image: 2, count: 2 }];
    let (found, missing) = written(&requests, 2, 9);
    assert_eq!(found, Written { slots: 2, cells: 4 });
    assert_eq!(
        missing,
        [
            Missing { count: 7, image: 1, why: NotWritten::UnknownImage },
            Missing { count: 1, image: 2, why: NotWritten::SlotsTaken }
        ]
    );
    let said =
        "1 VMs of image 2 are not created: every slot for VMs is taken; ask for fewer, or boot with more (slots=)";
    assert_eq!(missing[1].to_string(), said);
    let (found, missing) = written(&requests, 9, 6);
    assert_eq!(found, Written { slots: 2, cells: 4 });
    assert_eq!(missing[1], Missing { count: 1, image: 2, why: NotWritten::CellsTaken });
}
