//! The words of `create` that say what the VM gets of what it shares with others, what memory it may claim, whose it is, and which virtual disk it
//! has: `weight=`, `rate=`, `burst=`, `reserve=`, `limit=`, `tenant=`, `disk=`.

use crate::arguments::Arguments;
use crate::mistake::Mistake;
use abi::attachment::{self, Attachment};
use abi::claim::RESERVE_LEAST;
use abi::limits::PAGE_SIZE;
use abi::share::{BURST_MIN, UNLIMITED, WEIGHT_MAX};
use abi::tenant::{NAME_MAX, Tenant};
use abi::terms::Terms;

/// What each word takes, for messages.
const WEIGHT: &str = "weight=N with N from 1 to 10000";
const RATE: &str = "rate=N with N bytes a second (KiB, MiB, GiB may follow), from 1 to 4 GiB, or rate=unlimited";
const BURST: &str = "burst=N with N bytes (KiB, MiB, GiB may follow), from 1514, one frame, to 4 GiB";
const RESERVE: &str = "reserve=N with N bytes (KiB, MiB, GiB may follow), whole pages of 4 KiB, from 48 KiB";
const LIMIT: &str = "limit=N with N bytes (KiB, MiB, GiB may follow), whole pages of 4 KiB, from 48 KiB";
const TENANT: &str = "tenant=NAME with 1 to 6 small letters, digits or dashes";
/// See `WEIGHT`.
const DISK_RATE: &str = "disk-rate=N, the requests to its virtual disk that it may have carried out in a second, 1 to 65534, or disk-rate=unlimited";
const DISK: &str = "disk=NAME for a virtual disk that the VM writes, or disk=NAME:ro for one that it reads, with NAME as 'disks' shows it";
const _: () = assert!(NAME_MAX == 6 && RESERVE_LEAST as u64 * PAGE_SIZE == 48 << 10);
const _: () = assert!(WEIGHT_MAX == 10_000 && BURST_MIN == 1514);

/// Takes the words for the terms out of what stands behind the image's name; the rest is boot arguments, which are put into
/// `args`. Of two words for the same the last counts.
///
/// # Errors
///
/// What is wrong with a word, or that the boot arguments do not fit.
pub fn split_off(text: &str, args: &mut Arguments) -> Result<Terms, Mistake> {
    let mut terms = Terms::UNSAID;
    let Terms { share, claim, tenant, disk } = &mut terms;
    args.clear();
    for piece in text.split_inclusive(' ') {
        let wrong = |word, takes| Mistake::Terms { word, takes };
        match piece.trim_matches(' ').split_once('=') {
            Some(("weight", value)) => share.weight = weight(value).ok_or(wrong("weight", WEIGHT))?,
            Some(("rate", value)) => share.rate = rate(value).ok_or(wrong("rate", RATE))?,
            Some(("burst", value)) => share.burst = burst(value).ok_or(wrong("burst", BURST))?,
            Some(("reserve", value)) => claim.reserve = frames(value).ok_or(wrong("reserve", RESERVE))?,
            Some(("limit", value)) => claim.limit = frames(value).ok_or(wrong("limit", LIMIT))?,
            Some(("tenant", value)) => *tenant = Tenant::new(value).ok_or(wrong("tenant", TENANT))?,
            Some(("disk", value)) => {
                let named = Attachment::parse(value).ok_or(wrong("disk", DISK))?;
                *disk = Attachment { rate: disk.rate, ..named };
            }
            Some(("disk-rate", value)) => disk.rate = disk_rate(value).ok_or(wrong("disk-rate", DISK_RATE))?,
            _ => args.push(piece)?,
        }
    }
    Ok(terms)
}

fn weight(value: &str) -> Option<u16> {
    value.parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight))
}

fn disk_rate(value: &str) -> Option<u16> {
    if value == "unlimited" {
        return Some(attachment::UNLIMITED);
    }
    value.parse().ok().filter(|&rate| rate > 0 && rate < attachment::UNLIMITED)
}

fn rate(value: &str) -> Option<u32> {
    if value == "unlimited" { Some(UNLIMITED) } else { bytes(value).filter(|&rate| rate > 0 && rate < UNLIMITED) }
}

fn burst(value: &str) -> Option<u32> {
    bytes(value).filter(|&burst| burst >= BURST_MIN)
}

/// A number of bytes that is one of whole frames, as many as any VM needs.
fn frames(value: &str) -> Option<u32> {
    let bytes = long(value).filter(|bytes| bytes.is_multiple_of(PAGE_SIZE))?;
    u32::try_from(bytes / PAGE_SIZE).ok().filter(|&frames| frames >= RESERVE_LEAST)
}

/// A number of bytes; 4 GiB is the largest that a message carries, one less.
fn bytes(value: &str) -> Option<u32> {
    u32::try_from(long(value)?).ok()
}

