//! The boot options: `key=value`, separated by spaces. Pure.
//!
//! The manifest's defaults are read first, then the command line; what comes later wins. Every error is a sentence that
//! says what is wrong, and what would be right.

use super::manifest::is_party;
use crate::barriers::Mode;
use abi::attachment::Attachment;
use abi::boot::{self, Net, SelfTest};
use abi::limits::{MAX_COMPONENTS, MAX_IMAGES, MAX_SEATS, MAX_SLOTS};
use abi::manifest::{Component, Image, Ring, image_flags};
use abi::nic::Node;
use abi::options::KEYS;
use abi::sched::Admission;
use abi::service::Service;
use core::fmt;
use log::LevelFilter;

/// Shortest quantum, in nanoseconds.
pub const QUANTUM_MIN_NS: u64 = 10_000;
/// Longest quantum, in nanoseconds.
pub const QUANTUM_MAX_NS: u64 = 1_000_000_000;
/// Shortest and longest wait for memory, in nanoseconds.
const MEMORY_WAIT_MIN_NS: u64 = 1_000_000;
/// See `MEMORY_WAIT_MIN_NS`.
const MEMORY_WAIT_MAX_NS: u64 = 60_000_000_000;

/// What the manifest says there is.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Component roles with their policies.
    pub components: &'a [Component],
    /// Rings, which say what components are parties to.
    pub rings: &'a [Ring],
    /// Images.
    pub images: &'a [Image],
}

/// What happens after a fatal message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFatal {
    /// The machine stands still, so that the message can be read.
    Halt,
    /// The machine is powered off (for tests).
    PowerOff,
}

/// VMs of one image to be created at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmRequest {
    /// The image's number.
    pub image: u32,
    /// How many.
    pub count: u32,
    /// Their virtual disk; when this is none, the image's.
    pub disk: Attachment,
}

/// All options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `vms=`
    pub vms: heapless::Vec<VmRequest, MAX_IMAGES>,
    /// `slots=`: VMs that can live; by memory when nothing is said.
    pub slots: Option<u32>,
    /// `seats=`: VMs that can be admitted; by memory when nothing is said.
    pub seats: Option<u32>,
    /// `node=`: what tells its VMs from those of others on the same LAN; by the NIC when nothing is said.
    pub node: Option<Node>,
    /// `quantum=`
    pub quantum_ns: u64,
    /// `gatekeeper=`: who is admitted of those that wait.
    pub gatekeeper: Admission,
    /// `memory-wait=`: how long a VM waits for memory beyond what is kept for it, in nanoseconds.
    pub memory_wait_ns: u64,
    /// `residence=`: how long a VM is in before it may go out again, in nanoseconds.
    pub residence_ns: u64,
    /// `pool=`: bytes of memory for VMs that are out; the core decides when nothing is said.
    pub pool_bytes: Option<u64>,
    /// `net=`
    pub net: Net,
    /// `log=`
    pub log: LevelFilter,
    /// `ROLE=`: for each component role the index of its policy.
    pub policies: [usize; MAX_COMPONENTS],
    /// `on-fatal=`
    pub on_fatal: OnFatal,
    /// `start=`: VMs start with the first packet for them (true) or at once, whatever their images say.
    pub lazy: Option<bool>,
    /// `selftest=`
    pub selftest: Option<SelfTest>,
    /// `barriers=`
    pub barriers: Mode,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            vms: heapless::Vec::new(),
            slots: None,
            seats: None,
            node: None,
            quantum_ns: 10_000_000,
            gatekeeper: Admission::Fifo,
            memory_wait_ns: 1_000_000_000,
            residence_ns: 100_000_000,
            pool_bytes: None,
            net: Net::Dhcp,
            log: LevelFilter::Info,
            policies: [0; MAX_COMPONENTS],
            on_fatal: OnFatal::Halt,
            lazy: None,
            selftest: None,
            barriers: Mode::Auto,
        }
    }
}

/// What is wrong with the options. `Display` is a sentence.
#[derive(Clone, Copy, Debug)]
pub struct OptionError<'a> {
    /// The words at fault, as they were written.
    pub word: &'a str,
    /// What is wrong with them.
    pub problem: Problem<'a>,
    known: Known<'a>,
}

