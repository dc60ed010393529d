//! A simulated core for tests of the session.

use super::*;
use crate::host::Asked;
use abi::charges::{Charges, DiskUse, Traffic};
use abi::control::GATEKEEPER_NAME;
use abi::flow::Flow;
use abi::sched::Admission;
use core::fmt::Arguments;

/// A core with a few VMs, images and components, and the console's output.
pub(super) struct Core {
    /// The request page.
    pub(super) page: [u8; abi::request_page::BYTES],
    pub(super) net: Net,
    /// So often another one takes the slot that a VM was to have.
    pub(super) thieves: u32,
    /// What it says to an identity.
    pub(super) identity_status: u32,
    pub(super) became: Vec<(VmId, u32, String)>,
    /// Requests that it has not answered yet.
    pub(super) requests: VecDeque<Message>,
    pub(super) output: Vec<String>,
    pub(super) vms: BTreeMap<u32, u32>,
    pub(super) asked: usize,
    pub(super) full: bool,
    pub(super) most_pending: usize,
    pub(super) killed: Vec<u16>,
    pub(super) created: Vec<(ImageId, String, Share)>,
    pub(super) tenants: Vec<Tenant>,
    pub(super) claims: Vec<Claim>,
    /// Quotas by tenants' numbers.
    pub(super) quotas: BTreeMap<u32, Quota>,
    /// What they may do in a second.
    pub(super) flows: BTreeMap<u32, Flow>,
    pub(super) swapped: Vec<(u16, u16)>,
    /// What processors were to go on from, and what it says to that.
    pub(super) restored: Vec<(VmId, Vec<u8>)>,
    pub(super) state_status: u32,
    /// What it says to a swap.
    pub(super) swap_status: u32,
    /// What it says to a creation, if it refuses it.
    pub(super) create_status: u32,
    /// What it says to a quota.
    pub(super) quota_status: u32,
    pub(super) off: bool,
    /// How much was logged, up to where it is written down, and how much more at each look; and VMs that write it down.
    pub(super) log_end: u64,
    pub(super) noted: [u64; 2],
    /// Questions for which lines wait for the serial line still.
    pub(super) lines_wait: u16,
    pub(super) writers: u32,
    /// Questions to the disk component, where there is one.
    pub(super) disks: Option<VecDeque<Message>>,
}

impl Default for Core {
    fn default() -> Self {
        Core {
            page: [b'?'; abi::request_page::BYTES],
            net: Net::Static { address: 0x0a00_0210, prefix: 24, gateway: None },
            thieves: 0,
            identity_status: status::OK,
            became: Vec::new(),
            requests: VecDeque::new(),
            output: Vec::new(),
            vms: BTreeMap::new(),
            asked: 0,
            full: false,
            most_pending: 0,
            killed: Vec::new(),
            created: Vec::new(),
            tenants: Vec::new(),
            claims: Vec::new(),
            quotas: BTreeMap::new(),
            flows: BTreeMap::new(),
            swapped: Vec::new(),
            restored: Vec::new(),
            state_status: status::OK,
            swap_status: status::OK,
            create_status: status::OK,
            quota_status: status::OK,
            off: false,
            log_end: 500,
            noted: [0, 0],
            lines_wait: 0,
            writers: 0,
            disks: None,
        }
    }
}

impl Host for Core {
    fn write_page(&mut self, at: Piece, bytes: &[u8]) {
        self.page[at.range().expect("in the page")].copy_from_slice(bytes);
    }

    fn read_page(&mut self, at: Piece, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.page[at.range().expect("in the page")]);
    }

    fn send(&mut self, request: &Message) -> bool {
        if !self.full {
            self.requests.push_back(*request);
            self.most_pending = self.most_pending.max(self.requests.len());
        }
        !self.full
    }

    fn ask_disks(&mut self, request: &Message) -> Asked {
        match &mut self.disks {
            Some(disks) => {
                disks.push_back(*request);
                Asked::Sent
            }
            None => Asked::Nobody,
        }
    }

    fn print(&mut self, line: Arguments<'_>) {
        self.output.push(line.to_string());
    }
}

pub(super) const IMAGES: [&str; 2] = ["httpd", "hostile"];
pub(super) const COMPONENTS: [&str; 3] = ["netmux", "pager", "sched"];
pub(super) const POLICIES: [&[&str]; 3] = [&["round-robin", "drr"], &["demand"], &["lottery", "stride", "fair", "bad"]];

pub(super) fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}

/// A claim that the core refuses.
pub(super) const HOPELESS: Claim = Claim { reserve: 0, limit: 16 };

