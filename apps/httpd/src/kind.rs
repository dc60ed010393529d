//! Types of content, by the ends of names.

/// What nobody knows more of.
const UNKNOWN: &str = "application/octet-stream";

/// The ends of names, in small letters, and what they mean (the registry of media types; text is taken to be UTF-8).
const KINDS: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("webmanifest", "application/manifest+json"),
    ("xml", "application/xml"),
    ("rss", "application/rss+xml"),
    ("atom", "application/atom+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("log", "text/plain; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("ico", "image/vnd.microsoft.icon"),
    ("bmp", "image/bmp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("ttf", "font/ttf"),
    ("otf", "font/otf"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("ogv", "video/ogg"),
    ("mp3", "audio/mpeg"),
    ("m4a", "audio/mp4"),
    ("ogg", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("flac", "audio/flac"),
    ("wav", "audio/wav"),
    ("pdf", "application/pdf"),
    ("wasm", "application/wasm"),
    ("zip", "application/zip"),
    ("gz", "application/gzip"),
    ("tar", "application/x-tar"),
];

/// The type of a file's content, by the end of its path.
pub fn of(path: &[u8]) -> &'static str {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    let Some(dot) = name.iter().rposition(|&byte| byte == b'.') else { return UNKNOWN };
    let end = &name[dot + 1..];
    KINDS.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(end)).map_or(UNKNOWN, |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (path, kind) in [
            (&b"index.html"[..], "text/html; charset=utf-8"),
            (b"a.b/photo.JPG", "image/jpeg"),
            (b"app.min.js", "text/javascript; charset=utf-8"),
            (b"x.wasm", "application/wasm"),
            (b"html", UNKNOWN),
            (b"a.html/README", UNKNOWN),
            (b"a.", UNKNOWN),
            (b"a.exe", UNKNOWN),
        ] {
            assert_eq!(of(path), kind, "{path:?}");
        }
    }

    #[test]
    fn each_end_stands_there_once_and_in_small_letters() {
        for (index, (end, _)) in KINDS.iter().enumerate() {
            assert!(end.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{end}");
            assert!(!KINDS[..index].iter().any(|(other, _)| other == end), "{end}");
        }
    }
}
