//! Messages between the core and whoever controls it: the monitor component, and VMs that have a control ring
//! ([`crate::guest_control`]).

// The sentence above each message explains its fields.
#![allow(missing_docs)]

use crate::addresses::Net;
use crate::barriers::{BarrierPlan, Barriers, Exposures};
use crate::charges::{Charges, DiskUse};
use crate::claim::Claim;
use crate::flow::Flow;
use crate::limits::Name;
use crate::message::{BadMessage, Word, Words, messages};
use crate::quota::Quota;
use crate::request_page::Piece;
use crate::share::Share;
use crate::tenant::Tenant;
use crate::vm::{ImageId, Slot, VmId};

messages! {
    /// Controller to core. The answer carries the request's id.
    ControlRequest {
        /// Which frames belong to whom. Answered by one `Frames` per owner, then `Done`.
        0x401 Frames,
        /// Whose the frame is that a physical address lies in. Answered by `Frame`, or `Done` with [`status::NOT_FOUND`] where no memory is known.
        0x428 Frame { address: u64 },
        /// State of the VM in a slot. Answered by `Vm`, or `Done` with [`status::NOT_FOUND`].
        0x402 Vm { slot: Slot },
        /// State of the VM in this slot or in the next one where one lives. Answered by `Vm`, or by `Done`: with [`status::NOT_FOUND`]
        /// when there is none, or with [`status::GO_ON`] and the slot to go on from, so that nobody looks at a million at once.
        0x40f NextVm { slot: Slot },
        /// State of a component. Answered by `Component`, or `Done` with [`status::NOT_FOUND`].
        0x403 Component { index: u16 },
        /// Name of an image. Answered by `Image`, or `Done` with [`status::NOT_FOUND`].
        0x404 Image { image: ImageId },
        /// Time and counters of the machine. Answered by `Machine`, then `Exits`.
        0x405 Machine,
        /// What the processor is exposed to, and what is done about it. Answered by `Barriers`.
        0x425 Barriers,
        /// How many VMs are in, out and on their way, and how long those that were called have waited. Answered by `Wakes`.
        0x426 Wakes,
        /// What was given to the VM in a slot of what VMs share. Answered by `Share`, or `Done` with [`status::NOT_FOUND`].
        0x40b Share { slot: Slot },
        /// Kill a component; it is restarted from its module. Answered by `Done`.
        0x406 Kill { component: u16 },
        /// One of the policies that can fill a component's role, by their numbers; or, of [`GATEKEEPER`], one of the ways to choose among VMs that wait. Answered
        /// by `Policy`, or `Done` with [`status::NOT_FOUND`].
        0x40c Policy { component: u16, policy: u16 },
        /// Replace a component's policy, or the gatekeeper's way, while all goes on. Answered by `Done` when the other one has been started, or when it
        /// cannot be: [`status::NOT_FOUND`], [`status::NO_MODULE`], [`status::BAD_MODULE`], [`status::BUSY`].
        0x40d Swap { component: u16, policy: u16 },
        /// Create a VM from an image, at this address (0: it asks DHCP), with these boot arguments, which are all that it gets: its
        /// image's own and its address are among them if the creator says so. What `share`, `claim` and `tenant` do not say is the image's. `disk` names
        /// a [`crate::attachment::Attachment`] in the request page, or is empty: the image's. Who has
        /// chosen by the slot says which it is to be; the slot that comes next is in [`ControlReply::Network`]. Answered by `Done`
        /// whose value is the raw id; or whose status is [`status::MOVED`] and whose value is the slot that comes next instead,
        /// [`status::TOO_LONG`] for more than [`crate::guest::BOOT_ARGS_MAX`] bytes of boot arguments, [`status::NO_ARGUMENTS`],
        /// [`status::NO_ADDRESS`] or [`status::BAD_CLAIM`]; or [`status::OVER_VMS`], [`status::OVER_MEMORY`] or [`status::TENANTS_TAKEN`], whose value is a
        /// [`crate::quota::Beyond`].
        0x407 Create {
            image: ImageId,
            share: Share,
            slot: Option<Slot> | ipv4: u32,
            args: Piece,
            disk: Piece | tenant: Tenant,
            claim: Claim,
        },
        /// End a VM. Answered by `Done`.
        0x408 Destroy { vm: VmId },
        /// Ask a VM to end itself ([`crate::guest::pending::SHUTDOWN`]). Answered by `Done`.
        0x409 Shutdown { vm: VmId },
        /// Make a VM somebody else ([`crate::guest::pending::IDENTITY`]): it gets another generation id, the address `ipv4` (0: one
        /// that DHCP gives), and these boot arguments in place of those that it had. Answered by `Done`;
        /// [`status::NOT_ADMITTED`] for a VM that waits for admission, [`status::TOO_LONG`] as for `Create`.
        0x40e Identity { vm: VmId, ipv4: u32, args: Piece },
        /// The state of the processor of an admitted VM, outside its memory ([`crate::vcpu::VcpuState`]): the core writes it into the request
        /// page. Of a VM that idles, RAX is what its idle returns when nothing is pending. Answered by `Done` whose value is how many
        /// bytes there are; [`status::NOT_ADMITTED`], or [`status::TOO_LONG`] where there is no room for as many.
        0x423 ReadState { vm: VmId, to: Piece },
        /// Let a VM go on from a state of its processor, in its own memory; one that idles is woken. Answered by `Done`;
        /// [`status::BAD_REQUEST`] for what is no state or none that this processor can have, [`status::BUSY`] for a VM that waits for a page. One that stands still goes on from it later.
        0x424 WriteState { vm: VmId, from: Piece },
        /// How VMs come by their addresses, and which slot is the next. Answered by `Network`.
        0x421 Network,
        /// The boot arguments of an image, as its manifest has them: the core writes as many as there is room for. Answered by
        /// `Done` whose value is how many bytes there are.
        0x422 ImageArguments { image: ImageId, to: Piece },
        /// The virtual disk of the VM in a slot. Answered by `DiskOf`, or `Done` with [`status::NOT_FOUND`].
        0x429 DiskOf { slot: Slot },
        /// What lies in the pool of VMs that are out. Answered by `Pool`.
        0x427 Pool,
        /// Let an admitted VM stand still until `Resume`, whatever it is called for; that is pending when it goes on. It keeps its memory. Answered
        /// by `Done`; [`status::NOT_ADMITTED`] for a VM that waits for admission or is out, [`status::BUSY`] for one that waits for a page or
        /// is on its way out. Of a VM that stands still already nothing changes.
        0x42a Pause { vm: VmId },
        /// Let a VM go on that stands still; one that idled before idles no more. Answered by `Done`. Of any other VM nothing changes.
        0x42b Resume { vm: VmId },
        /// The VM that ended as this number since boot, the first one as number 0; or the earliest one behind it that the core remembers, which are the
        /// last 64. Answered by `Ended`, or by `Done` with [`status::NOT_FOUND`], whose value is how many have ended.
        0x42c Ended { from: u64 },
        /// A new image comes: a [`crate::image::NewImage`] lies in the request page. What of an image this controller had sent before and not ended is
        /// dropped. Answered by `Done` whose value is its number; whose status is [`status::BAD_REQUEST`] where it is none that could be,
        /// [`status::TAKEN`] for a name that another one has, [`status::NO_SPACE`] where there are [`crate::limits::LIVE_IMAGES`] already,
        /// [`status::NO_FRAMES`] and how many frames are free for it, or [`status::BUSY`] while another controller sends one.
        0x42d ImageBegin { from: Piece },
        /// The next page of the image that this controller sends: so many bytes as [`crate::image::NewImage::bytes_of`] says. Answered by `Done`;
        /// [`status::BAD_REQUEST`] for another page or another number of bytes, and [`status::NO_FRAMES`]: then it goes on with the same page.
        0x42e ImagePage { image: ImageId, page: u32, from: Piece },
        /// All pages of the image are there: VMs can be made of it from now on. Answered by `Done`; [`status::BAD_REQUEST`] when some are
        /// missing, [`status::BUSY`] while a pager is behind with its messages.
        0x42f ImageEnd { image: ImageId },
        /// Forget an image that was sent, or what this controller has sent of one. Answered by `Done`; [`status::NOT_FOUND`] for none or one that
        /// came with the machine, [`status::IN_USE`] and how many VMs it has, [`status::BUSY`] as for `ImageEnd`.
        0x430 ImageRemove { image: ImageId },
        /// What is known of an image: the core writes a [`crate::image::NewImage`] into the request page. Answered by `Done` whose value is how many
        /// VMs it has; [`status::NOT_FOUND`] for none that was sent.
        0x431 ImageDetails { image: ImageId, to: Piece },
        /// What is charged to the VM in this slot or in the next one where one lives. Answered by `Charges`, or by `Done` as `NextVm`.
        0x434 NextCharges { slot: Slot },
        /// Where the processor's time has gone. Answered by `Account`.
        0x435 Account,
        /// What a tenant has and may have. Answered by `Flow` and then `Tenant`, or `Done` with [`status::NOT_FOUND`] for one that has neither VMs nor a quota.
        0x436 Tenant { tenant: Tenant },
        /// The same of the tenant with this number, or of the next one. Its number stays as long as it has VMs or a quota, and is below
        /// [`crate::limits::LIVE_TENANTS`]. Answered by `Flow` and then `Tenant`, or by `Done` with [`status::NOT_FOUND`] when there is none.
        0x437 NextTenant { number: u32 },
        /// What the VMs of a tenant may take together from now on, and what they may do in each second, where [`Flow::STAYS`] leaves what holds. Those that live
        /// go on when they take more already: only new ones are refused.
        /// Answered by `Done`; [`status::BAD_REQUEST`] for the tenant without a name, [`status::TENANTS_TAKEN`] where there are
        /// [`crate::limits::LIVE_TENANTS`] others.
        0x438 SetQuota { tenant: Tenant, quota: Quota, flow: Flow },
        /// Unix time is `by_ns` more, a signed number: at once where `ppm` is 0, else by going faster or slower by so many parts of a million, at most
        /// 1,000, until that is so; what was left of an earlier adjustment is forgotten. VMs find it in their register pages, under the sequence
        /// word, and nobody is woken. Answered by `Done` whose value is the Unix time in nanoseconds; [`status::BAD_REQUEST`] for another speed, or
        /// where it would be before 1970 or after 2262.
        0x450 AdjustClock { by_ns: u64, ppm: u32 },
        /// Which start of the machine this is. Answered by `Boot`.
        0x452 Boot,
        /// What the console of a VM has said from a position on, `u64::MAX` for the earliest that is there: the core writes as many bytes as there is
        /// room for. Who asks watches that console from then on, for [`crate::limits::WATCH_SECONDS`] since the last such request about it: the first one
        /// finds what still lies in the VM's console ring, and what comes later is kept, the last [`crate::limits::WATCH_BYTES`] of it. The next piece that
        /// comes makes [`crate::guest::pending::WATCHED`] pending for a VM that asks. Answered by `Console`; [`status::NOT_FOUND`] when
        /// there is no such VM and all that it has said was read, [`status::CONSOLES_TAKEN`] and how many can be watched at once, or [`status::NO_FRAMES`].
        0x448 ConsoleRead { vm: VmId, from: u64, to: Piece },
        /// Put bytes into the input ring of a VM's console ([`crate::guest::CONSOLE_INPUT_RING`]); a newline ends a line. A VM that is out is called in.
        /// Answered by `Done` whose value is how many were taken, the first ones: none while the VM is on its way in or out, or its ring is full;
        /// ask again then. [`status::TOO_LONG`] for more than [`crate::guest::INPUT_BYTES`], [`status::BUSY`] as for `Shutdown`.
        0x449 ConsoleWrite { vm: VmId, from: Piece },
        /// What was logged from a position on, `u64::MAX` for the earliest that is kept: the core writes as many bytes as there is room for. Positions count
        /// the bytes since the core's first line. Answered by `Log`; [`status::BAD_REQUEST`] for a piece that is no place in the request page.
        0x454 LogRead { from: u64, to: Piece },
        /// All that was logged in front of a position is written down, says a VM; a component only asks. Answered by `Noted`.
        0x461 Noted { until: u64 },
        /// Power the machine off. No answer.
        0x40a PowerOff,
    }
}

