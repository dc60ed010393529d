//! Conditional and partial requests (RFC 9110, sections 13 and 14), for documents that are only read.

use crate::date;

/// A header that is a list, and may have several lines (RFC 9110, section 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines<'a> {
    name: &'static str,
    first: &'a [u8],
    /// What stands behind the first of its lines, up to the end of the head.
    behind: &'a [u8],
}

impl<'a> Lines<'a> {
    /// The lines of the header `name`, of which the first one has this value, and all others stand in `behind`.
    pub fn new(name: &'static str, first: &'a [u8], behind: &'a [u8]) -> Lines<'a> {
        Lines { name, first, behind }
    }

    /// The values of its lines.
    fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let others = self.behind.split(|&byte| byte == b'\n').filter_map(move |line| {
            let at = line.iter().position(|&byte| byte == b':')?;
            line[..at].eq_ignore_ascii_case(self.name.as_bytes()).then_some(&line[at + 1..])
        });
        core::iter::once(self.first).chain(others).map(<[u8]>::trim_ascii)
    }
}

/// The headers of a request that make it conditional or partial; one that is no list and given twice is as good as not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions<'a> {
    /// The document must be one of these.
    pub if_match: Option<Lines<'a>>,
    /// The document must be none of these: the client has them.
    pub if_none_match: Option<Lines<'a>>,
    /// The document must have changed since.
    pub if_modified_since: Option<&'a [u8]>,
    /// The document must not have changed since.
    pub if_unmodified_since: Option<&'a [u8]>,
    /// A part is of use only while the document is this one.
    pub if_range: Option<&'a [u8]>,
    /// The part that is wanted.
    pub range: Option<&'a [u8]>,
}

/// What the conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole document.
    Whole,
    /// The bytes from the first number up to, but without, the second.
    Part(usize, usize),
    /// The client has it already.
    NotModified,
    /// It is not as the client wants it.
    Failed,
    /// It has no such part.
    OutOfRange,
}

impl Conditions<'_> {
    /// Judges them, for a document that is another one each time, and has neither a tag nor a date: there is one, and nobody can
    /// have it (RFC 9110, section 13.1).
    pub fn judge_fleeting(&self) -> Verdict {
        match self {
            Conditions { if_match: Some(list), .. } if !lists(*list, None, true) => Verdict::Failed,
            Conditions { if_none_match: Some(list), .. } if lists(*list, None, false) => Verdict::NotModified,
            _ => Verdict::Whole,
        }
    }

    /// Judges them, for a document of `len` bytes with this entity tag (quoted, strong) that was changed last at this time.
    pub fn judge(&self, etag: &str, changed: u64, len: usize) -> Verdict {
        let etag = etag.as_bytes();
        // The order is that of RFC 9110, section 13.2.2.
        if let Some(list) = self.if_match {
            if !lists(list, Some(etag), true) {
                return Verdict::Failed;
            }
        } else if let Some(since) = self.if_unmodified_since.and_then(date::parse)
            && changed > since
        {
            return Verdict::Failed;
        }
        if let Some(list) = self.if_none_match {
            if lists(list, Some(etag), false) {
                return Verdict::NotModified;
            }
        } else if let Some(since) = self.if_modified_since.and_then(date::parse)
            && changed <= since
        {
            return Verdict::NotModified;
        }
        match self.range {
            Some(range) if self.if_range.is_none_or(|tag| tag == etag || date::parse(tag) == Some(changed)) => {
                part(range, len)
            }
            _ => Verdict::Whole,
        }
    }
}

/// True when a list of entity tags has `etag`, or is a star.
fn lists(list: Lines<'_>, etag: Option<&[u8]>, strong: bool) -> bool {
    list.iter().any(|line| line == b"*" || etag.is_some_and(|etag| has_tag(line, etag, strong)))
}

fn has_tag(list: &[u8], etag: &[u8], strong: bool) -> bool {
    let mut rest = list;
    loop {
        rest = rest.trim_ascii_start();
        while let [b',', tail @ ..] = rest {
            rest = tail.trim_ascii_start();
        }
        let (weak, tag) = match rest.strip_prefix(b"W/") {
            Some(tag) => (true, tag),
            None => (false, rest),
        };
        // Inside of its quotes a tag may have commas. What is no tag ends the list.
        let [b'"', inner @ ..] = tag else { return false };
        let Some(end) = inner.iter().position(|&byte| byte == b'"') else { return false };
        if tag[..end + 2] == *etag && !(weak && strong) {
            return true;
        }
        rest = &tag[end + 2..];
    }
}

