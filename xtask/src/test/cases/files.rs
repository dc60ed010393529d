//! Web servers that serve the files on a disk, asked by curl.

use super::ensure;
use crate::disk;
use crate::error::{Context, Result, fail};
use crate::machine::{DiskKind, Kind};
use crate::manifest::model::System;
use crate::test::Case;
use crate::test::lab::{Boot, Lab, Running, number};
use crate::workspace::{Temporary, scratch};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case {
        name: "disks: files",
        asserts: "a web server serves the files on an IDE disk: types, parts, conditions, directories; nothing outside, and no own documents in their place",
        run: ide,
    },
    Case {
        name: "qemu: disks: files that eight share",
        asserts: "eight web servers share a disk: each serves 5 MB byte for byte, all at once; diskmux that is killed amid a download loses no byte",
        run: shared,
    },
    Case {
        name: "files on the boot medium",
        asserts: "three web servers on a machine without disks serve a folder that `build-iso --files` has put into their image; its bytes are in no VM's memory",
        run: carried,
    },
    Case {
        name: "qemu: over the network: files",
        asserts: "the same from what `pxe --files` makes",
        run: carried_over_the_network,
    },
];

const SOON: Duration = Duration::from_secs(120);
/// How long the striper lives while it is killed again and again, and how often it is.
const BETWEEN_KILLS: Duration = Duration::from_millis(400);
/// See [`BETWEEN_KILLS`].
const MOST_KILLS: u32 = 100;
/// Bytes of the large file.
const LARGE: u32 = 5_000_000;

/// A folder of files, and room for what is made of it.
pub struct Folder(Temporary);

impl Folder {
    pub fn make(large: u32) -> Result<Folder> {
        let dir = scratch("files")?;
        let root = dir.path().join("public");
        let write = |name: &str, bytes: &[u8]| {
            fs::write(root.join(name), bytes).context(|| format!("cannot write the file {name}"))
        };
        fs::create_dir_all(root.join("a folder")).context(|| "cannot make a folder".into())?;
        write("index.html", b"<!doctype html><title>Files</title>")?;
        write("a folder/index.html", b"<p>Folder</p>")?;
        write("a folder/style.css", b"p { color: red }")?;
        let bytes: Vec<u8> = (0..large).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        write("large.bin", &bytes)?;
        Ok(Folder(dir))
    }

    /// Where images of disks can be put.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn root(&self) -> std::path::PathBuf {
        self.0.path().join("public")
    }

    /// What the large file holds.
    pub fn large(&self) -> Result<Vec<u8>> {
        fs::read(self.root().join("large.bin")).context(|| "cannot read the large file".into())
    }

    /// Boots `count` web servers that share a set's disk with the files.
    fn boot(&self, lab: &Lab, kind: DiskKind, disks: usize, count: usize) -> Result<Running> {
        let images = disk::with_files(disks, &self.root(), self.0.path())?;
        let mut running = lab.boot(&format!("vms=httpd*{count}")).disks(kind, &images).system(with_files).start()?;
        running.wait_for_services(SOON)?;
        Ok(running)
    }
}

/// Web servers have the disk with the files.
pub fn with_files(system: &mut System) {
    for image in system.image.iter_mut().filter(|image| image.name == "httpd") {
        image.disk = Some(format!("{}:ro", disk::FILES));
    }
}

/// curl, with these arguments, for a path of web server `i`.
fn curl(running: &Running, i: usize, path: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "120", "--path-as-is"]).args(arguments);
    command.arg(format!("http://{}{path}", running.services()[i])).stdin(Stdio::null());
    command
}

/// What curl prints.
pub fn asked(running: &Running, i: usize, path: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let done = curl(running, i, path, arguments).output().context(|| "cannot start curl".into())?;
    ensure(done.status.success(), || format!("curl {path}: {}", String::from_utf8_lossy(&done.stderr)))?;
    Ok(done.stdout)
}

/// Status code and type of the answer, and one header more.
fn head(running: &Running, path: &str, arguments: &[&str], header: &str) -> Result<String> {
    let format = format!("%{{http_code}} %{{content_type}} %header{{{header}}}");
    let arguments = [&["-o", "/dev/null", "-w", &format], arguments].concat();
    Ok(String::from_utf8_lossy(&asked(running, 0, path, &arguments)?).into_owned())
}