messages! {
    /// Core to controller.
    ControlReply {
        /// A request is done, or failed: [`status`]. `value` depends on the request.
        0x411 Done { status: u32, value: u64 },
        /// Frames of one owner. For VMs all of them together; `owners` is how many there are. Of those that are free, `kept` are kept for
        /// VMs that do not hold their reserves.
        0x412 Frames { owner: Name, frames: u64, owners: u64, kept: u64 },
        /// The owner of the frame at a physical address: which kind, which one of it (a VM's slot, a place in the list of components or
        /// images), and the guest's page, of a VM's memory, page tables and images.
        0x41e Frame { address: u64, owner: Name, page: u32 | id: u32 },
        /// State of a VM: [`vm_state`], time it ran in ticks, frames of memory that are its own, of metadata, of EPT; its address, 0
        /// when it asks DHCP; the bus locks that it has taken, where the processor counts them; and the frames that are kept for it, and that
        /// it may hold. What it holds is `memory`, `metadata` and `tables`.
        0x413 Vm {
            vm: VmId,
            state: u16 | image: ImageId,
            ran_ticks: u64,
            metadata: u32 | memory: u32,
            shared: u32 | tables: u32,
            bus_locks: u32 | ipv4: u32,
            claim: Claim,
        },
        /// How VMs come by their addresses, and the slot of the VM that is created next, if there is room for one.
        0x41a Network { next: Option<Slot>, net: Net },
        /// What a VM was given of what VMs share; the frames that are kept for it, that it may hold, and that it holds; and whose it is.
        0x418 Share { vm: VmId, share: Share, limit: u32 | reserve: u32, held: u32, tenant: Tenant },
        /// The virtual disk that a VM was created with ([`crate::attachment`]), an empty name for none; whether somebody serves it;
        /// and what was done with it for the VM.
        0x41f DiskOf { vm: VmId, disk: Name, mode: u16 | rate: u16, attached: bool, used: DiskUse },
        /// What the processor is exposed to, and what is done about it.
        0x41b Barriers { plan: BarrierPlan },
        /// VMs that live; of them those that were admitted, that are out, and that wait for admission; VMs that were called from being out
        /// and came in, and how long half of these have waited for that, and 99 of 100, in ticks, at most a quarter more than it was.
        0x41c Wakes { admitted: u32 | living: u32, waiting: u32 | out: u32, woken: u64, p50_ticks: u64, p99_ticks: u64 },
        /// Bytes of the pool, and those that are taken by VMs that are out, of which there are so many; VMs that went out since boot, that came in
        /// again, for whom there was no room, and that ended because what came back was damaged, or nothing did. And how many lie on the disks, and were ever moved there.
        0x41d Pool { pool_bytes: u64, bytes: u64, damaged: u32 | vms: u32, stored: u64, loaded: u64, pages: u32 | refused: u32, moved: u32 | on_disk: u32 },
        /// The VM that ended as this number, why ([`crate::end::EndReason`]), and what that reason explains.
        0x420 Ended { number: u64, vm: VmId, reason: u32, detail: u64 },
        /// Ticks that a VM ran, and what is charged to it beside.
        0x432 Charges { vm: VmId, ran_ticks: u64, charges: Charges },
        /// TSC now; of the ticks since it began to count those that were idle, that guests ran, that components and the core ran on behalf of VMs, and that these
        /// ran for nobody in particular; and of what was charged to VMs, what was charged to those that have ended.
        0x433 Account {
            tsc: u64,
            idle_ticks: u64,
            guest_ticks: u64,
            service_ticks: u64,
            own_ticks: u64,
            ended_ran_ticks: u64,
            ended_service_ticks: u64,
        },
        /// A tenant, its number, its living VMs, how many were refused because of its quota (2^32 - 1 for as many or more), the frames that they
        /// may hold together, its quota, and the bytes of the pool that those that are out take.
        0x439 Tenant { number: u32 | tenant: Tenant, vms: u32 | refused: u32, frames: u64, quota: Quota, pooled: u64 },
        /// What the VMs of a tenant may do in each second; how many of them are out, were called, and wait because of it; and how often one had to, since the tenant
        /// last had neither VMs nor a quota.
        0x460 Flow { tenant: Tenant, flow: Flow, waiting: u32, delayed: u64 },
        /// A number of 128 bits that each start of the machine draws anew: what a controller remembers of VMs is about those that live when it is the same.
        0x453 Boot { low: u64, high: u64 },
        /// So many bytes of a console were written into the request page. `next` is the position behind them, and `missed` at least how many were lost
        /// between the position that was asked for and the first of them.
        0x44a Console { vm: VmId, next: u64, missed: u64, bytes: u32 },
        /// So many bytes of the log were written into the request page, as for `Console`.
        0x455 Log { next: u64, missed: u64, bytes: u32 },
        /// The position behind the last that was logged, 2^64 - 1 while lines wait for the serial line, which have none before; in front of which all is
        /// written down; and how many VMs control the machine now.
        0x462 Noted { end: u64, until: u64, vms: u32 },
        /// A policy of the component of this name, which has so many of them: [`policy_state`].
        0x419 Policy { component: Name, name: Name, policies: u16, state: u16 },
        /// State of a component: how often it was started, and the time it ran.
        0x414 Component { index: u16, name: Name, incarnation: u32, ran_ticks: u64 },
        /// An image's name and memory.
        0x415 Image { image: ImageId, name: Name, memory_bytes: u64 },
        /// TSC now, ticks idle since boot, ticks per second, ticks in components, ticks in guests; ticks from the core's start to the last
        /// admission of a VM, and VMs that the core had to admit by itself.
        0x416 Machine {
            tsc: u64,
            idle_ticks: u64,
            tsc_hz: u64,
            component_ticks: u64,
            guest_ticks: u64,
            admitted_ticks: u64,
            late: u64,
        },
        /// Counters since boot: VM exits, hypercalls, external interrupts, system calls, faults to the pager, fallback dispatches;
        /// and the ticks from the last stop of the scheduler until a VM went on by its plan or its successor's, idle ones left out.
        0x417 Exits { exits: u64, hypercalls: u64, interrupts: u64, syscalls: u64, faults: u64, fallbacks: u64, gap_ticks: u64 },
    }
}

