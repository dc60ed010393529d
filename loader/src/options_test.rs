use super::barriers::Mode;
use super::manifest_test::image;
use super::options::{Known, OnFatal, Options, VmRequest};
use abi::attachment::Attachment;
use abi::boot::{self, Net, SelfTest};
use abi::limits::{MAX_POLICIES, Name};
use abi::manifest::{CORE, Component, Image, NONE, Policy, Ring, image_flags};
use abi::service::Service;
use log::LevelFilter;
use proptest::prelude::*;

fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}

fn component(role: &str, names: &[&str]) -> Component {
    let mut policies = [Policy { name: Name::EMPTY, module: Name::EMPTY }; MAX_POLICIES];
    for (policy, text) in policies.iter_mut().zip(names) {
        *policy = Policy { name: name(text), module: name(text) };
    }
    Component {
        name: name(role),
        policies,
        policy_count: u32::try_from(names.len()).expect("few"),
        priority: 0,
        budget_us: 1,
        stack_pages: 1,
        memory_pages: 1,
        dma_pages: 0,
        pci_class: NONE,
        port_first: 0,
        port_count: 0,
        port_irq: NONE,
        keep_pages: 0,
        flags: 0,
        reserved: 0,
    }
}

/// Runs `f` with one machine's names.
fn known<R>(f: impl FnOnce(Known<'_>) -> R) -> R {
    let components = [component("sched", &["round-robin", "lottery"]), component("pager", &["demand"])];
    let images = [image("httpd"), image("hostile")];
    f(Known { components: &components, rings: &[], images: &images })
}

fn parse(defaults: &str, line: &str) -> Options {
    known(|known| Options::parse(defaults, line, known).map_err(|error| error.to_string())).expect("good options")
}

fn error(line: &str) -> String {
    known(|known| Options::parse("", line, known).expect_err("must be refused").to_string())
}

#[test]
fn vms_start_lazily_or_at_once() {
    assert_eq!(parse("", "").lazy, None);
    assert_eq!(parse("net=10.0.2.16/24", "vms=httpd start=lazy").lazy, Some(true));
    assert_eq!(parse("start=lazy", "vms=httpd start=now net=dhcp").lazy, Some(false));
    assert!(error("start=soon").contains("known are lazy, now"));
}

#[test]
fn only_images_whose_vms_can_be_reached_start_lazily() {
    let with = |rx_slots, flags| Image { rx_slots, tx_slots: rx_slots, flags, ..image("httpd") };
    let (lazy, control) = (image_flags::LAZY, image_flags::CONTROL);
    for (image, wanted, flags) in [
        (with(256, 0), true, lazy),
        (with(256, lazy), true, lazy),
        (with(256, lazy), false, 0),
        (with(0, 0), true, 0),
        (with(256, control), true, control),
        (with(256, control), false, control),
    ] {
        assert_eq!(Options { lazy: Some(wanted), ..Options::default() }.flags_of(&image), flags);
        assert_eq!(Options::default().flags_of(&image), image.flags);
    }
}

#[test]
fn defaults_then_command_line() {
    assert_eq!(parse("", ""), Options::default());
    let options = parse(
        "vms=httpd*8 quantum=10ms sched=round-robin net=dhcp",
        "  vms=httpd*2,hostile   sched=lottery quantum=250us net=10.0.2.16/24,gw=10.0.2.2 log=debug\ton-fatal=poweroff selftest=wx ",
    );
    let disk = Attachment::NONE;
    let vms = [VmRequest { image: 0, count: 2, disk }, VmRequest { image: 1, count: 1, disk }];
    assert_eq!(options.vms[..], vms);
    assert_eq!(options.quantum_ns, 250_000);
    let net = Net::Static { address: 0x0a00_0210, prefix: 24, gateway: Some(0x0a00_0202) };
    assert_eq!(options.net, net);
    assert_eq!(options.log, LevelFilter::Debug);
    assert_eq!(options.policies[..3], [1, 0, 0]);
    assert_eq!((options.on_fatal, options.selftest), (OnFatal::PowerOff, Some(SelfTest::Wx)));
    assert_eq!(options.barriers, Mode::Auto, "nobody has said otherwise");
    for (word, mode) in [("auto", Mode::Auto), ("off", Mode::Off), ("strict", Mode::Strict)] {
        assert_eq!(parse("barriers=strict", &format!("barriers={word}")).barriers, mode);
    }
    assert!(parse("vms=httpd", "vms=").vms.is_empty());
    assert_eq!(parse("", "net=10.0.0.1/8").net, Net::Static { address: 0x0a00_0001, prefix: 8, gateway: None });
    assert_eq!(parse("", "vms=httpd*1048576").vms[0].count, 1_048_576);
}

#[test]
fn net_means_addresses_or_a_policy() {
    let netmux = component("netmux", &["round-robin", "drr"]);
    // There is another demultiplexer, which is less important.
    let lan = Component { priority: netmux.priority + 1, ..component("lan", &["round-robin", "fifo"]) };
    let components = [lan, netmux];
    let ring = |consumer| {
        let service = Service::Net.raw();
        Ring { name: name("r"), producer: CORE, consumer, slots: 64, service, data_pages: 0, reserved: 0 }
    };
    let known = Known { components: &components, rings: &[ring(0), ring(1)], images: &[] };
    let options = Options::parse("net=10.0.2.16/24,gw=10.0.2.2", "net=drr", known).expect("both are known");
    assert!(matches!(options.net, Net::Static { .. }) && options.policies[1] == 1);
    assert_eq!(Options::parse("", "netmux=drr", known).expect("the role's name does as well").policies[1], 1);
    let error = Options::parse("", "net=fq", known).expect_err("no such policy").to_string();
    assert!(error.starts_with("'net=fq' is not understood; write dhcp, or ADDRESS/PREFIX"), "{error}");
    assert!(error.ends_with("or one of the policies round-robin, drr"), "{error}");
}

#[test]
fn disk_means_a_policy_of_who_serves_disks() {
    let components = [component("netmux", &["drr"]), component("diskmux", &["drr", "elevator", "fifo"])];
    let rings = [Ring {
        name: name("r"),
        producer: CORE,
        consumer: 1,
        slots: 64,
        service: Service::Disk.raw(),
        data_pages: 0,
        reserved: 0,
    }];
    let known = Known { components: &components, rings: &rings, images: &[] };
    let policy = |word| Options::parse("", word, known).map(|options| options.policies[1]);
    let chosen = ["disk=drr", "disk=elevator", "diskmux=fifo"].map(|word| policy(word).expect("known"));
    assert_eq!(chosen, [0, 1, 2]);
    let error = policy("disk=scan").expect_err("no such policy").to_string();
    assert_eq!(error, "'disk=scan' names a policy that is not in the manifest; known policies are drr, elevator, fifo");
    let error = Options::parse("", "disk=drr", Known { rings: &[], ..known }).expect_err("nobody").to_string();
    assert_eq!(error, "'disk=drr' chooses who serves disks, and no component of the manifest does");
}

#[test]
fn vms_have_disks() {
    let disks = |line| parse("", line).vms.iter().map(|vms| (vms.count, vms.disk.to_string())).collect::<Vec<_>>();
    let asked = disks("vms=httpd*8:disk=web:ro,hostile:disk=log,httpd*2");
    assert_eq!(asked, [(8, "web:ro".to_owned()), (1, "log".to_owned()), (2, String::new())]);
    for (disk, what) in [("web:rw", "web:rw"), ("", ""), ("a/b:ro", "a/b:ro")] {
        let expected = format!(
            "'vms=httpd:disk={disk}' names the virtual disk '{what}'; write NAME where one VM writes it, or NAME:ro where VMs only read, as in \
             httpd*8:disk=web:ro"
        );
        assert_eq!(error(&format!("vms=httpd:disk={disk}")), expected);
    }
    assert_eq!(
        error("vms=httpd*2:disk=log"),
        "'vms=httpd*2:disk=log' lets several VMs write the virtual disk 'log', which one VM can; write disk=log:ro, or ask for one VM"
    );
}

#[test]
fn a_pool_is_whole_pages() {
    let pool = |line| parse("", line).pool_bytes;
    assert_eq!((pool("log=info"), pool("pool=0"), pool("pool=3KiB")), (None, Some(0), Some(4096)));
    assert_eq!((pool("pool=64MiB"), pool("pool=1GiB")), (Some(64 << 20), Some(1 << 30)));
    assert_eq!(["pool=64K", "pool=8M", "pool=2G"].map(pool), [Some(64 << 10), Some(8 << 20), Some(2 << 30)]);
    let record = parse("", "residence=2s").to_record();
    assert_eq!((record.residence_ns, record.pool_bytes), (2_000_000_000, abi::boot::POOL_UNSAID));
}

#[test]
fn the_gatekeepers_way_to_choose() {
    use abi::sched::Admission;
    assert_eq!(parse("", "").to_record().gatekeeper, 0);
    for (number, (way, name)) in (0..).zip(Admission::ALL.into_iter().zip(Admission::NAMES)) {
        let options = parse("gatekeeper=fifo", &format!("gatekeeper={name}"));
        assert_eq!((options.gatekeeper, options.to_record().gatekeeper), (way, number));
    }
    assert_eq!(
        error("gatekeeper=lifo"),
        "'gatekeeper=lifo' has an unknown value; known are fifo, working-set, deadline"
    );
}

#[test]
fn errors_are_sentences() {
    assert_eq!(error("verbose"), "'verbose' has no value; options are written key=value");
    assert_eq!(
        error("log=info color=red"),
        "'color=red' is not a known option; known are vms, slots, seats, node, quantum, gatekeeper, memory-wait, residence, pool, net, disk, log, on-fatal, selftest, start, barriers, sched, pager"
    );
    assert_eq!(
        error("vms=httpd*2,foo"),
        "'vms=httpd*2,foo' names the image 'foo', which is not in the manifest; known images are httpd, hostile"
    );
    assert_eq!(
        error("sched=fifo"),
        "'sched=fifo' names a policy that is not in the manifest; known policies are round-robin, lottery"
    );
    assert_eq!(error("vms=httpd*0"), "'vms=httpd*0' asks for '0' VMs; write a number from 1 to 1048576");
    assert_eq!(error("vms=httpd*-1"), "'vms=httpd*-1' asks for '-1' VMs; write a number from 1 to 1048576");
    assert_eq!(
        error("vms=httpd*999999,hostile*99999"),
        "'vms=httpd*999999,hostile*99999' asks for more than 1048576 VMs"
    );
    assert_eq!(error("vms=httpd*4294967295,httpd"), "'vms=httpd*4294967295,httpd' asks for more than 1048576 VMs");
    let many = format!("vms={}", ["httpd"; 17].join(","));
    assert!(error(&many).ends_with("... has more than 16 entries") || error(&many).contains("more than 16 entries"));
    assert_eq!(error("log=loud"), "'log=loud' has an unknown value; known are off, error, warn, info, debug, trace");
    assert_eq!(error("on-fatal=cry"), "'on-fatal=cry' has an unknown value; known are halt, poweroff");
    assert_eq!(error("barriers=on"), "'barriers=on' has an unknown value; known are auto, off, strict");
    assert_eq!(error("selftest=all"), "'selftest=all' has an unknown value; known are none, wx, entry-failure");
    for bad in ["quantum=", "quantum=10", "quantum=10m", "quantum=9us", "quantum=2s", "quantum=99999999999999999999s"] {
        assert!(error(bad).ends_with("is not understood; write a time from 10us to 1s, as in quantum=10ms"), "{bad}");
    }
    for bad in ["residence=", "residence=100", "residence=999us", "residence=61s"] {
        assert!(error(bad).ends_with("write a time from 1ms to 60s, as in residence=100ms"), "{bad}");
    }
    for bad in [
        "pool=",
        "pool=64",
        "pool=64m",
        "pool=64MB",
        "pool=64B",
        "pool=M",
        "pool=-1MiB",
        "pool=1025G",
        "pool=1025GiB",
        "pool=99999999999999999999GiB",
    ] {
        assert!(error(bad).ends_with("up to 1024GiB, as in pool=64MiB"), "{bad}");
    }
    for bad in
        ["net=", "net=10.0.0.1", "net=10.0.0.1/0", "net=10.0.0.1/31", "net=10.0.0.256/24", "net=10.0.0.1/24,10.0.0.2"]
    {
        assert!(error(bad).contains("is not understood; write dhcp, or ADDRESS/PREFIX"), "{bad}");
    }
    // What is not printable, or endless, is not passed on to the terminal.
    assert_eq!(error("\u{1b}[31mred"), "'?[31mred' has no value; options are written key=value");
    assert!(error(&"x".repeat(500)).len() < 120);
}

#[test]
fn what_follows_a_fatal_message_is_known_early() {
    assert_eq!(Options::early_on_fatal("a b on-fatal=poweroff c"), OnFatal::PowerOff);
    assert_eq!(Options::early_on_fatal("on-fatal=poweroff on-fatal=halt"), OnFatal::Halt);
    assert_eq!(Options::early_on_fatal("xon-fatal=poweroff"), OnFatal::Halt);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text(line in "\\PC{0,80}") {
        known(|known| {
            if let Err(error) = Options::parse("", &line, known) {
                assert!(error.to_string().is_ascii());
            }
        });
    }

    #[test]
    fn nearly_good(words in prop::collection::vec("(vms|quantum|net|log|sched|pager|on-fatal)=[a-z0-9*,./=-]{0,24}", 0..5)) {
        let line = words.join(" ");
        known(|known| {
            match Options::parse("", &line, known) {
                Ok(options) => {
                    assert!(options.vms.iter().map(|request| request.count).sum::<u32>() <= 1_048_576);
                    assert!((10_000..=1_000_000_000).contains(&options.quantum_ns));
                }
                Err(error) => assert!(error.to_string().len() < 300),
            }
        });
    }
}

#[test]
fn places() {
    assert_eq!((parse("", "").slots, parse("", "").seats, parse("", "").node), (None, None, None));
    let options = parse("slots=77", "slots=2^20 seats=1000 node=67108863");
    assert_eq!((options.slots, options.seats), (Some(1 << 20), Some(1000)));
    assert_eq!(options.node.map(abi::nic::Node::number), Some(0x3ff_ffff));
    assert_eq!((parse("", "slots=1 seats=2^0").slots, parse("", "seats=2^15").seats), (Some(1), Some(1 << 15)));
    for bad in
        ["slots=0", "slots=1048577", "slots=2^21", "slots=2^32", "slots=2^", "slots=x", "seats=65536", "seats=-1"]
    {
        assert!(error(bad).contains("write a number from 1 to"), "{bad}: {}", error(bad));
    }
    for bad in ["node=67108864", "node=-1", "node="] {
        assert_eq!(error(bad), format!("'{bad}' is not understood; write a number from 0 to 67108863, as in node=17"));
    }
}

#[test]
fn the_record_says_the_same() {
    let known = Known { components: &[], rings: &[], images: &[] };
    let record = |line: &'static str| Options::parse("", line, known).expect("good").to_record();
    assert_eq!(record(""), boot::Options::default());
    let said =
        record("node=9 quantum=2ms log=trace on-fatal=poweroff selftest=entry-failure net=10.0.2.16/24,gw=10.0.2.2");
    assert_eq!((said.node, said.quantum_ns), (9, 2_000_000));
    assert_eq!((said.log, said.power_off, said.selftest()), (5, 1, Some(SelfTest::EntryFailure)));
    let net = Net::Static { address: 0x0a00_0210, prefix: 24, gateway: Some(0x0a00_0202) };
    assert_eq!(said.net(), net);
    assert_eq!(
        ["off", "error", "warn", "info", "debug"]
            .map(|log| { Options { log: log.parse().expect("a level"), ..Options::default() }.to_record().log }),
        [0, 1, 2, 3, 4]
    );
    let options = Options::default();
    assert_eq!((options.to_record().node(), options.to_record().net()), (None, Net::Dhcp));
}
