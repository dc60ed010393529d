//! Questions about virtual disks that are passed on to the striper, and not answered yet.

use crate::component::EndpointId;

/// Questions that are not answered yet, at most.
const MOST: usize = 4;

/// A question that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// As the striper knows it.
    number: u32,
    pub asker: EndpointId,
    /// As whoever has asked knows it.
    pub id: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub struct DiskQuestions {
    open: heapless::Vec<Question, MOST>,
    last: u32,
}

impl DiskQuestions {
    /// Notes a question: its number; `None` while there are as many as may be, or one of the same party.
    pub fn open(&mut self, asker: EndpointId, id: u32) -> Option<u32> {
        if self.open.iter().any(|question| question.asker == asker) {
            return None;
        }
        // 0 is that of what the striper says by itself.
        let number = self.last.wrapping_add(1).max(1);
        self.open.push(Question { number, asker, id }).ok()?;
        self.last = number;
        Some(number)
    }

    /// Takes the question that is answered.
    pub fn close(&mut self, number: u32) -> Option<Question> {
        let at = self.open.iter().position(|question| question.number == number)?;
        Some(self.open.swap_remove(at))
    }

    /// Takes all that are open.
    pub fn take(&mut self) -> impl Iterator<Item = Question> + use<> {
        core::mem::take(&mut self.open).into_iter()
    }

    /// The party is gone for good.
    pub fn forget(&mut self, gone: EndpointId) {
        self.open.retain(|question| question.asker != gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_party_has_one_and_numbers_are_not_given_again() {
        let mut questions = DiskQuestions { last: u32::MAX - 1, ..DiskQuestions::default() };
        let at = EndpointId::new;
        assert_eq!((questions.open(at(1), 7), questions.open(at(1), 8)), (Some(u32::MAX), None));
        assert_eq!([2, 3, 4, 5].map(|party| questions.open(at(party), 7)), [Some(1), Some(2), Some(3), None]);
        assert!(questions.close(9).is_none());
        let closed = questions.close(2).expect("open");
        assert_eq!((closed.asker, closed.id), (at(3), 7));
        assert!(questions.close(2).is_none(), "it is answered once");
        assert_eq!(questions.open(at(1), 8), None);
        assert_eq!(questions.open(at(5), 8), Some(4));
    }
}
