extern crate std;

use super::*;
use crate::end::EndReason;
use std::format;
use std::string::ToString;

const PAGER: Name = match Name::new("pager") {
    Some(name) => name,
    None => panic!("a name"),
};
const DEMAND: Name = match Name::new("pager-demand") {
    Some(name) => name,
    None => panic!("a name"),
};

fn vm() -> VmId {
    VmId { slot: Slot::new(3), generation: 2 }
}

/// Scripts and machine tests look for these lines.
#[test]
fn records_read_as_ever() {
    let error = HardwareError { bank: 4, status: 0x9c00, address: Some(0x1234) };
    let lines = [
        (
            Record::Processors { processors: 2, timer: Timer { x2apic: true, deadline: false }, io_apics: 1 },
            "Info core: 2 processors, 1 used; x2APIC, one-shot timer; 1 I/O APICs",
        ),
        (
            Record::ComponentAudit { name: PAGER, found: WxReport { leaves: 7, ..WxReport::default() } },
            "Info core: pager: W^X: 0 of 7 leaf mappings are writable and executable",
        ),
        (
            Record::Device { name: PAGER, address: pci::Address(0x0119), delivery: Delivery::MsiX },
            "Info core: pager: PCI 01:03.1, MSI-X",
        ),
        (Record::BootEnded { given_back: 900, left: 0 }, "Info core: boot: 900 frames given back, 0 left"),
        (Record::PoweredOff, "Info foraker: powered off"),
        (
            Record::ErrorInVm { slot: Slot::new(3), error },
            "Error core: hardware error in the memory of the VM in slot 3: bank 4, status 0x9c00, address 0x1234",
        ),
        (
            Record::Started { name: PAGER, policy: DEMAND },
            "Info core: component pager started with policy pager-demand",
        ),
        (
            Record::Restarted { name: PAGER, policy: DEMAND, start: 2 },
            "Info core: component pager restarted with policy pager-demand (start 2)",
        ),
        (
            Record::GoesOn { name: PAGER, policy: DEMAND, start: 2 },
            "Info core: component pager goes on with policy pager-demand (start 2)",
        ),
        (Record::Killed { name: PAGER, start: 1 }, "Warn core: component pager (start 1) killed by request"),
        (
            Record::Overran { name: PAGER, ran_us: 1200, budget_us: 1000, rip: 0x40_0000 },
            "Error core: component pager killed: it ran 1200 us without waiting, its budget is 1000 us (rip 0x400000)",
        ),
        (
            Record::SentNonsense { name: PAGER, bad: BadMessage::unknown(0x77) },
            "Warn core: pager sent a message of kind 0x77: unknown kind; ignored",
        ),
        (
            Record::NotStarted { vm: vm(), why: BuildError::NoFrame(Part::Nic) },
            "Error core: vm3.2 cannot be started: no frame is free for its NIC",
        ),
        (
            Record::Ended { vm: vm(), reason: EndReason::Exited, detail: 7, rip: 0x1000, left_out: 0 },
            "Info core: vm3.2 ended: exited (detail 0x7, rip 0x1000; 0 such lines left out)",
        ),
        (Record::LinesLeftOut { vm: vm(), lines: 9 }, "Warn guest: vm3.2: 9 lines left out: it writes too many"),
    ];
    for (record, line) in lines {
        assert_eq!(format!("{:?} {}: {record}", record.level(), record.target()), line);
    }
}

#[test]
fn registers_of_a_fault_are_all_said() {
    let registers = Registers { rip: 0xabc, r8_to_r15: [0x11; 8], ..Registers::default() };
    let faulted = Record::Faulted { name: PAGER, vector: 14, error: 6, address: 0xdead, registers };
    let line = faulted.to_string();
    assert!(
        line.starts_with("component pager killed: fault 14 (error 0x6, address 0xdead), registers Registers { rax: 0,")
    );
    assert!(line.contains("r8_to_r15: [11, 11, 11, 11, 11, 11, 11, 11], rip: abc"), "{line}");
}

#[test]
fn an_audit_says_what_it_found() {
    let report =
        WxReport { leaves: 9, writable_executable: 1, writable_aliases: 2, executable: 3, first_bad: Some(0x1000) };
    assert!(!report.is_clean());
    assert_eq!(
        report.to_string(),
        "W^X: 1 of 9 leaf mappings are writable and executable, 2 pages of text or constants have a writable alias, the first at 0x1000"
    );
    assert!(WxReport { leaves: 9, executable: 3, ..WxReport::default() }.is_clean());
}
