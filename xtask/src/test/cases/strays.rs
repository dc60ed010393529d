//! What a VM has written, looked for in all memory of a machine: nobody else may have it, and no frame that is free.

use super::ensure;
use crate::error::{Context, Result};
use crate::test::lab::{Running, number};
use crate::workspace;
use std::time::Duration;

/// How long the machine is left alone before it is looked a second time.
const SETTLED: Duration = Duration::from_secs(2);

/// Whose a frame is.
struct Owner {
    at: usize,
    line: String,
    vm: Option<u64>,
    /// Swap has the pages of whoever goes out.
    is_components: bool,
}

impl Owner {
    fn is(&self, vm: usize) -> bool {
        self.vm == Some(vm as u64)
    }
}

/// Whose the frame at an address is; `None` for text and tables of the core, which nobody can have.
fn owner(running: &Running, at: usize) -> Result<Option<Owner>> {
    let lines = running.monitor(&format!("frames {at:#x}"))?;
    let line = lines.into_iter().find(|line| line.contains(" owner="));
    Ok(line.map(|line| {
        // Behind the log's time, which differs.
        let line = line[line.find("frame address=").unwrap_or(0)..].to_owned();
        let vm = if line.contains("owner=vm-") { number(&line, "index") } else { None };
        let is_components = ["owner=components ", "owner=core "].iter().any(|owner| line.contains(owner));
        Owner { at, vm, is_components, line }
    }))
}

/// Where in the machine's memory of `megs` MiB something is that `find` knows: addresses, and whose it is.
fn found(running: &mut Running, megs: u32, find: impl Fn(&[u8]) -> Vec<(usize, usize)>) -> Result<Vec<(usize, usize)>> {
    let file = workspace::out("secrets")?.join(format!("memory-{}", std::process::id()));
    running.machine().emulator(&format!("pmemsave 0 {} \"{}\"", u64::from(megs) << 20, file.display()))?;
    let memory = std::fs::read(&file).context(|| format!("cannot read {}", file.display()));
    let _ = std::fs::remove_file(&file);
    Ok(find(&memory?))
}

/// Looks with `find` for what VMs have written: addresses in all memory, and by which VM. How often it is with the one who has written it.
///
/// # Errors
/// Somebody else has it, or nobody.
pub fn none_in(running: &mut Running, megs: u32, find: impl Fn(&[u8]) -> Vec<(usize, usize)>) -> Result<usize> {
    let mut own = 0;
    let mut strange = Vec::new();
    for (at, vm) in found(running, megs, &find)? {
        let Some(owner) = owner(running, at)? else { continue };
        own += usize::from(owner.is(vm));
        if !owner.is(vm) && !owner.is_components {
            strange.push((at, vm));
        }
    }
    // VMs go out and come in meanwhile, since each has an alarm some time: a frame may be somebody else's when it is asked for,
    // and who comes in is given frames before they are filled. What is there as long as its owner is the same was left there.
    if !strange.is_empty() {
        std::thread::sleep(SETTLED);
        let before: Vec<_> = strange.into_iter().map(|(at, _)| owner(running, at)).collect::<Result<_>>()?;
        let still = found(running, megs, &find)?;
        for ((at, vm), before) in
            still.into_iter().filter_map(|hit| Some((hit, before.iter().flatten().find(|owner| owner.at == hit.0)?)))
        {
            let left = !before.is(vm) && !before.is_components;
            let same = left && owner(running, at)?.is_some_and(|after| after.line == before.line);
            ensure(!same, || format!("what VM {vm} has written is at {at:#x}: {}", before.line))?;
        }
    }
    Ok(own)
}
