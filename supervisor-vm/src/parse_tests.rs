use super::*;
use crate::query::Query;
use abi::attachment::Attachment;
use abi::tenant::Tenant;
use proptest::prelude::*;
use quota_words::Change;

fn good(line: &str) -> Command {
    parse(line).expect(line).into_iter().next().expect("one").1
}

#[test]
fn lines_are_commands() {
    for (line, follow, seconds) in [
        ("vm console web-1", false, None),
        ("vm console web-1 --for 600", false, Some(600)),
        ("vm console web-1 --follow", true, None),
        ("vm console web-1 --follow --for 1", true, Some(1)),
    ] {
        assert_eq!(good(line), Command::VmConsole { vm: "web-1".to_string(), follow, seconds });
    }
    for bad in ["vm console", "vm console a b", "vm console a --for", "vm console a --for 0", "vm console a --for 601"]
    {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert_eq!(good("vm list"), Command::VmList { query: Query::default(), count: false, json: false });
    assert_eq!(good("  vm   list --json "), Command::VmList { query: Query::default(), count: false, json: true });
    assert_eq!(good("vm show a --json"), Command::VmShow { vm: "a".into(), json: true });
    assert_eq!(good("token new ci --json"), Command::TokenNew { name: "ci".into(), json: true });
    assert_eq!(good("token rm ci"), Command::TokenRm { name: "ci".into() });
    assert_eq!(good("component restart pager"), Command::ComponentRestart { name: "pager".into() });
    assert_eq!(good("vm top --limit 3 --json"), Command::VmTop { limit: 3, json: true });
    assert_eq!(good("vm top"), Command::VmTop { limit: 10, json: false });
    let (component, policy) = ("sched".to_string(), "fair".to_string());
    assert_eq!(good("policy set sched fair"), Command::PolicySet { component: component.clone(), policy });
    let component = Some(component);
    assert_eq!(good("policy show sched"), Command::PolicyList { component, json: false });
    let (name, new) = ("docs".to_string(), "kept".to_string());
    assert_eq!(good("disk create docs 2M"), Command::DiskCreate { name: name.clone(), blocks: 512, tenant: None });
    assert_eq!(good("disk snapshot docs kept"), Command::DiskSnapshot { name, new });
    assert!(good("disk rm a").changes() && good("disk attach a b:ro").changes() && !good("disk list").changes());
    assert!(good("node shutdown").changes() && !good("policy list").changes());
    assert_eq!((good("audit"), good("metrics")), (Command::Audit, Command::Metrics));
    for asks in ["vm list", "vm top", "vm show a", "log", "image list", "disk list", "node show", "metrics", "help"] {
        assert!(good(asks).only_asks() && !good(asks).changes(), "{asks}");
    }
    // Each of these may be in the middle of something.
    for does in ["vm start a", "image rm a", "fleet apply", "audit", "state begin-anew", "tenant set a --vms 1"] {
        assert!(!good(does).only_asks(), "{does}");
    }
    for (line, same) in [
        ("vm start a --json", "vm start a"),
        ("vm create a --image b --json -- c", "vm create a --image b -- c"),
        ("node shutdown --json", "node shutdown"),
        ("image put a --json", "image put a"),
    ] {
        assert_eq!(good(line), good(same), "{line}");
        assert!(says_json(line) && !says_json(same));
    }
    assert!(!says_json("vm create a --image b -- --json"));
    assert_eq!(parse(""), Ok(Vec::new()));
    assert_eq!(parse("  # vm list"), Ok(Vec::new()));
    let both = parse("vm start a && vm stop b").expect("two");
    let texts = ["vm start a", "vm stop b"].map(String::from);
    let commands = [Command::VmStart { name: "a".into() }, Command::VmStop { vm: "b".into() }];
    assert!(both.into_iter().eq(texts.into_iter().zip(commands)));
}

#[test]
fn a_vm_has_terms_and_arguments() {
    let line = "vm create web-17 --image httpd --disk docs:ro --weight 300 --tenant blue -- a=1 --image b";
    let Command::VmCreate { name, image, terms, args } = good(line) else { panic!("{line}") };
    assert_eq!((name.as_str(), image.as_str(), args.as_str()), ("web-17", "httpd", "a=1 --image b"));
    assert_eq!(Some(terms.disk), Attachment::parse("docs:ro"));
    assert_eq!((terms.share.weight, Some(terms.tenant)), (300, Tenant::new("blue")));
    for (size, frames) in [("16M", 4096), ("48K", 12), ("4GiB", 1 << 20), ("65536", 16)] {
        let Command::VmCreate { terms, .. } = good(&format!("vm create a --image b --memory {size}")) else {
            panic!("{size}")
        };
        assert_eq!(terms.claim.limit, frames, "{size}");
    }
}

#[test]
fn quotas_are_said_by_parts() {
    let tenant = Tenant::new("blue").expect("a name");
    let create = Command::DiskCreate { name: "docs".into(), blocks: 1, tenant: Some(tenant) };
    assert_eq!(good("disk create docs 4K --tenant blue"), create);
    assert!(parse("disk create docs 4K --tenant Blue").is_err() && parse("disk create docs 4K --tenant").is_err());
    for (words, vms, frames, disk, pool) in [
        ("--vms 3", Some(3), None, None, None),
        ("--memory 64M --vms 0", Some(0), Some(16_384), None, None),
        ("--vms unlimited --memory unlimited --disk unlimited", Some(u32::MAX), Some(u64::MAX), Some(None), None),
        ("--memory 0 --disk 1M", None, Some(0), Some(Some(256)), None),
        ("--pool 64K", None, None, None, Some(65_536)),
        ("--pool 0 --vms 1 --pool unlimited", Some(1), None, None, Some(u64::MAX)),
    ] {
        let of_core = Change { vms, frames, pool, ..Change::default() };
        let expected = Command::TenantSet { tenant, change: TenantChange { of_core, disk } };
        assert_eq!(good(&format!("tenant set blue {words}")), expected);
    }
    for (words, wakes, rate) in [
        ("--wakes 5", Some(5), None),
        ("--wakes unlimited", Some(0), None),
        ("--rate 125001", None, Some(125_001)),
        ("--rate 2M --wakes 1", Some(1), Some(2 << 20)),
        ("--rate unlimited", None, Some(0)),
    ] {
        let of_core = Change { wakes, rate, ..Change::default() };
        let expected = Command::TenantSet { tenant, change: TenantChange { of_core, disk: None } };
        assert_eq!(good(&format!("tenant set blue {words}")), expected);
    }
    assert_eq!(good("tenant show blue --json"), Command::TenantShow { tenant, json: true });
}

#[test]
fn lists_are_asked_for_in_any_order_of_words() {
    let line = "vm list --json --limit 5 --count --state idle --image httpd --tenant blue --name web- --after vm7.1";
    let Command::VmList { query, count: true, json: true } = good(line) else { panic!("{line}") };
    assert_eq!(Ok(query), Query::of_address("limit=5&state=idle&image=httpd&tenant=blue&name=web-&after=vm7.1"));
}

#[test]
fn what_is_no_command_is_told() {
    for (line, says) in [
        ("vm", "`vm` alone is no command"),
        ("vm lists", "there is no command `vm lists`: `help` shows all"),
        ("vm list all", "`all` makes no sense here"),
        ("vm start", "something is missing: vm start NAME"),
        ("vm top --limit 0", "--limit 0: give a number from 1 to 1000"),
        ("vm top all", "`all` makes no sense here: vm top"),
        ("policy set sched", "something is missing: policy set COMPONENT POLICY"),
        ("disk create a", "something is missing: disk create DISK SIZE"),
        ("disk create a 5", "5: give bytes, as 64M"),
        ("disk attach a b:rw", "b:rw: give the name of a virtual disk"),
        ("disk rm a b", "`b` makes no sense here"),
        ("node shutdown now", "`now` makes no sense here"),
        ("vm start a b", "`b` makes no sense here"),
        ("vm create a", "of which image?"),
        ("vm create --image httpd", "something is missing: vm create NAME"),
        ("vm create a --image", "--image has no value"),
        ("vm create a --image httpd --weight 0", "--weight 0: give a number from 1 to 10000"),
        ("vm create a --image httpd --tenant Blue", "--tenant Blue: give 1 to 6 small letters"),
        ("vm create a --image httpd --disk a:rw", "--disk a:rw: give the name of a virtual disk"),
        ("vm create a --image httpd --memory 1", "--memory 1: give bytes, as 16M or 512K, whole pages of 4 KiB"),
        ("vm create a --image httpd --memory 44K", "at least 48K"),
        ("vm create a --image httpd --memory 16384G", "--memory 16384G: give bytes"),
        ("vm create a --image httpd --memory 99999999999999999999M", "give bytes"),
        ("vm create a --image httpd --cpu 1", "`--cpu` makes no sense here"),
        ("vm list --limit", "--limit has no value"),
        ("vm list --limit 5000", "--limit 5000: give a number from 1 to 1000"),
        ("vm list --state asleep", "--state asleep: give a state"),
        ("fleet apply all", "`all` makes no sense here: fleet apply [--dry-run]"),
        ("tenant set blue", "what of its quota?"),
        ("scp -t shop", "files come by sftp, as OpenSSH's scp without -O"),
        ("tenant set Blue --vms 1", "`Blue` is no tenant's name: take 1 to 6"),
        ("tenant set --vms 1", "something is missing: tenant set TENANT"),
        ("tenant set blue --vms -1", "--vms -1: give a number of VMs, or unlimited"),
        (
            "tenant set blue --memory 5000",
            "--memory 5000: give bytes, as 64M or 512K, whole pages of 4 KiB, or unlimited",
        ),
        ("tenant set blue --frames 1", "`--frames` makes no sense here: tenant set"),
        ("tenant set blue --rate 4G", "--rate 4G: give bytes in a second, as 125000 or 2M, below 4G, or unlimited"),
        ("tenant set blue --wakes 0", "--wakes 0: give VMs in a second, at least 1, or unlimited"),
        ("tenant set blue --disk 1", "--disk 1: give bytes, as 64M or 512K, whole pages of 4 KiB, or unlimited"),
        ("tenant show", "something is missing: tenant show TENANT"),
        ("tenant", "`tenant` alone"),
        ("log all", "`all` makes no sense here: log [--lines N]"),
        ("log --lines 0", "--lines 0: give a number from 1 to 1000"),
        ("log --level loud", "--level loud: give error, warn, info, debug or trace"),
        ("log --from", "--from has no value"),
        ("log --last 5", "`--last` makes no sense here"),
        ("log --for 5", "--for goes with --follow"),
        ("log --follow --json", "and --json without it"),
        ("vm pause", "something is missing: vm pause VM"),
        ("image put", "something is missing: image put IMAGE"),
        ("image put Web", "`Web` is no name of an image: take 1 to 16"),
        ("image put a --memory 1", "--memory 1: give bytes, as 16M"),
        ("image put a --sha256 12", "--sha256 12: give 64 hexadecimal digits"),
        ("image put a --rom b", "`--rom` makes no sense here: image put IMAGE"),
        ("image rm a b", "`b` makes no sense here"),
        ("audit --json", "`--json` makes no sense here"),
        ("vm start a b --json", "`b` makes no sense here"),
        ("vm start a --json --json", "`--json` makes no sense here"),
        ("metrics all", "`all` makes no sense here"),
        ("vm list &&", "&& has nothing on one side"),
        ("&& vm list", "&& has nothing on one side"),
        ("\u{1b}[2J now", "`?[2J now`"),
    ] {
        let error = parse(line).expect_err(line);
        assert!(error.contains(says), "{line}: {error}");
    }
}

proptest! {
    #[test]
    fn no_line_is_too_strange(line in "\\PC{0,80}", noise in "(vm|create|--image|&&|--| |a|show|\u{1b}){0,20}") {
        for text in [line, noise] {
            if let Err(error) = parse(&text) {
                prop_assert!(!error.chars().any(char::is_control), "{error:?}");
            }
        }
    }
}
