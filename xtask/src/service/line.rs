//! What a line of the machine's log tells about VMs.

/// A line that tells something about VMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// The VM in this slot has said something on its console. Only the first VMs of their slots count, here and below: they are
    /// those that the boot options ask for.
    Said(usize, &'a str),
    /// It has ended, for this reason and with this detail.
    Ended(usize, &'a str, u64),
    /// The image of this name cannot be used, for this reason.
    Refused(&'a str, &'a str),
    /// So many VMs are not created, for this reason.
    NotCreated(usize, &'a str),
    /// The monitor takes commands.
    MonitorReady,
    /// The monitor lists the VM in this slot in this state.
    Listed(usize, &'a str),
    /// The monitor has listed all VMs.
    AllListed,
    /// The monitor counts VMs: so many live, and of these so many wait for admission.
    Counted(usize, usize),
    /// The core cannot go on.
    Fatal,
}

/// Reads `[    0.123456] INFO  guest: vm0.1: hello`. A guest writes only behind its own name, so it cannot speak for another, nor for
/// the core.
pub fn read(line: &str) -> Option<Line<'_>> {
    match record(line) {
        Some((target, said)) => tells(target, said),
        // It stands on a line of its own, perhaps behind what firmware or loader have left there.
        None => line.contains("FATAL F").then_some(Line::Fatal),
    }
}

/// Who speaks in a line of the log, and what.
fn record(line: &str) -> Option<(&str, &str)> {
    let (_, line) = line.strip_prefix('[')?.split_once("] ")?;
    let (_, line) = line.split_once(' ')?;
    line.trim_start().split_once(": ")
}

fn tells<'a>(target: &str, said: &'a str) -> Option<Line<'a>> {
    match target {
        "guest" => {
            let (name, text) = said.split_once(": ").or_else(|| said.strip_suffix(':').map(|name| (name, "")))?;
            Some(Line::Said(first_of_slot(name)?, text))
        }
        "core" => core(said),
        "component" => monitor(said.strip_prefix("monitor: ")?),
        _ => None,
    }
}

fn core(said: &str) -> Option<Line<'_>> {
    if let Some((name, reason)) = said.split_once(" ended: ") {
        let (reason, rest) = reason.split_once(" (detail 0x")?;
        let detail = u64::from_str_radix(rest.split([',', ')']).next()?, 16).ok()?;
        return Some(Line::Ended(first_of_slot(name)?, reason, detail));
    }
    if let Some((name, reason)) = said.strip_prefix("image ").and_then(|said| said.split_once(": ")) {
        let reason = reason.split_once("; its VMs cannot be created").map_or(reason, |(reason, _)| reason);
        return Some(Line::Refused(name, reason));
    }
    let (count, rest) = said.split_once(" VMs of image ")?;
    let (_, reason) = rest.split_once(" are not created: ")?;
    Some(Line::NotCreated(count.parse().ok()?, reason))
}

fn monitor(said: &str) -> Option<Line<'_>> {
    if said == "done vms" {
        return Some(Line::AllListed);
    }
    if said.starts_with("ready ") {
        return Some(Line::MonitorReady);
    }
    let value = |key: &str| said.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    if said.starts_with("wakes ") {
        return Some(Line::Counted(value("living")?.parse().ok()?, value("waiting")?.parse().ok()?));
    }
    said.strip_prefix("vm ")?;
    (value("incarnation")? == "1").then_some(())?;
    Some(Line::Listed(value("index")?.parse().ok()?, value("state")?))
}

/// The slot in `vm3.1`, the name of the first VM in slot 3.
fn first_of_slot(name: &str) -> Option<usize> {
    name.strip_prefix("vm")?.strip_suffix(".1")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_tell_something() {
        let told = [
            (
                "[    0.172442] INFO  guest: vm1.1: httpd: serving http://10.0.2.17/ (vm 1)",
                Line::Said(1, "httpd: serving http://10.0.2.17/ (vm 1)"),
            ),
            ("[    0.172442] INFO  guest: vm1.1: ", Line::Said(1, "")),
            (
                "[    1.000000] INFO  core: vm12.1 ended: exited (detail 0x2a, rip 0x401000; 0 such lines left out)",
                Line::Ended(12, "exited", 42),
            ),
            (
                "[    1.000000] ERROR core: image httpd: its module is refused: not an ELF file; its VMs cannot be created; rebuild it and add it to the boot entry",
                Line::Refused("httpd", "its module is refused: not an ELF file"),
            ),
            (
                "[    1.000000] ERROR core: 3 VMs of image 0 are not created: every slot is taken; end some",
                Line::NotCreated(3, "every slot is taken; end some"),
            ),
            (
                "[    2.000000] INFO  component: monitor: vm index=3 incarnation=1 image=httpd state=idle memory_frames=12 ran_ticks=1",
                Line::Listed(3, "idle"),
            ),
            ("[    2.000000] INFO  component: monitor: done vms", Line::AllListed),
            ("[    0.246400] INFO  component: monitor: ready incarnation=1", Line::MonitorReady),
            ("FATAL F001: no 64-bit mode", Line::Fatal),
            ("\u{1b}[0;37;40mFATAL F010: the processor has neither", Line::Fatal),
        ];
        for (line, expected) in told {
            assert_eq!(read(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn guests_speak_for_themselves_only() {
        let line = read("[    1.000000] INFO  guest: vm1.1: core: vm0.1 ended: exited");
        assert_eq!(line, Some(Line::Said(1, "core: vm0.1 ended: exited")));
        let line = read("[    1.000000] INFO  guest: vm1.1: FATAL F010: ");
        assert_eq!(line, Some(Line::Said(1, "FATAL F010: ")));
    }

    #[test]
    fn everything_else_tells_nothing() {
        for line in [
            "",
            "[",
            "[    1.000000] ",
            "GRUB loading.",
            "[    1.000000] INFO  guest: vm1.2: a later VM in that slot",
            "[    1.000000] INFO  core: vm1.2 ended: exited",
            "[    1.000000] INFO  core: netmux: PCI 00:03.0, INTx",
            "[    1.000000] INFO  component: monitor: vm index=0 incarnation=2 image=httpd state=idle",
            "[    1.000000] INFO  component: netmux: policy=round-robin incarnation=1 slots=4127",
            "[    1.000000] INFO  component: monitor: done poweroff",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
