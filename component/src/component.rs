//! What the core has given this component, from its information page.

use crate::mmio::Mmio;
use crate::rings::{Inbox, Outbox};
use crate::tables::Tables;
use abi::component::{ComponentInfo, DeviceInfo, INFO_MAGIC, RingInfo, authority, kicks, layout};
use abi::guest_disk;
use abi::limits::PAGE_SIZE;
use abi::nic::{MAX_SLOTS_TOTAL, RX_RING, RX_SLOTS, TX_RING, WINDOW_STRIDE, tx_slots_offset};
use abi::request_page::{self, offset_behind};
use abi::ring::{MAX_SLOTS, ring_bytes};
use abi::service::Service;
use abi::swap::{SHEET_STRIDE, WINDOW_BYTES, WINDOWS};
use abi::vm::Seat;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ring::{Consumer, PacketConsumer, PacketProducer, Producer, SharedMemory};

/// The component itself: its rings, devices and memory.
#[derive(Debug)]
pub struct Component {
    info: &'static ComponentInfo,
}

impl Component {
    /// Reads the information page.
    ///
    /// # Safety
    ///
    /// What `abi::component::layout` describes is mapped and stays so: the caller runs in a component.
    ///
    /// # Panics
    ///
    /// When the page has another magic or ABI version than this build.
    pub(crate) unsafe fn new() -> Self {
        let page = core::ptr::with_exposed_provenance::<ComponentInfo>(address(layout::INFO));
        // SAFETY: the core maps the page read-only and fills it before it starts the component; every bit pattern is a value.
        let info = unsafe { &*page };
        assert!(
            info.magic == INFO_MAGIC && info.abi_version == abi::ABI_VERSION,
            "the core speaks ABI {} and this component {}: build both from one source",
            info.abi_version,
            abi::ABI_VERSION
        );
        Component { info }
    }

