//! What `system.toml` may say. A key that is not here is an error.

pub use super::service::{Port, Protocol, Ready};
pub use super::units::{Bytes, Micros, PciClass};
use abi::flow::Flow;
use abi::limits::PAGE_SIZE;
use abi::manifest::{RESERVE_DEFAULT, all_frames};
use abi::quota::Quota;
use abi::service::Service;
use quota_words::TenantChange;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct System {
    /// Boot options that hold unless the command line says otherwise.
    pub defaults: String,
    /// Entries of GRUB's menu.
    #[serde(default)]
    pub preset: Vec<Preset>,
    /// The component roles.
    #[serde(default)]
    pub component: Vec<Component>,
    /// The rings between components and the core.
    #[serde(default)]
    pub ring: Vec<Ring>,
    /// The guest images.
    #[serde(default)]
    pub image: Vec<Image>,
    /// What tenants may have.
    #[serde(default)]
    pub tenant: Vec<Tenant>,
}

/// What a tenant may have.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Tenant {
    /// Its name, as images and those who create VMs say it.
    pub name: String,
    /// Its quota, in the words of `tenant set`; what is not said is without a limit.
    #[serde(flatten)]
    pub quota: BTreeMap<String, Said>,
}

/// A number, or a text that says one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a number or a text")]
pub enum Said {
    /// `4`.
    Number(u64),
    /// `"64M"`.
    Text(String),
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Said::Number(number) => number.fmt(f),
            Said::Text(text) => text.fmt(f),
        }
    }
}

impl Tenant {
    /// A tenant with a quota in these words.
    pub fn new(name: &str, quota: &[(&str, &str)]) -> Tenant {
        let quota = quota.iter().map(|(key, value)| (key.to_string(), Said::Text(value.to_string()))).collect();
        Tenant { name: name.to_owned(), quota }
    }

    /// What is said of its quota.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn change(&self) -> Result<TenantChange, String> {
        let mut change = TenantChange::default();
        for (key, value) in &self.quota {
            if !TenantChange::KEYS.contains(&key.as_str()) {
                return Err(format!("`{key}` is no quota: write {}", TenantChange::KEYS.join(", ")));
            }
            change.take(key, &value.to_string()).map_err(|takes| format!("{key} = {value}: write {takes}"))?;
        }
        Ok(change)
    }

    /// What the core has of it.
    pub fn of_core(&self) -> (Quota, Flow) {
        let change = self.change().unwrap_or_default().of_core;
        (change.of(Quota::NONE), change.flow().of(Flow::NONE))
    }
}

/// An entry of GRUB's menu.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Preset {
    /// What the menu shows.
    pub title: String,
    /// Boot options, in addition to the defaults.
    pub options: String,
}

/// A component role.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Component {
    /// Its name, which is also the boot option that chooses its policy.
    pub name: String,
    /// The boot module of a role that only one program can fill.
    pub module: Option<String>,
    /// The programs that can fill the role; the first is the default.
    #[serde(default)]
    pub policies: Vec<Policy>,
    /// 0 is the most important.
    pub priority: u32,
    /// How long it may run between two waits.
    pub budget: Micros,
    /// Its stack.
    pub stack: Bytes,
    /// What its image may take in memory.
    pub memory: Bytes,
    /// Memory that outlives its restarts.
    pub keep: Option<Bytes>,
    /// Physically contiguous memory that its devices may reach.
    pub dma: Option<Bytes>,
    /// Devices that it drives.
    pub pci_class: Option<PciClass>,
    /// It is left out where there is no such device.
    #[serde(default)]
    pub optional: bool,
    /// I/O ports that it may use.
    pub ports: Option<Ports>,
}

/// A program that can fill a role.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// What the boot option says.
    pub name: String,
    /// The boot module.
    pub module: String,
}

/// A range of I/O ports.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ports {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Their ISA interrupt.
    pub irq: Option<u32>,
}

/// A message ring.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ring {
    /// Its name.
    pub name: String,
    /// Who produces: a component or `core`.
    pub from: String,
    /// Who consumes: a component or `core`.
    pub to: String,
    /// Slots of 64 bytes.
    pub slots: u32,
    /// What a ring with the core is about.
    pub service: Option<String>,
    /// Data behind the slots of one between components, which both can write.
    pub data: Option<Bytes>,
}

