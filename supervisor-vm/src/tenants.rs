//! Tenants: what their VMs are and may hold together, and their quotas. The core has both, so a new start of this VM finds them as they were; quotas that
//! were set here outlive a start of the machine ([`crate::keep`]).

use crate::exposition::{Page, label};
use crate::limits::Limits;
use crate::node::Node;
use crate::owners::QUOTAS;
use crate::refusal::said;
use crate::show::as_json;
use crate::shown::shown;
use abi::control::{ControlReply, ControlRequest, status};
use abi::flow::Flow;
use abi::limits::{LIVE_TENANTS, PAGE_SIZE};
use abi::quota::{Beyond, Quota};
use abi::tenant::Tenant;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use ilwaco::control::{Control, Error};
use quota_words::{Change, TenantChange};
use serde::Serialize;

/// A tenant, as it is shown.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ShownTenant {
    name: String,
    vms: u32,
    quota_vms: Option<u32>,
    limit_bytes: u64,
    quota_bytes: Option<u64>,
    refused: u32,
    disk_bytes: u64,
    quota_disk_bytes: Option<u64>,
    pool_bytes: u64,
    quota_pool_bytes: Option<u64>,
    quota_wakes: Option<u32>,
    waiting_wakes: u32,
    delayed_wakes: u64,
    quota_rate: Option<u32>,
}

/// What the core has said of a tenant.
struct Said {
    /// What it may do in a second, which comes first.
    flow: Option<ControlReply>,
    reply: ControlReply,
}

/// Asks the core for a tenant.
async fn ask(control: &mut Control, request: ControlRequest) -> Result<Said, Error> {
    let mut flow = None;
    let reply = control.ask(request, |first| flow = Some(first)).await?;
    Ok(Said { flow, reply })
}

/// Frames in bytes.
const fn bytes(frames: u64) -> u64 {
    frames.saturating_mul(PAGE_SIZE)
}

/// Whole KiB.
const fn kib(bytes: u64) -> u64 {
    bytes / 1024
}

impl ShownTenant {
    /// What the core says of it, and its number. `None` for another answer.
    fn of(said: &Said) -> Option<(u32, ShownTenant)> {
        let Said { flow, reply } = said;
        let &ControlReply::Tenant { number, tenant, vms, refused, frames, quota, pooled } = reply else { return None };
        let shown = ShownTenant {
            name: tenant.to_string(),
            vms,
            quota_vms: quota.most_vms(),
            limit_bytes: bytes(frames),
            quota_bytes: quota.most_frames().map(bytes),
            refused,
            disk_bytes: 0,
            quota_disk_bytes: None,
            pool_bytes: pooled,
            quota_pool_bytes: quota.most_pool(),
            quota_wakes: None,
            waiting_wakes: 0,
            delayed_wakes: 0,
            quota_rate: None,
        };
        let shown = match *flow {
            Some(ControlReply::Flow { flow, waiting, delayed, .. }) => ShownTenant {
                quota_wakes: flow.most_wakes(),
                waiting_wakes: waiting,
                delayed_wakes: delayed,
                quota_rate: flow.most_rate(),
                ..shown
            },
            _ => shown,
        };
        Some((number, shown))
    }

    /// One that has neither VMs nor a quota.
    fn without(name: String) -> ShownTenant {
        ShownTenant {
            name,
            vms: 0,
            quota_vms: None,
            limit_bytes: 0,
            quota_bytes: None,
            refused: 0,
            disk_bytes: 0,
            quota_disk_bytes: None,
            pool_bytes: 0,
            quota_pool_bytes: None,
            quota_wakes: None,
            waiting_wakes: 0,
            delayed_wakes: 0,
            quota_rate: None,
        }
    }

    /// The same with its virtual disks, of which the core knows nothing.
    fn with_disks(mut self, node: &Node) -> ShownTenant {
        (self.disk_bytes, self.quota_disk_bytes) = node.keep.owners.borrow().standing(&self.name);
        self
    }