    /// The information page.
    pub fn info(&self) -> &'static ComponentInfo {
        self.info
    }

    /// As [`Component::inbox`]; `None` where there is no such ring, as when its other end was left out.
    pub fn find_inbox(&self, name: &str) -> Option<Inbox> {
        self.find_ring(name, false).map(|_| self.inbox(name))
    }

    /// As [`Component::outbox`]; `None` where there is no such ring.
    pub fn find_outbox(&self, name: &str) -> Option<Outbox> {
        self.find_ring(name, true).map(|_| self.outbox(name))
    }

    /// The ring called `name`, which this component consumes.
    ///
    /// # Panics
    ///
    /// When the manifest gives it no such ring.
    pub fn inbox(&self, name: &str) -> Inbox {
        let (index, ring) = self.ring(name, false);
        match Consumer::attach_contiguous(&ring_memory(index, ring.slots), ring.slots) {
            Ok(ring) => Inbox { ring, doorbell: 1 << index },
            Err(error) => panic!("ring {name}: {error}"),
        }
    }

    /// The ring called `name`, which this component produces.
    ///
    /// # Panics
    ///
    /// When the manifest gives it no such ring.
    pub fn outbox(&self, name: &str) -> Outbox {
        let (index, ring) = self.ring(name, true);
        match Producer::attach_contiguous(&ring_memory(index, ring.slots), ring.slots) {
            Ok(ring) => Outbox { ring, doorbell: 1 << index },
            Err(error) => panic!("ring {name}: {error}"),
        }
    }

    /// The rings from and to the core that are about this service.
    ///
    /// # Panics
    ///
    /// When the manifest makes this component no party to it.
    pub fn service(&self, service: Service) -> (Inbox, Outbox) {
        let count = usize::try_from(self.info.ring_count).unwrap_or(usize::MAX);
        let is_its =
            |producer: bool| move |ring: &&RingInfo| ring.service == service.raw() && (ring.producer != 0) == producer;
        let name = |producer| self.info.rings.iter().take(count).find(is_its(producer)).map(|ring| ring.name);
        match (name(false), name(true)) {
            (Some(from), Some(to)) => (self.inbox(from.as_str()), self.outbox(to.as_str())),
            _ => {
                let (service, me) = (service.name(), self.info.name);
                panic!("the manifest gives {me} no rings for the service {service}: add them to system.toml")
            }
        }
    }

    /// The page where what does not fit into a request to the core lies ([`abi::request_page`]).
    ///
    /// # Panics
    ///
    /// When the manifest makes this component no party to [`Service::Control`].
    pub fn request_page(&self) -> SharedMemory {
        let count = usize::try_from(self.info.ring_count).unwrap_or(usize::MAX);
        let carries = |ring: &RingInfo| ring.service == Service::Control.raw() && ring.producer != 0;
        let Some(index) = self.info.rings.iter().take(count).position(carries) else {
            panic!("the manifest gives {} no ring for requests to the core: add it to system.toml", self.info.name)
        };
        let base = layout::RINGS + index as u64 * layout::RING_STRIDE + offset_behind(self.info.rings[index].slots);
        let base = core::ptr::with_exposed_provenance_mut(address(base));
        // SAFETY: the core maps a writable page there for the component's lifetime; no Rust reference points into it, for it is
        // reached by this memory only.
        unsafe { SharedMemory::new(base, request_page::BYTES) }
    }

    /// The data behind the slots of the ring called `name`, which both of its ends can write at any time; `None` where there is none.
    pub fn ring_data(&self, name: &str) -> Option<SharedMemory> {
        let count = usize::try_from(self.info.ring_count).unwrap_or(usize::MAX);
        let index = self.info.rings.iter().take(count).position(|ring| ring.name.as_str() == name)?;
        let ring = self.info.rings.get(index).filter(|ring| ring.data_pages != 0)?;
        let base = layout::RINGS + index as u64 * layout::RING_STRIDE + offset_behind(ring.slots);
        let base = core::ptr::with_exposed_provenance_mut(address(base));
        // SAFETY: the core maps so many writable pages there for the component's lifetime; no Rust reference points into them, for they are
        // reached by this memory only.
        Some(unsafe { SharedMemory::new(base, address(u64::from(ring.data_pages) * PAGE_SIZE)) })
    }

    fn find_ring(&self, name: &str, producer: bool) -> Option<(usize, &'static RingInfo)> {
        let count = usize::try_from(self.info.ring_count).unwrap_or(usize::MAX);
        let mut rings = self.info.rings.iter().take(count).enumerate();
        rings.find(|(_, ring)| ring.name.as_str() == name && (ring.producer != 0) == producer)
    }

    fn ring(&self, name: &str, producer: bool) -> (usize, &'static RingInfo) {
        match self.find_ring(name, producer) {
            Some(found) => found,
            None => {
                let (end, me) = (if producer { "produce" } else { "consume" }, self.info.name);
                panic!("the manifest gives {me} no ring {name} to {end}: add it to system.toml")
            }
        }
    }

    /// The devices that this component drives.
    pub fn devices(&self) -> &'static [DeviceInfo] {
        let count = usize::try_from(self.info.device_count).unwrap_or(usize::MAX);
        &self.info.devices[..count.min(self.info.devices.len())]
    }

    /// The memory region `bar` of device `index`; `None` where nothing is mapped. Touching the table of MSI-X in it is a
    /// fault.
    pub fn mmio(&self, index: usize, bar: usize) -> Option<Mmio> {
        let region = self.devices().get(index)?.bars.get(bar).filter(|region| region.bytes != 0)?;
        let base = layout::MMIO + u64::try_from(index).ok()? * layout::MMIO_STRIDE + u64::from(region.offset);
        let base = NonNull::new(core::ptr::with_exposed_provenance_mut(address(base)))?;
        // SAFETY: the core maps that many bytes of the device's registers there, aligned as they are, for the component's lifetime
        // (or nothing: there the table of MSI-X lies, and an access ends the component).
        Some(unsafe { Mmio::new(base, usize::try_from(region.bytes).ok()?) })
    }

    /// The memory that devices can reach, and its physical address; `None` when the manifest gives none.
    pub fn dma(&self) -> Option<Dma> {
        let bytes = usize::try_from(self.info.dma_bytes).ok().filter(|&bytes| bytes > 0)?;
        let base = core::ptr::with_exposed_provenance_mut(address(layout::DMA));
        // SAFETY: the core maps that much writable memory there for the component's lifetime; this is the only way to it,
        // so no Rust reference points into it.
        let memory = unsafe { SharedMemory::new(base, bytes) };
        Some(Dma { memory, physical: self.info.dma_physical })
    }

    /// The memory that outlives a restart, for a [`crate::Keep`]; `None` when the manifest gives none.
    pub fn keep(&self) -> Option<SharedMemory> {
        let room = layout::KEEP_END - layout::KEEP;
        let bytes = u64::from(self.info.keep_pages) * PAGE_SIZE;
        let bytes = (1..=room).contains(&bytes).then_some(address(bytes))?;
        let base = core::ptr::with_exposed_provenance_mut(address(layout::KEEP));
        // SAFETY: the core maps that much writable memory there for the component's lifetime; this is the only way to it,
        // so no Rust reference points into it.
        Some(unsafe { SharedMemory::new(base, bytes) })
    }

    /// The memory for the program's tables, as large as its note asks for.
    ///
    /// # Panics
    ///
    /// The second time.
    pub fn tables(&self) -> Tables {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        assert!(!TAKEN.swap(true, Ordering::Acquire), "the memory for tables was taken already");
        let base = core::ptr::with_exposed_provenance_mut(address(layout::TABLES));
        let units = address(self.info.tables_bytes) / abi::note::TABLE_ALIGN;
        let memory = if units == 0 {
            &mut []
        } else {
            // SAFETY: the core maps that much writable memory there for the component's lifetime; nobody else maps it, and this line
            // runs once, so this is the only reference into it.
            unsafe { core::slice::from_raw_parts_mut(base, units) }
        };
        let count = |number: u32| usize::try_from(number).unwrap_or(0);
        // It is shown since when VMs idle where they can go out.
        let pooled = self.info.authority & authority::IDLES != 0;
        Tables::new(memory, count(self.info.vm_slots), count(self.info.vm_seats), pooled)
    }

    /// Since when VMs idle. Nobody does, without the authority for it.
    pub fn idle_times(&self) -> IdleTimes {
        let seats = usize::try_from(self.info.vm_seats).unwrap_or(0);
        let bytes = if self.info.authority & authority::IDLES == 0 { 0 } else { 8 * seats };
        let base = core::ptr::with_exposed_provenance_mut(address(layout::IDLES));
        // SAFETY: the core maps that much memory there, which can be read, for the component's lifetime; only `IdleTimes` reaches it, which stores nothing.
        unsafe { SharedMemory::new(base, bytes) }.into()
    }

    /// The pool for VMs that are out: memory that outlives a restart. `None` when there is none.
    pub fn pool(&self) -> Option<SharedMemory> {
        let allowed = self.info.authority & authority::SWAP_WINDOW != 0;
        let bytes = usize::try_from(self.info.pool_bytes).ok().filter(|&bytes| allowed && bytes > 0)?;
        let base = core::ptr::with_exposed_provenance_mut(address(layout::POOL));
        // SAFETY: the core maps that much writable memory there for the component's lifetime; this is the only way to it,
        // so no Rust reference points into it.
        Some(unsafe { SharedMemory::new(base, bytes) })
    }

    /// The window of this number; `None` without the authority for it, and beyond [`WINDOWS`]. Its pages are there while the core shows a VM in it
    /// ([`abi::swap::SwapEvent`]), and can be written while that comes in: touching them at another time is a fault.
    pub fn swap_window(&self, window: usize) -> Option<SwapWindow> {
        if self.info.authority & authority::SWAP_WINDOW == 0 || window >= WINDOWS {
            return None;
        }
        let sheet = address(layout::SWAP_SHEETS) + window * address(SHEET_STRIDE);
        let pages = address(layout::SWAP_WINDOW) + window * address(WINDOW_BYTES);
        let [sheet, pages] = [sheet, pages].map(core::ptr::with_exposed_provenance_mut);
        // SAFETY: the core maps the sheets for the component's lifetime, writable; there is no other way to them.
        let sheet = unsafe { SharedMemory::new(sheet, address(SHEET_STRIDE)) };
        // SAFETY: the core maps the frames of a VM there while it is shown, and nothing else; touching them at another time ends the component. There is no
        // other way to them, so no Rust reference points into them.
        let pages = unsafe { SharedMemory::new(pages, address(WINDOW_BYTES)) };
        Some(SwapWindow { sheet, pages })
    }

    /// The NIC of the VM in `seat` with these rings, while that VM is attached ([`abi::net::NetEvent`]). After the
    /// component has answered that it is detached, touching the NIC is a fault, or reaches the seat's next VM.
    ///
    /// `None` without the authority for the VM window, for a seat that the machine does not have, and for rings that do
    /// not fit.
    pub fn vm_nic(&self, seat: Seat, rx_slots: u32, tx_slots: u32) -> Option<VmNic> {
        let total = rx_slots.checked_add(tx_slots)?;
        let allowed = self.info.authority & authority::VM_WINDOW != 0 && u32::from(seat.number()) < self.info.vm_seats;
        if !allowed || total > MAX_SLOTS_TOTAL {
            return None;
        }
        let base = address(layout::VM_WINDOW) + seat.index() * address(WINDOW_STRIDE);
        // SAFETY: the core maps the NIC page of an attached VM there, pages of its rings when the component asks for them
        // (`ring_page`), and nothing else, and unmaps them only when it says that it is done with them: the rings' ends know
        // which pages they were given and touch no others. There is no other way to them, so no Rust reference points into them.
        let window = unsafe { SharedMemory::new(core::ptr::with_exposed_provenance_mut(base), address(WINDOW_STRIDE)) };
        let slots = |offset: u64, count: u32| {
            let slot_bytes = usize::try_from(count).ok()? * abi::ring::SLOT_BYTES;
            window.sub(address(offset), slot_bytes)
        };
        let header = |offset| window.sub(address(offset), abi::ring::HEADER_BYTES);
        let rx = PacketProducer::attach_sparse(&header(RX_RING)?, &slots(RX_SLOTS, rx_slots)?, rx_slots).ok()?;
        let tx_slots_at = tx_slots_offset(rx_slots);
        let tx = PacketConsumer::attach_sparse(&header(TX_RING)?, &slots(tx_slots_at, tx_slots)?, tx_slots).ok()?;
        Some(VmNic { page: window.sub(0, address(PAGE_SIZE))?, rx, tx })
    }

    /// The virtual disk of the VM in `seat`, while that VM is attached ([`abi::disk_service::DiskEvent`]). After the component has answered that it is
    /// detached, touching the disk is a fault, or reaches the seat's next VM.
    ///
    /// `None` when it is no party to [`Service::Disk`], and for a seat that the machine does not have.
    pub fn vm_disk(&self, seat: Seat) -> Option<VmDisk> {
        let count = usize::try_from(self.info.ring_count).unwrap_or(usize::MAX);
        let serves = self.info.rings.iter().take(count).any(|ring| ring.service == Service::Disk.raw());
        if !serves || u32::from(seat.number()) >= self.info.vm_seats {
            return None;
        }
        let base = address(layout::VM_WINDOW) + seat.index() * address(WINDOW_STRIDE);
        let bytes = address(guest_disk::PAGES * PAGE_SIZE);
        // SAFETY: the core maps the disk page and the block slots of an attached VM there, and nothing else, and unmaps them only when it is told
        // that nobody touches them any more. There is no other way to them, so no Rust reference points into them.
        let window = unsafe { SharedMemory::new(core::ptr::with_exposed_provenance_mut(base), bytes) };
        VmDisk::over(&window)
    }

    /// Names to `kicked` each seat whose VM has kicked its NIC since the last time. Nobody without the authority for the VM window.
    #[inline]
    pub fn take_kicks(&self, kicked: impl FnMut(Seat)) {
        if self.info.authority & authority::VM_WINDOW != 0 {
            crate::kicks::take(self.info.vm_seats, |word| self.take_kick_word(word), kicked);
        }
    }

    /// Takes the word of kick bits at this offset.
    #[inline]
    fn take_kick_word(&self, offset: usize) -> u64 {
        if offset + 8 > address(kicks::pages(self.info.vm_seats as usize) * PAGE_SIZE) {
            return 0;
        }
        let word = core::ptr::with_exposed_provenance_mut::<u64>(address(layout::KICKS) + offset);
        // SAFETY: a component with the authority for the VM window, without which nobody comes here, has so many pages mapped there, shared with the core, which
        // accesses them atomically, too.
        let word = unsafe { AtomicU64::from_ptr(word) };
        word.swap(0, Ordering::AcqRel)
    }
}

