//! `setup`: installs what is missing, or says how.

use crate::error::{Context, Result, fail};
use crate::workspace::{BARE, cargo, has_program};
use std::path::Path;
use std::process::{Command, Stdio};

/// A Debian package, and how to see that it is there on a system without dpkg.
struct Needed {
    package: &'static str,
    /// A program (a plain name) or a file (a path) that it brings.
    brings: &'static str,
}

/// What building and booting an image needs.
const TO_RUN: &[Needed] = &[
    Needed { package: "bochs", brings: "bochs" },
    Needed { package: "bochsbios", brings: "/usr/share/bochs/BIOS-bochs-latest" },
    Needed { package: "vgabios", brings: "/usr/share/bochs/VGABIOS-lgpl-latest" },
    Needed { package: "grub-pc-bin", brings: "/usr/lib/grub/i386-pc/multiboot2.mod" },
    Needed { package: "grub-efi-amd64-bin", brings: "/usr/lib/grub/x86_64-efi/multiboot2.mod" },
    Needed { package: "grub-common", brings: "grub-mkrescue" },
    Needed { package: "xorriso", brings: "xorriso" },
    Needed { package: "mtools", brings: "mformat" },
    Needed { package: "binutils", brings: "strip" },
    Needed { package: "curl", brings: "curl" },
    Needed { package: "e2fsprogs", brings: "mke2fs" },
];

/// What the machine tests, the benchmarks and `--net tap` need beyond that.
const TO_TEST: &[Needed] = &[
    Needed { package: "qemu-system-x86", brings: "qemu-system-x86_64" },
    Needed { package: "ipxe-qemu", brings: "/usr/lib/ipxe/qemu/pxe-e1000.rom" },
    Needed { package: "ovmf", brings: crate::machine::UEFI_FIRMWARE },
    Needed { package: "iproute2", brings: "ip" },
    Needed { package: "wrk", brings: "wrk" },
    Needed { package: "iputils-ping", brings: "ping" },
    Needed { package: "openssh-client", brings: "ssh" },
];

/// How much has to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// `run`, `build-iso`, `pxe`.
    Run,
    /// Everything.
    Everything,
}

/// Checks what `purpose` needs and installs what is missing. Says what it installs, and nothing when nothing is missing.
///
/// # Errors
/// Something is missing and cannot be installed from here: the error holds the command to type.
pub fn setup(purpose: For) -> Result<()> {
    target()?;
    let needed = TO_RUN.iter().chain(if purpose == For::Everything { TO_TEST } else { &[] });
    let missing: Vec<&str> = needed.filter(|needed| !is_there(needed)).map(|needed| needed.package).collect();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// Adds the bare-metal target when the toolchain does not have it.
fn target() -> Result<()> {
    let libdir = Command::new("rustc").args(["--print", "target-libdir", "--target", BARE]).output();
    let libdir = libdir.context(|| "cannot start rustc (install Rust from https://rustup.rs)".into())?;
    if Path::new(String::from_utf8_lossy(&libdir.stdout).trim()).is_dir() {
        return Ok(());
    }
    println!("setup: installing the Rust target {BARE} (rustup target add {BARE})");
    let status = Command::new("rustup").args(["target", "add", BARE]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => fail!(
            "the Rust target {BARE} is missing and `rustup target add {BARE}` failed ({status}): run it by hand where the network is within reach"
        ),
        Err(error) => fail!(
            "the Rust target {BARE} is missing and rustup cannot be started ({error}): install the target with your toolchain's own means"
        ),
    }
}

/// The version of cargo-mutants whose mutants `ci/mutants.toml` lists: others make others.
pub const MUTANTS: &str = "27.1.0";

/// Installs cargo-mutants when it is missing. Only who looks for mutants needs it.
///
/// # Errors
/// It cannot be installed from here, or another version is there: the error holds the command to type.
pub fn mutants() -> Result<()> {
    let install = ["install", "cargo-mutants", "--locked", "--version", MUTANTS];
    let by_hand = format!("cargo {}", install.join(" "));
    let version = cargo().args(["mutants", "--version"]).stderr(Stdio::null()).output();
    let version = version.context(|| "cannot start cargo".into())?;
    if version.status.success() {
        let found = String::from_utf8_lossy(&version.stdout);
        let found = found.split_whitespace().last().unwrap_or_default();
        if found == MUTANTS {
            return Ok(());
        }
        fail!("cargo-mutants {found} is installed, and ci/mutants.toml is for {MUTANTS}. Type:\n    {by_hand}");
    }
    println!("setup: installing cargo-mutants {MUTANTS} ({by_hand})");
    let status = cargo().args(install).status().context(|| "cannot start cargo".into())?;
    if !status.success() {
        fail!("`{by_hand}` failed ({status}): run it by hand where the network is within reach");
    }
    Ok(())
}

/// Installs nightly Rust with Miri and the standard library's source when one of them is missing. Only the long tests need
/// them; all else is stable Rust.
///
/// # Errors
/// They cannot be installed from here: the error holds the command to type.
pub fn miri() -> Result<()> {
    let install =
        ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "miri", "--component", "rust-src"];
    let by_hand = format!("rustup {}", install.join(" "));
    let rustup = |arguments: &[&str]| {
        let mut command = Command::new("rustup");
        command.args(arguments).stdin(Stdio::null());
        command
    };
    let listed = rustup(&["component", "list", "--installed", "--toolchain", "nightly"]).output();
    let listed = listed.context(|| format!("Miri comes with rustup, which cannot be started (`{by_hand}`)"))?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    if ["miri", "rust-src"].iter().all(|part| listed.lines().any(|line| line.starts_with(part))) {
        return Ok(());
    }
    println!("setup: installing nightly Rust with Miri ({by_hand})");
    let status = rustup(&install).status().context(|| "cannot start rustup".into())?;
    if !status.success() {
        fail!(
            "the long tests need Miri, and `{by_hand}` failed ({status}): run it by hand where the network is within reach, or \
             leave --long out"
        );
    }
    Ok(())
}

