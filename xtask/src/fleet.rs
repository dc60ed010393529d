//! A fleet file on the boot medium: it lies in the program of the operator's VM, in a place that is kept for it.

use crate::error::{Context, Result, fail};
use std::path::Path;

/// What the place begins with, in front of a length of 32 bits and the bytes of the file.
const MARK: &[u8; 16] = b"FORAKER-FLEET-01";
/// Bytes of a file at most: those of `supervisor-vm/src/medium_fleet.rs`.
const MOST: usize = 64 * 1024;

/// A fleet file.
///
/// # Errors
/// It cannot be read, is no text, or too long.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).context(|| format!("--fleet {}: cannot read it", path.display()))?;
    if std::str::from_utf8(&bytes).is_err() {
        fail!("--fleet {}: it is no text: give a file as `fleet apply` takes it", path.display());
    }
    if bytes.is_empty() || bytes.len() > MOST {
        fail!(
            "--fleet {}: it has {} bytes, and 1 to {MOST} have room on the boot medium: `ssh ... fleet apply` takes longer ones",
            path.display(),
            bytes.len()
        );
    }
    Ok(bytes)
}

/// Puts a file into a program that has a place for it.
///
/// # Errors
/// It has none, or more than one.
pub fn put(program: &mut [u8], file: &[u8]) -> Result<()> {
    let places: Vec<usize> =
        program.windows(MARK.len()).enumerate().filter(|(_, part)| part == MARK).map(|(at, _)| at).collect();
    let [place] = places[..] else {
        fail!(
            "the program of the operator's VM has {} places for a fleet file: build it from these sources",
            places.len()
        );
    };
    let length = u32::try_from(file.len()).context(|| "the fleet file is too long".into())?;
    let at = place + MARK.len();
    let whole = [&length.to_le_bytes(), file].concat();
    match program.get_mut(at..at + whole.len()).filter(|_| file.len() <= MOST) {
        Some(room) => room.copy_from_slice(&whole),
        None => fail!("the fleet file does not fit into the program of the operator's VM"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::scratch;

    #[test]
    fn a_file_is_put_where_its_place_is() {
        let mut program = vec![1; 100_000];
        assert!(put(&mut program, b"a").unwrap_err().to_string().contains("has 0 places"));
        program[40..56].copy_from_slice(MARK);
        put(&mut program, b"[[vm]]").unwrap();
        assert_eq!(program[55..67], *b"1\x06\0\0\0[[vm]]\x01");
        assert!(put(&mut program, &vec![0; MOST + 1]).is_err());
        program[99_990..].copy_from_slice(&MARK[..10]);
        put(&mut program, b"b").unwrap();
        program[90_000..90_016].copy_from_slice(MARK);
        assert!(put(&mut program, b"a").unwrap_err().to_string().contains("has 2 places"));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = scratch("fleet").unwrap();
        let path = dir.path().join("vms.toml");
        let refused = || read(&path).unwrap_err().to_string();
        assert!(refused().contains("cannot read it"));
        for (bytes, says) in [
            (vec![], "it has 0 bytes"),
            (vec![0xff], "it is no text"),
            (vec![b'#'; MOST + 1], "65537 bytes, and 1 to 65536"),
        ] {
            std::fs::write(&path, &bytes).unwrap();
            assert!(refused().contains(says), "{}", refused());
        }
        std::fs::write(&path, vec![b'#'; MOST]).unwrap();
        assert_eq!(read(&path).unwrap().len(), MOST);
    }
}
