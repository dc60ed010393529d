//! Machines whose demultiplexer holds the clients, at a wire in the place of a NIC (`netmux/src/load.rs`).

use crate::build::build_bins;
use crate::error::{Result, fail};
use crate::manifest::model::{Bytes, Policy};
use crate::test::lab::{Boot, Lab, Running};
use std::time::{Duration, Instant};

/// The program that is netmux then.
const PROGRAM: &str = "netmux-load";
/// Its stack, in bytes.
const STACK: u64 = 256 << 10;
/// Emulators with a busy host take minutes for a second.
const PATIENCE: Duration = Duration::from_secs(900);

/// A machine with these boot options and clients that do what `plan` says, as the policy's name.
pub fn boot<'a>(lab: &'a Lab, options: &str, plan: &str) -> Result<Boot<'a>> {
    let programs = build_bins(&[PROGRAM.to_owned()])?;
    let Some(path) = programs.get(PROGRAM) else { fail!("{PROGRAM} was not built") };
    Ok(lab.boot(options).program(PROGRAM, path.clone()).system(|system| {
        for component in system.component.iter_mut().filter(|component| component.name == "netmux") {
            // Clients take more of it than a NIC.
            component.stack = Bytes(STACK);
            component.policies = vec![Policy { name: plan.to_owned(), module: PROGRAM.to_owned() }];
        }
    }))
}

/// The same with so many web servers, that start when they are asked for the first time.
pub fn servers<'a>(lab: &'a Lab, vms: u32, megs: u32, options: &str, plan: &str) -> Result<Boot<'a>> {
    let options = format!("vms=httpd*{vms} slots={vms} start=lazy net=10.0.2.16/16,gw=10.0.2.2 {options}");
    Ok(boot(lab, &options, plan)?.megs(megs).system(|system| {
        // Nobody outside asks them.
        system.image.iter_mut().for_each(|image| image.ports.clear());
    }))
}

/// So many lines in which the clients say what came of their requests. Fails at once when a component is killed, with which clients are gone.
pub fn outcomes(running: &Running, count: usize) -> Result<Vec<String>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let lines = running.said_since(0);
        if let Some(line) = lines.iter().find(|line| line.contains(" killed: ")) {
            fail!("the machine said: {line}");
        }
        let found: Vec<String> = lines.into_iter().filter(|line| line.contains("load: requests=")).collect();
        if found.len() >= count {
            return Ok(found);
        }
        if Instant::now() >= end {
            // Fails, with the end of the log.
            return running.wait_for_lines(count, "load: requests=", Duration::ZERO);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
