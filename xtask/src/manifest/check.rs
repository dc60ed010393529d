//! The rules for `system.toml` that its syntax alone does not enforce. `docs/boot.md` explains them.

use super::model::{Component, Image, Ring, Start, System};
use super::{options, service};
use abi::attachment::{self, Attachment};
use abi::claim::RESERVE_LEAST;
use abi::component::layout;
use abi::flow::Flow;
use abi::limits::{
    MAX_COMPONENTS, MAX_IMAGES, MAX_POLICIES, MAX_RINGS, MAX_RINGS_PER_COMPONENT, MAX_TENANTS, NAME_BYTES, PAGE_SIZE,
    VM_MEMORY_MAX, VM_MEMORY_MIN,
};
use abi::manifest::{DEFAULTS_BYTES, IMAGE_ARGS_BYTES, all_frames};
use abi::quota::Quota;
use abi::service::Service;
use abi::share::{BURST_MIN, UNLIMITED, WEIGHT, WEIGHT_MAX};
use abi::tenant::{NAME_MAX, Tenant};
use quota_words::TenantChange;
use std::collections::BTreeMap;

/// Pages of stack that a component may have at most.
const MAX_STACK_PAGES: u64 = 256;
/// Longest budget in microseconds. Until it has run out, a component that hangs stops everything below it.
const MAX_BUDGET_US: u64 = 1_000_000;
/// Names that mean something else already.
const RESERVED: [&str; 6] = ["core", "manifest", "loader", "core-vmx", "core-svm", "vms"];

/// Everything that is wrong with `system`, a sentence each. Empty when it is good.
pub fn check(system: &System) -> Vec<String> {
    let mut errors = Vec::new();
    counts(system, &mut errors);
    names(system, &mut errors);
    for component in &system.component {
        if let Err(error) = component_alone(component) {
            errors.push(format!("component `{}`: {error}", component.name));
        }
    }
    components_together(system, &mut errors);
    for ring in &system.ring {
        if let Err(error) = ring_alone(ring, system) {
            errors.push(format!("ring `{}`: {error}", ring.name));
        }
    }
    rings_together(system, &mut errors);
    for image in &system.image {
        if let Err(error) = image_alone(image).and_then(|()| image_servers(image, system)) {
            errors.push(format!("image `{}`: {error}", image.name));
        }
    }
    tenants(system, &mut errors);
    boot_options(system, &mut errors);
    errors
}

fn counts(system: &System, errors: &mut Vec<String>) {
    for (what, count, max) in [
        ("component", system.component.len(), MAX_COMPONENTS),
        ("ring", system.ring.len(), MAX_RINGS),
        ("image", system.image.len(), MAX_IMAGES),
        ("tenant", system.tenant.len(), MAX_TENANTS),
    ] {
        if count > max {
            errors.push(format!("{count} {what}s are more than the core has room for: at most {max}"));
        }
    }
    if system.image.is_empty() {
        errors.push("there is no image, so no VM could ever run: add an [[image]]".into());
    }
}

/// Each name is well-formed and used once among its kind; a module is one kind of program.
fn names(system: &System, errors: &mut Vec<String>) {
    let components = system.component.iter().map(|component| component.name.as_str());
    unique("component", components, errors);
    unique("ring", system.ring.iter().map(|ring| ring.name.as_str()), errors);
    unique("image", system.image.iter().map(|image| image.name.as_str()), errors);
    let mut modules: BTreeMap<String, String> = BTreeMap::new();
    for component in &system.component {
        let programs = component.programs();
        if component.module.is_none() {
            let policies = programs.iter().map(|policy| policy.name.as_str());
            unique(&format!("component `{}`: policy", component.name), policies, errors);
        }
        for module in programs.into_iter().map(|policy| policy.module) {
            if let Err(error) = name(&module) {
                errors.push(format!("component `{}`: module `{module}`: {error}", component.name));
            }
            modules.entry(module).or_insert_with(|| component.name.clone());
        }
    }
    for image in &system.image {
        if let Some(Err(error)) = image.module.as_ref().map(|module| name(module)) {
            errors.push(format!("image `{}`: module `{}`: {error}", image.name, image.module()));
        }
        if let Some(role) = modules.get(image.module()) {
            errors.push(format!(
                "image `{}`: module `{}` is the component `{role}`, and a module is either a component or a guest: name another",
                image.name,
                image.module()
            ));
        }
    }
}

