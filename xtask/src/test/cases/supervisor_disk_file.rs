//! A fleet file on a virtual disk.

use super::ensure;
use super::supervisor::{Login, start_as};
use crate::disk::mkdisk;
use crate::error::{Context, Result};
use crate::machine::{DiskKind, run_dir};
use crate::operator_ports::IMAGE;
use crate::test::Case;
use crate::test::lab::Lab;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const CASES: &[Case] = &[Case {
    name: "supervisor: a fleet file on a virtual disk",
    asserts: "VMs come to be as a file in a tree on a virtual disk says, for several at once too; each reading is written down; one that is not there, too long, no text or no fleet file is refused with reason and remedy, and so is a disk that is not there, that a VM writes, that has no tree, or that is the operator's own, and nothing is changed",
    run: disk_file,
}];

/// How long something may take with another machine beside.
const SOON: Duration = Duration::from_secs(120);
/// Bytes of a fleet file, at most.
const MOST: usize = 256 << 10;

/// The files of the tree.
fn tree(dir: &Path) -> Result<()> {
    let write = |name: &str, what: &[u8]| {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap_or(dir)).and_then(|()| fs::write(&path, what)).context(|| name.into())
    };
    let vm = |name: &str| format!("[[vm]]\nname = \"{name}\"\nimage = \"udp-echo\"\nstate = \"stopped\"\n");
    write("vms.toml", vm("middle").as_bytes())?;
    // More than a block.
    write("sites/north.toml", format!("{}{}", "# far away\n".repeat(600), vm("north")).as_bytes())?;
    write("large.toml", "#\n".repeat(MOST / 2 + 1).as_bytes())?;
    write("latin.toml", b"# caf\xe9\n")?;
    write("wrong.toml", format!("{}cpus = 2\n", vm("wrong")).as_bytes())
}

fn disk_file(lab: &Lab) -> Result<()> {
    let (image, files) = (run_dir()?.join("disk"), run_dir()?.join("plans"));
    tree(&files)?;
    let plans = format!("--files=plans={}", files.display());
    let words = ["--disk=operator=256KiB", "--disk=empty=64KiB", &plans].map(PathBuf::from);
    let size = PathBuf::from("--size=8064KiB");
    mkdisk::make(&mkdisk::Args::parse([image.clone()].into_iter().chain(words).chain([size]))?)?;
    let options = "vms=supervisor-vm net=10.0.2.16/24,gw=10.0.2.2";
    let (running, ref login) = start_as(lab, options, |boot| {
        boot.disks(DiskKind::Ide, std::slice::from_ref(&image)).system(|system| {
            let operators = system.image.iter_mut().filter(|image| image.name == IMAGE);
            operators.for_each(|image| image.disk = Some("operator".into()));
        })
    })?;
    running.wait_for("diskmux: set foraker: 1 members", SOON)?;
    wrong(login)?;
    ensure(login.good("vm list --count")? == "1\n", || "what was refused has made a VM".into())?;
    let dry = login.good("fleet apply --disk plans --dry-run")?;
    ensure(dry.contains("create   middle") && login.good("vm list --count")? == "1\n", || dry.clone())?;
    login.good("fleet apply --disk plans")?;
    let again = login.good("fleet apply --disk plans")?;
    ensure(again == "1 VM is as the file says\n" || again == "1 VMs are as the file says\n", || again.clone())?;
    // Those who read at once all have what is there.
    let said = std::thread::scope(|scope| {
        let ask = |site| scope.spawn(move || login.good(&format!("fleet apply --dry-run --disk plans:{site}")));
        let all = ["sites/north.toml", "vms.toml", "sites/north.toml"].map(ask);
        all.map(|one| one.join().expect("it does not panic"))
    });
    for (said, says) in said.into_iter().zip(["create   north", "as the file says", "create   north"]) {
        let said = said?;
        ensure(said.contains(says), || said.clone())?;
    }
    login.good("fleet apply --disk plans:sites/north.toml")?;
    login.good("vm show middle && vm show north")?;
    // At a prompt, which has no standard input for a file.
    let (said, error, _) = login.ask_with("shell", "fleet apply --disk plans --json\nexit\n")?;
    ensure(said.contains("\"changes\":[]"), || format!("{said}{error}"))?;
    let audit = login.good("audit")?;
    for written in [
        "\"what\":\"fleet apply --disk plans:vms.toml\",\"outcome\":\"done\"",
        "\"what\":\"fleet apply --disk plans:sites/north.toml\",\"outcome\":\"done\"",
        "\"what\":\"fleet apply --disk empty:vms.toml\",\"outcome\":\"a VM writes empty",
        "\"what\":\"fleet apply --disk operator:vms.toml\",\"outcome\":\"operator is this VM's own",
    ] {
        ensure(audit.contains(written), || format!("{written} is not in {audit}"))?;
    }
    running.power_off()
}

/// What cannot be.
fn wrong(login: &Login) -> Result<()> {
    for (from, status, says) in [
        ("none", 1, "there is no virtual disk `none`: `disk list` shows all"),
        ("a/b", 2, "`a/b` is no name of a virtual disk: take 1 to 16 of"),
        ("plans:", 2, "`plans:`: which file? give plans:PATH"),
        ("operator", 1, "operator is this VM's own, and has no files"),
        ("empty", 1, "empty: "),
        ("plans:south.toml", 1, "plans has no file `south.toml`: `fleet apply --disk plans:PATH` names another"),
        ("plans:sites", 1, "`sites` on plans is a directory: name a file in it"),
        ("plans:large.toml", 1, "`large.toml` on plans has 262146 bytes, and a fleet file 262144 at most: divide it"),
        ("plans:latin.toml", 1, "`latin.toml` on plans is no text in UTF-8"),
        ("plans:wrong.toml", 1, "line 5: unknown field `cpus`"),
    ] {
        login.bad(&format!("fleet apply --disk {from}"), status, says)?;
    }
    login.bad("fleet apply --disk plans && vm list", 1, "nothing else with it")?;
    login.bad("fleet apply --disk", 2, "--disk has no value: fleet apply ")?;
    login.good("vm create writer --image httpd --disk empty && vm start writer")?;
    login.bad(
        "fleet apply --disk empty",
        1,
        "a VM writes empty: `vm stop` it, or `disk snapshot empty NEW` and read that",
    )?;
    login.good("vm destroy writer").map(drop)
}