/// What the monitor says in the log in front of a command on the operator's line that changes something, before it carries that out; behind it, in a line each, it says
/// `done` and the first word, or `error` and why.
pub const NOTE: &str = "operator: ";

/// Values of [`ControlReply::Done::status`].
pub mod status {
    /// Done.
    pub const OK: u32 = 0;
    /// There is no such VM, component or image.
    pub const NOT_FOUND: u32 = 1;
    /// Not enough frames, or no VM slot free.
    pub const NO_SPACE: u32 = 2;
    /// The request's arguments make no sense.
    pub const BAD_REQUEST: u32 = 3;
    /// The policy's module was not among the boot modules.
    pub const NO_MODULE: u32 = 4;
    /// The policy's module was refused at boot.
    pub const BAD_MODULE: u32 = 5;
    /// Another policy is just being replaced.
    pub const BUSY: u32 = 6;
    /// There was nothing so far: ask again from `value` on.
    pub const GO_ON: u32 = 7;
    /// Another slot is the next one: `value`.
    pub const MOVED: u32 = 8;
    /// The boot arguments are longer than [`crate::guest::BOOT_ARGS_MAX`].
    pub const TOO_LONG: u32 = 9;
    /// The VM waits for admission, or for the first packet for it: it has not been anybody yet.
    pub const NOT_ADMITTED: u32 = 10;
    /// There is no room for the boot arguments: too many VMs that wait have some.
    pub const NO_ARGUMENTS: u32 = 11;
    /// VMs of the image start with the first packet for them, and this one has no address.
    pub const NO_ADDRESS: u32 = 12;
    /// The VM could not start with its reserve, or that is beyond its limit.
    pub const BAD_CLAIM: u32 = 13;
    /// Another image has this name.
    pub const TAKEN: u32 = 14;
    /// VMs are made of the image: `value` of them.
    pub const IN_USE: u32 = 15;
    /// Too few frames are free beyond those that are kept for VMs: `value`.
    pub const NO_FRAMES: u32 = 16;
    /// The tenant has as many VMs as its quota allows.
    pub const OVER_VMS: u32 = 17;
    /// With it the VMs of its tenant could hold more memory than their quota allows.
    pub const OVER_MEMORY: u32 = 18;
    /// As many tenants as there can be have VMs or a quota, and this is another one.
    pub const TENANTS_TAKEN: u32 = 19;
    /// Nobody serves disks: the machine had none when it was started.
    pub const NO_DISKS: u32 = 24;
    /// The disk component was started anew before it has answered: what was asked for was done or not.
    pub const DISKS_LOST: u32 = 25;
    /// As many consoles are watched as can be: `value` of them.
    pub const CONSOLES_TAKEN: u32 = 28;
    /// A VM may not: an image that controls the machine names the virtual disk as its own, or the VM's own image is not for reading virtual disks.
    pub const NOT_ALLOWED: u32 = 29;
}

