//! Dates in headers (RFC 9110, section 5.6.7).

/// Bytes of a date.
pub const DATE_BYTES: usize = 29;

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// The day of the proleptic Gregorian calendar that is `days` after 1970-01-01: year, month from 0, day from 1.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years that begin in March, so that the day that leap years have more is their last (H. Hinnant, "chrono-compatible
    // low-level date algorithms").
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = year_of_era + era * 400 + u64::from(month < 2);
    (year, month, day)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` for Unix seconds; what is beyond the year 9999 is shown modulo 10,000 years.
pub fn format(unix_seconds: u64) -> [u8; DATE_BYTES] {
    let (days, seconds) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (year, month, day) = civil(days % 3_652_425);
    let digit = |value: u64| b'0' + u8::try_from(value % 10).unwrap_or(0);
    let two = |value: u64| [digit(value / 10), digit(value)];
    let pick = |table: &[&'static [u8; 3]], index: u64| {
        usize::try_from(index).ok().and_then(|index| table.get(index).copied()).unwrap_or(b"???")
    };
    let mut text = *b"___, __ ___ ____ __:__:__ GMT";
    text[0..3].copy_from_slice(pick(&DAYS, days % 7));
    text[5..7].copy_from_slice(&two(day));
    text[8..11].copy_from_slice(pick(&MONTHS, month));
    text[12..14].copy_from_slice(&two(year / 100));
    text[14..16].copy_from_slice(&two(year));
    text[17..19].copy_from_slice(&two(seconds / 3600));
    text[20..22].copy_from_slice(&two(seconds / 60 % 60));
    text[23..25].copy_from_slice(&two(seconds % 60));
    text
}

/// Days from 1970-01-01 to a day of the proleptic Gregorian calendar, which is not before: the reverse of [`civil`].
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year - u64::from(month < 2);
    let day_of_year = (153 * ((month + 10) % 12) + 2) / 5 + day - 1;
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// The Unix seconds of a date in one of the three forms that a server has to read; none for what is no date, or one before 1970.
pub fn parse(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    let comma = text.iter().position(|&byte| byte == b',');
    let (day, month, year, time) = match (comma, text) {
        // Sun, 06 Nov 1994 08:49:37 GMT
        (
            Some(3),
            [_, _, _, _, b' ', d1, d0, b' ', a, b, c, b' ', y3, y2, y1, y0, b' ', time @ .., b' ', b'G', b'M', b'T'],
        ) => (number(&[*d1, *d0])?, [*a, *b, *c], number(&[*y3, *y2, *y1, *y0])?, time),
        // Sunday, 06-Nov-94 08:49:37 GMT: of the next fifty years or the last.
        (Some(at), _) => {
            let [b' ', d1, d0, b'-', a, b, c, b'-', y1, y0, b' ', time @ .., b' ', b'G', b'M', b'T'] = &text[at + 1..]
            else {
                return None;
            };
            let year = number(&[*y1, *y0])?;
            (number(&[*d1, *d0])?, [*a, *b, *c], if year < 70 { 2000 + year } else { 1900 + year }, time)
        }
        // Sun Nov  6 08:49:37 1994
        (None, [_, _, _, b' ', a, b, c, b' ', d1, d0, b' ', time @ .., b' ', y3, y2, y1, y0]) => {
            let tens = if *d1 == b' ' { b'0' } else { *d1 };
            (number(&[tens, *d0])?, [*a, *b, *c], number(&[*y3, *y2, *y1, *y0])?, time)
        }
        _ => return None,
    };
    let &[h1, h0, b':', m1, m0, b':', s1, s0] = time else { return None };
    let (hours, minutes, seconds) = (number(&[h1, h0])?, number(&[m1, m0])?, number(&[s1, s0])?);
    let month = u64::try_from(MONTHS.iter().position(|name| **name == month)?).ok()?;
    // A leap second is taken for the next minute's first.
    let plausible = (1..=31).contains(&day) && year >= 1970 && hours < 24 && minutes < 60 && seconds <= 60;
    if !plausible {
        return None;
    }
    Some(days(year, month, day)? * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates() {
        let cases: [(u64, &[u8]); 6] = [
            (0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, b"Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, b"Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, b"Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, b"Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, b"Fri, 31 Dec 9999 23:59:59 GMT"),
        ];
        for (seconds, text) in cases {
            assert_eq!(format(seconds), text, "{seconds}");
        }
        format(u64::MAX);
    }

    #[test]
    fn all_three_forms_are_read() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            " Sun, 06 Nov 1994 08:49:37 GMT ",
        ] {
            assert_eq!(parse(text.as_bytes()), Some(784_111_777), "{text}");
        }
        assert_eq!(parse(b"Friday, 20-Nov-26 09:25:28 GMT"), parse(b"Fri, 20 Nov 2026 09:25:28 GMT"));
        for text in [
            "",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Now 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:4x:37 GMT",
            "Sun Nov 06 1994",
            "0",
            "Sun, 01 Jan 0000 00:00:00 GMT",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0u64..253_402_300_799) {
            prop_assert_eq!(parse(&format(seconds)), Some(seconds));
        }

        #[test]
        fn any_text(text in "[A-Z][a-z]{2,5},? ?[0-9A-Za-z: -]{0,26}( GMT)?") {
            let _ = parse(text.as_bytes());
        }
    }
}
