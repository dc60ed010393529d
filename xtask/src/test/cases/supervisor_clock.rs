//! The machine's clock, which the operator's VM keeps right by a server of the time.

use super::ensure;
use super::supervisor::start_as;
use crate::error::{Context, Result, fail};
use crate::machine::Kind;
use crate::operator;
use crate::test::Case;
use crate::test::lab::Lab;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const CASES: &[Case] = &[Case {
    name: "supervisor: clock",
    asserts: "where the machine's clock is two decades behind, the operator's VM sets it by a server of the time, VMs that ran before then tell the right time without being woken, and it says by whom",
    run: clock,
}];

/// How far two looks at clocks may lie apart with another machine beside.
const APART: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(60);

/// The line `Date` of a web server's answer.
fn date(server: SocketAddr) -> Result<String> {
    let what = || format!("cannot ask {server}");
    let mut stream = TcpStream::connect(server).context(what)?;
    stream.set_read_timeout(Some(SOON)).context(what)?;
    stream.write_all(b"GET /100b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").context(what)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context(what)?;
    Ok(answer.lines().find_map(|line| line.strip_prefix("Date: ")).unwrap_or_default().to_owned())
}

fn clock(_: &Lab) -> Result<()> {
    let lab = Lab::with(Kind::Qemu)?;
    let options = "vms=supervisor-vm,httpd net=10.0.2.16/24,gw=10.0.2.2";
    let (running, login) = start_as(&lab, options, |boot| boot.rtc("2001-09-09T01:46:40").system(operator::keep_time))?;
    running.wait_for("ntp: the machine's clock was ", SOON)?;
    // It began before, and has asked nobody.
    let began = running.wait_for("httpd: serving http://10.0.2.17/", SOON)?;
    let said = running.wait_for("and is set", SOON)?;
    ensure(said.contains("behind 10.0.2.2"), || format!("{began} {said}"))?;
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let shown = login.good("node show --json")?;
    let shown: Value = serde_json::from_str(&shown).context(|| shown.clone())?;
    let unix = Duration::from_millis(shown["unix_ms"].as_u64().unwrap_or(0));
    ensure(unix.abs_diff(before) < APART && shown["ntp_server"] == "10.0.2.2", || format!("{shown}"))?;
    ensure(shown["ntp_offset_us"].as_i64().is_some_and(|us| us > 600_000_000_000_000), || format!("{shown}"))?;
    // Both of the same minute, or of neighbouring ones.
    let Some(&server) = running.services().last() else { fail!("no web server") };
    let (said, year) = (date(server)?, 1970 + before.as_secs() / 31_556_952);
    ensure([year - 1, year, year + 1].iter().any(|year| said.contains(&format!(" {year} "))), || {
        format!("{said:?}, in {year}")
    })?;
    running.power_off()
}