/// See [`OptionError`].
#[derive(Clone, Copy, Debug)]
pub enum Problem<'a> {
    /// No `=` in it.
    NoValue,
    /// Nobody knows the key.
    UnknownKey,
    /// `vms=` names an image that is not in the manifest.
    UnknownImage(&'a str),
    /// `ROLE=` names a policy that the role, of this index, does not have.
    UnknownPolicy(usize),
    /// `net=` is no address and no policy of the role, of this index, that the network has.
    UnknownNet(usize),
    /// `disk=` without a component that serves disks.
    NoStriper,
    /// A number of VMs that is none, or not from 1 on.
    BadCount(&'a str),
    /// What stands behind `:disk=` names no virtual disk.
    BadDisk(&'a str),
    /// Several VMs are to write the same virtual disk.
    ManyWriters(&'a str),
    /// More VMs than the ABI can name.
    TooManyVms,
    /// More different entries in `vms=` than there can be images.
    TooManyEntries,
    /// The value is not one of these.
    NotOneOf(&'static str),
    /// The value is not of this form.
    BadForm(&'static str),
}

const NET_FORM: &str = "dhcp, or ADDRESS/PREFIX with an optional ',gw=ADDRESS', as in net=10.0.2.16/24,gw=10.0.2.2";
const SLOTS_FORM: &str = "a number from 1 to 1048576 or a power of two, as in slots=4096 or slots=2^20";
const SEATS_FORM: &str = "a number from 1 to 65535 or a power of two, as in seats=1000 or seats=2^12";
const NODE_FORM: &str = "a number from 0 to 67108863, as in node=17";
const QUANTUM_FORM: &str = "a time from 10us to 1s, as in quantum=10ms";
const RESIDENCE_FORM: &str = "a time from 1ms to 60s, as in residence=100ms";
const POOL_FORM: &str = "0, or a number of KiB, MiB or GiB (or K, M, G), up to 1024GiB, as in pool=64MiB";
const MEMORY_WAIT_FORM: &str = "a time from 1ms to 60s, as in memory-wait=1s";

impl fmt::Display for OptionError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.explain(Shown(self.word), self.known, f)
    }
}

impl Problem<'_> {
    /// A sentence about this problem of `word`.
    pub(crate) fn explain(&self, word: Shown<'_>, known: Known<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let images = || known.images.iter().map(|image| image.name.as_str());
        let roles = || known.components.iter().map(|component| component.name.as_str());
        match *self {
            Problem::NoValue => write!(f, "'{word}' has no value; options are written key=value"),
            Problem::UnknownKey => {
                write!(f, "'{word}' is not a known option; known are ")?;
                list(f, KEYS.into_iter().chain(roles()))
            }
            Problem::UnknownImage(name) => {
                write!(
                    f,
                    "'{word}' names the image '{}', which is not in the manifest; known images are ",
                    Shown(name)
                )?;
                list(f, images())
            }
            Problem::UnknownPolicy(role) => {
                write!(f, "'{word}' names a policy that is not in the manifest; known policies are ")?;
                let component = known.components.get(role);
                list(f, component.into_iter().flat_map(policies))
            }
            Problem::UnknownNet(role) => {
                write!(f, "'{word}' is not understood; write {NET_FORM}, or one of the policies ")?;
                list(f, known.components.get(role).into_iter().flat_map(policies))
            }
            Problem::NoStriper => write!(f, "'{word}' chooses who serves disks, and no component of the manifest does"),
            Problem::BadCount(count) => {
                write!(f, "'{word}' asks for '{}' VMs; write a number from 1 to {MAX_SLOTS}", Shown(count))
            }
            Problem::BadDisk(disk) => write!(
                f,
                "'{word}' names the virtual disk '{}'; write NAME where one VM writes it, or NAME:ro where VMs only read, as in \
                 httpd*8:disk=web:ro",
                Shown(disk)
            ),
            Problem::ManyWriters(disk) => write!(
                f,
                "'{word}' lets several VMs write the virtual disk '{0}', which one VM can; write disk={0}:ro, or ask for one VM",
                Shown(disk)
            ),
            Problem::TooManyVms => write!(f, "'{word}' asks for more than {MAX_SLOTS} VMs"),
            Problem::TooManyEntries => {
                write!(f, "'{word}' has more than {MAX_IMAGES} entries; write them to a boot module 'vms', one a line")
            }
            Problem::NotOneOf(values) => write!(f, "'{word}' has an unknown value; known are {values}"),
            Problem::BadForm(form) => write!(f, "'{word}' is not understood; write {form}"),
        }
    }
}

/// Text from outside: shortened, and without what could confuse a terminal.
pub(crate) struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(48) {
            fmt::Write::write_char(f, if c == ' ' || c.is_ascii_graphic() { c } else { '?' })?;
        }
        if self.0.chars().nth(48).is_some() { f.write_str("...") } else { Ok(()) }
    }
}

