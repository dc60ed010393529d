use super::*;
use crate::manifest_test::image as any_image;
use abi::manifest::IMAGE_ARGS_BYTES;
use abi::tenant::Tenant;

fn image(args: &[u8]) -> Image {
    let mut image = any_image("guest");
    image.args[..args.len()].copy_from_slice(args);
    image
}

const NET: Net = Net::Static { address: 0x0a00_0210, prefix: 24, gateway: None };

fn request(image: u32, count: u32) -> VmRequest {
    VmRequest { image, count, disk: abi::attachment::Attachment::NONE }
}

/// What is written and what is missing with so many records and cells, of images of which one was refused.
fn written(requests: &[VmRequest], records: usize, cells: usize) -> (Written, Vec<Missing>) {
    let images = [Some(image(b"")), None, Some(image(&[b'x'; IMAGE_ARGS_BYTES]))];
    let mut missing = Vec::new();
    let found = write(
        requests.iter().copied(),
        &NET,
        |number| images.get(number as usize)?.as_ref(),
        &mut vec![Record::EMPTY; records],
        &mut vec![Cell::EMPTY; cells],
        |why| missing.push(why),
    );
    (found, missing)
}

#[test]
fn all_that_are_asked_for_are_written() {
    let requests = [request(0, 3), request(2, 2)];
    // The address, and 128 bytes before it: three cells.
    assert_eq!(written(&requests, 5, 9), (Written { slots: 5, cells: 9 }, vec![]));
    let images = [image(b""), image(b""), image(&[b'x'; IMAGE_ARGS_BYTES])];
    let all = requests.iter().copied();
    assert_eq!(more_cells(all.clone(), |number| images.get(number as usize), &NET), 4);
    assert_eq!(more_cells(all, |number| images[..1].get(number as usize), &Net::Dhcp), 0);
}

#[test]
fn what_cannot_be_written_is_said_and_the_others_are() {
    let requests = [request(0, 1), request(1, 7), request(2, 2)];
    let (found, missing) = written(&requests, 2, 9);
    assert_eq!(found, Written { slots: 2, cells: 4 });
    assert_eq!(
        missing,
        [
            Missing { count: 7, image: 1, why: NotWritten::UnknownImage },
            Missing { count: 1, image: 2, why: NotWritten::SlotsTaken }
        ]
    );
    let said = "7 VMs of image 1 are not created: the image was refused when it was loaded; look further up in the log";
    assert_eq!(missing[0].to_string(), said);
    let said =
        "1 VMs of image 2 are not created: every slot for VMs is taken; ask for fewer, or boot with more (slots=)";
    assert_eq!(missing[1].to_string(), said);
    let (found, missing) = written(&requests, 9, 6);
    assert_eq!(found, Written { slots: 2, cells: 4 });
    assert_eq!(missing[1], Missing { count: 1, image: 2, why: NotWritten::CellsTaken });
}

#[test]
fn a_record_says_what_its_vm_is_to_be() {
    let tenant = Tenant::new("blue").expect("a name").raw();
    let guest = Image { weight: 3, rate: 5, burst: 2000, tenant, ..image(b"a=b") };
    let (mut records, mut cells) = (vec![Record::EMPTY; 3], vec![Cell::EMPTY; 3]);
    let nobody = |_| panic!("all are written");
    write([request(0, 2)].into_iter(), &NET, |_| Some(&guest), &mut records, &mut cells, nobody);
    let blue = Tenant::new("blue").expect("a name");
    let terms = Terms { share: guest.share(), claim: guest.claim(), tenant: blue, disk: guest.disk };
    let expected = |ipv4, cell| Record::written(ImageId::new(0), terms, ipv4, Args::at(cell));
    assert_eq!(records, [expected(0x0a00_0210, 0), expected(0x0a00_0211, 1), Record::EMPTY]);
    let piece = |text: &[u8]| Cell::new(text, NONE);
    assert_eq!(cells, [piece(b"a=b ip=10.0.2.16/24"), piece(b"a=b ip=10.0.2.17/24"), Cell::EMPTY]);
}

#[test]
fn arguments_are_laid_in_as_many_cells_as_they_take() {
    let (mut cells, mut at) = (vec![Cell::EMPTY; 5], 0);
    let texts: [&[u8]; 3] = [&[b'a'; PIECE_BYTES + 1], b"", &[b'b'; 2 * PIECE_BYTES]];
    let laid = texts.map(|text| lay(&mut cells, &mut at, text).expect("room"));
    assert_eq!((laid, at), ([Args::at(0), Args::EMPTY, Args::at(2)], 4));
    assert_eq!(lay(&mut cells, &mut at, &[b'c'; PIECE_BYTES + 1]), None, "two cells");
    assert_eq!(at, 4);
    let (a, b) = ([b'a'; PIECE_BYTES], [b'b'; PIECE_BYTES]);
    let pieces: [(&[u8], u32); 4] = [(&a, 1), (b"a", NONE), (&b, 3), (&b, NONE)];
    assert_eq!(cells[..4], pieces.map(|(piece, next)| Cell::new(piece, next)));
    assert_eq!(cells[4], Cell::EMPTY);
}

#[test]
fn as_many_places_as_memory_is_good_for_unless_somebody_says_otherwise() {
    let places = |slots: Option<u32>, seats: Option<u32>, vms: &[u32], frames| {
        let options = Options { slots, seats, ..Options::default() };
        let asked = vms.iter().sum::<u32>() as usize;
        let Places { slots, seats } = Places::new(&options, asked, frames);
        (slots, seats)
    };
    assert_eq!(places(None, None, &[], 65_536), (8192, 4096));
    assert_eq!(places(None, None, &[3000, 7000], 65_536), (10_000, 4096), "one for each that is asked for");
    assert_eq!(places(None, None, &[], 1 << 40), (1 << 20, 65_535));
    assert_eq!(places(None, None, &[], 5), (1, 1));
    assert_eq!(places(Some(1 << 20), Some(9), &[], 65_536), (1 << 20, 9));
    assert_eq!(places(Some(100), None, &[], 65_536), (100, 100), "who is admitted lives");
    assert_eq!(places(Some(100), Some(200), &[500], 65_536), (100, 100), "what is said counts");
    let options = Options::default();
    let places = Places { slots: 1000, seats: 900 };
    assert_eq!(places.halved(&options, 7), Some(Places { slots: 500, seats: 500 }));
    assert_eq!(places.halved(&options, 600), Some(Places { slots: 600, seats: 600 }));
    assert_eq!(places.halved(&options, 1000), None, "all are asked for");
    assert_eq!(places.halved(&Options { slots: Some(1000), ..options }, 7), None);
}
