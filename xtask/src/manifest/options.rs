//! Boot options in the command line's syntax: `vms=httpd*8,hostile quantum=10ms sched=round-robin log=info`.

use super::model::{Component, Image, System, Tenant};
use super::units::{Bytes, micros};
use abi::attachment::Attachment;
use abi::limits::{MAX_SEATS, MAX_SLOTS, PAGE_SIZE};
use abi::nic::Node;
use abi::options::KEYS;
use abi::sched::Admission;
use abi::service::Service;

/// Log levels that `log=` takes.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// What the core does when it cannot go on.
const ON_FATAL: [&str; 2] = ["halt", "poweroff"];
/// Mistakes that the core makes on purpose, to see that it finds them.
const SELF_TESTS: [&str; 3] = ["none", "wx", "entry-failure"];

/// When VMs start.
const STARTS: [&str; 2] = ["lazy", "now"];
/// What is done against side channels.
const BARRIERS: [&str; 3] = ["auto", "off", "strict"];

/// The last value that `options` gives to `key`: later options override earlier ones.
pub fn value<'a>(options: &'a str, key: &str) -> Option<&'a str> {
    options
        .split_whitespace()
        .filter_map(|option| option.split_once('='))
        .filter(|(k, _)| *k == key)
        .map(|(_, v)| v)
        .next_back()
}

/// The last address that `options` gives with `net=`, which also chooses the network's policy: `dhcp` or `ADDRESS/BITS...`. It is
/// not checked.
pub fn address<'a>(options: &'a str, system: &System) -> Option<&'a str> {
    let policies = net_policies(system);
    let mut values = options.split_whitespace().filter_map(|option| option.strip_prefix("net="));
    values.rfind(|value| !policies.iter().any(|name| name == value))
}

/// The image names in the value of `vms=`, one for each VM in the order of their slots.
///
/// # Errors
/// A sentence about the first item that makes no sense.
pub fn vms(value: &str) -> Result<Vec<String>, String> {
    let mut images = Vec::new();
    for item in value.split(',').filter(|item| !item.is_empty()) {
        let (item, disk) = item.split_once(":disk=").map_or((item, None), |(item, disk)| (item, Some(disk)));
        let attachment = disk.map(Attachment::parse);
        if attachment == Some(None) {
            return Err(format!(
                "`vms={value}`: \"{}\" is no virtual disk: write `NAME` or `NAME:ro`, as in `httpd*8:disk=web:ro`",
                disk.unwrap_or_default()
            ));
        }
        let (name, count) = match item.split_once('*') {
            None => (item, 1),
            Some((name, count)) => match count.parse::<usize>() {
                Ok(count) if (1..=MAX_SLOTS).contains(&count) => (name, count),
                _ => {
                    return Err(format!(
                        "`vms={value}`: \"{count}\" is no number of VMs: write 1 to {MAX_SLOTS}, as in `httpd*8`"
                    ));
                }
            },
        };
        if let Some(Some(disk)) = attachment
            && count > 1
            && !disk.is_read_only()
        {
            return Err(format!(
                "`vms={value}` lets several VMs write the virtual disk {disk}: write `disk={disk}:ro`, or ask for one VM"
            ));
        }
        if images.len() + count > MAX_SLOTS {
            return Err(format!(
                "`vms={value}` asks for more than the {MAX_SLOTS} VMs that can be named: ask for fewer"
            ));
        }
        images.extend(std::iter::repeat_n(name.to_owned(), count));
    }
    Ok(images)
}

/// Everything in `options` that makes no sense for `system`, a sentence each.
pub fn check(options: &str, system: &System) -> Vec<String> {
    let mut errors = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for option in options.split_whitespace() {
        let Some((key, value)) = option.split_once('=') else {
            errors.push(format!("`{option}` is no option: write `key=value`"));
            continue;
        };
        // The addresses and the policy of the network are two things.
        let what =
            if key == "net" && net_policies(system).iter().any(|name| name == value) { "net policy" } else { key };
        if seen.contains(&what) {
            errors.push(format!("`{key}=` is given twice: keep one"));
        }
        seen.push(what);
        if let Err(error) = check_one(key, value, system) {
            errors.push(error);
        }
    }
    errors
}

