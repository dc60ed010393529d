//! Whose virtual disks are, and how much of the set tenants may have of them. The disk component knows neither, so this VM keeps both.

use crate::store::record::{Kind, Record};
use abi::guest_disk::BLOCK_BYTES;
use abi::limits::Name;
use abi::tenant::Tenant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A quota of any number of blocks, which is only kept where the manifest says another one.
const ANY: u64 = u64::MAX;
/// Quotas that are kept at most.
pub const QUOTAS: usize = 1024;

/// A virtual disk that is a tenant's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Whose.
    pub tenant: Tenant,
    /// Its blocks of 4 KiB.
    pub blocks: u64,
}

/// A tenant that wants more of the set than it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// Bytes that its virtual disks would have together.
    pub would: u64,
    /// Bytes that they may have.
    pub quota: u64,
}

/// Bytes of so many blocks.
const fn bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK_BYTES as u64)
}

/// All that is known.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Owners {
    disks: BTreeMap<String, Owned>,
    /// Blocks, by the names of tenants that have a quota.
    quotas: BTreeMap<String, u64>,
    /// The same as the manifest says it, for tenants of whom nothing was said here.
    told: BTreeMap<String, u64>,
    changed: BTreeSet<(bool, String)>,
}

impl Owners {
    /// A virtual disk is a tenant's from now on, or nobody's.
    pub fn set(&mut self, disk: &str, owned: Option<Owned>) {
        let before = match owned {
            Some(owned) => self.disks.insert(disk.to_string(), owned),
            None => self.disks.remove(disk),
        };
        if before != owned {
            self.changed.insert((true, disk.to_string()));
        }
    }

    /// Whose a virtual disk is.
    pub fn of(&self, disk: &str) -> Option<Owned> {
        self.disks.get(disk).copied()
    }

    /// Only these are there: what was removed by others is nobody's. Where none are, no set is in use just now, and all may come back.
    pub fn retain(&mut self, there: &BTreeSet<String>) {
        if there.is_empty() {
            return;
        }
        let gone: Vec<String> = self.disks.keys().filter(|disk| !there.contains(*disk)).cloned().collect();
        gone.iter().for_each(|disk| self.set(disk, None));
    }

    /// A tenant may have so many blocks from now on; `None` for any number. False where there are too many quotas already.
    #[must_use]
    pub fn set_quota(&mut self, tenant: Tenant, quota: Option<u64>) -> bool {
        let name = tenant.to_string();
        let quota = quota.or_else(|| self.told.contains_key(&name).then_some(ANY));
        if quota.is_some() && self.quotas.len() >= QUOTAS && !self.quotas.contains_key(&name) {
            return false;
        }
        let before = match quota {
            Some(blocks) => self.quotas.insert(name.clone(), blocks),
            None => self.quotas.remove(&name),
        };
        if before != quota {
            self.changed.insert((false, name));
        }
        true
    }

    /// What the manifest says of a tenant.
    pub fn note_told(&mut self, tenant: Tenant, blocks: u64) {
        self.told.insert(tenant.to_string(), blocks);
    }

    /// Blocks that a tenant may have, where it has a quota.
    pub fn quota(&self, tenant: &str) -> Option<u64> {
        self.quotas.get(tenant).or_else(|| self.told.get(tenant)).copied().filter(|&blocks| blocks != ANY)
    }

    /// Bytes that a tenant's virtual disks have together, and that they may have where it has a quota.
    pub fn standing(&self, tenant: &str) -> (u64, Option<u64>) {
        let owned = self.disks.values().filter(|owned| owned.tenant.to_string() == tenant);
        let blocks = owned.fold(0_u64, |sum, owned| sum.saturating_add(owned.blocks));
        (bytes(blocks), self.quota(tenant).map(bytes))
    }

    /// The names of all tenants that have virtual disks or such a quota.
    pub fn tenants(&self) -> BTreeSet<String> {
        let limited = self.quotas.keys().chain(self.told.keys()).filter(|name| self.quota(name).is_some());
        self.disks.values().map(|owned| owned.tenant.to_string()).chain(limited.cloned()).collect()
    }

    /// Whether a tenant may have so many blocks more.
    ///
    /// # Errors
    ///
    /// [`Over`].
    pub fn check(&self, tenant: Tenant, blocks: u64) -> Result<(), Over> {
        let (has, quota) = self.standing(&tenant.to_string());
        let would = has.saturating_add(bytes(blocks));
        match quota {
            Some(quota) if would > quota => Err(Over { would, quota }),
            _ => Ok(()),
        }
    }

    /// Records of what has changed since this was last asked.
    pub fn take_changed(&mut self) -> Vec<Vec<u8>> {
        let changed = core::mem::take(&mut self.changed);
        let record = |(is_disk, name): &(bool, String)| match is_disk {
            true => disk_record(name, self.disks.get(name)),
            false => quota_record(name, self.quotas.get(name)),
        };
        changed.iter().filter_map(record).collect()
    }

    /// Records of all.
    pub fn records(&self) -> impl Iterator<Item = Vec<u8>> {
        let disks = self.disks.iter().filter_map(|(name, owned)| disk_record(name, Some(owned)));
        disks.chain(self.quotas.iter().filter_map(|(name, blocks)| quota_record(name, Some(blocks))))
    }

