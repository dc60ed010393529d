//! Images that are sent to the operator's VM, by SSH and over HTTP.

use super::ensure;
use super::supervisor::{Login, Said, start_with};
use crate::error::{Context, Result, fail};
use crate::http::{self, Connection};
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[Case {
    name: "supervisor: images",
    asserts: "an image that is put by SSH, scp, sftp or HTTP runs and answers, is listed and removed by sftp, survives the operator's VM, is not removed while VMs are made of it, and gives all its frames back; lies, a wrong hash, a name that is taken, and a client that hangs up leave nothing",
    run: images,
}];

/// How long something may take with another machine beside.
const SOON: Duration = Duration::from_secs(120);

/// Bytes of the machine's memory that images hold.
fn golden(login: &Login) -> Result<u64> {
    let answer = http::get(login.web, "/metrics", SOON)?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix("foraker_memory_bytes{owner=\"golden\"} "));
    value.and_then(|value| value.parse().ok()).context(|| text.clone())
}

/// It is refused with this status, and says this.
fn refused((out, error, status): Said, is: i32, says: &str) -> Result<()> {
    let good = status == Some(is) && error.contains(says) && out.is_empty();
    ensure(good, || format!("{status:?}, \"{error}\" and \"{out}\" instead of {is} and \"{says}\""))
}

fn images(lab: &Lab) -> Result<()> {
    let (running, login) = start_with(lab, &[])?;
    let file = lab.module("httpd")?;
    let before = golden(&login)?;
    lies(&login, &file)?;
    let left = golden(&login)?;
    ensure(left == before, || format!("what was refused has left {left} bytes of {before}"))?;
    runs(&running, &login, &file)?;
    over_http(&login, &file)?;
    by_scp(&login, &file)?;
    by_sftp(&login, &file)?;
    survives(&running, &login)?;
    let left = golden(&login)?;
    ensure(left == before, || format!("images that are gone have left {left} bytes of {before}"))?;
    running.power_off()
}

/// Files that are no images, and clients that do not send them whole.
fn lies(login: &Login, file: &[u8]) -> Result<()> {
    let put = |line: &str, bytes: &[u8]| login.ask_with_bytes(line, bytes);
    refused(put("image put shop", b"hello")?, 1, "it is not an ELF file")?;
    refused(put("image put shop", b"")?, 1, "it is not an ELF file")?;
    refused(put("image put shop", &file[..file.len() / 2])?, 1, "the file is no image: ")?;
    let mut other = file.to_vec();
    other[18] = 3;
    refused(put("image put shop", &other)?, 1, "it is for ELF machine 3, not for x86-64")?;
    refused(put(&format!("image put shop --sha256 {}", "0".repeat(64)), file)?, 1, "the file's SHA-256 is ")?;
    refused(put("image put httpd", file)?, 1, "there is an image httpd: `image rm httpd` first")?;
    refused(put("image put shop", &vec![0; (4 << 20) + 1])?, 1, "an image has 4194304 bytes at most")?;
    refused(put("image put Shop", file)?, 2, "is no name of an image")?;
    refused(put("image put shop && vm list", file)?, 1, "and nothing else with it")?;
    login.bad("image rm httpd", 1, "httpd came with the machine")?;
    login.bad("image rm shop", 1, "there is no image `shop`: known are httpd, ")?;
    login.hang_up("image put shop", &file[..file.len() / 2])?;
    let list = login.good("image list")?;
    ensure(!list.contains("shop"), || list.clone())
}