/// Whether VMs of these images are within the quotas of their tenants. What disks take that `vms=` gives them is for the loader to see.
fn quotas(names: &[String], system: &System) -> Result<(), String> {
    for told in &system.tenant {
        let (Tenant { name: tenant, .. }, (quota, _)) = (told, told.of_core());
        let its = |image: &&Image| image.tenant.as_ref() == Some(tenant);
        let (mut count, mut frames) = (0_u64, 0_u64);
        for image in system.image.iter().filter(its) {
            let asked = names.iter().filter(|name| **name == image.name).count() as u64;
            count += asked;
            frames = frames.saturating_add(asked.saturating_mul(image.limit_frames()));
        }
        if let Some(most) = quota.most_vms().filter(|&most| count > most.into()) {
            return Err(format!(
                "`vms=` asks for {count} VMs of the tenant `{tenant}`, whose quota is {most}: ask for fewer, or raise its `vms`"
            ));
        }
        if let Some(most) = quota.most_frames().filter(|&most| frames > most) {
            return Err(format!(
                "`vms=` asks for VMs of the tenant `{tenant}` that may hold {}KiB together, and its quota is {}KiB: ask for fewer, lower their `limit`, or raise its `memory`",
                frames.saturating_mul(PAGE_SIZE) >> 10,
                most.saturating_mul(PAGE_SIZE) >> 10
            ));
        }
    }
    Ok(())
}

fn check_one(key: &str, value: &str, system: &System) -> Result<(), String> {
    match key {
        "vms" => {
            let names = vms(value)?;
            for name in &names {
                if !system.image.iter().any(|image| image.name == *name) {
                    let known: Vec<&str> = system.image.iter().map(|image| image.name.as_str()).collect();
                    return Err(format!("`vms=` names the unknown image `{name}`: known are {}", known.join(", ")));
                }
            }
            quotas(&names, system)
        }
        "slots" => places(key, value, MAX_SLOTS),
        "seats" => places(key, value, MAX_SEATS),
        "node" => match value.parse::<u32>() {
            Ok(number) if Node::new(number).number() == number => Ok(()),
            _ => Err(format!("`node={value}` is no node: write a number from 0 to {}", Node::new(u32::MAX).number())),
        },
        "memory-wait" => match micros(value) {
            Ok(1_000..=60_000_000) => Ok(()),
            Ok(_) => Err(format!("`memory-wait={value}` is out of range: write 1ms to 60s")),
            Err(error) => Err(format!("`memory-wait=`: {error}")),
        },
        "residence" => match micros(value) {
            Ok(1_000..=60_000_000) => Ok(()),
            Ok(_) => Err(format!("`residence={value}` is out of range: write 1ms to 60s")),
            Err(error) => Err(format!("`residence=`: {error}")),
        },
        "pool" if value == "0" => Ok(()),
        "pool" => match Bytes::try_from(value.to_owned()) {
            Ok(Bytes(0..=0x100_0000_0000)) => Ok(()),
            Ok(_) => Err(format!("`pool={value}` is out of range: write 0 to 1024GiB")),
            Err(error) => Err(format!("`pool=`: {error}")),
        },
        "quantum" => match micros(value) {
            Ok(10..=1_000_000) => Ok(()),
            Ok(_) => Err(format!("`quantum={value}` is out of range: write 10us to 1s")),
            Err(error) => Err(format!("`quantum=`: {error}")),
        },
        "net" => {
            let policies = net_policies(system);
            if policies.iter().any(|name| name == value) {
                return Ok(());
            }
            net(value).map_err(|error| {
                if policies.is_empty() { error } else { format!("{error}, or a policy: {}", policies.join(", ")) }
            })
        }
        "gatekeeper" => one_of(key, value, &Admission::NAMES),
        "log" => one_of(key, value, &LEVELS),
        "on-fatal" => one_of(key, value, &ON_FATAL),
        "selftest" => one_of(key, value, &SELF_TESTS),
        "start" => one_of(key, value, &STARTS),
        "barriers" => one_of(key, value, &BARRIERS),
        "disk" => match system.parties(Service::Disk).first() {
            Some(component) => policy(key, value, component),
            None => Err("`disk=` chooses who serves disks, and no component does".to_owned()),
        },
        role => match system.component.iter().find(|component| component.name == role) {
            Some(component) => policy(key, value, component),
            None => {
                let roles = system.component.iter().map(|component| component.name.as_str());
                let known: Vec<&str> = KEYS.into_iter().chain(roles).collect();
                Err(format!("`{key}=` is no option: known are {}", known.join(", ")))
            }
        },
    }
}