fn unique<'a>(kind: &str, names: impl Iterator<Item = &'a str>, errors: &mut Vec<String>) {
    let mut seen = Vec::new();
    for text in names {
        if let Err(error) = name(text) {
            errors.push(format!("{kind} `{text}`: {error}"));
        }
        if seen.contains(&text) {
            errors.push(format!("{kind} `{text}` is there twice: rename or remove one"));
        }
        seen.push(text);
    }
}

fn name(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > NAME_BYTES {
        return Err(format!("a name has 1 to {NAME_BYTES} characters, this has {}: choose another", text.len()));
    }
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) || !text.chars().all(good) {
        return Err("a name is a lower-case letter followed by lower-case letters, digits and `-`: rename it".into());
    }
    if RESERVED.contains(&text) {
        return Err(format!("this name is taken ({} mean something else): rename it", RESERVED.join(", ")));
    }
    Ok(())
}

fn component_alone(component: &Component) -> Result<(), String> {
    match (&component.module, component.policies.len()) {
        (Some(_), 0) | (None, 1..=MAX_POLICIES) => {}
        (None, 0) => return Err("no program fills it: give `module`, or `policies` with at least one".into()),
        (Some(_), _) => return Err("it has both `module` and `policies`: keep one".into()),
        (None, count) => return Err(format!("{count} policies are too many: at most {MAX_POLICIES}")),
    }
    let budget = component.budget.0;
    if budget == 0 {
        return Err("budget = 0 leaves it no time to run: give it at least 1us".into());
    }
    if budget > MAX_BUDGET_US {
        return Err(format!(
            "a budget of {budget} us lets it stop everything less important for that long when it hangs: at most 1s"
        ));
    }
    pages("stack", component.stack.0, MAX_STACK_PAGES * PAGE_SIZE)?;
    pages("memory", component.memory.0, layout::IMAGE_END - layout::IMAGE_BASE)?;
    if let Some(keep) = component.keep {
        pages("keep", keep.0, layout::KEEP_END - layout::KEEP)?;
    }
    if let Some(dma) = component.dma {
        pages("dma", dma.0, layout::VM_WINDOW - layout::DMA)?;
        if component.pci_class.is_none() {
            return Err("it has DMA memory but no device that could use it: give `pci-class`, or remove `dma`".into());
        }
    }
    if let Some(ports) = &component.ports {
        if ports.count == 0 || ports.first.saturating_add(ports.count) > 0x1_0000 {
            return Err(format!(
                "ports {:#x} and {} from there are no ports: they lie in 0 to 0xffff, at least one",
                ports.first, ports.count
            ));
        }
        if let Some(irq @ 16..) = ports.irq {
            return Err(format!("irq = {irq} is no ISA interrupt: they are 0 to 15"));
        }
    }
    Ok(())
}

fn pages(what: &str, bytes: u64, max: u64) -> Result<(), String> {
    if bytes == 0 || !bytes.is_multiple_of(PAGE_SIZE) {
        return Err(format!("{what} of {bytes} bytes is no whole number of {PAGE_SIZE}-byte pages: round it up"));
    }
    if bytes > max {
        return Err(format!("{what} of {bytes} bytes does not fit its place in the address space: at most {max}"));
    }
    Ok(())
}

fn components_together(system: &System, errors: &mut Vec<String>) {
    let components = &system.component;
    for (i, component) in components.iter().enumerate() {
        let name = &component.name;
        if component.optional && component.pci_class.is_none() && !keeps_vms(name, system) {
            errors.push(format!(
                "component `{name}`: it is optional, but drives no device without which it could be left out, nor does the core give it VMs that go out: give `pci-class`, or remove `optional`"
            ));
        }
        for earlier in &components[..i] {
            let other = &earlier.name;
            if earlier.priority == component.priority {
                errors.push(format!(
                    "components `{other}` and `{name}` both have priority {}: give each its own, 0 is the most important",
                    component.priority
                ));
            }
            let classes = component.pci_class.zip(earlier.pci_class);
            if let Some((class, _)) = classes.filter(|(class, other)| class.overlaps(*other)) {
                errors.push(format!(
                    "components `{other}` and `{name}` both claim the PCI class {class}: a device has one driver"
                ));
            }
            if let (Some(a), Some(b)) = (&earlier.ports, &component.ports) {
                let end = |first: u32, count: u32| first.saturating_add(count);
                if a.first < end(b.first, b.count) && b.first < end(a.first, a.count) {
                    errors.push(format!(
                        "components `{other}` and `{name}` both claim ports: {:#x}..{:#x} and {:#x}..{:#x} overlap",
                        a.first,
                        end(a.first, a.count),
                        b.first,
                        end(b.first, b.count)
                    ));
                }
            }
        }
    }
}

