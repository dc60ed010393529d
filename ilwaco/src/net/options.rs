//! The options of a TCP header (RFC 9293 3.1), walked in one place.

/// Walks over options: each one's kind and what it carries. Ends where the list says so, or makes no sense.
pub(super) struct Options<'a>(&'a [u8]);

/// The options that these bytes of a header hold.
#[inline]
pub(super) fn options(bytes: &[u8]) -> Options<'_> {
    Options(bytes)
}

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        loop {
            let (&kind, rest) = self.0.split_first()?;
            match (kind, rest.first()) {
                // The end; and one byte that is nothing.
                (0, _) => return None,
                (1, _) => self.0 = rest,
                (_, Some(&len @ 2..)) => {
                    let (option, behind) = self.0.split_at_checked(usize::from(len))?;
                    self.0 = behind;
                    return Some((kind, &option[2..]));
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn what_makes_no_sense_ends_the_list() {
        let list = |bytes: &'static [u8]| options(bytes).collect::<Vec<_>>();
        assert_eq!(list(&[2, 4, 5, 0xb4, 1, 4, 2]), [(2, &[5, 0xb4][..]), (4, &[])]);
        assert_eq!(list(&[4, 2, 0, 2, 4, 1, 1]), [(4, &[][..])], "behind the end");
        assert_eq!(list(&[4, 2, 8, 10, 1]), [(4, &[][..])], "longer than the header");
        assert_eq!(list(&[4, 2, 8, 1, 4, 2]), [(4, &[][..])], "shorter than itself");
        assert_eq!(list(&[4, 2, 8]), [(4, &[][..])], "no length");
        assert_eq!(list(&[]), []);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..44)) {
            let total: usize = options(&bytes).map(|(_, value)| value.len() + 2).sum();
            prop_assert!(total <= bytes.len());
        }
    }
}
