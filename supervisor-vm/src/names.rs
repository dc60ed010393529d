//! The VMs that the operator has named, running or not. What runs goes on without the supervisor VM, and what it knows of them is kept where it has a
//! disk ([`crate::keep`]).

use abi::attachment::Attachment;
use abi::terms::Terms;
use abi::vm::{ImageId, VmId};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Bound;

/// Characters of a name at most.
pub const NAME_MAX: usize = 63;
/// Names at most.
pub const NAMES_MAX: usize = 10_000;

/// A VM that the operator has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its image. Another one may have its number by now, or none.
    pub image: ImageId,
    /// The name of its image.
    pub image_name: String,
    /// On which terms it is created.
    pub terms: Terms,
    /// Its boot arguments beside those of its image.
    pub args: String,
    /// The VM that was started last under this name; it may have ended.
    pub vm: Option<VmId>,
    /// Whether a fleet file says that it is to be.
    pub of_fleet: bool,
    /// Whether the operator's last word was that it runs.
    pub runs: bool,
}

/// Why a name is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It is none.
    Bad,
    /// Another VM has it.
    Taken,
    /// There are too many.
    Full,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Bad => write!(
                f,
                "is no name: take 1 to {NAME_MAX} small letters, digits and dashes, with a letter or a digit at the start"
            ),
            NameError::Taken => f.write_str("is the name of another VM: `vm destroy` that one, or take another name"),
            NameError::Full => {
                write!(f, "would be one name more than {NAMES_MAX}: `vm destroy` some that are not needed")
            }
        }
    }
}

/// All names, and which VM each was started as.
#[derive(Default)]
pub struct Names {
    names: BTreeMap<String, Named>,
    ids: BTreeMap<u64, String>,
    /// Names of which something has changed since that was last asked.
    changed: BTreeSet<String>,
}

impl Names {
    /// Takes a name for a VM.
    ///
    /// # Errors
    ///
    /// [`NameError`].
    pub fn add(&mut self, name: &str, vm: Named) -> Result<(), NameError> {
        if !is_name(name) {
            return Err(NameError::Bad);
        }
        if self.names.contains_key(name) {
            return Err(NameError::Taken);
        }
        if self.names.len() >= NAMES_MAX {
            return Err(NameError::Full);
        }
        if let Some(id) = vm.vm {
            self.ids.insert(id.raw(), name.to_string());
        }
        self.names.insert(name.to_string(), vm);
        self.changed.insert(name.to_string());
        Ok(())
    }

    /// The VM of this name.
    pub fn get(&self, name: &str) -> Option<&Named> {
        self.names.get(name)
    }

    /// The VM of this name runs under this id. False when nobody has the name any more.
    #[must_use]
    pub fn started(&mut self, name: &str, id: VmId) -> bool {
        let Some(named) = self.names.get_mut(name) else { return false };
        if let Some(before) = named.vm.replace(id) {
            self.ids.remove(&before.raw());
        }
        named.runs = true;
        self.ids.insert(id.raw(), name.to_string());
        self.changed.insert(name.to_string());
        true
    }

    /// The operator wants the VM that was started last under this name to end; nothing where there is none.
    pub fn note_end(&mut self, name: &str) {
        if let Some(named) = self.names.get_mut(name).filter(|named| named.runs) {
            named.runs = false;
            self.changed.insert(name.to_string());
        }
    }

    /// The image of the VM of this name has this number now; nothing where there is none.
    pub fn set_image(&mut self, name: &str, image: ImageId) {
        if let Some(named) = self.names.get_mut(name) {
            named.image = image;
        }
    }

    /// The names of which something has changed since this was last asked, and what is known of them now.
    pub fn take_changed(&mut self) -> Vec<(String, Option<Named>)> {
        let changed = core::mem::take(&mut self.changed);
        changed.into_iter().map(|name| (name.clone(), self.names.get(&name).cloned())).collect()
    }

    /// The VM of this name has this disk from its next start on. The one that it was to have; `None` where nobody has the name.
    pub fn set_disk(&mut self, name: &str, disk: Attachment) -> Option<Attachment> {
        let named = self.names.get_mut(name)?;
        self.changed.insert(name.to_string());
        Some(core::mem::replace(&mut named.terms.disk, disk))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Named)> {
        self.names.iter().map(|(name, named)| (name.as_str(), named))
    }

    /// A fleet file says that this VM is to be; nothing where there is none.
    pub fn note_fleet(&mut self, name: &str) {
        if let Some(named) = self.names.get_mut(name) {
            named.of_fleet = true;
            self.changed.insert(name.to_string());
        }
    }

    /// Forgets a name; nothing where there is none.
    pub fn remove(&mut self, name: &str) {
        let Some(named) = self.names.remove(name) else { return };
        self.changed.insert(name.to_string());
        if let Some(id) = named.vm {
            self.ids.remove(&id.raw());
        }
    }

    /// The name of a VM.
    pub fn of(&self, id: VmId) -> Option<&str> {
        self.ids.get(&id.raw()).map(String::as_str)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Those whose names begin so and come behind this text.
    pub fn beginning(&self, beginning: &str, last: &str) -> impl Iterator<Item = (&str, &Named)> {
        let from = if last < beginning { Bound::Included(beginning) } else { Bound::Excluded(last) };
        let behind = self.names.range::<str, _>((from, Bound::Unbounded));
        let begin = behind.take_while(move |(name, _)| name.starts_with(beginning));
        begin.map(|(name, named)| (name.as_str(), named))
    }

    /// The one whose name comes next behind this text.
    pub fn behind(&self, last: &str) -> Option<(&str, &Named)> {
        let behind = (Bound::Excluded(last), Bound::Unbounded);
        self.names.range::<str, _>(behind).next().map(|(name, named)| (name.as_str(), named))
    }
}

/// Whether this is a name: 1 to [`NAME_MAX`] small letters, digits and dashes, with a letter or a digit at the start.
pub fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=NAME_MAX).contains(&bytes.len())
        && bytes.first().is_some_and(plain)
        && bytes.iter().all(|b| plain(b) || *b == b'-')
}