fn ide(lab: &Lab) -> Result<()> {
    let folder = Folder::make(300_000)?;
    let running = folder.boot(lab, DiskKind::Ide, 2, 1)?;
    for (path, arguments, header, expected) in [
        ("/", &[][..], "content-length", "200 text/html; charset=utf-8 35"),
        ("/a%20folder/", &[], "content-length", "200 text/html; charset=utf-8 13"),
        ("/a%20folder/style.css", &["-I"], "content-length", "200 text/css; charset=utf-8 16"),
        ("/a%20folder?q", &[], "location", "301 text/plain; charset=utf-8 /a%20folder/?q"),
        ("/large.bin", &["-r", "4000-9000"], "content-range", "206 application/octet-stream bytes 4000-9000/300000"),
        ("/large.bin", &["-r", "300000-"], "content-range", "416  bytes */300000"),
        ("/missing", &[], "content-range", "404 text/plain; charset=utf-8 "),
        ("/../../etc/passwd", &[], "content-range", "404 text/plain; charset=utf-8 "),
        ("/status", &[], "cache-control", "200 text/plain; charset=utf-8 no-store"),
    ] {
        let said = head(&running, path, arguments, header)?;
        ensure(said == expected, || format!("{path} {arguments:?}: {said:?} and not {expected:?}"))?;
    }
    let tag = head(&running, "/large.bin", &[], "etag")?;
    let Some(tag) = tag.split(' ').next_back().filter(|tag| tag.starts_with('"')) else {
        fail!("no entity tag: {tag}")
    };
    let same = head(&running, "/large.bin", &["-H", &format!("If-None-Match: {tag}")], "etag")?;
    ensure(same.starts_with("304 "), || same)?;
    let large = folder.large()?;
    let whole = asked(&running, 0, "/large.bin", &[])?;
    ensure(whole == large, || format!("{} bytes that are not those of the file", whole.len()))?;
    let part = ["-r", "4000-9000", "-H", &format!("If-Range: {tag}")].map(str::to_owned);
    let part = asked(&running, 0, "/large.bin", &part.each_ref().map(String::as_str))?;
    ensure(part == large[4000..=9000], || format!("{} bytes that are not that part", part.len()))?;
    running.power_off()
}

fn carried(lab: &Lab) -> Result<()> {
    serves_what_is_carried(lab.boot("vms=httpd*3"))
}

fn carried_over_the_network(lab: &Lab) -> Result<()> {
    serves_what_is_carried(lab.boot("vms=httpd*3").over_the_network())
}

fn serves_what_is_carried(boot: Boot<'_>) -> Result<()> {
    let folder = Folder::make(LARGE)?;
    let mut running = boot.carrying(&folder.root())?.start()?;
    running.wait_for_services(SOON)?;
    let large = folder.large()?;
    for i in 0..3 {
        let whole = asked(&running, i, "/large.bin", &[])?;
        ensure(whole == large, || format!("{} bytes that are not those of the file", whole.len()))?;
    }
    let said = head(&running, "/a%20folder/", &[], "content-length")?;
    ensure(said == "200 text/html; charset=utf-8 13", || said)?;
    let said = head(&running, "/100b", &[], "content-length")?;
    ensure(said.ends_with(" 100"), || format!("of the server's own documents: {said}"))?;
    // Of the 1,221 pages of the file none, and a page of tables for each 512.
    let lines = running.monitor("frames")?;
    let held = lines.iter().find(|line| line.contains("owner=vm-memory ")).and_then(|line| number(line, "frames"));
    ensure(held.is_some_and(|held| held < 3 * 100), || format!("three VMs hold too much: {}", lines.join("\n")))?;
    running.power_off()
}

/// Starts to fetch the large file from web server `i`.
fn fetch(running: &Running, i: usize, to: &Path, arguments: &[&str]) -> Result<Child> {
    let to = to.display().to_string();
    let arguments = [&["-f", "-o", &to], arguments].concat();
    curl(running, i, "/large.bin", &arguments).spawn().context(|| "cannot start curl".into())
}

fn fetched(mut child: Child, to: &Path, expected: &[u8], who: usize) -> Result<()> {
    let status = child.wait().context(|| "cannot wait for curl".into())?;
    ensure(status.success(), || format!("curl from web server {who} ends with {status}"))?;
    let bytes = fs::read(to).context(|| "cannot read what curl has got".into())?;
    ensure(bytes == expected, || format!("{} bytes from web server {who} that are not those of the file", bytes.len()))
}

fn shared(_: &Lab) -> Result<()> {
    let folder = Folder::make(LARGE)?;
    let large = folder.large()?;
    let running = folder.boot(&Lab::with(Kind::Qemu)?, DiskKind::Virtio, 3, 8)?;
    let at = |i: usize| folder.0.path().join(format!("got{i}"));
    let all = (0..8).map(|i| fetch(&running, i, &at(i), &[])).collect::<Result<Vec<Child>>>()?;
    for (i, child) in all.into_iter().enumerate() {
        fetched(child, &at(i), &large, i)?;
    }
    // And again, while the striper is killed for as long as it takes, but for what it needs to begin anew.
    let mut all = (0..8).map(|i| fetch(&running, i, &at(i), &[])).collect::<Result<Vec<Child>>>()?;
    let mut kills = 0;
    while all.iter_mut().any(|child| matches!(child.try_wait(), Ok(None))) && kills < MOST_KILLS {
        std::thread::sleep(BETWEEN_KILLS);
        running.monitor("kill diskmux")?;
        kills += 1;
    }
    for (i, child) in all.into_iter().enumerate() {
        fetched(child, &at(i), &large, i)?;
    }
    ensure(kills > 2, || format!("after {kills} kills everything was there: that is no test"))?;
    ensure(asked(&running, 7, "/a%20folder/style.css", &["-f"])? == b"p { color: red }", || "another file".into())?;
    running.power_off()
}
