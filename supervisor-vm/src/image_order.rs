//! An image that somebody sends: what is asked for, and what the core is told of the file. Pure.

use crate::library::Kept;
use crate::lines::hex;
use crate::shown::shown;
use crate::wanted::frames;
use abi::boot::{Program, Segment, program};
use abi::claim::RESERVE_LEAST;
use abi::guest::IMAGE_BASE;
use abi::image::NewImage;
use abi::limits::{IMAGE_PAGES_MAX, Name, PAGE_SIZE, VM_MEMORY_MAX, VM_MEMORY_MIN};
use abi::manifest::{self, ANY, IMAGE_ARGS_BYTES, RESERVE_DEFAULT, all_frames};
use abi::note::KIND_GUEST;
use abi::share;
use alloc::format;
use alloc::string::{String, ToString};
use elf_file::{Accept, Elf};
use sha2::{Digest, Sha256};
use zerocopy::FromZeros;

/// Bytes of a file at most.
pub const FILE_BYTES: usize = 4 << 20;
/// Memory of its VMs where nobody says how much.
const MEMORY: u64 = 16 << 20;
/// Slots of the rings of their NICs.
const SLOTS: u32 = 256;

const _: () = assert!(FILE_BYTES as u64 <= IMAGE_PAGES_MAX as u64 * PAGE_SIZE);

/// What is said of an image beside its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOrder {
    /// Its name.
    pub name: Name,
    memory_bytes: u64,
    digest: Option<[u8; 32]>,
    args: [u8; IMAGE_ARGS_BYTES],
}

impl ImageOrder {
    /// The words for its parts.
    pub const KEYS: [&'static str; 2] = ["memory", "sha256"];

    /// An image of this name.
    ///
    /// # Errors
    ///
    /// Why it can be none.
    pub fn new(name: &str) -> Result<ImageOrder, &'static str> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let good = name.bytes().next().is_some_and(plain) && name.bytes().all(|byte| plain(byte) || byte == b'-');
        let name = Name::new(name).filter(|_| good);
        let why = "is no name of an image: take 1 to 16 small letters, digits and dashes, with a letter or a digit at the start";
        Ok(ImageOrder { name: name.ok_or(why)?, memory_bytes: MEMORY, digest: None, args: [0; IMAGE_ARGS_BYTES] })
    }

    /// An image as a file is called that is sent: its name, and behind it what else is said of it, with commas between them: `shop,memory=8M,args=a=1 b`. What
    /// follows `args=` are its arguments, to the end.
    ///
    /// # Errors
    ///
    /// Why it can be none.
    pub fn called(file: &str) -> Result<ImageOrder, String> {
        let (name, mut rest) = file.split_once(',').map_or((file, None), |(name, rest)| (name, Some(rest)));
        let name = name.strip_suffix(".elf").unwrap_or(name);
        let mut order = ImageOrder::new(name).map_err(|why| format!("`{}` {why}", shown(name)))?;
        while let Some(part) = rest {
            if let Some(args) = part.strip_prefix("args=") {
                order.set_args(args).map_err(|takes| format!("args={}: give {takes}", shown(args)))?;
                break;
            }
            let (part, behind) = part.split_once(',').map_or((part, None), |(part, behind)| (part, Some(behind)));
            rest = behind;
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            if !ImageOrder::KEYS.contains(&key) {
                return Err(format!(
                    "`{}` makes no sense behind {name}: NAME,memory=SIZE,sha256=DIGEST,args=ARGUMENTS",
                    shown(part)
                ));
            }
            order.set(key, value).map_err(|takes| format!("{key}={}: give {takes}", shown(value)))?;
        }
        Ok(order)
    }

