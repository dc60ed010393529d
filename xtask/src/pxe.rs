//! `pxe`: the tree for booting over the network.

use crate::build::build;
use crate::error::Result;
use crate::image::{BootFiles, Contents};
use crate::manifest;
use crate::setup::{self, For};
use crate::workspace::{out, root};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Args {
    /// Where to write it [default: target/pxe]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn pxe(args: &Args) -> Result<ExitCode> {
    setup::setup(For::Run)?;
    let system = manifest::load(&root().join("system.toml"))?;
    let contents = Contents::new(&system, &build(&system)?)?;
    let path = match &args.output {
        Some(path) => path.clone(),
        None => out("pxe")?,
    };
    let BootFiles { bios, uefi } = contents.make_net_tree(&path)?;
    println!("{}: give this folder to the TFTP server; the boot file is {bios}, with UEFI {uefi}", path.display());
    Ok(ExitCode::SUCCESS)
}
