//! A machine that runs an image: started, talked to over its serial line, and ended.

mod bochs;
mod config;
mod control;
mod log;
mod qemu;
pub mod tap;

pub use config::{Clock, Config, DiskKind, Forward, Kind, Net, Netboot, Nic, QEMU};
pub use control::Picture;
pub use log::{Log, Missed};
pub use qemu::UEFI_FIRMWARE;

use crate::error::{Context, Result, fail};
use crate::net::UserNet;
use crate::workspace::out;
use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The last line of the log before the machine's power goes off.
pub const POWERED_OFF: &str = "foraker: powered off";
/// Name of the folder, seen from the run's folder, that holds the user-mode network's sockets. Bochs has room for a path
/// of 15 characters (`intname` in its eth_vde.cc).
const NET_LINK: &str = "net";
/// MAC of the physical NIC, as text and as bytes.
const NIC_MAC: &str = "52:54:00:12:34:56";
const NIC_MAC_BYTES: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// MAC of the VM in a slot, on a machine whose boot options say nothing about its node.
pub fn vm_mac(slot: u32) -> [u8; 6] {
    abi::nic::mac_of(abi::nic::Node::of_nic(NIC_MAC_BYTES), abi::vm::Slot::new(slot))
}
/// How long a machine may take until it has connected its serial line.
const CONNECT_TIME: Duration = Duration::from_secs(20);
/// How long the log files of a finished run are kept.
const KEPT: Duration = Duration::from_secs(3600);
/// Counts the machines that this process has started, so that each has a folder of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running machine. Dropping it kills it.
pub struct Machine {
    kind: Kind,
    child: Child,
    exit: Option<ExitStatus>,
    log: Log,
    serial: TcpStream,
    control: Option<control::Control>,
    net: Option<UserNet>,
    dir: PathBuf,
}

/// A folder for one run below `target/run`. The first call removes what finished runs have left there an hour ago or earlier.
pub fn run_dir() -> Result<PathBuf> {
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    if number == 0 {
        remove_old_runs(&out("run")?);
    }
    out(&format!("run/{}-{number}", std::process::id()))
}

