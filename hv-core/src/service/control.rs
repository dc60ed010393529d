//! Requests of controllers (`abi::control`): the monitor component, and VMs that control the machine. Each hears the answers to what it
//! has asked, and nobody else's.

use crate::board::Board;
use crate::component::{BadPiece, Death, EndpointId, NoSwap, Party, Unfit};
use crate::kernel::{Cpu, Kernel};
use crate::memory::{CLASSES, OwnerClass, PhysAddr};
use crate::service::{Swapped, tenants};
use crate::vm::{
    BootArgs, CreateError, Devices, End, IdentityError, METADATA_FRAMES, Memory, Order, Seed, State, StateError,
};
use abi::attachment::Attachment;
use abi::claim::Claim;
use abi::control::{ControlReply, ControlRequest, GATEKEEPER, policy_state, status, vm_state};
use abi::end::EndReason;
use abi::limits::{Name, PAGE_SHIFT};
use abi::message::{BadMessage, Malformed, Message};
use abi::request_page::Piece;
use abi::vcpu::VcpuState;
use abi::vm::{ImageId, Slot, VmId};
use backend::{Backend, Vcpu};
use zerocopy::FromBytes;

/// Slots that one request looks at, at most.
const LOOK: u32 = 1024;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Serve one request of the controller at this endpoint, and answer it.
    ///
    /// # Errors
    /// What is no request.
    pub fn control_request(&mut self, from: EndpointId, message: &Message) -> Result<(), BadMessage> {
        let id = message.id;
        let last = match ControlRequest::try_from(message) {
            Ok(request) => self.answer_to(from, id, request),
            // No kind of ours: a question for the striper, perhaps.
            Err(BadMessage { what: Malformed::Kind, .. }) => self.ask_disks(from, message)?,
            Err(other) => return Err(other),
        };
        if let Some(last) = last {
            self.cpu.reply(from, id, last);
        }
        Ok(())
    }

    /// The last answer to a request, unless it has been given, or comes when what was asked for is done.
    fn answer_to(&mut self, from: EndpointId, id: u32, request: ControlRequest) -> Option<ControlReply> {
        let found = |found: bool| done(if found { status::OK } else { status::NOT_FOUND }, 0);
        let or_nothing = |reply: Option<ControlReply>| reply.unwrap_or(done(status::NOT_FOUND, 0));
        Some(match request {
            ControlRequest::Frames => {
                self.reply_frames(from, id);
                done(status::OK, 0)
            }
            ControlRequest::Machine => {
                self.cpu.reply_machine(from, id);
                return None;
            }
            ControlRequest::Barriers => ControlReply::Barriers { plan: *self.cpu.crossings.plan() },
            ControlRequest::Frame { address } => self.cpu.describe_frame(address),
            ControlRequest::Wakes => self.describe_wakes(),
            ControlRequest::Pool => self.describe_pool(),
            ControlRequest::Ended { from } => self.cpu.describe_end(from),
            ControlRequest::Vm { slot } => or_nothing(self.describe_vm(slot)),
            ControlRequest::NextVm { slot } => self.describe_next_vm(slot),
            ControlRequest::NextCharges { slot } => self.next_of(slot, Self::charges_of),
            ControlRequest::Account => self.cpu.account(),
            ControlRequest::Tenant { tenant } => self.describe_tenant(from, id, tenant),
            ControlRequest::NextTenant { number } => self.describe_next_tenant(from, id, number),
            ControlRequest::SetQuota { tenant, quota, flow } => self.set_quota(tenant, quota, flow),
            ControlRequest::AdjustClock { by_ns, ppm } => self.adjust_clock(by_ns.cast_signed(), ppm),
            ControlRequest::Boot => ControlReply::Boot { low: self.cpu.boot[0], high: self.cpu.boot[1] },
            ControlRequest::Component { index } => or_nothing(self.cpu.describe_component(index)),
            ControlRequest::Image { image } => or_nothing(self.cpu.describe_image(image)),
            ControlRequest::DiskOf { slot } => or_nothing(self.describe_disk(slot)),
            ControlRequest::Share { slot } => or_nothing(self.describe_share(slot)),
            ControlRequest::Policy { component: GATEKEEPER, policy } => {
                or_nothing(self.cpu.describe_gatekeeper(policy))
            }
            ControlRequest::Policy { component, policy } => or_nothing(self.cpu.describe_policy(component, policy)),
            ControlRequest::Swap { component: GATEKEEPER, policy } => done(self.cpu.change_gatekeeper(policy), 0),
            ControlRequest::Swap { component, policy } => {
                match self.cpu.begin_swap(component.into(), policy.into(), id, from) {
                    // Answered when it is done.
                    Ok(()) => return None,
                    Err(why) => done(status_of_swap(why), 0),
                }
            }
            ControlRequest::Kill { component } => {
                self.kill_for(from, id, component.into());
                return None;
            }
            // Others are told of these, and one of them is behind with its ring: later.
            ControlRequest::Shutdown { vm } if !self.can_come_in(vm) => done(status::BUSY, 0),
            ControlRequest::Create { .. } | ControlRequest::Destroy { .. } | ControlRequest::Identity { .. }
                if !self.cpu.all_have_room() =>
            {
                done(status::BUSY, 0)
            }
            ControlRequest::Create { image, slot, ipv4, args, share, claim, tenant, disk } => {
                self.cpu.note_asker(from);
                let order = Order { image, slot, ipv4, share, claim, tenant, disk: Attachment::NONE };
                self.create_for(from, order, args, disk)
            }
            ControlRequest::Destroy { vm } => {
                self.cpu.note_asker(from);
                found(self.destroy(vm))
            }
            ControlRequest::Shutdown { vm } => found(self.raise(vm, abi::guest::pending::SHUTDOWN)),
            ControlRequest::Pause { vm } => done(self.pause(vm).map_or_else(status_of_state, |()| status::OK), 0),
            ControlRequest::Resume { vm } => done(self.resume(vm).map_or_else(status_of_state, |()| status::OK), 0),
            ControlRequest::Identity { vm, ipv4, args } => self.change_identity_for(from, vm, ipv4, args),
            ControlRequest::ReadState { vm, to } => self.read_state_for(from, vm, to),
            ControlRequest::WriteState { vm, from: state } => self.write_state_for(from, vm, state),
            ControlRequest::Network => {
                ControlReply::Network { net: self.cpu.net, next: self.vms.next_id().map(|id| id.slot) }
            }
            ControlRequest::ImageBegin { from: said } => self.cpu.begin_image(from, said),
            ControlRequest::ImagePage { image, page, from: piece } => self.cpu.image_page(from, image, page, piece),
            ControlRequest::ImageEnd { image } => self.cpu.end_image(from, image),
            ControlRequest::ImageRemove { image } => self.remove_image(from, image),
            ControlRequest::ImageDetails { image, to } => self.image_details(from, image, to),
            ControlRequest::ImageArguments { image, to } => self.cpu.image_arguments(from, image, to),
            ControlRequest::LogRead { from: position, to } => self.cpu.read_log(from, position, to),
            ControlRequest::ConsoleRead { vm, from: position, to } => self.read_console(from, vm, position, to),
            ControlRequest::ConsoleWrite { vm, from: typed } => self.write_console(from, vm, typed),
            ControlRequest::Noted { until } => self.cpu.note_log(from, until),
            ControlRequest::PowerOff => {
                self.cpu.board.power_off();
                done(status::OK, 0)
            }
        })
    }

    /// Kill a component, and answer this endpoint.
    fn kill_for(&mut self, from: EndpointId, id: u32, component: usize) {
        let exists = component < self.cpu.components.list.len();
        // The answer comes first: the controller may be asking for its own end.
        self.cpu.reply(from, id, done(if exists { status::OK } else { status::NOT_FOUND }, 0));
        if exists {
            self.cpu.condemn(component, Death::Killed);
        }
    }

    /// Create a VM whose boot arguments, and which virtual disk it has, lie in the request page of this endpoint.
    fn create_for(&mut self, from: EndpointId, order: Order, args: Piece, disk: Piece) -> ControlReply {
        let Some(disk) = self.cpu.attachment_in(from, disk) else { return done(status::BAD_REQUEST, 0) };
        let order = &Order { disk, ..order };
        // The operator's line may do everything.
        let of_vm = matches!(self.cpu.endpoints.get(from).map(|endpoint| endpoint.party), Some(Party::Vm(_)));
        if of_vm && self.cpu.images.withhold(order.image, disk) {
            return done(status::NOT_ALLOWED, 0);
        }
        let mut copy = BootArgs::new();
        if let Err(why) = self.cpu.copy_in(from, args, &mut copy) {
            return done(status_of_piece(why), 0);
        }
        match self.create(order, &copy) {
            Ok(vm) => done(status::OK, vm.raw()),
            Err(CreateError::UnknownImage) => done(status::NOT_FOUND, 0),
            Err(CreateError::SlotsTaken) => done(status::NO_SPACE, 0),
            Err(CreateError::Moved(next)) => done(status::MOVED, next.number().into()),
            Err(CreateError::TooLong) => done(status::TOO_LONG, 0),
            Err(CreateError::ArgumentsTaken) => done(status::NO_ARGUMENTS, 0),
            Err(CreateError::NoAddress) => done(status::NO_ADDRESS, 0),
            Err(CreateError::BadShare) => done(status::BAD_REQUEST, 0),
            Err(CreateError::BadClaim) => done(status::BAD_CLAIM, 0),
            Err(CreateError::OverQuota(why, beyond)) => done(tenants::status_of(why), beyond.raw()),
        }
    }

    /// Make a VM somebody else, with boot arguments that lie in the request page of this endpoint.
    fn change_identity_for(&mut self, from: EndpointId, vm: VmId, ipv4: u32, args: Piece) -> ControlReply {
        let mut copy = BootArgs::new();
        if let Err(why) = self.cpu.copy_in(from, args, &mut copy) {
            return done(status_of_piece(why), 0);
        }
        let status = match self.change_identity(vm, ipv4, &copy) {
            Ok(()) => status::OK,
            Err(IdentityError::NoVm) => status::NOT_FOUND,
            Err(IdentityError::Waits) => status::NOT_ADMITTED,
            Err(IdentityError::TooLong) => status::TOO_LONG,
        };
        done(status, 0)
    }

    /// Put the state of a VM's processor into the request page of this endpoint.
    fn read_state_for(&mut self, from: EndpointId, vm: VmId, to: Piece) -> ControlReply {
        let state = match self.read_state(vm) {
            Ok(state) => state,
            Err(why) => return done(status_of_state(why), 0),
        };
        let bytes = state.to_bytes();
        let Some(endpoint) = self.cpu.endpoints.get(from).filter(|_| usize::from(to.len) >= bytes.len()) else {
            return done(status::TOO_LONG, 0);
        };
        match endpoint.copy_out(bytes, to) {
            Ok(()) => done(status::OK, bytes.len() as u64),
            Err(_) => done(status::BAD_REQUEST, 0),
        }
    }

    /// Let a VM go on from the state of a processor that lies in the request page of this endpoint.
    fn write_state_for(&mut self, from: EndpointId, vm: VmId, piece: Piece) -> ControlReply {
        let mut copy = heapless::Vec::<u8, { size_of::<VcpuState>() }>::new();
        let copied = self.cpu.endpoints.get(from).map(|endpoint| endpoint.copy_in(piece, &mut copy));
        if copied != Some(Ok(())) {
            return done(status::BAD_REQUEST, 0);
        }
        match VcpuState::from_bytes(&copy).map_err(StateError::Bad).and_then(|state| self.write_state(vm, &state)) {
            Ok(()) => done(status::OK, 0),
            Err(why) => done(status_of_state(why), 0),
        }
    }

    /// End a VM, whether it was admitted or not. False when there is none of this name.
    #[must_use]
    pub fn destroy(&mut self, id: VmId) -> bool {
        let Self { vms, cpu, .. } = self;
        let end = End::new(EndReason::Destroyed, 0);
        if vms.waiting(id).is_some() {
            cpu.end_waiting(vms, id, end);
            return true;
        }
        if let Some(seed) = vms.out(id) {
            cpu.end_out(vms, &seed, end);
            return true;
        }
        let vm = vms.by_id(id);
        vm.map(|vm| cpu.end(vm, end)).is_some()
    }

    fn reply_frames(&mut self, to: EndpointId, id: u32) {
        let vms = self.vms.living() as u64;
        let cpu = &mut self.cpu;
        let counts = *cpu.frames.counts();
        for (class, frames) in CLASSES.into_iter().zip(counts) {
            let owners = match class {
                OwnerClass::VmMemory | OwnerClass::VmMeta | OwnerClass::VmTables => vms,
                OwnerClass::Component => cpu.components.list.len() as u64,
                _ => 1,
            };
            let owner = name_of(class);
            let kept = frames.saturating_sub(cpu.frames.unreserved().saturating_sub(cpu.frames.floor()));
            let kept = if class == OwnerClass::Free { kept } else { 0 };
            cpu.reply(to, id, ControlReply::Frames { owner, frames, owners, kept });
        }
    }

    /// The VM in a slot that has nothing but its record.
    fn absent(&self, slot: Slot) -> Option<Seed> {
        self.vms.waiting_in(slot).or_else(|| self.vms.out_in(slot))
    }

    /// How many VMs are in, out and on their way.
    pub fn describe_wakes(&self) -> ControlReply {
        let (living, out) = (self.vms.living(), self.vms.out_count());
        let admitted = self.vms.seats().taken();
        // No more than slots.
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let wakes = &self.cpu.wakes;
        ControlReply::Wakes {
            living: small(living),
            admitted: small(admitted),
            out: small(out),
            waiting: small(living.saturating_sub(admitted + out)),
            woken: wakes.woken(),
            p50_ticks: wakes.percentile(50),
            p99_ticks: wakes.percentile(99),
        }
    }

    /// The virtual disk of the VM in a slot.
    fn describe_disk(&mut self, slot: Slot) -> Option<ControlReply> {
        let used = self.vms.disk_use(slot);
        let (vm, Attachment { disk, mode, rate }, attached) = match self.absent(slot) {
            Some(seed) => (seed.id, seed.disk, false),
            None => {
                let vm = self.vms.get(slot)?;
                (vm.id, vm.attachment, vm.life.shared().contains(Devices::DISK))
            }
        };
        Some(ControlReply::DiskOf { vm, disk, mode, rate, attached, used })
    }

    /// What lies in the pool, and what was counted of VMs that go out and come in.
    pub fn describe_pool(&self) -> ControlReply {
        let (vms, bytes) = self.vms.pooled();
        let Swapped { stored, loaded, refused, damaged, moved, pages_out, .. } = self.cpu.swapped;
        let on_disk = self.vms.on_disk();
        // No more than slots.
        let vms = u32::try_from(vms).unwrap_or(u32::MAX);
        // More than that nobody would look at.
        let [damaged, refused, pages] =
            [damaged, refused, pages_out].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let pool_bytes = self.cpu.pool_bytes();
        ControlReply::Pool { pool_bytes, bytes, vms, damaged, stored, loaded, pages, refused, moved, on_disk }
    }

    fn describe_share(&mut self, slot: Slot) -> Option<ControlReply> {
        if let Some(Seed { id: vm, share, claim: Claim { reserve, limit }, tenant, .. }) = self.absent(slot) {
            return Some(ControlReply::Share { vm, share, reserve, limit, held: 0, tenant });
        }
        let vm = self.vms.get(slot)?;
        let memory = vm.life.memory();
        let held = memory.map_or(0, |memory| memory.reservation().held());
        let Claim { reserve, limit } = memory.map_or(Claim::UNSAID, Memory::claim);
        Some(ControlReply::Share { vm: vm.id, share: vm.share, reserve, limit, held, tenant: vm.tenant })
    }

    /// What is charged to the VM in a slot, wherever it is.
    fn charges_of(&mut self, slot: Slot) -> Option<ControlReply> {
        if let Some(seed) = self.absent(slot) {
            let (ran_ticks, charges) = self.vms.spent(slot);
            return Some(ControlReply::Charges { vm: seed.id, ran_ticks, charges });
        }
        let vm = self.vms.get(slot)?;
        Some(ControlReply::Charges { vm: vm.id, ran_ticks: vm.ran_ticks, charges: vm.charges })
    }

    /// The VM in this slot or the next one that lives.
    pub fn describe_next_vm(&mut self, from: Slot) -> ControlReply {
        self.next_of(from, Self::describe_vm)
    }

    /// What `describe` says of the VM in this slot or of the next one that lives.
    fn next_of(&mut self, from: Slot, describe: fn(&mut Self, Slot) -> Option<ControlReply>) -> ControlReply {
        let used = u32::try_from(self.vms.used()).unwrap_or(u32::MAX);
        let end = from.number().saturating_add(LOOK).min(used);
        match (from.number()..end).find_map(|number| describe(self, Slot::new(number))) {
            Some(vm) => vm,
            None if end < used => done(status::GO_ON, end.into()),
            None => done(status::NOT_FOUND, 0),
        }
    }

    fn describe_vm(&mut self, slot: Slot) -> Option<ControlReply> {
        if let Some(Seed { id: vm, image, ipv4, claim, .. }) = self.absent(slot) {
            let bundle = self.vms.bundle(slot);
            let state = match self.vms.out_in(slot) {
                Some(_) => match bundle {
                    Some(bundle) if bundle.is_on_disk() => vm_state::ON_DISK,
                    Some(_) => vm_state::POOLED,
                    None => vm_state::OUT,
                },
                None => vm_state::WAITING,
            };
            return Some(ControlReply::Vm {
                vm,
                image,
                state,
                ran_ticks: self.vms.spent(slot).0,
                memory: 0,
                metadata: 0,
                tables: 0,
                shared: 0,
                ipv4,
                bus_locks: 0,
                claim,
            });
        }
        let vm = self.vms.get(slot)?;
        let state = match vm.life.state() {
            State::New => vm_state::WAITING,
            State::Ready => vm_state::READY,
            State::Idle { .. } => vm_state::IDLE,
            State::Fault(_) => vm_state::FAULT,
            State::Paused => vm_state::PAUSED,
            State::Leaving { .. } => vm_state::LEAVING,
            State::Coming => vm_state::COMING,
            State::Ending => vm_state::ENDING,
        };
        let (memory, tables, shared) = vm.life.memory().map_or((0, 0, 0), Memory::counts);
        Some(ControlReply::Vm {
            vm: vm.id,
            image: vm.image,
            state,
            ran_ticks: vm.ran_ticks,
            memory,
            metadata: METADATA_FRAMES,
            tables,
            shared,
            ipv4: vm.ipv4,
            bus_locks: vm.vcpu.bus_locks(),
            claim: vm.life.memory().map_or(Claim::UNSAID, Memory::claim),
        })
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    pub(super) fn reply(&mut self, to: EndpointId, id: u32, reply: ControlReply) {
        let message = Message { id, ..Message::from(reply) };
        self.tell(to, &message, true);
    }

    /// The request `id` of this controller is done.
    pub fn reply_done(&mut self, to: EndpointId, id: u32) {
        self.reply(to, id, done(status::OK, 0));
    }

    /// The attachment that the party at this endpoint has in its request page; that to no disk for an empty piece. `None` for what is none.
    fn attachment_in(&self, from: EndpointId, piece: Piece) -> Option<Attachment> {
        if piece.len == 0 {
            return Some(Attachment::NONE);
        }
        let mut copy = heapless::Vec::<u8, { abi::attachment::BYTES }>::new();
        self.endpoints.get(from)?.copy_in(piece, &mut copy).ok()?;
        Attachment::read_from_bytes(&copy).ok().filter(Attachment::is_valid)
    }

    /// Copy what the party at this endpoint has in its request page.
    ///
    /// # Errors
    /// [`BadPiece`].
    fn copy_in(&self, from: EndpointId, piece: Piece, into: &mut BootArgs) -> Result<(), BadPiece> {
        self.endpoints.get(from).ok_or(BadPiece::Outside)?.copy_in(piece, into)
    }

    /// Write the boot arguments of an image into the request page of the party at this endpoint.
    fn image_arguments(&self, of: EndpointId, image: ImageId, to: Piece) -> ControlReply {
        let (Some(endpoint), Some(image)) = (self.endpoints.get(of), self.images.get(image)) else {
            return done(status::NOT_FOUND, 0);
        };
        let args = &image.entry.args;
        let len = args.iter().position(|&byte| byte == 0).unwrap_or(args.len());
        match endpoint.copy_out(&args[..len], to) {
            Ok(()) => done(status::OK, len as u64),
            Err(_) => done(status::BAD_REQUEST, 0),
        }
    }

    /// The VM that ended as this number, or the next one.
    fn describe_end(&self, from: u64) -> ControlReply {
        match self.deaths.from(from) {
            Some((number, vm, End { reason, detail })) => {
                ControlReply::Ended { number, vm, reason: reason as u32, detail }
            }
            None => done(status::NOT_FOUND, self.deaths.count()),
        }
    }

    fn describe_frame(&self, address: u64) -> ControlReply {
        let number = address >> PAGE_SHIFT;
        if number >= self.frames.len() as u64 {
            return done(status::NOT_FOUND, 0);
        }
        let (owner, page) = self.frames.owner_of(PhysAddr::new(number << PAGE_SHIFT));
        ControlReply::Frame { address, owner: name_of(owner.class()), page, id: owner.id() }
    }

    fn describe_policy(&self, component: u16, policy: u16) -> Option<ControlReply> {
        let component = self.components.list.get(usize::from(component))?;
        let index = usize::from(policy);
        let policies = &component.policies;
        let policy = policies.get(index)?;
        let state = match policy.program {
            Ok(_) if index == policies.running() => policy_state::RUNS,
            Ok(_) => policy_state::READY,
            Err(Unfit::NoModule) => policy_state::MISSING,
            Err(Unfit::BadModule) => policy_state::REFUSED,
        };
        // No more than the manifest has room for.
        let count = u16::try_from(policies.len()).unwrap_or(u16::MAX);
        Some(ControlReply::Policy { component: component.entry.name, name: policy.name, policies: count, state })
    }

    fn reply_machine(&mut self, to: EndpointId, id: u32) {
        let c = self.counters;
        let machine = ControlReply::Machine {
            tsc: self.board.now(),
            idle_ticks: c.idle_ticks,
            tsc_hz: self.time.tsc_hz(),
            component_ticks: c.component_ticks,
            guest_ticks: c.guest_ticks,
            admitted_ticks: c.admitted_ticks,
            late: c.late,
        };
        self.reply(to, id, machine);
        let exits = ControlReply::Exits {
            exits: c.exits,
            hypercalls: c.hypercalls,
            interrupts: c.interrupts,
            syscalls: c.syscalls,
            faults: c.faults,
            fallbacks: c.fallbacks,
            gap_ticks: c.gap_ticks,
        };
        self.reply(to, id, exits);
    }

    fn describe_component(&self, index: u16) -> Option<ControlReply> {
        let component = self.components.list.get(usize::from(index))?;
        Some(ControlReply::Component {
            index,
            name: component.entry.name,
            incarnation: component.incarnation,
            ran_ticks: component.ran_ticks,
        })
    }

    /// An image; one that was refused at boot has no name.
    fn describe_image(&self, id: ImageId) -> Option<ControlReply> {
        match self.images.get(id) {
            Some(image) => {
                Some(ControlReply::Image { image: id, name: image.name(), memory_bytes: image.entry.memory_bytes })
            }
            None if id.index() < self.images.len() => {
                Some(ControlReply::Image { image: id, name: Name::EMPTY, memory_bytes: 0 })
            }
            None => None,
        }
    }
}

/// A class of owners, as it is told. (Not inlined: with two tables of jumps in one function nobody can tell how much of the stack it takes.)
#[inline(never)]
fn name_of(class: OwnerClass) -> Name {
    Name::new(class.name()).unwrap_or(Name::EMPTY)
}

const fn done(status: u32, value: u64) -> ControlReply {
    ControlReply::Done { status, value }
}

const fn status_of_state(why: StateError) -> u32 {
    match why {
        StateError::NoVm => status::NOT_FOUND,
        StateError::Waits => status::NOT_ADMITTED,
        StateError::Busy => status::BUSY,
        StateError::Bad(_) => status::BAD_REQUEST,
    }
}

const fn status_of_swap(why: NoSwap) -> u32 {
    match why {
        NoSwap::NoPolicy => status::NOT_FOUND,
        NoSwap::Unfit(Unfit::NoModule) => status::NO_MODULE,
        NoSwap::Unfit(Unfit::BadModule) => status::BAD_MODULE,
        NoSwap::Busy => status::BUSY,
    }
}

pub(super) const fn status_of_piece(why: BadPiece) -> u32 {
    match why {
        BadPiece::Outside => status::BAD_REQUEST,
        BadPiece::TooLong => status::TOO_LONG,
    }
}
