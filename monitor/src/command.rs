//! The commands and how they are written.

use crate::arguments::Arguments;
use crate::mistake::Mistake;
use crate::{address, quota, terms};
use abi::limits::Name;
use abi::tenant::Tenant;
use abi::terms::Terms;
use abi::vm::Slot;
use quota_words::Change;

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Lists the commands.
    Help,
    /// Lists the VMs.
    Vms,
    /// Shows the VM in a slot.
    Vm(Slot),
    /// Shows whose the frames are.
    Frames,
    /// Shows whose the frame at a physical address is.
    Frame(u64),
    /// Lists the components.
    Components,
    /// Lists the images.
    Images,
    /// Shows time and counters.
    Machine,
    /// Shows how many VMs are in, out and on their way.
    Wakes,
    /// Lists what VMs are charged with, and shows where the processor's time has gone.
    Charges,
    /// Shows what lies in the pool of VMs that are out.
    Swap,
    /// Lists disks, sets of disks, and what is on them.
    Disks,
    /// Reads all of a virtual disk and judges it.
    Scrub(Name),
    /// Takes a snapshot of a virtual disk, with this name.
    Snapshot(Name, Name),
    /// Kills a component.
    Kill(Name),
    /// Lists the policies that can fill the components' roles.
    Policies,
    /// Replaces a component's policy: component, policy.
    Policy(Name, Name),
    /// Lists the tenants.
    Tenants,
    /// Says what a tenant may have from now on.
    Quota(Tenant, Change),
    /// Creates a VM from an image, with extra boot arguments, on these terms.
    Create(Name, Terms),
    /// Ends the VM in a slot.
    Destroy(Slot),
    /// Asks the VM in a slot to end itself.
    Shutdown(Slot),
    /// Makes the VM in a slot somebody else: at this IPv4 address, 0 for the one that it has, with extra boot arguments in place
    /// of those that it had.
    Identity(Slot, u32),
    /// Shows the state of the processor of the VM in a slot.
    State(Slot),
    /// Takes bytes of such a state, which the arguments spell, at this place.
    Load(u16),
    /// Lets the VM in a slot go on from the state that was taken.
    Restore(Slot),
    /// Powers the machine off.
    PowerOff,
}

/// Word, arguments and explanation of each command.
pub const HELP: [(&str, &str, &str); 24] = [
    ("help", "", "lists the commands"),
    ("vms", "", "lists the VMs"),
    ("vm", "N", "shows the VM in slot N and its share"),
    ("frames", "[ADDRESS]", "shows whose the machine's frames are; with a physical address, whose the frame there is"),
    ("components", "", "lists the components"),
    ("images", "", "lists the images that VMs can be created from"),
    ("machine", "", "shows time, counters, and what is done against side channels"),
    ("charges", "", "shows what each VM is charged with, and where the processor's time has gone"),
    ("wakes", "", "shows how many VMs are in, out and on their way, and how long those that were called have waited"),
    ("swap", "", "shows how many VMs lie in the pool of those that are out, and what they take of it"),
    ("disks", "", "lists disks, sets of disks, and what is on the one in use"),
    ("scrub", "NAME", "reads all of a virtual disk and says which blocks are not what was written"),
    ("disk", "snapshot NAME NEW", "keeps what a virtual disk holds now as another one, NEW, which is never written"),
    ("kill", "NAME", "kills a component, which is restarted from its module"),
    (
        "policy",
        "[NAME POLICY]",
        "lists the policies; with arguments, replaces the component's policy while all goes on",
    ),
    (
        "tenants",
        quota::TAKES,
        "lists the tenants, what they have and may have; with arguments, says what the VMs of one may be and hold together from now on",
    ),
    (
        "create",
        "IMAGE [ARGS]",
        "creates a VM with extra boot arguments; weight=N, rate=N, burst=N, reserve=N, limit=N, tenant=NAME and disk=NAME[:ro] among them are its terms instead",
    ),
    ("destroy", "N", "ends the VM in slot N"),
    ("shutdown", "N", "asks the VM in slot N to end itself"),
    (
        "identity",
        "N [ARGS]",
        "makes the VM in slot N somebody else, with these extra boot arguments; addr=A.B.C.D among them is its address",
    ),
    ("state", "N", "shows the state of the processor of the VM in slot N, in the layout that any machine takes"),
    ("load", "AT HEX", "takes these bytes of such a state at this place, the first ones first"),
    ("restore", "N", "lets the VM in slot N go on from the state that was taken, in its own memory"),
    ("poweroff", "", "powers the machine off"),
];

/// Whether a line asks for what is written down. What is no command is not.
pub fn is_noted(line: &str) -> bool {
    Command::parse(line, &mut Arguments::new()).is_ok_and(|command| command.is_noted())
}

