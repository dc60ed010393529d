//! Where machine tests and benchmarks boot their machines.
//!
//! A [`Lab`] holds what was built once. [`Lab::boot`] describes a machine, changed by the methods of [`Boot`]; its
//! [`start`](Boot::start) gives a [`Running`] machine to talk to, its [`fails_with`](Boot::fails_with) expects that the boot ends
//! in a fatal message. Machines that a test forgets are killed when they go out of scope.

use crate::build::{Programs, build, build_test_cores};
use crate::carried::{self, Files};
use crate::error::{Context, Result, fail};
use crate::fleet::Texts;
use crate::http;
use crate::image::{Contents, Data, stripped};
use crate::machine::{Clock, Config, DiskKind, Kind, Machine, Missed, Net, Netboot, Nic, free_port, run_dir};
use crate::manifest::model::System;
use crate::manifest::{self, compile};
use crate::net::{Outside, UserNet};
use crate::power::log::Logged;
use crate::service::{self, Vm};
use crate::workspace::root;
use abi::control::NOTE;
use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How long a machine may take from power-on to the end of its boot, with another one beside it.
pub const BOOT: Duration = Duration::from_secs(60);
/// How long the operator's line may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

/// What was built, once for all tests.
pub struct Lab {
    /// `system.toml`.
    pub system: System,
    /// The seed of tests that draw what they do; `None`: another one each time.
    pub seed: Option<u64>,
    /// The step from which on guests that fuzz say what they do.
    pub trace: Option<u64>,
    /// What runs the machines.
    kind: Kind,
    programs: Programs,
    contents: Contents,
}

impl Lab {
    /// Builds everything; machines are Bochs'.
    pub fn new() -> Result<Lab> {
        Lab::with(Kind::Bochs)
    }

    /// Builds everything; machines are of this kind.
    pub fn with(kind: Kind) -> Result<Lab> {
        let system = manifest::load(&root().join("system.toml"))?;
        let programs = build(&system)?;
        let contents = Contents::new(&system, &programs)?;
        Ok(Lab { system, seed: None, trace: None, kind, programs, contents })
    }

    /// What runs the machines.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// A machine that boots with `options` after the defaults of `system.toml`: 256 MiB, with the user-mode network, in step
    /// with the world's time, powering off instead of halting when the core cannot go on.
    pub fn boot(&self, options: &str) -> Boot<'_> {
        let mut config = Config::new(PathBuf::new());
        config.kind = self.kind;
        config.echo = None;
        Boot {
            options: format!("{options} on-fatal=poweroff"),
            config,
            contents: self.contents.clone(),
            system: Cow::Borrowed(&self.system),
            user_net: true,
            released: false,
            over_the_network: false,
            texts: Texts::default(),
        }
    }

    /// The bytes of the module `name` as they are in the image, for tests that damage them.
    pub fn module(&self, name: &str) -> Result<Vec<u8>> {
        match self.programs.get(name) {
            Some(path) => stripped(path),
            None if name == "manifest" => Ok(compile(&self.system, &[])),
            None => fail!("there is no module `{name}`"),
        }
    }

    /// The program `name` with its symbols.
    pub fn program(&self, name: &str) -> Result<&Path> {
        match self.programs.get(name) {
            Some(path) => Ok(path),
            None => fail!("there is no program `{name}`"),
        }
    }
}

/// A machine that is about to boot.
pub struct Boot<'a> {
    options: String,
    config: Config,
    contents: Contents,
    system: Cow<'a, System>,
    user_net: bool,
    released: bool,
    over_the_network: bool,
    texts: Texts,
}

