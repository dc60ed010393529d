//! What `Watch` makes of the lines of a machine's log.

use super::*;
use crate::manifest;
use crate::service::plan;
use crate::workspace::root;

fn vms(list: &str) -> Vec<Vm> {
    let mut system = manifest::load(&root().join("system.toml")).unwrap();
    // One that shows no sign.
    system.image.iter_mut().filter(|image| image.name == "bench").for_each(|image| image.ready = None);
    plan(&system, &format!("vms={list}")).unwrap()
}

/// All of them have to answer.
fn watch(vms: &[Vm]) -> Watch<'_> {
    static ALL: std::sync::LazyLock<Sample> = std::sync::LazyLock::new(Sample::all);
    Watch::new(vms, &ALL, false)
}

fn hear(watch: &mut Watch<'_>, lines: &[&str], now: Instant) {
    lines.iter().for_each(|line| watch.hear(&format!("[    1.000000] INFO  {line}"), now));
}

fn list(watch: &mut Watch<'_>, states: &[(usize, &str)], now: Instant) {
    for (slot, state) in states {
        let line = format!("component: monitor: vm index={slot} incarnation=1 image=x state={state} ran_ticks=1");
        hear(watch, &[&line], now);
    }
    hear(watch, &["component: monitor: done vms"], now);
}

#[test]
fn a_line_on_the_console_is_a_sign() {
    let vms = vms("udp-echo*2");
    let mut watch = watch(&vms);
    let now = Instant::now();
    hear(&mut watch, &["guest: vm1.1: udp-echo: serving 10.0.2.17 port 7 (vm 1)", "guest: vm0.1: hello"], now);
    assert!(!watch.is_ready() && !watch.is_bad() && !watch.wants_list());
    let late = watch.lateness(Duration::from_secs(60));
    assert!(late.contains("1 of 2 VMs are not ready 60 s after power-on:\n  VM 0 (udp-echo): it has not said a line with \"udp-echo: serving \"; the last was \"hello\""), "{late}");
    hear(&mut watch, &["guest: vm0.1: udp-echo: serving 10.0.2.16 port 7 (vm 0)"], now);
    assert!(watch.is_ready());
}

#[test]
fn who_has_done_its_work_may_end() {
    let vms = vms("asm-guest,httpd");
    let mut watch = watch(&vms);
    let now = Instant::now();
    hear(
        &mut watch,
        &["guest: vm0.1: asm-guest: all 9 checks passed", "core: vm0.1 ended: exited (detail 0x2a, rip 0x1; 0 such)"],
        now,
    );
    assert!(!watch.is_bad() && watch.wants_probe(1) && !watch.wants_probe(0));
    watch.probed(1, Ok(()));
    assert!(watch.is_ready());
}

#[test]
fn who_ends_before_is_named_with_its_last_words() {
    let vms = vms("httpd,udp-echo");
    let mut watch = watch(&vms);
    hear(
        &mut watch,
        &["guest: vm1.1: udp-echo: no address", "core: vm1.1 ended: exited (detail 0x1, rip 0x1; 0 such)"],
        Instant::now(),
    );
    assert!(watch.is_bad());
    let said = watch.complaint();
    assert!(
        said.contains(
            "VM 1 (udp-echo) ended (before it was ready): exited with code 1. Its last words: \"udp-echo: no address\""
        ),
        "{said}"
    );
    assert!(said.contains("`ready = { console = "), "{said}");
}

#[test]
fn a_service_that_ends_after_it_was_ready_is_gone_all_the_same() {
    let vms = vms("httpd*2");
    let mut watch = watch(&vms);
    watch.probed(0, Ok(()));
    hear(&mut watch, &["core: vm0.1 ended: unhandled fault (detail 0xe, rip 0x1; 0 such)"], Instant::now());
    assert!(watch.is_bad());
    let said = watch.complaint();
    assert!(
        said.contains("VM 0 (httpd) ended (it was ready, but not all others were): unhandled fault (detail 0xe)"),
        "{said}"
    );
}

