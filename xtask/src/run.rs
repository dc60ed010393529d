//! `run`: build, boot, serve.

use crate::build::build;
use crate::carried;
use crate::disk;
use crate::error::{Context, Result, fail};
use crate::fleet;
use crate::image::Contents;
use crate::machine::{Config, DiskKind, Kind, Machine, Net, Nic, run_dir, tap};
use crate::manifest::model::{Protocol, System};
use crate::manifest::{self, Bytes, options};
use crate::net;
use crate::operator;
use crate::service::{self, Outcome, Sample, Vm};
use crate::setup::{self, For};
use crate::workspace::root;
use clap::ValueEnum;
use std::fmt::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// VMs up to which the user-mode network is the default.
const USER_NET_VMS: usize = 64;
/// Log levels below information.
const QUIET: [&str; 3] = ["off", "error", "warn"];
/// How long the machine may take until its VMs are ready, and how much longer for each VM.
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
    /// Disks of the machine: a set in target/disks, which is kept for the next run
    #[arg(long, value_name = "N", default_value_t = 0)]
    disks: usize,
    /// Let the VMs read the files of a folder, from a virtual disk that they share: web servers serve them. Without --disks on one disk
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// What connects disks to the machine [default: virtio, Bochs: ide]
    #[arg(long, value_name = "KIND")]
    disk: Option<DiskKind>,
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
    /// Where VMs get to beyond the host, with --net slirp
    #[arg(long, value_name = "WHERE", value_enum, default_value_t)]
    outside: net::Outside,
    /// What connects it to the network [default: virtio, on Bochs e1000]
    #[arg(long, value_name = "NIC")]
    nic: Option<Nic>,
    /// What draws the random sample of more than 1,000 VMs that has to answer [default: another number each time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Put the operator's VM in front of the others, where the owners of the OpenSSH public keys in FILE may log in
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// With --key: let the operator's VM make the VMs of this fleet file when it starts, as `fleet apply` does
    #[arg(long, value_name = "FILE", requires = "key")]
    fleet: Option<PathBuf>,
    /// With --key: let the operator's VM carry out the commands of this file when the machine has started, up to the first that fails
    #[arg(long, value_name = "FILE", requires = "key")]
    script: Option<PathBuf>,
    /// Run COMMAND with bash when all VMs are ready, with the URLs of those that serve HTTP in FORAKER_URL_1..N, where the i-th VM
    /// is reached in FORAKER_ADDR_i, and with --key how to log in in FORAKER_SSH; then power off and exit with its status
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