// Not every knob is turned by a test; benchmarks turn the others.
#[allow(dead_code)]
impl Boot<'_> {
    /// Memory of the machine in MiB.
    pub fn megs(mut self, megs: u32) -> Self {
        self.config.megs = megs;
        self
    }

    /// A QEMU with UEFI, also where the other machines are Bochs'.
    pub fn uefi(mut self) -> Self {
        if self.config.kind == Kind::Bochs {
            self.config.kind = Kind::Qemu;
        }
        self.config.uefi = true;
        self
    }

    /// Halts when the core cannot go on, instead of powering off.
    pub fn stays_on(mut self) -> Self {
        self.options.push_str(" on-fatal=halt");
        self
    }

    /// Bochs' name of the processor model.
    pub fn cpu(mut self, model: &str) -> Self {
        self.config.cpu = Some(model.to_owned());
        self
    }

    /// The processor model `bx_generic` with these CPUID options.
    pub fn cpuid(mut self, options: &str) -> Self {
        self.config.cpuid = Some(options.to_owned());
        self.cpu("bx_generic")
    }

    /// The time-stamp counter counts instructions, and time does not follow the world's: for figures, not for clients.
    pub fn deterministic(mut self) -> Self {
        self.config.clock = Clock::Instructions;
        self
    }

    /// The time-stamp counter counts instructions while the machine is busy, and time follows the world's.
    pub fn counted(mut self) -> Self {
        self.config.clock = Clock::CountedWithTheWorld;
        self
    }

    /// The machine's own clock shows this at the start.
    pub fn rtc(mut self, base: &'static str) -> Self {
        self.config.rtc = Some(base);
        self
    }

    /// Instructions in a second of the machine's time.
    pub fn ips(mut self, ips: u64) -> Self {
        self.config.ips = ips;
        self
    }

    /// QEMU with this NIC, as it names it, whatever the other machines are.
    pub fn qemu_with(mut self, nic: &'static str) -> Self {
        self.config.kind = Kind::Qemu;
        self.config.nic = nic;
        self
    }

    /// Disks with these images, connected in this way. Bochs has IDE only.
    pub fn disks(mut self, kind: DiskKind, images: &[PathBuf]) -> Self {
        (self.config.disk_kind, self.config.disks) = (kind, images.to_vec());
        self
    }

    /// Each request to a disk is one: QEMU does no neighbours together.
    pub fn each_apart(mut self) -> Self {
        self.config.apart = true;
        self
    }

    /// Disks as virtio-blk with these images, and logs of what is written to them.
    pub fn logged_disks(mut self, images: &[PathBuf], logged: &Logged) -> Self {
        self.config.logged = Some(logged.clone());
        self.disks(DiskKind::Virtio, images)
    }

    /// No NIC.
    pub fn without_net(mut self) -> Self {
        self.user_net = false;
        self.config.net = Net::None;
        self
    }

    /// The NIC on a tap device that is there already.
    pub fn tap(mut self, name: &str) -> Self {
        self.user_net = false;
        self.config.net = Net::Tap(name.to_owned());
        self
    }

    /// A QEMU without a CD-ROM drive, whose NIC boots (PXE) from what `xtask pxe` makes; QEMU's own network is also what its guests
    /// are reached by.
    pub fn over_the_network(mut self) -> Self {
        (self.user_net, self.over_the_network) = (false, true);
        self.qemu_with(Nic::E1000.qemu())
    }

    /// Boots the image as users get it: with GRUB's menu and its first preset, without the options given to [`Lab::boot`].
    pub fn released_image(mut self) -> Self {
        self.released = true;
        self
    }

    /// Puts a fleet file into the program of the operator's VM, unless it is empty.
    pub fn fleet(mut self, file: &str) -> Self {
        self.texts.fleet = file.as_bytes().to_vec();
        self
    }

    /// The same of a script.
    pub fn script(mut self, file: &str) -> Self {
        self.texts.script = file.as_bytes().to_vec();
        self
    }

    /// Has web servers carry the files of a folder, as `build-iso --files` does.
    pub fn carrying(self, folder: &Path) -> Result<Self> {
        let files = Files::of(folder)?;
        let mut attached = Ok(());
        let boot = self.system(|system| attached = files.attach(system));
        attached?;
        Ok(boot.program(carried::IMAGE, files.build()?))
    }

    /// Leaves the module `name` out.
    pub fn without_module(mut self, name: &str) -> Self {
        self.contents.modules.retain(|(module, _)| module != name);
        self
    }

    /// Puts `bytes` in the place of the module `name`, or adds it.
    pub fn module(mut self, name: &str, bytes: Vec<u8>) -> Self {
        let data = Data::Bytes(bytes);
        match self.contents.modules.iter_mut().find(|(module, _)| module == name) {
            Some((_, old)) => *old = data,
            None => self.contents.modules.push((name.to_owned(), data)),
        }
        self
    }

    /// Boots the test image: its cores have hooks to make mistakes on purpose.
    pub fn test_image(mut self) -> Result<Self> {
        for (name, path) in build_test_cores()? {
            self = self.program(&name, path);
        }
        Ok(self)
    }

    /// Changes a bit of the module `name` after the manifest was made.
    pub fn damaged(mut self, name: &str) -> Self {
        self.contents.damage.push(name.to_owned());
        self
    }

    /// Adds (or replaces) the module `name` by a program of the workspace that is not in `system.toml`.
    pub fn program(mut self, name: &str, path: PathBuf) -> Self {
        self.contents.modules.retain(|(module, _)| module != name);
        self.contents.modules.push((name.to_owned(), Data::Program(path)));
        self
    }

    /// Boots with another manifest than `system.toml`: `change` is given a copy to change. It is not checked.
    pub fn system(mut self, change: impl FnOnce(&mut System)) -> Self {
        change(self.system.to_mut());
        let manifest = Data::Manifest(Box::new(self.system.clone().into_owned()));
        match self.contents.modules.iter_mut().find(|(module, _)| module == "manifest") {
            Some((_, old)) => *old = manifest,
            None => self.contents.modules.push(("manifest".to_owned(), manifest)),
        }
        self
    }

    /// Powers on.
    pub fn start(mut self) -> Result<Running> {
        let dir = run_dir()?;
        let iso = dir.join("foraker.iso");
        self.contents = self.contents.with_texts(core::mem::take(&mut self.texts))?;
        if self.released {
            self.options = self.contents.menu.first().map(|preset| preset.options.clone()).unwrap_or_default();
        } else {
            self.contents = self.contents.with_options(&self.options);
        }
        let all = format!("{} {}", self.system.defaults, self.options);
        // The core has the last word on options; what xtask cannot read serves nothing.
        let mut vms = service::plan(&self.system, &all).unwrap_or_default();
        if self.over_the_network {
            let tree = dir.join("tftp");
            let files = self.contents.make_net_tree(&tree)?;
            let file = if self.config.uefi { files.uefi } else { files.bios }.to_owned();
            let mut forwards = service::forwards(&vms)?;
            for forward in &mut forwards {
                forward.host_port = free_port()?;
            }
            let ports = forwards.iter().map(|forward| (Ipv4Addr::LOCALHOST, forward.host_port).into());
            service::put(&mut vms, &ports.collect::<Vec<SocketAddr>>());
            self.config.net = Net::Boot(Netboot { tree, file, forwards });
        } else {
            self.contents.make_iso(&iso)?;
            self.config.iso = iso;
        }
        if self.user_net {
            let mut forwards = service::forwards(&vms)?;
            // Several machines at once, none of them on ports that somebody knows.
            forwards.iter_mut().for_each(|forward| forward.host_port = 0);
            self.config.net = Net::User(forwards, Outside::None);
        }
        let machine = Machine::start(&self.config, &dir)?;
        if let Some(net) = machine.net() {
            service::put(&mut vms, net.addresses());
        }
        let services = vms.iter().filter_map(Vm::http).collect();
        Ok(Running { machine, vms, services })
    }

    /// Powers on and expects a boot that ends in the fatal message `code` (as `F016`). Returns the message's line.
    pub fn fails_with(self, code: &str) -> Result<String> {
        let mut running = self.start()?;
        let line = running.wait_for("FATAL ", BOOT)?;
        if !line.contains(&format!("FATAL {code}: ")) {
            fail!("expected FATAL {code}, but the machine said: {line}");
        }
        if !running.machine.wait_for_end(Duration::from_secs(20)) {
            fail!("the machine said {code} but did not power off although on-fatal=poweroff asks for it");
        }
        Ok(line)
    }
}

