//! What a machine is made of.

use std::path::PathBuf;

/// How the machine's time runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Never faster than the world outside: for clients on the host.
    WithTheWorld,
    /// The time-stamp counter counts instructions, exactly and repeatably: for measuring.
    Instructions,
}

/// The network that the machine's NIC is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    /// There is no NIC.
    None,
    /// The user-mode network of [`crate::net`], with a forwarded port for each of these guest addresses.
    User(Vec<Forward>),
    /// The tap device of this name.
    Tap(String),
}

/// A TCP port of a guest that the host can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The guest's address.
    pub guest: std::net::Ipv4Addr,
    /// Its port.
    pub port: u16,
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
    /// Bochs' name of the CPU model.
    pub cpu: String,
    /// Further CPUID options of the model `bx_generic`, in Bochs' syntax.
    pub cpuid: Option<String>,
    /// Emulated instructions in a second of the machine's time.
    pub ips: u64,
    /// See [`Clock`].
    pub clock: Clock,
    /// See [`Net`].
    pub net: Net,
    /// What to write before each line of the log that is shown on standard error; `None` shows nothing.
    pub echo: Option<String>,
    /// Show the screen in a window, where there is one.
    pub window: bool,
}

impl Config {
    /// A machine with 256 MiB, VT-x and no network that boots `iso`.
    pub fn new(iso: PathBuf) -> Config {
        Config {
            iso,
            megs: 256,
            cpu: "corei7_skylake_x".to_owned(),
            cpuid: None,
            ips: 100_000_000,
            clock: Clock::WithTheWorld,
            net: Net::None,
            echo: None,
            window: false,
        }
    }
}
