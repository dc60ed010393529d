//! Bochs' configuration file and command line.

use super::config::{Clock, Config, Net};
use super::{NET_LINK, NIC_MAC, spawn};
use crate::build::preload_library;
use crate::error::{Context, Result};
use std::fmt::Write;
use std::path::Path;
use std::process::{Child, Command};

/// Starts Bochs in the folder `dir` with its COM1 connected to the TCP port `com1` on the loopback interface.
pub fn start(config: &Config, dir: &Path, com1: u16) -> Result<Child> {
    let write = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).context(|| format!("cannot write {}", dir.join(name).display()))
    };
    write("bochsrc", &bochsrc(config, com1))?;
    // Debian's Bochs is built with its debugger, which waits for this command.
    write("debugger", "c\n")?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "bochs", "-q", "-f", "bochsrc", "-rc", "debugger"]);
    if matches!(config.net, Net::User(..)) {
        // Without it a frame is lost now and then, or each one: see there.
        command.env("LD_PRELOAD", preload_library("bochs-recvfrom")?);
    }
    // What the machine writes to port 0xe9 comes out on standard output.
    spawn(command, dir, "e9.log")
}

fn bochsrc(config: &Config, com1: u16) -> String {
    let mut rc = String::new();
    let mut line = |text: std::fmt::Arguments| {
        // Writing to a string cannot fail.
        let _ = writeln!(rc, "{text}");
    };
    line(format_args!("plugin_ctrl: unmapped=1, biosdev=1, speaker=0"));
    line(format_args!("config_interface: textconfig"));
    // There is no library without any display in Debian's package; this one goes on when nobody connects.
    let display = if config.window { "x".to_owned() } else { "rfb, options=\"timeout=0\"".to_owned() };
    line(format_args!("display_library: {display}"));
    // `megs:` goes to 2048; beyond that the host holds only a part of the machine's memory at a time.
    match config.megs {
        megs @ ..=2048 => line(format_args!("megs: {megs}")),
        megs => line(format_args!("memory: guest={megs}, host=2048")),
    }
    let cpu = config.cpu.as_deref().unwrap_or("corei7_skylake_x");
    line(format_args!("cpu: model={cpu}, count=1, ips={}, reset_on_triple_fault=0", config.ips));
    if let Some(cpuid) = &config.cpuid {
        line(format_args!("cpuid: {cpuid}"));
    }
    let sync = match config.clock {
        Clock::WithTheWorld | Clock::CountedWithTheWorld => "slowdown",
        Clock::Instructions => "none",
    };
    // A fixed date makes runs with `sync=none` repeatable.
    let time = if config.clock == Clock::Instructions { "1700000000" } else { "utc" };
    line(format_args!("clock: sync={sync}, time0={time}"));
    // `fastboot` skips the BIOS' boot menu, which takes seconds.
    line(format_args!("romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot"));
    line(format_args!("vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest"));
    line(format_args!("ata0-master: type=cdrom, path=\"{}\", status=inserted", config.iso.display()));
    let places = ["ata0-slave", "ata1-master", "ata1-slave"];
    if config.disks.len() > 1 {
        line(format_args!("ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15"));
    }
    for (place, disk) in places.iter().zip(&config.disks) {
        line(format_args!("{place}: type=disk, mode=flat, path=\"{}\", cylinders=0", disk.display()));
    }
    line(format_args!("boot: cdrom"));
    line(format_args!("com1: enabled=1, mode=socket-client, dev=127.0.0.1:{com1}"));
    line(format_args!("port_e9_hack: enabled=1"));
    line(format_args!("log: bochs.log"));
    line(format_args!("panic: action=fatal"));
    line(format_args!("error: action=report"));
    line(format_args!("info: action=ignore"));
    line(format_args!("debug: action=ignore"));
    let nic = match &config.net {
        // QEMU's own.
        Net::None | Net::Boot(_) => None,
        Net::User(..) => Some(format!("ethmod=vde, ethdev={NET_LINK}/ctl")),
        Net::Tap(name) => Some(format!("ethmod=tuntap, ethdev=/dev/net/tun:{name}")),
    };
    match nic {
        None => line(format_args!("pci: enabled=1, chipset=i440fx")),
        Some(nic) => {
            line(format_args!("pci: enabled=1, chipset=i440fx, slot1=e1000"));
            line(format_args!("e1000: enabled=1, mac={NIC_MAC}, {nic}, script=none"));
        }
    }
    rc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_fits_bochs_buffer() {
        assert!(format!("{NET_LINK}/ctl").len() < 16);
    }

    #[test]
    fn configuration_follows_the_machine() {
        let mut config = Config::new("/tmp/x.iso".into());
        assert!(bochsrc(&config, 7).contains("dev=127.0.0.1:7\n"));
        assert!(!bochsrc(&config, 7).contains("e1000"));
        assert!(!bochsrc(&config, 7).contains("type=disk"));
        config.disks = ["/a", "/b"].map(Into::into).to_vec();
        let rc = bochsrc(&config, 7);
        assert!(rc.contains("ata0-slave: type=disk, mode=flat, path=\"/a\"") && rc.contains("ata1-master: type=disk"));
        config.net = Net::Tap("tap0".to_owned());
        config.clock = Clock::Instructions;
        let rc = bochsrc(&config, 7);
        assert!(rc.contains("ethdev=/dev/net/tun:tap0") && rc.contains("sync=none"));
    }
}