/// Since when VMs idle ([`abi::component::idles`]).
#[derive(Clone, Copy, Debug)]
pub struct IdleTimes(SharedMemory);

impl From<SharedMemory> for IdleTimes {
    /// A word for each seat.
    fn from(words: SharedMemory) -> Self {
        IdleTimes(words)
    }
}

impl IdleTimes {
    /// The TSC at which the VM in this seat has begun to idle; 0 while it does anything else, and where nobody is.
    #[inline]
    pub fn since(&self, seat: Seat) -> u64 {
        self.0.load64(8 * seat.index()).unwrap_or(0)
    }
}

/// A VM that goes out or comes in.
#[derive(Clone, Copy, Debug)]
pub struct SwapWindow {
    /// The [`abi::swap::Sheet`].
    pub sheet: SharedMemory,
    /// Its pages, one behind the other.
    pub pages: SharedMemory,
}

/// Memory for devices, physically contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Dma {
    /// The memory.
    pub memory: SharedMemory,
    /// The address of its first byte as devices see it.
    pub physical: u64,
}

/// A VM's NIC as its server sees it.
pub struct VmNic {
    /// The NIC page ([`abi::nic::NicPage`]), the ring headers included.
    pub page: SharedMemory,
    /// Frames to the VM.
    pub rx: PacketProducer<SharedMemory>,
    /// Frames from the VM.
    pub tx: PacketConsumer<SharedMemory>,
}