/// A guest image.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Image {
    /// What `vms=` names.
    pub name: String,
    /// The boot module; the name when missing.
    pub module: Option<String>,
    /// Memory of its VMs.
    pub memory: Bytes,
    /// Slots of the receive ring, 0 for no NIC.
    pub rx_slots: u32,
    /// Slots of the transmit ring, 0 for no NIC.
    pub tx_slots: u32,
    /// The component that serves its VMs' NICs, where there are several.
    pub net: Option<String>,
    /// The component that serves its VMs' page faults, where there are several.
    pub pager: Option<String>,
    /// Whether its VMs control the machine, as the operator does.
    #[serde(default)]
    pub control: bool,
    /// Whether its VMs, which control the machine, may read virtual disks that no VM writes.
    #[serde(default)]
    pub reads_disks: bool,
    /// When its VMs start: `now`, or `lazy`, with the first packet for them; `now` when missing.
    #[serde(default)]
    pub start: Start,
    /// Boot arguments.
    #[serde(default)]
    pub args: String,
    /// Memory that is kept for each of its VMs, page tables and metadata counted; [`RESERVE_DEFAULT`] when missing.
    pub reserve: Option<Bytes>,
    /// Memory that each of its VMs may hold, counted in the same way; all of its own when missing.
    pub limit: Option<Bytes>,
    /// Whose its VMs are; each its own when missing. There are no barriers between VMs of one tenant.
    pub tenant: Option<String>,
    /// The virtual disk that its VMs have: `NAME` for one VM that writes, `NAME:ro` for any number that read; none when missing.
    pub disk: Option<String>,
    /// Requests to its virtual disk that each VM may have carried out in a second; as many as it can when missing.
    pub disk_rate: Option<u64>,
    /// Weight of its VMs, against others'.
    pub weight: Option<u32>,
    /// Bytes in a second that each of its VMs may send; as much as it can when missing.
    pub rate: Option<Bytes>,
    /// Bytes that each of its VMs may send at once.
    pub burst: Option<Bytes>,
    /// Ports that clients reach. They are for `xtask`; the core does not know them.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// When a VM of it is ready; as soon as it runs, when missing. For `xtask`, too.
    pub ready: Option<Ready>,
}

/// When VMs of an image start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// When they are created.
    #[default]
    Now,
    /// With the first packet for them.
    Lazy,
}

impl Component {
    /// The programs that can fill the role, the default first.
    pub fn programs(&self) -> Vec<Policy> {
        match &self.module {
            Some(module) => vec![Policy { name: module.clone(), module: module.clone() }],
            None => self.policies.clone(),
        }
    }
}

impl Ring {
    /// What it is about, if that is known.
    pub fn service(&self) -> Option<Service> {
        let name = self.service.as_deref()?;
        Service::ALL.into_iter().find(|service| service.name() == name)
    }
}

impl Image {
    /// Frames that are kept for each of its VMs.
    pub fn reserve_frames(&self) -> u64 {
        // A control ring and its request page are there from the start.
        let default = u64::from(RESERVE_DEFAULT) + if self.control { 2 } else { 0 };
        self.reserve.as_ref().map_or(default, |reserve| reserve.0 / PAGE_SIZE)
    }

    /// Frames that each of its VMs may hold.
    pub fn limit_frames(&self) -> u64 {
        self.limit.as_ref().map_or(all_frames(self.memory.0), |limit| limit.0 / PAGE_SIZE)
    }

    /// The boot module.
    pub fn module(&self) -> &str {
        self.module.as_deref().unwrap_or(&self.name)
    }
}

impl System {
    /// The parties to a service, the most important first.
    pub fn parties(&self, service: Service) -> Vec<&Component> {
        let is_party = |component: &&Component| {
            let name = &component.name;
            let with =
                |ring: &&Ring| ring.from == "core" && ring.to == *name || ring.from == *name && ring.to == "core";
            self.ring.iter().filter(with).any(|ring| ring.service() == Some(service))
        };
        let mut parties: Vec<&Component> = self.component.iter().filter(is_party).collect();
        parties.sort_by_key(|component| component.priority);
        parties
    }

    /// All boot modules, each once, in order: components, then images.
    pub fn modules(&self) -> Vec<String> {
        let components = self.component.iter().flat_map(|component| component.programs()).map(|policy| policy.module);
        let images = self.image.iter().map(|image| image.module().to_owned());
        let mut modules: Vec<String> = Vec::new();
        for module in components.chain(images) {
            if !modules.contains(&module) {
                modules.push(module);
            }
        }
        modules
    }
}
