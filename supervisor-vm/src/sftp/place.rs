//! What stands at a path: a folder with the images, and two texts. Pure.

use alloc::format;
use alloc::string::{String, ToString};

/// The folder of images.
pub const IMAGES: &str = "images";
/// The audit log, as `audit` exports it.
pub const AUDIT: &str = "audit.log";
/// The machine's log.
pub const LOG: &str = "machine.log";

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'p> {
    /// The folder in which a login begins.
    Top,
    /// [`IMAGES`].
    Images,
    /// [`AUDIT`].
    Audit,
    /// [`LOG`].
    Log,
    /// An image, by its name without `.elf`, with what is said behind it. It is sent to the top as well.
    Image(&'p str),
    /// Nothing that could be there.
    Nothing,
}

impl<'p> Place<'p> {
    /// What a path names, which begins at the top.
    pub fn of(path: &'p [u8]) -> Place<'p> {
        let Ok(path) = core::str::from_utf8(path) else { return Place::Nothing };
        // Only one part has a name, so there is nothing that dots would lead out of.
        let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
        match (parts.next(), parts.next(), parts.next()) {
            (None, ..) | (Some(".."), None, _) | (Some(IMAGES), Some(".."), None) => Place::Top,
            (Some(IMAGES), None, _) => Place::Images,
            (Some(AUDIT), None, _) => Place::Audit,
            (Some(LOG), None, _) => Place::Log,
            (Some(name), None, _) | (Some(IMAGES), Some(name), None) => Place::Image(image(name)),
            _ => Place::Nothing,
        }
    }

    /// The path that is said of it.
    pub fn path(self) -> String {
        match self {
            Place::Top => "/".to_string(),
            Place::Images => format!("/{IMAGES}"),
            Place::Audit => format!("/{AUDIT}"),
            Place::Log => format!("/{LOG}"),
            Place::Image(name) => format!("/{IMAGES}/{name}"),
            Place::Nothing => "/?".to_string(),
        }
    }
}

/// The name of an image that a file is sent as: without `.elf`, also in front of what is said behind it.
fn image(name: &str) -> &str {
    name.strip_suffix(".elf").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_names_one_thing() {
        for (path, place) in [
            ("", Place::Top),
            (".", Place::Top),
            ("/", Place::Top),
            ("/..", Place::Top),
            ("images/..", Place::Top),
            ("/images", Place::Images),
            ("./images/", Place::Images),
            ("audit.log", Place::Audit),
            ("/machine.log", Place::Log),
            ("./shop", Place::Image("shop")),
            ("/shop.elf/", Place::Image("shop")),
            ("/images/shop.elf", Place::Image("shop")),
            ("images/shop,memory=8M", Place::Image("shop,memory=8M")),
            ("a/b", Place::Nothing),
            ("images/a/b", Place::Nothing),
            ("images/../..", Place::Nothing),
        ] {
            assert_eq!(Place::of(path.as_bytes()), place, "{path}");
        }
        assert_eq!(Place::of(&[0xff]), Place::Nothing);
    }

    proptest! {
        #[test]
        fn what_is_said_of_it_names_it_again(path in "[a-c./]{0,12}|images/[a-z]{0,3}|/?(audit|machine)[.]log/?") {
            let place = Place::of(path.as_bytes());
            if place != Place::Nothing {
                let again = place.path();
                prop_assert_eq!(Place::of(again.as_bytes()), place);
            }
        }
    }
}
