//! The server with a disk that has a tree.

mod client;

use client::{Got, Plan, body, get, run_carrying, run_with};
use ilwaco::sim::Sim;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Of each image, or its entity tags would be other ones each time.
const UUID: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

/// What `mke2fs` makes of this: an index, one in a folder, names of all sorts, and 300,000 bytes.
fn image() -> Vec<u8> {
    let name = format!("files-{:?}-{}", std::thread::current().id(), std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let root = folder.join("tree");
    fs::create_dir_all(root.join("docs")).expect("a folder");
    fs::create_dir_all(root.join("empty")).expect("a folder");
    for (name, bytes) in [
        ("index.html", b"<h1>Files</h1>".to_vec()),
        ("docs/index.html", b"<h1>Docs</h1>".to_vec()),
        ("docs/read me.txt", b"text".to_vec()),
        ("m\u{fc}sli.css", b"p {}".to_vec()),
        ("status", b"not the server's".to_vec()),
        ("nothing.json", Vec::new()),
        ("big.bin", big()),
    ] {
        fs::write(root.join(name), bytes).expect("a file");
        let file = fs::OpenOptions::new().write(true).open(root.join(name)).expect("the file");
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)).expect("a date");
    }
    symlink("docs/read me.txt", root.join("link.txt")).expect("a link");
    symlink("../../../etc/passwd", root.join("out")).expect("a link");
    symlink("/etc/passwd", root.join("absolute")).expect("a link");
    let image = folder.join("image");
    let mut command = Command::new("mke2fs");
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    command
        .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-b", "4096", "-U", UUID, "-d"])
        .arg(&root)
        .arg(&image)
        .arg("8M");
    let done = command.output().expect("mke2fs, of e2fsprogs, which `cargo xtask setup` installs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let bytes = fs::read(&image).expect("an image");
    fs::remove_dir_all(&folder).expect("ours");
    bytes
}

fn big() -> Vec<u8> {
    (0..75_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn run(ms: u64, plans: Vec<Plan>) -> Vec<Got> {
    let image = image();
    run_with(ms, plans, || Sim::attach_disk(&image, true))
}

fn one(ms: u64, text: &str) -> Got {
    run(ms, vec![vec![(0, text.to_string())]]).remove(0)
}

fn with(path: &str, headers: &str) -> String {
    get(path).replace("\r\n\r\n", &format!("\r\n{headers}\r\n\r\n"))
}

fn header(text: &str, name: &str) -> Option<String> {
    let head = text.split("\r\n\r\n").next()?;
    head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned))
}