impl Command {
    /// Whether it is written down: it changes something, or shows the inside of a VM.
    pub fn is_noted(&self) -> bool {
        // Each one is named, so that another one is not forgotten.
        match self {
            Command::Kill(_)
            | Command::Snapshot(..)
            | Command::Policy(..)
            | Command::Quota(..)
            | Command::Create(..)
            | Command::Destroy(_)
            | Command::Shutdown(_)
            | Command::Identity(..)
            | Command::State(_)
            | Command::Restore(_)
            | Command::PowerOff => true,
            Command::Help
            | Command::Vms
            | Command::Vm(_)
            | Command::Frames
            | Command::Frame(_)
            | Command::Components
            | Command::Images
            | Command::Machine
            | Command::Wakes
            | Command::Charges
            | Command::Swap
            | Command::Disks
            | Command::Scrub(_)
            | Command::Policies
            | Command::Tenants
            // It changes what the monitor has, and a VM only with `restore`.
            | Command::Load(_) => false,
        }
    }

    /// The command on a line of printable ASCII; extra boot arguments are put into `args`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(line: &str, args: &mut Arguments) -> Result<Command, Mistake> {
        let (word, rest) = split(line);
        let &(word, takes, _) = HELP.iter().find(|(known, ..)| *known == word).ok_or(Mistake::Unknown)?;
        let wrong = Mistake::Arguments { word, takes };
        let slot = || rest.parse().map(Slot::new).map_err(|_| wrong);
        let none = |command| if rest.is_empty() { Ok(command) } else { Err(wrong) };
        match word {
            "vms" => none(Command::Vms),
            "vm" => slot().map(Command::Vm),
            "frames" if rest.is_empty() => Ok(Command::Frames),
            "frames" => number(rest).map(Command::Frame).ok_or(wrong),
            "components" => none(Command::Components),
            "images" => none(Command::Images),
            "machine" => none(Command::Machine),
            "wakes" => none(Command::Wakes),
            "charges" => none(Command::Charges),
            "swap" => none(Command::Swap),
            "disks" => none(Command::Disks),
            "scrub" => name(rest).map(Command::Scrub).ok_or(wrong),
            "disk" => {
                let (verb, rest) = split(rest);
                let (of, new) = split(rest);
                let names = (name(of).ok_or(wrong)?, name(new).ok_or(wrong)?);
                if verb == "snapshot" { Ok(Command::Snapshot(names.0, names.1)) } else { Err(wrong) }
            }
            "kill" => name(rest).map(Command::Kill).ok_or(wrong),
            "policy" if rest.is_empty() => Ok(Command::Policies),
            "policy" => {
                let (component, policy) = split(rest);
                Ok(Command::Policy(name(component).ok_or(wrong)?, name(policy).ok_or(wrong)?))
            }
            "tenants" if rest.is_empty() => Ok(Command::Tenants),
            "tenants" => {
                let (tenant, rest) = split(rest);
                let tenant = Tenant::new(tenant).ok_or(wrong)?;
                quota::change(rest).map(|change| Command::Quota(tenant, change)).ok_or(wrong)
            }
            "create" => {
                let (image, extra) = split(rest);
                let image = name(image).ok_or(wrong)?;
                terms::split_off(extra, args).map(|terms| Command::Create(image, terms))
            }
            "destroy" => slot().map(Command::Destroy),
            "shutdown" => slot().map(Command::Shutdown),
            "identity" => {
                let (slot, rest) = split(rest);
                let slot = slot.parse().map(Slot::new).map_err(|_| wrong)?;
                address::split_off(rest, args).map(|ipv4| Command::Identity(slot, ipv4))
            }
            "state" => slot().map(Command::State),
            "load" => {
                let (at, hex) = split(rest);
                args.clear();
                args.push(hex)?;
                at.parse().map(Command::Load).map_err(|_| wrong)
            }
            "restore" => slot().map(Command::Restore),
            "poweroff" => none(Command::PowerOff),
            _ => none(Command::Help),
        }
    }

    /// The command's word.
    pub fn word(&self) -> &'static str {
        match self {
            Command::Help => "help",
            Command::Vms => "vms",
            Command::Vm(_) => "vm",
            Command::Frames | Command::Frame(_) => "frames",
            Command::Components => "components",
            Command::Images => "images",
            Command::Machine => "machine",
            Command::Wakes => "wakes",
            Command::Charges => "charges",
            Command::Swap => "swap",
            Command::Disks => "disks",
            Command::Scrub(_) => "scrub",
            Command::Snapshot(..) => "disk",
            Command::Kill(_) => "kill",
            Command::Policies | Command::Policy(..) => "policy",
            Command::Tenants | Command::Quota(..) => "tenants",
            Command::Create(..) => "create",
            Command::Destroy(_) => "destroy",
            Command::Shutdown(_) => "shutdown",
            Command::Identity(..) => "identity",
            Command::State(_) => "state",
            Command::Load(_) => "load",
            Command::Restore(_) => "restore",
            Command::PowerOff => "poweroff",
        }
    }
}

/// First word, and the rest without spaces around it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim_matches(' ');
    text.split_once(' ').map_or((text, ""), |(word, rest)| (word, rest.trim_matches(' ')))
}

