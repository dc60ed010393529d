use super::*;
use abi::end::EndReason;
use abi::log::ProcessorError;

#[test]
fn every_reason_for_which_a_vm_cannot_be_started_is_said_and_told_apart() {
    let parts = [
        (Part::NestedTables, "its nested page tables"),
        (Part::RegisterPage, "its register page"),
        (Part::PageTables, "its first page tables"),
        (Part::Nic, "its NIC"),
        (Part::Control, "its control ring"),
        (Part::Disk, "its virtual disk"),
    ];
    for (part, text) in parts {
        let (no_frame, no_page) = (BuildError::NoFrame(part), BuildError::NoPage(part));
        assert_eq!(no_frame.to_string(), format!("no frame is free for {text}"));
        assert_eq!(no_page.to_string(), format!("its memory has no room for {text}"));
        assert_eq!((no_frame.reason(), no_page.reason()), (EndReason::OutOfMemory, EndReason::BadImage));
        assert_eq!(at(part)(PageError::NoFrame), no_frame);
        assert_eq!(at(part)(PageError::NoSuchPage), no_page);
    }
    let others = [
        (BuildError::NoImage, EndReason::BadImage, "its image is gone"),
        (BuildError::NoControl, EndReason::NoControl, "4 VMs that control the machine live already; end one of them"),
        (
            BuildError::Processor(ProcessorError::Field { encoding: 0x6c00, error: 12 }),
            EndReason::EntryFailure,
            "its processor cannot be set up: the CPU refused VMCS field 0x6c00: VM-instruction error 12",
        ),
    ];
    for (error, reason, text) in others {
        assert_eq!((error.reason(), error.to_string().as_str()), (reason, text));
    }
}