    /// The same again of one that is kept, with the hash that it had.
    ///
    /// # Errors
    ///
    /// Why it can be none.
    pub fn kept(name: &str, kept: &Kept) -> Result<ImageOrder, &'static str> {
        let mut order = ImageOrder::new(name)?;
        (order.memory_bytes, order.digest) = (kept.memory_bytes, Some(kept.digest));
        order.set_args(&kept.args)?;
        Ok(order)
    }

    /// Takes one of its parts, by its word.
    ///
    /// # Errors
    ///
    /// What this part takes.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            "memory" => {
                let bytes = frames(value).map(|frames| u64::from(frames) * PAGE_SIZE);
                let good = bytes.filter(|bytes| (VM_MEMORY_MIN..=VM_MEMORY_MAX).contains(bytes));
                self.memory_bytes = good.ok_or("bytes, as 16M, whole pages of 4 KiB, from 1M to 1G")?;
            }
            "sha256" => self.digest = Some(digest(value).ok_or("64 hexadecimal digits, as sha256sum shows them")?),
            _ => return Err("memory or sha256"),
        }
        Ok(())
    }

    /// Takes its boot arguments.
    ///
    /// # Errors
    ///
    /// What they may be.
    pub fn set_args(&mut self, args: &str) -> Result<(), &'static str> {
        let (bytes, places) = (args.as_bytes(), self.args.get_mut(..args.len()));
        places.ok_or("128 bytes at most")?.copy_from_slice(bytes);
        Ok(())
    }

    /// What the core is told of a file, and where the bytes of each page lie in it.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, and what to do about it.
    pub fn of_file(&self, file: &[u8]) -> Result<(NewImage, Elf), String> {
        let found: [u8; 32] = Sha256::digest(file).into();
        if let Some(expected) = self.digest.filter(|expected| *expected != found) {
            return Err(format!(
                "the file's SHA-256 is {}, not {}: it was changed on its way, or is another one; send it again",
                hex(&found),
                hex(&expected)
            ));
        }
        let accept = Accept { low: IMAGE_BASE, high: self.memory_bytes, kind: KIND_GUEST };
        let elf = Elf::parse(file, accept).map_err(|why| {
            format!("the file is no image: {why}; build it as a guest of this version, or give its VMs more --memory")
        })?;
        let mut image = NewImage::new_zeroed();
        let limit_frames = u32::try_from(all_frames(self.memory_bytes)).unwrap_or(u32::MAX);
        image.entry = manifest::Image {
            name: self.name,
            memory_bytes: self.memory_bytes,
            rx_slots: SLOTS,
            tx_slots: SLOTS,
            args: self.args,
            rate: share::UNLIMITED,
            burst: share::BURST,
            weight: share::WEIGHT,
            net: ANY,
            pager: ANY,
            reserve_frames: RESERVE_DEFAULT.max(RESERVE_LEAST),
            limit_frames,
            ..manifest::Image::new_zeroed()
        };
        image.program = Program { state: program::GOOD, entry: elf.entry, ..Program::new_zeroed() };
        for (to, from) in image.program.segments.iter_mut().zip(&elf.segments) {
            // Its memory has no more.
            let pages = u32::try_from(from.pages()).unwrap_or(u32::MAX);
            *to = Segment {
                address: from.address,
                bytes: from.file_bytes,
                pages,
                flags: from.flags(),
                ..Segment::default()
            };
            image.program.segment_count += 1;
        }
        image.digest = found;
        if !image.is_ordinary() {
            return Err(format!("the file is no image: its segments hold nothing, or more than {FILE_BYTES} bytes"));
        }
        Ok((image, elf))
    }
}

/// The bytes of each page of an image, in the order in which they are sent.
pub fn pages<'f>(file: &'f [u8], elf: &'f Elf) -> impl Iterator<Item = &'f [u8]> {
    let of = |from: u64, bytes: u64| {
        let start = usize::try_from(from).ok()?;
        file.get(start..start.checked_add(usize::try_from(bytes).ok()?)?)
    };
    // Each of them lies in the file, which the reader has made sure of.
    let bytes = move |segment: &elf_file::Segment| of(segment.file_offset, segment.file_bytes).unwrap_or_default();
    elf.segments.iter().flat_map(move |segment| bytes(segment).chunks(PAGE))
}

/// Bytes of a page.
// A small number.
#[allow(clippy::cast_possible_truncation)]
const PAGE: usize = PAGE_SIZE as usize;

