//! A server of the time (SNTP, RFC 4330) for the machine's own network: it says what the host's clock says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The port at which it answers.
pub const PORT: u16 = 123;
/// Bytes of a packet without extensions.
const BYTES: usize = 48;
/// Seconds from 1900, where the wire's time begins, to 1970.
const UNTIL_1970: u64 = 2_208_988_800;
const CLIENT: u8 = 3;
const SERVER: u8 = 4;

/// The answer to a question that came at this time; none to what is no question.
pub fn answer(question: &[u8], now: SystemTime) -> Option<[u8; BYTES]> {
    let question: &[u8; BYTES] = question.get(..BYTES)?.try_into().ok()?;
    let version = question[0] >> 3 & 7;
    if question[0] & 7 != CLIENT || !(1..=4).contains(&version) {
        return None;
    }
    let now = wire(now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)).to_be_bytes();
    let mut answer = [0; BYTES];
    // As a server whose clock is disciplined by another one, to about a microsecond.
    (answer[0], answer[1], answer[2], answer[3]) = (version << 3 | SERVER, 2, question[2], 0_u8.wrapping_sub(20));
    answer[12..16].copy_from_slice(&super::HOST.octets());
    answer[16..24].copy_from_slice(&now);
    answer[24..32].copy_from_slice(&question[40..]);
    answer[32..40].copy_from_slice(&now);
    answer[40..].copy_from_slice(&now);
    Some(answer)
}

/// 32.32 seconds since 1900; the era is not said.
fn wire(unix: Duration) -> u64 {
    let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
    unix.as_secs().wrapping_add(UNTIL_1970) << 32 | fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_with_the_time_and_what_it_was_asked_with() {
        let now = UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
        let mut question = [0; BYTES];
        question[0] = 4 << 3 | CLIENT;
        question[40..].copy_from_slice(b"whatever");
        let answer = answer(&question, now).expect("a question");
        assert_eq!((answer[0], answer[1], &answer[24..32]), (0x24, 2, &b"whatever"[..]));
        let time = (1_700_000_000 + UNTIL_1970) << 32 | 1 << 31;
        assert_eq!((&answer[32..40], &answer[40..]), (&time.to_be_bytes()[..], &time.to_be_bytes()[..]));
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        let now = SystemTime::now();
        let with = |first: u8, len: usize| {
            let mut packet = vec![0; len];
            if let Some(byte) = packet.first_mut() {
                *byte = first;
            }
            answer(&packet, now)
        };
        assert!(with(0x23, 48).is_some() && with(0x1b, 68).is_some());
        for (first, len) in [(0x24, 48), (0x23, 47), (0x2b, 48), (0x03, 48), (0, 0)] {
            assert!(with(first, len).is_none(), "{first:#x} {len}");
        }
    }
}