    /// Whether more lives than is allowed.
    fn is_over(&self) -> bool {
        self.quota_vms.is_some_and(|most| self.vms > most)
            || self.quota_bytes.is_some_and(|most| self.limit_bytes > most)
    }

    fn line(&self, text: &mut String) {
        let ShownTenant { name, vms, refused, .. } = self;
        let most_vms = self.quota_vms.map_or_else(|| "-".to_string(), |most| most.to_string());
        let most_kib = self.quota_bytes.map_or_else(|| "-".to_string(), |most| kib(most).to_string());
        let limit = kib(self.limit_bytes);
        let disk = kib(self.disk_bytes);
        let most_disk = self.quota_disk_bytes.map_or_else(|| "-".to_string(), |most| kib(most).to_string());
        let pool = kib(self.pool_bytes);
        let most_pool = self.quota_pool_bytes.map_or_else(|| "-".to_string(), |most| kib(most).to_string());
        let most_wakes = self.quota_wakes.map_or_else(|| "-".to_string(), |most| most.to_string());
        let delayed = self.delayed_wakes;
        let most_rate = self.quota_rate.map_or_else(|| "-".to_string(), |most| most.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{name:<8} {vms:>8} {most_vms:>10} {limit:>12} {most_kib:>12} {refused:>8} {disk:>12} {most_disk:>12} {pool:>12} {most_pool:>12} {most_wakes:>8} {delayed:>8} {most_rate:>10}"
        );
    }
}

/// The tenant of this name.
///
/// # Errors
///
/// It is none.
pub fn parse(name: &str) -> Result<Tenant, String> {
    Tenant::new(name)
        .ok_or_else(|| format!("`{}` is no tenant's name: take 1 to 6 small letters, digits or dashes", shown(name)))
}

/// All of them, by their names.
async fn all(node: &Node) -> Result<Vec<ShownTenant>, String> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let found = ask(&mut *node.control().await, ControlRequest::NextTenant { number: from }).await.map_err(said)?;
        let Some((number, tenant)) = ShownTenant::of(&found) else { break };
        // Each answer leads on, or the list would never end.
        if number < from {
            return Err(said(Error::Answer));
        }
        all.push(tenant);
        from = number.saturating_add(1);
    }
    let of_disks = node.keep.owners.borrow().tenants();
    all.extend(of_disks.into_iter().map(ShownTenant::without));
    // Those of the core come first.
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all.dedup_by(|b, a| a.name == b.name);
    let all = all.into_iter().map(|tenant| tenant.with_disks(node));
    Ok(all.collect())
}

/// `tenant list`.
///
/// # Errors
///
/// What the core refuses.
pub async fn list(node: &Node, json: bool) -> Result<String, String> {
    let all = all(node).await?;
    if json {
        return as_json(&all);
    }
    let mut text =
        "NAME          VMs  QUOTA VMs    LIMIT KiB    QUOTA KiB  REFUSED     DISK KiB    QUOTA KiB     POOL KiB    QUOTA KiB  WAKES/S  DELAYED    BYTES/S\n".to_string();
    all.iter().for_each(|tenant| tenant.line(&mut text));
    Ok(text)
}

