//! `size`: how much there is of each part.

mod lines;
#[cfg(test)]
mod unsafe_places;

pub use lines::{Size, count, count_file};

use crate::build::{CORES, LOADER};
use crate::error::{Context, Result, fail};
use crate::setup::{self, For};
use crate::stack::stacks;
use crate::test::lab::{BOOT, Lab};
use crate::workspace::{output, packages, root};
use std::path::Path;
use std::process::{Command, ExitCode};

/// The parts that run in VMX root mode, ring 0. `backend` is the trait between the first two, where it is a package.
pub const PRIVILEGED: [&str; 11] =
    ["core-vmx", "core-svm", "hv-core", "base", "backend", "vmx", "svm", "ring", "rate-limit", "boot-args", "abi"];
/// VMs of the machine whose frames are shown.
const VMS: usize = 8;

#[derive(clap::Args)]
pub struct Args {
    /// Do not boot a machine to see its frames
    #[arg(long)]
    no_boot: bool,
}

pub fn size(args: &Args) -> Result<ExitCode> {
    setup::setup(For::Run)?;
    println!("{:<12} {:>7} {:>14} {:>13}", "part", "lines", "unsafe blocks", "unsafe items");
    let mut all = Size::default();
    for package in packages()?.values() {
        let size = count(&package.dir.join("src"))?;
        all += size;
        println!("{:<12} {:>7} {:>14} {:>13}", package.name, size.lines, size.unsafe_blocks, size.unsafe_items);
    }
    println!("{:<12} {:>7} {:>14} {:>13}", "all", all.lines, all.unsafe_blocks, all.unsafe_items);
    println!("privileged_lines ({}): {}", PRIVILEGED.join(", "), privileged()?.lines);
    println!();
    let lab = Lab::new()?;
    println!("{:<14} {:>9} {:>9} {:>9}", "program", "text", "data", "bss");
    for name in std::iter::once(LOADER.to_owned()).chain(CORES.map(str::to_owned)).chain(lab.system.modules()) {
        let [text, data, bss] = sections(lab.program(&name)?)?;
        println!("{name:<14} {text:>9} {data:>9} {bss:>9}");
    }
    println!("\n{:<14} {:<15} {:>9} {:>9}", "program", "stack of", "bytes", "used most");
    let components = lab.system.component.iter().flat_map(|component| component.programs()).map(|policy| policy.module);
    for name in [LOADER].into_iter().chain(CORES).map(str::to_owned).chain(components) {
        for stack in stacks(&lab.system, &name, lab.program(&name)?)? {
            println!("{:<14} {:<15} {:>9} {:>9}", stack.program, stack.of, stack.bytes, stack.used);
        }
    }
    if !args.no_boot {
        println!("\nframes in use with {VMS} web servers:");
        for line in frames(&lab)? {
            println!("  {line}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The size of everything that runs in VMX root mode, ring 0.
pub fn privileged() -> Result<Size> {
    let packages = packages()?;
    let mut total = Size::default();
    for name in PRIVILEGED {
        let Some(package) = packages.get(name) else {
            if name == "backend" {
                continue;
            }
            fail!("there is no package `{name}`");
        };
        total += count(&package.dir.join("src"))?;
    }
    Ok(total)
}

/// The size of everything of the workspace that a program is built from, by the list that cargo leaves beside it.
pub fn linked(program: &Path) -> Result<Size> {
    let list = program.with_extension("d");
    let text = std::fs::read_to_string(&list).context(|| format!("cannot read {}", list.display()))?;
    let files = text.split_once(": ").map(|(_, files)| files).unwrap_or_default();
    let root = root();
    let ours =
        files.split_whitespace().map(Path::new).filter(|file| file.starts_with(&root) && !file.ends_with("build.rs"));
    let sources = ours.filter(|file| file.extension().is_some_and(|extension| extension == "rs" || extension == "s"));
    // What a build script includes is no part of the program.
    let sources = sources.filter(|file| !file.ends_with("link.rs"));
    sources.map(count_file).sum()
}

/// Bytes of a program's machine code.
pub fn text_bytes(program: &Path) -> Result<u64> {
    let text = output(Command::new("size").arg("-A").arg(program))?;
    let row = text.lines().find_map(|line| line.strip_prefix(".text ")).unwrap_or_default();
    let bytes = row.split_whitespace().next().unwrap_or_default();
    bytes.parse().context(|| format!("`size` said {text}"))
}

/// Bytes of text, data and bss of a program.
fn sections(program: &Path) -> Result<[u64; 3]> {
    let text = output(Command::new("size").arg("-B").arg(program))?;
    let numbers = text.lines().nth(1).unwrap_or_default().split_whitespace().take(3).map(str::parse::<u64>);
    let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().context(|| format!("`size` said {text}"))?;
    numbers.try_into().map_err(|_| format!("`size` said {text}").into())
}

/// What the monitor says about frames when all web servers answer.
fn frames(lab: &Lab) -> Result<Vec<String>> {
    let mut running = lab.boot(&format!("vms=httpd*{VMS}")).start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    let lines = running.monitor("frames")?;
    running.power_off()?;
    Ok(lines)
}
