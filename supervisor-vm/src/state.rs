//! What is kept, as records: names of VMs, tokens, quotas, images, the host's key, and which start of the machine it is about. `docs/supervisor.md` has the
//! format byte by byte.

use crate::library::{Kept, kept_of};
use crate::limits::Limits;
use crate::names::{Named, is_name};
use crate::owners::Owners;
use crate::store::journal::Records;
use crate::store::record::{Kind, Record};
use crate::tokens::Made;
use abi::attachment::Attachment;
use abi::claim::RESERVE_LEAST;
use abi::flow::Flow;
use abi::guest::BOOT_ARGS_MAX;
use abi::limits::Name;
use abi::quota::Quota;
use abi::share::WEIGHT_MAX;
use abi::tenant::Tenant;
use abi::terms::Terms;
use abi::vm::{ImageId, VmId};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The number of an image that is not known yet.
pub const NO_IMAGE: ImageId = ImageId::new(u32::MAX);
/// Bytes in front of the texts of a VM.
const VM_HEADER: usize = 24;
/// The bits of the first byte.
const RUNS: u8 = 1;
/// See [`RUNS`].
const OF_FLEET: u8 = 2;

/// Which start of the machine the rest is about, and how many ends of VMs are in the audit log of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// As [`abi::control::ControlReply::Boot`] says it, the lower half first.
    pub id: [u64; 2],
    /// VMs that have ended since, and were written down.
    pub ended: u64,
    /// The position in the machine's log up to which the same is so of what was done on COM1; 0 for nothing.
    pub heard: u64,
}

/// All that is kept.
#[derive(Debug, Default)]
pub struct State {
    /// The private key of the host.
    pub host: Option<[u8; 32]>,
    /// Which start of the machine it is about.
    pub boot: Boot,
    /// VMs with names.
    pub names: Vec<(String, Named)>,
    /// Tokens.
    pub tokens: Vec<(String, Made)>,
    /// Quotas of tenants.
    pub quotas: Vec<(Tenant, Limits)>,
    /// Whose virtual disks are, and what tenants may have of them.
    pub owners: Owners,
    /// Images that were put.
    pub images: Vec<(String, Kept)>,
}

impl State {
    /// What these records say; `None` where one makes no sense.
    pub fn of(records: &Records) -> Option<State> {
        let mut state = State::default();
        for ((kind, key), value) in records {
            let key = core::str::from_utf8(key).ok()?;
            match kind {
                Kind::HostKey => state.host = Some(*value.as_array()?),
                Kind::Boot => state.boot = Boot::of(value)?,
                Kind::Vm => state.names.push((named(key)?, vm_of(value)?)),
                Kind::Token => state.tokens.push((named(key)?, token_of(value)?)),
                Kind::Quota => state.quotas.push((Tenant::new(key)?, quota_of(value)?)),
                Kind::Disk => state.owners.take_disk(key, value)?,
                Kind::DiskQuota => state.owners.take_quota(key, value)?,
                Kind::Image => state.images.push(kept_of(key, value)?),
            }
        }
        Some(state)
    }
}

fn named(key: &str) -> Option<String> {
    is_name(key).then(|| key.to_string())
}

/// Takes so many bytes.
fn take<'b>(bytes: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn word(bytes: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*take(bytes, 8)?.as_array()?))
}

fn half(bytes: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*take(bytes, 4)?.as_array()?))
}

impl Boot {
    fn of(mut bytes: &[u8]) -> Option<Boot> {
        let (id, ended) = ([word(&mut bytes)?, word(&mut bytes)?], word(&mut bytes)?);
        // Records from before COM1 was listened to end here.
        let heard = if bytes.is_empty() { 0 } else { word(&mut bytes)? };
        let boot = Boot { id, ended, heard };
        bytes.is_empty().then_some(boot)
    }

    /// The record.
    pub fn record(&self) -> Option<Vec<u8>> {
        let value = [self.id[0], self.id[1], self.ended, self.heard].map(u64::to_le_bytes).concat();
        Record { kind: Kind::Boot, key: b"", value: Some(&value) }.to_bytes()
    }
}

/// The record of the host's key.
pub fn host_record(key: &[u8; 32]) -> Option<Vec<u8>> {
    Record { kind: Kind::HostKey, key: b"", value: Some(key) }.to_bytes()
}

/// The record of a token, or of there being none.
pub fn token_record(name: &str, made: Option<&Made>) -> Option<Vec<u8>> {
    let value = made.map(|made| [&made.hash[..], &made.unix_ms.to_le_bytes()].concat());
    Record { kind: Kind::Token, key: name.as_bytes(), value: value.as_deref() }.to_bytes()
}