/// `tenant show`.
///
/// # Errors
///
/// It has neither VMs nor a quota; what the core refuses.
pub async fn show(node: &Node, tenant: Tenant, json: bool) -> Result<String, String> {
    let found = ask(&mut *node.control().await, ControlRequest::Tenant { tenant }).await.map_err(said)?;
    let name = tenant.to_string();
    let found = match ShownTenant::of(&found) {
        Some((_, found)) => found,
        None if node.keep.owners.borrow().tenants().contains(&name) => ShownTenant::without(name),
        None => return Err(format!("{tenant} has neither VMs nor a quota: `tenant list` shows those that have")),
    };
    let found = found.with_disks(node);
    if json {
        return as_json(&found);
    }
    let most = |most: Option<u64>, unit: &str| {
        most.map_or_else(|| ", without a quota".to_string(), |most| format!(" of {most}{unit} at most"))
    };
    let wakes = match found.quota_wakes {
        Some(most) => format!("{most} in a second at most"),
        None => "without a quota".to_string(),
    };
    let sends = match found.quota_rate {
        Some(most) => format!("{most} bytes in a second at most"),
        None => "without a quota".to_string(),
    };
    Ok(format!(
        "name     {}\nVMs      {}{}\nlimit    {} KiB{}\nrefused  {}\ndisks    {} KiB{}\npool     {} KiB{}\nwakes    {wakes}; {} wait, and {} had to\nsends    {sends}\n",
        found.name,
        found.vms,
        most(found.quota_vms.map(u64::from), ""),
        kib(found.limit_bytes),
        most(found.quota_bytes.map(kib), " KiB"),
        found.refused,
        kib(found.disk_bytes),
        most(found.quota_disk_bytes.map(kib), " KiB"),
        kib(found.pool_bytes),
        most(found.quota_pool_bytes.map(kib), " KiB"),
        found.waiting_wakes,
        found.delayed_wakes
    ))
}

/// The tenant of this name, as JSON.
///
/// # Errors
///
/// As [`parse`] and [`show`].
pub async fn named(node: &Node, name: &str) -> Result<String, String> {
    show(node, parse(name)?, true).await
}

/// What a tenant may have.
async fn limits(control: &mut Control, tenant: Tenant) -> Result<Limits, String> {
    let Said { flow, reply } = ask(control, ControlRequest::Tenant { tenant }).await.map_err(said)?;
    let quota = match reply {
        ControlReply::Tenant { quota, .. } => quota,
        _ => Quota::NONE,
    };
    let flow = match flow {
        Some(ControlReply::Flow { flow, .. }) => flow,
        _ => Flow::NONE,
    };
    Ok((quota, flow))
}

/// Whether a tenant's quota would be another one with this change.
///
/// # Errors
///
/// What the core refuses.
pub async fn would_change(node: &Node, tenant: Tenant, change: TenantChange) -> Result<bool, String> {
    let (quota, flow) = limits(&mut *node.control().await, tenant).await?;
    let has = node.keep.owners.borrow().quota(&tenant.to_string());
    let other_disks = change.disk.is_some_and(|disk| disk != has);
    Ok(other_disks || (change.of_core.of(quota), change.of_core.flow().of(flow)) != (quota, flow))
}

/// `tenant set`.
///
/// # Errors
///
/// What the core refuses.
pub async fn set(node: &Node, tenant: Tenant, change: TenantChange) -> Result<String, String> {
    // Nobody else who asks here comes in between.
    let mut control = node.control().await;
    let (had, flow) = limits(&mut control, tenant).await?;
    if let Some(disk) = change.disk
        && !node.keep.owners.borrow_mut().set_quota(tenant, disk)
    {
        return Err(format!(
            "{QUOTAS} tenants have a quota of disks: `tenant set` that of another one to unlimited first"
        ));
    }
    if change.of_core != Change::default() {
        let limits = (change.of_core.of(had), change.of_core.flow().of(flow));
        put_quota(&mut control, tenant, limits).await?;
        node.keep.note_quota(tenant, limits);
    }
    let found = ask(&mut control, ControlRequest::Tenant { tenant }).await.map_err(said)?;
    let now = ShownTenant::of(&found).map_or_else(|| ShownTenant::without(tenant.to_string()), |(_, now)| now);
    Ok(summary(&now.with_disks(node)))
}

/// Tells the core what the quota of a tenant is.
///
/// # Errors
///
/// What the core refuses.
pub async fn tell(node: &Node, tenant: Tenant, limits: Limits) -> Result<(), String> {
    put_quota(&mut *node.control().await, tenant, limits).await
}

