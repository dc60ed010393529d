//! `build-iso`: the bootable image.

use crate::error::Result;
use crate::medium;
use crate::workspace::out;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Args {
    /// Where to write it [default: target/foraker.iso]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    #[command(flatten)]
    medium: medium::Given,
}

pub fn build_iso(args: &Args) -> Result<ExitCode> {
    let contents = args.medium.contents()?;
    let path = match &args.output {
        Some(path) => path.clone(),
        None => out("")?.join("foraker.iso"),
    };
    contents.make_iso(&path)?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}
