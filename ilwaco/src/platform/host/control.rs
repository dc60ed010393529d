//! The core's end of the control ring of the simulated machine.

use super::pages::{raise, registers};
use abi::control::{ControlReply, ControlRequest};
use abi::disk::DiskRequest;
use abi::guest::{RegisterPage, device, pending};
use abi::guest_control::{ANSWER_SLOTS, ANSWERS, CONTROL_PAGE, REQUEST_SLOTS, REQUESTS, bytes};
use abi::message::Message;
use abi::request_page::BYTES;
use core::mem::offset_of;
use ring::{Consumer, Producer, SharedMemory};
use std::boxed::Box;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::thread_local;
use std::vec;
use std::vec::Vec;

type Answers = Box<dyn FnMut(ControlRequest, &SharedMemory) -> Vec<ControlReply>>;

struct Core {
    memory: SharedMemory,
    requests: Consumer<SharedMemory>,
    answers: Producer<SharedMemory>,
    answer: Answers,
    /// Ids of the questions that are not answered yet, the oldest first: those for the disk component, and those to which `answer` has said nothing.
    late: VecDeque<u32>,
    /// How often the guest has rung.
    rings: u64,
}

thread_local! {
    static CORE: RefCell<Option<Core>> = const { RefCell::new(None) };
}

/// From now on the guest controls the machine: `answer` is given each request, and the request page.
pub(crate) fn attach(answer: impl FnMut(ControlRequest, &SharedMemory) -> Vec<ControlReply> + 'static) {
    let memory = SharedMemory::from_static(vec![0_u64; 2 * BYTES / 8].leak());
    let part = |at, slots| memory.sub(at, bytes(slots)).expect("in the page");
    registers().write64(offset_of!(RegisterPage, control_page), CONTROL_PAGE).expect("in the page");
    let core = Core {
        memory,
        requests: Consumer::attach_contiguous(&part(REQUESTS, REQUEST_SLOTS), REQUEST_SLOTS).expect("a ring"),
        answers: Producer::attach_contiguous(&part(ANSWERS, ANSWER_SLOTS), ANSWER_SLOTS).expect("a ring"),
        answer: Box::new(answer),
        late: VecDeque::new(),
        rings: 0,
    };
    CORE.set(Some(core));
}

/// As if there were no control ring.
pub(super) fn forget() {
    CORE.set(None);
}

/// Control page and request page, where the guest has them.
pub(crate) fn memory() -> Option<SharedMemory> {
    CORE.with_borrow(|core| core.as_ref().map(|core| core.memory))
}

/// The guest tells the server of a device to look at its rings.
pub(super) fn kicked(of: u64) {
    CORE.with_borrow_mut(|core| {
        let Some(Core { memory, requests, answers, answer, late, rings }) =
            core.as_mut().filter(|_| of == device::CONTROL)
        else {
            return;
        };
        *rings += 1;
        let page = memory.sub(BYTES, BYTES).expect("two pages");
        while let Some(message) = requests.pop().expect("an honest guest") {
            if DiskRequest::try_from(&message).is_ok() {
                late.push_back(message.id);
                continue;
            }
            let replies = answer(ControlRequest::try_from(&message).expect("an honest guest"), &page);
            if replies.is_empty() {
                late.push_back(message.id);
                continue;
            }
            for reply in replies {
                answers.push(&Message { id: message.id, ..reply.into() }).expect("room");
            }
            raise(pending::CONTROL);
        }
    });
}

/// How often the guest has rung.
pub(crate) fn rings() -> u64 {
    CORE.with_borrow(|core| core.as_ref().map_or(0, |core| core.rings))
}

/// The oldest question that was not answered is.
pub(crate) fn answer_late(reply: impl Into<Message>) {
    CORE.with_borrow_mut(|core| {
        let Core { answers, late, .. } = core.as_mut().expect("the guest controls the machine");
        let id = late.pop_front().expect("it was asked");
        answers.push(&Message { id, ..reply.into() }).expect("room");
    });
    raise(pending::CONTROL);
}
