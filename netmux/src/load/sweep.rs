//! Somebody who looks at all VMs in turn, one SYN each, and hangs up where one answers: what is told of nobody's request.

use super::segment::{ACK, RST, SYN, Segment};
use heapless::Deque;

/// The address, which no client has; and the first port.
pub const ADDRESS: u32 = 0x0a02_0001;
const FIRST_PORT: u16 = 1024;
/// Answers that wait.
const ANSWERS: usize = 64;

/// It.
#[derive(Debug)]
pub struct Sweeper {
    vms: u32,
    /// Ticks from one SYN to the next, and when that is due; 0 and never where there is no sweep.
    gap: u64,
    due: u64,
    /// SYNs so far, and answers.
    pub sent: u32,
    pub heard: u32,
    answers: Deque<Segment, ANSWERS>,
}

impl Sweeper {
    /// One that has not begun, for so many VMs.
    pub fn new(vms: u32) -> Self {
        Sweeper { vms, gap: 0, due: u64::MAX, sent: 0, heard: 0, answers: Deque::new() }
    }

    /// Begins, with so many ticks from one to the next.
    pub fn begin(&mut self, now: u64, gap: u64) {
        if self.vms > 0 {
            (self.gap, self.due) = (gap.max(1), now);
        }
    }

    /// When it has something to say.
    pub fn due(&self) -> u64 {
        if self.answers.is_empty() { self.due } else { 0 }
    }

    /// What it says next; the VM's place among all, and the segment without its addresses of the link and of the VM.
    pub fn next(&mut self, now: u64) -> Option<(u32, Segment)> {
        if let Some(answer) = self.answers.pop_front() {
            return Some((answer.len, Segment { len: 0, ..answer }));
        }
        if now < self.due {
            return None;
        }
        let vm = self.sent % self.vms.max(1);
        // Each round from ports of its own.
        let port = FIRST_PORT + u16::try_from(self.sent / self.vms.max(1) % 60_000).unwrap_or(0);
        self.due += self.gap;
        self.sent += 1;
        Some((vm, segment(port, self.sent, 0, SYN)))
    }

    /// A VM that is at this place among all says something.
    pub fn listen(&mut self, vm: u32, segment: &Segment) {
        if segment.flags & (SYN | ACK) == SYN | ACK {
            self.heard += 1;
            let reset = self::segment(segment.client.1, segment.ack, segment.seq.wrapping_add(1), RST | ACK);
            // One that finds no place is asked for again.
            let _ = self.answers.push_back(Segment { len: vm, ..reset });
        }
    }
}

fn segment(port: u16, seq: u32, ack: u32, flags: u8) -> Segment {
    Segment { mac: [0; 6], client: (ADDRESS, port), vm: (0, 80), seq, ack, flags, len: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_asked_in_turn_and_answers_are_refused() {
        let mut sweeper = Sweeper::new(3);
        assert_eq!((sweeper.due(), sweeper.next(1 << 40)), (u64::MAX, None));
        sweeper.begin(100, 10);
        let mut vms = std::vec::Vec::new();
        for now in (100..160).step_by(10) {
            let (vm, said) = sweeper.next(now).expect("a SYN");
            assert!(said.flags == SYN && sweeper.next(now).is_none());
            vms.push((vm, said.client.1));
        }
        assert_eq!(vms, [(0, 1024), (1, 1024), (2, 1024), (0, 1025), (1, 1025), (2, 1025)]);
        sweeper.listen(2, &Segment { flags: SYN | ACK, seq: 9, ack: 7, ..segment(1025, 0, 0, 0) });
        assert_eq!(sweeper.due(), 0);
        let (vm, reset) = sweeper.next(0).expect("a reset");
        assert_eq!((vm, reset.flags, reset.seq, reset.ack, reset.len), (2, RST | ACK, 7, 10, 0));
    }
}
