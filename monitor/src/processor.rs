//! The state of a VM's processor on the operator's line: as bytes in hexadecimal, many to a line.

use crate::host::Host;
use abi::request_page::Piece;
use abi::vcpu::VcpuState;
use abi::vm::Slot;
use core::fmt::{Display, Formatter};

/// Where it is in the request page: behind the arguments of images.
const OFFSET: u16 = 1024;
// Less than a page.
#[allow(clippy::cast_possible_truncation)]
const BYTES: u16 = size_of::<VcpuState>() as u16;
/// Room for one of any level.
pub(crate) const ALL: Piece = Piece { offset: OFFSET, len: BYTES };
/// None of it.
pub(crate) const NONE: Piece = Piece { offset: OFFSET, len: 0 };
/// Bytes on a line.
const LINE: usize = 64;

const _: () = assert!(OFFSET as usize + BYTES as usize <= abi::request_page::BYTES);

/// Why bytes are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unloaded {
    /// Those before them have not been.
    Gap(u16),
    NotHex,
    TooLong,
}

impl Display for Unloaded {
    fn fmt(&self, f: &mut Formatter<'_>) -> core::fmt::Result {
        match self {
            Unloaded::Gap(next) => write!(f, "the bytes from {next} on come next; or begin again with 0"),
            Unloaded::NotHex => f.write_str("these are no bytes; write two hexadecimal digits for each"),
            Unloaded::TooLong => write!(f, "no state is that long; it has at most {BYTES} bytes"),
        }
    }
}

/// Prints the first `bytes` of what is there.
pub(crate) fn show(slot: Slot, bytes: u64, host: &mut impl Host) {
    let end = u16::try_from(bytes).unwrap_or(BYTES).min(BYTES);
    for at in (0..end).step_by(LINE) {
        let mut line = [0; LINE];
        // At most a line.
        let len = (end - at).min(u16::try_from(LINE).unwrap_or(0));
        let bytes = &mut line[..len.into()];
        host.read_page(Piece { offset: OFFSET + at, len }, bytes);
        host.print(format_args!("state index={slot} at={at} bytes={}", Hex(bytes)));
    }
}

/// Puts the bytes that `hex` spells at their place, behind those that are there; at 0 it begins anew. What is there now.
pub(crate) fn load(there: Piece, at: u16, hex: &[u8], host: &mut impl Host) -> Result<Piece, Unloaded> {
    if at != 0 && at != there.len {
        return Err(Unloaded::Gap(there.len));
    }
    let (pairs, rest) = hex.as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        return Err(Unloaded::NotHex);
    }
    let len = u16::try_from(pairs.len()).ok().and_then(|len| at.checked_add(len)).filter(|&end| end <= BYTES);
    let len = len.ok_or(Unloaded::TooLong)?;
    if !pairs.as_flattened().iter().all(u8::is_ascii_hexdigit) {
        return Err(Unloaded::NotHex);
    }
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
    for (&[high, low], offset) in pairs.iter().zip(OFFSET + at..) {
        host.write_page(Piece { offset, len: 1 }, &[digit(high) << 4 | digit(low)]);
    }
    Ok(Piece { offset: OFFSET, len })
}

struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
