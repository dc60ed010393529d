use super::*;
use crate::act::act;
use crate::command::Command;
use crate::image_query::ImageQuery;
use crate::images::{count, list, put, remove, show};
use crate::names::Named;
use crate::query::ListQuery;
use crate::restore;
use abi::charges::DiskUse;
use abi::control::ControlReply;
use abi::image::BYTES;
use abi::limits::Name;
use abi::note::{KIND_GUEST, Note};
use abi::terms::Terms;
use abi::vm::VmId;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec;
use core::cell::RefCell;
use elf_file::sample::{NOTE, file_with};
use ilwaco::block_on;
use ilwaco::control::Control;
use ilwaco::sim::{SharedMemory, Sim, disk_status};
use zerocopy::{FromBytes, IntoBytes};

/// Images that the core has room for, the first of which came with the machine.
const PLACES: u32 = 3;
/// Blocks of records and lines on the disks here, and all of them.
const STATE: usize = 1024;
/// See [`STATE`].
const BLOCKS: usize = STATE + 6;

/// What such a core holds: images by their numbers, each with the pages that came and whether it is whole; and how many VMs each has.
#[derive(Default)]
struct Core {
    images: BTreeMap<u32, (NewImage, u64, bool)>,
    vms: BTreeMap<u32, u64>,
    sent: u64,
}

impl Core {
    fn answer(&mut self, request: ControlRequest, page: &SharedMemory) -> ControlReply {
        let done = |status, value| ControlReply::Done { status, value };
        let of = |name: &str| Name::new(name).expect("short");
        match request {
            ControlRequest::Boot => ControlReply::Boot { low: 1, high: 9 },
            ControlRequest::DiskOf { slot } => {
                let vm = VmId::new(slot.number(), 1);
                ControlReply::DiskOf { vm, disk: of("operator"), mode: 0, rate: 0, attached: true, used: DiskUse::NONE }
            }
            ControlRequest::Image { image } if image.number() == 0 => {
                ControlReply::Image { image, name: of("httpd"), memory_bytes: 1 << 20 }
            }
            ControlRequest::Image { image } if image.number() < PLACES => match self.images.get(&image.number()) {
                Some((said, _, true)) => {
                    ControlReply::Image { image, name: said.entry.name, memory_bytes: said.entry.memory_bytes }
                }
                _ => ControlReply::Image { image, name: Name::EMPTY, memory_bytes: 0 },
            },
            ControlRequest::ImageBegin { from } => {
                let mut bytes = [0; BYTES];
                page.read(from.offset.into(), &mut bytes).expect("within the page");
                let said = NewImage::read_from_bytes(&bytes).expect("as long");
                match (1..PLACES).find(|number| !self.images.contains_key(number)) {
                    Some(number) => {
                        self.images.insert(number, (said, 0, false));
                        done(status::OK, number.into())
                    }
                    None => done(status::NO_SPACE, PLACES.into()),
                }
            }
            ControlRequest::ImagePage { image, .. } => {
                self.images.get_mut(&image.number()).expect("it was begun").1 += 1;
                done(status::OK, 0)
            }
            ControlRequest::ImageEnd { image } => {
                let (said, pages, whole) = self.images.get_mut(&image.number()).expect("it was begun");
                assert_eq!(*pages, said.pages(), "not all pages have come");
                *whole = true;
                self.sent += 1;
                done(status::OK, 0)
            }
            ControlRequest::ImageDetails { image, to } => match self.images.get(&image.number()) {
                Some((said, ..)) => {
                    page.write(to.offset.into(), said.as_bytes()).expect("within the page");
                    done(status::OK, self.vms.get(&image.number()).copied().unwrap_or(0))
                }
                None => done(status::NOT_FOUND, 0),
            },
            ControlRequest::ImageRemove { image } => match self.vms.get(&image.number()) {
                Some(vms) => done(status::IN_USE, *vms),
                None if self.images.remove(&image.number()).is_some() => done(status::OK, 0),
                None => done(status::NOT_FOUND, 0),
            },
            _ => done(status::NOT_FOUND, 0),
        }
    }
}

/// A machine whose operator's VM has a disk of these bytes, if there are any.
fn machine(bytes: &[u8]) -> Rc<RefCell<Core>> {
    let _sim = Sim::new("");
    if !bytes.is_empty() {
        Sim::attach_disk(bytes, false);
    }
    let core = Rc::new(RefCell::new(Core::default()));
    let answers = core.clone();
    Sim::control(move |request, page| vec![answers.borrow_mut().answer(request, page)]);
    core
}

