//! Text that is put together when the program is built.

/// Up to `N` bytes of it.
#[derive(Clone, Copy, Debug)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    /// The text that begins with this.
    pub const fn of(text: &[u8]) -> Text<N> {
        Text { bytes: [0; N], len: 0 }.and(text)
    }

    /// With this behind it. What does not fit is an error of the build.
    pub const fn and(mut self, text: &[u8]) -> Text<N> {
        let mut i = 0;
        while i < text.len() {
            self.bytes[self.len] = text[i];
            self.len += 1;
            i += 1;
        }
        self
    }

    /// With this number behind it.
    pub const fn and_number(mut self, number: usize) -> Text<N> {
        let mut unit = 1;
        while number / unit >= 10 {
            unit *= 10;
        }
        while unit > 0 {
            self = self.and(&[DIGITS[number / unit % 10]]);
            unit /= 10;
        }
        self
    }

    /// With this number, in hexadecimal digits, behind it.
    pub const fn and_hex(mut self, number: u32) -> Text<N> {
        let bytes = number.to_be_bytes();
        let mut i = 0;
        while i < bytes.len() {
            self = self.and(&[DIGITS[(bytes[i] >> 4) as usize], DIGITS[(bytes[i] & 15) as usize]]);
            i += 1;
        }
        self
    }

    /// The text.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

const DIGITS: [u8; 16] = *b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn put_together() {
        const TEXT: Text<64> = Text::of(b"a: ").and_number(102_400).and(b" ").and_number(0).and_hex(0x1f);
        assert_eq!(TEXT.bytes(), b"a: 102400 00000001f");
    }
}
