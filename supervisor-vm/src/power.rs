//! Powering the machine off: whoever has asked hears first that it was taken.

use crate::node::Node;
use abi::control::ControlRequest;
use alloc::rc::Rc;
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
}

/// Waits until the machine is to be powered off, and does it.
pub async fn watch(node: Rc<Node>) {
    loop {
        node.power.asked.notified().await;
        race(node.power.told.notified(), sleep(PATIENCE)).await;
        // Where it works there is no answer.
        let why = node.ask(ControlRequest::PowerOff, drop).await;
        node.power.goes.set(false);
        log::error!("the machine does not go off: {why:?}; switch it off");
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