    /// Takes in a record of a virtual disk; `None` where it makes no sense.
    pub fn take_disk(&mut self, name: &str, value: &[u8]) -> Option<()> {
        let (blocks, tenant) = value.split_first_chunk::<8>()?;
        let tenant = Tenant::new(core::str::from_utf8(tenant).ok()?)?;
        Name::new(name).filter(|name| !name.is_empty())?;
        self.disks.insert(name.to_string(), Owned { tenant, blocks: u64::from_le_bytes(*blocks) });
        Some(())
    }

    /// Takes in a record of a quota; `None` where it makes no sense.
    pub fn take_quota(&mut self, name: &str, value: &[u8]) -> Option<()> {
        self.quotas.insert(Tenant::new(name)?.to_string(), u64::from_le_bytes(*value.as_array()?));
        Some(())
    }
}

fn disk_record(name: &str, owned: Option<&Owned>) -> Option<Vec<u8>> {
    let value = owned.map(|owned| [&owned.blocks.to_le_bytes()[..], owned.tenant.to_string().as_bytes()].concat());
    Record { kind: Kind::Disk, key: name.as_bytes(), value: value.as_deref() }.to_bytes()
}

fn quota_record(name: &str, blocks: Option<&u64>) -> Option<Vec<u8>> {
    let value = blocks.map(|blocks| blocks.to_le_bytes());
    Record { kind: Kind::DiskQuota, key: name.as_bytes(), value: value.as_ref().map(|value| &value[..]) }.to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::take;

    fn blue() -> Tenant {
        Tenant::new("blue").expect("a name")
    }

    #[test]
    fn a_tenant_has_no_more_than_it_may() {
        let mut owners = Owners::default();
        assert_eq!(owners.check(blue(), u64::MAX), Ok(()), "it has no quota");
        assert!(owners.set_quota(blue(), Some(10)));
        owners.set("a", Some(Owned { tenant: blue(), blocks: 6 }));
        owners.set("b", Some(Owned { tenant: Tenant::new("red").expect("a name"), blocks: 6 }));
        assert_eq!(owners.check(blue(), 4), Ok(()));
        assert_eq!(owners.check(blue(), 5), Err(Over { would: 11 * 4096, quota: 10 * 4096 }));
        assert!(owners.check(blue(), u64::MAX).is_err());
        assert_eq!(owners.standing("blue"), (6 * 4096, Some(10 * 4096)));
        owners.retain(&BTreeSet::new());
        assert_eq!(owners.standing("blue").0, 6 * 4096, "the set may come back");
        owners.retain(&BTreeSet::from(["b".to_string()]));
        assert_eq!((owners.standing("blue").0, owners.check(blue(), 10)), (0, Ok(())));
        assert!(owners.set_quota(blue(), None));
        assert_eq!(owners.tenants().into_iter().collect::<Vec<_>>(), ["red"]);
    }

    #[test]
    fn what_is_kept_is_found_again_and_nonsense_is_refused() {
        let mut owners = Owners::default();
        owners.set("logs", Some(Owned { tenant: blue(), blocks: 7 }));
        owners.set("gone", Some(Owned { tenant: blue(), blocks: 7 }));
        owners.set("gone", None);
        assert!(owners.set_quota(blue(), Some(u64::MAX)));
        let changed = owners.take_changed();
        assert_eq!((changed.len(), owners.take_changed().len()), (3, 0));
        let mut found = Owners::default();
        for bytes in owners.records() {
            let (record, _) = take(&bytes).expect("a record");
            let (key, value) = (core::str::from_utf8(record.key).expect("text"), record.value.expect("there"));
            let taken =
                if record.kind == Kind::Disk { found.take_disk(key, value) } else { found.take_quota(key, value) };
            assert_eq!(taken, Some(()));
        }
        assert_eq!(found, owners);
        assert_eq!(
            (found.take_disk("", &[0; 12]), found.take_disk("a", &[0; 7]), found.take_disk("a", &[0; 12])),
            (None, None, None)
        );
        assert_eq!((found.take_quota("Blue", &[0; 8]), found.take_quota("blue", &[0; 9])), (None, None));
    }

    #[test]
    fn what_was_said_here_counts_in_the_place_of_the_manifests() {
        let mut owners = Owners::default();
        owners.note_told(blue(), 10);
        assert_eq!((owners.quota("blue"), owners.records().count()), (Some(10), 0), "it is not kept");
        assert!(owners.check(blue(), 11).is_err() && owners.tenants().contains("blue"));
        assert!(owners.set_quota(blue(), Some(20)));
        assert_eq!(owners.quota("blue"), Some(20));
        assert!(owners.set_quota(blue(), None));
        assert_eq!((owners.quota("blue"), owners.tenants().len()), (None, 0));
        // That is kept, too.
        let records: Vec<Vec<u8>> = owners.records().collect();
        let mut found = Owners::default();
        let (record, _) = take(&records[0]).expect("a record");
        assert_eq!(found.take_quota("blue", record.value.expect("there")), Some(()));
        found.note_told(blue(), 10);
        assert_eq!((records.len(), found.quota("blue")), (1, None));
    }

    #[test]
    fn there_are_so_many_quotas_and_no_more() {
        let mut owners = Owners::default();
        for number in 0..QUOTAS {
            assert!(owners.set_quota(Tenant::new(&alloc::format!("t{number}")).expect("a name"), Some(1)));
        }
        assert!(!owners.set_quota(blue(), Some(1)) && owners.set_quota(blue(), None));
        assert!(owners.set_quota(Tenant::new("t1").expect("a name"), Some(2)));
    }
}