/// The number, beyond those of components, under which the gatekeeper's ways ([`crate::sched::Admission`]) are policies, and the name that they have there.
// Eight.
#[allow(clippy::cast_possible_truncation)]
pub const GATEKEEPER: u16 = crate::limits::MAX_COMPONENTS as u16;
/// See [`GATEKEEPER`].
pub const GATEKEEPER_NAME: &str = "gatekeeper";

/// Values of [`ControlReply::Policy::state`].
pub mod policy_state {
    /// It could run.
    pub const READY: u16 = 1;
    /// It runs.
    pub const RUNS: u16 = 2;
    /// Its module was not among the boot modules.
    pub const MISSING: u16 = 3;
    /// Its module was refused at boot.
    pub const REFUSED: u16 = 4;
}

/// Values of [`ControlReply::Vm::state`].
pub mod vm_state {
    /// Waits for the gatekeeper.
    pub const WAITING: u16 = 1;
    /// Can run.
    pub const READY: u16 = 2;
    /// Idles.
    pub const IDLE: u16 = 3;
    /// Waits for a page.
    pub const FAULT: u16 = 4;
    /// Is being taken apart.
    pub const ENDING: u16 = 5;
    /// Is out: it starts with the first packet for it.
    pub const OUT: u16 = 6;
    /// Is on its way out.
    pub const LEAVING: u16 = 7;
    /// Is on its way in.
    pub const COMING: u16 = 8;
    /// Is out, and its memory lies in the pool.
    pub const POOLED: u16 = 9;
    /// Is out, and its memory lies on the disks.
    pub const ON_DISK: u16 = 10;
    /// Stands still until somebody lets it go on.
    pub const PAUSED: u16 = 11;
}