fn token_of(mut bytes: &[u8]) -> Option<Made> {
    let made = Made { hash: *take(&mut bytes, 32)?.as_array()?, unix_ms: word(&mut bytes)?, used: 0 };
    bytes.is_empty().then_some(made)
}

/// The record of a quota.
pub fn quota_record(tenant: Tenant, (quota, flow): Limits) -> Option<Vec<u8>> {
    let mut value = [&quota.frames.to_le_bytes()[..], &quota.vms.to_le_bytes()].concat();
    if quota.most_pool().is_some() || flow != Flow::NONE {
        value.extend(quota.pool.to_le_bytes());
    }
    if flow != Flow::NONE {
        value.extend(flow.wakes.to_le_bytes());
        value.extend(flow.rate.to_le_bytes());
    }
    Record { kind: Kind::Quota, key: tenant.to_string().as_bytes(), value: Some(&value) }.to_bytes()
}

fn quota_of(mut bytes: &[u8]) -> Option<Limits> {
    let frames = word(&mut bytes)?;
    let vms = half(&mut bytes)?;
    // Records from before there were such quotas end here or below, and so do those of tenants without one.
    let pool = if bytes.is_empty() { Quota::ANY_POOL } else { word(&mut bytes)? };
    let flow = if bytes.is_empty() { Flow::NONE } else { Flow { wakes: half(&mut bytes)?, rate: half(&mut bytes)? } };
    bytes.is_empty().then_some((Quota { vms, frames, pool }, flow))
}

/// The record of a VM, or of there being none of this name; `None` where it is too long.
pub fn vm_record(name: &str, named: Option<&Named>) -> Option<Vec<u8>> {
    let value = match named {
        Some(named) => Some(vm_bytes(named)?),
        None => None,
    };
    Record { kind: Kind::Vm, key: name.as_bytes(), value: value.as_deref() }.to_bytes()
}

