//! Numbers and strings as they are sent (RFC 4251, 5). Whatever is read is checked against what is there.

use alloc::vec::Vec;

/// Reads what somebody sent, from front to back. `None`: it does not go on like that.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    /// Any number but 0 is true.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        self.byte().map(|byte| byte != 0)
    }

    pub(crate) fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?))
    }

    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        self.bytes(len)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        core::str::from_utf8(self.string()?).ok()
    }

    /// What is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// A message that is being put together.
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    pub(crate) fn new(number: u8) -> Message {
        Message(Vec::from([number]))
    }

    pub(crate) fn byte(mut self, byte: u8) -> Message {
        self.0.push(byte);
        self
    }

    pub(crate) fn flag(self, flag: bool) -> Message {
        self.byte(flag.into())
    }

    pub(crate) fn number(mut self, number: u32) -> Message {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(crate) fn string(mut self, bytes: impl AsRef<[u8]>) -> Message {
        put_string(&mut self.0, bytes.as_ref());
        self
    }
}

/// A string with its length. What is sent here is far shorter than 4 GiB.
pub(crate) fn put_string(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend(bytes);
}

/// A number that is not negative, as RFC 4251 writes such of any length: without zeros in front, but for one where the first bit is set.
pub(crate) fn put_mpint(to: &mut Vec<u8>, number: &[u8]) {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let digits = number.get(start..).unwrap_or_default();
    let zero = digits.first().is_some_and(|byte| byte & 0x80 != 0);
    to.extend(u32::try_from(digits.len() + usize::from(zero)).unwrap_or(u32::MAX).to_be_bytes());
    if zero {
        to.push(0);
    }
    to.extend(digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_shorter_than_it_says_is_refused() {
        assert_eq!(Reader::new(&[0, 0, 0, 3, 1, 2]).string(), None);
        assert_eq!(Reader::new(&[255, 255, 255, 255, 1]).string(), None);
        assert_eq!(Reader::new(&[0, 0, 1]).number(), None);
        let mut reader = Reader::new(&[0, 0, 0, 2, 1, 2, 9]);
        assert_eq!((reader.string(), reader.flag(), reader.byte()), (Some(&[1, 2][..]), Some(true), None));
    }

    /// The examples of RFC 4251, 5.
    #[test]
    fn numbers_of_any_length() {
        let put = |number: &[u8]| {
            let mut bytes = Vec::new();
            put_mpint(&mut bytes, number);
            bytes
        };
        assert_eq!(put(&[0, 0]), [0, 0, 0, 0]);
        assert_eq!(put(&[0x09, 0xa3, 0x78]), [0, 0, 0, 3, 0x09, 0xa3, 0x78]);
        assert_eq!(put(&[0, 0x80]), [0, 0, 0, 2, 0, 0x80]);
    }
}
