//! The boot itself.

use super::ensure;
use crate::error::Result;
use crate::machine::Kind;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running};

pub const CASES: &[Case] = &[
    Case {
        name: "boot",
        asserts: "it boots, names itself, finds every page either writable or executable, and keeps no frame of what boot took",
        run: boot,
    },
    Case {
        name: "boot: W^X walk",
        asserts: "the walk over the page tables finds a page that breaks the rule",
        run: wx,
    },
    Case {
        name: "boot: entry failure",
        asserts: "VMs whose entry fails end, the next one runs, and the core goes on",
        run: entry_failure,
    },
    Case {
        name: "boot: no hooks",
        asserts: "the core that users get refuses to make mistakes on purpose, and says where to find one that does",
        run: no_hooks,
    },
    Case {
        name: "boot: module of VMs",
        asserts: "more VMs than a line names come from a module, in its order, and a line of it that is wrong is named",
        run: module_of_vms,
    },
    Case { name: "boot: menu", asserts: "the image of build-iso boots its first preset from GRUB's menu", run: menu },
    Case {
        name: "boot: barriers",
        asserts: "with every barrier that the processor has at every crossing web servers serve, two of one tenant among them, and the operator is told",
        run: barriers,
    },
    Case { name: "boot: power off", asserts: "the operator can power the machine off", run: power_off },
    Case { name: "boot: 48 MiB", asserts: "eight web servers serve on a machine of 48 MiB", run: small },
    Case {
        name: "boot: repeatable",
        asserts: "two boots whose clock counts instructions say the same",
        run: repeatable,
    },
];