/// The number behind `key=` in a line of the monitor's.
// For benchmarks.
#[allow(dead_code)]
pub fn number(line: &str, key: &str) -> Option<u64> {
    let words = line.split(' ').filter_map(|word| word.split_once('='));
    words.filter(|(name, _)| *name == key).find_map(|(_, value)| value.parse().ok())
}

/// A machine that runs.
pub struct Running {
    machine: Machine,
    vms: Vec<Vm>,
    services: Vec<SocketAddr>,
}

// See `Boot`.
#[allow(dead_code)]
impl Running {
    /// The machine itself.
    pub fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Where the web servers can be reached from the host, by their order among the VMs.
    pub fn services(&self) -> &[SocketAddr] {
        &self.services
    }

    /// The VMs that it was asked for.
    pub fn vms(&self) -> &[Vm] {
        &self.vms
    }

    /// The user-mode network, for sending raw frames and for seeing those that the machine sends.
    pub fn net(&self) -> Result<&UserNet> {
        self.machine.net().ok_or_else(|| "this machine was booted without the user-mode network".into())
    }

    /// A mark: what the machine says from now on.
    pub fn mark(&self) -> usize {
        self.machine.log().len()
    }

    /// Waits for a line that contains `text`, from power-on. Returns the line.
    pub fn wait_for(&self, text: &str, timeout: Duration) -> Result<String> {
        self.wait_for_since(0, text, timeout)
    }

