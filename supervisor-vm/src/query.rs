//! Which VMs are asked for: `vm list` and `/vms.json` take the same words.

use crate::names::parse_id;
use crate::node::Vm;
use abi::control::vm_state;
use abi::tenant::Tenant;
use alloc::string::{String, ToString};

/// VMs that one answer lists at most.
pub const LIMIT: usize = 1000;
/// The state of a VM that has a name and does not run.
pub const STOPPED: &str = "stopped";

/// What a VM must be to be listed, where the list begins, and how long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// In this state.
    pub state: Option<String>,
    /// Of this image.
    pub image: Option<String>,
    /// Of this tenant.
    pub tenant: Option<Tenant>,
    /// With a name that begins so.
    pub name: Option<String>,
    /// Behind this one: its id, or its name where it does not run.
    pub after: Option<String>,
    /// So many at most, 1 to [`LIMIT`].
    pub limit: usize,
}

impl Default for Query {
    fn default() -> Query {
        Query { state: None, image: None, tenant: None, name: None, after: None, limit: LIMIT }
    }
}

/// What a list is asked for, in words.
pub trait ListQuery: Default {
    /// The words for its parts.
    const KEYS: &'static [&'static str];

    /// Takes one of its parts, by its word.
    ///
    /// # Errors
    ///
    /// What this part takes.
    fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str>;

    /// That of an address: what stands behind its `?`.
    ///
    /// # Errors
    ///
    /// The word that is wrong, and what would be right.
    fn of_address(text: &str) -> Result<Self, (String, &'static str)> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            query.set(key, value).map_err(|takes| (key.to_string(), takes))?;
        }
        Ok(query)
    }
}

/// How many at most a list names.
///
/// # Errors
///
/// What it takes: 1 to [`LIMIT`].
pub fn limit(value: &str) -> Result<usize, &'static str> {
    value.parse().ok().filter(|limit| (1..=LIMIT).contains(limit)).ok_or("a number from 1 to 1000")
}

impl ListQuery for Query {
    const KEYS: &'static [&'static str] = &["state", "image", "tenant", "name", "after", "limit"];

    fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        let text = Some(value.to_string());
        match key {
            "state"
                if value == STOPPED
                    || (vm_state::WAITING..=vm_state::PAUSED).any(|state| abi::words::state_word(state) == value) =>
            {
                self.state = text;
            }
            "state" => return Err("a state, as `vm list` shows it"),
            "image" => self.image = text,
            "tenant" => {
                self.tenant = Some(Tenant::new(value).ok_or("1 to 6 small letters, digits or dashes")?);
            }
            "name" => self.name = text,
            "after" => self.after = text,
            "limit" => self.limit = limit(value)?,
            _ => return Err("state, image, tenant, name, after or limit"),
        }
        Ok(())
    }
}

impl Query {
    /// The slot at which it begins; `None` when it begins behind all that run.
    pub fn first_slot(&self) -> Option<u32> {
        match &self.after {
            None => Some(0),
            Some(after) => parse_id(after).map(|id| id.slot.number().saturating_add(1)),
        }
    }

    /// Whether one that runs is asked for, if it is of the tenant.
    pub fn takes(&self, vm: &Vm, image: &str, name: Option<&str>) -> bool {
        self.fits(vm.state_word(), image, name)
    }

    /// Whether one that does not run, and of which its creator has said whose it is, is asked for.
    pub fn takes_stopped(&self, image: &str, name: &str, tenant: Tenant) -> bool {
        let behind = self.first_slot().is_some() || self.after.as_deref().is_none_or(|after| name > after);
        behind && self.tenant.is_none_or(|wanted| wanted == tenant) && self.fits(STOPPED, image, Some(name))
    }

    fn fits(&self, state: &str, image: &str, name: Option<&str>) -> bool {
        self.state.as_deref().is_none_or(|wanted| wanted == state)
            && self.image.as_deref().is_none_or(|wanted| wanted == image)
            && self.name.as_deref().is_none_or(|wanted| name.is_some_and(|name| name.starts_with(wanted)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::vm::{ImageId, VmId};

    fn query(text: &str) -> Query {
        Query::of_address(text).expect(text)
    }

    #[test]
    fn addresses_say_what_is_asked_for() {
        assert_eq!(query(""), Query::default());
        let all = query("state=out-disk&image=httpd&name=web-&after=vm7.1&limit=20");
        assert_eq!((all.limit, all.first_slot(), all.name.as_deref()), (20, Some(8), Some("web-")));
        assert_eq!(query("after=web-3").first_slot(), None);
        for (wrong, key) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("state=pooled", "state"),
            ("x=1", "x"),
            ("a", "a"),
            ("tenant=Blue", "tenant"),
        ] {
            assert_eq!(Query::of_address(wrong).expect_err(wrong).0, key);
        }
    }

    #[test]
    fn those_are_listed_that_fit() {
        let vm = Vm {
            id: VmId::new(3, 1),
            image: ImageId::new(0),
            state: vm_state::IDLE,
            ran_ticks: 0,
            frames: 0,
            limit: 0,
            ipv4: 0,
        };
        for (text, fits) in [
            ("", true),
            ("state=idle&image=a&name=web", true),
            ("state=ready", false),
            ("image=b", false),
            ("name=x", false),
        ] {
            assert_eq!(query(text).takes(&vm, "a", Some("web-1")), fits, "{text}");
        }
        let blue = Tenant::new("blue").expect("a name");
        assert!(!query("name=").takes(&vm, "a", None), "it has no name");
        for (text, fits) in [
            ("", true),
            ("after=vm99.1", true),
            ("after=b", false),
            ("after=a", true),
            ("state=stopped", true),
            ("state=idle", false),
            ("tenant=blue", true),
            ("tenant=red", false),
        ] {
            assert_eq!(query(text).takes_stopped("a", "b", blue), fits, "{text}");
        }
    }
}
