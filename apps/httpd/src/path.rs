//! From the path of a request to the path of a file.

use crate::target::{self, Malformed};
use alloc::string::String;
use alloc::vec::Vec;

/// Bytes of a name at most, as ext4 has it.
const LONGEST_NAME: usize = 255;

/// A path in the tree: names, none of which is empty, `.` or `..`, with slashes between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The names; none for the root.
    pub bytes: Vec<u8>,
    /// It ends in a slash, so a directory is meant.
    pub is_directory: bool,
}

/// The path in the tree that a request's path means. `None`: there is nothing that it could mean. That is so of empty names and of dots, which
/// clients resolve before they ask (RFC 3986, section 5.2.4), encoded or not, and of an encoded slash, which divides nothing.
///
/// # Errors
/// A percent sign without two hexadecimal digits behind it.
pub fn of(path: &str) -> Result<Option<Path>, Malformed> {
    let Some(names) = path.strip_prefix('/') else { return Ok(None) };
    let (names, is_directory) = match names.strip_suffix('/') {
        Some(names) => (names, true),
        None => (names, names.is_empty()),
    };
    let mut bytes = Vec::with_capacity(path.len());
    // The root has no names; `//` has an empty one.
    if path == "/" {
        return Ok(Some(Path { bytes, is_directory: true }));
    }
    let mut names_something = true;
    for name in names.split('/') {
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        let start = bytes.len();
        target::decode_onto(name, &mut bytes)?;
        let name = &bytes[start..];
        let is_name = !matches!(name, b"" | b"." | b"..") && name.len() <= LONGEST_NAME;
        names_something &= is_name && !name.contains(&b'/') && !name.contains(&0);
    }
    Ok(names_something.then_some(Path { bytes, is_directory }))
}

impl Path {
    /// Where a directory is, for a client that has left its slash out. `query`: what stood behind the path, with its question mark.
    pub fn location(&self, query: &str) -> String {
        let mut location = String::from("/");
        for &byte in &self.bytes {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
                location.push(char::from(byte));
            } else {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                location.push('%');
                location.push(char::from(DIGITS[usize::from(byte >> 4)]));
                location.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
        location.push('/');
        location.push_str(query);
        location
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;

    fn names(path: &str) -> Option<String> {
        let path = of(path).expect("good")?;
        Some(format!("{}{}", String::from_utf8_lossy(&path.bytes), if path.is_directory { " (directory)" } else { "" }))
    }

    #[test]
    fn paths() {
        for (path, meant) in [
            ("/", " (directory)"),
            ("/a", "a"),
            ("/a/", "a (directory)"),
            ("/a/b.html", "a/b.html"),
            ("/a%20b", "a b"),
            ("/m%C3%BCsli", "m\u{fc}sli"),
            ("/m\u{fc}sli", "m\u{fc}sli"),
            ("/...", "..."),
            ("/.hidden", ".hidden"),
        ] {
            assert_eq!(names(path).as_deref(), Some(meant), "{path}");
        }
    }

    #[test]
    fn what_means_nothing() {
        for path in [
            "",
            "a",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/../a",
            "/a/../b",
            "/a/.",
            "/%2e%2e/a",
            "/a/%2E./b",
            "/.%2e",
            "/a%2fb",
            "/%2f",
            "/a%00",
        ] {
            assert_eq!(names(path), None, "{path}");
        }
        assert_eq!(names(&format!("/{}", "n".repeat(256))), None);
        for bad in ["/%", "/%1", "/a/%zz"] {
            assert_eq!(of(bad), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn locations() {
        let location = |path: &str| of(path).expect("good").expect("something").location("?a=b");
        assert_eq!(location("/a"), "/a/?a=b");
        assert_eq!(location("/a b/m%c3%bc%0d%0aX:"), "/a%20b/m%C3%BC%0D%0AX%3A/?a=b");
    }

    proptest! {
        #[test]
        fn any_path(path in "[/.%a2fF]{0,12}|\\PC{0,20}") {
            if let Ok(Some(meant)) = of(&path) {
                let location = meant.location("");
                prop_assert!(location.starts_with('/') && location.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(location == "//" || !location.starts_with("//"), "{}", location);
                let steps: Vec<&[u8]> = meant.bytes.split(|&byte| byte == b'/').collect();
                prop_assert!(!steps.contains(&&b".."[..]) && !steps.contains(&&b"."[..]));
            }
        }
    }
}
