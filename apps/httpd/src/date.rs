//! The `Date` of a response (RFC 9110, section 5.6.7).

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
