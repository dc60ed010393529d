//! Images on the operator's virtual disk: they are there when the machine was off.

use super::ensure;
use super::supervisor::{Login, start_as};
use crate::disk::{fsck, mkdisk};
use crate::error::{Context, Result};
use crate::machine::{DiskKind, run_dir};
use crate::operator_ports::IMAGE;
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const CASES: &[Case] = &[Case {
    name: "supervisor: images on a disk",
    asserts: "images that were put are there when the machine was switched off without a word, with the hash that they had, come back by sftp, their VMs run again by themselves, more of them than the core has room for can be put and run, and one for which the disk has no room leaves nothing",
    run: images,
}];

/// How long something may take with another machine beside.
const SOON: Duration = Duration::from_secs(120);
const OPTIONS: &str = "vms=supervisor-vm net=10.0.2.16/24,gw=10.0.2.2";
/// More than the core has places for.
const MANY: usize = 50;

fn start(lab: &Lab, disk: &Path) -> Result<(Running, Login)> {
    let give = |system: &mut crate::manifest::model::System| {
        let operators = system.image.iter_mut().filter(|image| image.name == IMAGE);
        operators.for_each(|image| image.disk = Some("operator".into()));
    };
    let disks = [disk.to_path_buf()];
    start_as(lab, OPTIONS, |boot| boot.disks(DiskKind::Ide, &disks).system(give))
}

fn json(login: &Login, line: &str) -> Result<Value> {
    let said = login.good(line)?;
    serde_json::from_str(&said).context(|| said.clone())
}

/// Puts a file as an image, and says the hash that it has.
fn put(login: &Login, line: &str, file: &[u8]) -> Result<String> {
    let (out, error, status) = login.ask_with_bytes(&format!("image put {line}"), file)?;
    ensure(status == Some(0) && error.is_empty(), || format!("{line}: {status:?} {out}{error}"))?;
    out.trim().rsplit(' ').next().map(str::to_owned).context(|| out.clone())
}

/// `shop` comes by sftp as it was put, and its length is told before.
fn comes_back(login: &Login, file: &[u8]) -> Result<()> {
    let (out, error, status) =
        login.sftp("ls -l images/shop\nget images/shop by-sftp\nget shop.elf without-folder\n")?;
    ensure(status == Some(0) && out.contains(&format!(" {} ", file.len())), || format!("{status:?}: {out}{error}"))?;
    for name in ["by-sftp", "without-folder"] {
        let got = std::fs::read(login.dir().join(name)).context(|| format!("cannot read {name}"))?;
        ensure(got == file, || format!("{name}: {} bytes of {}, or others", got.len(), file.len()))?;
    }
    let (_, error, status) = login.sftp("get images/httpd\n")?;
    ensure(status != Some(0) && error.contains("httpd is not kept on a virtual disk"), || {
        format!("{status:?}: {error}")
    })
}

fn images(lab: &Lab) -> Result<()> {
    let image = run_dir()?.join("disk");
    // Room for some fifty echo servers.
    let (echo, httpd) = (lab.module("udp-echo")?, lab.module("httpd")?);
    let blocks = |file: &[u8]| file.len().div_ceil(4096);
    let wanted = (MANY + 1) * blocks(&echo) + blocks(&httpd);
    // Of a disk of this size three quarters are for images.
    let all = (wanted * 4).div_ceil(3).max(wanted + 1024);
    let words = [format!("--disk=operator={}KiB", all * 4), format!("--size={}MiB", all / 256 + 16)].map(PathBuf::from);
    mkdisk::make(&mkdisk::Args::parse([image.clone()].into_iter().chain(words))?)?;
    let (running, login) = start(lab, &image)?;
    let hash = put(&login, "shop --memory 8M -- a=b", &httpd)?;
    login.good("vm create web-1 --image shop && vm start web-1 && vm create web-2 --image shop")?;
    for number in 0..MANY {
        put(&login, &format!("echo-{number}"), &echo)?;
    }
    // Nothing is left of one for which there is no room.
    let (_, error, status) = login.ask_with_bytes("image put shop-2", &httpd)?;
    let says = "KiB of the virtual disk operator, and ";
    ensure(status == Some(1) && error.contains(says) && error.contains("`image rm` some, or give"), || error.clone())?;
    login.bad("image show shop-2", 1, "there is no image `shop-2`")?;
    login.good("image rm echo-0 && vm create e-1 --image echo-1 && vm start e-1")?;
    running.wait_for("udp-echo: ", SOON)?;
    // Power is cut, with VMs running.
    drop(running);
    let (running, login) = start(lab, &image)?;
    running.wait_for("state: of 2 VMs that ran when the machine went off, 2 run again", SOON)?;
    running.wait_for("httpd: serving http://", SOON)?;
    let shop = json(&login, "image show shop --json")?;
    let is = shop["sha256"] == hash.as_str() && shop["args"] == "a=b" && shop["kept"] == true && shop["vms"] == 1;
    ensure(is && shop["memory_bytes"] == 8 << 20 && shop["held"] == true, || format!("{shop}"))?;
    comes_back(&login, &httpd)?;
    let count = login.good("image list --name echo- --count")?;
    ensure(count.trim() == (MANY - 1).to_string(), || count.clone())?;
    let page = login.ask("image list --name echo- --limit 2 --json")?;
    ensure(page.1.contains("there are more: image list --after echo-10"), || format!("{page:?}"))?;
    login.bad("image rm shop", 1, "web-1, web-2 are made of shop")?;
    // One after the other, all of them run: more than the core has places for.
    let mut script = String::new();
    for number in 1..MANY {
        script += &format!("vm create x-{number} --image echo-{number}\nvm start x-{number}\nvm destroy x-{number}\n");
    }
    let (_, error, status) = login.script(&script)?;
    ensure(status == Some(0), || error)?;
    let again = put(&login, "echo-0", &echo)?;
    ensure(again.len() == 64, || again.clone())?;
    login.good("vm destroy web-1 && vm destroy web-2 && image rm shop")?;
    login.bad("vm create web-3 --image shop", 1, "there is no image `shop`")?;
    running.power_off()?;
    let report = fsck::check(&[image], false)?;
    ensure(report.faults == 0, || report.text.clone())
}