fn list<'a>(f: &mut fmt::Formatter<'_>, names: impl Iterator<Item = &'a str>) -> fmt::Result {
    for (i, name) in names.enumerate() {
        write!(f, "{}{name}", if i == 0 { "" } else { ", " })?;
    }
    Ok(())
}

fn policies(component: &Component) -> impl Iterator<Item = &str> {
    let count = usize::try_from(component.policy_count).unwrap_or(0);
    component.policies.iter().take(count).map(|policy| policy.name.as_str())
}

impl Options {
    /// Options from the manifest's defaults and the command line.
    ///
    /// # Errors
    /// The first word that is wrong.
    pub fn parse<'a>(defaults: &'a str, line: &'a str, known: Known<'a>) -> Result<Options, OptionError<'a>> {
        let mut options = Options::default();
        for word in defaults.split_ascii_whitespace().chain(line.split_ascii_whitespace()) {
            options.take(word, known).map_err(|problem| OptionError { word, problem, known })?;
        }
        Ok(options)
    }

    /// What `line` says about `on-fatal`, as far as that can be told before anything else is known to be right.
    pub fn early_on_fatal(line: &str) -> OnFatal {
        let last = line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("on-fatal=")).next_back();
        if last == Some("poweroff") { OnFatal::PowerOff } else { OnFatal::Halt }
    }

    fn take<'a>(&mut self, word: &'a str, known: Known<'a>) -> Result<(), Problem<'a>> {
        let (key, value) = word.split_once('=').ok_or(Problem::NoValue)?;
        match key {
            "vms" => self.vms = vms(value, known)?,
            "slots" => self.slots = Some(count(value, MAX_SLOTS).ok_or(Problem::BadForm(SLOTS_FORM))?),
            "seats" => self.seats = Some(count(value, MAX_SEATS).ok_or(Problem::BadForm(SEATS_FORM))?),
            "node" => self.node = Some(node(value).ok_or(Problem::BadForm(NODE_FORM))?),
            "quantum" => {
                let ns = time(value).filter(|ns| (QUANTUM_MIN_NS..=QUANTUM_MAX_NS).contains(ns));
                self.quantum_ns = ns.ok_or(Problem::BadForm(QUANTUM_FORM))?;
            }
            "gatekeeper" => {
                let values = "fifo, working-set, deadline";
                self.gatekeeper = Admission::named(value).ok_or(Problem::NotOneOf(values))?;
            }
            "memory-wait" => {
                let ns = time(value).filter(|ns| (MEMORY_WAIT_MIN_NS..=MEMORY_WAIT_MAX_NS).contains(ns));
                self.memory_wait_ns = ns.ok_or(Problem::BadForm(MEMORY_WAIT_FORM))?;
            }
            "residence" => {
                let ns = time(value).filter(|ns| (MEMORY_WAIT_MIN_NS..=MEMORY_WAIT_MAX_NS).contains(ns));
                self.residence_ns = ns.ok_or(Problem::BadForm(RESIDENCE_FORM))?;
            }
            "pool" => self.pool_bytes = Some(bytes(value).ok_or(Problem::BadForm(POOL_FORM))?),
            "net" => match net(value) {
                Some(net) => self.net = net,
                None => self.take_net_policy(value, known)?,
            },
            "disk" => {
                let role = first_party(known, Service::Disk).ok_or(Problem::NoStriper)?;
                self.take_policy(role, value, known, Problem::UnknownPolicy(role))?;
            }
            "log" => {
                let values = "off, error, warn, info, debug, trace";
                self.log = value.parse().map_err(|_| Problem::NotOneOf(values))?;
            }
            "on-fatal" => {
                self.on_fatal = match value {
                    "halt" => OnFatal::Halt,
                    "poweroff" => OnFatal::PowerOff,
                    _ => return Err(Problem::NotOneOf("halt, poweroff")),
                }
            }
            "start" => {
                self.lazy = match value {
                    "lazy" => Some(true),
                    "now" => Some(false),
                    _ => return Err(Problem::NotOneOf("lazy, now")),
                }
            }
            "selftest" => {
                self.selftest = match value {
                    "none" => None,
                    "wx" => Some(SelfTest::Wx),
                    "entry-failure" => Some(SelfTest::EntryFailure),
                    _ => return Err(Problem::NotOneOf("none, wx, entry-failure")),
                }
            }
            "barriers" => {
                self.barriers = match value {
                    "auto" => Mode::Auto,
                    "off" => Mode::Off,
                    "strict" => Mode::Strict,
                    _ => return Err(Problem::NotOneOf("auto, off, strict")),
                }
            }
            _ => {
                let role = known.components.iter().position(|component| component.name.as_str() == key);
                let role = role.ok_or(Problem::UnknownKey)?;
                self.take_policy(role, value, known, Problem::UnknownPolicy(role))?;
            }
        }
        Ok(())
    }
}

