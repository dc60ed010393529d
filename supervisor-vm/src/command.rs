//! The operator's commands.

use crate::image_order::ImageOrder;
use crate::image_query::ImageQuery;
use crate::log_query::LogQuery;
use crate::query::Query;
use abi::attachment::Attachment;
use abi::limits::Name;
use abi::tenant::Tenant;
use abi::terms::Terms;
use alloc::string::String;
use quota_words::TenantChange;

/// A file on a virtual disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPath {
    /// The virtual disk.
    pub disk: Name,
    /// The file's path there.
    pub path: String,
}

/// One command; `docs/supervisor.md` explains each, and what its words are.
// The words are named as there.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `vm list`.
    VmList { query: Query, count: bool, json: bool },
    /// `vm show`.
    VmShow { vm: String, json: bool },
    /// `vm create`.
    VmCreate { name: String, image: String, terms: Terms, args: String },
    /// `vm start`.
    VmStart { name: String },
    /// `vm pause`.
    VmPause { vm: String },
    /// `vm resume`.
    VmResume { vm: String },
    /// `vm stop`.
    VmStop { vm: String },
    /// `vm kill`.
    VmKill { vm: String },
    /// `vm destroy`.
    VmDestroy { vm: String },
    /// `vm top`.
    VmTop { limit: usize, json: bool },
    /// `vm console`.
    VmConsole { vm: String, follow: bool, seconds: Option<u32> },
    /// `fleet apply`.
    FleetApply { from: Option<DiskPath>, dry_run: bool, replace: bool, prune: bool, json: bool },
    /// `component list`.
    ComponentList { json: bool },
    /// `component restart`.
    ComponentRestart { name: String },
    /// `policy list`, and `policy show` of one component.
    PolicyList { component: Option<String>, json: bool },
    /// `policy set`.
    PolicySet { component: String, policy: String },
    /// `image list`.
    ImageList { query: ImageQuery, count: bool, json: bool },
    /// `image show`.
    ImageShow { name: String, json: bool },
    /// `image put`.
    ImagePut { order: ImageOrder },
    /// `image rm`.
    ImageRm { name: String },
    /// `disk list`.
    DiskList { json: bool },
    /// `disk create`.
    DiskCreate { name: String, blocks: u64, tenant: Option<Tenant> },
    /// `disk snapshot`.
    DiskSnapshot { name: String, new: String },
    /// `disk rm`.
    DiskRm { name: String },
    /// `disk attach`.
    DiskAttach { vm: String, disk: Attachment },
    /// `disk detach`.
    DiskDetach { vm: String },
    /// `tenant list`.
    TenantList { json: bool },
    /// `tenant show`.
    TenantShow { tenant: Tenant, json: bool },
    /// `tenant set`.
    TenantSet { tenant: Tenant, change: TenantChange },
    /// `state begin-anew`.
    StateBeginAnew,
    /// `node show`.
    NodeShow { json: bool },
    /// `node shutdown`.
    NodeShutdown,
    /// `token new`.
    TokenNew { name: String, json: bool },
    /// `token list`.
    TokenList { json: bool },
    /// `token rm`.
    TokenRm { name: String },
    /// `log`.
    Log { wanted: LogQuery },
    /// `audit`.
    Audit,
    /// `metrics`.
    Metrics,
    /// `help`.
    Help,
}

impl Command {
    /// Whether it changes something, and is written down therefore. What a fleet file changes is written down one by one, and an image
    /// that is put where its file is taken; who is at a console where it is shown.
    pub const fn changes(&self) -> bool {
        match self {
            Command::VmList { .. }
            | Command::VmShow { .. }
            | Command::VmTop { .. }
            | Command::VmConsole { .. }
            | Command::FleetApply { .. }
            | Command::ComponentList { .. }
            | Command::PolicyList { .. }
            | Command::DiskList { .. }
            | Command::ImageList { .. }
            | Command::ImageShow { .. }
            | Command::ImagePut { .. }
            | Command::TenantList { .. }
            | Command::TenantShow { .. }
            | Command::NodeShow { .. }
            | Command::TokenList { .. }
            | Command::Log { .. }
            | Command::Audit
            | Command::Metrics
            | Command::Help => false,
            Command::StateBeginAnew
            | Command::VmCreate { .. }
            | Command::VmStart { .. }
            | Command::VmPause { .. }
            | Command::VmResume { .. }
            | Command::VmStop { .. }
            | Command::VmKill { .. }
            | Command::VmDestroy { .. }
            | Command::ComponentRestart { .. }
            | Command::PolicySet { .. }
            | Command::DiskCreate { .. }
            | Command::DiskSnapshot { .. }
            | Command::DiskRm { .. }
            | Command::DiskAttach { .. }
            | Command::DiskDetach { .. }
            | Command::ImageRm { .. }
            | Command::TenantSet { .. }
            | Command::NodeShutdown
            | Command::TokenNew { .. }
            | Command::TokenRm { .. } => true,
        }
    }

    /// Whether it only asks, so that who has enough of it need not wait for its end: nothing is half done where it is dropped. `audit` writes down first who has
    /// ended.
    pub const fn only_asks(&self) -> bool {
        !self.changes()
            && !matches!(
                self,
                Command::Audit | Command::FleetApply { .. } | Command::ImagePut { .. } | Command::VmConsole { .. }
            )
    }
}
