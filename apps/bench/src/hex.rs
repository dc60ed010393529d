//! Numbers as sixteen digits.

/// `value` in hexadecimal.
pub fn hex(value: u64) -> [u8; 16] {
    let mut text = [0; 16];
    for (digit, nibble) in text.iter_mut().zip((0..16).rev()) {
        // Four bits.
        let value = u8::try_from(value >> (nibble * 4) & 0xf).unwrap_or(0);
        *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
    }
    text
}

/// The number in a text of hexadecimal digits.
pub fn parse_hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for value in [0, 1, 0xa, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(parse_hex(core::str::from_utf8(&hex(value)).expect("ASCII")), Some(value));
        }
        assert_eq!(hex(0x1f)[14..], *b"1f");
        assert_eq!(parse_hex("xyz"), None);
    }
}
