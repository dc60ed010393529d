//! Messages between the core and whoever controls it: the monitor component, and VMs that have a control ring
//! ([`crate::guest_control`]).

// The sentence above each message explains its fields.
#![allow(missing_docs)]

use crate::addresses::Net;
use crate::barriers::{BarrierPlan, Barriers, Exposures};
use crate::claim::Claim;
use crate::limits::Name;
use crate::message::{BadMessage, Message, bytes_to_words, low16, low32, words_to_bytes};
use crate::request_page::Piece;
use crate::share::Share;
use crate::tenant::Tenant;
use crate::vm::{ImageId, Slot, VmId};

/// Controller to core. The answer carries the request's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRequest {
    /// Which frames belong to whom. Answered by one `Frames` per owner, then `Done`.
    Frames,
    /// State of the VM in a slot. Answered by `Vm`, or `Done` with [`status::NOT_FOUND`].
    Vm { slot: Slot },
    /// State of the VM in this slot or in the next one where one lives. Answered by `Vm`, or by `Done`: with [`status::NOT_FOUND`]
    /// when there is none, or with [`status::GO_ON`] and the slot to go on from, so that nobody looks at a million at once.
    NextVm { slot: Slot },
    /// State of a component. Answered by `Component`, or `Done` with [`status::NOT_FOUND`].
    Component { index: u16 },
    /// Name of an image. Answered by `Image`, or `Done` with [`status::NOT_FOUND`].
    Image { image: ImageId },
    /// Time and counters of the machine. Answered by `Machine`, then `Exits`.
    Machine,
    /// What the processor is exposed to, and what is done about it. Answered by `Barriers`.
    Barriers,
    /// How many VMs are in, out and on their way, and how long those that were called have waited. Answered by `Wakes`.
    Wakes,
    /// What was given to the VM in a slot of what VMs share. Answered by `Share`, or `Done` with [`status::NOT_FOUND`].
    Share { slot: Slot },
    /// Kill a component; it is restarted from its module. Answered by `Done`.
    Kill { component: u16 },
    /// One of the policies that can fill a component's role, by their numbers. Answered by `Policy`, or `Done` with
    /// [`status::NOT_FOUND`].
    Policy { component: u16, policy: u16 },
    /// Replace a component's policy while all goes on. Answered by `Done` when the other one has been started, or when it
    /// cannot be: [`status::NOT_FOUND`], [`status::NO_MODULE`], [`status::BAD_MODULE`], [`status::BUSY`].
    Swap { component: u16, policy: u16 },
    /// Create a VM from an image, at this address (0: it asks DHCP), with these boot arguments, which are all that it gets: its
    /// image's own and its address are among them if the creator says so. What `share`, `claim` and `tenant` do not say is the image's. Who has
    /// chosen by the slot says which it is to be; the slot that comes next is in [`ControlReply::Network`]. Answered by `Done`
    /// whose value is the raw id; or whose status is [`status::MOVED`] and whose value is the slot that comes next instead,
    /// [`status::TOO_LONG`] for more than [`crate::guest::BOOT_ARGS_MAX`] bytes of boot arguments, [`status::NO_ARGUMENTS`], or
    /// [`status::BAD_CLAIM`].
    Create { image: ImageId, slot: Option<Slot>, ipv4: u32, args: Piece, share: Share, claim: Claim, tenant: Tenant },
    /// End a VM. Answered by `Done`.
    Destroy { vm: VmId },
    /// Ask a VM to end itself ([`crate::guest::pending::SHUTDOWN`]). Answered by `Done`.
    Shutdown { vm: VmId },
    /// Make a VM somebody else ([`crate::guest::pending::IDENTITY`]): it gets another generation id, the address `ipv4` (0: one
    /// that DHCP gives), and these boot arguments in place of those that it had. Answered by `Done`;
    /// [`status::NOT_ADMITTED`] for a VM that waits for admission, [`status::TOO_LONG`] as for `Create`.
    Identity { vm: VmId, ipv4: u32, args: Piece },
    /// The state of the processor of an admitted VM, outside its memory ([`crate::vcpu::VcpuState`]): the core writes it into the request
    /// page. Of a VM that idles, RAX is what its idle returns when nothing is pending. Answered by `Done` whose value is how many
    /// bytes there are; [`status::NOT_ADMITTED`], or [`status::TOO_LONG`] where there is no room for as many.
    ReadState { vm: VmId, to: Piece },
    /// Let a VM go on from a state of its processor, in its own memory; one that idles is woken. Answered by `Done`;
    /// [`status::BAD_REQUEST`] for what is no state or none that this processor can have, [`status::BUSY`] for a VM that waits for a page.
    WriteState { vm: VmId, from: Piece },
    /// How VMs come by their addresses, and which slot is the next. Answered by `Network`.
    Network,
    /// The boot arguments of an image, as its manifest has them: the core writes as many as there is room for. Answered by
    /// `Done` whose value is how many bytes there are.
    ImageArguments { image: ImageId, to: Piece },
    /// Power the machine off. No answer.
    PowerOff,
}

