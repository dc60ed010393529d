//! `run`: build, boot, serve.

use crate::build::build;
use crate::error::{Context, Result, fail};
use crate::http;
use crate::image::Contents;
use crate::machine::{Config, Forward, Kind, Machine, Net, Nic, run_dir, tap};
use crate::manifest::model::System;
use crate::manifest::{self, options};
use crate::net;
use crate::setup::{self, For};
use crate::workspace::root;
use clap::ValueEnum;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// VMs up to which the user-mode network is the default.
const USER_NET_VMS: usize = 64;
/// The port that the first VM's service gets on the host when it is free.
const FIRST_PORT: u16 = 18080;
/// The port of a web server.
const HTTP: u16 = 80;
/// How long the machine may take until its services answer, and how much longer for each VM.
const START: Duration = Duration::from_secs(60);
/// See [`START`].
const START_PER_VM: Duration = Duration::from_secs(2);
/// How long it may take to power off.
const POWER_OFF: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub struct Args {
    /// How many VMs [default: what system.toml says]
    #[arg(long, value_name = "N")]
    vms: Option<usize>,
    /// Their image [default: httpd]
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// Memory of the machine [default: 256 MiB and 2 MiB for each VM]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(32..=65536))]
    memory: Option<u32>,
    /// Processors of the machine
    #[arg(long, value_name = "N", default_value_t = 1)]
    cpus: u32,
    /// Disks of the machine
    #[arg(long, value_name = "N", default_value_t = 0)]
    disks: u32,
    /// Boot options, in addition to the others
    #[arg(long, value_name = "ARGS", default_value = "")]
    boot: String,
    /// Show no screen and read no keyboard
    #[arg(long)]
    headless: bool,
    /// Power off after so many seconds of serving
    #[arg(long = "for", value_name = "SECONDS")]
    for_seconds: Option<u64>,
    /// What runs it [default: the fastest that works here]
    #[arg(long, value_name = "KIND")]
    machine: Option<Kind>,
    /// The network [default: slirp up to 64 VMs, tap beyond]
    #[arg(long, value_name = "KIND")]
    net: Option<NetKind>,
    /// What connects it to the network
    #[arg(long, value_name = "NIC", default_value = "e1000")]
    nic: Nic,
    /// Run COMMAND with bash when all services answer, with their URLs in FORAKER_URL_1..N; then power off and exit with its status
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NetKind {
    /// A user-mode network: no privileges
    Slirp,
    /// A tap device in a network namespace of its own: takes root
    Tap,
}

/// A VM that serves HTTP.
struct Service {
    /// Its number, from 0.
    vm: usize,
    /// Its address in the machine's network.
    guest: Ipv4Addr,
}

pub fn run(args: Args) -> Result<ExitCode> {
    refuse_what_is_not_there_yet(&args)?;
    let system = manifest::load(&root().join("system.toml"))?;
    let options = boot_options(&args, &system)?;
    let all = format!("{} {options}", system.defaults);
    let images = options::vms(options::value(&all, "vms").unwrap_or_default())?;
    let services = services(&images, options::address(&all).unwrap_or_default())?;
    let kind = args.net.unwrap_or(if images.len() <= USER_NET_VMS { NetKind::Slirp } else { NetKind::Tap });
    setup::setup(if kind == NetKind::Tap { For::Everything } else { For::Run })?;
    if kind == NetKind::Tap && !tap::is_inside() {
        // Built outside, where there is a network for cargo.
        build(&system)?;
        let status = tap::run_inside()?;
        return Ok(exit_code(status));
    }
    let programs = build(&system)?;
    let dir = run_dir()?;
    let iso = dir.join("foraker.iso");
    Contents::new(&system, &programs)?.with_options(&options).make_iso(&iso)?;

    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context(|| "cannot catch Ctrl-C".into())?;

    let mut config = Config::new(iso);
    config.kind = args.machine.unwrap_or_else(Kind::fastest);
    config.nic = args.nic.qemu();
    config.megs = args.memory.unwrap_or_else(|| default_memory(images.len()));
    config.echo = Some("  | ".to_owned());
    config.window = !args.headless && has_window();
    config.net = match kind {
        NetKind::Tap => Net::Tap(tap::DEVICE.to_owned()),
        NetKind::Slirp => Net::User(forwards(&services)?),
    };
    if kind == NetKind::Tap && options::address(&all).is_some_and(|net| net == "dhcp") {
        net::dhcp::serve(net::TAP_PREFIX)?;
    }
    let (machine, megs) = (config.kind.name(), config.megs);
    eprintln!("booting {} VMs in {machine} with {megs} MiB; log files in {}", images.len(), dir.display());
    if config.kind == Kind::Kvm {
        eprintln!("nobody has tried this kind of machine yet: if it fails, use --machine qemu and report it");
    }
    let started = Instant::now();
    let mut machine = Machine::start(&config, &dir)?;
    let addresses: Vec<SocketAddr> = match machine.net() {
        Some(net) => net.addresses().to_vec(),
        None => services.iter().map(|service| SocketAddr::from((service.guest, HTTP))).collect(),
    };
    let limit = START + START_PER_VM.saturating_mul(u32::try_from(images.len()).unwrap_or(u32::MAX));
    let up = wait_for_services(&mut machine, &addresses, limit, &interrupted)?;
    if !up {
        machine.power_off(POWER_OFF);
        return Ok(ExitCode::from(130));
    }
    eprintln!("all services answer, {:.1} s after power-on", started.elapsed().as_secs_f32());
    let urls: Vec<String> = addresses.iter().map(|address| format!("http://{}/", bare(*address))).collect();
    for (service, url) in services.iter().zip(&urls) {
        println!("vm {}  {url}", service.vm);
    }
    let code = match &args.exec {
        Some(command) => exec(command, &urls)?,
        None => serve(&mut machine, args.for_seconds, !args.headless, &interrupted)?,
    };
    if !machine.power_off(POWER_OFF) {
        eprintln!("the machine did not power off within {} s and was switched off", POWER_OFF.as_secs());
    }
    Ok(code)
}

fn refuse_what_is_not_there_yet(args: &Args) -> Result<()> {
    if let Some(refusal) = args.machine.and_then(Kind::refusal) {
        fail!("--machine: {refusal}");
    }
    if args.nic != Nic::E1000 && args.machine.unwrap_or_else(Kind::fastest) == Kind::Bochs {
        fail!("--nic: Bochs has no such NIC: use --machine qemu or --nic e1000");
    }
    if args.cpus != 1 {
        fail!("--cpus {}: the core runs on one processor so far: use --cpus 1", args.cpus);
    }
    if args.disks != 0 {
        fail!("--disks {}: there is no disk component so far: use --disks 0", args.disks);
    }
    if args.headless && args.exec.is_none() && args.for_seconds.is_none() {
        eprintln!("serving until Ctrl-C");
    }
    Ok(())
}

/// The boot options that the arguments ask for.
fn boot_options(args: &Args, system: &System) -> Result<String> {
    let mut options = Vec::new();
    if args.vms.is_some() || args.image.is_some() {
        let image = args.image.as_deref().unwrap_or("httpd");
        if !system.image.iter().any(|known| known.name == image) {
            let known: Vec<&str> = system.image.iter().map(|image| image.name.as_str()).collect();
            fail!("--image {image}: there is no such image: known are {}", known.join(", "));
        }
        let count = match args.vms {
            Some(0) => fail!("--vms 0: a machine without VMs serves nothing: ask for at least 1"),
            Some(count) => count,
            None => 1,
        };
        options.push(format!("vms={image}*{count}"));
        if count > 200 && options::address(&args.boot).is_none() {
            // More than a /24 has room for.
            options.push("net=10.0.2.16/16,gw=10.0.2.2".to_owned());
        }
    }
    if !args.boot.is_empty() {
        options.push(args.boot.clone());
    }
    Ok(options.join(" "))
}

/// Which VMs serve HTTP, and where.
fn services(images: &[String], net: &str) -> Result<Vec<Service>> {
    let first = match net.split(['/', ',']).next() {
        Some("dhcp") => net::FIRST_VM,
        Some(address) => address.parse().context(|| format!("net={net}"))?,
        None => net::FIRST_VM,
    };
    let serving = images.iter().enumerate().filter(|(_, image)| *image == "httpd");
    serving
        .map(|(vm, _)| {
            let offset = u32::try_from(vm).context(|| "too many VMs".into())?;
            Ok(Service { vm, guest: Ipv4Addr::from_bits(first.to_bits().wrapping_add(offset)) })
        })
        .collect()
}

fn forwards(services: &[Service]) -> Result<Vec<Forward>> {
    let [a, b, c, _] = net::HOST.octets();
    let mut forwards = Vec::new();
    for (service, offset) in services.iter().zip(0_u16..) {
        let [x, y, z, _] = service.guest.octets();
        if [a, b, c] != [x, y, z] {
            fail!(
                "VM {} would have the address {}, but the user-mode network is {}/{}: ask for fewer VMs or for addresses in it, or use --net tap",
                service.vm,
                service.guest,
                Ipv4Addr::new(a, b, c, 0),
                net::PREFIX
            );
        }
        forwards.push(Forward { guest: service.guest, port: HTTP, host_port: FIRST_PORT.saturating_add(offset) });
    }
    Ok(forwards)
}

fn default_memory(vms: usize) -> u32 {
    u32::try_from(vms).unwrap_or(u32::MAX).saturating_mul(2).saturating_add(256).min(65536)
}

/// True when Bochs can open a window: there is a display, and the Debian package that draws on it is installed.
fn has_window() -> bool {
    let plugin = "/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_x_gui.so.0.0.0";
    std::env::var_os("DISPLAY").is_some() && std::path::Path::new(plugin).exists()
}

/// Waits until every service answers. False when Ctrl-C was pressed meanwhile.
fn wait_for_services(
    machine: &mut Machine,
    services: &[SocketAddr],
    limit: Duration,
    interrupted: &AtomicBool,
) -> Result<bool> {
    let end = Instant::now() + limit;
    let mut waiting = services.to_vec();
    // Without services: until the components and VMs are there, which the operator's line tells.
    let mut asked = None;
    loop {
        if interrupted.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let ended = machine.has_ended();
        let fatal = machine.log().since(0).iter().any(|line| line.contains("FATAL F"));
        if ended || fatal {
            // The rest of the message.
            machine.wait_for_end(Duration::from_secs(1));
            fail!(
                "the machine stopped while it booted. Its last words:\n{}{}",
                machine.log().tail(12),
                where_logs_are(machine)
            );
        }
        if services.is_empty() {
            let mark = *asked.get_or_insert_with(|| machine.log().len());
            if machine.log().since(mark).iter().any(|line| line.contains("monitor: done vms")) {
                return Ok(true);
            }
            let _ = machine.send("vms");
            std::thread::sleep(Duration::from_secs(1));
        } else {
            waiting.retain(|address| {
                !http::get(*address, "/", Duration::from_secs(2)).is_ok_and(|answer| answer.status == 200)
            });
            if waiting.is_empty() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if Instant::now() >= end {
            fail!(
                "{} of {} services do not answer {} s after power-on. The end of the machine's log:\n{}{}",
                waiting.len(),
                services.len(),
                limit.as_secs(),
                machine.log().tail(20),
                where_logs_are(machine)
            );
        }
    }
}

fn where_logs_are(machine: &Machine) -> String {
    let (name, log) = (machine.kind().name(), machine.kind().log());
    format!("The whole log is {0}/console.log; what {name} says is in {0}/{log}", machine.dir().display())
}

/// The address as it stands in a URL, without the port that HTTP has anyway.
fn bare(address: SocketAddr) -> String {
    if address.port() == HTTP { address.ip().to_string() } else { address.to_string() }
}

fn exec(command: &str, urls: &[String]) -> Result<ExitCode> {
    let mut bash = Command::new("bash");
    bash.args(["-c", command]);
    for (i, url) in urls.iter().enumerate() {
        bash.env(format!("FORAKER_URL_{}", i + 1), url.trim_end_matches('/'));
    }
    let status = bash.status().context(|| "cannot start bash".into())?;
    Ok(exit_code(status))
}

fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Serves until Ctrl-C, or for so many seconds. What is typed goes to the machine's operator line.
fn serve(machine: &mut Machine, seconds: Option<u64>, keyboard: bool, interrupted: &AtomicBool) -> Result<ExitCode> {
    if keyboard {
        eprintln!("type `help` for the operator's commands; Ctrl-C powers off");
        let typist = machine.typist()?;
        std::thread::spawn(move || {
            let mut line = String::new();
            while std::io::stdin().read_line(&mut line).is_ok_and(|count| count > 0) && typist(line.trim_end()) {
                line.clear();
            }
        });
    }
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    loop {
        if interrupted.load(Ordering::Relaxed) || end.is_some_and(|end| Instant::now() >= end) {
            return Ok(ExitCode::SUCCESS);
        }
        if machine.has_ended() {
            if machine.powered_off() {
                return Ok(ExitCode::SUCCESS);
            }
            fail!(
                "the machine ended by itself. Its last words:\n{}{}",
                machine.log().tail(20),
                where_logs_are(machine)
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_the_web_servers_at_their_slots_addresses() {
        let images = ["httpd", "hostile", "httpd"].map(str::to_owned);
        let found = services(&images, "10.0.2.16/24,gw=10.0.2.2").unwrap();
        let found: Vec<(usize, Ipv4Addr)> = found.iter().map(|service| (service.vm, service.guest)).collect();
        assert_eq!(found, [(0, Ipv4Addr::new(10, 0, 2, 16)), (2, Ipv4Addr::new(10, 0, 2, 18))]);
        assert_eq!(services(&images, "dhcp").unwrap()[1].guest, Ipv4Addr::new(10, 0, 2, 18));
        assert!(services(&images, "nonsense").is_err());
    }

    #[test]
    fn addresses_outside_the_user_network_are_refused() {
        assert!(forwards(&[Service { vm: 0, guest: Ipv4Addr::new(10, 0, 3, 1) }]).is_err());
        let good = forwards(&[Service { vm: 3, guest: Ipv4Addr::new(10, 0, 2, 19) }]).unwrap();
        assert_eq!((good[0].port, good[0].host_port), (80, 18080));
    }

    #[test]
    fn exit_status_is_passed_on() {
        let status = |code| exit_code(std::process::ExitStatus::from_raw(code));
        assert_eq!(format!("{:?}", status(7 << 8)), format!("{:?}", ExitCode::from(7)));
        assert_eq!(format!("{:?}", status(9)), format!("{:?}", ExitCode::from(137)));
    }
}