    /// Waits for a line that contains `text` after `mark`. Returns the line.
    pub fn wait_for_since(&self, mark: usize, text: &str, timeout: Duration) -> Result<String> {
        let found =
            self.machine.log().wait(mark, timeout, |lines| lines.iter().find(|line| line.contains(text)).cloned());
        found.map_err(|missed| self.missed(missed, &format!("a line with \"{text}\""), timeout).into())
    }

    /// Waits for `count` lines that contain `text`, from power-on.
    pub fn wait_for_lines(&self, count: usize, text: &str, timeout: Duration) -> Result<Vec<String>> {
        let found = self.machine.log().wait(0, timeout, |lines| {
            let found: Vec<String> = lines.iter().filter(|line| line.contains(text)).cloned().collect();
            (found.len() >= count).then_some(found)
        });
        found.map_err(|missed| self.missed(missed, &format!("{count} lines with \"{text}\""), timeout).into())
    }

    fn missed(&self, missed: Missed, what: &str, timeout: Duration) -> String {
        let why = match missed {
            Missed::Timeout => format!("did not come within {} s", timeout.as_secs()),
            Missed::Closed => "did not come before the machine ended".to_owned(),
        };
        let dir = self.machine.dir().display();
        format!("{what} {why}. The end of {dir}/console.log:\n{}", self.machine.log().tail(15))
    }

    /// Fails when a line after `mark` contains `text`.
    pub fn must_not_say(&self, mark: usize, text: &str) -> Result<()> {
        match self.machine.log().since(mark).into_iter().find(|line| line.contains(text)) {
            Some(line) => fail!("the machine said: {line}"),
            None => Ok(()),
        }
    }

    /// What the machine has said after `mark`.
    pub fn said_since(&self, mark: usize) -> Vec<String> {
        self.machine.log().since(mark)
    }

    /// Whether the machine may still say something.
    pub fn is_on(&self) -> bool {
        !self.machine.log().is_closed()
    }