/// Core to controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlReply {
    /// A request is done, or failed: [`status`]. `value` depends on the request.
    Done { status: u32, value: u64 },
    /// Frames of one owner. For VMs all of them together; `owners` is how many there are. Of those that are free, `kept` are kept for
    /// VMs that do not hold their reserves.
    Frames { owner: Name, frames: u64, owners: u64, kept: u64 },
    /// State of a VM: [`vm_state`], time it ran in ticks, frames of memory that are its own, of metadata, of EPT; its address, 0
    /// when it asks DHCP; the bus locks that it has taken, where the processor counts them; and the frames that are kept for it, and that
    /// it may hold. What it holds is `memory`, `metadata` and `tables`.
    Vm {
        vm: VmId,
        image: ImageId,
        state: u16,
        ran_ticks: u64,
        memory: u32,
        metadata: u32,
        tables: u32,
        shared: u32,
        ipv4: u32,
        bus_locks: u32,
        claim: Claim,
    },
    /// How VMs come by their addresses, and the slot of the VM that is created next, if there is room for one.
    Network { net: Net, next: Option<Slot> },
    /// What a VM was given of what VMs share; the frames that are kept for it, that it may hold, and that it holds; and whose it is.
    Share { vm: VmId, share: Share, reserve: u32, limit: u32, held: u32, tenant: Tenant },
    /// What the processor is exposed to, and what is done about it.
    Barriers(BarrierPlan),
    /// VMs that live; of them those that were admitted, that are out, and that wait for admission; VMs that were called from being out
    /// and came in, and how long half of these have waited for that, and 99 of 100, in ticks, at most a quarter more than it was.
    Wakes { living: u32, admitted: u32, out: u32, waiting: u32, woken: u64, p50_ticks: u64, p99_ticks: u64 },
    /// A policy of the component of this name, which has so many of them: [`policy_state`].
    Policy { component: Name, name: Name, policies: u16, state: u16 },
    /// State of a component: how often it was started, and the time it ran.
    Component { index: u16, name: Name, incarnation: u32, ran_ticks: u64 },
    /// An image's name and memory.
    Image { image: ImageId, name: Name, memory_bytes: u64 },
    /// TSC now, ticks idle since boot, ticks per second, ticks in components, ticks in guests; ticks from the core's start to the last
    /// admission of a VM, and VMs that the core had to admit by itself.
    Machine {
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
    Exits { exits: u64, hypercalls: u64, interrupts: u64, syscalls: u64, faults: u64, fallbacks: u64, gap_ticks: u64 },
}

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
}

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
}

const FRAMES: u32 = 0x401;
const VM: u32 = 0x402;
const COMPONENT: u32 = 0x403;
const IMAGE: u32 = 0x404;
const MACHINE: u32 = 0x405;
const KILL: u32 = 0x406;
const CREATE: u32 = 0x407;
const DESTROY: u32 = 0x408;
const SHUTDOWN: u32 = 0x409;
const POWER_OFF: u32 = 0x40a;
const SHARE: u32 = 0x40b;
const POLICY: u32 = 0x40c;
const SWAP: u32 = 0x40d;
const IDENTITY: u32 = 0x40e;
const NEXT_VM: u32 = 0x40f;
const NETWORK: u32 = 0x421;
const IMAGE_ARGUMENTS: u32 = 0x422;
const READ_STATE: u32 = 0x423;
const WRITE_STATE: u32 = 0x424;
const BARRIERS: u32 = 0x425;
const WAKES: u32 = 0x426;
const R_DONE: u32 = 0x411;
const R_FRAMES: u32 = 0x412;
const R_VM: u32 = 0x413;
const R_COMPONENT: u32 = 0x414;
const R_IMAGE: u32 = 0x415;
const R_MACHINE: u32 = 0x416;
const R_EXITS: u32 = 0x417;
const R_SHARE: u32 = 0x418;
const R_POLICY: u32 = 0x419;
const R_NETWORK: u32 = 0x41a;
const R_BARRIERS: u32 = 0x41b;
const R_WAKES: u32 = 0x41c;

