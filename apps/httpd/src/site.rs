//! What all connections share: counters, the date, and room for large requests.

use crate::date;
use crate::document::CHANGED;
use crate::files::Files;
use crate::page;
use crate::response::Moment;
use crate::status::StatusPage;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, Ref, RefCell};
use ilwaco::time::{Instant, unix_seconds};

/// Requests at once that may have a head beyond what every connection may hold.
const LARGE_HEADS: usize = 32;

/// The server.
pub struct Site {
    started: Instant,
    requests: Cell<u64>,
    errors: Cell<u64>,
    accepted: Cell<u64>,
    /// Connections that hold a large head.
    large: Cell<usize>,
    /// The second for which `moment` holds.
    second: Cell<u64>,
    moment: RefCell<Moment>,
    /// Those of the VM's disk or of the program, where there are any. What they lack is looked for among the server's own documents.
    pub files: Option<Rc<Files>>,
}

/// Leave to hold a large head, for as long as it lives.
pub struct Large(Rc<Site>);

impl Drop for Large {
    fn drop(&mut self) {
        self.0.large.set(self.0.large.get() - 1);
    }
}

impl Site {
    /// One that has served nobody.
    pub fn new(files: Option<Rc<Files>>) -> Rc<Site> {
        Rc::new(Site {
            started: Instant::from_nanos(0),
            requests: Cell::new(0),
            errors: Cell::new(0),
            accepted: Cell::new(0),
            large: Cell::new(0),
            second: Cell::new(u64::MAX),
            moment: RefCell::new(Moment::new(&date::format(0), false)),
            files,
        })
    }

    /// A connection was accepted.
    pub fn accepted(&self) {
        self.accepted.set(self.accepted.get() + 1);
    }

    /// A request is answered.
    pub fn count(&self, error: bool) {
        self.requests.set(self.requests.get() + 1);
        self.errors.set(self.errors.get() + u64::from(error));
    }

    /// Leave to hold a large head, unless too many do.
    pub fn large(self: &Rc<Site>) -> Option<Large> {
        if self.large.get() >= LARGE_HEADS {
            return None;
        }
        self.large.set(self.large.get() + 1);
        Some(Large(self.clone()))
    }

    /// The present, in the form of headers; formatted once a second at most.
    pub fn moment(&self) -> Ref<'_, Moment> {
        let second = unix_seconds();
        if self.second.replace(second) != second {
            self.moment.replace(Moment::new(&date::format(second), second >= CHANGED));
        }
        self.moment.borrow()
    }

    /// The second for which [`Site::moment`] holds.
    pub fn second(&self) -> u64 {
        unix_seconds()
    }

    /// The page for people.
    pub fn index(&self) -> Vec<u8> {
        page::render(&self.state())
    }

    /// The state of the VM as text or JSON.
    pub fn status(&self, json: bool) -> Vec<u8> {
        let mut page = String::new();
        let state = self.state();
        // Writing to a `String` does not fail.
        let _ = if json { state.json(&mut page) } else { state.text(&mut page) };
        page.into_bytes()
    }

    fn state(&self) -> StatusPage {
        let vm = ilwaco::vm_id();
        let nic = ilwaco::net::nic_counters();
        let net = ilwaco::net::net_counters();
        let (half_open, open) = ilwaco::net::connections();
        StatusPage {
            vm: vm.slot.number(),
            incarnation: vm.generation,
            uptime: self.started.elapsed(),
            memory_bytes: ilwaco::memory_bytes(),
            heap_used_bytes: ilwaco::heap_usage().0,
            requests: self.requests.get(),
            errors: self.errors.get(),
            accepted: self.accepted.get(),
            open,
            half_open,
            counters: [
                ("nic_rx_frames", nic.rx_frames),
                ("nic_rx_bytes", nic.rx_bytes),
                ("nic_tx_frames", nic.tx_frames),
                ("nic_tx_bytes", nic.tx_bytes),
                ("nic_rx_drop_full", nic.rx_drop_full),
                ("nic_tx_drop_mac", nic.tx_drop_mac),
                ("nic_tx_drop_ip", nic.tx_drop_ip),
                ("nic_tx_drop_malformed", nic.tx_drop_malformed),
                ("nic_tx_drop_full", nic.tx_drop_full),
                ("net_refused_frames", net.refused_frames),
                ("net_refused_connections", net.refused_connections),
                ("net_forgotten_handshakes", net.forgotten_handshakes),
            ],
        }
    }
}