#[test]
fn an_image_that_is_refused_is_named_once() {
    let vms = vms("httpd*3,asm-guest");
    let mut watch = watch(&vms);
    let now = Instant::now();
    hear(&mut watch, &["core: image ask: its module was not loaded; its VMs cannot be created; rebuild it"], now);
    assert!(!watch.is_bad(), "nobody asked for that one");
    hear(
        &mut watch,
        &[
            "core: image httpd: its module is refused: not an ELF file; its VMs cannot be created; rebuild it",
            "core: 3 VMs of image 0 are not created: there is no such image",
        ],
        now,
    );
    assert!(watch.is_bad());
    let said = watch.complaint();
    assert!(
        said.contains("the image httpd of 3 VMs is refused: its module is refused: not an ELF file. Build it"),
        "{said}"
    );
    assert!(!said.contains("no such image"), "{said}");
}

#[test]
fn fewer_vms_than_asked_for_are_too_few() {
    let vms = vms("httpd*5");
    let mut watch = watch(&vms);
    hear(&mut watch, &["core: 2 VMs of image 0 are not created: every slot for VMs is taken"], Instant::now());
    assert!(watch.is_bad());
    let said = watch.complaint();
    assert!(said.contains("3 of 5 VMs were created: every slot for VMs is taken. Ask for fewer with --vms"), "{said}");
}

#[test]
fn without_a_sign_a_vm_is_ready_when_it_has_run_for_a_while() {
    let vms = vms("bench*2");
    let mut watch = watch(&vms);
    let start = Instant::now();
    assert!(!watch.wants_list(), "nobody would hear it");
    hear(&mut watch, &["component: monitor: ready incarnation=1"], start);
    assert!(watch.wants_list());
    list(&mut watch, &[(0, "idle"), (1, "waiting")], start);
    list(&mut watch, &[(0, "ready"), (1, "fault")], start + RUNS);
    assert!(!watch.is_ready());
    list(&mut watch, &[(0, "ready"), (1, "idle")], start + 2 * RUNS);
    assert!(watch.is_ready() && !watch.wants_list());
    list(&mut watch, &[(0, "ready")], start + 3 * RUNS);
    assert!(watch.is_bad(), "gone, though nothing was said of it");
}

#[test]
fn who_is_out_is_ready_when_nobody_has_to_ask() {
    let vms = vms("httpd*1200");
    let sample = Sample::draw(vms.len(), 3);
    let mut watch = Watch::new(&vms, &sample, false);
    let now = Instant::now();
    let states: Vec<_> = (0..vms.len()).map(|slot| (slot, "out")).collect();
    list(&mut watch, &states, now);
    assert!(!watch.is_ready() && !watch.wants_list(), "the sample is asked all the same");
    let asked: Vec<usize> = (0..vms.len()).filter(|&slot| watch.wants_probe(slot)).collect();
    assert_eq!(asked.len(), 200);
    asked.iter().for_each(|&slot| watch.probed(slot, Ok(())));
    assert!(watch.is_ready());
}

#[test]
fn who_waits_for_memory_is_told_from_who_was_not_created() {
    let vms = vms("bench*3");
    let mut watch = watch(&vms);
    list(&mut watch, &[(0, "idle"), (1, "waiting")], Instant::now());
    let late = watch.lateness(Duration::from_secs(60));
    assert!(
        late.contains("VM 1 (bench): it waits for memory") && late.contains("VM 2 (bench): it was not created"),
        "{late}"
    );
}

#[test]
fn long_lists_are_cut_short() {
    let vms = vms("httpd*30");
    let watch = watch(&vms);
    let late = watch.lateness(Duration::from_secs(60));
    assert!(late.contains("VM 9 (httpd)") && !late.contains("VM 10 (httpd)") && late.contains("and 20 more"), "{late}");
}

#[test]
fn a_machine_without_vms_is_ready_when_its_monitor_answers() {
    let mut watch = watch(&[]);
    hear(&mut watch, &["component: monitor: ready incarnation=1"], Instant::now());
    assert!(watch.wants_list() && !watch.is_ready());
    list(&mut watch, &[], Instant::now());
    assert!(watch.is_ready());
    hear(&mut watch, &["guest: vm0.1: FATAL F001: "], Instant::now());
    assert!(!watch.stopped);
    watch.hear("FATAL F024: the core has a bug", Instant::now());
    assert!(watch.stopped);
}

#[test]
fn only_the_network_shows_signs_without_information_in_the_log() {
    assert!(!wants_information(&vms("httpd*2,hostile")));
    for list in ["", "httpd,udp-echo", "bench"] {
        assert!(wants_information(&vms(list)), "{list}");
    }
}