fn remove_old_runs(folder: &Path) {
    // Whatever cannot be read or removed stays: it is only clutter.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.split_once('-').map(|(process, _)| Path::new("/proc").join(process));
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
        if process.is_some_and(|process| !process.exists()) && age.is_some_and(|age| age > KEPT) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Machine {
    /// Starts `config` in the folder `dir`, which keeps its log files.
    pub fn start(config: &Config, dir: &Path) -> Result<Machine> {
        let net = match &config.net {
            Net::User(forwards, outside) => Some(UserNet::start(forwards, *outside, &dir.join(NET_LINK))?),
            Net::None | Net::Tap(_) | Net::Boot(_) => None,
        };
        let (listener, port) = listen()?;
        let (control_listener, control_port) = listen()?;
        let mut child = match config.kind {
            Kind::Bochs => bochs::start(config, dir, port)?,
            Kind::Qemu | Kind::Kvm => qemu::start(config, dir, port, control_port)?,
        };
        let connected = accept(&listener, &mut child).and_then(|serial| match config.kind {
            Kind::Bochs => Ok((serial, None)),
            Kind::Qemu | Kind::Kvm => {
                Ok((serial, Some(control::Control::open(accept(&control_listener, &mut child)?)?)))
            }
        });
        let (serial, control) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                fail!("{}: {error}. What it said is in {}", config.kind.name(), dir.display());
            }
        };
        let copy = File::create(dir.join("console.log")).context(|| "cannot create console.log".into())?;
        let reader = serial.try_clone().context(|| "cannot share the serial line".into())?;
        let log = Log::follow(reader, copy, config.echo.clone());
        Ok(Machine { kind: config.kind, child, exit: None, log, serial, control, net, dir: dir.to_owned() })
    }

    /// What the machine says.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What runs it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The user-mode network, when the machine has one.
    pub fn net(&self) -> Option<&UserNet> {
        self.net.as_ref()
    }

    /// Where the log files are: `console.log` (serial line), `e9.log` (port 0xe9), and what
    /// Bochs or QEMU says itself ([`Kind::log`]).
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Has QEMU's own monitor carry out a command that says nothing when all is well.
    pub fn emulator(&mut self, command: &str) -> Result<()> {
        match &mut self.control {
            Some(control) => control.monitor(command),
            None => fail!("{} has no monitor to type {command} to", self.kind.name()),
        }
    }

    /// Requests to read that QEMU has carried out for each of the machine's disks, in their order.
    pub fn disk_reads(&mut self) -> Result<Vec<u64>> {
        match &mut self.control {
            Some(control) => control.disk_reads(),
            None => fail!("{} does not count what disks do", self.kind.name()),
        }
    }

    /// A picture of the screen.
    pub fn picture(&mut self) -> Result<Picture> {
        match &mut self.control {
            Some(control) => control.picture(&self.dir),
            None => fail!("{} makes no pictures of its screen", self.kind.name()),
        }
    }

    /// Types `line` on the serial line.
    pub fn send(&self, line: &str) -> Result<()> {
        (&self.serial)
            .write_all(format!("{line}\n").as_bytes())
            .context(|| format!("cannot type \"{line}\" on the serial line"))
    }

    /// A function that types lines on the serial line, for another thread. It returns false when the machine has gone.
    pub fn typist(&self) -> Result<impl Fn(&str) -> bool + Send + use<>> {
        let serial = self.serial.try_clone().context(|| "cannot share the serial line".into())?;
        Ok(move |line: &str| (&serial).write_all(format!("{line}\n").as_bytes()).is_ok())
    }

    /// True when the machine has ended, by itself or not.
    pub fn has_ended(&mut self) -> bool {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().ok().flatten();
        }
        self.exit.is_some()
    }

    /// True when the machine has powered itself off: it said so, or, when its log level keeps it from saying so, its program did.
    /// The mirror on port 0xe9 is asked, too: Bochs can lose the last bytes of the serial line.
    pub fn powered_off(&self) -> bool {
        let holds = |name: &str, text: &str| {
            let bytes = std::fs::read(self.dir.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).contains(text)
        };
        self.log.since(0).iter().any(|line| line.contains(POWERED_OFF))
            || holds("e9.log", POWERED_OFF)
            || holds("bochs.log", "shutdown requested")
            || self.exit.and_then(|status| status.code()) == Some(qemu::POWERED_OFF)
    }

    /// Why the emulator has ended by itself: a signal, as an assertion of its own raises, or a panic of its own, and the last that it said.
    /// `None` while it runs, and when it ended as the machine asked it to, or was killed by us.
    pub fn gave_up(&mut self) -> Option<String> {
        if !self.has_ended() || self.powered_off() {
            return None;
        }
        let said = |name: &str| {
            let bytes = std::fs::read(self.dir.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let signal = self.exit.and_then(|status| std::os::unix::process::ExitStatusExt::signal(&status));
        let said = said(self.kind.log());
        let panic = said.lines().rfind(|line| line.contains(">>PANIC<<"));
        match (signal, panic) {
            (Some(signal), _) => {
                let last = said.lines().rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
                Some(format!("{} ended by signal {signal}: {last}", self.kind.name()))
            }
            (None, Some(line)) => Some(format!("{}: {}", self.kind.name(), line.trim())),
            (None, None) => None,
        }
    }

    /// Waits until the machine ends. Returns whether it did within `timeout`.
    pub fn wait_for_end(&mut self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        while !self.has_ended() {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Asks the machine to power off, waits `patience`, then pulls the plug. Returns whether it went off by itself.
    pub fn power_off(&mut self, patience: Duration) -> bool {
        // When typing fails the machine has gone, which the wait sees.
        let _ = self.send("poweroff");
        let by_itself = self.wait_for_end(patience) && self.powered_off();
        self.kill();
        by_itself
    }

    /// Ends the machine at once.
    pub fn kill(&mut self) {
        if !self.has_ended() {
            let _ = self.child.kill();
            self.exit = self.child.wait().ok();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a machine in the folder `dir`; what it writes to its standard output and error goes to the file `output` there.
/// `command` begins with `setpriv`, which makes the machine end when xtask is killed.
fn spawn(mut command: Command, dir: &Path, output: &str) -> Result<Child> {
    let output = File::create(dir.join(output)).context(|| format!("cannot create {output}"))?;
    let errors = output.try_clone().context(|| "cannot share a log file".into())?;
    command.current_dir(dir).stdin(Stdio::null()).stdout(output).stderr(errors);
    // A group of its own keeps Ctrl-C, which is for us, from it.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
        .spawn()
        .context(|| "cannot start the machine through setpriv (`cargo xtask setup` installs what is missing)".into())
}

/// A port of the loopback interface that the machine is to connect to.
/// A TCP port on the loopback interface that nobody listens at, for a program that has to be told one.
pub fn free_port() -> Result<u16> {
    listen().map(|(_, port)| port)
}

fn listen() -> Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(|| "cannot listen for the machine".into())?;
    let port = listener.local_addr().context(|| "cannot see the port for the machine".into())?.port();
    Ok((listener, port))
}

fn accept(listener: &TcpListener, child: &mut Child) -> Result<TcpStream> {
    listener.set_nonblocking(true).context(|| "cannot poll for the serial line".into())?;
    let end = Instant::now() + CONNECT_TIME;
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).context(|| "cannot use the serial line".into())?;
            stream.set_nodelay(true).context(|| "cannot use the serial line".into())?;
            return Ok(stream);
        }
        if let Ok(Some(status)) = child.try_wait() {
            fail!("it ended before the machine started ({status})");
        }
        if Instant::now() >= end {
            fail!("it did not connect its serial line within {} s", CONNECT_TIME.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
