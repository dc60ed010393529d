//! How the core's answers are shown: one line of `key=value` each.

use abi::barriers::names::Setup;
use abi::charges::Charges;
use abi::control::{ControlReply, policy_state};
use abi::limits::Name;
use abi::share::UNLIMITED;
use abi::words::state_word;
use core::fmt::{Display, Formatter, Result};

/// An answer as a line. `images` are the names of the images by index.
pub(crate) struct Report<'a> {
    pub(crate) reply: ControlReply,
    /// Of a tenant: what it may do in a second.
    pub(crate) flow: Option<ControlReply>,
    pub(crate) images: &'a [Name],
    /// Ticks of the TSC in a second; 0 when nobody knows.
    pub(crate) tsc_hz: u64,
}

impl Report<'_> {
    /// Ticks as microseconds; 0 without a clock.
    fn microseconds(&self, ticks: u64) -> u64 {
        ticks.saturating_mul(1_000_000).checked_div(self.tsc_hz).unwrap_or(0)
    }
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.reply {
            ControlReply::Done { status, value } => write!(f, "status={status} value={value}"),
            ControlReply::Frames { owner, frames, owners, kept } => {
                write!(f, "frames owner={owner} frames={frames} owners={owners} kept={kept}")
            }
            ControlReply::Frame { address, owner, page, id } => {
                write!(f, "frame address={address:#x} owner={owner} index={id} page={page:#x}")
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
                ipv4: _,
                bus_locks,
                claim,
            } => {
                write!(
                    f,
                    "vm index={} incarnation={} image={} state={} memory_frames={memory} metadata_frames={metadata} \
                 table_frames={tables} shared_frames={shared} ran_ticks={ran_ticks} bus_locks={bus_locks} \
                 reserve_frames={} limit_frames={} held_frames={}",
                    vm.slot,
                    vm.generation,
                    self.images.get(image.index()).map_or("?", Name::as_str),
                    state_word(state),
                    claim.reserve,
                    claim.limit,
                    memory.saturating_add(metadata).saturating_add(tables),
                )
            }
            ControlReply::Component { index, name, incarnation, ran_ticks } => {
                write!(f, "component index={index} name={name} incarnation={incarnation} ran_ticks={ran_ticks}")
            }
            ControlReply::Image { image, name, memory_bytes } => {
                write!(f, "image index={image} name={name} memory_bytes={memory_bytes}")
            }
            ControlReply::Machine { tsc, idle_ticks, tsc_hz, component_ticks, guest_ticks, admitted_ticks, late } => {
                write!(
                    f,
                    "machine tsc={tsc} tsc_hz={tsc_hz} idle_ticks={idle_ticks} component_ticks={component_ticks} \
                 guest_ticks={guest_ticks} admitted_ticks={admitted_ticks} late={late}"
                )
            }
            ControlReply::Exits { exits, hypercalls, interrupts, syscalls, faults, fallbacks, gap_ticks } => write!(
                f,
                "counters exits={exits} hypercalls={hypercalls} interrupts={interrupts} syscalls={syscalls} \
                 faults={faults} fallbacks={fallbacks} gap_ticks={gap_ticks}"
            ),
            ControlReply::Share { vm, share, reserve, limit, held, tenant } => {
                write!(f, "share index={} incarnation={} weight={} rate=", vm.slot, vm.generation, share.weight)?;
                match share.rate {
                    UNLIMITED => f.write_str("unlimited")?,
                    rate => write!(f, "{rate}")?,
                }
                write!(f, " burst={} reserve_frames={reserve} limit_frames={limit} held_frames={held}", share.burst)?;
                if tenant.is_unsaid() { Ok(()) } else { write!(f, " tenant={tenant}") }
            }
            ControlReply::DiskOf { vm, disk, mode, rate, attached, used } => {
                let how = if mode == abi::attachment::mode::READ_ONLY { "ro" } else { "rw" };
                let state = if attached { "attached" } else { "waiting" };
                write!(f, "disk index={} incarnation={} name={disk} mode={how} rate=", vm.slot, vm.generation)?;
                match rate {
                    0 | abi::attachment::UNLIMITED => f.write_str("unlimited")?,
                    rate => write!(f, "{rate}")?,
                }
                write!(f, " state={state} requests={} bytes={}", used.requests, used.bytes())
            }
            ControlReply::Barriers { plan } => write!(
                f,
                "barriers mode={} exposed={} open={} always={} exit={} tenant={} entry={} component={}",
                plan.mode_name(),
                plan.exposed,
                plan.open,
                Setup(plan.setup),
                plan.exit,
                plan.tenant,
                plan.entry,
                plan.component
            ),
            ControlReply::Charges { vm, ran_ticks, charges: Charges { service_ticks, traffic, faults, wakes } } => {
                write!(
                    f,
                    "charges index={} incarnation={} ran_ticks={ran_ticks} service_ticks={service_ticks} rx_frames={} rx_bytes={} \
                 tx_frames={} tx_bytes={} faults={faults} wakes={wakes}",
                    vm.slot, vm.generation, traffic.rx_frames, traffic.rx_bytes, traffic.tx_frames, traffic.tx_bytes
                )
            }
            ControlReply::Account {
                tsc,
                idle_ticks,
                guest_ticks,
                service_ticks,
                own_ticks,
                ended_ran_ticks,
                ended_service_ticks,
            } => write!(
                f,
                "account tsc={tsc} idle_ticks={idle_ticks} guest_ticks={guest_ticks} service_ticks={service_ticks} own_ticks={own_ticks} \
                 ended_ran_ticks={ended_ran_ticks} ended_service_ticks={ended_service_ticks}"
            ),
            ControlReply::Wakes { living, admitted, out, waiting, woken, p50_ticks, p99_ticks } => write!(
                f,
                "wakes living={living} in={admitted} out={out} waiting={waiting} woken={woken} p50_ticks={p50_ticks} \
                 p99_ticks={p99_ticks} p50_us={} p99_us={}",
                self.microseconds(p50_ticks),
                self.microseconds(p99_ticks)
            ),
            ControlReply::Pool { pool_bytes, bytes, vms, damaged, stored, loaded, pages, refused, moved, on_disk } => {
                write!(
                    f,
                    "pool bytes={pool_bytes} used={bytes} vms={vms} gone_out={stored} come_in={loaded} refused={refused} damaged={damaged} \
                 on_disk={on_disk} moved={moved} pages={pages}"
                )
            }
            ControlReply::Ended { number, vm, reason, detail } => {
                write!(f, "ended number={number} vm={vm} reason={reason} detail={detail:#x}")
            }
            ControlReply::Tenant { tenant, vms, frames, quota, refused, pooled, .. } => {
                write!(f, "tenant name={tenant} vms={vms} limit_frames={frames} vms_quota=")?;
                match quota.most_vms() {
                    Some(most) => write!(f, "{most} frames_quota=")?,
                    None => f.write_str("unlimited frames_quota=")?,
                }
                match quota.most_frames() {
                    Some(most) => write!(f, "{most}")?,
                    None => f.write_str("unlimited")?,
                }
                write!(f, " refused={refused} pool={pooled} pool_quota=")?;
                match quota.most_pool() {
                    Some(most) => write!(f, "{most}")?,
                    None => f.write_str("unlimited")?,
                }
                self.flow.map_or(Ok(()), |reply| write!(f, " {}", Report { reply, flow: None, ..*self }))
            }
            ControlReply::Flow { flow, waiting, delayed, .. } => {
                f.write_str("wakes_quota=")?;
                match flow.most_wakes() {
                    Some(most) => write!(f, "{most}")?,
                    None => f.write_str("unlimited")?,
                }
                write!(f, " called={waiting} delayed={delayed} rate_quota=")?;
                match flow.most_rate() {
                    Some(most) => write!(f, "{most}"),
                    None => f.write_str("unlimited"),
                }
            }
            ControlReply::Log { next, missed, bytes } => write!(f, "log next={next} missed={missed} bytes={bytes}"),
            ControlReply::Noted { end, until, vms } => write!(f, "noted end={end} until={until} vms={vms}"),
            ControlReply::Console { vm, next, missed, bytes } => {
                write!(f, "console vm={vm} next={next} missed={missed} bytes={bytes}")
            }
            ControlReply::Boot { low, high } => write!(f, "boot id={high:016x}{low:016x}"),
            ControlReply::Network { net, next } => write!(f, "network {net:?} next={next:?}"),
            ControlReply::Policy { component, name, state, .. } => {
                write!(f, "policy component={component} name={name} state={}", policy_state_name(state))
            }
        }
    }
}

fn policy_state_name(state: u16) -> &'static str {
    match state {
        policy_state::READY => "ready",
        policy_state::RUNS => "runs",
        policy_state::MISSING => "missing",
        policy_state::REFUSED => "refused",
        _ => "?",
    }
}