impl Options {
    /// The flags of an image. `start=` concerns only those whose VMs can start with the first packet.
    pub fn flags_of(&self, image: &Image) -> u16 {
        match self.lazy {
            None => image.flags,
            Some(true) if image.can_start_lazily() => image.flags | image_flags::LAZY,
            Some(_) => image.flags & !image_flags::LAZY,
        }
    }

    /// What the core has to know, in binary. The policies are chosen where the components are placed.
    pub fn to_record(&self) -> boot::Options {
        let mut to = boot::Options {
            quantum_ns: self.quantum_ns,
            memory_wait_ns: self.memory_wait_ns,
            residence_ns: self.residence_ns,
            gatekeeper: self.gatekeeper.number(),
            pool_bytes: self.pool_bytes.unwrap_or(boot::POOL_UNSAID),
            node: self.node.map_or(boot::NONE, Node::number),
            log: match self.log {
                LevelFilter::Off => 0,
                LevelFilter::Error => 1,
                LevelFilter::Warn => 2,
                LevelFilter::Info => 3,
                LevelFilter::Debug => 4,
                LevelFilter::Trace => 5,
            },
            power_off: (self.on_fatal == OnFatal::PowerOff).into(),
            selftest: match self.selftest {
                None => 0,
                Some(SelfTest::Wx) => 1,
                Some(SelfTest::EntryFailure) => 2,
            },
            ..boot::Options::default()
        };
        to.set_net(self.net);
        to
    }

    /// `net=POLICY`, for the component that shares the NIC pages of VMs.
    fn take_net_policy<'a>(&mut self, value: &str, known: Known<'a>) -> Result<(), Problem<'a>> {
        let role = first_party(known, Service::Net).ok_or(Problem::BadForm(NET_FORM))?;
        self.take_policy(role, value, known, Problem::UnknownNet(role))
    }

    /// The policy of a role, or the problem that there is none of that name.
    fn take_policy<'a>(
        &mut self,
        role: usize,
        value: &str,
        known: Known<'a>,
        unknown: Problem<'a>,
    ) -> Result<(), Problem<'a>> {
        let policy = known.components.get(role).and_then(|role| policies(role).position(|name| name == value));
        let slot = self.policies.get_mut(role).ok_or(Problem::UnknownKey)?;
        *slot = policy.ok_or(unknown)?;
        Ok(())
    }
}

