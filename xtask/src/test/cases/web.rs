//! Eight web servers, each in its own VM.

use super::ensure;
use crate::error::{Context, Result};
use crate::http::Connection;
use crate::net::{HOST, HOST_MAC};
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running, number};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Time for one step of an exchange.
const STEP: Duration = Duration::from_secs(10);

pub const CASES: &[Case] = &[
    Case { name: "web: eight servers", asserts: "eight web servers answer, each as itself", run: eight },
    Case { name: "web: documents", asserts: "every document has its exact length and type", run: documents },
    Case { name: "web: methods and errors", asserts: "HEAD, 404, 405 and 400 are as HTTP/1.1 says", run: methods },
    Case {
        name: "web: keep-alive",
        asserts: "many requests go over one connection, pipelined ones too",
        run: keep_alive,
    },
    Case { name: "web: in parallel", asserts: "eight connections at once to one server are all served", run: parallel },
    Case {
        name: "web: burst",
        asserts: "a hundred clients at once through the user-mode network all get a whole document",
        run: burst,
    },
    Case {
        name: "web: slow and silent clients",
        asserts: "clients that dawdle or say nothing do not stop service",
        run: slow,
    },
    Case {
        name: "web: malformed requests",
        asserts: "malformed requests get 400 or are cut off, and service goes on",
        run: malformed,
    },
    Case {
        name: "web: noise",
        asserts: "2,000 broadcasts of a LAN's noise give 20 idle servers not a page and wake none of them",
        run: noise,
    },
    Case {
        name: "web: idle memory",
        asserts: "a web server that is left alone has 12 frames, tables and metadata included, and comes back to that after load, soon where others can have what it \
                  had then",
        run: idle_memory,
    },
    Case {
        name: "web: kept memory",
        asserts: "where nobody goes out, a web server keeps what serving a client takes, within its reserve, for the next one",
        run: kept_memory,
    },
    Case { name: "web: DHCP", asserts: "with net=dhcp each VM gets its address by DHCP", run: dhcp },
];

/// A machine with `count` web servers that answer.
fn servers(lab: &Lab, count: usize, options: &str) -> Result<Running> {
    let mut running = lab.boot(&format!("vms=httpd*{count} {options}")).start()?;
    running.wait_for_services(BOOT)?;
    Ok(running)
}

fn eight(lab: &Lab) -> Result<()> {
    let running = servers(lab, 8, "")?;
    let mut names = Vec::new();
    for i in 0..8 {
        let answer = running.get(i, "/status")?;
        ensure(answer.status == 200 && !answer.body.is_empty(), || {
            format!("/status of server {i}: {}", answer.status)
        })?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        ensure(text.is_ascii(), || format!("/status of server {i} is no text"))?;
        names.push(text);
    }
    names.sort();
    names.dedup();
    ensure(names.len() == 8, || "two servers give the same /status, VM id included".into())?;
    running.must_not_say(0, "ERROR")?;
    running.power_off()
}

/// Frames of an idle web server: two of metadata, four nested tables, register page, NIC page, two page tables of its own, data
/// and stack.
const IDLE_FRAMES: u64 = 12;
/// VMs that idle may go out, so what they give back is of use to others.
const OTHERS_GAIN: &str = "pool=1MiB";
/// How long a server may take to give back what it does not need: more than the minute that it waits where nobody goes out.
const SHRINKS: Duration = Duration::from_secs(180);

/// Frames of all VMs.
fn vm_frames(running: &Running) -> Result<u64> {
    let lines = running.monitor("frames")?;
    let of = |owner: &str| -> Result<u64> {
        let line = lines.iter().find(|line| line.contains(&format!("owner={owner} ")));
        let frames = line.and_then(|line| number(line, "frames"));
        frames.ok_or_else(|| format!("`frames` names no owner {owner}: {lines:?}").into())
    };
    Ok(of("vm-memory")? + of("vm-tables")? + of("vm-metadata")?)
}

