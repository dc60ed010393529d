//! A change of a quota as the core is told of it.

use abi::flow::Flow;
use abi::quota::Quota;

/// What is to be another one of a quota and of what may happen in a second; what is not said stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// VMs, or [`Quota::ANY_VMS`].
    pub vms: Option<u32>,
    /// Frames, or [`Quota::ANY_FRAMES`].
    pub frames: Option<u64>,
    /// Bytes of the pool, or [`Quota::ANY_POOL`].
    pub pool: Option<u64>,
    /// VMs that come in in a second, or 0: [`Flow::wakes`].
    pub wakes: Option<u32>,
    /// Bytes that are sent in a second, or 0: [`Flow::rate`].
    pub rate: Option<u32>,
}

impl Change {
    /// The quota of a tenant that had another one.
    #[must_use]
    pub fn of(self, had: Quota) -> Quota {
        Quota {
            vms: self.vms.unwrap_or(had.vms),
            frames: self.frames.unwrap_or(had.frames),
            pool: self.pool.unwrap_or(had.pool),
        }
    }

    /// The same of what may happen in a second, as the core is told.
    #[must_use]
    pub fn flow(self) -> Flow {
        let or_stays = |said: Option<u32>| said.unwrap_or(Flow::STAYS);
        Flow { wakes: or_stays(self.wakes), rate: or_stays(self.rate) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays() {
        let had = Quota { vms: 3, frames: 5, pool: 9 };
        assert_eq!(Change::default().of(had), had);
        assert_eq!(Change { vms: Some(7), ..Change::default() }.of(had), Quota { vms: 7, ..had });
        let frames = Quota::ANY_FRAMES;
        assert_eq!(Change { frames: Some(frames), ..Change::default() }.of(had), Quota { frames, ..had });
        assert_eq!(Change { pool: Some(0), ..Change::default() }.of(had), Quota { pool: 0, ..had });
        let none = Change { wakes: Some(0), rate: Some(0), ..Change::default() };
        assert_eq!((none.of(had), none.flow(), Change::default().flow()), (had, Flow::NONE, Flow::UNCHANGED));
    }
}
