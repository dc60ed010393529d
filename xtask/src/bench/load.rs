//! Machines whose demultiplexer holds the clients, at a wire in the place of a NIC (`netmux/src/load.rs`).

use crate::build::build_bins;
use crate::error::{Result, fail};
use crate::manifest::model::Policy;
use crate::test::lab::{Boot, Lab};

/// The program that is netmux then.
const PROGRAM: &str = "netmux-load";

/// A machine with these boot options and clients that do what `plan` says, as the policy's name.
pub fn boot<'a>(lab: &'a Lab, options: &str, plan: &str) -> Result<Boot<'a>> {
    let programs = build_bins(&[PROGRAM.to_owned()])?;
    let Some(path) = programs.get(PROGRAM) else { fail!("{PROGRAM} was not built") };
    Ok(lab.boot(options).program(PROGRAM, path.clone()).system(|system| {
        for component in system.component.iter_mut().filter(|component| component.name == "netmux") {
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