/// Slots that the core looks at for one request.
pub(super) const LOOK: u32 = 1024;

pub(super) fn described(vm: VmId) -> ControlReply {
    ControlReply::Vm {
        vm,
        image: ImageId::new(0),
        state: 3,
        ran_ticks: 12_345,
        memory: 12,
        metadata: 2,
        tables: 4,
        shared: 30,
        ipv4: 0x0a00_0263,
        bus_locks: 6,
        claim: Claim { reserve: 24, limit: 4109 },
    }
}

impl Core {
    pub(super) fn with_vms(vms: &[u32]) -> Core {
        Core { vms: vms.iter().map(|&index| (index, 1)).collect(), ..Core::default() }
    }

    pub(super) fn text(&self, piece: Piece) -> String {
        String::from_utf8(self.page[piece.range().expect("in the page")].to_vec()).expect("text")
    }

    pub(super) fn next(&self) -> Option<u32> {
        (0..4).find(|index| !self.vms.contains_key(index))
    }

    /// VMs of a tenant that were created, and the frames that they may hold.
    fn has(&self, tenant: Tenant) -> (u32, u64) {
        let its = self.tenants.iter().zip(&self.claims).filter(|(of, _)| **of == tenant);
        its.fold((0, 0), |(vms, frames), (_, claim)| (vms + 1, frames + u64::from(claim.limit)))
    }

    fn tenant(&self, tenant: Tenant) -> Vec<ControlReply> {
        let Some(&quota) = self.quotas.get(&tenant.raw()) else {
            return vec![ControlReply::Done { status: status::NOT_FOUND, value: 0 }];
        };
        let flow = self.flows.get(&tenant.raw()).copied().unwrap_or_default();
        let (vms, frames) = self.has(tenant);
        let number = self.quotas.keys().position(|&raw| raw == tenant.raw()).expect("it is there");
        vec![
            ControlReply::Flow { tenant, flow, waiting: 1, delayed: 8 },
            ControlReply::Tenant {
                number: number.try_into().expect("few"),
                tenant,
                vms,
                refused: 2,
                frames,
                quota,
                pooled: 300,
            },
        ]
    }

