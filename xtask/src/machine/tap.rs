//! The tap network: a namespace of its own with one tap device, made for a run and removed with it.
//!
//! Everything that talks to the machine has to live in the namespace, so xtask starts itself again inside it.

use crate::error::{Context, Result, fail};
use crate::workspace::{has_program, output};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, ExitStatus};

/// Set, to the namespace's name, for the xtask that runs inside.
const INSIDE: &str = "FORAKER_NETNS";
/// The tap device in the namespace.
pub const DEVICE: &str = "tap0";
/// The host's address on the tap, in a network with room for as many VMs as there can be. They may be told of a smaller one.
const HOST: &str = "10.0.2.2/8";

/// How many neighbours the host can know at a time, in all namespaces together. Who asks more VMs than that within seconds reaches none but those.
pub fn most_neighbours() -> Option<usize> {
    std::fs::read_to_string("/proc/sys/net/ipv4/neigh/default/gc_thresh3").ok()?.trim().parse().ok()
}

/// True inside the namespace.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// A namespace with a tap device, removed when dropped.
pub struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its tap goes with it. A failure leaves an empty namespace behind, which is no reason to fail the run.
        let _ = ip(&["netns", "del", &self.0]);
    }
}

impl Namespace {
    /// Makes one.
    pub fn create() -> Result<Namespace> {
        if !has_program("ip") || !Path::new("/dev/net/tun").exists() {
            fail!(
                "a tap needs `ip` (Debian package iproute2) and /dev/net/tun: install the one, `modprobe tun` for the other"
            );
        }
        let name = format!("foraker-{}", std::process::id());
        if let Err(error) = ip(&["netns", "add", &name]) {
            fail!("a tap needs a network namespace, which takes root: run it as root, or use --net slirp ({error})");
        }
        let namespace = Namespace(name);
        let name = namespace.0.as_str();
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&["-n", name, "tuntap", "add", "dev", DEVICE, "mode", "tap"])?;
        ip(&["-n", name, "address", "add", HOST, "dev", DEVICE])?;
        ip(&["-n", name, "link", "set", DEVICE, "up"])?;
        // For the answers of the DHCP server.
        ip(&["-n", name, "route", "add", "255.255.255.255", "dev", DEVICE])?;
        Ok(namespace)
    }

    /// Xtask itself, to be started inside with these arguments.
    pub fn xtask<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Command> {
        let own = std::env::current_exe().context(|| "cannot find xtask's own program".into())?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(own).args(arguments).env(INSIDE, &self.0);
        Ok(command)
    }
}

/// Makes the namespace, runs this very command inside it, and removes it. Returns the command's exit status.
pub fn run_inside() -> Result<ExitStatus> {
    let namespace = Namespace::create()?;
    // Ctrl-C is for the one inside; we only have to live long enough to clean up. There can be a handler from before.
    match ctrlc::set_handler(|| {}) {
        Ok(()) | Err(ctrlc::Error::MultipleHandlers) => {}
        Err(error) => fail!("cannot catch Ctrl-C: {error}"),
    }
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    namespace.xtask(&arguments)?.status().context(|| "cannot start xtask in the namespace".into())
}

fn ip(arguments: &[&str]) -> Result<String> {
    output(Command::new("ip").args(arguments))
}
