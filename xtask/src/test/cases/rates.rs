//! Rates that `system.toml` says: of a VM, by its image, and of a tenant's VMs together.

use super::ensure;
use super::policies::{clock, seconds};
use crate::error::{Result, fail};
use crate::manifest::Bytes;
use crate::manifest::model::{Image, System, Tenant};
use crate::test::Case;
use crate::test::lab::{BOOT, Lab, Running};
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case {
        name: "policies: rates of images",
        asserts: "with net=token-bucket VMs of an image with rate= in system.toml send no faster, each for itself",
        run: of_an_image,
    },
    Case {
        name: "policies: rates of tenants",
        asserts: "the VMs of a tenant with rate= in system.toml send together no faster from the machine's start on, also when netmux was killed, and faster without it",
        run: of_a_tenant,
    },
];

/// Bytes of a document.
const DOCUMENT: f64 = 102_400.0;
/// What may be sent at once behind a pause.
const BURST: f64 = 65_536.0;

fn httpd(system: &mut System, change: impl FnOnce(&mut Image)) {
    if let Some(image) = system.image.iter_mut().find(|image| image.name == "httpd") {
        change(image);
    }
}

fn of_an_image(lab: &Lab) -> Result<()> {
    const RATE: f64 = 65_536.0;
    let boot = lab.boot("vms=httpd*2 net=token-bucket").system(|system| {
        httpd(system, |image| {
            image.rate = Some(Bytes(65_536));
            image.burst = Some(Bytes(8192));
        });
    });
    let mut running = boot.start()?;
    running.wait_for_services(BOOT)?;
    // The burst leaves at once.
    let least = (DOCUMENT - 8192.0) / RATE;
    for i in 0..2 {
        let took = seconds(&running, i)?;
        ensure((least..10.0 * least).contains(&took), || {
            format!("VM {i}: {took:.2} s, and at the limit it takes {least:.2} s")
        })?;
    }
    // Not together: two at once take no longer than one.
    let (both, one) = (together(&running, "/100k")?, seconds(&running, 0)?);
    ensure(both < 2.0 * one, || format!("both take {both:.2} s at once, and one {one:.2} s"))?;
    running.power_off()
}

/// How long both take to send a document each, at once, by the machine's clock.
fn together(running: &Running, path: &str) -> Result<f64> {
    let before = clock(running)?;
    let failed: Vec<String> = std::thread::scope(|scope| {
        let ask = |i: usize| {
            let answer = crate::http::get(running.services()[i], path, Duration::from_secs(120))?;
            ensure(answer.status == 200, || format!("VM {i} answers {}", answer.status))
        };
        let clients: Vec<_> = (0..2).map(|i| scope.spawn(move || ask(i))).collect();
        let ends = clients.into_iter().filter_map(|client| client.join().ok()?.err());
        ends.map(|error| error.to_string()).collect()
    });
    if !failed.is_empty() {
        fail!("{}", failed.join("; "));
    }
    Ok(clock(running)? - before)
}

fn of_a_tenant(lab: &Lab) -> Result<()> {
    const RATE: f64 = 200_000.0;
    let boot = lab.boot("vms=httpd*2").system(|system| {
        system.tenant.push(Tenant::new("blue", &[("rate", "200000")]));
        httpd(system, |image| image.tenant = Some("blue".into()));
    });
    let mut running = boot.start()?;
    running.wait_for_services(BOOT)?;
    let least = (2.0 * 1_024_000.0 - BURST) / RATE;
    for round in 0..2 {
        let took = together(&running, "/1000k")?;
        ensure((least..10.0 * least).contains(&took), || {
            format!("round {round}: both take {took:.2} s, and at the limit {least:.2} s")
        })?;
        running.monitor("kill netmux")?;
    }
    // As soon as nobody limits them they are faster.
    running.monitor("tenants blue rate=unlimited")?;
    let took = together(&running, "/1000k")?;
    ensure(took < least, || format!("without a limit both take {took:.2} s, and with one {least:.2} s"))?;
    running.must_not_say(0, " ended: ")?;
    running.power_off()
}
