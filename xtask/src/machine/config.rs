//! What a machine is made of.

use crate::manifest::model::Port;
use crate::net::Outside;
use crate::power::log::Logged;
use crate::workspace::has_program;
use clap::ValueEnum;
use std::path::PathBuf;

/// QEMU's program.
pub const QEMU: &str = "qemu-system-x86_64";

/// What runs the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Bochs, which emulates an Intel processor with VT-x
    Bochs,
    /// QEMU, which emulates an AMD processor with SVM
    Qemu,
    /// QEMU with KVM and nested virtualization (untested)
    Kvm,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bochs => "Bochs",
            Kind::Qemu => "QEMU",
            Kind::Kvm => "QEMU with KVM",
        }
    }

    /// Name of the file with what it says itself, in the run's folder.
    pub fn log(self) -> &'static str {
        match self {
            Kind::Bochs => "bochs.log",
            Kind::Qemu | Kind::Kvm => "qemu.log",
        }
    }

    /// The fastest that works on this host: KVM where it passes virtualization on, else QEMU where it is installed, else
    /// Bochs.
    pub fn fastest() -> Kind {
        if !has_program(QEMU) {
            Kind::Bochs
        } else if kvm_refusal().is_none() {
            Kind::Kvm
        } else {
            Kind::Qemu
        }
    }

    /// Why it cannot be used here, and what to do about it. `None` when it can.
    pub fn refusal(self) -> Option<String> {
        match self {
            Kind::Bochs => None,
            Kind::Qemu | Kind::Kvm if !has_program(QEMU) => {
                Some("QEMU is not installed: apt-get install qemu-system-x86, or use --machine bochs".to_owned())
            }
            Kind::Qemu => None,
            Kind::Kvm => kvm_refusal(),
        }
    }
}

/// Why KVM cannot run a machine that runs guests.
fn kvm_refusal() -> Option<String> {
    let advice = "use --machine qemu or --machine bochs";
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/kvm") {
        return Some(format!("/dev/kvm cannot be opened ({error}): {advice}"));
    }
    let nested = ["kvm_intel", "kvm_amd"].iter().any(|module| {
        let text = std::fs::read_to_string(format!("/sys/module/{module}/parameters/nested")).unwrap_or_default();
        matches!(text.trim(), "1" | "Y")
    });
    (!nested)
        .then(|| format!("KVM does not pass virtualization on: load kvm_intel or kvm_amd with nested=1, or {advice}"))
}

/// How the machine's time runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Never faster than the world outside: for clients on the host.
    WithTheWorld,
    /// Likewise, and the time-stamp counter counts instructions while the machine is not idle.
    CountedWithTheWorld,
    /// The time-stamp counter counts instructions, exactly and repeatably: for measuring.
    Instructions,
}

/// The network that the machine's NIC is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    /// There is no NIC.
    None,
    /// The user-mode network of [`crate::net`], with these ports of guests forwarded, from which they get so far.
    User(Vec<Forward>, Outside),
    /// The tap device of this name.
    Tap(String),
    /// QEMU's own user-mode network, with a server from which the machine boots.
    Boot(Netboot),
}

/// What a machine boots from that has nothing but its NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netboot {
    /// The TFTP server's folder.
    pub tree: PathBuf,
    /// The name in it that the DHCP server tells.
    pub file: String,
    /// TCP ports of guests that the host can reach, at the ports that are said.
    pub forwards: Vec<Forward>,
}

/// The NIC of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Nic {
    /// Intel 82540EM
    E1000,
    /// virtio-net over PCI (QEMU only)
    Virtio,
}

impl Nic {
    /// The one that serves best on such a machine. QEMU's e1000 takes no frame for a second after each reset.
    pub fn best(kind: Kind) -> Nic {
        match kind {
            Kind::Bochs => Nic::E1000,
            Kind::Qemu | Kind::Kvm => Nic::Virtio,
        }
    }

    /// QEMU's name of it.
    pub fn qemu(self) -> &'static str {
        match self {
            Nic::E1000 => "e1000",
            Nic::Virtio => "virtio-net-pci",
        }
    }
}

/// What connects disks to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiskKind {
    /// virtio-blk over PCI (QEMU only)
    Virtio,
    /// SATA behind an AHCI controller, the ICH9's (QEMU only)
    Ahci,
    /// NVMe, each disk with its own controller (QEMU only)
    Nvme,
    /// The PIIX's IDE controller: three disks at most, beside the CD-ROM drive
    Ide,
}

impl DiskKind {
    /// Disks that the machine can have of this kind.
    pub fn most(self) -> usize {
        match self {
            // One of the component's devices is the IDE controller, which every machine has.
            DiskKind::Virtio | DiskKind::Nvme => 3,
            DiskKind::Ide => 3,
            DiskKind::Ahci => 6,
        }
    }

    /// Whether such a machine can have it.
    pub fn is_for(self, kind: Kind) -> bool {
        kind != Kind::Bochs || self == DiskKind::Ide
    }
}

/// A port of a guest that the host can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The guest's address.
    pub guest: std::net::Ipv4Addr,
    /// Its port.
    pub port: Port,
    /// The port on 127.0.0.1 that is preferred when it is free.
    pub host_port: u16,
}

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it boots.
    pub iso: PathBuf,
    /// Memory in MiB.
    pub megs: u32,
    /// What runs it.
    pub kind: Kind,
    /// The firmware is UEFI ([`super::UEFI_FIRMWARE`]) instead of a BIOS; for QEMU only.
    pub uefi: bool,
    /// The CPU model, by the name that the machine's kind has for it; `None` for one with everything that it can emulate.
    pub cpu: Option<String>,
    /// Further CPUID options of the model `bx_generic`, in Bochs' syntax.
    pub cpuid: Option<String>,
    /// Emulated instructions in a second of the machine's time; for Bochs only.
    pub ips: u64,
    /// See [`Clock`].
    pub clock: Clock,
    /// What the machine's own clock shows at its start, as QEMU's option `-rtc base=` has it; `None` for the time of the host. For QEMU, and a clock that goes with the world's.
    pub rtc: Option<&'static str>,
    /// See [`Net`].
    pub net: Net,
    /// What connects it to the network, as QEMU names it, with further options. Bochs has the 82540EM only.
    pub nic: &'static str,
    /// Images of its disks, and what connects these. Bochs has IDE only.
    pub disks: Vec<PathBuf>,
    /// See `disks`.
    pub disk_kind: DiskKind,
    /// QEMU's virtio-blk does neighbouring requests together, as far as they come together; not so with this.
    pub apart: bool,
    /// Logs of all that is written to the disks; for QEMU's virtio-blk only.
    pub logged: Option<Logged>,
    /// What to write before each line of the log that is shown on standard error; `None` shows nothing.
    pub echo: Option<String>,
    /// Show the screen in a window, where there is one.
    pub window: bool,
}

impl Config {
    /// A Bochs with 256 MiB, VT-x and no network that boots `iso`.
    pub fn new(iso: PathBuf) -> Config {
        Config {
            iso,
            megs: 256,
            kind: Kind::Bochs,
            uefi: false,
            cpu: None,
            cpuid: None,
            ips: 100_000_000,
            clock: Clock::WithTheWorld,
            rtc: None,
            net: Net::None,
            nic: Nic::E1000.qemu(),
            disks: Vec::new(),
            disk_kind: DiskKind::Ide,
            apart: false,
            logged: None,
            echo: None,
            window: false,
        }
    }
}