/// Stands for no slot.
const ANY_SLOT: u32 = u32::MAX;

impl From<ControlRequest> for Message {
    fn from(request: ControlRequest) -> Message {
        match request {
            ControlRequest::Frames => Message::new(FRAMES, []),
            ControlRequest::Vm { slot } => Message::new(VM, [slot.number().into()]),
            ControlRequest::NextVm { slot } => Message::new(NEXT_VM, [slot.number().into()]),
            ControlRequest::Component { index } => Message::new(COMPONENT, [index.into()]),
            ControlRequest::Image { image } => Message::new(IMAGE, [image.number().into()]),
            ControlRequest::Machine => Message::new(MACHINE, []),
            ControlRequest::Barriers => Message::new(BARRIERS, []),
            ControlRequest::Wakes => Message::new(WAKES, []),
            ControlRequest::Share { slot } => Message::new(SHARE, [slot.number().into()]),
            ControlRequest::Kill { component } => Message::new(KILL, [component.into()]),
            ControlRequest::Policy { component, policy } => Message::new(POLICY, [component.into(), policy.into()]),
            ControlRequest::Swap { component, policy } => Message::new(SWAP, [component.into(), policy.into()]),
            ControlRequest::Create { image, slot, ipv4, args, share, claim, tenant } => {
                let first = u64::from(share.weight) << 32 | u64::from(image.number());
                let (place, tenant) = (halves(raw_slot(slot), ipv4), tenant.raw().into());
                Message::new(CREATE, [first, share.limits(), place, args.raw().into(), tenant, raw_claim(claim)])
            }
            ControlRequest::Destroy { vm } => Message::new(DESTROY, [vm.raw()]),
            ControlRequest::Shutdown { vm } => Message::new(SHUTDOWN, [vm.raw()]),
            ControlRequest::Identity { vm, ipv4, args } => {
                Message::new(IDENTITY, [vm.raw(), ipv4.into(), args.raw().into()])
            }
            ControlRequest::ReadState { vm, to } => Message::new(READ_STATE, [vm.raw(), to.raw().into()]),
            ControlRequest::WriteState { vm, from } => Message::new(WRITE_STATE, [vm.raw(), from.raw().into()]),
            ControlRequest::Network => Message::new(NETWORK, []),
            ControlRequest::ImageArguments { image, to } => {
                Message::new(IMAGE_ARGUMENTS, [image.number().into(), to.raw().into()])
            }
            ControlRequest::PowerOff => Message::new(POWER_OFF, []),
        }
    }
}

impl TryFrom<&Message> for ControlRequest {
    type Error = BadMessage;

    fn try_from(message: &Message) -> Result<Self, BadMessage> {
        let kind = message.kind;
        let a = message.words[0];
        Ok(match kind {
            FRAMES => ControlRequest::Frames,
            VM => ControlRequest::Vm { slot: Slot::new(low32(kind, a)?) },
            NEXT_VM => ControlRequest::NextVm { slot: Slot::new(low32(kind, a)?) },
            COMPONENT => ControlRequest::Component { index: low16(kind, a)? },
            IMAGE => ControlRequest::Image { image: ImageId::new(low32(kind, a)?) },
            MACHINE => ControlRequest::Machine,
            BARRIERS => ControlRequest::Barriers,
            WAKES => ControlRequest::Wakes,
            SHARE => ControlRequest::Share { slot: Slot::new(low32(kind, a)?) },
            KILL => ControlRequest::Kill { component: low16(kind, a)? },
            POLICY => ControlRequest::Policy { component: low16(kind, a)?, policy: low16(kind, message.words[1])? },
            SWAP => ControlRequest::Swap { component: low16(kind, a)?, policy: low16(kind, message.words[1])? },
            CREATE => {
                let [_, limits, place, args, tenant, claim, _] = message.words;
                let share = Share::from_limits(low16(kind, a >> 32)?, limits);
                let image = ImageId::new(low32(kind, a & 0xffff_ffff)?);
                let (slot, ipv4) = split(place);
                let args = Piece::from_raw(low32(kind, args)?);
                let tenant = tenant_of(kind, tenant)?;
                let claim = claim_of(claim);
                ControlRequest::Create { image, slot: slot_of(slot), ipv4, args, share, claim, tenant }
            }
            DESTROY => ControlRequest::Destroy { vm: VmId::from_raw(a) },
            SHUTDOWN => ControlRequest::Shutdown { vm: VmId::from_raw(a) },
            IDENTITY => ControlRequest::Identity {
                vm: VmId::from_raw(a),
                ipv4: low32(kind, message.words[1])?,
                args: Piece::from_raw(low32(kind, message.words[2])?),
            },
            READ_STATE => {
                ControlRequest::ReadState { vm: VmId::from_raw(a), to: Piece::from_raw(low32(kind, message.words[1])?) }
            }
            WRITE_STATE => ControlRequest::WriteState {
                vm: VmId::from_raw(a),
                from: Piece::from_raw(low32(kind, message.words[1])?),
            },
            NETWORK => ControlRequest::Network,
            IMAGE_ARGUMENTS => ControlRequest::ImageArguments {
                image: ImageId::new(low32(kind, a)?),
                to: Piece::from_raw(low32(kind, message.words[1])?),
            },
            POWER_OFF => ControlRequest::PowerOff,
            _ => return Err(BadMessage::unknown(kind)),
        })
    }
}

