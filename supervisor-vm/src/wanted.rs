//! What a VM is to be like: commands and requests over HTTP say it in the same words.

use crate::shown::shown;
use abi::attachment::Attachment;
use abi::claim::RESERVE_LEAST;
use abi::share::WEIGHT_MAX;
use abi::tenant::Tenant;
use abi::terms::Terms;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use quota_words::pages;

/// What a VM is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its image's name, where that was said.
    pub image: Option<String>,
    /// On which terms it is created.
    pub terms: Terms,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted { image: None, terms: Terms::UNSAID }
    }
}

impl Wanted {
    /// The words for its parts.
    pub const KEYS: [&'static str; 5] = ["image", "memory", "disk", "weight", "tenant"];

    /// Takes one of its parts, by its word.
    ///
    /// # Errors
    ///
    /// What this part takes.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            "image" => self.image = Some(value.to_string()),
            "memory" => {
                let takes = "bytes, as 16M or 512K, whole pages of 4 KiB, at least 48K";
                self.terms.claim.limit = frames(value).ok_or(takes)?;
            }
            "disk" => {
                let takes = "the name of a virtual disk, and :ro behind it for one that is read only";
                self.terms.disk = Attachment::parse(value).ok_or(takes)?;
            }
            "weight" => {
                let weight = value.parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight));
                self.terms.share.weight = weight.ok_or("a number from 1 to 10000")?;
            }
            "tenant" => self.terms.tenant = Tenant::new(value).ok_or("1 to 6 small letters, digits or dashes")?,
            _ => return Err("image, memory, disk, weight or tenant"),
        }
        Ok(())
    }
}

/// A VM that is to be made, and the command that makes it, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its name.
    pub name: String,
    /// Its image's name.
    pub image: String,
    /// On which terms.
    pub terms: Terms,
    /// Its boot arguments beside those of its image.
    pub args: String,
    /// `vm create ...`.
    pub text: String,
}

impl Order {
    /// That of a VM with these parts, in the order of [`Wanted::KEYS`] behind its image.
    ///
    /// # Errors
    ///
    /// What is wrong with one of them.
    pub fn of(name: &str, image: &str, parts: [Option<&str>; 4], args: &str) -> Result<Order, String> {
        let mut wanted = Wanted::default();
        let mut text = format!("vm create {name}");
        let [memory, disk, weight, tenant] = parts;
        for (key, value) in Wanted::KEYS.into_iter().zip([Some(image), memory, disk, weight, tenant]) {
            let Some(value) = value else { continue };
            wanted.set(key, value).map_err(|takes| format!("{key} {}: give {takes}", shown(value)))?;
            text.push_str(&format!(" --{key} {value}"));
        }
        let args: Vec<&str> = args.split_ascii_whitespace().collect();
        let args = args.join(" ");
        if !args.is_empty() {
            text.push_str(&format!(" -- {args}"));
        }
        let (name, image) = (name.to_string(), image.to_string());
        Ok(Order { name, image, terms: wanted.terms, args, text })
    }
}

/// The frames of so many bytes: whole ones, without which no VM starts.
pub fn frames(size: &str) -> Option<u32> {
    u32::try_from(pages(size)?).ok().filter(|&frames| frames >= RESERVE_LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_pages() {
        for (size, count) in [("16M", Some(4096)), ("48K", Some(12)), ("4GiB", Some(1 << 20)), ("65536", Some(16))] {
            assert_eq!(frames(size), count, "{size}");
        }
        for bad in ["", "M", "1", "44K", "-16M", "16384G", "99999999999999999999M", "16MB"] {
            assert_eq!(frames(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_word_takes_what_it_should() {
        let mut wanted = Wanted::default();
        for (key, value) in Wanted::KEYS.into_iter().zip(["httpd", "1M", "docs:ro", "7", "blue"]) {
            assert_eq!(wanted.set(key, value), Ok(()), "{key}");
        }
        assert_eq!((wanted.image.as_deref(), wanted.terms.claim.limit), (Some("httpd"), 256));
        assert_eq!((wanted.terms.share.weight, Some(wanted.terms.tenant)), (7, Tenant::new("blue")));
        assert!(wanted.set("weight", "10001").is_err() && wanted.set("cpu", "1").is_err());
    }
}
