//! What people write and read of what the core knows by numbers: in `system.toml`, on command lines, in lists.

use crate::attachment::{Attachment, mode};
use crate::control::vm_state;
use crate::limits::Name;
use crate::sched::Admission;
use crate::service::Service;

/// The word for a state, which operators see everywhere.
pub const fn state_word(state: u16) -> &'static str {
    match state {
        vm_state::WAITING => "waiting",
        vm_state::READY => "ready",
        vm_state::IDLE => "idle",
        vm_state::FAULT => "fault",
        vm_state::ENDING => "ending",
        vm_state::OUT => "out",
        vm_state::LEAVING => "leaving",
        vm_state::COMING => "coming",
        vm_state::POOLED => "out-memory",
        vm_state::ON_DISK => "out-disk",
        vm_state::PAUSED => "paused",
        _ => "unknown",
    }
}

impl Service {
    /// What `system.toml` calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Service::Net => "net",
            Service::Pager => "pager",
            Service::Plan => "plan",
            Service::Control => "control",
            Service::Swap => "swap",
            Service::Disk => "disk",
        }
    }
}

impl Admission {
    /// The one of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().zip(Self::NAMES).find(|(_, its)| *its == name).map(|(one, _)| one)
    }
}

impl Attachment {
    /// What `NAME` or `NAME:ro` says; `None` for what is no such thing.
    pub fn parse(text: &str) -> Option<Attachment> {
        let (name, mode) = match text.split_once(':') {
            Some((name, "ro")) => (name, mode::READ_ONLY),
            Some(_) => return None,
            None => (text, mode::READ_WRITE),
        };
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let disk = Name::new(name).filter(|disk| !disk.is_empty() && name.bytes().all(of_name))?;
        Some(Attachment { disk, mode, rate: 0 })
    }
}
