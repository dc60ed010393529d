//! What the boot medium has for this VM: `cargo xtask` puts it into this program, in a place that is kept for it.

use alloc::format;
use alloc::string::{String, ToString};
use core::hint::black_box;

/// Bytes of all texts together, at most.
pub const MOST: usize = 64 * 1024;

/// A text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A fleet file.
    Fleet,
    /// Commands.
    Script,
    /// A fleet file with the quotas of `system.toml` that only this VM knows.
    Quotas,
}

/// The place, as the program has it in memory. `xtask/src/fleet.rs` looks for it by its mark.
#[repr(C)]
struct Place {
    mark: [u8; 16],
    /// Bytes of each text, in little-endian.
    lengths: [[u8; 4]; 3],
    /// The texts, one behind the other.
    texts: [u8; MOST],
}

/// Nobody but `xtask` writes there, and before the program starts.
static PLACE: Place = Place { mark: *b"FORAKER-FLEET-02", lengths: [[0; 4]; 3], texts: [0; MOST] };

/// A text; `None` where there is none.
///
/// # Errors
///
/// What is wrong with it.
pub fn text(part: Part) -> Result<Option<&'static str>, String> {
    // What the compiler sees there is not what is there.
    let place = black_box(&PLACE);
    if black_box(place.mark[0]) == 0 {
        return Ok(None);
    }
    let lengths = place.lengths.map(|length| usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX));
    of(part, lengths, &place.texts)
}

fn of(part: Part, lengths: [usize; 3], texts: &[u8]) -> Result<Option<&str>, String> {
    let [fleet, script, quotas] = lengths;
    let (from, length) = match part {
        Part::Fleet => (0, fleet),
        Part::Script => (fleet, script),
        Part::Quotas => (fleet.saturating_add(script), quotas),
    };
    if length == 0 {
        return Ok(None);
    }
    let bytes = texts.get(from..from.saturating_add(length));
    let bytes = bytes.ok_or_else(|| format!("it has {length} bytes behind {from}, and {} have room", texts.len()))?;
    core::str::from_utf8(bytes).map(Some).map_err(|_| "it is no text".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_nobody_has_given_anything_has_nothing() {
        for part in [Part::Fleet, Part::Script, Part::Quotas] {
            assert_eq!(text(part), Ok(None));
        }
        let bytes = core::mem::size_of::<Place>();
        assert_eq!(
            (bytes, core::mem::offset_of!(Place, lengths), core::mem::offset_of!(Place, texts)),
            (MOST + 28, 16, 28)
        );
    }

    #[test]
    fn texts_lie_one_behind_the_other() {
        let texts = b"abcde\xff";
        assert_eq!(of(Part::Fleet, [2, 0, 3], texts), Ok(Some("ab")));
        assert_eq!(of(Part::Script, [2, 0, 3], texts), Ok(None));
        assert_eq!(of(Part::Script, [2, 1, 3], texts), Ok(Some("c")));
        assert_eq!(of(Part::Quotas, [2, 1, 2], texts), Ok(Some("de")));
        for lengths in [[2, 1, 4], [usize::MAX, usize::MAX, 1], [2, 1, 3]] {
            assert!(of(Part::Quotas, lengths, texts).is_err(), "{lengths:?}");
        }
    }
}