/// A VM's virtual disk as its server sees it.
pub struct VmDisk {
    /// The disk page ([`abi::guest_disk::DiskPage`]), the rings included.
    pub page: SharedMemory,
    /// Requests of the VM.
    pub requests: Consumer<SharedMemory>,
    /// Their completions.
    pub completions: Producer<SharedMemory>,
    /// The block slots, one behind the other.
    pub slots: SharedMemory,
}

impl VmDisk {
    /// The virtual disk whose pages are these. `None` when they are too few.
    pub fn over(pages: &SharedMemory) -> Option<VmDisk> {
        use guest_disk::{BLOCK_BYTES, COMPLETION_SLOTS, COMPLETIONS, REQUEST_SLOTS, REQUESTS, SLOTS, ring_bytes};
        let page = pages.sub(0, BLOCK_BYTES)?;
        let requests = page.sub(REQUESTS, ring_bytes(REQUEST_SLOTS))?;
        let completions = page.sub(COMPLETIONS, ring_bytes(COMPLETION_SLOTS))?;
        Some(VmDisk {
            requests: Consumer::attach_contiguous(&requests, REQUEST_SLOTS).ok()?,
            completions: Producer::attach_contiguous(&completions, COMPLETION_SLOTS).ok()?,
            slots: pages.sub(BLOCK_BYTES, usize::from(SLOTS) * BLOCK_BYTES)?,
            page,
        })
    }
}

/// The memory of ring `index` with `slots` slots.
fn ring_memory(index: usize, slots: u32) -> SharedMemory {
    let base = address(layout::RINGS) + index * address(layout::RING_STRIDE);
    // A number of slots beyond the limit is refused when the ring is attached to.
    let bytes = address(ring_bytes(slots.min(MAX_SLOTS)));
    // SAFETY: the core maps header and slots of each ring of the information page there for the component's lifetime, and
    // there is no other way to them, so no Rust reference points into them.
    unsafe { SharedMemory::new(core::ptr::with_exposed_provenance_mut(base), bytes) }
}

/// An address of the layout as a `usize`.
#[inline]
pub(crate) const fn address(address: u64) -> usize {
    // The bare machine has 64-bit addresses; so have the hosts that compile this.
    #[allow(clippy::cast_possible_truncation)]
    {
        address as usize
    }
}

const _: () = {
    assert!(usize::BITS == 64);
    assert!(ring_bytes(MAX_SLOTS) <= layout::RING_STRIDE);
};
