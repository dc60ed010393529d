use super::*;
use crate::parse::parse;
use proptest::prelude::*;

#[test]
fn routes() {
    assert_eq!(route("POST", "/vms"), Some(Route::Create));
    for (word, verb) in [("start", Verb::Start), ("stop", Verb::Stop), ("kill", Verb::Kill), ("pause", Verb::Pause)] {
        let path = format!("/vms/web-17/{word}");
        assert_eq!(route("POST", &path), Some(Route::Vm("web-17".into(), verb)));
        assert_eq!(route("GET", &path), Some(Route::Wrong("POST")));
    }
    assert_eq!(route("DELETE", "/vms/vm3.1"), Some(Route::Vm("vm3.1".into(), Verb::Destroy)));
    assert_eq!(route("POST", "/vms/vm3.1"), Some(Route::Wrong("GET, HEAD, DELETE")));
    assert_eq!(route("PUT", "/vms"), Some(Route::Wrong("GET, HEAD, POST")));
    assert_eq!(route("PUT", "/images/shop"), Some(Route::PutImage("shop".into())));
    assert_eq!(route("DELETE", "/images/shop"), Some(Route::RmImage("shop".into())));
    assert_eq!(route("POST", "/images/shop"), Some(Route::Wrong("GET, HEAD, PUT, DELETE")));
    assert_eq!((route("GET", "/images/shop"), route("PUT", "/images/a/b")), (None, None));
    let blue = Tenant::new("blue").expect("a name");
    assert_eq!(route("PUT", "/tenants/blue"), Some(Route::SetQuota(blue)));
    assert_eq!(route("DELETE", "/tenants/blue"), Some(Route::Wrong("GET, HEAD, PUT")));
    assert_eq!(route("PUT", "/tenants.json"), Some(Route::Wrong("GET, HEAD")));
    assert_eq!((route("GET", "/tenants/blue"), route("PUT", "/tenants/Blue")), (None, None));
    assert_eq!(route("PUT", "/policies/sched"), Some(Route::SetPolicy("sched".into())));
    assert_eq!(route("POST", "/policies/sched"), Some(Route::Wrong("GET, HEAD, PUT")));
    assert_eq!(route("POST", "/disks"), Some(Route::CreateDisk));
    assert_eq!(route("DELETE", "/disks/a.b"), Some(Route::RmDisk("a.b".into())));
    assert_eq!(route("POST", "/disks/a/snapshot"), Some(Route::SnapshotDisk("a".into())));
    assert_eq!(route("PUT", "/vms/a/disk"), Some(Route::AttachDisk("a".into())));
    assert_eq!(route("DELETE", "/vms/a/disk"), Some(Route::DetachDisk("a".into())));
    assert_eq!(route("GET", "/vms/a/disk"), Some(Route::Wrong("PUT, DELETE")));
    assert_eq!(route("PUT", "/disks"), Some(Route::Wrong("GET, HEAD, POST")));
    assert_eq!(route("POST", "/node/shutdown"), Some(Route::PowerOff));
    assert_eq!(route("GET", "/node/shutdown"), Some(Route::Wrong("POST")));
    assert_eq!((route("GET", "/policies/sched"), route("GET", "/top.json")), (None, None));
    assert_eq!(route("POST", "/metrics"), Some(Route::Wrong("GET, HEAD")));
    assert_eq!(route("POST", "/components/sched/restart"), Some(Route::Restart("sched".into())));
    for (method, path) in [
        ("GET", "/vms"),
        ("HEAD", "/vms/a"),
        ("GET", "/metrics"),
        ("POST", "/vms/a/destroy"),
        ("POST", "/vms/a/start/"),
        ("POST", "/vms/A/start"),
        ("POST", "/vms//start"),
        ("POST", "vms"),
        ("POST", "/nothing"),
        ("GET", "*"),
    ] {
        assert_eq!(route(method, path), None, "{method} {path}");
    }
}