fn boot(lab: &Lab) -> Result<()> {
    let running = lab.boot("vms=httpd").start()?;
    running.wait_for("Foraker ", BOOT)?;
    let audit = running.wait_for("W^X: ", BOOT)?;
    ensure(audit.contains("W^X: 0 of ") && !audit.contains("alias"), || format!("the audit says: {audit}"))?;
    let walked = audit.split(" of ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse::<u64>().ok());
    ensure(walked.is_some_and(|walked| walked > 10), || format!("the audit walked next to nothing: {audit}"))?;
    let serving = running.wait_for("httpd: serving", BOOT)?;
    running.must_not_say(0, "ERROR")?;
    running.must_not_say(0, "FATAL")?;
    given_back(&running, &serving)
}

fn small(lab: &Lab) -> Result<()> {
    let mut running = lab.boot("vms=httpd*8").megs(48).start()?;
    running.wait_for_services(BOOT)?;
    running.must_not_say(0, "ERROR")?;
    running.power_off()
}

/// What boot took is for VMs, before the first of them runs: no frame is left with the loader, and some were.
fn given_back(running: &Running, serving: &str) -> Result<()> {
    let line = running.wait_for(" frames given back, ", BOOT)?;
    let frames =
        line.split("boot: ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse::<u64>().ok());
    ensure(line.ends_with(", 0 left") && frames.is_some_and(|frames| frames > 50), || format!("it said: {line}"))?;
    let said = running.said_until(serving);
    let at = |text: &str| said.iter().position(|line| line.contains(text));
    ensure(at(" frames given back, ") < at("started with policy"), || "a component was started before".to_owned())?;
    running.wait_for_monitor()?;
    let frames = running.monitor("frames")?;
    ensure(!frames.iter().any(|line| line.contains("owner=loader") && !line.contains("frames=0 ")), || {
        frames.join("\n")
    })
}

fn wx(lab: &Lab) -> Result<()> {
    let running = lab.boot("vms=httpd selftest=wx").test_image()?.start()?;
    let line = running.wait_for("selftest wx: ", BOOT)?;
    ensure(line.contains("selftest wx: passed; with a bad page the audit says: W^X: 1 of "), || {
        format!("it said: {line}")
    })
}

/// The core that users get has no hooks, and says so.
fn no_hooks(lab: &Lab) -> Result<()> {
    for mistake in ["wx", "entry-failure"] {
        let line = lab.boot(&format!("selftest={mistake}")).fails_with("F019")?;
        ensure(line.contains("'selftest=' is for the test image") && line.contains("this core has no hooks"), || {
            line.clone()
        })?;
    }
    let running = lab.boot("vms=httpd selftest=none").start()?;
    running.wait_for("httpd: serving", BOOT)?;
    running.power_off()
}

fn entry_failure(lab: &Lab) -> Result<()> {
    let running = lab.boot("vms=asm-guest*4 selftest=entry-failure").test_image()?.start()?;
    // Three ways to fail: the guest state is refused (exit reason with bit 31), and VMLAUNCH itself fails for its controls
    // (error 7) or its host state (error 8).
    // SVM has one number for all (VMEXIT_INVALID; APM vol. 2, appendix C).
    let details = match lab.kind() {
        Kind::Bochs => ["0x80000021", "0x7", "0x8"],
        _ => ["0xffffffff"; 3],
    };
    for (vm, detail) in details.into_iter().enumerate() {
        running.wait_for(&format!("vm{vm}.1 ended: entry failure (detail {detail}"), BOOT)?;
    }
    let line = running.wait_for("checks passed", BOOT)?;
    ensure(line.contains("vm3.1"), || format!("the fourth VM did not run: {line}"))?;
    running.must_not_say(0, "FATAL")?;
    running.power_off()
}

fn module_of_vms(lab: &Lab) -> Result<()> {
    // More entries than there can be images.
    let mut running = lab.boot(&format!("vms={}", ["httpd,udp-echo"; 10].join(","))).start()?;
    // The last web server is created together with the VM behind it.
    running.wait_for_services(BOOT)?;
    let vms = running.monitor("vms")?;
    for (slot, image) in [(0, "httpd"), (1, "udp-echo"), (18, "httpd"), (19, "udp-echo")] {
        let vm = format!("vm index={slot} incarnation=1 image={image} ");
        ensure(vms.iter().any(|line| line.contains(&vm)), || format!("no `{vm}` in {}", vms.join("\n")))?;
    }
    running.must_not_say(0, "ERROR")?;
    running.power_off()?;
    let wrong = lab.boot("log=info").module("vms", b"httpd # fine\nhtpd*3\n".to_vec()).fails_with("F019")?;
    ensure(wrong.contains("module 'vms', line 2: 'htpd*3' names the image 'htpd'"), || wrong.clone())
}

/// The guarded exits and entries work, and say what they are. (That they help, no emulator can show.)
fn barriers(lab: &Lab) -> Result<()> {
    let mut running = lab.boot("vms=httpd*2 barriers=strict").start()?;
    let exposed = running.wait_for("side channels: exposed to spectre-v1,spectre-v2", BOOT)?;
    ensure(exposed.contains("; open: spectre-v1,"), || format!("it said: {exposed}"))?;
    let line = running.wait_for("barriers strict: ", BOOT)?;
    ensure(line.contains("at exits rsb") && line.contains("between tenants rsb"), || format!("it said: {line}"))?;
    running.wait_for_services(BOOT)?;
    running.monitor("create httpd tenant=blue")?;
    let shown = running.monitor("vm 2")?;
    ensure(shown.iter().any(|line| line.ends_with(" tenant=blue")), || format!("vm 2: {shown:?}"))?;
    let told = running.monitor("machine")?;
    let told = told.into_iter().find(|line| line.starts_with("barriers mode=strict")).unwrap_or_default();
    ensure(told.contains(" exit=rsb") && told.contains(" component=rsb"), || format!("machine: {told}"))?;
    running.must_not_say(0, "ERROR")?;
    running.must_not_say(0, "FATAL")?;
    running.power_off()
}

fn menu(lab: &Lab) -> Result<()> {
    let mut running = lab.boot("").released_image().start()?;
    running.wait_for("GNU GRUB", BOOT)?;
    ensure(running.services().len() == 8, || format!("the first preset has {} web servers", running.services().len()))?;
    running.wait_for_services(BOOT)?;
    running.power_off()
}

fn power_off(lab: &Lab) -> Result<()> {
    let running = lab.boot("vms=httpd").start()?;
    running.wait_for_monitor()?;
    running.power_off()
}

fn repeatable(lab: &Lab) -> Result<()> {
    let mut said = Vec::new();
    for _ in 0..2 {
        let running = lab.boot("vms=asm-guest").deterministic().start()?;
        running.wait_for("ended: ", BOOT)?;
        said.push(running.said_until("ended: "));
    }
    ensure(said[0] == said[1], || {
        let (a, b) = (said[0].iter(), said[1].iter());
        let differ = a.zip(b).find(|(a, b)| a != b);
        format!("the first lines that differ: {differ:?}")
    })
}
