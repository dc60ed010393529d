//! What `build-iso` and `pxe` put on a medium: the programs of these sources, and what somebody gives with them.

use crate::build::build;
use crate::carried::{self, Files};
use crate::error::Result;
use crate::fleet;
use crate::image::Contents;
use crate::manifest;
use crate::setup::{self, For};
use crate::workspace::root;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Given {
    #[command(flatten)]
    operator: fleet::Files,
    /// Let web servers serve the files of a folder: they lie in memory, and machines need no disks for them
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
}

impl Given {
    /// Builds all of it. What somebody gives is looked at before that.
    pub fn contents(&self) -> Result<Contents> {
        let texts = self.operator.read()?;
        setup::setup(For::Run)?;
        let files = self.files.as_deref().map(Files::of).transpose()?;
        let mut system = manifest::load(&root().join("system.toml"))?;
        let mut programs = build(&system)?;
        if let Some(files) = &files {
            files.attach(&mut system)?;
            programs.insert(carried::IMAGE.to_owned(), files.build()?);
        }
        let contents = Contents::new(&system, &programs)?;
        contents.with_texts(texts)
    }
}

#[cfg(test)]
mod tests {
    #[derive(clap::Parser)]
    #[command(no_binary_name = true)]
    enum Line {
        BuildIso(crate::build_iso::Args),
        Pxe(crate::pxe::Args),
    }

    fn refused(verb: &str, option: &str, file: &std::path::Path) -> String {
        let words = [verb, option, file.to_str().unwrap()];
        let done = match <Line as clap::Parser>::try_parse_from(words).unwrap() {
            Line::BuildIso(args) => crate::build_iso::build_iso(&args),
            Line::Pxe(args) => crate::pxe::pxe(&args),
        };
        format!("{:?}", done.map(drop).unwrap_err())
    }

    #[test]
    fn an_image_and_a_tree_take_a_fleet_file_and_files_and_refuse_what_is_none_before_anything_is_built() {
        let dir = crate::workspace::scratch("medium").unwrap();
        let long = dir.path().join("vms.toml");
        std::fs::write(&long, "#".repeat((64 << 10) + 1)).unwrap();
        for verb in ["build-iso", "pxe"] {
            assert!(refused(verb, "--fleet", &dir.path().join("none")).contains("cannot read it"));
            assert!(refused(verb, "--fleet", &long).contains("have room on the boot medium"));
            assert!(refused(verb, "--script", &dir.path().join("none")).contains("--script"));
            assert!(refused(verb, "--files", &dir.path().join("none")).contains("is no folder: give one"));
        }
    }
}