/// Puts an image as soon as the supervisor has heard that whoever sent one before has hung up: what that one sent may still be on its way.
fn put_after_all(login: &Login, line: &str, file: &[u8]) -> Result<Said> {
    let end = Instant::now() + SOON;
    loop {
        let said = login.ask_with_bytes(line, file)?;
        if !said.1.contains("another image is being received: try again") || Instant::now() >= end {
            return Ok(said);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// An image that is put, and VMs of it that answer.
fn runs(running: &Running, login: &Login, file: &[u8]) -> Result<()> {
    let (out, error, status) = put_after_all(login, "image put shop --memory 8M -- a=b", file)?;
    let hash = out.trim().rsplit(' ').next().unwrap_or_default().to_owned();
    ensure(status == Some(0) && hash.len() == 64, || format!("{status:?} {out} {error}"))?;
    let shown: Value = serde_json::from_str(&login.good("image show shop --json")?).context(|| "image show".into())?;
    let is = shown["put"] == true && shown["sha256"] == hash.as_str() && shown["args"] == "a=b" && shown["vms"] == 0;
    ensure(is && shown["memory_bytes"] == 8 << 20, || format!("{shown}"))?;
    refused(login.ask_with_bytes("image put shop", file)?, 1, "there is an image shop")?;
    login.good("vm create web-17 --image shop && vm create spare --image shop && vm start web-17")?;
    running.wait_for("vm3.1: httpd: serving http://10.0.2.19/", SOON)?;
    login.good("vm create client --image ask -- server=10.0.2.19:80 times=1 && vm start client")?;
    running.wait_for(": 200, ", SOON)?;
    let list = login.good("vm list --image shop")?;
    ensure(list.lines().any(|line| line.starts_with("web-17 ") && line.contains(" shop ")), || list.clone())?;
    login.bad("image rm shop", 1, "spare, web-17 are made of shop: `vm destroy` them first")?;
    login.good("vm destroy client && vm destroy spare").map(drop)
}

/// The same as today's OpenSSH sends a file.
fn by_scp(login: &Login, file: &[u8]) -> Result<()> {
    let path = login.dir().join("copy.elf");
    std::fs::write(&path, file).context(|| "cannot write".into())?;
    for (to, name) in [("by-scp", "by-scp"), ("", "copy"), ("/by-path", "by-path")] {
        let (error, status) = login.scp(&[], &path, to)?;
        ensure(status == Some(0), || format!("{to}: {status:?} {error}"))?;
        let shown = login.good(&format!("image show {name}"))?;
        let hash: String = Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
        ensure(shown.contains(&hash), || format!("{shown} instead of {hash}"))?;
    }
    login.good("vm create copied --image by-scp && vm start copied && vm destroy copied")?;
    let refused = |to: &str, options: &[&str], says: &str| {
        let (error, status) = login.scp(options, &path, to)?;
        ensure(status != Some(0) && error.contains(says), || format!("{to}: {status:?} {error} instead of {says}"))
    };
    refused("by-scp", &[], "there is an image by-scp: `image rm by-scp` first")?;
    refused("Shop", &[], "`Shop` is no name of an image: take 1 to 16 small letters")?;
    refused("old", &["-O"], "scp without -O")?;
    std::fs::write(&path, b"hello").context(|| "cannot write".into())?;
    refused("hello", &[], "it is not an ELF file")?;
    std::fs::write(&path, vec![0; (4 << 20) + 1]).context(|| "cannot write".into())?;
    refused("large", &[], "an image has 4194304 bytes at most")?;
    let audit = login.good("audit")?;
    ensure(audit.contains("\"what\":\"image put by-scp\",\"outcome\":\"done\""), || audit.clone())?;
    login.good("image rm by-scp && image rm copy && image rm by-path").map(drop)
}

/// Images are listed, put with what is said behind their names, and removed, and logs come.
fn by_sftp(login: &Login, file: &[u8]) -> Result<()> {
    std::fs::write(login.dir().join("copy.elf"), file).context(|| "cannot write".into())?;
    let good = |commands: &str| -> Result<String> {
        match login.sftp(commands)? {
            (out, _, Some(0)) => Ok(out),
            (out, error, status) => fail!("`{commands}` ends with {status:?}: {error} {out}"),
        }
    };
    let top = good("ls -1\nls -l\n")?;
    let folder = top.lines().any(|line| line.starts_with("drwx") && line.ends_with(" images"));
    ensure(folder && top.contains("audit.log") && top.contains("machine.log"), || top.clone())?;
    good("cd images\nput copy.elf \"optioned,memory=8M,args=a=1 b\"\n")?;
    let shown = login.good("image show optioned --json")?;
    let shown: Value = serde_json::from_str(&shown).context(|| shown.clone())?;
    ensure(shown["memory_bytes"] == 8 << 20 && shown["args"] == "a=1 b", || format!("{shown}"))?;
    let listed = good("ls -1 images\n")?;
    ensure(listed.contains("optioned") && listed.contains("httpd"), || listed.clone())?;
    good("get audit.log got-audit\nget machine.log got-log\n")?;
    let read = |name: &str| std::fs::read_to_string(login.dir().join(name)).context(|| format!("cannot read {name}"));
    let audit = read("got-audit")?;
    ensure(audit.contains("image put optioned (memory=8M,args=a=1 b)"), || audit.clone())?;
    let log = read("got-log")?;
    ensure(log.contains("supervisor: serving"), || log.clone())?;
    let refused = |commands: &str, says: &str| {
        let (_, error, status) = login.sftp(commands)?;
        ensure(status != Some(0) && error.contains(says), || format!("{commands}: {status:?} {error}"))
    };
    refused("get images/optioned\n", "optioned is not kept on a virtual disk of the operator's VM")?;
    refused("put copy.elf \"other,disk=a\"\n", "`disk=a` makes no sense behind other")?;
    refused("rm images/httpd\n", "")?;
    refused("rm audit.log\n", "only images are removed here")?;
    refused("mkdir a\n", "only images are put here and removed")?;
    good("rm images/optioned\n")?;
    login.bad("image show optioned", 1, "there is no image `optioned`")
}

/// The same with a token, by a program.
fn over_http(login: &Login, file: &[u8]) -> Result<()> {
    let token = login.good("token new ci")?;
    let ask = |line: &str, token: &str, body: &[u8]| -> Result<(u16, String)> {
        let mut connection = Connection::open(login.web, SOON)?;
        let length = body.len();
        let head =
            format!("{line} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n");
        connection.send(&[head.as_bytes(), body].concat())?;
        let response = connection.response(false).context(|| line.to_owned())?;
        Ok((response.status, String::from_utf8_lossy(&response.body).into_owned()))
    };
    let token = token.trim();
    for (line, token, body, status, says) in [
        ("PUT /images/api?memory=8M", token, file, 201, "\"put\":true"),
        ("PUT /images/api", token, file, 409, "there is an image api"),
        ("PUT /images/api2?memory=1", token, b"", 400, "memory 1: give bytes"),
        ("PUT /images/api2", token, b"hello", 409, "it is not an ELF file"),
        ("GET /images/api", token, b"", 200, "\"vms\":0"),
        ("GET /images.json", token, b"", 200, "{\"name\":\"api\","),
        ("DELETE /images/api", "x", b"", 401, "`token new`"),
        ("DELETE /images/shop", token, b"", 409, "web-17 are made of shop"),
        ("DELETE /images/httpd", token, b"", 409, "httpd came with the machine"),
        ("DELETE /images/api", token, b"", 204, ""),
        ("DELETE /images/api", token, b"", 404, "there is no image `api`"),
    ] {
        let (found, said) = ask(line, token, body)?;
        ensure(found == status && said.contains(says), || format!("{line}: {found} instead of {status}: {said}"))?;
    }
    // Not a byte of it is taken without a token.
    let (status, _) = ask("PUT /images/api", "", b"")?;
    ensure(status == 401, || format!("{status} without a token"))?;
    let audit = login.good("audit")?;
    for line in ["\"what\":\"image put shop --memory 8M -- a=b\",\"outcome\":\"done\"", "\"what\":\"image rm api\""] {
        ensure(audit.contains(line), || format!("{line} is not in {audit}"))?;
    }
    Ok(())
}

/// The core holds images, so another operator's VM finds them, and VMs of them go on.
fn survives(running: &Running, login: &Login) -> Result<()> {
    let mark = running.mark();
    running.monitor("destroy 0")?;
    running.wait_for_since(mark, "core: vm0.1 ended: destroyed", SOON)?;
    let images = running.monitor("images")?;
    ensure(images.iter().any(|line| line.contains("shop")), || format!("{images:?}"))?;
    running.monitor("create supervisor-vm")?;
    running.wait_for_since(mark, "supervisor: serving http://10.0.2.16/", SOON)?;
    let list = login.good("vm list --image shop")?;
    let Some(id) = list.lines().nth(1).and_then(|line| line.split_whitespace().nth(1)) else { fail!("{list}") };
    login.bad("image rm shop", 1, &format!("{id} are made of shop"))?;
    login.good(&format!("vm create second --image shop && vm start second && vm destroy {id}"))?;
    login.bad("image rm shop", 1, "second are made of shop")?;
    login.good("vm destroy second && image rm shop")?;
    let list = login.good("image list")?;
    ensure(!list.contains("shop"), || list.clone())?;
    login.bad("vm create third --image shop", 1, "there is no image `shop`")
}