impl Words for Net {
    fn put(self, words: &mut [u64; 7], at: &mut usize) {
        let (how, address, gateway) = match self {
            Net::Dhcp => (0, 0, None),
            Net::Static { address, prefix, gateway } => {
                (1 | u64::from(gateway.is_some()) << 1 | u64::from(prefix) << 8, address, gateway)
            }
        };
        how.put(words, at);
        address.put(words, at);
        gateway.unwrap_or(0).put(words, at);
    }

    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage> {
        let (how, address, gateway) =
            (u16::take(kind, words, at)?, u32::take(kind, words, at)?, u32::take(kind, words, at)?);
        let gateway = (how & 2 != 0).then_some(gateway);
        Ok(if how & 1 == 0 { Net::Dhcp } else { Net::Static { address, prefix: how.to_be_bytes()[0], gateway } })
    }
}

/// Two numbers in a word, the upper one first.
fn put_halves(high: u32, low: u32, words: &mut [u64; 7], at: &mut usize) {
    (high.to_word() << 32 | low.to_word()).put(words, at);
}

/// The inverse of [`put_halves`].
fn take_halves(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<(u32, u32), BadMessage> {
    let word = u64::take(kind, words, at)?;
    Ok((u32::from_word(kind, word >> 32)?, u32::from_word(kind, word & 0xffff_ffff)?))
}

impl Words for BarrierPlan {
    fn put(self, words: &mut [u64; 7], at: &mut usize) {
        put_halves(self.setup, self.mode, words, at);
        put_halves(self.open.raw(), self.exposed.raw(), words, at);
        put_halves(self.tenant.raw(), self.exit.raw(), words, at);
        put_halves(self.component.raw(), self.entry.raw(), words, at);
    }

    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage> {
        let (setup, mode) = take_halves(kind, words, at)?;
        let (open, exposed) = take_halves(kind, words, at)?;
        let (tenant, exit) = take_halves(kind, words, at)?;
        let (component, entry) = take_halves(kind, words, at)?;
        Ok(BarrierPlan {
            mode,
            setup,
            exposed: Exposures::from_raw(exposed),
            open: Exposures::from_raw(open),
            exit: Barriers::from_raw(exit),
            tenant: Barriers::from_raw(tenant),
            entry: Barriers::from_raw(entry),
            component: Barriers::from_raw(component),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_a_vm_has_a_word_of_its_own() {
        let words: [&str; vm_state::PAUSED as usize] =
            core::array::from_fn(|at| u16::try_from(at + 1).map_or("unknown", crate::words::state_word));
        for (at, word) in words.iter().enumerate() {
            assert!(!words[..at].contains(word) && *word != "unknown", "{word}");
        }
        assert_eq!(crate::words::state_word(vm_state::PAUSED + 1), "unknown");
    }
}
