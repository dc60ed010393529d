//! What a connection has to send beside its socket, and what is known of its path: see `bulk_sending.rs`.

use super::content::Content;
use super::flight::Flight;
use core::task::Waker;

/// The content of a connection, and what is known of its path.
pub(super) struct Bulk {
    pub(super) content: Content,
    pub(super) flight: Flight,
    /// The program has said that nothing follows, and the peer was told so.
    pub(super) closing: bool,
    pub(super) ended: bool,
    /// Who is woken when no more than so many bytes are left.
    pub(super) waker: Option<(usize, Waker)>,
}

impl Bulk {
    pub(super) fn wake(&mut self) {
        if let Some((_, waker)) = self.waker.take() {
            waker.wake();
        }
    }

    /// The end that is to be said when all content was sent before the program came to it.
    pub(super) fn end_alone(&self) -> Option<(u32, u32)> {
        let (una, next) = self.flight.sent();
        let all = usize::try_from(next.wrapping_sub(una)) == Ok(self.content.len());
        (self.closing && !self.ended && all).then_some((next, 0))
    }

    pub(super) fn has_progressed(&mut self) {
        if self.waker.as_ref().is_some_and(|(enough, _)| self.content.len() <= *enough) {
            self.wake();
        }
    }
}