const fn raw_slot(slot: Option<Slot>) -> u32 {
    match slot {
        Some(slot) => slot.number(),
        None => ANY_SLOT,
    }
}

const fn slot_of(raw: u32) -> Option<Slot> {
    if raw == ANY_SLOT { None } else { Some(Slot::new(raw)) }
}

/// The tenant that a word names.
fn tenant_of(kind: u32, word: u64) -> Result<Tenant, BadMessage> {
    Tenant::from_raw(low32(kind, word)?).ok_or(BadMessage { kind, what: "no tenant's name" })
}

/// A claim as one word: limit in bits 63..32, reserve in bits 31..0.
fn raw_claim(claim: Claim) -> u64 {
    halves(claim.limit, claim.reserve)
}

/// The inverse of [`raw_claim`].
const fn claim_of(word: u64) -> Claim {
    let (limit, reserve) = split(word);
    Claim { reserve, limit }
}

/// A word of these halves, the upper one first.
fn halves(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// The halves of a word, the upper one first.
const fn split(word: u64) -> (u32, u32) {
    // Both are meant to be cut out.
    #[allow(clippy::cast_possible_truncation)]
    ((word >> 32) as u32, word as u32)
}

impl From<ControlReply> for Message {
    fn from(reply: ControlReply) -> Message {
        match reply {
            ControlReply::Done { status, value } => Message::new(R_DONE, [status.into(), value]),
            ControlReply::Frames { owner, frames, owners, kept } => {
                let [a, b] = bytes_to_words(owner.0);
                Message::new(R_FRAMES, [a, b, frames, owners, kept])
            }
            ControlReply::Vm {
                vm,
                image,
                state,
                ran_ticks,
                memory,
                metadata,
                tables,
                shared,
                ipv4,
                bus_locks,
                claim,
            } => Message::new(
                R_VM,
                [
                    vm.raw(),
                    halves(state.into(), image.number()),
                    ran_ticks,
                    halves(metadata, memory),
                    halves(shared, tables),
                    halves(bus_locks, ipv4),
                    raw_claim(claim),
                ],
            ),
            ControlReply::Network { net: Net::Dhcp, next } => Message::new(R_NETWORK, [raw_slot(next).into(), 0]),
            ControlReply::Network { net: Net::Static { address, prefix, gateway }, next } => {
                let how = 1 | u64::from(gateway.is_some()) << 1 | u64::from(prefix) << 8;
                Message::new(R_NETWORK, [raw_slot(next).into(), how, address.into(), gateway.unwrap_or(0).into()])
            }
            ControlReply::Component { index, name, incarnation, ran_ticks } => {
                let [a, b] = bytes_to_words(name.0);
                Message::new(R_COMPONENT, [index.into(), a, b, incarnation.into(), ran_ticks])
            }
            ControlReply::Image { image, name, memory_bytes } => {
                let [a, b] = bytes_to_words(name.0);
                Message::new(R_IMAGE, [image.number().into(), a, b, memory_bytes])
            }
            ControlReply::Machine { tsc, idle_ticks, tsc_hz, component_ticks, guest_ticks, admitted_ticks, late } => {
                Message::new(R_MACHINE, [tsc, idle_ticks, tsc_hz, component_ticks, guest_ticks, admitted_ticks, late])
            }
            ControlReply::Exits { exits, hypercalls, interrupts, syscalls, faults, fallbacks, gap_ticks } => {
                Message::new(R_EXITS, [exits, hypercalls, interrupts, syscalls, faults, fallbacks, gap_ticks])
            }
            ControlReply::Share { vm, share, reserve, limit, held, tenant } => {
                let weight_and_held = halves(held, share.weight.into());
                let (frames, tenant) = (halves(limit, reserve), tenant.raw().into());
                Message::new(R_SHARE, [vm.raw(), weight_and_held, share.limits(), frames, tenant])
            }
            ControlReply::Barriers(plan) => Message::new(
                R_BARRIERS,
                [
                    halves(plan.setup, plan.mode),
                    halves(plan.open.raw(), plan.exposed.raw()),
                    halves(plan.tenant.raw(), plan.exit.raw()),
                    halves(plan.component.raw(), plan.entry.raw()),
                ],
            ),
            ControlReply::Wakes { living, admitted, out, waiting, woken, p50_ticks, p99_ticks } => {
                Message::new(R_WAKES, [halves(admitted, living), halves(waiting, out), woken, p50_ticks, p99_ticks])
            }
            ControlReply::Policy { component, name, policies, state } => {
                let ([a, b], [c, d]) = (bytes_to_words(component.0), bytes_to_words(name.0));
                Message::new(R_POLICY, [a, b, c, d, policies.into(), state.into()])
            }
        }
    }
}

impl TryFrom<&Message> for ControlReply {
    type Error = BadMessage;

    fn try_from(message: &Message) -> Result<Self, BadMessage> {
        let kind = message.kind;
        let [a, b, c, d, e, f, g] = message.words;
        Ok(match kind {
            R_DONE => ControlReply::Done { status: low32(kind, a)?, value: b },
            R_FRAMES => ControlReply::Frames { owner: Name(words_to_bytes([a, b])), frames: c, owners: d, kept: e },
            R_VM => ControlReply::Vm {
                vm: VmId::from_raw(a),
                image: ImageId::new(low32(kind, b & 0xffff_ffff)?),
                state: low16(kind, b >> 32)?,
                ran_ticks: c,
                memory: split(d).1,
                metadata: split(d).0,
                tables: split(e).1,
                shared: split(e).0,
                ipv4: split(f).1,
                bus_locks: split(f).0,
                claim: claim_of(g),
            },
            R_NETWORK => {
                let how = low16(kind, b)?;
                let net = if how & 1 == 0 {
                    Net::Dhcp
                } else {
                    let gateway = if how & 2 == 0 { None } else { Some(low32(kind, d)?) };
                    Net::Static { address: low32(kind, c)?, prefix: how.to_be_bytes()[0], gateway }
                };
                ControlReply::Network { net, next: slot_of(low32(kind, a)?) }
            }
            R_COMPONENT => ControlReply::Component {
                index: low16(kind, a)?,
                name: Name(words_to_bytes([b, c])),
                incarnation: low32(kind, d)?,
                ran_ticks: e,
            },
            R_IMAGE => ControlReply::Image {
                image: ImageId::new(low32(kind, a)?),
                name: Name(words_to_bytes([b, c])),
                memory_bytes: d,
            },
            R_MACHINE => ControlReply::Machine {
                tsc: a,
                idle_ticks: b,
                tsc_hz: c,
                component_ticks: d,
                guest_ticks: e,
                admitted_ticks: f,
                late: g,
            },
            R_EXITS => ControlReply::Exits {
                exits: a,
                hypercalls: b,
                interrupts: c,
                syscalls: d,
                faults: e,
                fallbacks: f,
                gap_ticks: g,
            },
            R_SHARE => {
                let (held, weight) = split(b);
                let ((limit, reserve), share) = (split(d), Share::from_limits(low16(kind, weight.into())?, c));
                let tenant = tenant_of(kind, e)?;
                ControlReply::Share { vm: VmId::from_raw(a), share, reserve, limit, held, tenant }
            }
            R_BARRIERS => {
                let (setup, mode) = split(a);
                let (open, exposed) = split(b);
                let ((tenant, exit), (component, entry)) = (split(c), split(d));
                ControlReply::Barriers(BarrierPlan {
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
            R_WAKES => {
                let ((admitted, living), (waiting, out)) = (split(a), split(b));
                ControlReply::Wakes { living, admitted, out, waiting, woken: c, p50_ticks: d, p99_ticks: e }
            }
            R_POLICY => ControlReply::Policy {
                component: Name(words_to_bytes([a, b])),
                name: Name(words_to_bytes([c, d])),
                policies: low16(kind, e)?,
                state: low16(kind, f)?,
            },
            _ => return Err(BadMessage::unknown(kind)),
        })
    }
}