/// Whether the core gives a component VMs to keep that go out.
fn keeps_vms(component: &str, system: &System) -> bool {
    let swap = |ring: &Ring| ring.service() == Some(Service::Swap);
    system.ring.iter().any(|ring| ring.from == "core" && ring.to == component && swap(ring))
}

fn ring_alone(ring: &Ring, system: &System) -> Result<(), String> {
    for (key, end) in [("from", &ring.from), ("to", &ring.to)] {
        if end != "core" && !system.component.iter().any(|component| component.name == *end) {
            let known = system.component.iter().map(|component| component.name.as_str());
            let known: Vec<&str> = std::iter::once("core").chain(known).collect();
            return Err(format!("{key} = \"{end}\" is no component: known are {}", known.join(", ")));
        }
    }
    if ring.from == ring.to {
        return Err(format!("both ends are `{}`: a ring joins two", ring.from));
    }
    let with_core = ring.from == "core" || ring.to == "core";
    let known = Service::ALL.map(Service::name).join(", ");
    match &ring.service {
        None if with_core => return Err(format!("it does not say what it is about: give `service`, one of {known}")),
        Some(service) if with_core && ring.service().is_none() => {
            return Err(format!("service `{service}` is unknown: known are {known}"));
        }
        Some(service) if !with_core => {
            return Err(format!(
                "service `{service}` is between the core and a component: remove `service`, or give it the end `core`"
            ));
        }
        _ => {}
    }
    let data = ring.data.map_or(0, |data| data.0);
    if data != 0 && with_core {
        return Err("data lies behind rings between components only: remove `data`".into());
    }
    let max = abi::ring::MAX_SLOTS;
    if !ring.slots.is_power_of_two() || !(2..=max).contains(&ring.slots) {
        return Err(format!("{} slots: write a power of two from 2 to {max}", ring.slots));
    }
    let room = layout::RING_STRIDE - abi::ring::ring_bytes(ring.slots);
    if !data.is_multiple_of(PAGE_SIZE) || data > room {
        return Err(format!(
            "data of {data} bytes: write whole pages of 4KiB, {}KiB at most behind {} slots",
            room >> 10,
            ring.slots
        ));
    }
    Ok(())
}

fn rings_together(system: &System, errors: &mut Vec<String>) {
    let priority = |name: &str| system.component.iter().find(|c| c.name == name).map(|component| component.priority);
    let joined = |from: &str, to: &str| system.ring.iter().any(|ring| ring.from == from && ring.to == to);
    for (i, ring) in system.ring.iter().enumerate() {
        let is_twin = |other: &&Ring| (&other.from, &other.to, &other.service) == (&ring.from, &ring.to, &ring.service);
        if let Some(twin) = system.ring[..i].iter().find(is_twin) {
            let about =
                ring.service.as_ref().map(|service| format!(" for the service `{service}`")).unwrap_or_default();
            errors.push(format!(
                "rings `{}` and `{}` both lead from `{}` to `{}`{about}: one is enough, remove the other",
                twin.name, ring.name, ring.from, ring.to
            ));
        }
        // Requests go up, answers come down. A more important component that sends requests down waits for whoever is
        // less important, and with it for all that runs in between. (The core waits for nobody.)
        if let (Some(from), Some(to)) = (priority(&ring.from), priority(&ring.to))
            && from < to
            && !joined(&ring.to, &ring.from)
        {
            errors.push(format!(
                "ring `{}`: priority inversion: `{}` (priority {from}) would wait for the less important `{}` (priority {to}): swap the priorities, or add the ring from `{}` to `{}` whose requests this one answers",
                ring.name, ring.from, ring.to, ring.to, ring.from
            ));
        }
    }
    for component in &system.component {
        let name = &component.name;
        let ends = system.ring.iter().filter(|ring| ring.from == *name || ring.to == *name).count();
        if ends > MAX_RINGS_PER_COMPONENT {
            errors.push(format!(
                "component `{name}`: it is an end of {ends} rings, more than it has room for: at most {MAX_RINGS_PER_COMPONENT}"
            ));
        }
    }
    for service in Service::ALL {
        let parties = system.parties(service);
        for party in &parties {
            let (service, name) = (service.name(), party.name.as_str());
            for (from, to) in [("core", name), (name, "core")] {
                let is_it =
                    |ring: &Ring| ring.from == from && ring.to == to && ring.service.as_deref() == Some(service);
                if !system.ring.iter().any(is_it) {
                    errors.push(format!(
                        "component `{name}`: the service `{service}` needs a ring from `{from}` to `{to}`: add it"
                    ));
                }
            }
        }
        if let ([first, second, ..], false) = (&parties[..], service.is_shared())
            && first.name != second.name
        {
            errors.push(format!(
                "components `{}` and `{}` are both parties to the service `{}`: a CPU has one plan, keep one of them",
                first.name,
                second.name,
                service.name()
            ));
        }
    }
}

