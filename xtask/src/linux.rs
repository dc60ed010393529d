//! A Linux on the emulator that Foraker is measured on, to compare both: Debian's kernel for virtual machines, and `linux-server` as its only program.

use crate::error::{Context, Result, fail};
use crate::machine::QEMU;
use crate::workspace::{Temporary, cargo, out, output, scratch};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What names Debian's newest kernel for virtual machines, and what its first program needs to set up a network.
const KERNEL: &str = "linux-image-cloud-amd64";
const BUSYBOX: &str = "busybox-static";
/// Where programs for the host itself come from; linked with all that they need.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Modules of the NIC, in the order in which they need each other.
const MODULES: [&str; 8] = [
    "virtio",
    "virtio_ring",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];
/// Memory, in MiB.
const MEGS: u32 = 512;
/// Linux executes a billion instructions until its first program runs.
const PATIENCE: Duration = Duration::from_secs(400);
const READY: &str = "linux-server: ready";

/// What such a machine boots.
pub struct Image {
    kernel: PathBuf,
    initial: PathBuf,
    /// With the second of both.
    dir: Temporary,
}

impl Image {
    /// Puts one together whose server is at this address, in a network of 2^24.
    ///
    /// # Errors
    /// Debian's packages cannot be had, or there is no compiler for the server.
    pub fn make(address: &str) -> Result<Image> {
        let (kernel, modules) = files_of(&package(KERNEL)?)?;
        let busybox = find(&unpacked(BUSYBOX)?, "busybox").context(|| format!("{BUSYBOX} holds no busybox"))?;
        let mut script = "#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\n".to_owned();
        MODULES.iter().for_each(|module| script += &format!("/bin/busybox insmod /modules/{module}.ko\n"));
        script += &format!("/bin/busybox ifconfig eth0 {address} netmask 255.0.0.0 up\nexec /bin/linux-server\n");
        let mut archive = Archive::default();
        ["proc", "bin", "modules"].iter().for_each(|folder| archive.add(folder, 0o040_755, b""));
        archive.add("init", 0o100_755, script.as_bytes());
        archive.add("bin/busybox", 0o100_755, &read(&busybox)?);
        archive.add("bin/linux-server", 0o100_755, &read(&server()?)?);
        for module in MODULES {
            let name = format!("{module}.ko");
            let path = find(&modules, &name).context(|| format!("the kernel's package holds no {name}"))?;
            archive.add(&format!("modules/{name}"), 0o100_644, &read(&path)?);
        }
        let dir = scratch("linux")?;
        let initial = dir.path().join("initramfs");
        std::fs::write(&initial, archive.end()).context(|| "cannot write what Linux boots with".into())?;
        Ok(Image { kernel, initial, dir })
    }