pub fn run(mut args: Args) -> Result<ExitCode> {
    if args.files.is_some() {
        args.disks = args.disks.max(1);
    }
    refuse_what_is_not_there_yet(&args)?;
    let texts = fleet::Files { fleet: args.fleet.clone(), script: args.script.clone() }.read()?;
    let mut system = manifest::load(&root().join("system.toml"))?;
    if args.files.is_some() {
        attach(&mut system, args.image.as_deref().unwrap_or("httpd"));
    }
    let mut options = boot_options(&args, &system)?;
    if let Some(file) = &args.key {
        operator::admit(&mut system, file)?;
        options = operator::in_front(&system, &options);
    }
    let kept = if args.files.is_none() { Some(disk::kept(args.disks)?) } else { None };
    if args.key.is_some() {
        keep_state(&mut system, kept.as_deref())?;
    }
    let all = format!("{} {options}", system.defaults);
    let mut vms = service::plan(&system, &all)?;
    refuse_what_cannot_be_seen(&vms, options::value(&all, "log").unwrap_or_default())?;
    let kind = args.net.unwrap_or(if vms.len() <= USER_NET_VMS { NetKind::Slirp } else { NetKind::Tap });
    if args.key.is_some() && kind == NetKind::Slirp {
        operator::keep_time(&mut system);
    }
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
    let contents = Contents::new(&system, &programs)?.with_texts(texts)?;
    contents.with_options(&options).make_iso(&iso)?;

    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context(|| "cannot catch Ctrl-C".into())?;

    let mut config = Config::new(iso);
    config.kind = args.machine.unwrap_or_else(Kind::fastest);
    config.nic = args.nic.unwrap_or_else(|| Nic::best(config.kind)).qemu();
    config.disk_kind = disk_kind(&args);
    config.disks = match (kept, &args.files) {
        (Some(kept), _) => kept,
        (None, Some(folder)) => disk::with_files(args.disks, folder, &dir)?,
        (None, None) => Vec::new(),
    };
    config.megs = args.memory.unwrap_or_else(|| default_memory(vms.len()));
    config.echo = Some("  | ".to_owned());
    config.window = !args.headless && has_window();
    config.net = match kind {
        NetKind::Tap => Net::Tap(tap::DEVICE.to_owned()),
        NetKind::Slirp => Net::User(service::forwards(&vms)?, args.outside),
    };
    if kind == NetKind::Tap && options::address(&all, &system).is_some_and(|net| net == "dhcp") {
        net::dhcp::serve(net::TAP_PREFIX)?;
    }
    let (machine, megs) = (config.kind.name(), config.megs);
    eprintln!("booting {} VMs in {machine} with {megs} MiB; log files in {}", vms.len(), dir.display());
    if config.kind == Kind::Kvm {
        eprintln!("nobody has tried this kind of machine yet: if it fails, use --machine qemu and report it");
    }
    let started = Instant::now();
    let mut machine = Machine::start(&config, &dir)?;
    if let Some(net) = machine.net() {
        service::put(&mut vms, net.addresses());
    }
    let limit = START + START_PER_VM.saturating_mul(u32::try_from(vms.len()).unwrap_or(u32::MAX));
    let seed = args.seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()));
    let sample = Sample::draw(vms.len(), seed);
    if let Some(size) = sample.size() {
        eprintln!("a random sample of {size} VMs has to answer (--seed {seed} draws the same)");
    }
    let hides = QUIET.contains(&options::value(&all, "log").unwrap_or_default());
    if service::wait(&mut machine, &vms, &sample, hides, limit, &interrupted)? == Outcome::Interrupted {
        machine.power_off(POWER_OFF);
        return Ok(ExitCode::from(130));
    }
    eprintln!("all VMs are ready, {:.1} s after power-on", started.elapsed().as_secs_f32());
    if let Some(most) = tap::most_neighbours().filter(|&most| kind == NetKind::Tap && vms.len() >= most) {
        eprintln!(
            "the host knows {most} neighbours at a time (net.ipv4.neigh.default.gc_thresh3): to ask more VMs within seconds, raise that, or \
             `ip neigh flush dev {}` now and then",
            tap::DEVICE
        );
    }
    print!("{}", places(&vms));
    let mut told = environment(&vms);
    if let (Some(file), Some((login, web))) = (&args.key, operator::places(&vms)) {
        println!("operator  {}, http://{web}/metrics", operator::line(login));
        told.push(("FORAKER_SSH".to_owned(), operator::script_line(login, file)));
    }
    let code = match &args.exec {
        Some(command) => exec(command, &told, &dir)?,
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
    if args.nic == Some(Nic::Virtio) && args.machine.unwrap_or_else(Kind::fastest) == Kind::Bochs {
        fail!("--nic: Bochs has no such NIC: use --machine qemu or --nic e1000");
    }
    if args.cpus != 1 {
        fail!("--cpus {}: the core runs on one processor so far: use --cpus 1", args.cpus);
    }
    let kind = disk_kind(args);
    if !kind.is_for(args.machine.unwrap_or_else(Kind::fastest)) {
        fail!("--disk: Bochs has no such disks: use --machine qemu or --disk ide");
    }
    if args.disks > kind.most() {
        fail!("--disks {}: the machine has room for {} of this kind", args.disks, kind.most());
    }
    if let Some(folder) = args.files.as_deref().filter(|folder| !folder.is_dir()) {
        fail!("--files {}: there is no such folder: give one with the files to serve", folder.display());
    }
    if args.headless && args.exec.is_none() && args.for_seconds.is_none() {
        eprintln!("serving until Ctrl-C");
    }
    Ok(())
}

/// Gives the operator's VM its disk. `kept`: the disks of the machine, unless they are new ones.
fn keep_state(system: &mut System, kept: Option<&[PathBuf]>) -> Result<()> {
    match kept {
        Some([]) => {}
        Some(images) if !disk::has_operator(images)? => eprintln!(
            "the set in {} is older than the virtual disk `operator`, so the operator's VM keeps nothing: `disk create operator 4M` there makes \
             one for the next run",
            images[0].parent().unwrap_or(&images[0]).display()
        ),
        _ => operator::give_disk(system),
    }
    Ok(())
}