/// Whether a component has the policy that an option names.
fn policy(key: &str, value: &str, component: &Component) -> Result<(), String> {
    let programs = component.programs();
    if programs.iter().any(|program| program.name == value) {
        return Ok(());
    }
    let known: Vec<&str> = programs.iter().map(|program| program.name.as_str()).collect();
    Err(format!("`{key}={value}` names an unknown policy: known are {}", known.join(", ")))
}

/// The policies of the most important demultiplexer, where it has any to choose from.
fn net_policies(system: &System) -> Vec<String> {
    let parties = system.parties(Service::Net);
    parties.first().into_iter().flat_map(|component| &component.policies).map(|policy| policy.name.clone()).collect()
}

/// `N` or `2^K`, from 1 to `most`.
fn places(key: &str, value: &str, most: usize) -> Result<(), String> {
    let number = match value.strip_prefix("2^") {
        Some(exponent) => exponent.parse().ok().and_then(|exponent| 1_usize.checked_shl(exponent)),
        None => value.parse().ok(),
    };
    match number {
        Some(number) if (1..=most).contains(&number) => Ok(()),
        _ => Err(format!("`{key}={value}` is out of range: write 1 to {most} or a power of two, as in `{key}=2^12`")),
    }
}

fn one_of(key: &str, value: &str, known: &[&str]) -> Result<(), String> {
    if known.contains(&value) {
        return Ok(());
    }
    Err(format!("`{key}={value}` has an unknown value: known are {}", known.join(", ")))
}

/// `dhcp`, or `ADDRESS/BITS,gw=ADDRESS`.
fn net(value: &str) -> Result<(), String> {
    if value == "dhcp" {
        return Ok(());
    }
    let wrong = || format!("`net={value}` is no address: write `net=10.0.2.16/24,gw=10.0.2.2` or `net=dhcp`");
    let mut parts = value.split(',');
    let (address, bits) = parts.next().and_then(|first| first.split_once('/')).ok_or_else(wrong)?;
    address.parse::<std::net::Ipv4Addr>().map_err(|_| wrong())?;
    if !bits.parse::<u8>().is_ok_and(|bits| (1..=30).contains(&bits)) {
        return Err(wrong());
    }
    match (parts.next(), parts.next()) {
        (None, _) => Ok(()),
        (Some(gateway), None) => {
            let gateway = gateway.strip_prefix("gw=").ok_or_else(wrong)?;
            gateway.parse::<std::net::Ipv4Addr>().map(|_| ()).map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vms_have_disks() {
        assert_eq!(
            vms("httpd*2:disk=web:ro,disk-log:disk=log"),
            Ok(["httpd", "httpd", "disk-log"].map(String::from).to_vec())
        );
        let error = vms("httpd:disk=web:rw").expect_err("no disk");
        assert!(error.contains("\"web:rw\" is no virtual disk: write `NAME` or `NAME:ro`"), "{error}");
        let error = vms("httpd*2:disk=log").expect_err("two writers");
        assert!(error.ends_with("write `disk=log:ro`, or ask for one VM"), "{error}");
    }

    #[test]
    fn later_options_win() {
        assert_eq!(value("vms=a*2 log=info vms=b", "vms"), Some("b"));
        assert_eq!(value("vms=a", "net"), None);
        let system = crate::manifest::load(&crate::workspace::root().join("system.toml")).unwrap();
        assert_eq!(address("net=dhcp net=10.0.2.16/24 net=drr", &system), Some("10.0.2.16/24"));
        assert_eq!(address("net=drr", &system), None);
    }

    #[test]
    fn vm_lists_are_spelt_out() {
        assert_eq!(vms("httpd*2,hostile").unwrap(), ["httpd", "httpd", "hostile"]);
        assert!(vms("httpd*0").is_err());
        assert!(vms("httpd*1048577").is_err());
        assert!(vms("a*1048576,b").is_err());
        assert_eq!(vms("").unwrap().len(), 0);
    }

    #[test]
    fn addresses() {
        for good in ["dhcp", "10.0.2.16/24,gw=10.0.2.2", "10.0.2.16/24"] {
            assert_eq!(net(good), Ok(()), "{good}");
        }
        for bad in ["", "10.0.2/24", "10.0.2.16", "10.0.2.16/33", "10.0.2.16/24,10.0.2.2", "10.0.2.16/24,gw=10.0.2.2,x"]
        {
            assert!(net(bad).is_err(), "{bad}");
        }
    }
}
