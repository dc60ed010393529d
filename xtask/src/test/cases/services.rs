//! Several parties to a service: two pagers, two demultiplexers, two controllers on one machine.

use super::ensure;
use crate::build::build_bins;
use crate::error::{Context, Result, fail};
use crate::manifest::model::{Component, Ring, System};
use crate::test::Case;
use crate::test::lab::{Lab, Running};
use abi::service::Service;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[Case {
    name: "services: two parties to each",
    asserts: "with two pagers, demultiplexers and controllers, each serves its own VMs and hears its own answers; what one does to itself the others' VMs do not notice",
    run: twins,
}];

/// How long a component may take to come back, or a controller to say its next line.
const SOON: Duration = Duration::from_secs(60);

/// What `system.toml` has not: name, program, service.
const SECOND: [(&str, &str, Service); 3] = [
    ("attic", "pager-demand", Service::Pager),
    ("lan", "netmux-deaf", Service::Net),
    ("second", "control-second", Service::Control),
];

/// `system` with the second parties. VMs of `ask` are theirs.
fn with_second(system: &mut System) {
    // A machine takes eight components, and nobody goes out here.
    system.component.retain(|component| component.name != "swap");
    system.ring.retain(|ring| ring.from != "swap" && ring.to != "swap");
    let like = system.component.iter().find(|component| component.name == "pager").cloned();
    for (like, ((name, module, service), priority)) in like.iter().cycle().zip(SECOND.into_iter().zip(20..)) {
        let component = Component {
            name: name.to_owned(),
            module: Some(module.to_owned()),
            policies: Vec::new(),
            priority,
            ..like.clone()
        };
        system.component.push(component);
        for (text, from, to) in [("to", "core", name), ("from", name, "core")] {
            let [name, from, to] = [format!("{text}-{name}"), from.to_owned(), to.to_owned()];
            system.ring.push(Ring { name, from, to, slots: 256, service: Some(service.name().to_owned()), data: None });
        }
    }
    for image in system.image.iter_mut().filter(|image| image.name == "ask") {
        (image.net, image.pager) = (Some("lan".to_owned()), Some("attic".to_owned()));
    }
}

/// Both web servers answer, though perhaps not at once: who serves them may have just been started.
fn web_answers(running: &Running) -> Result<()> {
    for server in 0..2 {
        let end = Instant::now() + SOON;
        while !running.get(server, "/2258b").is_ok_and(|answer| answer.status == 200) {
            if Instant::now() >= end {
                fail!("web server {server} does not answer");
            }
        }
    }
    Ok(())
}

fn twins(lab: &Lab) -> Result<()> {
    let mut boot = lab.boot("vms=httpd*2,ask,ask net=10.0.2.16/24,gw=10.0.2.2").system(with_second);
    let programs = ["netmux-deaf", "control-second"].map(str::to_owned);
    for (name, path) in build_bins(&programs)? {
        boot = boot.program(&name, path);
    }
    let running = boot.start()?;
    web_answers(&running)?;
    running.wait_for_monitor()?;
    running.wait_for("second controller: 21 answers", SOON)?;
    let (mut attic, mut second) = (1, 1);
    for victim in ["attic", "second", "pager", "netmux", "monitor", "attic"] {
        let mark = running.mark();
        running.type_line(&format!("kill {victim}"))?;
        running.wait_for_since(mark, &format!("component {victim} restarted"), SOON)?;
        attic += u32::from(victim == "attic");
        second += u32::from(victim == "second");
        web_answers(&running).context(|| format!("after {victim} was killed"))?;
    }
    let components = running.monitor("components")?;
    for (name, starts) in [("pager", 2), ("netmux", 2), ("attic", attic), ("second", second), ("lan", 1)] {
        let expected = format!("name={name} incarnation={starts} ");
        ensure(components.iter().any(|line| line.contains(&expected)), || format!("{expected}: {components:?}"))?;
    }
    // A demultiplexer that does not let go of what is its own dies for it, and the other one does not.
    let mark = running.mark();
    running.monitor("destroy 2")?;
    running.wait_for_since(mark, "component lan killed: it does not let go of vm2.1", SOON)?;
    web_answers(&running)?;
    running.must_not_say(mark, "component netmux")?;
    running.must_not_say(0, "component second ended itself")?;
    running.power_off()
}