/// A number, decimal or, behind `0x`, hexadecimal.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A name that is not empty.
fn name(text: &str) -> Option<Name> {
    Name::new(text).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_command() {
        let name = |text| Name::new(text).expect("short");
        let blue = Tenant::new("blue").expect("a name");
        for (line, command) in [
            ("help", Command::Help),
            ("  vms ", Command::Vms),
            ("vm 12", Command::Vm(Slot::new(12))),
            ("identity 12", Command::Identity(Slot::new(12), 0)),
            ("identity 3 addr=10.0.2.99", Command::Identity(Slot::new(3), 0x0a00_0263)),
            ("identity 3 crime=all  x=1", Command::Identity(Slot::new(3), 0)),
            ("frames", Command::Frames),
            ("frames 0x123000 ", Command::Frame(0x12_3000)),
            ("frames 4096", Command::Frame(4096)),
            ("components", Command::Components),
            ("images", Command::Images),
            ("machine", Command::Machine),
            ("wakes", Command::Wakes),
            ("charges", Command::Charges),
            ("swap", Command::Swap),
            ("disks", Command::Disks),
            ("scrub web", Command::Scrub(name("web"))),
            ("disk snapshot web web-1", Command::Snapshot(name("web"), name("web-1"))),
            ("kill netmux", Command::Kill(name("netmux"))),
            ("policy", Command::Policies),
            ("policy  sched   stride ", Command::Policy(name("sched"), name("stride"))),
            ("tenants", Command::Tenants),
            ("tenants  blue  vms=3 ", Command::Quota(blue, Change { vms: Some(3), ..Change::default() })),
            ("tenants blue memory=8MiB", Command::Quota(blue, Change { frames: Some(2048), ..Change::default() })),
            ("create httpd", Command::Create(name("httpd"), Terms::UNSAID)),
            ("create  hostile  crime=all  x=1 ", Command::Create(name("hostile"), Terms::UNSAID)),
            ("destroy 0", Command::Destroy(Slot::new(0))),
            ("shutdown 1048575", Command::Shutdown(Slot::new(1_048_575))),
            ("state 3", Command::State(Slot::new(3))),
            ("load 512 x=1", Command::Load(512)),
            ("restore 4", Command::Restore(Slot::new(4))),
            ("poweroff", Command::PowerOff),
        ] {
            let mut args = Arguments::new();
            assert_eq!(Command::parse(line, &mut args), Ok(command), "{line}");
            let expected: &[u8] = match line {
                "load 512 x=1" => b"x=1",
                _ if line.contains("x=1") => b"crime=all  x=1",
                _ => b"",
            };
            assert_eq!(args.as_bytes(), expected, "{line}");
            assert_eq!(command.word(), line.trim().split(' ').next().expect("a word"));
        }
    }

    #[test]
    fn the_list_is_complete() {
        for (word, takes, _) in HELP {
            let rest = match takes.split_once(' ') {
                _ if takes.is_empty() || takes.starts_with('[') => "",
                Some(("snapshot", _)) => "snapshot 1 2",
                _ => "1",
            };
            let line = format!("{word} {rest}");
            assert_eq!(parse(&line).expect(word).word(), word);
        }
    }

    #[test]
    fn mistakes() {
        assert_eq!(parse("reboot"), Err(Mistake::Unknown));
        assert_eq!(parse("VMS"), Err(Mistake::Unknown));
        assert_eq!(parse("vm"), Err(Mistake::Arguments { word: "vm", takes: "N" }));
        let takes = "[NAME POLICY]";
        for line in ["policy sched", "policy sched a b", "policy a-name-of-17-chars x"] {
            assert_eq!(parse(line), Err(Mistake::Arguments { word: "policy", takes }), "{line}");
        }
        for line in [
            "identity",
            "identity x",
            "identity addr=10.0.2.99",
            "vm x",
            "vm -1",
            "vm 4294967296",
            "vm 1 2",
            "destroy",
            "kill",
            "kill a b",
            "disks 1",
            "scrub",
            "disk",
            "disk snapshot web",
            "disk snapshot web a b",
            "disk snapshot web a-name-of-17-chars",
            "disk copy web a",
            "tenants blue",
            "tenants Blue vms=3",
            "tenants vms=3",
            "tenants blue vms=-1",
            "tenants blue vms=4294967295",
            "tenants blue memory=1",
            "tenants blue frames=1",
            "create",
            "poweroff now",
            "state",
            "load",
            "load x 00",
            "load 65536 00",
            "restore x",
        ] {
            assert!(matches!(parse(line), Err(Mistake::Arguments { .. })), "{line}");
        }
        assert!(matches!(parse("kill a-name-of-17-chars"), Err(Mistake::Arguments { .. })));
        let long = format!("create httpd {}", "x".repeat(abi::guest::BOOT_ARGS_MAX + 1));
        assert_eq!(parse(&long), Err(Mistake::LongArguments));
        assert!(parse(&long[..long.len() - 1]).is_ok());
    }

    fn parse(line: &str) -> Result<Command, Mistake> {
        Command::parse(line, &mut Arguments::new())
    }

    proptest! {
        #[test]
        fn any_line(line in "[ -~]{0,120}") {
            let _ = parse(&line);
        }

        #[test]
        fn any_argument(word in 0..HELP.len(), rest in "[ -~]{0,100}") {
            let _ = parse(&format!("{} {rest}", HELP[word].0));
        }
    }
}
