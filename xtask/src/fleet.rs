//! What the boot medium has for the operator's VM: a fleet file, a script, and the quotas of virtual disks in `system.toml`. It lies in that VM's program, in a
//! place that is kept for it.

use crate::error::{Context, Result, fail};
use crate::manifest::model::System;
use std::path::{Path, PathBuf};

/// What the place begins with, in front of three lengths of 32 bits and the bytes of the texts.
const MARK: &[u8; 16] = b"FORAKER-FLEET-02";
/// Bytes of the texts at most, together: those of `supervisor-vm/src/medium.rs`.
const MOST: usize = 64 * 1024;
/// The texts.
const TEXTS: usize = 3;

/// What somebody gives the operator's VM.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Files {
    /// Let the operator's VM make the VMs of this fleet file when it starts, as `fleet apply` does
    #[arg(long, value_name = "FILE")]
    pub fleet: Option<PathBuf>,
    /// Let the operator's VM carry out the commands of this file when the machine has started, up to the first that fails
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
}

/// What the place holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// A fleet file.
    pub fleet: Vec<u8>,
    /// Commands.
    pub script: Vec<u8>,
    /// A fleet file with the quotas of `system.toml` that only the operator's VM knows.
    pub quotas: Vec<u8>,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// One cannot be read, is no text, or they are too long.
    pub fn read(&self) -> Result<Texts> {
        let fleet = self.fleet.as_deref().map_or(Ok(Vec::new()), |path| read("--fleet", path))?;
        let script = self.script.as_deref().map_or(Ok(Vec::new()), |path| read("--script", path))?;
        let bytes = fleet.len() + script.len();
        if bytes > MOST {
            fail!(
                "--fleet and --script: they have {bytes} bytes, and {MOST} have room on the boot medium: `ssh ... fleet apply` and `ssh ... < FILE` take longer ones"
            );
        }
        Ok(Texts { fleet, script, quotas: Vec::new() })
    }
}

impl Texts {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Texts::default()
    }

    /// The same with the quotas of a system's virtual disks.
    pub fn with_quotas(&self, system: &System) -> Texts {
        let of = |tenant: &crate::manifest::model::Tenant| {
            tenant.quota.get("disk").map(|most| format!("[tenant.{}]\ndisk = \"{most}\"\n", tenant.name))
        };
        let quotas: String = system.tenant.iter().filter_map(of).collect();
        Texts { quotas: quotas.into_bytes(), ..self.clone() }
    }
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).context(|| format!("{option} {}: cannot read it", path.display()))?;
    if std::str::from_utf8(&bytes).is_err() {
        fail!("{option} {}: it is no text: give a file as the operator's VM takes it", path.display());
    }
    if bytes.is_empty() || bytes.len() > MOST {
        fail!(
            "{option} {}: it has {} bytes, and 1 to {MOST} have room on the boot medium: over SSH it may be longer",
            path.display(),
            bytes.len()
        );
    }
    Ok(bytes)
}

/// Puts the texts into a program that has a place for them.
///
/// # Errors
/// It has none, or more than one, or they are too long.
pub fn put(program: &mut [u8], texts: &Texts) -> Result<()> {
    let places: Vec<usize> =
        program.windows(MARK.len()).enumerate().filter(|(_, part)| part == MARK).map(|(at, _)| at).collect();
    let [place] = places[..] else {
        fail!(
            "the program of the operator's VM has {} places for a fleet file: build it from these sources",
            places.len()
        );
    };
    let texts = [&texts.fleet[..], &texts.script, &texts.quotas];
    let mut whole = Vec::new();
    for text in texts {
        whole.extend(u32::try_from(text.len()).context(|| "a text is too long".into())?.to_le_bytes());
    }
    whole.extend(texts.concat());
    let at = place + MARK.len();
    match program.get_mut(at..at + whole.len()).filter(|_| whole.len() <= 4 * TEXTS + MOST) {
        Some(room) => room.copy_from_slice(&whole),
        None => fail!(
            "the fleet file, the script and the quotas of virtual disks in system.toml do not fit into the program of the operator's VM: {MOST} bytes have room"
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::model::Tenant;
    use crate::workspace::{root, scratch};

    #[test]
    fn texts_are_put_where_their_place_is() {
        let texts =
            |fleet: &[u8], script: &[u8]| Texts { fleet: fleet.to_vec(), script: script.to_vec(), quotas: vec![7] };
        let mut program = vec![1; 100_000];
        assert!(put(&mut program, &texts(b"a", b"")).unwrap_err().to_string().contains("has 0 places"));
        program[40..56].copy_from_slice(MARK);
        put(&mut program, &texts(b"[[vm]]", b"vm list")).unwrap();
        assert_eq!(program[55..83], *b"2\x06\0\0\0\x07\0\0\0\x01\0\0\0[[vm]]vm list\x07\x01");
        assert!(put(&mut program, &texts(&vec![0; MOST - 3], b"xyz")).is_err());
        put(&mut program, &texts(&vec![0; MOST - 4], b"xyz")).unwrap();
        program[99_990..].copy_from_slice(&MARK[..10]);
        put(&mut program, &texts(b"b", b"")).unwrap();
        program[90_000..90_016].copy_from_slice(MARK);
        assert!(put(&mut program, &texts(b"a", b"")).unwrap_err().to_string().contains("has 2 places"));
    }

    #[test]
    fn quotas_of_disks_are_a_fleet_file() {
        let mut system = crate::manifest::load(&root().join("system.toml")).unwrap();
        assert!(Texts::default().with_quotas(&system).is_empty());
        system.tenant =
            vec![Tenant::new("blue", &[("disk", "1GiB"), ("vms", "3")]), Tenant::new("red", &[("vms", "1")])];
        assert_eq!(Texts::default().with_quotas(&system).quotas, b"[tenant.blue]\ndisk = \"1GiB\"\n");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = scratch("fleet").unwrap();
        let path = dir.path().join("vms.toml");
        let files = |fleet: bool, script: bool| {
            let path = |there: bool| there.then(|| path.clone());
            Files { fleet: path(fleet), script: path(script) }.read()
        };
        let refused = |fleet, script| files(fleet, script).unwrap_err().to_string();
        assert!(refused(true, false).contains("--fleet") && refused(false, true).contains("cannot read it"));
        for (bytes, says) in [
            (vec![], "it has 0 bytes"),
            (vec![0xff], "it is no text"),
            (vec![b'#'; MOST + 1], "65537 bytes, and 1 to 65536"),
        ] {
            std::fs::write(&path, &bytes).unwrap();
            assert!(refused(false, true).contains(says), "{}", refused(false, true));
        }
        std::fs::write(&path, vec![b'#'; MOST]).unwrap();
        assert_eq!(files(true, false).unwrap().fleet.len(), MOST);
        assert!(refused(true, true).contains("they have 131072 bytes"), "{}", refused(true, true));
    }
}