/// The VM that an id names, as it is shown: `vm2.1`.
pub fn parse_id(text: &str) -> Option<VmId> {
    let (slot, generation) = text.strip_prefix("vm")?.split_once('.')?;
    let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    Some(VmId::new(number(slot)?, number(generation)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Named {
        let (image, image_name) = (ImageId::new(0), "httpd".to_string());
        Named { image, image_name, terms: Terms::UNSAID, args: String::new(), vm: None, of_fleet: false, runs: false }
    }

    #[test]
    fn what_is_a_name() {
        let longest = "a".repeat(63);
        for good in ["a", "9", "web-17", "a--b-", longest.as_str()] {
            assert_eq!(Names::default().add(good, named()), Ok(()), "{good}");
        }
        let longer = "a".repeat(64);
        for bad in ["", "-a", "Web", "a b", "a.b", "vm1.1", "ä", longer.as_str()] {
            assert_eq!(Names::default().add(bad, named()), Err(NameError::Bad), "{bad}");
        }
    }

    #[test]
    fn a_name_is_taken_once() {
        let mut names = Names::default();
        assert_eq!(names.add("a", named()), Ok(()));
        assert_eq!(names.add("a", named()), Err(NameError::Taken));
        assert!(names.started("a", VmId::new(3, 1)) && names.started("a", VmId::new(3, 2)));
        assert_eq!((names.of(VmId::new(3, 1)), names.of(VmId::new(3, 2))), (None, Some("a")));
        names.remove("a");
        assert!(names.of(VmId::new(3, 2)).is_none() && !names.started("a", VmId::new(3, 3)));
        assert_eq!(names.add("a", named()), Ok(()));
    }

    #[test]
    fn whatever_changes_is_told_once() {
        let mut names = Names::default();
        let told = |names: &mut Names, change: &dyn Fn(&mut Names)| -> Vec<(String, Option<(bool, bool)>)> {
            change(names);
            let changed = names.take_changed();
            assert!(names.take_changed().is_empty());
            let seen = |named: Named| (named.runs, named.of_fleet);
            changed.into_iter().map(|(name, named)| (name, named.map(seen))).collect()
        };
        let of = |name: &str, what| Vec::from([(name.to_string(), what)]);
        assert_eq!(told(&mut names, &|names| _ = names.add("a", named())), of("a", Some((false, false))));
        assert_eq!(told(&mut names, &|names| _ = names.started("a", VmId::new(1, 1))), of("a", Some((true, false))));
        assert_eq!(told(&mut names, &|names| names.note_fleet("a")), of("a", Some((true, true))));
        assert_eq!(told(&mut names, &|names| names.note_end("a")), of("a", Some((false, true))));
        assert_eq!(told(&mut names, &|names| names.note_end("a")), Vec::new());
        assert_eq!(told(&mut names, &|names| _ = names.set_disk("a", Attachment::NONE)), of("a", Some((false, true))));
        assert_eq!(told(&mut names, &|names| names.remove("a")), of("a", None));
        assert_eq!(told(&mut names, &|names| names.remove("a")), Vec::new());
    }

    #[test]
    fn names_come_one_after_the_other() {
        let mut names = Names::default();
        ["b", "a", "c"].into_iter().for_each(|name| assert_eq!(names.add(name, named()), Ok(())));
        let behind = |last| names.behind(last).map(|(name, _)| name);
        assert_eq!([behind(""), behind("a"), behind("bb"), behind("c")], [Some("a"), Some("b"), Some("c"), None]);
    }

    #[test]
    fn names_are_found_by_their_beginning() {
        let mut names = Names::default();
        ["a", "ab", "abc", "ac", "b"].into_iter().for_each(|name| assert_eq!(names.add(name, named()), Ok(())));
        let found = |beginning, last| names.beginning(beginning, last).map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(found("ab", ""), ["ab", "abc"]);
        assert_eq!((found("ab", "ab"), found("a", "ab")), (Vec::from(["abc"]), Vec::from(["abc", "ac"])));
        assert_eq!((found("", "ac"), found("c", "")), (Vec::from(["b"]), Vec::new()));
    }

    #[test]
    fn a_name_gets_another_disk() {
        let mut names = Names::default();
        assert_eq!(names.add("a", named()), Ok(()));
        let docs = Attachment::parse("docs:ro").expect("a disk");
        assert_eq!((names.set_disk("a", docs), names.set_disk("b", docs)), (Some(Attachment::NONE), None));
        assert_eq!(names.set_disk("a", Attachment::NONE), Some(docs));
        assert!(names.iter().map(|(name, named)| (name, named.terms.disk)).eq([("a", Attachment::NONE)]));
    }

    #[test]
    fn ids_are_those_that_are_shown() {
        assert_eq!(parse_id("vm2.1"), Some(VmId::new(2, 1)));
        for bad in ["vm2", "2.1", "vm2.", "vm.1", "vm-2.1", "vm+2.1", "vm2.1.1", "vm99999999999.1", "web"] {
            assert_eq!(parse_id(bad), None, "{bad}");
        }
    }
}