/// The most important component that is party to a service, which has the device; others have options of their own names.
fn first_party(known: Known<'_>, service: Service) -> Option<usize> {
    let parties = (0_u32..).zip(known.components).filter(|(index, _)| is_party(known.rings, *index, service));
    parties.min_by_key(|(_, component)| component.priority).map(|(index, _)| index as usize)
}

/// `NAME`, `NAME*COUNT`, separated by commas; nothing for no VM.
fn vms<'a>(value: &'a str, known: Known<'a>) -> Result<heapless::Vec<VmRequest, MAX_IMAGES>, Problem<'a>> {
    let mut requests = heapless::Vec::new();
    let mut total = 0_u32;
    for entry in value.split(',').filter(|entry| !entry.is_empty()) {
        let request = request(entry, known)?;
        total = total.checked_add(request.count).filter(|&n| n as usize <= MAX_SLOTS).ok_or(Problem::TooManyVms)?;
        requests.push(request).map_err(|_| Problem::TooManyEntries)?;
    }
    Ok(requests)
}

/// `NAME` or `NAME*COUNT`, and `:disk=NAME` or `:disk=NAME:ro` behind it.
pub(crate) fn request<'a>(entry: &'a str, known: Known<'_>) -> Result<VmRequest, Problem<'a>> {
    let (entry, disk) = entry.split_once(":disk=").map_or((entry, None), |(entry, disk)| (entry, Some(disk)));
    let (name, count) = entry.split_once('*').unwrap_or((entry, "1"));
    let image = known.images.iter().position(|image| image.name.as_str() == name);
    let image = image.ok_or(Problem::UnknownImage(name))?;
    let number = count.parse::<u32>().ok().filter(|&number| number > 0).ok_or(Problem::BadCount(count))?;
    let attachment = match disk {
        Some(disk) => Attachment::parse(disk).ok_or(Problem::BadDisk(disk))?,
        None => Attachment::NONE,
    };
    if let Some(disk) = disk.filter(|_| number > 1 && !attachment.is_read_only()) {
        return Err(Problem::ManyWriters(disk));
    }
    // As many images as the manifest has.
    Ok(VmRequest { image: u32::try_from(image).unwrap_or(u32::MAX), count: number, disk: attachment })
}

/// `N` or `2^K`, from 1 to `most`.
fn count(value: &str, most: usize) -> Option<u32> {
    let number = match value.strip_prefix("2^") {
        Some(exponent) => 1_u32.checked_shl(exponent.parse().ok()?)?,
        None => value.parse().ok()?,
    };
    (1..=most).contains(&(number as usize)).then_some(number)
}

fn node(value: &str) -> Option<Node> {
    value.parse().ok().filter(|&number| Node::new(number).number() == number).map(Node::new)
}

/// A time in nanoseconds.
fn time(value: &str) -> Option<u64> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let scale = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// A size in bytes, whole pages; `M` is `MiB`, as QEMU and others write it: more no machine has that this is for.
fn bytes(value: &str) -> Option<u64> {
    if value == "0" {
        return Some(0);
    }
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let scale = match unit {
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        _ => return None,
    };
    let bytes = number.parse::<u64>().ok()?.checked_mul(scale).filter(|&bytes| bytes <= 1 << 40)?;
    Some(bytes.next_multiple_of(abi::limits::PAGE_SIZE))
}

fn net(value: &str) -> Option<Net> {
    if value == "dhcp" {
        return Some(Net::Dhcp);
    }
    let (own, gateway) = match value.split_once(',') {
        Some((own, rest)) => (own, Some(address(rest.strip_prefix("gw=")?)?)),
        None => (value, None),
    };
    let (own, prefix) = own.split_once('/')?;
    let prefix = prefix.parse::<u8>().ok().filter(|&prefix| (1..=30).contains(&prefix))?;
    Some(Net::Static { address: address(own)?, prefix, gateway })
}

fn address(text: &str) -> Option<u32> {
    text.parse::<core::net::Ipv4Addr>().ok().map(u32::from)
}
