//! QEMU's command line: with TCG it emulates AMD SVM, with KVM it passes the host's virtualization on.

use super::config::{Clock, Config, DiskKind, Forward, Kind, Net, Netboot, QEMU};
use super::{NET_LINK, NIC_MAC, spawn};
use crate::error::Result;
use crate::power::log::{Logged, TRACED};
use std::path::Path;
use std::process::{Child, Command};

/// UEFI for QEMU (OVMF).
pub const UEFI_FIRMWARE: &str = "/usr/share/ovmf/OVMF.fd";
/// The port that ends the machine: what Bochs has there, too.
const EXIT_PORT: u16 = 0x8900;
/// The status with which QEMU ends when the core powers off: of the first byte of "Shutdown", 2n + 1.
pub const POWERED_OFF: i32 = 2 * b'S' as i32 + 1;

/// Starts QEMU in the folder `dir` with its COM1 and its control socket connected to these TCP ports on the loopback interface.
pub fn start(config: &Config, dir: &Path, com1: u16, control: u16) -> Result<Child> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", QEMU]).args(arguments(config, com1, control));
    spawn(command, dir, "qemu.log")
}

fn arguments(config: &Config, com1: u16, control: u16) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| all.extend(words.iter().map(|word| (*word).to_owned()));
    add(&["-nodefaults", "-no-user-config", "-machine", "pc"]);
    let cpu = config.cpu.as_deref();
    match config.kind {
        Kind::Kvm => add(&["-accel", "kvm", "-cpu", cpu.unwrap_or("host")]),
        // One thread: the core uses one processor so far.
        Kind::Qemu | Kind::Bochs => add(&["-accel", "tcg,thread=single", "-cpu", cpu.unwrap_or("EPYC")]),
    }
    if config.clock == Clock::Instructions && config.kind != Kind::Kvm {
        // One instruction is a nanosecond, and idle time takes none of ours.
        add(&["-icount", "shift=0,sleep=off", "-rtc", "base=2023-11-14T22:13:20,clock=vm"]);
    }
    if config.clock == Clock::CountedWithTheWorld && config.kind != Kind::Kvm {
        add(&["-icount", "shift=0,sleep=on"]);
    }
    if let Some(base) = config.rtc {
        add(&["-rtc", &format!("base={base}")]);
    }
    add(&["-m", &config.megs.to_string(), "-no-reboot"]);
    match &config.net {
        Net::Boot(_) => add(&["-boot", "n"]),
        _ => add(&["-cdrom", &config.iso.display().to_string(), "-boot", "d"]),
    }
    add(&["-chardev", &format!("socket,id=com1,host=127.0.0.1,port={com1}"), "-serial", "chardev:com1"]);
    add(&["-chardev", &format!("socket,id=control,host=127.0.0.1,port={control}"), "-mon", "control,mode=control"]);
    if config.uefi {
        add(&["-bios", UEFI_FIRMWARE]);
    }
    add(&["-debugcon", "file:e9.log"]);
    add(&["-device", &format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1")]);
    if config.window {
        add(&["-vga", "std"])
    } else {
        add(&["-display", "none", "-vga", "std"])
    }
    if config.disk_kind == DiskKind::Ahci && !config.disks.is_empty() {
        add(&["-device", "ich9-ahci,id=sata"]);
    }
    // Bus and unit of the IDE controller, beside the CD-ROM drive.
    let places = [(0, 0), (0, 1), (1, 1)];
    if let Some(logged) = &config.logged {
        add(&["-D", &logged.trace().display().to_string()]);
        TRACED.iter().for_each(|event| add(&["-trace", event]));
    }
    for (number, disk) in config.disks.iter().enumerate() {
        // Flushes reach the host's disk only when they are asked for: whoever reads the image sees what the machine wrote all the same.
        let path = disk.display().to_string().replace(',', ",,");
        match &config.logged {
            Some(logged) => logged_disk(&mut add, number, &path, logged),
            None => add(&["-drive", &format!("if=none,id=disk{number},format=raw,file={path},cache=writeback")]),
        }
        let device = match (config.disk_kind, places.get(number)) {
            (DiskKind::Ide, Some((bus, unit))) => format!("ide-hd,drive=disk{number},bus=ide.{bus},unit={unit}"),
            (DiskKind::Ahci, _) => format!("ide-hd,drive=disk{number},bus=sata.{number}"),
            (DiskKind::Nvme, _) => format!("nvme,drive=disk{number},serial=disk{number}"),
            _ if config.apart => format!("virtio-blk-pci,id=virtio{number},drive=disk{number},request-merging=off"),
            _ => format!("virtio-blk-pci,id=virtio{number},drive=disk{number}"),
        };
        add(&["-device", &device]);
    }
    let network = match &config.net {
        Net::None => None,
        Net::User(..) => Some(format!(
            "dgram,id=nic,local.type=unix,local.path={NET_LINK}/machine,remote.type=unix,remote.path={NET_LINK}/data"
        )),
        Net::Tap(name) => Some(format!("tap,id=nic,ifname={name},script=no,downscript=no")),
        Net::Boot(netboot) => Some(user_network(netboot)),
    };
    if let Some(network) = network {
        add(&["-netdev", &network, "-device", &format!("{},netdev=nic,mac={NIC_MAC}", config.nic)]);
    }
    all
}

/// QEMU's own network, from which the machine boots.
fn user_network(netboot: &Netboot) -> String {
    let tree = netboot.tree.display().to_string().replace(',', ",,");
    let mut network = format!("user,id=nic,tftp={tree},bootfile={}", netboot.file);
    for Forward { guest, port, host_port } in &netboot.forwards {
        network.push_str(&format!(",hostfwd={}:127.0.0.1:{host_port}-{guest}:{}", port.protocol, port.number));
    }
    network
}

/// A disk with a log of what is written to it.
fn logged_disk(add: &mut impl FnMut(&[&str]), number: usize, path: &str, logged: &Logged) {
    let log = logged.disk(number).display().to_string().replace(',', ",,");
    add(&["-blockdev", &format!("driver=file,node-name=image{number},filename={path}")]);
    add(&["-blockdev", &format!("driver=file,node-name=log{number},filename={log}")]);
    // The number of entries in the log's first sector is right after each of them: nobody closes the log at the end.
    let log = format!("file=image{number},log=log{number},log-super-update-interval=1");
    add(&["-blockdev", &format!("driver=blklogwrites,node-name=disk{number},{log}")]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_follow_the_machine() {
        let mut config = Config::new("/tmp/x.iso".into());
        config.kind = Kind::Qemu;
        let line = arguments(&config, 7, 8).join(" ");
        assert!(line.contains("port=7") && line.contains("-cpu EPYC") && line.contains("/tmp/x.iso"));
        assert!(!line.contains("e1000") && !line.contains("-icount"));
        config.net = Net::Tap("tap0".to_owned());
        config.clock = Clock::Instructions;
        let line = arguments(&config, 7, 8).join(" ");
        assert!(line.contains("ifname=tap0") && line.contains("-icount shift=0"));
        assert!(line.contains("-device e1000,"));
        assert!(!line.contains("-drive"));
        config.disks = ["/a", "/b"].map(Into::into).to_vec();
        assert!(
            arguments(&config, 7, 8)
                .join(" ")
                .contains("file=/b,cache=writeback -device ide-hd,drive=disk1,bus=ide.0,unit=1")
        );
        config.disk_kind = DiskKind::Virtio;
        assert!(
            arguments(&config, 7, 8)
                .join(" ")
                .contains("file=/a,cache=writeback -device virtio-blk-pci,id=virtio0,drive=disk0")
        );
        config.disk_kind = DiskKind::Ahci;
        let line = arguments(&config, 7, 8).join(" ");
        assert!(line.contains("-device ich9-ahci,id=sata ") && line.contains("-device ide-hd,drive=disk1,bus=sata.1"));
        config.disk_kind = DiskKind::Nvme;
        assert!(arguments(&config, 7, 8).join(" ").contains("-device nvme,drive=disk1,serial=disk1"));
        config.nic = "virtio-net-pci";
        assert!(arguments(&config, 7, 8).join(" ").contains("-device virtio-net-pci,netdev=nic,"));
        assert!(!line.contains("-bios"));
        config.uefi = true;
        config.kind = Kind::Kvm;
        let line = arguments(&config, 7, 8).join(" ");
        assert!(
            line.contains("-accel kvm -cpu host")
                && line.contains("-bios /usr/share/ovmf")
                && !line.contains("-icount")
        );
    }
}