/// Gives the VMs of an image the disk with the files, and the memory that they need for it, whatever others hold.
fn attach(system: &mut System, image: &str) {
    for image in system.image.iter_mut().filter(|known| known.name == image) {
        image.disk = Some(format!("{}:ro", disk::FILES));
        let said = image.reserve.as_ref().map_or(0, |reserve| reserve.0);
        image.reserve = Some(Bytes(said.max(carried::RESERVE)));
    }
}

/// What connects disks.
fn disk_kind(args: &Args) -> DiskKind {
    let bochs = args.machine.unwrap_or_else(Kind::fastest) == Kind::Bochs;
    args.disk.unwrap_or(if bochs { DiskKind::Ide } else { DiskKind::Virtio })
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
        if count > 200 && options::address(&args.boot, system).is_none() {
            // More than a /24 has room for, and those that a /16 has not.
            let prefix = if count > 60_000 { 8 } else { net::TAP_PREFIX };
            options.push(format!("net={}/{prefix},gw={}", net::FIRST_VM, net::HOST));
        }
    }
    if !args.boot.is_empty() {
        options.push(args.boot.clone());
    }
    Ok(options.join(" "))
}

/// A VM whose readiness shows in the log only must be allowed to write there.
fn refuse_what_cannot_be_seen(vms: &[Vm], level: &str) -> Result<()> {
    if QUIET.contains(&level) && service::wants_information(vms) {
        let who = vms.iter().find(|vm| service::wants_information(std::slice::from_ref(vm)));
        let who = who.map_or("whether the machine is up".to_owned(), |vm| {
            format!("whether VM {} ({}) is ready", vm.slot, vm.image)
        });
        fail!(
            "log={level} hides {who}: use log=info, or give its image a `ready` by http or tcp in system.toml, which shows on the network"
        );
    }
    Ok(())
}

fn default_memory(vms: usize) -> u32 {
    u32::try_from(vms).unwrap_or(u32::MAX).saturating_mul(2).saturating_add(256).min(65536)
}

/// True when Bochs can open a window: there is a display, and the Debian package that draws on it is installed.
fn has_window() -> bool {
    let plugin = "/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_x_gui.so.0.0.0";
    std::env::var_os("DISPLAY").is_some() && std::path::Path::new(plugin).exists()
}

/// A line for each port of each VM: how to reach it.
fn places(vms: &[Vm]) -> String {
    let mut text = String::new();
    for vm in vms {
        let (slot, image) = (vm.slot, &vm.image);
        let mut line = |place: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "vm {slot}  {place}");
        };
        if vm.ports.is_empty() {
            line(format!("no port ({image})"));
        }
        for (port, address) in vm.ports.iter().zip(&vm.addresses) {
            match vm.url().filter(|_| port.protocol == Protocol::Tcp && vm.http() == Some(*address)) {
                Some(url) => line(format!("{url}/")),
                None => line(format!("{} {address} (port {} of {image})", port.protocol, port.number)),
            }
        }
    }
    text
}

/// What a command is told about the VMs: URLs by their order among those that there are, addresses by VM, both counted from 1.
fn environment(vms: &[Vm]) -> Vec<(String, String)> {
    let urls = vms.iter().filter_map(Vm::url).zip(1..).map(|(url, i)| (format!("FORAKER_URL_{i}"), url));
    let mut all: Vec<(String, String)> = urls.collect();
    for (vm, i) in vms.iter().zip(1..) {
        if let Some(first) = vm.addresses.first() {
            all.push((format!("FORAKER_ADDR_{i}"), first.to_string()));
        }
        if vm.addresses.len() > 1 {
            let each = vm.addresses.iter().zip(1..);
            all.extend(each.map(|(address, j)| (format!("FORAKER_ADDR_{i}_{j}"), address.to_string())));
        }
    }
    all
}

