//! The machine tests.
//!
//! A new group is a file with a `pub const CASES: &[Case]` and a line in [`all`]. Each case boots machines of its own from the
//! [`Lab`](super::lab::Lab) and returns a sentence when something is not as it says.

mod apps;
mod asm_guest;
mod boot;
mod browser;
mod clients;
mod command;
mod components;
mod control;
pub mod crowd;
pub mod culprits;
mod disk_faults;
mod disks;
mod elf;
mod every_door;
mod far_peers;
mod fatal;
mod files;
mod files_out;
mod frames;
mod full_pool;
mod guest_disks;
mod guest_fuzz;
mod hardware;
pub mod hoarders;
mod hostile;
mod identity;
mod idle_clients;
mod ipv6;
mod killed;
mod lazy;
mod many;
mod net_boot;
mod nic;
mod noise;
pub mod on_disk;
mod on_disk_faults;
mod peer;
mod peers;
mod policies;
pub mod pooled;
pub mod power_cuts;
mod rates;
mod recovery;
mod services;
mod single_pages;
mod snapshots;
mod stacks;
mod state;
mod strays;
pub mod supervisor;
mod supervisor_clock;
mod supervisor_console;
mod supervisor_crowd;
mod supervisor_disk_file;
mod supervisor_disks;
mod supervisor_fleet;
mod supervisor_http;
mod supervisor_images;
mod supervisor_log;
mod supervisor_page;
mod supervisor_schema;
mod supervisor_seat;
mod supervisor_shelf;
mod supervisor_state;
mod supervisor_tenants;
mod supervisor_terminal;
mod supervisor_two;
mod swap;
mod uefi;
mod web;

use super::Case;
use crate::machine::Kind;
use crate::setup::is_root;
use crate::workspace::has_program;

/// All machine tests in the order in which they run; those that take root only for root, that with a browser only where it is,
/// and those that take minutes only where they are asked for.
pub fn all(long: bool) -> Vec<Case> {
    let is_root = is_root().unwrap_or(false);
    let has_tools = clients::TOOLS.iter().all(|(program, _)| has_program(program));
    let takes_root =
        if is_root { [command::ROOT_CASES, many::ROOT_CASES, clients::CASES].concat() } else { Vec::new() };
    let takes_tools = if is_root && has_tools { clients::TOOL_CASES } else { &[] };
    [
        stacks::CASES,
        boot::CASES,
        fatal::CASES,
        asm_guest::CASES,
        web::CASES,
        if has_program(browser::PROGRAM) { browser::CASES } else { &[] },
        apps::CASES,
        nic::CASES,
        frames::CASES,
        peers::CASES,
        far_peers::CASES,
        recovery::CASES,
        services::CASES,
        state::CASES,
        identity::CASES,
        ipv6::CASES,
        policies::CASES,
        rates::CASES,
        on_disk::CASES,
        on_disk_faults::CASES,
        pooled::CASES,
        if long { pooled::LONG_CASES } else { &[] },
        killed::CASES,
        noise::CASES,
        if long { killed::LONG_CASES } else { &[] },
        swap::CASES,
        if long { swap::LONG_CASES } else { &[] },
        components::CASES,
        control::CASES,
        if has_program(supervisor::PROGRAM) { supervisor::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) { supervisor_crowd::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) { supervisor_disks::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) { supervisor_disk_file::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) { supervisor_console::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) { supervisor_fleet::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) { supervisor_http::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) && has_program(supervisor_http::JUDGE) {
            supervisor_http::JUDGED_CASES
        } else {
            &[]
        },
        if has_program(supervisor::PROGRAM) { supervisor_images::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) { supervisor_page::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) { supervisor_schema::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) { supervisor_two::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) { supervisor_state::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) { supervisor_tenants::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) { supervisor_clock::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) { supervisor_log::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) { supervisor_shelf::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) { supervisor_terminal::CASES } else { &[] },
        if has_program(supervisor::PROGRAM) && has_program(browser::PROGRAM) { browser::OPERATOR_CASES } else { &[] },
        disks::CASES,
        disk_faults::CASES,
        guest_disks::CASES,
        if long { guest_disks::LONG_CASES } else { &[] },
        snapshots::CASES,
        power_cuts::CASES,
        if long { power_cuts::LONG_CASES } else { &[] },
        files::CASES,
        files_out::CASES,
        culprits::CASES,
        hostile::CASES,
        guest_fuzz::CASES,
        if long { guest_fuzz::LONG_CASES } else { &[] },
        uefi::CASES,
        net_boot::CASES,
        hardware::CASES,
        hoarders::CASES,
        idle_clients::CASES,
        single_pages::CASES,
        lazy::CASES,
        every_door::CASES,
        full_pool::CASES,
        crowd::CASES,
        command::CASES,
        &takes_root,
        if is_root && long { many::LONG_ROOT_CASES } else { &[] },
        takes_tools,
    ]
    .concat()
}

