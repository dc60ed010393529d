//! SNTP (RFC 4330, with the packet of RFC 5905): a question for the time, and what an answer says of this machine's clock.

/// Bytes of a packet.
pub const BYTES: usize = 48;
/// The port of servers.
pub const PORT: u16 = 123;
/// Seconds from 1900, where the wire's time begins, to 1970; and in an era of the wire's seconds, of which the first half belongs to the next one.
const UNTIL_1970: u64 = 2_208_988_800;
const ERA: u64 = 1 << 32;
/// No leap warning, version 4, client.
const FROM_CLIENT: u8 = 4 << 3 | 3;
const SERVER: u8 = 4;
/// The leap indicator of a server that does not know the time.
const UNKNOWN: u8 = 3;
/// The stratum from which on a server does not know the time.
const STRATUM_MOST: u8 = 15;
/// An answer that took longer says too little.
const DELAY_MOST_NS: i64 = 1_000_000_000;

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// What the answer has to repeat. It stands in the place of the time of sending, which is nobody's business and could be guessed.
    pub nonce: u64,
    /// Unix time in nanoseconds when it was sent, by this machine's clock.
    pub sent_ns: u64,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// How much later it is than this machine's clock says, in nanoseconds.
    pub offset_ns: i64,
    /// How long question and answer were on their ways, in nanoseconds.
    pub delay_ns: i64,
    /// How far the server is from a clock.
    pub stratum: u8,
}

/// Why an answer is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// It does not belong to the question, or is no answer at all: somebody else's, or a late or forged one. The right one may still come.
    NotOurs,
    /// The server does not know the time itself.
    Unsynchronised,
    /// The server does not want to be asked, and says why: four letters of RFC 5905, 7.4.
    Kiss([u8; 4]),
    /// Its times cannot be.
    Nonsense,
}

impl Question {
    /// As it goes on the wire.
    pub fn packet(&self) -> [u8; BYTES] {
        let mut packet = [0; BYTES];
        packet[0] = FROM_CLIENT;
        packet[40..].copy_from_slice(&self.nonce.to_be_bytes());
        packet
    }

    /// What an answer says that came at the Unix time `now_ns`, by this machine's clock.
    ///
    /// # Errors
    ///
    /// [`Bad`].
    pub fn answered(&self, answer: &[u8], now_ns: u64) -> Result<Sample, Bad> {
        let packet: &[u8; BYTES] = answer.get(..BYTES).and_then(|packet| packet.try_into().ok()).ok_or(Bad::NotOurs)?;
        let word = |at: usize| u64::from_be_bytes(packet[at..at + 8].try_into().unwrap_or_default());
        if packet[0] & 7 != SERVER || word(24) != self.nonce {
            return Err(Bad::NotOurs);
        }
        let stratum = packet[1];
        if stratum == 0 {
            return Err(Bad::Kiss(packet[12..16].try_into().unwrap_or_default()));
        }
        if stratum > STRATUM_MOST || packet[0] >> 6 == UNKNOWN || word(40) == 0 {
            return Err(Bad::Unsynchronised);
        }
        let (got, sent) = (unix_ns(word(32)), unix_ns(word(40)));
        let [asked, now] = [self.sent_ns, now_ns].map(i128::from);
        let (offset, delay) = (i128::midpoint(got - asked, sent - now), (now - asked) - (sent - got));
        let [Ok(offset_ns), Ok(delay_ns)] = [i64::try_from(offset), i64::try_from(delay)] else {
            return Err(Bad::Nonsense);
        };
        if sent < got || !(0..=DELAY_MOST_NS).contains(&delay_ns) {
            return Err(Bad::Nonsense);
        }
        Ok(Sample { offset_ns, delay_ns, stratum })
    }
}

