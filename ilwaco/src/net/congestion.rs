//! A socket's congestion window (RFC 5681). A socket has no more in flight than its buffer holds, which is less than an initial window
//! (RFC 6928); so it needs none before something is lost. After that, what its peer says of its own window is lowered to this one
//! before the socket hears it.

use super::buffers::SEND_BYTES;

// A connection's buffer is constant, and small.
#[allow(clippy::cast_possible_truncation)]
const MOST: u32 = SEND_BYTES as u32;

/// The bytes that a socket may have in flight, where that is less than its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Congestion {
    window: u32,
    threshold: u32,
}

impl Congestion {
    /// Of a connection that has lost nothing.
    pub(super) const NONE: Congestion = Congestion { window: u32::MAX, threshold: u32::MAX };

    /// The retransmission timer runs out while so many bytes are in flight (RFC 5681 3.1). False when nothing is new about that.
    pub(super) fn timed_out(&mut self, flight: u32, segment: u32) -> bool {
        if self.window == segment {
            // The same bytes once more.
            return false;
        }
        self.threshold = (flight / 2).max(2 * segment);
        self.window = segment;
        true
    }

    /// What was lost was sent again on the word of three duplicates, and has arrived (RFC 5681 3.2).
    pub(super) fn mended(&mut self, flight: u32, segment: u32) {
        self.threshold = (flight / 2).max(2 * segment);
        self.window = self.threshold;
    }

    /// So many bytes were acknowledged for the first time.
    #[inline]
    pub(super) fn progress(&mut self, fresh: u32, segment: u32) {
        if self.window == u32::MAX {
            return;
        }
        self.window += match self.window < self.threshold {
            true => fresh.min(segment),
            false => (segment * segment / self.window).max(1),
        };
        if self.window >= MOST {
            *self = Congestion::NONE;
        }
    }

    /// What the peer's window is lowered to, as it stands in its segments, shifted by `scale`.
    #[inline]
    pub(super) fn limit(&self, scale: u8) -> Option<u16> {
        if self.window == u32::MAX {
            return None;
        }
        // Rounded up: a window of nothing would be another matter.
        u16::try_from(self.window.div_ceil(1 << scale)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_one_segment_to_half_and_then_slowly() {
        let mut congestion = Congestion::NONE;
        assert_eq!(congestion.limit(7), None);
        congestion.progress(1_000, 1_000);
        assert_eq!(congestion, Congestion::NONE);
        assert!(congestion.timed_out(8_000, 1_000));
        assert_eq!((congestion.limit(0), congestion.limit(7), congestion.limit(14)), (Some(1_000), Some(8), Some(1)));
        assert!(!congestion.timed_out(1_000, 1_000), "half of what was in flight first");
        let mut windows = Vec::new();
        while congestion != Congestion::NONE {
            windows.extend(congestion.limit(0));
            congestion.progress(1_000, 1_000);
        }
        assert_eq!(windows[..4], [1_000, 2_000, 3_000, 4_000]);
        assert_eq!(windows[4..7], [4_250, 4_485, 4_707], "a segment for each window");
        congestion.mended(5_000, 1_000);
        assert_eq!(congestion.limit(0), Some(2_500));
        congestion.mended(1_000, 1_000);
        assert_eq!(congestion.limit(0), Some(2_000));
    }

    use std::vec::Vec;
}
