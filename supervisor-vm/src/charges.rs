//! What VMs and their tenants are charged with, as figures for Prometheus.

use crate::exposition::{Page, label, seconds};
use crate::node::{Node, Vm};
use crate::refusal::said;
use abi::charges::{Charges, DiskUse};
use abi::control::{ControlReply, ControlRequest};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};

/// The figures of VMs, metric by metric, and the sums of those that have a tenant with a name.
pub struct Bills {
    service: Page,
    frames: Page,
    bytes: Page,
    faults: Page,
    wakes: Page,
    disk_requests: Page,
    disk_bytes: Page,
    tenants: BTreeMap<String, Sum>,
    /// Ticks as seconds.
    seconds: fn(u64) -> String,
}

/// A metric's name, what it is, and which of the sums.
type Figure = (&'static str, &'static str, fn(&Sum) -> u64);

/// What the VMs of a tenant are charged with together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    ticks: u64,
    bytes: u64,
    disk_requests: u64,
    disk_bytes: u64,
}

impl Bills {
    /// No figures; `seconds` writes ticks as seconds.
    pub fn new(seconds: fn(u64) -> String) -> Bills {
        let begin = |name: &str, help: &str| {
            let mut page = Page::default();
            page.metric(name, "counter", help);
            page
        };
        Bills {
            service: begin(
                "foraker_vm_service_seconds_total",
                "Time that components and the core ran on behalf of a VM.",
            ),
            frames: begin("foraker_vm_frames_total", "Frames that a VM got (rx) and sent (tx)."),
            bytes: begin("foraker_vm_frame_bytes_total", "Bytes of the frames that a VM got (rx) and sent (tx)."),
            faults: begin("foraker_vm_page_faults_total", "Pages that a VM waited for."),
            wakes: begin("foraker_vm_wakes_total", "Times that a VM was woken from idling."),
            disk_requests: begin(
                "foraker_vm_disk_requests_total",
                "Requests of a VM to its virtual disk that the disks were asked for.",
            ),
            disk_bytes: begin(
                "foraker_vm_disk_bytes_total",
                "Bytes that a VM has read from and written to its virtual disk.",
            ),
            tenants: BTreeMap::new(),
            seconds,
        }
    }

    /// Adds a VM, which has these labels. One that is gone by now has no figures.
    ///
    /// # Errors
    ///
    /// What the core refuses.
    pub async fn add(&mut self, node: &Node, vm: &Vm, labels: &str) -> Result<(), String> {
        let slot = vm.id.slot;
        let reply = node.ask(ControlRequest::NextCharges { slot }, drop).await.map_err(said)?;
        let ControlReply::Charges { vm: id, ran_ticks, charges } = reply else { return Ok(()) };
        if id != vm.id {
            return Ok(());
        }
        self.show(labels, &charges);
        let reply = node.ask(ControlRequest::DiskOf { slot }, drop).await.map_err(said)?;
        let used = match reply {
            ControlReply::DiskOf { vm: id, disk, used, .. } if id == vm.id && !disk.is_empty() => Some(used),
            _ => None,
        };
        if let Some(used) = used {
            self.show_disk(labels, used);
        }
        let reply = node.ask(ControlRequest::Share { slot }, drop).await.map_err(said)?;
        if let ControlReply::Share { vm: id, tenant, .. } = reply
            && id == vm.id
            && !tenant.is_unsaid()
        {
            self.sum(tenant.to_string(), ran_ticks, &charges, used.unwrap_or_default());
        }
        Ok(())
    }

    fn show(&mut self, labels: &str, charges: &Charges) {
        let Charges { service_ticks, traffic, faults, wakes } = charges;
        self.service.sample("foraker_vm_service_seconds_total", labels, (self.seconds)(*service_ticks));
        let ways = [("rx", traffic.rx_frames, traffic.rx_bytes), ("tx", traffic.tx_frames, traffic.tx_bytes)];
        for (way, frames, bytes) in ways {
            let labels = format!("{labels},way=\"{way}\"");
            self.frames.sample("foraker_vm_frames_total", &labels, frames);
            self.bytes.sample("foraker_vm_frame_bytes_total", &labels, bytes);
        }
        self.faults.sample("foraker_vm_page_faults_total", labels, faults);
        self.wakes.sample("foraker_vm_wakes_total", labels, wakes);
    }

    fn show_disk(&mut self, labels: &str, used: DiskUse) {
        self.disk_requests.sample("foraker_vm_disk_requests_total", labels, used.requests);
        self.disk_bytes.sample("foraker_vm_disk_bytes_total", labels, used.bytes());
    }

    fn sum(&mut self, tenant: String, ran_ticks: u64, charges: &Charges, used: DiskUse) {
        let sum = self.tenants.entry(tenant).or_default();
        sum.ticks = sum.ticks.saturating_add(ran_ticks).saturating_add(charges.service_ticks);
        let bytes = charges.traffic.rx_bytes.saturating_add(charges.traffic.tx_bytes);
        sum.bytes = sum.bytes.saturating_add(bytes);
        sum.disk_requests = sum.disk_requests.saturating_add(used.requests.into());
        sum.disk_bytes = sum.disk_bytes.saturating_add(used.bytes());
    }