async fn begin() -> Node {
    let node = Node::new(Control::open().expect("a ring")).await.expect("an answer");
    restore::open(&node).await;
    node
}

/// A program of so many pages that differs from others.
fn program(seed: u8) -> Vec<u8> {
    use abi::guest::IMAGE_BASE;
    let text = (1, 5, 0x1000, IMAGE_BASE, 0x1000, 0x1000);
    let mut file = file_with(IMAGE_BASE + 0x10, &[NOTE, text], Note::new(KIND_GUEST));
    file.resize(0x2000, 0);
    file[0x1000..0x1e00].fill(seed);
    file
}

async fn put_named(node: &Node, name: &str, file: &[u8]) -> Result<(), String> {
    let said = put(node, &ImageOrder::new(name).expect("a name"), file).await?;
    assert_eq!(said.aside, "", "{name} is not kept");
    assert_eq!(crate::audit::done(node, "somebody", name, "done").await, None);
    Ok(())
}

async fn listed(node: &Node) -> String {
    let (text, more) = list(node, &ImageQuery::default(), true).await.expect("a list");
    assert_eq!(more, None);
    text
}

#[test]
fn images_come_back_when_the_machine_was_off_and_are_given_to_the_core_when_a_vm_wants_them() {
    machine(&vec![0; BLOCKS * BLOCK_BYTES]);
    block_on(async {
        let node = begin().await;
        for (name, seed) in [("a", 1), ("b", 2), ("c", 3)] {
            put_named(&node, name, &program(seed)).await.expect("there is room");
        }
        // The core has room for two: it holds the two that were wanted last.
        assert_eq!(["a", "b", "c"].map(|name| node.image(name).is_some()), [false, true, true]);
        let why = put_named(&node, "d", &program(4)).await.expect_err("6 blocks are taken");
        assert!(
            why.contains("d wants 8 KiB of the virtual disk operator, and 0 KiB of it are free for images: `image rm`"),
            "{why}"
        );
        assert!(put_named(&node, "a", &program(1)).await.is_err_and(|why| why.contains("there is an image a")));
        remove(&node, "b").await.expect("no VM is made of it");
        assert_eq!(crate::audit::done(&node, "somebody", "image rm b", "done").await, None);
        put_named(&node, "d", &program(4)).await.expect("there is room again");
    });
    let core = machine(&Sim::disk_bytes());
    block_on(async {
        let node = begin().await;
        let all = listed(&node).await;
        assert!(
            all.contains("{\"name\":\"a\",\"memory_bytes\":16777216,\"kept\":true}") && !all.contains("\"b\""),
            "{all}"
        );
        assert_eq!(count(&node, &ImageQuery::default(), false).await.as_deref(), Ok("4\n"));
        assert_eq!(core.borrow().sent, 0, "nobody wants one yet");
        let shown = show(&node, "c", true).await.expect("it is kept");
        assert!(
            shown.contains("\"put\":true,\"file_bytes\":4096") && shown.ends_with("\"kept\":true,\"held\":false}\n"),
            "{shown}"
        );
        for name in ["a", "c", "d", "a"] {
            let id = load(&node, name).await.expect("as it was put");
            assert_eq!(core.borrow().images[&id.number()].0.entry.name.as_str(), name);
        }
        assert_eq!(core.borrow().sent, 4, "`a` had made room, and came again");
        // Those of which there are VMs make none.
        core.borrow_mut().vms.extend([(1, 1), (2, 1)]);
        assert!(
            load(&node, "c").await.is_err_and(|why| why.starts_with("VMs can be of 48 images at once")
                && why.contains("`vm stop` all VMs of one image"))
        );
    });
}

#[test]
fn a_vm_of_an_image_that_is_kept_can_be_created_and_holds_it() {
    machine(&vec![0; BLOCKS * BLOCK_BYTES]);
    block_on(async {
        put_named(&begin().await, "a", &program(1)).await.expect("there is room");
    });
    machine(&Sim::disk_bytes());
    block_on(async {
        let node = begin().await;
        let command = |name: &str| Command::VmCreate {
            name: name.into(),
            image: "a".into(),
            terms: Terms::UNSAID,
            args: String::new(),
        };
        act(&node, "somebody", "vm create", command("web")).await.expect("the image is known");
        let image = node.names.borrow().get("web").map(|named: &Named| named.image);
        assert_eq!(image, Some(crate::state::NO_IMAGE));
        assert!(remove(&node, "a").await.is_err_and(|why| why.contains("web are made of a")));
        // This core makes no VM, and has the image when it is asked to.
        let why =
            act(&node, "somebody", "vm start web", Command::VmStart { name: "web".into() }).await.expect_err("none");
        assert!(node.image("a").is_some() && !why.contains("image put"), "{why}");
    });
}