#[test]
fn files_have_their_types_and_their_bytes() {
    for (path, kind, content) in [
        ("/", "text/html; charset=utf-8", "<h1>Files</h1>"),
        ("/index.html", "text/html; charset=utf-8", "<h1>Files</h1>"),
        ("/docs/", "text/html; charset=utf-8", "<h1>Docs</h1>"),
        ("/docs/read%20me.txt?query", "text/plain; charset=utf-8", "text"),
        ("/m%C3%BCsli.css", "text/css; charset=utf-8", "p {}"),
        ("/link.txt", "text/plain; charset=utf-8", "text"),
        ("/status", "application/octet-stream", "not the server's"),
        ("/nothing.json", "application/json", ""),
    ] {
        let text = one(300, &get(path)).text();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {text}");
        assert_eq!(header(&text, "Content-Type").as_deref(), Some(kind), "{path}");
        assert_eq!(header(&text, "Content-Length"), Some(content.len().to_string()), "{path}");
        assert_eq!(header(&text, "Last-Modified").as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"), "{path}");
        assert_eq!(body(&text), content, "{path}");
    }
    let own = one(300, &(get("/100b") + &get("/status.json"))).codes();
    assert_eq!(own, ["200", "200"], "what the tree lacks, the server may have");
    assert!(Sim::console().contains("httpd: serving the files on the disk"));
}

#[test]
fn what_is_not_there_is_not_found() {
    let missing = [
        "/missing",
        "/docs/missing",
        "/empty/",
        "/out",
        "/absolute",
        "/../etc/passwd",
        "/%2e%2e/etc/passwd",
        "/docs/../index.html",
        "/docs%2findex.html",
        "/index.html/",
        "//docs/",
        "/docs//index.html",
    ];
    let got = one(900, &missing.map(get).concat());
    assert_eq!(got.codes(), vec!["404"; missing.len()]);
    assert_eq!(one(300, &(get("/%zz") + &get("/"))).codes(), ["400", "200"]);
    let posted = one(300, &(get("/index.html").replace("GET", "POST") + &get("/index.html"))).codes();
    assert_eq!(posted, ["405", "200"]);
}

#[test]
fn a_directory_without_its_slash_is_at_another_place() {
    let got = one(300, &(get("/docs?a=b&c") + &get("/docs").replace("GET", "HEAD") + &get("/docs/")));
    assert_eq!(got.codes(), ["301", "301", "200"]);
    assert_eq!(header(&got.text(), "Location").as_deref(), Some("/docs/?a=b&c"));
}

#[test]
fn large_files_come_whole_and_in_parts() {
    let whole = one(3_000, &get("/big.bin"));
    let head_len = whole.bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    assert!(whole.bytes[head_len..] == big(), "{} bytes", whole.bytes.len() - head_len);
    let tag = header(&whole.text(), "ETag").expect("a tag");
    for (range, start, end) in [
        ("0-0", 0, 1),
        ("4000-9000", 4000, 9001),
        ("-5", 299_995, 300_000),
        ("4096-8191", 4096, 8192),
        ("299999-", 299_999, 300_000),
    ] {
        let part = one(1_000, &with("/big.bin", &format!("Range: bytes={range}\r\nIf-Range: {tag}")));
        let text = part.text();
        assert!(text.starts_with("HTTP/1.1 206 "), "{text:.300}");
        assert_eq!(header(&text, "Content-Range"), Some(format!("bytes {start}-{}/300000", end - 1)));
        assert_eq!(header(&text, "Content-Length"), Some((end - start).to_string()));
        let head_len = part.bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        assert!(part.bytes[head_len..] == big()[start..end], "{range}");
    }
    let none = one(300, &(with("/big.bin", "Range: bytes=300000-") + &with("/nothing.json", "Range: bytes=0-")));
    assert_eq!(none.codes(), ["416", "416"]);
    assert_eq!(header(&none.text(), "Content-Range").as_deref(), Some("bytes */300000"));
    let other = one(3_000, &with("/big.bin", "Range: bytes=0-0\r\nIf-Range: \"other\""));
    assert!(other.codes() == ["200"] && other.bytes.len() > 300_000);
}

#[test]
fn conditions() {
    let whole = one(300, &get("/index.html")).text();
    let tag = header(&whole, "ETag").expect("a tag");
    let same = one(300, &with("/index.html", &format!("If-None-Match: {tag}"))).text();
    assert!(same.starts_with("HTTP/1.1 304 ") && body(&same).is_empty(), "{same}");
    assert_eq!((header(&same, "ETag"), header(&same, "Content-Length")), (Some(tag.clone()), None));
    assert!(tag.starts_with("\"f1e2d3c4b5a6978-"), "{tag}");
    assert_eq!(one(300, &with("/index.html", "If-Match: \"other\"")).codes(), ["412"]);
    assert_eq!(one(300, &with("/", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT")).codes(), ["304"]);
    assert_eq!(one(300, &with("/", "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT")).codes(), ["200"]);
    let head = one(300, &with("/big.bin", "Range: bytes=0-0").replace("GET", "HEAD")).text();
    assert!(head.starts_with("HTTP/1.1 200 ") && body(&head).is_empty());
    assert_eq!(header(&head, "Content-Length").as_deref(), Some("300000"));
}

#[test]
fn connections_stay_and_requests_follow_each_other() {
    let pipelined = get("/index.html").repeat(20) + &get("/missing") + &get("/docs/") + &get("/100b");
    let mut codes = vec!["200"; 20];
    codes.extend(["404", "200", "200"]);
    let got = one(1_500, &pipelined);
    assert_eq!(got.codes(), codes);
    assert_eq!(got.ended, None);
    let plans: Vec<Plan> = (0..12).map(|n| vec![(n, get("/big.bin")), (1_500 + n, get("/docs/"))]).collect();
    for got in run(6_000, plans) {
        assert_eq!(got.codes(), ["200", "200"]);
        assert!(got.bytes.len() > 300_000 && got.bytes.ends_with(b"<h1>Docs</h1>"));
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_an_error_and_the_reason_is_logged() {
    let image = image();
    let failed = run_with(400, vec![vec![(0, get("/index.html") + &get("/100b"))]], || {
        Sim::attach_disk(&image, true);
        for block in 1..image.len() / 4096 {
            Sim::spoil_block(block.try_into().expect("small"), ilwaco::sim::disk_status::CORRUPT);
        }
    });
    assert_eq!(failed[0].codes(), ["500", "500"]);
    assert!(Sim::console().contains("is not what was written there"), "{}", Sim::console());
    let blank = run_with(400, vec![vec![(0, get("/"))]], || Sim::attach_disk(&[0; 4 * 4096], true));
    assert_eq!(blank[0].codes(), ["500"]);
    assert!(Sim::console().contains("there is no ext4 file system on the disk"), "{}", Sim::console());
}

#[test]
fn what_the_program_carries_is_served_where_there_is_no_disk() {
    let carried: &'static [u8] = image().leak();
    let wanted = || vec![vec![(0, get("/docs/") + &get("/missing") + &get("/100b"))], vec![(0, get("/big.bin"))]];
    let got = run_carrying(Some(carried), 900, wanted(), || ());
    assert_eq!(got[0].codes(), ["200", "404", "200"]);
    assert!(got[0].text().contains("<h1>Docs</h1>"));
    assert!(got[1].bytes.ends_with(&big()));
    assert!(Sim::console().contains("httpd: serving the files in its image"), "{}", Sim::console());
    // A disk comes first, whatever is on it.
    let blank = run_carrying(Some(carried), 400, vec![vec![(0, get("/docs/"))]], || {
        Sim::attach_disk(&[0; 4 * 4096], true);
    });
    assert_eq!(blank[0].codes(), ["500"]);
    let cut = &carried[..carried.len() / 4096 * 2048];
    let cut = run_carrying(Some(cut), 400, vec![vec![(0, get("/docs/"))]], || ());
    assert_eq!(cut[0].codes(), ["500"]);
    assert!(Sim::console().contains("httpd: the files in its image: "), "{}", Sim::console());
}

#[test]
fn a_file_that_breaks_off_ends_the_connection() {
    let image = image();
    // The last block with what only that file has.
    let place = image.windows(4).rposition(|four| four == 74_000_u32.to_le_bytes()).expect("the file") / 4096;
    let got = run_with(3_000, vec![vec![(0, get("/big.bin")), (2_900, get("/100b"))]], || {
        Sim::attach_disk(&image, true);
        Sim::spoil_block(place.try_into().expect("small"), ilwaco::sim::disk_status::FAILED);
    });
    assert_eq!(got[0].codes(), ["200"]);
    assert!(got[0].bytes.len() < 300_000 && got[0].reset.is_some(), "{}", got[0].bytes.len());
}

#[test]
fn a_tree_is_looked_at_only_where_there_is_memory_for_it() {
    let image = image();
    let code = |left: usize| {
        let image = image.clone();
        let start = move || {
            Sim::attach_disk(&image, true);
            let later = async move {
                ilwaco::time::sleep(Duration::from_millis(50)).await;
                Sim::leave(left);
            };
            ilwaco::task::spawn(later).expect("room");
        };
        let plan = vec![(0, get("/docs/")), (100, get("/docs/read%20me.txt"))];
        run_with(1000, vec![plan], start).remove(0).codes().pop().expect("an answer").to_string()
    };
    // Beside what is kept for the connection: what it takes to look, and to read.
    let kept = 2048 + ilwaco::net::PROMISED_BYTES;
    assert_eq!(code(kept + (10 << 10)), "503");
    assert_eq!(code(kept + (12 << 10)), "200");
}

#[test]
fn a_file_is_read_and_kept_only_where_there_is_memory_for_it() {
    let image = image();
    // Memory that there is when the tree has been looked at, and whether the file is read without the disk afterwards.
    let codes = |left: usize| {
        let image = image.clone();
        let start = move || {
            Sim::attach_disk(&image, true);
            let later = async move {
                let ms = |ms| ilwaco::time::sleep(ilwaco::time::Duration::from_millis(ms));
                // What was read for the first request is no longer kept then.
                ms(5000).await;
                Sim::hold_disk();
                ms(100).await;
                Sim::leave(left);
                Sim::release_disk();
                ms(100).await;
                Sim::leave(usize::MAX);
                Sim::hold_disk();
            };
            ilwaco::task::spawn(later).expect("room");
        };
        // The first one sees to it that what the connection takes is there.
        let path = "/docs/read%20me.txt";
        let plan = vec![(0, get("/docs/")), (5050, get(path)), (5250, get(path).replace("GET", "HEAD"))];
        run_with(5600, vec![plan], start).remove(0).codes()
    };
    let kept = 1024 + ilwaco::net::PROMISED_BYTES;
    assert_eq!(codes(kept + (8 << 10) - 1), ["200", "503"]);
    assert_eq!(codes(kept + (8 << 10)), ["200", "200", "200"]);
}
