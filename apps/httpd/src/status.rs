//! The state of the VM, for people and for programs.

use core::fmt::{self, Write};
use core::time::Duration;

/// What `/status` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusPage {
    /// The VM's slot.
    pub vm: u32,
    /// Which of the VMs that have lived in that slot it is.
    pub incarnation: u32,
    /// Time since the VM was started.
    pub uptime: Duration,
    /// Bytes of memory that it may use, and bytes of its heap that it does use.
    pub memory_bytes: u64,
    /// See `memory_bytes`.
    pub heap_used_bytes: usize,
    /// Requests answered, this one included, and those of them answered with an error.
    pub requests: u64,
    /// See `requests`.
    pub errors: u64,
    /// Connections accepted, open now, and open with their handshake incomplete.
    pub accepted: u64,
    /// See `accepted`.
    pub open: usize,
    /// See `accepted`.
    pub half_open: usize,
    /// Counters by name.
    pub counters: [(&'static str, u64); 12],
}

impl StatusPage {
    /// One line for each value: name, colon, value.
    pub fn text(&self, to: &mut impl Write) -> fmt::Result {
        writeln!(to, "vm: {}", self.vm)?;
        writeln!(to, "incarnation: {}", self.incarnation)?;
        writeln!(to, "uptime_seconds: {}.{:03}", self.uptime.as_secs(), self.uptime.subsec_millis())?;
        self.numbers(|name, value| writeln!(to, "{name}: {value}"))
    }

    /// One object; numbers only.
    pub fn json(&self, to: &mut impl Write) -> fmt::Result {
        write!(to, "{{\"vm\":{},\"incarnation\":{}", self.vm, self.incarnation)?;
        write!(to, ",\"uptime_seconds\":{}.{:03}", self.uptime.as_secs(), self.uptime.subsec_millis())?;
        self.numbers(|name, value| write!(to, ",\"{name}\":{value}"))?;
        to.write_str("}\n")
    }

    /// The counter of this name; 0 where there is none.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value)
    }

    fn numbers(&self, mut each: impl FnMut(&str, u64) -> fmt::Result) -> fmt::Result {
        let size = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        each("memory_bytes", self.memory_bytes)?;
        each("heap_used_bytes", size(self.heap_used_bytes))?;
        each("requests", self.requests)?;
        each("errors", self.errors)?;
        each("connections_accepted", self.accepted)?;
        each("connections_open", size(self.open))?;
        each("connections_half_open", size(self.half_open))?;
        self.counters.iter().try_for_each(|(name, value)| each(name, *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    #[test]
    fn both_forms_show_the_same() {
        let mut counters = [("nic_rx_frames", 0); 12];
        counters[3] = ("nic_tx_bytes", 77);
        let page =
            StatusPage { vm: 5, uptime: Duration::from_millis(61_007), requests: 3, counters, ..Default::default() };
        let (mut text, mut json) = (String::new(), String::new());
        page.text(&mut text).expect("a String takes everything");
        page.json(&mut json).expect("a String takes everything");
        assert!(
            text.starts_with("vm: 5\nincarnation: 0\nuptime_seconds: 61.007\n")
                && text.contains("\nnic_tx_bytes: 77\n")
        );
        assert!(json.starts_with("{\"vm\":5,") && json.contains(",\"nic_tx_bytes\":77,") && json.ends_with("}\n"));
        assert_eq!(text.lines().count(), json.matches(':').count());
    }
}
