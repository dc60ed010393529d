//! Questions that are answered late, while others are asked and answered.

use abi::message::Message;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

/// Their ids, and the answers that have come.
type Answers = Rc<RefCell<Vec<(u32, Option<Message>)>>>;

/// Those that are waited for.
#[derive(Default)]
pub(super) struct Open(Answers);

impl Open {
    /// Notes a question.
    pub(super) fn note(&self, id: u32) -> Question {
        self.0.borrow_mut().push((id, None));
        Question { id, open: self.0.clone() }
    }

    /// Keeps an answer for whoever waits for it. That to a question which was given up is for nobody.
    pub(super) fn keep(&self, answer: Message) {
        if let Some((_, kept)) = self.0.borrow_mut().iter_mut().find(|(id, _)| *id == answer.id) {
            *kept = Some(answer);
        }
    }
}

/// A question that was asked. Dropped, it is given up.
pub struct Question {
    id: u32,
    open: Answers,
}

impl Question {
    /// Its answer, once.
    pub(super) fn answer(&self) -> Option<Message> {
        self.open.borrow_mut().iter_mut().find(|(id, _)| *id == self.id)?.1.take()
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.open.borrow_mut().retain(|(id, _)| *id != self.id);
    }
}