async fn put_quota(control: &mut Control, tenant: Tenant, (quota, flow): Limits) -> Result<(), String> {
    match control.ask(ControlRequest::SetQuota { tenant, quota, flow }, drop).await.map_err(said)? {
        ControlReply::Done { status: status::OK, .. } => Ok(()),
        ControlReply::Done { status: status::TENANTS_TAKEN, .. } => Err(taken(tenant)),
        ControlReply::Done { status, .. } => Err(said(Error::Refused(status))),
        _ => Err(said(Error::Answer)),
    }
}

/// What is said of a tenant whose quota was set.
fn summary(now: &ShownTenant) -> String {
    let ShownTenant { name, vms, quota_vms, limit_bytes, quota_bytes, .. } = now;
    let vms_most = quota_vms.map_or_else(|| "any number of".to_string(), |most| most.to_string());
    let memory_most = quota_bytes.map_or_else(|| "any memory".to_string(), |most| format!("{} KiB", kib(most)));
    let over = if now.is_over() { "; those that live go on, and no new one starts" } else { "" };
    let disks = match (now.disk_bytes, now.quota_disk_bytes) {
        (0, None) => String::new(),
        (has, None) => format!("; its virtual disks have {} KiB", kib(has)),
        (has, Some(most)) => format!("; its virtual disks have {} KiB, of {} KiB at most", kib(has), kib(most)),
    };
    let pool = match now.quota_pool_bytes {
        None => String::new(),
        Some(most) => format!(
            "; of the pool those that are out take {} KiB, of {} KiB at most",
            now.pool_bytes.div_ceil(1024),
            kib(most)
        ),
    };
    let wakes = match now.quota_wakes {
        None => String::new(),
        Some(most) => {
            format!("; of those that are out {most} come in in a second at most, and {} wait", now.waiting_wakes)
        }
    };
    let rate = match now.quota_rate {
        None => String::new(),
        Some(most) => format!("; they send {most} bytes in a second at most"),
    };
    format!(
        "{name} may have {vms_most} VMs, which may hold {memory_most}; it has {vms}, which may hold {} KiB{over}{disks}{pool}{wakes}{rate}\n",
        kib(*limit_bytes)
    )
}

/// Why there is no place for a tenant.
fn taken(tenant: Tenant) -> String {
    format!(
        "{LIVE_TENANTS} tenants have VMs or quotas, and {tenant} is another one: end the VMs of one and take its quota away, or name one of `tenant list`"
    )
}

/// Why a VM was refused with this status because of its tenant, and what to do.
pub async fn refused(control: &mut Control, refused: u32, beyond: Beyond) -> String {
    let Beyond { tenant, frames } = beyond;
    if refused == status::TENANTS_TAKEN {
        return taken(tenant);
    }
    let found = ask(control, ControlRequest::Tenant { tenant }).await;
    match found.as_ref().ok().and_then(ShownTenant::of) {
        Some((_, now)) => why(&now, refused, frames),
        None => said(Error::Quota(refused, beyond)),
    }
}

/// Why a VM that may hold so many frames is refused to a tenant, and what to do.
fn why(now: &ShownTenant, refused: u32, frames: u32) -> String {
    let ShownTenant { name, vms, quota_vms, limit_bytes, quota_bytes, .. } = now;
    match (refused, quota_bytes, quota_vms) {
        (status::OVER_MEMORY, Some(most), _) => {
            let would = kib(limit_bytes.saturating_add(bytes(frames.into())));
            format!(
                "with it the VMs of the tenant {name} could hold {would} KiB, and its quota is {} KiB: end one of `vm list --tenant {name}`, create it with less --memory, or `tenant set {name} --memory {would}K`",
                kib(*most)
            )
        }
        (_, _, Some(most)) => format!(
            "the tenant {name} may have no more VMs: its quota is {most}, and {vms} live: end one of `vm list --tenant {name}`, or `tenant set {name} --vms {}`",
            vms.saturating_add(1)
        ),
        // Somebody has changed it meanwhile.
        _ => format!("the quota of the tenant {name} was in the way: try again"),
    }
}

