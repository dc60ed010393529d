//! Fixed limits that several parts rely on.

/// Bytes in a page and in a frame.
pub const PAGE_SIZE: u64 = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// VM slots that a machine can have: what a VM's MAC address has room for. How many it really has is decided at boot.
pub const MAX_SLOTS: usize = 1 << 20;
/// Seats, and so VMs that can be admitted at the same time. How many a machine really has is decided at boot.
pub const MAX_SEATS: usize = 65_535;
/// Components in one manifest, the core not counted.
pub const MAX_COMPONENTS: usize = 8;
/// Rings in one manifest.
pub const MAX_RINGS: usize = 24;
/// Rings that one component can be an end of.
pub const MAX_RINGS_PER_COMPONENT: usize = 8;
/// Devices that one component can drive.
pub const MAX_DEVICES_PER_COMPONENT: usize = 5;
/// Guest images in one manifest.
pub const MAX_IMAGES: usize = 16;
/// Images that a running machine has at most, with those that were sent to it. The pager hears of all of them at its start, before it takes
/// anything from its ring, which has room for so many segments.
pub const LIVE_IMAGES: usize = 48;
/// Tenants whose quotas a manifest can say.
pub const MAX_TENANTS: usize = 64;
/// Tenants with a name that a running machine has at most: those that have VMs or a quota.
pub const LIVE_TENANTS: usize = 256;
/// Consoles of VMs that are watched at the same time.
pub const WATCHES: usize = 8;
/// Bytes of what a console that is watched has said that are kept: a frame.
pub const WATCH_BYTES: u64 = PAGE_SIZE;
/// How long a console is watched since somebody asked for what it has said, in seconds.
pub const WATCH_SECONDS: u64 = 10;
/// Pages of an image that is sent to a running machine, at most.
pub const IMAGE_PAGES_MAX: usize = 4096;
/// Loadable segments that an ELF image may have.
pub const MAX_SEGMENTS: usize = 8;
/// Policies that one component role can be filled with.
pub const MAX_POLICIES: usize = 8;
/// Boot modules that are taken at most.
pub const MAX_MODULES: usize = 48;
/// Bytes in a name (component, ring, image, policy), padded with zeros.
pub const NAME_BYTES: usize = 16;
/// Bytes of one line given to the log by a component.
pub const LOG_LINE_BYTES: usize = 240;
/// Memory of a VM in bytes: at least, and at most.
pub const VM_MEMORY_MIN: u64 = 1 << 20;
/// See [`VM_MEMORY_MIN`].
pub const VM_MEMORY_MAX: u64 = 1 << 30;

/// A name of at most [`NAME_BYTES`] bytes, padded with zeros.
#[repr(transparent)]
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
pub struct Name(pub [u8; NAME_BYTES]);

impl Name {
    /// The empty name.
    pub const EMPTY: Name = Name([0; NAME_BYTES]);

    /// `text` as a name, or `None` when it is longer than [`NAME_BYTES`] or not printable ASCII.
    pub const fn new(text: &str) -> Option<Name> {
        let bytes = text.as_bytes();
        if bytes.len() > NAME_BYTES {
            return None;
        }
        let mut name = [0; NAME_BYTES];
        let mut i = 0;
        while i < bytes.len() {
            if !bytes[i].is_ascii_graphic() {
                return None;
            }
            name[i] = bytes[i];
            i += 1;
        }
        Some(Name(name))
    }

    /// The name as text. Bytes that are no text (a name is an allegation, too) give `"?"`.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(NAME_BYTES);
        match core::str::from_utf8(&self.0[..end]) {
            Ok(text) if text.bytes().all(|b| b.is_ascii_graphic()) => text,
            _ => "?",
        }
    }

    /// True for the name without a character.
    pub fn is_empty(&self) -> bool {
        self.0[0] == 0
    }
}

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.as_str())
    }
}

impl core::fmt::Debug for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}
