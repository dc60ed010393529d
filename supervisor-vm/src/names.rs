//! The VMs that the operator has named, running or not. They are remembered as long as the supervisor VM lives; what runs goes on without it.

use abi::terms::Terms;
use abi::vm::{ImageId, VmId};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use core::fmt;

/// Characters of a name at most.
pub const NAME_MAX: usize = 63;
/// Names at most.
pub const NAMES_MAX: usize = 10_000;

/// A VM that the operator has named.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its image.
    pub image: ImageId,
    /// On which terms it is created.
    pub terms: Terms,
    /// Its boot arguments beside those of its image.
    pub args: String,
    /// The VM that was started last under this name; it may have ended.
    pub vm: Option<VmId>,
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

/// All names.
#[derive(Default)]
pub struct Names(BTreeMap<String, Named>);

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
        if self.0.contains_key(name) {
            return Err(NameError::Taken);
        }
        if self.0.len() >= NAMES_MAX {
            return Err(NameError::Full);
        }
        self.0.insert(name.to_string(), vm);
        Ok(())
    }

    /// The VM of this name.
    pub fn get(&self, name: &str) -> Option<&Named> {
        self.0.get(name)
    }

    /// The VM of this name, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Named> {
        self.0.get_mut(name)
    }

    /// Forgets a name; nothing where there is none.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// The name of a VM that runs.
    pub fn of(&self) -> BTreeMap<u64, String> {
        self.0.iter().filter_map(|(name, named)| Some((named.vm?.raw(), name.clone()))).collect()
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Named)> {
        self.0.iter().map(|(name, named)| (name.as_str(), named))
    }
}

fn is_name(text: &str) -> bool {
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
        Named { image: ImageId::new(0), terms: Terms::UNSAID, args: String::new(), vm: None }
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
        names.get_mut("a").expect("there").vm = Some(VmId::new(3, 1));
        assert_eq!(names.of().get(&VmId::new(3, 1).raw()).map(String::as_str), Some("a"));
        names.remove("a");
        assert_eq!(names.add("a", named()), Ok(()));
    }

    #[test]
    fn ids_are_those_that_are_shown() {
        assert_eq!(parse_id("vm2.1"), Some(VmId::new(2, 1)));
        for bad in ["vm2", "2.1", "vm2.", "vm.1", "vm-2.1", "vm+2.1", "vm2.1.1", "vm99999999999.1", "web"] {
            assert_eq!(parse_id(bad), None, "{bad}");
        }
    }
}