fn exec(command: &str, environment: &[(String, String)], dir: &Path) -> Result<ExitCode> {
    let urls = environment.iter().filter(|(name, _)| name.starts_with("FORAKER_URL_"));
    let file = dir.join("urls");
    let text: String = urls.map(|(_, url)| format!("{url}\n")).collect();
    std::fs::write(&file, text).context(|| format!("cannot write {}", file.display()))?;
    let mut bash = Command::new("bash");
    // What an outer run has set is not about these VMs.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("FORAKER_URL_") || name.starts_with("FORAKER_ADDR_")) {
            bash.env_remove(name);
        }
    }
    bash.args(["-c", command]).env("FORAKER_URLS", file).envs(environment.iter().cloned());
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
                service::where_logs_are(machine)
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::model::Port;

    fn planned(options: &str) -> Vec<Vm> {
        let mut system = manifest::load(&root().join("system.toml")).unwrap();
        for image in system.image.iter_mut().filter(|image| image.name == "udp-echo") {
            image.ports.push(Port::tcp(7));
        }
        service::plan(&system, options).unwrap()
    }

    #[test]
    fn who_serves_files_has_the_memory_for_it_and_keeps_what_it_was_given_beyond() {
        let mut system = manifest::load(&root().join("system.toml")).unwrap();
        attach(&mut system, "httpd");
        let of = |system: &System, name: &str| {
            let image = system.image.iter().find(|image| image.name == name).expect("an image");
            (image.disk.clone(), image.reserve.as_ref().map(|reserve| reserve.0))
        };
        assert_eq!(of(&system, "httpd"), (Some("files:ro".to_owned()), Some(256 * 1024)));
        assert_eq!(of(&system, "udp-echo"), (None, None));
        system.image.iter_mut().for_each(|image| image.reserve = Some(Bytes(512 * 1024)));
        attach(&mut system, "httpd");
        assert_eq!(of(&system, "httpd").1, Some(512 * 1024));
    }

    #[test]
    fn each_vm_is_told_how_to_reach() {
        let mut vms = planned("vms=ask,httpd,udp-echo,httpd");
        let addresses: Vec<std::net::SocketAddr> =
            (18081..18085).map(|port| (std::net::Ipv4Addr::LOCALHOST, port).into()).collect();
        assert!(places(&vms).contains("vm 1  http://10.0.2.17/\n"));
        service::put(&mut vms, &addresses);
        assert_eq!(
            places(&vms),
            "vm 0  no port (ask)\n\
             vm 1  http://127.0.0.1:18081/\n\
             vm 2  udp 127.0.0.1:18082 (port 7 of udp-echo)\n\
             vm 2  tcp 127.0.0.1:18083 (port 7 of udp-echo)\n\
             vm 3  http://127.0.0.1:18084/\n"
        );
        let told: Vec<String> = environment(&vms).iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            told,
            [
                "FORAKER_URL_1=http://127.0.0.1:18081",
                "FORAKER_URL_2=http://127.0.0.1:18084",
                "FORAKER_ADDR_2=127.0.0.1:18081",
                "FORAKER_ADDR_3=127.0.0.1:18082",
                "FORAKER_ADDR_3_1=127.0.0.1:18082",
                "FORAKER_ADDR_3_2=127.0.0.1:18083",
                "FORAKER_ADDR_4=127.0.0.1:18084",
            ]
        );
    }

    #[test]
    fn a_log_that_hides_what_is_waited_for_is_refused() {
        assert!(refuse_what_cannot_be_seen(&planned("vms=httpd,hostile"), "off").is_ok());
        assert!(refuse_what_cannot_be_seen(&planned("vms=httpd,udp-echo"), "info").is_ok());
        let error = refuse_what_cannot_be_seen(&planned("vms=httpd,udp-echo"), "warn").unwrap_err().to_string();
        assert!(error.contains("log=warn hides whether VM 1 (udp-echo) is ready: use log=info"), "{error}");
        let error = refuse_what_cannot_be_seen(&[], "off").unwrap_err().to_string();
        assert!(error.contains("hides whether the machine is up"), "{error}");
    }

    #[test]
    fn exit_status_is_passed_on() {
        let status = |code| exit_code(std::process::ExitStatus::from_raw(code));
        assert_eq!(format!("{:?}", status(7 << 8)), format!("{:?}", ExitCode::from(7)));
        assert_eq!(format!("{:?}", status(9)), format!("{:?}", ExitCode::from(137)));
    }
}
