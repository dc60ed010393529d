//! Where a request goes: hosts and paths (RFC 9110, section 4; RFC 3986).

use alloc::vec::Vec;

/// Bytes of the longest path that names a document, at least.
const LONGEST: usize = 32;

/// The target of a request is no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The path in a request's target: of `/path?query`, or of `http://host/path?query` (RFC 9112, section 3.2.2); empty for a target
/// that is no path.
///
/// # Errors
/// The target names a host that is none.
pub fn path_of(target: &str) -> Result<&str, Malformed> {
    let path = match target.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("http://") => {
            let rest = &target[7..];
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let host = &rest.as_bytes()[..end];
            if host.is_empty() || !is_host(host) {
                return Err(Malformed);
            }
            if rest[end..].starts_with('/') { &rest[end..] } else { "/" }
        }
        _ => target,
    };
    // Byte for byte: paths are short, and a search that is made for long texts takes longer to begin.
    let path = path.bytes().position(|byte| byte == b'?').map_or(path, |end| &path[..end]);
    Ok(if path.starts_with('/') { path } else { "" })
}

/// True for a host with or without a port, and for nothing at all, which the `Host` of a target without a host is.
#[inline]
pub fn is_host(text: &[u8]) -> bool {
    text.iter().all(|byte| IN_NAMES[usize::from(*byte)]) || is_rare_host(text)
}

/// As [`is_host`], of what has more than the usual bytes.
fn is_rare_host(text: &[u8]) -> bool {
    let (name, port) = match text {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else { return false };
            let (address, port) = (&rest[..end], &rest[end + 1..]);
            // IPv6, with IPv4 in its end or not. Which digits stand where does not matter to anybody here.
            let is_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if !address.contains(&b':') || !address.iter().all(is_address) {
                return false;
            }
            return port.is_empty() || port.strip_prefix(b":").is_some_and(is_port);
        }
        _ => match text.iter().position(|&byte| byte == b':') {
            Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
            None => (text, None),
        },
    };
    match port {
        Some(port) => !name.is_empty() && is_name(name) && is_port(port),
        None => is_name(name),
    }
}

fn is_port(text: &[u8]) -> bool {
    let number = text.iter().fold(0_u32, |sum, &digit| (sum * 10 + u32::from(digit.wrapping_sub(b'0'))).min(65_536));
    text.iter().all(u8::is_ascii_digit) && number <= 65_535
}

/// What nearly all names are made of.
static IN_NAMES: [bool; 256] = {
    let mut plain = [false; 256];
    let (mut byte, mut index) = (0_u8, 0);
    while index < plain.len() {
        plain[index] = byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        byte = byte.wrapping_add(1);
        index += 1;
    }
    plain
};

/// A registered name: RFC 3986, section 3.2.2.
fn is_name(text: &[u8]) -> bool {
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = match byte {
            _ if IN_NAMES[usize::from(*byte)] => tail,
            b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => tail,
            b'%' => match tail {
                [high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
                _ => return false,
            },
            _ => return false,
        };
    }
    true
}

/// A path without percent-encodings.
pub struct Decoded {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Decoded {
    /// The path; empty for one that names no document whatever it is: too long, or with an encoded slash, which divides
    /// nothing.
    pub fn path(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("")
    }
}

/// Resolves the percent-encodings of a path.
///
/// # Errors
/// A percent sign without two hexadecimal digits behind it.
pub fn decode(path: &str) -> Result<Decoded, Malformed> {
    let mut decoded = Decoded { bytes: [0; LONGEST], len: 0 };
    let mut names_something = true;
    let mut rest = path.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let mut byte = *byte;
        if byte == b'%' {
            let [high, low, tail @ ..] = tail else { return Err(Malformed) };
            byte = digit(*high)? << 4 | digit(*low)?;
            rest = tail;
            names_something &= byte != b'/';
        }
        match decoded.bytes.get_mut(decoded.len) {
            Some(place) => *place = byte,
            None => names_something = false,
        }
        decoded.len = LONGEST.min(decoded.len + 1);
    }
    if !names_something {
        decoded.len = 0;
    }
    Ok(decoded)
}

/// Appends a name without its percent-encodings.
///
/// # Errors
/// As [`decode`].
pub fn decode_onto(name: &str, to: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut rest = name.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let mut byte = *byte;
        if byte == b'%' {
            let [high, low, tail @ ..] = tail else { return Err(Malformed) };
            byte = digit(*high)? << 4 | digit(*low)?;
            rest = tail;
        }
        to.push(byte);
    }
    Ok(())
}

fn digit(byte: u8) -> Result<u8, Malformed> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::string::String;

    #[test]
    fn targets() {
        assert_eq!(path_of("/a?b=c?d"), Ok("/a"));
        assert_eq!(path_of("http://host:80/a/b?c"), Ok("/a/b"));
        assert_eq!(path_of("HTTP://host"), Ok("/"));
        assert_eq!(path_of("http://host?query/x"), Ok("/"));
        assert_eq!(path_of("*"), Ok(""));
        assert_eq!(path_of("host:443"), Ok(""));
        assert_eq!(path_of("http:///a"), Err(Malformed));
        assert_eq!(path_of("http://user@host/a"), Err(Malformed));
    }

    #[test]
    fn hosts() {
        for host in [
            "",
            "a",
            "10.0.2.16",
            "10.0.2.16:80",
            "Foraker.example.",
            "a_b-c.d",
            "[::1]",
            "[fe80::1]:8080",
            "a:",
            "%41",
            "a~!$&'()*+,;=",
        ] {
            assert!(is_host(host.as_bytes()), "{host:?}");
        }
        for host in [
            ":80",
            "a b",
            "a/b",
            "a@b",
            "a:b",
            "a:1:2",
            "a:65536",
            "a:99999999999",
            "[::1",
            "[]",
            "[1]",
            "[::1]80",
            "[::g]",
            "::1",
            "%4",
            "%zz",
            "http://a",
            "a\\b",
            "a\"",
            "a#b",
            "a?b",
            "\u{e9}",
            "<a>",
        ] {
            assert!(!is_host(host.as_bytes()), "{host:?}");
        }
    }

    #[test]
    fn percent_encodings() {
        let path = |text: &str| decode(text).map(|decoded| String::from(decoded.path()));
        assert_eq!(path("/%31%30%30b"), Ok("/100b".into()));
        assert_eq!(path("/100%62"), Ok("/100b".into()));
        assert_eq!(path("/%7e"), Ok("/~".into()));
        assert_eq!(path("%2f100b"), Ok("".into()), "no division");
        assert_eq!(path("/%ff"), Ok("".into()), "no text");
        assert_eq!(path(&"/".repeat(33)), Ok("".into()));
        for bad in ["/%", "/%1", "/%zz", "/%1g", "/a%", "/%%31"] {
            assert_eq!(path(bad), Err(Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in "[ -.0-~]{0,10}") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let decoded = decode(&encoded).expect("good");
            prop_assert_eq!(decoded.path(), text);
        }

        #[test]
        fn any_text(text in "\\PC{0,40}") {
            let _ = decode(&text);
            let _ = is_host(text.as_bytes());
            if let Ok(path) = path_of(&text) {
                prop_assert!(path.is_empty() || path.starts_with('/'));
            }
        }
    }
}
