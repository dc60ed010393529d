//! Which images are asked for: `image list` and `/images.json` take the same words.

use crate::query::{LIMIT, ListQuery, limit};
use alloc::string::{String, ToString};

/// What an image must be to be listed, where the list begins, and how long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageQuery {
    /// With a name that begins so.
    pub name: String,
    /// With a name behind this one.
    pub after: Option<String>,
    /// So many at most, 1 to [`LIMIT`].
    pub limit: usize,
}

impl Default for ImageQuery {
    fn default() -> ImageQuery {
        ImageQuery { name: String::new(), after: None, limit: LIMIT }
    }
}

impl ListQuery for ImageQuery {
    const KEYS: &'static [&'static str] = &["name", "after", "limit"];

    fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            "name" => self.name = value.to_string(),
            "after" => self.after = Some(value.to_string()),
            "limit" => self.limit = limit(value)?,
            _ => return Err("name, after or limit"),
        }
        Ok(())
    }
}

impl ImageQuery {
    /// Whether the image of this name is asked for.
    pub fn takes(&self, name: &str) -> bool {
        name.starts_with(&self.name) && self.after.as_deref().is_none_or(|after| name > after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_what_is_asked_for() {
        let query = ImageQuery::of_address("name=web-&after=web-3&limit=20").expect("it is one");
        assert_eq!(query.limit, 20);
        let taken = ["web-3", "web-4", "web", "x"].map(|name| query.takes(name));
        assert_eq!(taken, [false, true, false, false]);
        assert!(ImageQuery::default().takes("a"));
        for (wrong, key) in [("limit=0", "limit"), ("limit=1001", "limit"), ("state=idle", "state"), ("a", "a")] {
            assert_eq!(ImageQuery::of_address(wrong).expect_err(wrong).0, key);
        }
    }
}