/// The figures of tenants for Prometheus.
///
/// # Errors
///
/// What the core refuses.
pub async fn figures(node: &Node, page: &mut Page) -> Result<(), String> {
    put(page, &all(node).await?);
    Ok(())
}

fn put(page: &mut Page, all: &[ShownTenant]) {
    type Value = fn(&ShownTenant) -> Option<u64>;
    let metrics: [(&str, &str, &str, Value); 13] = [
        ("foraker_tenant_vms", "gauge", "VMs of a tenant that live.", |one| Some(one.vms.into())),
        ("foraker_tenant_quota_vms", "gauge", "VMs that a tenant may have, where it has a quota.", |one| {
            one.quota_vms.map(u64::from)
        }),
        (
            "foraker_tenant_limit_bytes",
            "gauge",
            "Memory that the VMs of a tenant may hold: the sum of their limits.",
            |one| Some(one.limit_bytes),
        ),
        ("foraker_tenant_quota_bytes", "gauge", "Memory that they may hold at most, where it has a quota.", |one| {
            one.quota_bytes
        }),
        ("foraker_tenant_disk_bytes", "gauge", "Bytes of the virtual disks of a tenant.", |one| Some(one.disk_bytes)),
        (
            "foraker_tenant_quota_disk_bytes",
            "gauge",
            "Bytes that they may have at most, where it has a quota.",
            |one| one.quota_disk_bytes,
        ),
        (
            "foraker_tenant_pool_bytes",
            "gauge",
            "Bytes of the pool that the VMs of a tenant take which are out.",
            |one| Some(one.pool_bytes),
        ),
        (
            "foraker_tenant_quota_pool_bytes",
            "gauge",
            "Bytes of the pool that they may take at most, where it has a quota.",
            |one| one.quota_pool_bytes,
        ),
        (
            "foraker_tenant_quota_wakes",
            "gauge",
            "VMs of a tenant that are out and may come in in a second, where it has a quota.",
            |one| one.quota_wakes.map(u64::from),
        ),
        (
            "foraker_tenant_waiting_wakes",
            "gauge",
            "VMs of a tenant that were called and wait because of this quota.",
            |one| Some(one.waiting_wakes.into()),
        ),
        (
            "foraker_tenant_delayed_wakes_total",
            "counter",
            "VMs of a tenant that were called and had to wait because of this quota, since it last had neither VMs nor a quota.",
            |one| Some(one.delayed_wakes),
        ),
        (
            "foraker_tenant_quota_send_bytes_per_second",
            "gauge",
            "Bytes that the VMs of a tenant may send in a second, where it has a quota.",
            |one| one.quota_rate.map(u64::from),
        ),
        (
            "foraker_tenant_refused_total",
            "counter",
            "VMs that were refused to a tenant because of its quota, since it last had neither VMs nor a quota.",
            |one| Some(one.refused.into()),
        ),
    ];
    for (name, kind, help, value) in metrics {
        page.metric(name, kind, help);
        for one in all {
            if let Some(value) = value(one) {
                page.sample(name, &format!("tenant=\"{}\"", label(&one.name)), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blue(vms: u32, quota_vms: Option<u32>, kib: u64, quota_kib: Option<u64>) -> ShownTenant {
        let (limit_bytes, quota_bytes) = (kib << 10, quota_kib.map(|kib| kib << 10));
        ShownTenant { vms, quota_vms, limit_bytes, quota_bytes, refused: 2, ..ShownTenant::without("blue".to_string()) }
    }

    #[test]
    fn what_the_core_says_is_shown() {
        let tenant = Tenant::new("blue").expect("a name");
        let quota = Quota { vms: 3, pool: 4096, ..Quota::NONE };
        let reply = ControlReply::Tenant { number: 7, tenant, vms: 1, refused: 2, frames: 256, quota, pooled: 1280 };
        let shown = ShownTenant { pool_bytes: 1280, quota_pool_bytes: Some(4096), ..blue(1, Some(3), 1024, None) };
        assert_eq!(ShownTenant::of(&Said { flow: None, reply }), Some((7, shown)));
        let flow = Some(ControlReply::Flow { tenant, flow: Flow { wakes: 5, rate: 7 }, waiting: 2, delayed: 9 });
        let (_, shown) = ShownTenant::of(&Said { flow, reply }).expect("a tenant");
        assert_eq!((shown.quota_wakes, shown.waiting_wakes, shown.delayed_wakes), (Some(5), 2, 9));
        assert_eq!(shown.quota_rate, Some(7));
        let reply = ControlReply::Done { status: status::NOT_FOUND, value: 0 };
        assert_eq!(ShownTenant::of(&Said { flow: None, reply }), None);
        let json = as_json(&blue(1, Some(3), 1024, None)).expect("JSON");
        let keys = r#"{"name":"blue","vms":1,"quota_vms":3,"limit_bytes":1048576,"quota_bytes":null,"refused":2,"disk_bytes":0,"quota_disk_bytes":null,"pool_bytes":0,"quota_pool_bytes":null,"quota_wakes":null,"waiting_wakes":0,"delayed_wakes":0,"quota_rate":null}"#;
        assert_eq!(json.trim_end(), keys);
    }

    #[test]
    fn a_refusal_names_tenant_quota_and_remedy() {
        assert_eq!(
            why(&blue(3, Some(2), 0, None), status::OVER_VMS, 9),
            "the tenant blue may have no more VMs: its quota is 2, and 3 live: end one of `vm list --tenant blue`, or `tenant set blue --vms 4`"
        );
        assert_eq!(
            why(&blue(1, None, 1024, Some(1500)), status::OVER_MEMORY, 256),
            "with it the VMs of the tenant blue could hold 2048 KiB, and its quota is 1500 KiB: end one of `vm list --tenant blue`, create it with less --memory, or `tenant set blue --memory 2048K`"
        );
        assert!(why(&blue(1, None, 1024, None), status::OVER_MEMORY, 256).contains("try again"));
    }

    #[test]
    fn who_sets_a_quota_is_told_what_there_is() {
        assert_eq!(
            summary(&blue(3, Some(2), 1024, Some(2048))),
            "blue may have 2 VMs, which may hold 2048 KiB; it has 3, which may hold 1024 KiB; those that live go on, and no new one starts\n"
        );
        let disks = ShownTenant { disk_bytes: 5 << 10, quota_disk_bytes: Some(8 << 10), ..blue(0, None, 0, None) };
        assert!(summary(&disks).ends_with("; its virtual disks have 5 KiB, of 8 KiB at most\n"));
        let flow =
            ShownTenant { quota_wakes: Some(5), waiting_wakes: 2, quota_rate: Some(7), ..blue(0, None, 0, None) };
        let says = "; of those that are out 5 come in in a second at most, and 2 wait; they send 7 bytes in a second at most\n";
        assert!(summary(&flow).ends_with(says));
        assert!(
            summary(&blue(0, None, 0, None)).starts_with("blue may have any number of VMs, which may hold any memory;")
        );
    }

    #[test]
    fn figures_have_a_line_for_each_tenant() {
        let mut page = Page::default();
        put(&mut page, &[blue(1, Some(3), 1024, None)]);
        let text = page.into_text();
        for line in [
            "# TYPE foraker_tenant_vms gauge\n",
            "foraker_tenant_vms{tenant=\"blue\"} 1\n",
            "foraker_tenant_quota_vms{tenant=\"blue\"} 3\n",
            "foraker_tenant_limit_bytes{tenant=\"blue\"} 1048576\n",
            "foraker_tenant_refused_total{tenant=\"blue\"} 2\n",
            "foraker_tenant_waiting_wakes{tenant=\"blue\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(!text.contains("foraker_tenant_quota_bytes{"), "it has none: {text}");
    }
}
