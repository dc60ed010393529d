//! `pxe`: the tree for booting over the network.

use crate::error::Result;
use crate::image::BootFiles;
use crate::medium;
use crate::workspace::out;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Args {
    /// Where to write it [default: target/pxe]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    medium: medium::Given,
}

pub fn pxe(args: &Args) -> Result<ExitCode> {
    let contents = args.medium.contents()?;
    let path = match &args.output {
        Some(path) => path.clone(),
        None => out("pxe")?,
    };
    let BootFiles { bios, uefi } = contents.make_net_tree(&path)?;
    println!("{}: give this folder to the TFTP server; the boot file is {bios}, with UEFI {uefi}", path.display());
    Ok(ExitCode::SUCCESS)
}
