//! What outlives this VM: names, tokens, quotas, the host's key and the audit log, on the virtual disk that the VM was created with. Without one, or with
//! one that is not to be used, all of it ends with this VM, which is said.

use crate::library::Library;
use crate::limits::{Limits, UNLIMITED};
use crate::owners::Owners;
use crate::state::Boot;
use crate::store::Store;
use crate::store::refused::{Refused, Unkept};
use abi::tenant::Tenant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use core::cell::{Cell, RefCell};
use ilwaco::disk::Disk;
use ilwaco::sync::Mutex;
use ilwaco::time::{Duration, Instant};

/// The name of the virtual disk that is made for this VM. No other VM is given it.
pub const OPERATOR: &str = "operator";
/// How long the disk may take for all that is read at the start.
pub const OPENS: Duration = Duration::from_secs(60);
/// How long it may take for one change, and how long it is left alone when it took longer.
pub const COMMITS: Duration = Duration::from_secs(10);
/// Quotas that are kept at most.
pub const QUOTAS: usize = 1024;

/// How it is with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// There is none.
    Nowhere,
    /// There is one that is not used.
    Refused(Refused),
    /// All is kept.
    Kept,
    /// The last change was not.
    Unkept(Unkept),
}

/// What is kept, and where.
pub struct Keep {
    /// The disk, where it is used.
    pub store: Mutex<Option<Store<Disk>>>,
    /// How it is with it.
    pub how: Cell<How>,
    /// The name of the virtual disk, where there is one.
    pub disk: RefCell<Option<String>>,
    /// A disk that did not answer is not asked before.
    pub again: Cell<Option<Instant>>,
    /// The private key of the host.
    pub host: Cell<Option<[u8; 32]>>,
    /// Which start of the machine this is.
    pub boot: Cell<Boot>,
    /// The host's key, or which start of the machine this is and how far it was heard, is not kept yet.
    pub unsaid: Cell<bool>,
    /// Quotas that were set here, by their tenants' names.
    pub quotas: RefCell<BTreeMap<String, Limits>>,
    /// Tenants whose quotas were set since they were last kept.
    pub changed: RefCell<BTreeSet<String>>,
    /// Whose virtual disks are, and how much of the set tenants may have. Nobody holds it across an await.
    pub owners: RefCell<Owners>,
    /// Images that are on the disk. Nobody holds it across an await.
    pub library: RefCell<Library>,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep {
            store: Mutex::new(None),
            how: Cell::new(How::Nowhere),
            disk: RefCell::default(),
            again: Cell::new(None),
            host: Cell::new(None),
            boot: Cell::default(),
            unsaid: Cell::new(false),
            quotas: RefCell::default(),
            changed: RefCell::default(),
            owners: RefCell::default(),
            library: RefCell::default(),
        }
    }
}

/// How it is with what is kept, as it is shown.
pub struct Shown {
    /// The name of the virtual disk.
    pub disk: Option<String>,
    /// Why not all is kept.
    pub why: Option<String>,
    /// Blocks of records that are taken, those that there are, and the numbers of the lines of the audit log from the oldest on.
    pub taken: Option<(u32, u32, u64, u64)>,
}

impl Keep {
    /// Why not all is kept; `None` where it is.
    pub fn why_not(&self) -> Option<String> {
        let disk = self.disk.borrow();
        let disk = disk.as_deref().unwrap_or("?");
        match self.how.get() {
            How::Kept => None,
            How::Nowhere => Some("this VM has no virtual disk to keep it on: disk= of its image".to_string()),
            How::Refused(why) => Some(format!("its virtual disk {disk} is not used: {why}")),
            How::Unkept(why) => Some(format!("the last change is not on its virtual disk {disk}: {why}")),
        }
    }

    /// Whether a virtual disk is this VM's own, or made for it.
    pub fn is_own(&self, name: &str) -> bool {
        name == OPERATOR || self.disk.borrow().as_deref() == Some(name)
    }

    /// Notes that all is written down that the machine's log has of COM1 up to a position.
    pub fn note_heard(&self, heard: u64) {
        let mut boot = self.boot.get();
        boot.heard = heard;
        self.boot.set(boot);
        self.unsaid.set(true);
    }

    /// Notes what a tenant's quota is from now on.
    pub fn note_quota(&self, tenant: Tenant, limits: Limits) {
        let mut quotas = self.quotas.borrow_mut();
        let name = tenant.to_string();
        if quotas.len() >= QUOTAS && !quotas.contains_key(&name) {
            // Of those without one it is only known that the manifest's does not count.
            quotas.retain(|_, limits| *limits != UNLIMITED);
        }
        if quotas.len() < QUOTAS || quotas.contains_key(&name) {
            quotas.insert(name.clone(), limits);
            self.changed.borrow_mut().insert(name);
        }
    }
}