    /// How many lines after `mark` contain `text`.
    pub fn count_since(&self, mark: usize, text: &str) -> usize {
        self.machine.log().since(mark).iter().filter(|line| line.contains(text)).count()
    }

    /// What the machine said until the first line that contains `text`, that line included.
    pub fn said_until(&self, text: &str) -> Vec<String> {
        let mut lines = self.machine.log().since(0);
        if let Some(end) = lines.iter().position(|line| line.contains(text)) {
            lines.truncate(end + 1);
        }
        lines
    }

    /// Types a line without waiting for an answer.
    pub fn type_line(&self, line: &str) -> Result<()> {
        self.machine.send(line)
    }

    /// Types `command` on the operator's line. Returns what the monitor answers: each line behind "monitor: ", without the
    /// last one, "done COMMAND". An answer that ends in "error COMMAND: ..." is an error.
    pub fn monitor(&self, command: &str) -> Result<Vec<String>> {
        let word = command.split(' ').next().unwrap_or_default();
        let (done, error) = (format!("done {word}"), format!("error {word}: "));
        let mark = self.mark();
        self.machine.send(command)?;
        let answer = self.machine.log().wait(mark, ANSWER, |lines| {
            let said = lines.iter().filter_map(|line| line.split_once("monitor: ")).map(|(_, said)| said.to_owned());
            let said: Vec<String> = said.filter(|line| !line.starts_with(NOTE)).collect();
            let end = said.iter().position(|line| *line == done || line.starts_with(&error))?;
            Some(if said[end] == done { Ok(said[..end].to_vec()) } else { Err(said[end].clone()) })
        });
        match answer {
            Ok(Ok(lines)) => Ok(lines),
            Ok(Err(refusal)) => fail!("the monitor says: {refusal}"),
            Err(missed) => Err(self.missed(missed, &format!("the monitor's answer to \"{command}\""), ANSWER).into()),
        }
    }

    /// Waits until the monitor takes commands.
    pub fn wait_for_monitor(&self) -> Result<()> {
        let end = Instant::now() + BOOT;
        // What is typed before may lose its first letters, and a wait for the answer to the rest takes long.
        self.wait_for("monitor: ready", BOOT)?;
        loop {
            match self.monitor("help") {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Waits until every VM is ready, as `run` does.
    pub fn wait_until_ready(&mut self, timeout: Duration) -> Result<()> {
        let (all, never) = (service::Sample::all(), AtomicBool::new(false));
        service::wait(&mut self.machine, &self.vms, &all, false, timeout, &never).map(|_| ())
    }

    /// Waits until every web server answers.
    pub fn wait_for_services(&mut self, timeout: Duration) -> Result<()> {
        let end = Instant::now() + timeout;
        for vm in &self.vms {
            while let Err(error) = vm.ask_http(Duration::from_secs(3)) {
                if self.machine.has_ended() || Instant::now() >= end {
                    let (slot, count) = (vm.slot, timeout.as_secs());
                    let dir = self.machine.dir().display();
                    fail!(
                        "VM {slot} does not answer within {count} s: {error}. The end of {dir}/console.log:\n{}",
                        self.machine.log().tail(15)
                    );
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(())
    }

    /// One GET from the web server number `i`.
    pub fn get(&self, i: usize, path: &str) -> Result<http::Response> {
        http::get(self.services[i], path, Duration::from_secs(10)).context(|| format!("GET {path} from web server {i}"))
    }

    /// Asks the machine to power off and expects that it does.
    pub fn power_off(mut self) -> Result<()> {
        if !self.machine.power_off(Duration::from_secs(20)) {
            let dir = self.machine.dir().display();
            fail!(
                "the machine did not power off when asked. The end of {dir}/console.log:\n{}",
                self.machine.log().tail(15)
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_whole_key() {
        let line = "frames owner=vm-memory frames=5 owners=6";
        assert_eq!((number(line, "frames"), number(line, "owners"), number(line, "owner")), (Some(5), Some(6), None));
    }
}