/// A digest as people write it.
fn digest(text: &str) -> Option<[u8; 32]> {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut digest = [0; 32];
    let pairs = text.as_bytes().chunks_exact(2);
    if !digits || text.len() != 64 {
        return None;
    }
    for (to, pair) in digest.iter_mut().zip(pairs) {
        *to = u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// What is known of an image, in words of its own.
pub fn args_of(image: &NewImage) -> String {
    String::from_utf8_lossy(&image.entry.args).trim_end_matches('\0').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::boot::segment;
    use abi::note::Note;
    use alloc::vec::Vec;
    use elf_file::sample::{NOTE, file_with};
    use proptest::prelude::*;

    /// A page of text, and 0x10 bytes of three pages of data.
    fn file() -> Vec<u8> {
        let text = (1, 5, 0x1000, IMAGE_BASE, 0x1000, 0x1000);
        let data = (1, 6, 0x2000, IMAGE_BASE + 0x1000, 0x10, 0x3000);
        let guard = (1, 0, 0x2000, IMAGE_BASE + 0x4000, 0, 0x1000);
        let mut file = file_with(IMAGE_BASE + 0x10, &[NOTE, text, data, guard], Note::new(KIND_GUEST));
        file[0x1000..0x1e00].fill(0xc3);
        file[0x2000..0x2010].fill(7);
        file
    }

    fn order() -> ImageOrder {
        ImageOrder::new("shop").expect("a name")
    }

    #[test]
    fn a_file_is_an_image() {
        let mut order = order();
        order.set("memory", "2M").expect("a size");
        order.set_args("a=b c").expect("short");
        let file = file();
        let (image, elf) = order.of_file(&file).expect("an image");
        assert_eq!((image.entry.name.as_str(), image.entry.memory_bytes), ("shop", 2 << 20));
        assert_eq!((args_of(&image).as_str(), image.entry.flags), ("a=b c", 0));
        let found: Vec<_> = image.program.segments().iter().map(|part| (part.pages, part.bytes, part.flags)).collect();
        assert_eq!(
            found,
            [(1, 0x1000, segment::EXECUTE), (3, 0x10, segment::WRITE), (1, 0, segment::HOLE)],
            "what is not in the file is not sent"
        );
        let sent: Vec<&[u8]> = pages(&file, &elf).collect();
        assert_eq!(sent, [&file[0x1000..0x2000], &file[0x2000..0x2010]]);
        let bytes: Vec<_> = (0..2).map(|page| image.bytes_of(page)).collect();
        assert_eq!(bytes, [Some(0x1000), Some(0x10)], "as the core expects them");
        let known = hex(&image.digest);
        assert_eq!(known, hex(&Sha256::digest(&file).into()));
        order.set("sha256", &known.to_uppercase()).expect("a digest");
        assert!(order.of_file(&file).is_ok());
    }

    #[test]
    fn what_is_no_image_is_told() {
        let mut order = order();
        let says = |order: &ImageOrder, file: &[u8]| order.of_file(file).expect_err("it is none");
        assert!(says(&order, b"hello").contains("it is not an ELF file"));
        assert!(says(&order, &file()[..0x2008]).contains("the file ends before its segment"));
        order.set("memory", "1M").expect("a size");
        order.set("sha256", &"0".repeat(64)).expect("a digest");
        assert!(says(&order, &file()).contains("not 0000"));
        for (key, value) in [("memory", "512K"), ("memory", "2G"), ("sha256", "00"), ("sha256", &"g".repeat(64))] {
            assert!(order.set(key, value).is_err(), "{key} {value}");
        }
        assert!(order.set_args(&"a".repeat(129)).is_err() && order.set_args(&"a".repeat(128)).is_ok());
        for name in ["", "-a", "Shop", "a b", "seventeen-letters"] {
            assert!(ImageOrder::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_file_is_called_by_what_is_wanted() {
        let of = |file: &str| ImageOrder::called(file);
        assert_eq!(of("shop.elf"), Ok(ImageOrder::new("shop").expect("a name")));
        let mut order = ImageOrder::new("shop").expect("a name");
        assert_eq!((order.set("memory", "8M"), order.set_args("a=1,b c=\"d\"")), (Ok(()), Ok(())));
        assert_eq!(of("shop,memory=8M,args=a=1,b c=\"d\""), Ok(order.clone()));
        assert_eq!(of("shop.elf,memory=8M,args=a=1,b c=\"d\""), Ok(order));
        for (file, says) in [
            ("", "`` is no name of an image"),
            ("Shop,memory=8M", "`Shop` is no name of an image"),
            ("shop,", "`` makes no sense behind shop: NAME,memory=SIZE"),
            ("shop,disk=a", "`disk=a` makes no sense behind shop"),
            ("shop,memory=1", "memory=1: give bytes, as 16M"),
            ("shop,sha256=1", "sha256=1: give 64 hexadecimal digits"),
        ] {
            let error = of(file).expect_err(file);
            assert!(error.contains(says), "{file}: {error}");
        }
        assert!(
            of(&alloc::format!("shop,args={}", "a".repeat(129))).is_err_and(|why| why.contains("128 bytes at most"))
        );
    }

    proptest! {
        #[test]
        fn no_file_is_too_strange(at in 0_usize..0x3000, byte in any::<u8>(), len in 0_usize..0x3000) {
            let mut file = file();
            file[at] = byte;
            for file in [&file[..], &file[..len]] {
                if let Ok((image, elf)) = order().of_file(file) {
                    let sent: Vec<Option<u64>> = pages(file, &elf).map(|page| Some(page.len() as u64)).collect();
                    let wanted: Vec<_> = (0..image.pages()).map(|page| image.bytes_of(page)).collect();
                    prop_assert_eq!(sent, wanted);
                }
            }
        }
    }
}
