//! The machine's log for controllers: what is kept of it, read by position.

use crate::board::Board;
use crate::component::{EndpointId, Party};
use crate::kernel::Cpu;
use crate::log::{history, is_waiting};
use abi::control::{ControlReply, status};
use abi::request_page::Piece;
use backend::Backend;

/// Bytes that are copied at a time.
const CHUNK: usize = 256;

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Write what was logged from a position on into the request page of this endpoint.
    pub(super) fn read_log(&self, of: EndpointId, from: u64, to: Piece) -> ControlReply {
        let range = to.range().filter(|range| !range.is_empty());
        let (Some(range), Some(page)) = (range, self.endpoints.get(of).and_then(|party| party.page)) else {
            return ControlReply::Done { status: status::BAD_REQUEST, value: 0 };
        };
        let mut chunk = [0; CHUNK];
        let first = history(from, &mut chunk[..0]);
        let (mut at, mut next) = (range.start, first.from);
        while at < range.end {
            let most = CHUNK.min(range.end - at);
            let len = history(next, &mut chunk[..most]).len;
            // It lies in the page.
            let _ = page.write(at, &chunk[..len]);
            (at, next) = (at + len, next + len as u64);
            if len < most {
                break;
            }
        }
        let bytes = u32::try_from(at - range.start).unwrap_or(0);
        ControlReply::Log { next, missed: first.missed, bytes }
    }

    /// How much of the log is written down elsewhere: as far as a VM that controls the machine says.
    pub(super) fn note_log(&mut self, of: EndpointId, until: u64) -> ControlReply {
        let end = history(u64::MAX - 1, &mut []).from;
        if matches!(self.endpoints.get(of).map(|endpoint| endpoint.party), Some(Party::Vm(_))) {
            self.noted = self.noted.max(until.min(end));
        }
        // Lines that wait are logged when the serial line takes them, and whoever reads the log has not seen them.
        let end = if is_waiting() { u64::MAX } else { end };
        ControlReply::Noted { end, until: self.noted, vms: self.endpoints.guests() }
    }
}