    /// Boots it at a tap, with a NIC of virtio and time by instructions, beside that of the world; until its server is ready.
    ///
    /// # Errors
    /// It does not come so far.
    pub fn boot(&self, tap: &str) -> Result<Linux> {
        let log = self.dir.path().join("serial");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", QEMU, "-nodefaults", "-no-user-config", "-machine", "pc", "-accel"]);
        command.args(["tcg,thread=single", "-cpu", "EPYC", "-icount", "shift=0,sleep=on", "-no-reboot", "-display"]);
        command.args(["none", "-append", "console=ttyS0 panic=-1", "-m", &MEGS.to_string(), "-kernel"]);
        command.arg(&self.kernel).arg("-initrd").arg(&self.initial).arg("-serial");
        command.arg(format!("file:{}", log.display())).arg("-netdev");
        command.arg(format!("tap,id=nic,ifname={tap},script=no,downscript=no")).arg("-device");
        command.arg("virtio-net-pci,netdev=nic").stdin(Stdio::null());
        let child = command.spawn().context(|| "cannot start QEMU for Linux".into())?;
        let mut linux = Linux { child };
        let end = Instant::now() + PATIENCE;
        loop {
            let said = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
            if said.contains(READY) {
                return Ok(linux);
            }
            let is_gone = linux.child.try_wait().is_ok_and(|status| status.is_some());
            if is_gone || Instant::now() >= end {
                let last: Vec<&str> = said.lines().rev().take(10).collect();
                fail!(
                    "Linux did not come to serve; it said last: {}",
                    last.into_iter().rev().collect::<Vec<_>>().join(" / ")
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// One that runs, until this is dropped.
pub struct Linux {
    child: Child,
}

impl Drop for Linux {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server, linked so that it needs nothing else.
fn server() -> Result<PathBuf> {
    let folder = out("linux-server")?;
    let mut command = cargo();
    command.args(["build", "--release", "--quiet", "--package", "linux-server", "--target", TARGET, "--target-dir"]);
    output(command.arg(&folder).env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(folder.join(TARGET).join("release/linux-server"))
}

/// The package that another one, which only names the newest, stands for.
fn package(name: &str) -> Result<String> {
    let said = output(Command::new("apt-cache").args(["depends", name]))?;
    let named = said.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image"));
    let named = named.context(|| format!("apt-cache knows no kernel that {name} stands for (`apt-get update`?)"))?;
    Ok(format!("linux-image{named}"))
}

/// What a package holds, in a folder below `target/`; fetched once.
fn unpacked(package: &str) -> Result<PathBuf> {
    let folder = out(&format!("packages/{package}"))?;
    let files = folder.join("files");
    if files.exists() {
        return Ok(files);
    }
    output(Command::new("apt-get").args(["download", package]).current_dir(&folder))?;
    let archive = find(&folder, ".deb").context(|| format!("apt-get has brought no package {package}"))?;
    // Whoever is interrupted leaves no half of it under the name by which it is found.
    let half = folder.join("half");
    output(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&half))?;
    std::fs::rename(&half, &files).context(|| format!("cannot keep what {package} holds"))?;
    Ok(files)
}

/// A kernel's package: the kernel, and the folder of its modules.
fn files_of(package: &str) -> Result<(PathBuf, PathBuf)> {
    let files = unpacked(package)?;
    let kernel = std::fs::read_dir(files.join("boot")).context(|| format!("{package} has no boot/"))?;
    let is_kernel = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
    let kernel = kernel.flatten().map(|entry| entry.path()).find(is_kernel);
    Ok((kernel.context(|| format!("{package} has no kernel"))?, files.join("lib/modules")))
}

/// A file below a folder whose name ends like this.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let is_it = |path: &PathBuf| {
        let found = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        path.is_file() && (found == name || name.starts_with('.') && found.ends_with(name))
    };
    let here = entries.iter().find(|path| is_it(path)).cloned();
    here.or_else(|| entries.iter().filter(|path| path.is_dir() && !path.is_symlink()).find_map(|path| find(path, name)))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).context(|| format!("cannot read {}", path.display()))
}

/// A cpio archive as Linux takes it for its first files ("newc").
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    files: usize,
}

impl Archive {
    /// A file or folder with this mode.
    fn add(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.files += 1;
        // Inode, mode, owner, group, links, time, bytes, devices, bytes of the name with its end, and no sum.
        let fields = [self.files, mode as usize, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0];
        let fields: String = fields.iter().map(|field| format!("{field:08x}")).collect();
        self.bytes.extend_from_slice(format!("070701{fields}{name}\0").as_bytes());
        self.align();
        self.bytes.extend_from_slice(data);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The whole.
    fn end(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_as_linux_reads_it() {
        let mut archive = Archive::default();
        archive.add("init", 0o100_755, b"abc");
        let bytes = archive.end();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let head = "070701".to_owned()
            + "00000001000081ed000000000000000000000001000000000000000300000000000000000000000000000000"
            + "0000000500000000";
        // 110 bytes of header and five of the name, to a multiple of four.
        assert_eq!(text.get(..120), Some(&*format!("{head}init\0\0abc\0")), "{text}");
        assert!(text.get(120..).is_some_and(|rest| rest.starts_with("070701") && rest.contains("TRAILER!!!\0")));
        assert_eq!(bytes.len() % 4, 0);
    }
}