/// Whether a case can run on a machine of this kind. Processors that lack something are Bochs' models; on QEMU the same is
/// said of AMD's.
pub fn runs_on(case: &Case, kind: Kind) -> bool {
    const BOCHS_MODELS: [&str; 5] = [
        "fatal: no long mode",
        "fatal: no virtualization",
        "fatal: no unrestricted guest",
        "fatal: no EPT",
        "fatal: CPU feature",
    ];
    const QEMU_MODELS: [&str; 2] = ["fatal: no SVM", "fatal: no nested paging"];
    let others = if kind == Kind::Bochs { &QEMU_MODELS[..] } else { &BOCHS_MODELS[..] };
    !others.contains(&case.name)
}

/// Whether a case is to run on this machine, one of `kinds`. What chooses its machine by itself, or tests `run`, runs once, on
/// the first of them. What is above the machine (guests, components, whoever talks to them) runs on the last of them, and with
/// `long` on each.
pub fn runs_among(case: &Case, kind: Kind, kinds: &[Kind], long: bool) -> bool {
    const ONCE: [&str; 4] = ["qemu: ", "nic: ", "run: ", "stacks: "];
    const ABOVE: [&str; 11] = [
        "web: ",
        "clients: ",
        "apps: ",
        "peers: ",
        "supervisor: ",
        "control: ",
        "policies: ",
        "swap: ",
        "components: ",
        "lazy: ",
        "ipv6: ",
    ];
    let of = |groups: &[&str]| groups.iter().any(|group| case.name.starts_with(group));
    match kind {
        _ if of(&ONCE) => kinds.first() == Some(&kind),
        _ if of(&ABOVE) => long || kinds.last() == Some(&kind),
        _ => true,
    }
}

/// A line for each reason why tests are left out, with their names.
pub fn left_out() -> Vec<String> {
    let line = |why: &str, cases: &[Case]| {
        let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
        format!("left out, since {why}: {}", names.join(", "))
    };
    let mut lines = Vec::new();
    if !is_root().unwrap_or(false) {
        lines.push(line(
            "they take root",
            &[command::ROOT_CASES, many::ROOT_CASES, clients::CASES, clients::TOOL_CASES].concat(),
        ));
    }
    let missing = clients::TOOLS.iter().filter(|(program, _)| !has_program(program));
    let packages: Vec<&str> = missing.map(|&(_, package)| package).collect();
    if !packages.is_empty() {
        lines.push(line(&format!("Debian's packages {} are not installed", packages.join(", ")), clients::TOOL_CASES));
    }
    if !has_program(supervisor::PROGRAM) {
        for cases in [supervisor::CASES, supervisor_page::CASES] {
            lines.push(line("OpenSSH's client is not installed (Debian's package openssh-client)", cases));
        }
    }
    if !has_program(supervisor_http::JUDGE) {
        lines.push(line("promtool is not installed (Debian's package prometheus)", supervisor_http::JUDGED_CASES));
    }
    if !has_program(browser::PROGRAM) {
        let cases = [browser::CASES, browser::OPERATOR_CASES].concat();
        lines.push(line("Chromium is not installed (Debian's package chromium)", &cases));
    }
    lines
}

/// Fails with a sentence unless `good`.
fn ensure(good: bool, otherwise: impl FnOnce() -> String) -> crate::error::Result<()> {
    if good { Ok(()) } else { Err(otherwise().into()) }
}