/// Who serves the VMs of an image serves VMs.
fn image_servers(image: &Image, system: &System) -> Result<(), String> {
    for (key, service, named) in [("net", Service::Net, &image.net), ("pager", Service::Pager, &image.pager)] {
        let Some(named) = named else { continue };
        let parties = system.parties(service);
        if !parties.iter().any(|party| party.name == *named) {
            let known = match parties.len() {
                0 => "there is none".to_owned(),
                _ => format!(
                    "known are {}",
                    parties.iter().map(|party| party.name.as_str()).collect::<Vec<_>>().join(", ")
                ),
            };
            return Err(format!("{key} = \"{named}\" is no party to the service `{}`: {known}", service.name()));
        }
    }
    Ok(())
}

fn image_alone(image: &Image) -> Result<(), String> {
    let memory = image.memory.0;
    if !(VM_MEMORY_MIN..=VM_MEMORY_MAX).contains(&memory) || !memory.is_multiple_of(PAGE_SIZE) {
        return Err(format!(
            "memory of {memory} bytes: write whole {PAGE_SIZE}-byte pages, {} MiB to {} MiB",
            VM_MEMORY_MIN >> 20,
            VM_MEMORY_MAX >> 20
        ));
    }
    let (rx, tx) = (image.rx_slots, image.tx_slots);
    if (rx == 0) != (tx == 0) {
        return Err(format!(
            "rx-slots = {rx} and tx-slots = {tx}: a NIC has both rings; for a VM without a NIC both are 0"
        ));
    }
    if image.start == Start::Lazy && (rx == 0 || image.control) {
        let why = if rx == 0 {
            "has no NIC, so no packet would ever start it"
        } else {
            "controls the machine, and acts unasked"
        };
        return Err(format!("start = \"lazy\", but a VM of it {why}: leave start out"));
    }
    if image.reads_disks && !image.control {
        return Err("reads-disks = true, but a VM of it has no control ring, by which it would ask: write control = true, or leave it out".to_owned());
    }
    if rx != 0 {
        for (key, slots) in [("rx-slots", rx), ("tx-slots", tx)] {
            // The longest frame has to fit, with a pad record in front of it.
            let min =
                u32::try_from(2 * abi::ring::packet_slots(abi::nic::MAX_FRAME)).unwrap_or(u32::MAX).next_power_of_two();
            if !slots.is_power_of_two() || slots < min {
                return Err(format!(
                    "{key} = {slots}: write a power of two, at least {min}, so that the longest frame fits"
                ));
            }
        }
        let max = abi::nic::MAX_SLOTS_TOTAL;
        if rx.saturating_add(tx) > max {
            return Err(format!("rx-slots and tx-slots make {} together: at most {max}", rx.saturating_add(tx)));
        }
    }
    claim(image)?;
    tenant(image)?;
    disk(image)?;
    share(image)?;
    printable("args", &image.args, IMAGE_ARGS_BYTES)?;
    service::check(image)
}

fn claim(image: &Image) -> Result<(), String> {
    let (least, most) = (u64::from(RESERVE_LEAST), all_frames(image.memory.0));
    for (key, bytes) in [("reserve", &image.reserve), ("limit", &image.limit)] {
        let Some(bytes) = bytes.as_ref().map(|bytes| bytes.0) else { continue };
        if !bytes.is_multiple_of(PAGE_SIZE) || !(least..=most).contains(&(bytes / PAGE_SIZE)) {
            return Err(format!(
                "{key} of {bytes} bytes: write whole {PAGE_SIZE}-byte pages, {}KiB, without which no VM starts, to {}KiB, which is all that one with such a memory can hold",
                (least * PAGE_SIZE) >> 10,
                (most * PAGE_SIZE) >> 10
            ));
        }
    }
    if image.reserve_frames() > image.limit_frames() {
        return Err(format!(
            "a reserve of {}KiB is beyond the limit of {}KiB: raise `limit` or lower `reserve`",
            (image.reserve_frames() * PAGE_SIZE) >> 10,
            (image.limit_frames() * PAGE_SIZE) >> 10
        ));
    }
    Ok(())
}