    pub(super) fn answer(&mut self) -> Vec<Message> {
        let Some(message) = self.requests.pop_front() else { return Vec::new() };
        self.asked += 1;
        let done = |status, value| ControlReply::Done { status, value };
        let missing = done(status::NOT_FOUND, 0);
        let of = |names: &[&str], index: usize| names.get(index).map(|text| name(text));
        let replies = match ControlRequest::try_from(&message).expect("the session makes sense") {
            ControlRequest::Frames => vec![
                ControlReply::Frames { owner: name("free"), frames: 100, owners: 1, kept: 77 },
                ControlReply::Frames { owner: name("vm-metadata"), frames: 24, owners: self.vms.len() as u64, kept: 0 },
                done(status::OK, 0),
            ],
            ControlRequest::Frame { address: address @ ..0x1000_0000 } => {
                vec![ControlReply::Frame { address, owner: name("vm-memory"), page: 0x20, id: 3 }]
            }
            ControlRequest::Frame { .. } => vec![missing],
            ControlRequest::NextVm { slot } => {
                let end = slot.number() + LOOK;
                vec![match self.vms.range(slot.number()..end).next() {
                    Some((&number, &generation)) => described(VmId::new(number, generation)),
                    None if self.vms.range(end..).next().is_some() => done(status::GO_ON, end.into()),
                    None => missing,
                }]
            }
            ControlRequest::Vm { slot } => vec![match self.vms.get(&slot.number()) {
                Some(&generation) => described(VmId { slot, generation }),
                None => missing,
            }],
            ControlRequest::Component { index } => vec![match of(&COMPONENTS, index.into()) {
                Some(name) => ControlReply::Component { index, name, incarnation: 1, ran_ticks: 7 },
                None => missing,
            }],
            ControlRequest::Image { image } => vec![match of(&IMAGES, image.index()) {
                Some(name) => ControlReply::Image { image, name, memory_bytes: 1 << 24 },
                None => missing,
            }],
            ControlRequest::Machine => vec![
                ControlReply::Machine {
                    tsc: 1,
                    idle_ticks: 2,
                    tsc_hz: 3,
                    component_ticks: 4,
                    guest_ticks: 5,
                    admitted_ticks: 6,
                    late: 7,
                },
                ControlReply::Exits {
                    exits: 1,
                    hypercalls: 2,
                    interrupts: 3,
                    syscalls: 4,
                    faults: 5,
                    fallbacks: 6,
                    gap_ticks: 7,
                },
            ],
            ControlRequest::NextCharges { slot } => {
                let next = self.vms.range(slot.number()..).next();
                vec![match next {
                    Some((&slot, &generation)) => ControlReply::Charges {
                        vm: VmId { slot: Slot::new(slot), generation },
                        ran_ticks: 12,
                        charges: Charges {
                            service_ticks: 13,
                            traffic: Traffic { rx_bytes: 14, tx_bytes: 15, rx_frames: 16, tx_frames: 17 },
                            faults: 18,
                            wakes: 19,
                        },
                    },
                    None => missing,
                }]
            }
            ControlRequest::Account => vec![ControlReply::Account {
                tsc: 100,
                idle_ticks: 50,
                guest_ticks: 30,
                service_ticks: 15,
                own_ticks: 5,
                ended_ran_ticks: 4,
                ended_service_ticks: 3,
            }],
            ControlRequest::Wakes => vec![ControlReply::Wakes {
                living: 5000,
                admitted: 17,
                out: 4980,
                waiting: 3,
                woken: 20,
                p50_ticks: 1279,
                p99_ticks: 5119,
            }],
            ControlRequest::Pool => vec![ControlReply::Pool {
                pool_bytes: 4096,
                bytes: 64,
                vms: 2,
                damaged: 0,
                stored: 9,
                loaded: 7,
                refused: 1,
                moved: 6,
                on_disk: 5,
                pages: 8,
            }],
            ControlRequest::Barriers => vec![ControlReply::Barriers {
                plan: BarrierPlan {
                    mode: 2,
                    setup: 1,
                    exposed: Exposures::L1TF.with(Exposures::SSB),
                    open: Exposures::SSB,
                    exit: Barriers::CALL,
                    tenant: Barriers::IBPB.with(Barriers::RSB),
                    entry: Barriers::L1D,
                    component: Barriers::NONE,
                },
            }],
            ControlRequest::Share { slot } => vec![match self.vms.get(&slot.number()) {
                Some(&generation) => {
                    let share = Share { weight: 300, rate: abi::share::UNLIMITED, burst: 65_536 };
                    let tenant = Tenant::new(if slot.number() == 9 { "blue" } else { "" }).unwrap_or_default();
                    ControlReply::Share {
                        vm: VmId { slot, generation },
                        share,
                        reserve: 24,
                        limit: 4109,
                        held: 12,
                        tenant,
                    }
                }
                None => missing,
            }],
            ControlRequest::DiskOf { slot } => vec![match self.vms.get(&slot.number()) {
                Some(&generation) => {
                    let vm = VmId { slot, generation };
                    let disk = if slot.number() == 9 { "web" } else { "" };
                    ControlReply::DiskOf {
                        vm,
                        disk: Name::new(disk).unwrap_or(Name::EMPTY),
                        mode: abi::attachment::mode::READ_ONLY,
                        rate: 0,
                        attached: true,
                        used: DiskUse { requests: 12, blocks: 10 },
                    }
                }
                None => missing,
            }],
            ControlRequest::Policy { component, policy } => {
                let policies = match component {
                    GATEKEEPER => &Admission::NAMES[..],
                    component => POLICIES.get(usize::from(component)).copied().unwrap_or_default(),
                };
                vec![match of(policies, policy.into()) {
                    Some(name_of) => ControlReply::Policy {
                        component: name(COMPONENTS.get(usize::from(component)).unwrap_or(&GATEKEEPER_NAME)),
                        name: name_of,
                        policies: u16::try_from(policies.len()).expect("few"),
                        state: policy + 1,
                    },
                    None => missing,
                }]
            }
            ControlRequest::Swap { component, policy } => {
                self.swapped.push((component, policy));
                vec![done(self.swap_status, 0)]
            }
            ControlRequest::Kill { component } => {
                self.killed.push(component);
                vec![done(status::OK, 0)]
            }
            ControlRequest::Network => {
                vec![ControlReply::Network { net: self.net, next: self.next().map(Slot::new) }]
            }
            ControlRequest::ImageArguments { image, to } => {
                let args: &[u8] = if image.index() == 0 { b"workers=2" } else { b"" };
                let place = to.range().expect("in the page");
                self.page[place.clone()].fill(0);
                self.page[place][..args.len()].copy_from_slice(args);
                vec![done(status::OK, args.len() as u64)]
            }
            ControlRequest::ReadState { vm, to } => {
                assert_eq!(self.vms.get(&vm.slot.number()), Some(&vm.generation));
                let place = to.range().expect("in the page");
                assert_eq!(place.len(), 2432);
                for (byte, at) in self.page[place].iter_mut().zip(0_u8..100) {
                    *byte = at;
                }
                vec![done(status::OK, 100)]
            }
            ControlRequest::WriteState { vm, from } => {
                self.restored.push((vm, self.page[from.range().expect("in the page")].to_vec()));
                vec![done(self.state_status, 0)]
            }
            ControlRequest::Create { claim, .. } if claim == HOPELESS => vec![done(status::BAD_CLAIM, 0)],
            ControlRequest::Create { image, slot, ipv4, args, share, claim, tenant, .. } => {
                if self.thieves > 0 {
                    self.thieves -= 1;
                    let next = self.next().expect("free");
                    self.vms.insert(next, 9);
                }
                let quota = self.quotas.get(&tenant.raw()).copied().unwrap_or(Quota::NONE);
                let (vms, frames) = self.has(tenant);
                let beyond = Beyond { tenant, frames: claim.limit }.raw();
                match self.next() {
                    _ if vms >= quota.vms => vec![done(status::OVER_VMS, beyond)],
                    _ if frames + u64::from(claim.limit) > quota.frames => vec![done(status::OVER_MEMORY, beyond)],
                    _ if self.create_status != status::OK => vec![done(self.create_status, 0)],
                    Some(index) if slot.is_some_and(|slot| slot.number() != index) => {
                        vec![done(status::MOVED, index.into())]
                    }
                    Some(index) => {
                        assert_eq!(ipv4, self.net.address_of(Slot::new(index)));
                        self.created.push((image, self.text(args), share));
                        self.tenants.push(tenant);
                        self.claims.push(claim);
                        self.vms.insert(index, 5);
                        vec![done(status::OK, VmId::new(index, 5).raw())]
                    }
                    None => vec![done(status::NO_SPACE, 0)],
                }
            }
            ControlRequest::Destroy { vm } | ControlRequest::Shutdown { vm } => {
                let known = self.vms.get(&vm.slot.number()) == Some(&vm.generation);
                if known {
                    self.vms.remove(&vm.slot.number());
                }
                vec![done(if known { status::OK } else { status::NOT_FOUND }, 0)]
            }
            ControlRequest::Identity { vm, ipv4, args } => {
                self.became.push((vm, ipv4, self.text(args)));
                let known = self.vms.get(&vm.slot.number()) == Some(&vm.generation);
                vec![done(if known { self.identity_status } else { status::NOT_FOUND }, 0)]
            }
            ControlRequest::Tenant { tenant } => self.tenant(tenant),
            ControlRequest::NextTenant { number } => {
                let next = self.quotas.keys().nth(number as usize).and_then(|&raw| Tenant::from_raw(raw));
                next.map_or(vec![done(status::NOT_FOUND, 0)], |tenant| self.tenant(tenant))
            }
            ControlRequest::SetQuota { tenant, quota, flow } => {
                self.quotas.insert(tenant.raw(), quota);
                let had = self.flows.get(&tenant.raw()).copied().unwrap_or_default();
                self.flows.insert(tenant.raw(), flow.of(had));
                vec![done(self.quota_status, 0)]
            }
            ControlRequest::Pause { .. }
            | ControlRequest::Resume { .. }
            | ControlRequest::Ended { .. }
            | ControlRequest::ImageBegin { .. }
            | ControlRequest::ImagePage { .. }
            | ControlRequest::ImageEnd { .. }
            | ControlRequest::ImageRemove { .. }
            | ControlRequest::ImageDetails { .. }
            | ControlRequest::AdjustClock { .. }
            | ControlRequest::Boot
            | ControlRequest::ConsoleRead { .. }
            | ControlRequest::ConsoleWrite { .. }
            | ControlRequest::LogRead { .. } => {
                unreachable!("no line asks for that")
            }
            ControlRequest::Noted { until } => {
                assert_eq!(until, 0, "who is no VM says nothing");
                let (mut end, [until, step], vms) = (self.log_end, self.noted, self.writers);
                if self.lines_wait > 0 {
                    self.lines_wait -= 1;
                    end = u64::MAX;
                }
                // What is logged meanwhile is not waited for.
                self.log_end += 100;
                self.noted[0] += step;
                vec![ControlReply::Noted { end, until, vms }]
            }
            ControlRequest::PowerOff => {
                self.off = true;
                vec![]
            }
        };
        replies.into_iter().map(|reply| Message { id: message.id, ..Message::from(reply) }).collect()
    }
}