#[test]
fn of_very_many_a_sample_has_to_answer_and_the_others_are_believed() {
    let vms = vms("httpd*1200");
    let sample = Sample::draw(vms.len(), 3);
    let mut watch = Watch::new(&vms, &sample, false);
    let start = Instant::now();
    let asked: Vec<usize> = (0..vms.len()).filter(|&slot| watch.wants_probe(slot)).collect();
    assert_eq!(asked.len(), 200);
    asked.iter().for_each(|&slot| watch.probed(slot, Ok(())));
    assert!(!watch.is_ready(), "nothing is known of the others");
    // Most have said something; of the others the monitor says that they run.
    let others: Vec<usize> = (0..vms.len()).filter(|slot| !asked.contains(slot)).collect();
    for slot in &others[..998] {
        hear(&mut watch, &[&format!("guest: vm{slot}.1: httpd: serving")], start);
    }
    let late = watch.lateness(Duration::from_secs(60));
    assert!(
        late.contains("2 of 1200 VMs are not ready") && late.contains("it was not to answer, but it has said nothing"),
        "{late}"
    );
    hear(&mut watch, &["component: monitor: ready incarnation=1"], start);
    assert!(watch.wants_list());
    let mut states = [(others[998], "idle"), (others[999], "waiting")];
    list(&mut watch, &states, start);
    list(&mut watch, &states, start + RUNS);
    assert!(!watch.is_ready() && watch.wants_list());
    states[1].1 = "idle";
    list(&mut watch, &states, start + RUNS);
    list(&mut watch, &states, start + 2 * RUNS);
    assert!(watch.is_ready() && !watch.wants_list());
    // One of them ends all the same.
    hear(
        &mut watch,
        &[&format!("core: vm{}.1 ended: unhandled fault (detail 0xe, rip 0x1; 0 such)", others[5])],
        start,
    );
    assert!(watch.is_bad());
}

#[test]
fn of_very_many_the_others_are_counted() {
    let vms = vms("httpd*1200");
    let sample = Sample::draw(vms.len(), 3);
    let mut watch = Watch::new(&vms, &sample, false);
    let now = Instant::now();
    (0..vms.len()).filter(|&slot| sample.has(slot)).for_each(|slot| watch.probed(slot, Ok(())));
    assert_eq!(watch.question(), None, "the monitor does not listen yet");
    hear(&mut watch, &["component: monitor: ready incarnation=1"], now);
    assert_eq!(watch.question(), Some("wakes"));
    let counts =
        |living, waiting| format!("component: monitor: wakes living={living} in=90 out=0 waiting={waiting} woken=0");
    let mut progress = watch.progress();
    for (living, waiting) in [(1200, 700), (1200, 1), (1199, 0)] {
        hear(&mut watch, &[&counts(living, waiting)], now);
        assert!(!watch.is_ready() && watch.progress() >= progress);
        progress = watch.progress();
    }
    hear(&mut watch, &[&counts(1200, 0)], now);
    assert!(watch.is_ready() && watch.question().is_none());
}

#[test]
fn one_that_was_out_and_waits_again_is_not_gone() {
    let vms = vms("bench");
    let sample = Sample::all();
    let mut watch = Watch::new(&vms, &sample, false);
    let start = Instant::now();
    list(&mut watch, &[(0, "out-memory")], start);
    list(&mut watch, &[(0, "waiting")], start);
    assert!(!watch.is_bad());
    list(&mut watch, &[], start);
    assert!(watch.is_bad());
}

#[test]
fn one_of_the_sample_that_does_not_answer_is_waited_for() {
    let vms = vms("httpd*1001");
    let sample = Sample::draw(vms.len(), 9);
    // The log says nothing.
    let mut watch = Watch::new(&vms, &sample, true);
    let asked: Vec<usize> = (0..vms.len()).filter(|&slot| watch.wants_probe(slot)).collect();
    asked[1..].iter().for_each(|&slot| watch.probed(slot, Ok(())));
    assert!(!watch.is_ready() && !watch.wants_list());
    hear(&mut watch, &[&format!("guest: vm{}.1: httpd: serving", asked[0])], Instant::now());
    assert!(!watch.is_ready(), "its word does not do");
    watch.probed(asked[0], Ok(()));
    assert!(watch.is_ready());
}
