//! What a VM is to have beside its image and its boot arguments.

use crate::attachment::Attachment;
use crate::claim::Claim;
use crate::share::Share;
use crate::tenant::Tenant;

/// On which terms a VM is created. What is not said is the image's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What it gets of what VMs share.
    pub share: Share,
    /// What it may claim of the machine's memory.
    pub claim: Claim,
    /// Whose it is.
    pub tenant: Tenant,
    /// Its virtual disk ([`Attachment::parse`] makes one of `NAME` or `NAME:ro`).
    pub disk: Attachment,
}

impl Terms {
    /// Nothing was said.
    pub const UNSAID: Terms =
        Terms { share: Share::UNSAID, claim: Claim::UNSAID, tenant: Tenant::UNSAID, disk: Attachment::NONE };
}