fn tenant(image: &Image) -> Result<(), String> {
    match &image.tenant {
        Some(name) if Tenant::new(name).is_none() => Err(format!(
            "tenant = {name:?}: write 1 to {NAME_MAX} small letters, digits or dashes, or leave it out for VMs each of which is its own tenant"
        )),
        _ => Ok(()),
    }
}

/// Each tenant has a name of its own and a quota that says something.
fn tenants(system: &System, errors: &mut Vec<String>) {
    for (at, told) in system.tenant.iter().enumerate() {
        let name = &told.name;
        let wrong = if Tenant::new(name).is_none() {
            format!("write 1 to {NAME_MAX} small letters, digits or dashes")
        } else if system.tenant[..at].iter().any(|other| other.name == *name) {
            "it is there twice: remove one".into()
        } else {
            match told.change() {
                Err(why) => why,
                Ok(TenantChange { disk: None | Some(None), .. }) if told.of_core() == (Quota::NONE, Flow::NONE) => {
                    format!("it has no quota: write one of {}, or leave the tenant out", TenantChange::KEYS.join(", "))
                }
                Ok(_) => continue,
            }
        };
        errors.push(format!("tenant `{name}`: {wrong}"));
    }
}

fn disk(image: &Image) -> Result<(), String> {
    match &image.disk {
        Some(text) if Attachment::parse(text).is_none() => Err(format!(
            "disk = {text:?}: write the name of a virtual disk (1 to {NAME_BYTES} letters, digits, dashes, underscores or dots), with :ro behind it where its VMs only read, as in \"web:ro\""
        )),
        _ => Ok(()),
    }?;
    match image.disk_rate {
        Some(rate) if !(1..u64::from(attachment::UNLIMITED)).contains(&rate) => Err(format!(
            "disk-rate = {rate}: write 1 to {} requests in a second, or leave it out for VMs that may ask as fast as they can",
            attachment::UNLIMITED - 1
        )),
        _ => Ok(()),
    }
}

fn share(image: &Image) -> Result<(), String> {
    if let Some(weight) = image.weight
        && !(1..=WEIGHT_MAX.into()).contains(&weight)
    {
        return Err(format!("weight = {weight}: write 1 to {WEIGHT_MAX}; without it the weight is {WEIGHT}"));
    }
    if let Some(rate) = image.rate.map(|rate| rate.0)
        && !(1..UNLIMITED.into()).contains(&rate)
    {
        return Err(format!(
            "rate of {rate} bytes in a second: write 1B to 4095MiB, or leave it out for VMs that may send as fast as they can"
        ));
    }
    if let Some(burst) = image.burst.map(|burst| burst.0)
        && !(BURST_MIN.into()..=u32::MAX.into()).contains(&burst)
    {
        return Err(format!("burst of {burst} bytes: write {BURST_MIN}B, a frame of full length, to 4095MiB"));
    }
    Ok(())
}

fn printable(what: &str, text: &str, max: usize) -> Result<(), String> {
    if text.len() > max {
        return Err(format!("{what} of {} characters is too long: at most {max}", text.len()));
    }
    match text.chars().find(|c| !c.is_ascii_graphic() && *c != ' ') {
        Some(c) => Err(format!("{what} holds {c:?}: only printable ASCII can be passed on")),
        None => Ok(()),
    }
}

fn boot_options(system: &System, errors: &mut Vec<String>) {
    if let Err(error) = printable("the text", &system.defaults, DEFAULTS_BYTES) {
        errors.push(format!("defaults: {error}"));
    }
    errors.extend(options::check(&system.defaults, system).into_iter().map(|error| format!("defaults: {error}")));
    for (i, preset) in system.preset.iter().enumerate() {
        let title = &preset.title;
        if title.is_empty() || title.chars().any(|c| c == '\'' || c.is_control()) {
            errors.push(format!("preset {title:?}: a title is one line without `'`, and not empty: rename it"));
        }
        if system.preset[..i].iter().any(|earlier| earlier.title == *title) {
            errors.push(format!("preset `{title}` is there twice: rename or remove one"));
        }
        if preset.options.chars().any(|c| !c.is_ascii_graphic() && c != ' ' || "\"'\\$;{}|&<>".contains(c)) {
            errors.push(format!(
                "preset `{title}`: its options hold a character that GRUB would take for its own: remove it"
            ));
        }
        let wrong = options::check(&preset.options, system);
        errors.extend(wrong.into_iter().map(|error| format!("preset `{title}`: {error}")));
    }
}