/// Unix time in nanoseconds of a time on the wire, between 1968 and 2104 (RFC 4330, 3).
fn unix_ns(wire: u64) -> i128 {
    let seconds = wire >> 32;
    let era = if seconds >> 31 == 0 { ERA } else { 0 };
    let whole = i128::from(seconds + era) - i128::from(UNTIL_1970);
    whole * 1_000_000_000 + i128::from(((wire & 0xffff_ffff) * 1_000_000_000) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const NOW: u64 = 1_700_000_000_000_000_000;
    const MS: u64 = 1_000_000;
    const QUESTION: Question = Question { nonce: 0x0123_4567_89ab_cdef, sent_ns: NOW };

    /// A time on the wire.
    fn wire(unix_ns: u64) -> u64 {
        let seconds = unix_ns / 1_000_000_000 + UNTIL_1970;
        let fraction = ((unix_ns % 1_000_000_000) << 32) / 1_000_000_000;
        seconds << 32 | fraction
    }

    fn answer(got: u64, sent: u64) -> Vec<u8> {
        let mut packet = [0; BYTES];
        (packet[0], packet[1]) = (4 << 3 | SERVER, 2);
        packet[12..16].copy_from_slice(b"RATE");
        packet[24..32].copy_from_slice(&QUESTION.nonce.to_be_bytes());
        packet[32..40].copy_from_slice(&wire(got).to_be_bytes());
        packet[40..].copy_from_slice(&wire(sent).to_be_bytes());
        packet.to_vec()
    }

    #[test]
    fn a_question_says_nothing_but_a_number_of_chance() {
        let packet = QUESTION.packet();
        assert_eq!((packet[0], &packet[40..]), (0x23, &QUESTION.nonce.to_be_bytes()[..]));
        assert!(packet[1..40].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn an_answer_says_how_wrong_the_clock_is() {
        // Ten ms there, two at the server, ten back.
        for (wrong, sign) in [(5_000 * MS, 1), (700 * MS, -1)] {
            let at = |ns: u64| if sign > 0 { ns + wrong } else { ns - wrong };
            let answer = answer(at(NOW + 10 * MS), at(NOW + 12 * MS));
            let sample = QUESTION.answered(&answer, NOW + 22 * MS).expect("a good one");
            assert!((sample.offset_ns - sign * wrong.cast_signed()).abs() <= 2, "{sample:?}");
            assert!((sample.delay_ns - 20 * MS.cast_signed()).abs() <= 2 && sample.stratum == 2, "{sample:?}");
        }
    }

    #[test]
    fn the_era_after_february_2036_is_known() {
        assert_eq!(unix_ns(wire(NOW)) / 1_000_000_000, 1_700_000_000);
        assert_eq!(unix_ns(1 << 32), (i128::from(ERA) + 1 - i128::from(UNTIL_1970)) * 1_000_000_000);
    }

    #[test]
    fn what_is_no_answer_to_this_question_is_not_believed() {
        let good = answer(NOW + MS, NOW + MS);
        let with = |at: usize, byte: u8| {
            let mut packet = good.clone();
            packet[at] = byte;
            QUESTION.answered(&packet, NOW + 2 * MS)
        };
        assert!(QUESTION.answered(&good, NOW + 2 * MS).is_ok());
        assert_eq!(QUESTION.answered(&good[..47], NOW + 2 * MS), Err(Bad::NotOurs));
        assert_eq!(QUESTION.answered(&[], NOW), Err(Bad::NotOurs));
        assert_eq!(with(0, 4 << 3 | 3), Err(Bad::NotOurs), "another client's question");
        assert_eq!(with(31, 0), Err(Bad::NotOurs), "another nonce");
        assert_eq!(with(1, 0), Err(Bad::Kiss(*b"RATE")));
        assert_eq!(with(1, 16), Err(Bad::Unsynchronised));
        assert_eq!(with(0, 0xe4), Err(Bad::Unsynchronised));
        // Sent before it was got; an answer that took less than no time; one that took two seconds.
        assert_eq!(QUESTION.answered(&answer(NOW + MS, NOW), NOW + 2 * MS), Err(Bad::Nonsense));
        assert_eq!(QUESTION.answered(&answer(NOW, NOW + 3 * MS), NOW + 2 * MS), Err(Bad::Nonsense));
        assert_eq!(QUESTION.answered(&good, NOW + 2_000 * MS), Err(Bad::Nonsense));
    }
}