fn is_there(needed: &Needed) -> bool {
    let found =
        if needed.brings.starts_with('/') { Path::new(needed.brings).exists() } else { has_program(needed.brings) };
    if !found || !has_program("dpkg-query") {
        return found;
    }
    // A file may be left over from a package that was half removed: dpkg knows better.
    let status = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", needed.package]).output();
    match status {
        Ok(out) if out.status.success() => out.stdout == b"installed",
        // Brought by something else than this package.
        _ => found,
    }
}

fn install(missing: &[&str]) -> Result<()> {
    let list = missing.join(" ");
    let by_hand = format!("apt-get update && apt-get install --yes --no-install-recommends {list}");
    if !has_program("apt-get") {
        fail!("missing: {list}. This is no Debian system: install what these Debian packages hold with its own means");
    }
    let root = is_root()?;
    if !root && !can_sudo() {
        fail!("missing: {list}. You are not root and sudo asks for a password. Type:\n    sudo sh -c '{by_hand}'");
    }
    println!("setup: installing the Debian packages {list}");
    let apt = |arguments: &[&str]| -> Result<bool> {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        if !root {
            command.args(["-n", "apt-get"]);
        }
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        // What apt says is worth seeing only when it fails; then it is run by hand.
        command.stdout(Stdio::null());
        Ok(command.status().context(|| "cannot start apt-get".into())?.success())
    };
    let mut arguments = vec!["install", "--yes", "--no-install-recommends", "-q"];
    arguments.extend(missing);
    // Without lists, or with old ones, the first attempt fails; lists are fetched only then.
    if lists_are_there() && apt(&arguments)? {
        return Ok(());
    }
    println!("setup: refreshing the package lists (apt-get update)");
    if !apt(&["update", "-q"])? || !apt(&arguments)? {
        fail!("apt-get could not install {list}. Type, and see what it says:\n    sudo sh -c '{by_hand}'");
    }
    Ok(())
}

fn lists_are_there() -> bool {
    let lists = std::fs::read_dir("/var/lib/apt/lists");
    lists.is_ok_and(|mut lists| {
        lists.any(|list| list.is_ok_and(|list| list.file_name().to_string_lossy().contains("_Packages")))
    })
}

/// True for root.
pub fn is_root() -> Result<bool> {
    let id = Command::new("id").arg("-u").output().context(|| "cannot start id".into())?;
    Ok(id.stdout.trim_ascii() == b"0")
}

fn can_sudo() -> bool {
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sudo.status().is_ok_and(|status| status.success())
}
