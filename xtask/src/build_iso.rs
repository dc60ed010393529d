//! `build-iso`: the bootable image.

use crate::build::build;
use crate::error::Result;
use crate::fleet;
use crate::image::Contents;
use crate::manifest;
use crate::setup::{self, For};
use crate::workspace::{out, root};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Args {
    /// Where to write it [default: target/foraker.iso]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Let the operator's VM make the VMs of this fleet file when it starts, as `fleet apply` does
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
}

pub fn build_iso(args: &Args) -> Result<ExitCode> {
    let file = args.fleet.as_deref().map(fleet::read).transpose()?;
    setup::setup(For::Run)?;
    let system = manifest::load(&root().join("system.toml"))?;
    let mut contents = Contents::new(&system, &build(&system)?)?;
    if let Some(file) = file {
        contents = contents.with_fleet(&file)?;
    }
    let path = match &args.output {
        Some(path) => path.clone(),
        None => out("")?.join("foraker.iso"),
    };
    contents.make_iso(&path)?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}
