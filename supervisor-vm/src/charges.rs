//! What VMs and their tenants are charged with, as figures for Prometheus.

use crate::exposition::{Page, label, seconds};
use crate::node::{Node, Vm};
use crate::refusal::said;
use abi::charges::Charges;
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
    tenants: BTreeMap<String, Sum>,
    /// Ticks as seconds.
    seconds: fn(u64) -> String,
}

/// What the VMs of a tenant are charged with together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    ticks: u64,
    bytes: u64,
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
        let reply = node.ask(ControlRequest::Share { slot }, drop).await.map_err(said)?;
        if let ControlReply::Share { vm: id, tenant, .. } = reply
            && id == vm.id
            && !tenant.is_unsaid()
        {
            self.sum(tenant.to_string(), ran_ticks, &charges);
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

    fn sum(&mut self, tenant: String, ran_ticks: u64, charges: &Charges) {
        let sum = self.tenants.entry(tenant).or_default();
        sum.ticks = sum.ticks.saturating_add(ran_ticks).saturating_add(charges.service_ticks);
        let bytes = charges.traffic.rx_bytes.saturating_add(charges.traffic.tx_bytes);
        sum.bytes = sum.bytes.saturating_add(bytes);
    }

    /// Puts all that was added behind what is on the page.
    pub fn put(self, page: &mut Page) {
        let Bills { service, frames, bytes, faults, wakes, tenants, seconds } = self;
        [service, frames, bytes, faults, wakes].iter().for_each(|metric| page.append(metric));
        // Those of VMs that have ended are not in it: it goes down when one ends.
        let help = "Time charged to the living VMs of a tenant, their own included.";
        page.metric("foraker_tenant_cpu_seconds", "gauge", help);
        for (tenant, sum) in &tenants {
            page.sample("foraker_tenant_cpu_seconds", &of_tenant(tenant), seconds(sum.ticks));
        }
        page.metric("foraker_tenant_frame_bytes", "gauge", "Bytes of frames either way of the living VMs of a tenant.");
        for (tenant, sum) in &tenants {
            page.sample("foraker_tenant_frame_bytes", &of_tenant(tenant), sum.bytes);
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
            bills.sum(tenant.to_string(), ran_ticks, &charges);
        }
        assert_eq!(bills.tenants["blue"], Sum { ticks: 50, bytes: 240 });
        assert_eq!(bills.tenants["red"], Sum { ticks: 6, bytes: 120 });
        let mut page = Page::default();
        bills.put(&mut page);
        let text = page.text();
        for line in [
            "foraker_vm_frames_total{vm=\"vm0.1\",way=\"tx\"} 2\n",
            "foraker_vm_frame_bytes_total{vm=\"vm0.1\",way=\"rx\"} 100\n",
            "foraker_vm_page_faults_total{vm=\"vm0.1\"} 7\n",
            "foraker_vm_wakes_total{vm=\"vm0.1\"} 9\n",
            "foraker_vm_service_seconds_total{vm=\"vm0.1\"} 5\n",
            "foraker_tenant_cpu_seconds{tenant=\"red\"} 6\n",
            "foraker_tenant_frame_bytes{tenant=\"blue\"} 240\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