/// The part of `len` bytes that a `Range` asks for. Several parts, and units that are not bytes, are not served: the client gets
/// everything.
fn part(range: &[u8], len: usize) -> Verdict {
    let Some(at) = range.iter().position(|&byte| byte == b'=') else { return Verdict::Whole };
    let unit = range[..at].trim_ascii();
    // Empty items of a list are none (RFC 9110, section 5.6.1.2).
    let mut set = range[at + 1..].split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty());
    let (Some(set), None) = (set.next(), set.next()) else { return Verdict::Whole };
    let Some(dash) = set.iter().position(|&byte| byte == b'-') else { return Verdict::Whole };
    let (first, last) = (&set[..dash], &set[dash + 1..]);
    if !unit.eq_ignore_ascii_case(b"bytes") || ![first, last].iter().all(|text| text.iter().all(u8::is_ascii_digit)) {
        return Verdict::Whole;
    }
    let number = |text: &[u8]| {
        text.iter().fold(0_usize, |sum, &digit| sum.saturating_mul(10).saturating_add(usize::from(digit - b'0')))
    };
    let (start, end) = match (first, last) {
        ([], []) => return Verdict::Whole,
        ([], last) => (len - len.min(number(last)), len),
        (first, []) => (number(first), len),
        (first, last) if number(first) > number(last) => return Verdict::Whole,
        (first, last) => (number(first), len.min(number(last).saturating_add(1))),
    };
    if start < end { Verdict::Part(start, end) } else { Verdict::OutOfRange }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;

    const TAG: &str = "\"abc\"";
    /// Sun, 06 Nov 1994 08:49:37 GMT
    const CHANGED: u64 = 784_111_777;

    fn judge(conditions: Conditions) -> Verdict {
        conditions.judge(TAG, CHANGED, 100)
    }

    #[test]
    fn entity_tags() {
        for (list, none_match, matches) in [
            ("\"abc\"", Verdict::NotModified, Verdict::Whole),
            ("W/\"abc\"", Verdict::NotModified, Verdict::Failed),
            ("\"x\", \"a,b\" ,W/\"y\",\"abc\"", Verdict::NotModified, Verdict::Whole),
            (" * ", Verdict::NotModified, Verdict::Whole),
            ("\"abcd\"", Verdict::Whole, Verdict::Failed),
            ("abc", Verdict::Whole, Verdict::Failed),
            ("\"abc", Verdict::Whole, Verdict::Failed),
            (",,", Verdict::Whole, Verdict::Failed),
            ("", Verdict::Whole, Verdict::Failed),
        ] {
            let list = Some(Lines::new("", list.as_bytes(), b""));
            assert_eq!(judge(Conditions { if_none_match: list, ..Conditions::default() }), none_match, "{list:?}");
            assert_eq!(judge(Conditions { if_match: list, ..Conditions::default() }), matches, "{list:?}");
        }
    }

    #[test]
    fn a_list_has_several_lines() {
        let behind = b"\r\nHost: vm\r\nIf-None-Match:W/\"b\" , \"abc\"\r\nIf-None-Matches: \"c\"\r\n\r\n";
        let list = |name| Some(Lines::new(name, b"\"a\"", behind));
        let of = |name| judge(Conditions { if_none_match: list(name), ..Conditions::default() });
        assert_eq!((of("if-none-match"), of("if-match")), (Verdict::NotModified, Verdict::Whole));
        assert_eq!(judge(Conditions { if_match: list("if-none-match"), ..Conditions::default() }), Verdict::Whole);
    }

    #[test]
    fn what_is_another_one_each_time_is_there_and_nobody_has_it() {
        let judge = |conditions: Conditions| conditions.judge_fleeting();
        let (star, tag) = (Some(Lines::new("", b"*", b"")), Some(Lines::new("", b"\"abc\"", b"")));
        let date = Some(b"Sun, 06 Nov 1994 08:49:37 GMT".as_slice());
        for (conditions, verdict) in [
            (Conditions { if_match: star, ..Conditions::default() }, Verdict::Whole),
            (Conditions { if_match: tag, ..Conditions::default() }, Verdict::Failed),
            (Conditions { if_none_match: star, ..Conditions::default() }, Verdict::NotModified),
            (Conditions { if_none_match: tag, ..Conditions::default() }, Verdict::Whole),
            (Conditions { if_match: tag, if_none_match: star, ..Conditions::default() }, Verdict::Failed),
            (Conditions { if_modified_since: date, ..Conditions::default() }, Verdict::Whole),
            (Conditions { if_unmodified_since: date, ..Conditions::default() }, Verdict::Whole),
            (Conditions { range: Some(b"bytes=0-0"), ..Conditions::default() }, Verdict::Whole),
        ] {
            assert_eq!(judge(conditions), verdict, "{conditions:?}");
        }
    }

    #[test]
    fn dates() {
        for (date, modified, unmodified) in [
            ("Sun, 06 Nov 1994 08:49:36 GMT", Verdict::Whole, Verdict::Failed),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Verdict::NotModified, Verdict::Whole),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Verdict::NotModified, Verdict::Whole),
            ("Sun Nov  6 08:49:38 1994", Verdict::NotModified, Verdict::Whole),
            ("yesterday", Verdict::Whole, Verdict::Whole),
        ] {
            let date = Some(date.as_bytes());
            assert_eq!(judge(Conditions { if_modified_since: date, ..Conditions::default() }), modified, "{date:?}");
            assert_eq!(
                judge(Conditions { if_unmodified_since: date, ..Conditions::default() }),
                unmodified,
                "{date:?}"
            );
        }
        let both = Conditions {
            if_none_match: Some(Lines::new("", b"\"other\"", b"")),
            if_modified_since: Some(b"Sun, 06 Nov 1994 08:49:37 GMT"),
            ..Conditions::default()
        };
        assert_eq!(judge(both), Verdict::Whole, "a tag says more than a date");
    }

    #[test]
    fn parts() {
        for (range, verdict) in [
            ("bytes=0-0", Verdict::Part(0, 1)),
            ("bytes=0-99", Verdict::Part(0, 100)),
            ("Bytes = 10-", Verdict::Part(10, 100)),
            ("bytes=90-1000000000000000000000000", Verdict::Part(90, 100)),
            ("bytes=-7", Verdict::Part(93, 100)),
            ("bytes=-700", Verdict::Part(0, 100)),
            ("bytes=100-", Verdict::OutOfRange),
            ("bytes=99999999999999999999999-", Verdict::OutOfRange),
            ("bytes=-0", Verdict::OutOfRange),
            ("bytes=5-4", Verdict::Whole),
            ("bytes=-", Verdict::Whole),
            ("bytes=0-1,3-4", Verdict::Whole),
            ("bytes= , 0-0 ,,", Verdict::Part(0, 1)),
            ("bytes=,", Verdict::Whole),
            ("bytes=a-b", Verdict::Whole),
            ("bytes=+1-2", Verdict::Whole),
            ("lines=1-2", Verdict::Whole),
            ("bytes", Verdict::Whole),
            ("", Verdict::Whole),
        ] {
            assert_eq!(
                judge(Conditions { range: Some(range.as_bytes()), ..Conditions::default() }),
                verdict,
                "{range}"
            );
        }
    }

    #[test]
    fn parts_of_the_same_document_only() {
        for (tag, verdict) in [
            ("\"abc\"", Verdict::Part(0, 1)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Verdict::Part(0, 1)),
            ("W/\"abc\"", Verdict::Whole),
            ("\"other\"", Verdict::Whole),
            ("Sun, 06 Nov 1994 08:49:38 GMT", Verdict::Whole),
        ] {
            let conditions =
                Conditions { range: Some(b"bytes=0-0"), if_range: Some(tag.as_bytes()), ..Conditions::default() };
            assert_eq!(judge(conditions), verdict, "{tag}");
        }
    }

    proptest! {
        #[test]
        fn any_headers(a in "\\PC{0,30}", b in "(W/)?\"?[a-c,\" ]{0,12}\"?", c in "bytes=[0-9]{0,4}-?[0-9]{0,4}") {
            let fields = [a.as_bytes(), b.as_bytes(), c.as_bytes()].map(Some);
            let [first, second] = [fields[0], fields[1]].map(|field| field.map(|field| Lines::new("a", field, field)));
            let conditions = Conditions { if_none_match: second, range: fields[2], if_range: fields[0], ..Conditions::default() };
            let _ = judge(conditions);
            let conditions = Conditions { if_match: first, range: fields[2], ..Conditions::default() };
            let _ = judge(conditions);
            if let Verdict::Part(start, end) = judge(Conditions { range: fields[2], ..Conditions::default() }) {
                prop_assert!(start < end && end <= 100, "{}", format!("{start}-{end}"));
            }
        }
    }
}