/// Waits until each of `count` VMs has no more than an idle web server.
fn shrunk(running: &Running, count: u64, when: &str) -> Result<()> {
    let end = Instant::now() + SHRINKS;
    loop {
        let frames = vm_frames(running)?;
        if frames <= count * IDLE_FRAMES {
            return Ok(());
        }
        ensure(Instant::now() < end, || format!("{count} idle servers have {frames} frames {when}"))?;
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn idle_memory(lab: &Lab) -> Result<()> {
    const VMS: usize = 4;
    let running = servers(lab, VMS, OTHERS_GAIN)?;
    running.wait_for_monitor()?;
    shrunk(&running, VMS as u64, "after the start")?;
    for _ in 0..2 {
        let mut most = 0;
        for round in 0..3 {
            for i in 0..VMS {
                let answer = running.get(i, "/100k")?;
                ensure(answer.body.len() == 102_400, || {
                    format!("round {round}: {} bytes of server {i}", answer.body.len())
                })?;
            }
            most = most.max(vm_frames(&running)?);
        }
        ensure(most > VMS as u64 * IDLE_FRAMES, || format!("{most} frames under load: nothing was to be given back"))?;
        shrunk(&running, VMS as u64, "after load")?;
    }
    for i in 0..VMS {
        ensure(running.get(i, "/100b")?.body.len() == 100, || format!("server {i} is not what it was"))?;
    }
    running.must_not_say(0, "killed")?;
    running.power_off()
}

fn kept_memory(lab: &Lab) -> Result<()> {
    const VMS: usize = 4;
    let running = servers(lab, VMS, "")?;
    running.wait_for_monitor()?;
    shrunk(&running, VMS as u64, "after the start")?;
    let ask = |i| ensure(running.get(i, "/100b")?.body.len() == 100, || format!("server {i} sends something else"));
    (0..VMS).try_for_each(ask)?;
    // Many times what a server waits where others gain by it; what it waits here, a minute of the machine, may pass faster than one of the host.
    std::thread::sleep(Duration::from_secs(3));
    let lines = running.monitor("vms")?;
    for i in 0..VMS {
        let line = lines
            .iter()
            .find(|line| line.contains(&format!("vm index={i} ")))
            .ok_or_else(|| format!("no VM in slot {i}: {lines:?}"))?;
        let [reserve, held] = ["reserve_frames", "held_frames"].map(|key| number(line, key));
        ensure(held > Some(IDLE_FRAMES) && held <= reserve, || {
            format!("server {i} holds {held:?} frames of {reserve:?}: {line}")
        })?;
    }
    (0..VMS).try_for_each(ask)?;
    running.power_off()
}

/// What is sent to all on any LAN: a question for somebody else, an announcement, NetBIOS, multicast DNS.
fn broadcasts() -> [Vec<u8>; 4] {
    let ethernet = |to: [u8; 6], kind: [u8; 2], payload: &[u8]| {
        let mut frame = [&to[..], &HOST_MAC, &kind, payload].concat();
        frame.resize(60, 0);
        frame
    };
    let stranger = [10, 0, 2, 200];
    let arp = |sender: [u8; 4], target: [u8; 4]| {
        let head = [0, 1, 8, 0, 6, 4, 0, 1];
        ethernet([0xff; 6], [8, 6], &[&head[..], &HOST_MAC, &sender, &[0; 6], &target].concat())
    };
    let udp = |to: [u8; 6], group: [u8; 4], port: u8| {
        let head = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
        ethernet(to, [8, 0], &[&head[..], &stranger, &group, &[0, port, 0, port, 0, 8, 0, 0]].concat())
    };
    [
        arp(HOST.octets(), stranger),
        arp(stranger, stranger),
        udp([0xff; 6], [255; 4], 137),
        udp([1, 0, 0x5e, 0, 0, 0xfb], [224, 0, 0, 251], 0xe9),
    ]
}

/// Ticks that all VMs ran.
fn ran_ticks(running: &Running) -> Result<u64> {
    let lines = running.monitor("vms")?;
    Ok(lines.iter().filter_map(|line| number(line, "ran_ticks")).sum())
}

fn noise(lab: &Lab) -> Result<()> {
    const VMS: u64 = 20;
    let running = servers(lab, 20, &format!("log=debug {OTHERS_GAIN}"))?;
    running.wait_for_monitor()?;
    shrunk(&running, VMS, "after the start")?;
    let ran = ran_ticks(&running)?;
    let frames = broadcasts();
    let mut most = 0;
    for round in 0..500 {
        for frame in &frames {
            running.net()?.inject(frame);
            std::thread::sleep(Duration::from_micros(300));
        }
        if round % 100 == 99 {
            most = most.max(vm_frames(&running)?);
        }
    }
    ensure(most <= VMS * IDLE_FRAMES, || format!("{most} frames during the noise"))?;
    // Some have something to do by themselves meanwhile; who hears this runs ten times as long.
    let woken = ran_ticks(&running)? - ran;
    let machine = running.monitor("machine")?;
    let hz = machine.iter().find_map(|line| number(line, "tsc_hz")).ok_or("no tsc_hz=")?;
    ensure(woken * 2000 <= VMS * hz, || format!("VMs ran {woken} ticks of {hz} a second during the noise"))?;
    for i in 0..20 {
        ensure(running.get(i, "/100b")?.body.len() == 100, || format!("server {i} is not what it was"))?;
    }
    // netmux says when a VM ends what it has counted: all that was there to be heard nobody wanted.
    let mark = running.mark();
    running.monitor("destroy 19")?;
    let totals = running.wait_for_since(mark, "; all VMs: ", STEP)?;
    let unheard = number(&totals, "to-nobody");
    ensure(unheard.is_some_and(|frames| frames >= 1900), || format!("it did not hear the noise: {totals}"))?;
    running.must_not_say(0, "killed")?;
    running.power_off()
}

fn documents(lab: &Lab) -> Result<()> {
    let running = servers(lab, 1, "")?;
    for (path, length) in [("/100b", 100), ("/2258b", 2258), ("/100k", 102_400)] {
        let first = running.get(0, path)?;
        let second = running.get(0, path)?;
        ensure(first.status == 200, || format!("{path}: status {}", first.status))?;
        ensure(first.body.len() == length, || format!("{path} has {} bytes, not {length}", first.body.len()))?;
        ensure(first.body == second.body, || format!("{path} came differently the second time"))?;
        ensure(first.header("content-type").is_some(), || format!("{path} has no Content-Type"))?;
    }
    let front = running.get(0, "/")?;
    ensure(front.status == 200 && !front.body.is_empty(), || format!("/: status {}", front.status))?;
    let json = running.get(0, "/status.json")?;
    let value: serde_json::Value = serde_json::from_slice(&json.body).context(|| "/status.json".into())?;
    ensure(value.is_object(), || format!("/status.json is {value}"))?;
    let kind = json.header("content-type").unwrap_or_default().to_owned();
    ensure(kind.starts_with("application/json"), || format!("/status.json has Content-Type {kind}"))
}

fn methods(lab: &Lab) -> Result<()> {
    let running = servers(lab, 1, "")?;
    let address = running.services()[0];
    let head = Connection::open(address, STEP)?.request("HEAD", "/2258b")?;
    ensure(head.status == 200 && head.header("content-length") == Some("2258"), || format!("HEAD: {head:?}"))?;
    let missing = running.get(0, "/no/such/document")?;
    ensure(missing.status == 404, || format!("a missing document gives {}", missing.status))?;
    let mut connection = Connection::open(address, STEP)?;
    connection.send(b"DELETE / HTTP/1.1\r\nHost: foraker\r\nContent-Length: 0\r\n\r\n")?;
    let refused = connection.response(false)?;
    ensure(refused.status == 405 && refused.header("allow").is_some(), || format!("DELETE: {refused:?}"))?;
    let mut connection = Connection::open(address, STEP)?;
    connection.send(b"GET\r\n\r\n")?;
    let bad = connection.response(false)?;
    ensure(bad.status == 400, || format!("half a request line gives {}", bad.status))
}

fn keep_alive(lab: &Lab) -> Result<()> {
    let running = servers(lab, 1, "")?;
    let address = running.services()[0];
    let mut connection = Connection::open(address, STEP)?;
    for i in 0..50 {
        let answer = connection.request("GET", "/100b").context(|| format!("request {i}"))?;
        ensure(answer.status == 200 && answer.body.len() == 100, || format!("request {i}: status {}", answer.status))?;
    }
    let request = b"GET /100b HTTP/1.1\r\nHost: foraker\r\n\r\n";
    connection.send(&request.repeat(5))?;
    for i in 0..5 {
        let answer = connection.response(false).context(|| format!("pipelined request {i}"))?;
        ensure(answer.status == 200 && answer.body.len() == 100, || {
            format!("pipelined request {i}: {}", answer.status)
        })?;
    }
    connection.send(b"GET /100b HTTP/1.1\r\nHost: foraker\r\nConnection: close\r\n\r\n")?;
    connection.response(false)?;
    ensure(connection.is_closed(), || "Connection: close is not obeyed".into())?;
    let mut old = Connection::open(address, STEP)?;
    old.send(b"GET /100b HTTP/1.0\r\n\r\n")?;
    ensure(old.response(false)?.status == 200 && old.is_closed(), || "HTTP/1.0 is not answered and closed".into())
}

fn parallel(lab: &Lab) -> Result<()> {
    let running = servers(lab, 1, "")?;
    let address = running.services()[0];
    let fetch = move || -> Result<()> {
        for path in ["/100k", "/100b", "/100k"] {
            let answer = crate::http::get(address, path, Duration::from_secs(30))?;
            ensure(answer.status == 200, || format!("{path}: status {}", answer.status))?;
        }
        Ok(())
    };
    let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(fetch)).collect();
    for thread in threads {
        thread.join().map_err(|_| "a client panicked")??;
    }
    Ok(())
}

fn burst(lab: &Lab) -> Result<()> {
    let running = servers(lab, 1, "")?;
    let address = running.services()[0];
    let fetch = move || -> Result<()> {
        let answer = crate::http::get(address, "/100k", Duration::from_secs(60))?;
        ensure(answer.status == 200 && answer.body.len() == 102_400, || {
            format!("status {}, {} bytes", answer.status, answer.body.len())
        })
    };
    let clients: Vec<_> = (0..100).map(|_| std::thread::spawn(fetch)).collect();
    for client in clients {
        client.join().map_err(|_| "a client panicked")??;
    }
    Ok(())
}

fn slow(lab: &Lab) -> Result<()> {
    let running = servers(lab, 1, "")?;
    let address = running.services()[0];
    let open = || TcpStream::connect(address).context(|| "cannot connect".into());
    // Silent clients, clients that stop amid the request, and clients that never read a long answer.
    let silent: Vec<TcpStream> = (0..4).map(|_| open()).collect::<Result<_>>()?;
    let mut halting = Vec::new();
    for _ in 0..4 {
        let mut stream = open()?;
        stream.write_all(b"GET /100b HT").context(|| "cannot send half a request".into())?;
        halting.push(stream);
    }
    let mut deaf = Vec::new();
    for _ in 0..4 {
        let mut stream = open()?;
        let request = b"GET /100k HTTP/1.1\r\nHost: foraker\r\n\r\n".repeat(4);
        stream.write_all(&request).context(|| "cannot send requests".into())?;
        deaf.push(stream);
    }
    // One that dawdles, a byte at a time, is served nevertheless.
    let mut dawdling = Connection::open(address, STEP)?;
    for byte in b"GET /100b HTTP/1.1\r\nHost: foraker\r\n\r\n" {
        dawdling.send(&[*byte])?;
        std::thread::sleep(Duration::from_millis(20));
    }
    let answer = dawdling.response(false).context(|| "the dawdling client".into())?;
    ensure(answer.status == 200, || format!("the dawdling client got {}", answer.status))?;
    for i in 0..10 {
        let started = Instant::now();
        let answer = running.get(0, "/100b").context(|| format!("request {i} beside slow clients"))?;
        ensure(answer.status == 200, || format!("request {i} beside slow clients: {}", answer.status))?;
        let took = started.elapsed();
        ensure(took < Duration::from_secs(5), || format!("request {i} beside slow clients took {took:?}"))?;
    }
    drop((silent, halting, deaf));
    Ok(())
}

fn malformed(lab: &Lab) -> Result<()> {
    let running = servers(lab, 1, "")?;
    let address = running.services()[0];
    let endless = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 100_000]].concat();
    let many = [b"GET / HTTP/1.1\r\n".to_vec(), b"A: b\r\n".repeat(5_000), b"\r\n".to_vec()].concat();
    let requests: [(&str, &[u8]); 10] = [
        ("binary", &[0, 1, 2, 0xff, 0xfe, b'\r', b'\n', b'\r', b'\n']),
        ("no version", b"GET /\r\n\r\n"),
        ("unknown version", b"GET / HTTP/9.9\r\n\r\n"),
        ("space in a target", b"GET /a b HTTP/1.1\r\nHost: vm\r\n\r\n"),
        ("two versions", b"GET / HTTP/1.2 HTTP/1.3\r\nHost: vm\r\n\r\n"),
        ("spaces", b"     \r\n\r\n"),
        ("bad header", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"),
        ("endless header", &endless),
        ("too many headers", &many),
        ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    ];
    for (what, request) in requests {
        let mut connection = Connection::open(address, STEP)?;
        // The server may cut it off before all of it is sent.
        if connection.send(request).is_ok()
            && let Ok(answer) = connection.response(false)
        {
            ensure((400..=505).contains(&answer.status), || format!("{what}: status {}", answer.status))?;
        }
        let answer = running.get(0, "/100b").context(|| format!("after \"{what}\""))?;
        ensure(answer.status == 200, || format!("after \"{what}\": status {}", answer.status))?;
    }
    running.must_not_say(0, "ended:")
}

fn dhcp(lab: &Lab) -> Result<()> {
    let running = servers(lab, 3, "net=dhcp")?;
    let answer = running.get(2, "/100b")?;
    let address: SocketAddr = running.services()[2];
    ensure(answer.status == 200, || format!("the third server at {address} gives {}", answer.status))
}
