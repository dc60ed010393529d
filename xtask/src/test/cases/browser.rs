//! The web server's page in a real browser, Chromium without a window.

use super::{ensure, supervisor};
use crate::error::{Context, Result, fail};
use crate::setup::is_root;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// The browser's program, and Debian's package of it.
pub const PROGRAM: &str = "chromium";

pub const CASES: &[Case] = &[Case {
    name: "web: browser",
    asserts: "Chromium shows the page with its figures live, in light and dark and on a phone, and fetches nothing in vain",
    run: browser,
}];

/// Those that also take OpenSSH's client.
pub const OPERATOR_CASES: &[Case] = &[Case {
    name: "supervisor: browser",
    asserts: "Chromium shows the operator's page with the VMs and the node's figures, searches by what an address asks for, and complains of nothing",
    run: operator,
}];

/// Longest time for one look, in seconds.
const PATIENCE: &str = "90";
/// Bytes that a picture of an empty page stays below.
const EMPTY: u64 = 12_000;

fn browser(lab: &Lab) -> Result<()> {
    let mut running = lab.boot("vms=httpd*2").start()?;
    running.wait_for_services(BOOT)?;
    let folder = running.machine().dir().to_owned();
    for (vm, server) in running.services().to_vec().into_iter().enumerate() {
        let page = look(&folder, server, "", &["--dump-dom", "--enable-logging=stderr", "--v=0"])?;
        for text in [
            &format!("<title>Foraker VM {vm}</title>"),
            &format!("<h1>VM {vm}</h1>"),
            // The script has run, and has got figures twice.
            r#"class="live on" role="status">live</p>"#,
            r#"<path id="line" d="M0.0 "#,
            " of 16.0 MiB</dd>",
            r#"href="/status.json""#,
        ] {
            ensure(page.contains(text), || format!("{text} is not on the page:\n{page}"))?;
        }
        ensure(!page.contains(r#"id="rate">\u{2013}<"#), || format!("there is no rate:\n{page}"))?;
        ensure(!page.contains("CONSOLE"), || format!("the page complains:\n{page}"))?;
    }
    let server = running.services()[0];
    for (name, size, dark) in [("light", "1100,1000", false), ("dark", "1100,1000", true), ("phone", "500,1200", false)]
    {
        let file = folder.join(format!("page-{name}.png"));
        let (file_option, size) = (format!("--screenshot={}", file.display()), format!("--window-size={size}"));
        let mut options = vec![file_option.as_str(), size.as_str()];
        if dark {
            options.push("--blink-settings=preferredColorScheme=0");
        }
        look(&folder, server, "", &options)?;
        shows_something(&file)?;
    }
    let counters = String::from_utf8_lossy(&running.get(0, "/status")?.body).into_owned();
    ensure(counters.contains("\nerrors: 0\n"), || format!("something was asked for that is not there:\n{counters}"))?;
    running.power_off()
}

fn shows_something(picture: &Path) -> Result<()> {
    let bytes = std::fs::metadata(picture).context(|| format!("there is no {}", picture.display()))?.len();
    ensure(bytes > EMPTY, || format!("{} is the picture of an empty page", picture.display()))
}

fn operator(lab: &Lab) -> Result<()> {
    let (mut running, login) = supervisor::start_with(lab, &[])?;
    for name in ["web-17", "web-18", "shop-1"] {
        login.good(&format!("vm create {name} --image httpd && vm start {name}"))?;
    }
    let folder = running.machine().dir().to_owned();
    let dump = ["--dump-dom", "--enable-logging=stderr", "--v=0"];
    let page = look(&folder, login.web, "", &dump)?;
    for text in [
        "<dt>VMs</dt><dd>6</dd>",
        "<td>web-17</td>",
        "<td>shop-1</td>",
        "<td>httpd</td>",
        r#"<td class="n">"#,
        // What a web server needs is less than a MiB.
        " KiB</td>",
    ] {
        ensure(page.contains(text), || format!("{text} is not on the page:\n{page}"))?;
    }
    // Polled twice: only then there is a load.
    ensure(page.contains(" %</td>"), || format!("no VM has a load:\n{page}"))?;
    let found = look(&folder, login.web, "#name=web-&image=httpd", &dump)?;
    let (is, is_not) = (found.contains("<td>web-18</td>"), !found.contains("<td>shop-1</td>"));
    ensure(is && is_not, || format!("a search shows:\n{found}"))?;
    let none = look(&folder, login.web, "#name=nobody", &dump)?;
    for (page, said) in [(page, ""), (found, ""), (none, "no VM is like that")] {
        let fine = page.contains(&format!(r#"<p id="said" role="status">{said}</p>"#)) && !page.contains("CONSOLE");
        ensure(fine, || format!("the page complains:\n{page}"))?;
    }
    for (name, scheme) in [("light", "1"), ("dark", "0")] {
        let file = folder.join(format!("operator-{name}.png"));
        let options =
            [format!("--screenshot={}", file.display()), format!("--blink-settings=preferredColorScheme={scheme}")];
        look(&folder, login.web, "", &[&options[0], &options[1], "--window-size=1100,800"])?;
        shows_something(&file)?;
    }
    running.power_off()
}

/// Lets the browser look at the page for some seconds of its time. What it says.
fn look(folder: &Path, server: SocketAddr, part: &str, options: &[&str]) -> Result<String> {
    let profile = format!("--user-data-dir={}", folder.join("browser").display());
    let mut command = Command::new("timeout");
    command.args([
        PATIENCE,
        PROGRAM,
        "--headless=new",
        "--disable-gpu",
        "--hide-scrollbars",
        "--virtual-time-budget=6000",
    ]);
    command.arg(profile).args(options);
    if is_root()? {
        // Its own refuses to work for root.
        command.arg("--no-sandbox");
    }
    let output = command
        .arg(format!("http://{server}/{part}"))
        .stdin(Stdio::null())
        .output()
        .context(|| format!("cannot start {PROGRAM}"))?;
    let (page, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        fail!("{PROGRAM} ended with {}:\n{page}{complaints}", output.status);
    }
    // What a page's script or the browser says about the page; the rest is about the machine that it runs on.
    let about: Vec<&str> = complaints.lines().filter(|line| line.contains("CONSOLE")).collect();
    Ok(format!("{page}{}", about.join("\n")))
}