    /// Puts all that was added behind what is on the page.
    pub fn put(self, page: &mut Page) {
        let Bills { service, frames, bytes, faults, wakes, disk_requests, disk_bytes, tenants, seconds } = self;
        [service, frames, bytes, faults, wakes, disk_requests, disk_bytes]
            .into_iter()
            .for_each(|metric| page.append(metric));
        // Those of VMs that have ended are not in it: it goes down when one ends.
        let help = "Time charged to the living VMs of a tenant, their own included.";
        page.metric("foraker_tenant_cpu_seconds", "gauge", help);
        for (tenant, sum) in &tenants {
            page.sample("foraker_tenant_cpu_seconds", &of_tenant(tenant), seconds(sum.ticks));
        }
        let figures: [Figure; 3] = [
            ("foraker_tenant_frame_bytes", "Bytes of frames either way of the living VMs of a tenant.", |sum| {
                sum.bytes
            }),
            (
                "foraker_tenant_disk_requests",
                "Requests to virtual disks that the disks were asked for, of the living VMs of a tenant.",
                |sum| sum.disk_requests,
            ),
            (
                "foraker_tenant_disk_io_bytes",
                "Bytes that the living VMs of a tenant have read from and written to virtual disks.",
                |sum| sum.disk_bytes,
            ),
        ];
        for (name, help, of) in figures {
            page.metric(name, "gauge", help);
            for (tenant, sum) in &tenants {
                page.sample(name, &of_tenant(tenant), of(sum));
            }
        }
    }
}

fn of_tenant(tenant: &str) -> String {
    format!("tenant=\"{}\"", label(tenant))
}

/// Where the processor's time has gone.
///
/// # Errors
///
/// What the core refuses.
pub async fn account(node: &Node, page: &mut Page) -> Result<(), String> {
    let reply = node.ask(ControlRequest::Account, drop).await.map_err(said)?;
    if let ControlReply::Account {
        idle_ticks,
        guest_ticks,
        service_ticks,
        own_ticks,
        ended_ran_ticks,
        ended_service_ticks,
        ..
    } = reply
    {
        let name = "foraker_account_seconds";
        // The node's is charged to VMs later, when it is known on whose behalf it was.
        page.metric(name, "gauge", "All time of the processor, by whom it is charged to.");
        for (to, ticks) in
            [("idle", idle_ticks), ("guests", guest_ticks), ("service", service_ticks), ("node", own_ticks)]
        {
            page.sample(name, &format!("to=\"{to}\""), seconds(ticks));
        }
        let name = "foraker_ended_seconds_total";
        page.metric(name, "counter", "Of the time of guests and service, that of VMs that have ended.");
        for (to, ticks) in [("guests", ended_ran_ticks), ("service", ended_service_ticks)] {
            page.sample(name, &format!("to=\"{to}\""), seconds(ticks));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::charges::Traffic;

    #[test]
    fn a_tenants_vms_are_added_up() {
        let traffic = Traffic { rx_bytes: 100, tx_bytes: 20, rx_frames: 3, tx_frames: 2 };
        let charges = Charges { service_ticks: 5, traffic, faults: 7, wakes: 9 };
        let mut bills = Bills::new(|ticks| ticks.to_string());
        for (tenant, ran_ticks) in [("blue", 10), ("red", 1), ("blue", 30)] {
            bills.show("vm=\"vm0.1\"", &charges);
            let used = DiskUse { requests: u32::MAX, blocks: 3 };
            bills.show_disk("vm=\"vm0.1\"", used);
            bills.sum(tenant.to_string(), ran_ticks, &charges, used);
        }
        let (disk_requests, disk_bytes) = (u64::from(u32::MAX), 3 * 4096);
        let blue = Sum { ticks: 50, bytes: 240, disk_requests: 2 * disk_requests, disk_bytes: 2 * disk_bytes };
        assert_eq!(bills.tenants["blue"], blue);
        assert_eq!(bills.tenants["red"], Sum { ticks: 6, bytes: 120, disk_requests, disk_bytes });
        let mut page = Page::default();
        bills.put(&mut page);
        let text = page.into_text();
        for line in [
            "foraker_vm_frames_total{vm=\"vm0.1\",way=\"tx\"} 2\n",
            "foraker_vm_frame_bytes_total{vm=\"vm0.1\",way=\"rx\"} 100\n",
            "foraker_vm_page_faults_total{vm=\"vm0.1\"} 7\n",
            "foraker_vm_wakes_total{vm=\"vm0.1\"} 9\n",
            "foraker_vm_service_seconds_total{vm=\"vm0.1\"} 5\n",
            "foraker_tenant_cpu_seconds{tenant=\"red\"} 6\n",
            "foraker_tenant_frame_bytes{tenant=\"blue\"} 240\n",
            "foraker_vm_disk_requests_total{vm=\"vm0.1\"} 4294967295\n",
            "foraker_vm_disk_bytes_total{vm=\"vm0.1\"} 12288\n",
            "foraker_tenant_disk_requests{tenant=\"red\"} 4294967295\n",
            "foraker_tenant_disk_io_bytes{tenant=\"blue\"} 24576\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
