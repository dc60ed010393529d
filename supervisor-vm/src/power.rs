//! Powering the machine off: whoever has asked hears first that it was taken.

use alloc::string::{String, ToString};
use core::cell::Cell;
use ilwaco::sync::Notify;
use ilwaco::task::race;
use ilwaco::time::{Duration, sleep};

/// How long whoever has asked may take to take the answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether the machine is to be powered off.
#[derive(Default)]
pub struct Power {
    goes: Cell<bool>,
    asked: Notify,
    told: Notify,
}

impl Power {
    /// The machine goes off as soon as whoever has asked was [told](Power::told), or after three seconds.
    pub fn off(&self) -> String {
        self.goes.set(true);
        self.asked.notify_one();
        "the machine is powered off\n".to_string()
    }

    /// Whether it goes off.
    pub fn goes(&self) -> bool {
        self.goes.get()
    }

    /// Whoever has asked, if anybody has, has the answer, or will never have it.
    pub fn told(&self) {
        if self.goes() {
            self.told.notify_one();
        }
    }

    /// Completes when the machine is to go off, and whoever has asked has the answer, or has had three seconds for it.
    pub async fn due(&self) {
        self.asked.notified().await;
        race(self.told.notified(), sleep(PATIENCE)).await;
    }

    /// It does not go off after all.
    pub fn stays(&self) {
        self.goes.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_who_has_not_asked() {
        let power = Power::default();
        power.told();
        assert!(!power.goes());
        assert_eq!(power.off(), "the machine is powered off\n");
        assert!(power.goes());
    }
}
