//! The page for people: the VM's figures, which a script keeps up to date.

use crate::status::StatusPage;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// Headers of the page: nothing in it comes from elsewhere, and it is another one each time.
pub const HEADERS: &str = "\r\nCache-Control: no-store\
    \r\nContent-Security-Policy: default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\
    \r\nX-Content-Type-Options: nosniff";

/// The page, with names in double braces where figures belong.
const TEMPLATE: &str = include_str!("../site/index.html");
/// Bytes that the figures may take without the page having to move.
const FIGURES: usize = 128;

/// Bytes that the page takes at most.
pub const MOST_BYTES: usize = TEMPLATE.len() + FIGURES;

/// Text collects here.
struct Page(Vec<u8>);

impl Write for Page {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// The page of a VM in this state.
pub fn render(status: &StatusPage) -> Vec<u8> {
    let mut page = Page(Vec::with_capacity(TEMPLATE.len() + FIGURES));
    let mut rest = TEMPLATE;
    while let Some((text, (name, behind))) =
        rest.split_once("{{").and_then(|(text, behind)| Some((text, behind.split_once("}}")?)))
    {
        // Writing to a `Page` does not fail.
        let _ = page.write_str(text).and_then(|()| figure(&mut page, name, status));
        rest = behind;
    }
    let _ = page.write_str(rest);
    page.0
}

fn figure(to: &mut Page, name: &str, status: &StatusPage) -> fmt::Result {
    match name {
        "vm" => write!(to, "{}", status.vm),
        "requests" => count(to, status.requests),
        "uptime" => time(to, status.uptime.as_secs()),
        "connections" => write!(to, "{}", status.open),
        "received" => bytes(to, status.counter("nic_rx_bytes")),
        "sent" => bytes(to, status.counter("nic_tx_bytes")),
        "heap" => bytes(to, u64::try_from(status.heap_used_bytes).unwrap_or(u64::MAX)),
        "memory" => bytes(to, status.memory_bytes),
        _ => Ok(()),
    }
}

/// A number with commas between its thousands.
fn count(to: &mut impl Write, number: u64) -> fmt::Result {
    if number < 1000 {
        return write!(to, "{number}");
    }
    count(to, number / 1000)?;
    write!(to, ",{:03}", number % 1000)
}

/// A number of bytes in the largest unit of which it has one.
fn bytes(to: &mut impl Write, number: u64) -> fmt::Result {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut tenths = number.saturating_mul(10);
    let mut unit = 0;
    while tenths >= 10_240 && unit < UNITS.len() - 1 {
        tenths /= 1024;
        unit += 1;
    }
    match (unit, tenths / 10) {
        (0, whole) => write!(to, "{whole} B"),
        (_, whole @ 100..) => write!(to, "{whole} {}", UNITS[unit]),
        (_, whole) => write!(to, "{whole}.{} {}", tenths % 10, UNITS[unit]),
    }
}

/// A time in its two largest units.
fn time(to: &mut impl Write, seconds: u64) -> fmt::Result {
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let first = parts.iter().position(|(number, _)| *number > 0).unwrap_or(parts.len() - 1);
    for (index, (number, unit)) in parts.iter().enumerate().skip(first).take(2) {
        write!(to, "{}{number} {unit}", if index > first { " " } else { "" })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use std::string::String;

    #[test]
    fn every_place_is_filled() {
        let status = StatusPage {
            vm: 7,
            requests: 1_234_567,
            uptime: Duration::from_secs(3_700),
            memory_bytes: 16 << 20,
            heap_used_bytes: 5_000,
            open: 3,
            ..StatusPage::default()
        };
        let page = String::from_utf8(render(&status)).expect("text");
        assert!(!page.contains("{{") && !page.contains("}}"), "{page}");
        for text in [
            "<h1>VM 7</h1>",
            "<title>Foraker VM 7</title>",
            ">1,234,567<",
            ">1 h 1 min<",
            ">4.8 KiB of 16.0 MiB<",
            "\"connections\">3<",
        ] {
            assert!(page.contains(text), "{text} is not in {page}");
        }
        assert!(page.len() <= TEMPLATE.len() + FIGURES);
    }

    #[test]
    fn units() {
        let text = |write: &dyn Fn(&mut String) -> fmt::Result| {
            let mut text = String::new();
            write(&mut text).expect("a String takes everything");
            text
        };
        for (number, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (150 << 10, "150 KiB"),
            (u64::MAX, "1677721 TiB"),
        ] {
            assert_eq!(text(&|to| bytes(to, number)), shown);
        }
        for (seconds, shown) in [(0, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (90_000, "1 d 1 h"), (86_400, "1 d 0 h")]
        {
            assert_eq!(text(&|to| time(to, seconds)), shown);
        }
        assert_eq!(text(&|to| count(to, 1_002_003)), "1,002,003");
    }
}
