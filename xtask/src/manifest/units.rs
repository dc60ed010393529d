//! Values with a unit, as they stand in the manifest: `16MiB`, `20ms`, `02:00`.

use abi::pci::{ANY_SUBCLASS, is_of_class};
use serde::Deserialize;

/// A number of bytes: `512KiB`, `16MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Bytes(pub u64);

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit: u64 = match &text[split..] {
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "B" => 1,
            _ => {
                return Err(format!(
                    "\"{text}\" is no size: write a whole number with B, KiB, MiB or GiB, as in \"16MiB\""
                ));
            }
        };
        let number = text[..split].parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        number.map(Bytes).ok_or_else(|| {
            format!("\"{text}\" is no size: write a whole number with B, KiB, MiB or GiB, as in \"16MiB\"")
        })
    }
}

/// A time in microseconds: `500us`, `20ms`, `1s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Micros(pub u64);

impl TryFrom<String> for Micros {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        micros(&text).map(Micros)
    }
}

/// The time in `text` in microseconds.
pub fn micros(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match &text[split..] {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        _ => 0,
    };
    let number = text[..split].parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match number {
        Some(number) if unit != 0 => Ok(number),
        _ => Err(format!("\"{text}\" is no time: write a whole number with us, ms or s, as in \"20ms\"")),
    }
}

/// A PCI class and subclass: `02:00`, or every subclass: `01:*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PciClass(pub u32);

impl TryFrom<String> for PciClass {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hex = |part: &str| if part.len() == 2 { u32::from_str_radix(part, 16).ok() } else { None };
        let sub = |part: &str| if part == "*" { Some(ANY_SUBCLASS) } else { hex(part) };
        match text.split_once(':').map(|(class, rest)| (hex(class), sub(rest))) {
            Some((Some(class), Some(sub))) => Ok(PciClass(class << 8 | sub)),
            _ => Err(format!("\"{text}\" is no PCI class: write class and subclass in hexadecimal, as in \"02:00\"")),
        }
    }
}

impl PciClass {
    /// Whether there can be a device of both.
    pub fn overlaps(self, other: PciClass) -> bool {
        is_of_class(self.0 << 8, other.0) || is_of_class(other.0 << 8, self.0)
    }
}

impl std::fmt::Display for PciClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 & 0xff {
            ANY_SUBCLASS => write!(f, "{:02x}:*", self.0 >> 8),
            sub => write!(f, "{:02x}:{sub:02x}", self.0 >> 8),
        }
    }
}