fn vm_bytes(named: &Named) -> Option<Vec<u8>> {
    let Named { image: _, image_name, terms, args, vm, of_fleet, runs } = named;
    let disk = if terms.disk.is_none() { String::new() } else { terms.disk.to_string() };
    let tenant = if terms.tenant.is_unsaid() { String::new() } else { terms.tenant.to_string() };
    let short = |text: &str| u8::try_from(text.len()).ok();
    let mut bytes = Vec::with_capacity(VM_HEADER + 32 + args.len());
    let flags = if *runs { RUNS } else { 0 } | if *of_fleet { OF_FLEET } else { 0 };
    bytes.extend([flags, short(image_name)?, short(&disk)?, short(&tenant)?]);
    bytes.extend(terms.share.weight.to_le_bytes());
    bytes.extend(u16::try_from(args.len()).ok()?.to_le_bytes());
    bytes.extend(terms.claim.limit.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(vm.map_or(0, VmId::raw).to_le_bytes());
    for text in [image_name, &disk, &tenant, args] {
        bytes.extend(text.as_bytes());
    }
    Some(bytes)
}

fn vm_of(mut bytes: &[u8]) -> Option<Named> {
    let rest = &mut bytes;
    let [flags, image, disk, tenant] = *take(rest, 4)?.as_array()?;
    let weight = u16::from_le_bytes(*take(rest, 2)?.as_array()?);
    let args = u16::from_le_bytes(*take(rest, 2)?.as_array()?);
    let limit = u32::from_le_bytes(*take(rest, 4)?.as_array()?);
    let zero = take(rest, 4)?;
    let vm = word(rest)?;
    let mut text = |count: usize| core::str::from_utf8(take(rest, count)?).ok();
    let (image, disk, tenant) = (text(image.into())?, text(disk.into())?, text(tenant.into())?);
    let args = text(args.into())?;
    let makes_sense = flags & !(RUNS | OF_FLEET) == 0
        && zero == [0; 4]
        && bytes.is_empty()
        && weight <= WEIGHT_MAX
        && (limit == 0 || limit >= RESERVE_LEAST)
        && args.len() <= BOOT_ARGS_MAX
        && Name::new(image).is_some_and(|name| !name.is_empty());
    if !makes_sense {
        return None;
    }
    let mut terms = Terms::UNSAID;
    (terms.share.weight, terms.claim.limit) = (weight, limit);
    if !disk.is_empty() {
        terms.disk = Attachment::parse(disk)?;
    }
    if !tenant.is_empty() {
        terms.tenant = Tenant::new(tenant)?;
    }
    Some(Named {
        image: NO_IMAGE,
        image_name: image.to_string(),
        terms,
        args: args.to_string(),
        vm: (vm != 0).then(|| VmId::from_raw(vm)),
        of_fleet: flags & OF_FLEET != 0,
        runs: flags & RUNS != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::take;
    use crate::wanted::Wanted;
    use proptest::prelude::*;

    fn records(all: impl IntoIterator<Item = Option<Vec<u8>>>) -> Records {
        let mut records = Records::new();
        for bytes in all {
            let bytes = bytes.expect("short");
            let (record, rest) = take(&bytes).expect("a record");
            assert!(rest.is_empty());
            records.insert((record.kind, record.key.to_vec()), record.value.expect("it is there").to_vec());
        }
        records
    }

    fn vm(parts: &[(&str, &str)], args: &str, vm: Option<VmId>) -> Named {
        let mut wanted = Wanted::default();
        parts.iter().for_each(|(key, value)| assert_eq!(wanted.set(key, value), Ok(()), "{key}"));
        let (image_name, args, terms) = ("httpd".to_string(), args.to_string(), wanted.terms);
        Named { image: NO_IMAGE, image_name, terms, args, vm, of_fleet: vm.is_none(), runs: vm.is_some() }
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let all = [("memory", "8M"), ("disk", "docs:ro"), ("weight", "7"), ("tenant", "blue")];
        let long = "x".repeat(BOOT_ARGS_MAX);
        let longest = "a".repeat(63);
        let names = [
            ("a", vm(&[], "", None)),
            ("b-2", vm(&all, "a=b c=\"d\"", Some(VmId::new(0, 1)))),
            (longest.as_str(), vm(&all[..1], &long, Some(VmId::new(7, 9)))),
        ];
        let made = Made { hash: [9; 32], unix_ms: 77, used: 0 };
        let (blue, quota) = (Tenant::new("blue").expect("a name"), Quota { vms: 3, ..Quota::NONE });
        let blue = (blue, (quota, Flow::NONE));
        let red = (Tenant::new("red").expect("a name"), (Quota { pool: 9, ..Quota::NONE }, Flow::NONE));
        let green = (Tenant::new("green").expect("a name"), (Quota::NONE, Flow { wakes: 5, rate: 9 }));
        let boot = Boot { id: [1, u64::MAX], ended: 64, heard: 7 };
        let mut kept = Vec::from([host_record(&[5; 32]), boot.record(), token_record("ci", Some(&made))]);
        kept.extend([blue, green, red].map(|(tenant, limits)| quota_record(tenant, limits)));
        kept.extend(names.iter().map(|(name, named)| vm_record(name, Some(named))));
        let state = State::of(&records(kept)).expect("it makes sense");
        assert_eq!((state.host, state.boot), (Some([5; 32]), boot));
        assert_eq!(
            (state.tokens, state.quotas),
            (Vec::from([("ci".to_string(), made)]), Vec::from([blue, green, red]))
        );
        for (name, wanted) in &names {
            let (_, found) = state.names.iter().find(|(found, _)| found == name).expect(name);
            assert_eq!(found, wanted);
        }
        assert_eq!(state.names.len(), names.len());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let good = vm_bytes(&vm(&[("tenant", "blue")], "a", None)).expect("short");
        assert!(vm_of(&good).is_some());
        for (at, value) in [(0, 4), (1, 200), (2, 1), (4, 255), (8, 1), (12, 1), (VM_HEADER, 0), (VM_HEADER + 5, b' ')]
        {
            let mut bad = good.clone();
            bad[at] = value;
            if at == 4 {
                bad[5] = 255;
            }
            assert_eq!(vm_of(&bad), None, "{at}");
        }
        assert_eq!((vm_of(&good[..good.len() - 1]), vm_of(&[good.clone(), vec(1)].concat())), (None, None));
        for (kind, key, value) in [
            (Kind::HostKey, "", vec(31)),
            (Kind::Boot, "", vec(23)),
            (Kind::Vm, "A", good.clone()),
            (Kind::Token, "", vec(40)),
            (Kind::Token, "a", vec(41)),
            (Kind::Quota, "seven77", vec(12)),
            (Kind::Quota, "a", vec(13)),
            (Kind::Quota, "a", vec(21)),
            (Kind::Quota, "a", vec(24)),
            (Kind::Quota, "a", vec(29)),
            (Kind::Image, "a", vec(56)),
        ] {
            let records = Records::from([((kind, key.as_bytes().to_vec()), value)]);
            assert!(State::of(&records).is_none(), "{kind:?} {key}");
        }
    }

    fn vec(bytes: usize) -> Vec<u8> {
        alloc::vec![0; bytes]
    }

    proptest! {
        #[test]
        fn no_value_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(named) = vm_of(&bytes) {
                prop_assert_eq!(vm_bytes(&named), Some(bytes));
            }
        }
    }
}