/// A number of bytes.
pub(crate) fn long(value: &str) -> Option<u64> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::claim::Claim;
    use abi::share::Share;
    use proptest::prelude::*;

    fn split_off(text: &str) -> Result<(Share, String), Mistake> {
        let mut args = Arguments::new();
        let Terms { share, .. } = super::split_off(text, &mut args)?;
        Ok((share, String::from_utf8(args.as_bytes().to_vec()).expect("text")))
    }

    fn args(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn words_for_the_share_are_no_boot_arguments() {
        assert_eq!(split_off(""), Ok((Share::UNSAID, args(""))));
        let share = Share { weight: 300, rate: 2 << 20, burst: 65_536 };
        let text = "weight=300 crime=all  x=1 rate=2MiB burst=64KiB";
        assert_eq!(split_off(text), Ok((share, args("crime=all  x=1"))));
        assert_eq!(split_off("rate=unlimited"), Ok((Share { rate: UNLIMITED, ..Share::UNSAID }, args(""))));
        assert_eq!(split_off("weight=1 weight=2").expect("good").0.weight, 2);
        assert_eq!(split_off("overweight=0 rates=x"), Ok((Share::UNSAID, args("overweight=0 rates=x"))));
    }

    #[test]
    fn a_disk_is_no_boot_argument_either() {
        let mut args = Arguments::new();
        let web = Attachment::parse("web:ro").expect("one");
        assert_eq!(super::split_off("x=1 disk=web:ro", &mut args), Ok(Terms { disk: web, ..Terms::UNSAID }));
        let limited = |rate, disk| Ok(Terms { disk: Attachment { rate, ..disk }, ..Terms::UNSAID });
        assert_eq!(super::split_off("disk-rate=50 disk=web:ro x=1", &mut args), limited(50, web));
        let unlimited = super::split_off("disk-rate=unlimited", &mut args);
        assert_eq!(unlimited, limited(attachment::UNLIMITED, Attachment::NONE));
        for wrong in ["0", "65535", "x", ""] {
            let text = format!("disk-rate={wrong}");
            assert_eq!(super::split_off(&text, &mut args), Err(Mistake::Terms { word: "disk-rate", takes: DISK_RATE }));
        }
        args.clear();
        assert_eq!(args.push("x=1"), Ok(()));
        assert_eq!(args.as_bytes(), b"x=1");
        for text in ["disk=", "disk=a/b", "disk=web:rw", "disk=seventeen-letters"] {
            assert_eq!(split_off(text), Err(Mistake::Terms { word: "disk", takes: DISK }), "{text}");
        }
    }

    #[test]
    fn a_tenant_is_no_boot_argument_either() {
        let mut args = Arguments::new();
        let blue = Tenant::new("blue").expect("a name");
        assert_eq!(
            super::split_off("x=1 tenant=red tenant=blue", &mut args),
            Ok(Terms { tenant: blue, ..Terms::UNSAID })
        );
        assert_eq!(args.as_bytes(), b"x=1");
        for text in ["tenant=", "tenant=Blue", "tenant=sevenxx"] {
            assert_eq!(split_off(text), Err(Mistake::Terms { word: "tenant", takes: TENANT }), "{text}");
        }
    }

    #[test]
    fn only_boot_arguments_count_against_their_space() {
        let long = "x".repeat(abi::guest::BOOT_ARGS_MAX);
        assert_eq!(split_off(&format!("{long} weight=7")).expect("fits").1, args(&long));
        assert_eq!(split_off(&format!("weight=7 {long}y")), Err(Mistake::LongArguments));
        assert_eq!(split_off(&format!("{long} y")), Err(Mistake::LongArguments));
    }

    #[test]
    fn words_for_the_memory_are_no_boot_arguments() {
        let claim = |text| {
            let mut args = Arguments::new();
            let terms = super::split_off(text, &mut args).expect("good");
            (terms.claim, args)
        };
        assert_eq!(claim("reserve=48KiB").0, Claim { reserve: 12, limit: 0 });
        assert_eq!(claim("limit=16383GiB").0, Claim { reserve: 0, limit: 16_383 << 18 });
        let (found, args) = claim("reserve=98304 x=1 limit=1MiB");
        assert_eq!((found, args.as_bytes()), (Claim { reserve: 24, limit: 256 }, &b"x=1"[..]));
        assert_eq!(claim("reserves=1 limited").0, Claim::UNSAID);
    }

    #[test]
    fn values_beyond_the_limits_are_refused_by_name() {
        for (text, name) in [
            ("weight=0", "weight"),
            ("weight=10001", "weight"),
            ("weight=", "weight"),
            ("weight=-1", "weight"),
            ("rate=0", "rate"),
            ("rate=4GiB", "rate"),
            ("rate=1MB", "rate"),
            ("rate=99999999999999999999", "rate"),
            ("burst=1513", "burst"),
            ("burst=unlimited", "burst"),
            ("reserve=0", "reserve"),
            ("reserve=44KiB", "reserve"),
            ("reserve=50000", "reserve"),
            ("reserve=x", "reserve"),
            ("limit=44KiB", "limit"),
            ("limit=16384GiB", "limit"),
            ("limit=17179869184GiB", "limit"),
            ("limit=unlimited", "limit"),
        ] {
            match split_off(text) {
                Err(Mistake::Terms { word, .. }) => assert_eq!(word, name, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(split_off("weight=10000 rate=3GiB burst=1514").is_ok());
    }

    proptest! {
        #[test]
        fn any_text(text in "[ -~]{0,120}") {
            if let Ok((share, _)) = split_off(&text) {
                prop_assert!(share.is_valid());
            }
        }
    }
}