#[test]
fn a_body_is_a_command() {
    let body =
        br#"{"name":"a","image":"httpd","memory":"8M","disk":"docs:ro","weight":7,"tenant":"blue","args":"a=1  \n b"}"#;
    let (name, text, command) = new_vm(body).expect("a VM");
    assert_eq!(name, "a");
    assert_eq!(text, "vm create a --image httpd --memory 8M --disk docs:ro --weight 7 --tenant blue -- a=1 b");
    assert_eq!(parse(&text), Ok(alloc::vec![(text.clone(), command)]), "what is written down can be said again");
}

#[test]
fn a_body_is_the_whole_quota() {
    let blue = Tenant::new("blue").expect("a name");
    for (body, says) in [
        (
            r#"{"vms":3,"memory":"64M"}"#,
            "tenant set blue --vms 3 --memory 64M --disk unlimited --pool unlimited --wakes unlimited --rate unlimited",
        ),
        (
            r#"{"memory":"8K","pool":"4K"}"#,
            "tenant set blue --vms unlimited --memory 8K --disk unlimited --pool 4K --wakes unlimited --rate unlimited",
        ),
        (
            r#"{"wakes":5,"rate":"1M"}"#,
            "tenant set blue --vms unlimited --memory unlimited --disk unlimited --pool unlimited --wakes 5 --rate 1M",
        ),
        (
            r#"{"vms":null}"#,
            "tenant set blue --vms unlimited --memory unlimited --disk unlimited --pool unlimited --wakes unlimited --rate unlimited",
        ),
    ] {
        let (text, change) = new_quota(blue, body.as_bytes()).expect(body);
        assert_eq!(text, says);
        let command = Command::TenantSet { tenant: blue, change };
        assert_eq!(parse(&text), Ok(alloc::vec![(text.clone(), command)]), "what is written down can be said again");
    }
    for (body, says) in [
        ("", "that is no quota: EOF"),
        (r#"{"frames":1}"#, "unknown field `frames`"),
        (r#"{"vms":-1}"#, "that is no quota"),
        (r#"{"vms":4294967295}"#, "vms 4294967295: give a number of VMs"),
        (r#"{"wakes":0}"#, "wakes 0: give VMs in a second"),
        (r#"{"memory":"\u001b[2J"}"#, "memory ?[2J: give bytes"),
    ] {
        let error = new_quota(blue, body.as_bytes()).expect_err(body);
        assert!(error.contains(says) && !error.chars().any(char::is_control), "{body}: {error}");
    }
}

#[test]
fn what_is_no_vm_is_told() {
    for (body, says) in [
        ("", "that is no VM: EOF while parsing"),
        ("{}", "missing field `name`"),
        (r#"{"name":"a"}"#, "missing field `image`"),
        (r#"{"name":"a","image":"b","cpu":1}"#, "unknown field `cpu`"),
        (r#"{"name":"a","image":"b","weight":"many"}"#, "invalid type"),
        (r#"{"name":"a","image":"b","weight":70000}"#, "weight 70000: give a number from 1 to 10000"),
        (r#"{"name":"a","image":"b","memory":"1"}"#, "memory 1: give bytes"),
        (r#"{"name":"a","image":"b","tenant":"\u001b[2J"}"#, "tenant ?[2J: give 1 to 6"),
        ("[[[[[[", "that is no VM"),
    ] {
        let error = new_vm(body.as_bytes()).expect_err(body);
        assert!(error.contains(says) && !error.chars().any(char::is_control), "{body}: {error}");
    }
}

proptest! {
    #[test]
    fn no_body_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..100), method in "\\PC{0,8}", path in "/(vms|components|/|a|vm1.1|start|restart){0,6}") {
        let _ = new_vm(&bytes);
        let _ = new_quota(Tenant::UNSAID, &bytes);
        route(&method, &path);
    }
}