#[test]
fn a_file_that_is_not_as_it_was_put_is_no_image_and_can_be_put_again() {
    machine(&vec![0; BLOCKS * BLOCK_BYTES]);
    block_on(async {
        put_named(&begin().await, "a", &program(1)).await.expect("there is room");
    });
    let mut bytes = Sim::disk_bytes();
    bytes[STATE * BLOCK_BYTES + 0x1800] ^= 1;
    let core = machine(&bytes);
    block_on(async {
        let node = begin().await;
        let why = load(&node, "a").await.expect_err("a bit is another one");
        assert!(why.contains("the file's SHA-256 is") && why.ends_with("`image rm a`, and put it again"), "{why}");
        Sim::spoil_block(STATE as u64, disk_status::FAILED);
        let why = load(&node, "a").await.expect_err("the disk fails");
        assert!(why.starts_with("a cannot be read from the virtual disk operator: "), "{why}");
        assert!(core.borrow().images.is_empty());
        remove(&node, "a").await.expect("it is not held");
        put_named(&node, "a", &program(1)).await.expect("a block that is written is well");
    });
}

#[test]
fn the_file_of_an_image_that_is_kept_comes_back_as_it_was_put_or_not_at_all() {
    machine(&vec![0; BLOCKS * BLOCK_BYTES]);
    block_on(async {
        let node = begin().await;
        put_named(&node, "a", &program(1)).await.expect("there is room");
        assert_eq!(fetch(&node, "a").await, Ok(program(1)));
        let why = fetch(&node, "httpd").await.expect_err("it came with the machine");
        assert!(why.starts_with("httpd is not kept on a virtual disk of the operator's VM"), "{why}");
        assert!(fetch(&node, "b").await.is_err_and(|why| why.starts_with("there is no image `b`")));
        Sim::spoil_block(STATE as u64, disk_status::FAILED);
        let why = fetch(&node, "a").await.expect_err("the disk fails");
        assert!(why.starts_with("a cannot be read: "), "{why}");
    });
}

#[test]
fn without_a_disk_or_without_room_on_it_it_is_said_that_an_image_is_not_kept() {
    for (blocks, says) in
        [(0, "has no virtual disk"), (64, "operator has no room for images; one of more than 4 MiB has")]
    {
        machine(&vec![0; blocks * BLOCK_BYTES]);
        block_on(async {
            let node = begin().await;
            let said =
                put(&node, &ImageOrder::new("a").expect("a name"), &program(1)).await.expect("the core takes it");
            assert!(said.aside.contains(says), "{}", said.aside);
            assert!(listed(&node).await.contains("{\"name\":\"a\",\"memory_bytes\":16777216,\"kept\":false}"));
            let why = node.no_image("b");
            assert_eq!(why, "there is no image `b`: known are httpd, a");
        });
    }
}

#[test]
fn a_list_of_thousands_has_pages() {
    machine(&[]);
    block_on(async {
        let node = begin().await;
        for number in 0..3000 {
            let kept = Kept {
                memory_bytes: 1 << 20,
                file_bytes: 1,
                held_bytes: 1,
                digest: [0; 32],
                args: String::new(),
                place: Vec::new(),
                used: Cell::new(0),
            };
            node.keep.library.borrow_mut().add(&format!("image-{number}"), kept);
        }
        let mut query = ImageQuery::default();
        query.set("name", "image-").expect("a beginning");
        let (mut pages, mut lines) = (0, 0);
        loop {
            let (text, more) = list(&node, &query, false).await.expect("a list");
            (pages, lines) = (pages + 1, lines + text.lines().count() - 1);
            let Some(more) = more else { break };
            query.set("after", &more).expect("a name");
        }
        assert_eq!((pages, lines), (3, 3000));
        assert!(node.no_image("x").ends_with(" and 2977 more, as `image list` shows"));
        assert_eq!(crate::images::names(&node, "image-29").await.len(), 100);
    });
}
