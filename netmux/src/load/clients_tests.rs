//! The clients against a server that answers, loses, refuses, or says nothing.

use super::super::segment::read;
use super::*;
use abi::note::TableBytes;
use std::vec;
use std::vec::Vec;

const HZ: u64 = 1_000_000_000;

fn clients(rate: u32, count: u32) -> Clients {
    // A client and a count for each slot.
    planned(Plan { rate, count, vms: 2, warm_up: 300, hz: HZ, ..Plan::default() })
}

fn planned(plan: Plan) -> Clients {
    let bytes = size_of::<Client>() + super::super::latencies::BYTES + super::super::zipf::BYTES;
    let per_slot = u32::try_from(bytes).expect("few");
    Clients::new(&mut Tables::on_heap(TableBytes { per_slot, ..TableBytes::NONE }, 4096, 0), plan)
}

/// What a server says to a segment.
fn server(heard: &Segment) -> Option<Segment> {
    let answer = |seq, flags, len, more| Segment { seq, ack: heard.seq.wrapping_add(more), flags, len, ..*heard };
    match heard.flags {
        SYN => Some(answer(500, SYN | ACK, 0, 1)),
        flags if flags & PSH != 0 => Some(answer(501, ACK | FIN, 200, length(Document::Bytes100))),
        flags if flags & FIN != 0 => Some(answer(702, ACK, 0, 1)),
        _ => None,
    }
}

/// Runs them until all have ended, every microsecond; `answers` says what comes of each segment.
fn until_told(clients: &mut Clients, mut answers: impl FnMut(&Segment) -> Option<Segment>) -> Vec<Segment> {
    let (mut now, mut said) = (0, Vec::new());
    while !clients.counts.told {
        let mut frame = [0; MOST];
        while let Some(len) = clients.next(now, &mut frame).filter(|_| !clients.counts.told) {
            // As the other end reads it.
            frame[26..34].rotate_left(4);
            frame[34..38].rotate_left(2);
            let Some(Heard::Segment(mut segment)) = read(&frame[..len]) else { panic!("no segment") };
            segment.mac = [1; 6];
            said.push(segment);
            if let Some(answer) = answers(&segment) {
                clients.listen(now + 20_000, &answer);
            }
        }
        now = clients.due().max(now + 1_000);
    }
    said
}

#[test]
fn all_are_served_and_the_time_is_what_the_server_takes() {
    let mut clients = clients(10_000, 5_000);
    let said = until_told(&mut clients, server);
    assert_eq!((clients.counts.served, clients.counts.late), (5_000, 0));
    // The answers come 20 µs later, but the next word is said at the time of the loop.
    assert!((20..=23).contains(&clients.latencies.quantile(0, 500)), "{}", clients.latencies.quantile(0, 500));
    // Each client: its SYN, its request, its end.
    assert!(said.len() >= 3 * 5_300 - 3 && said.iter().filter(|segment| segment.flags == SYN).count() >= 5_300);
    let first = said.iter().filter(|segment| segment.vm.0 == FIRST_VM).count();
    assert!(first.abs_diff(said.len() / 2) < said.len() / 20, "{first} of {} to the first VM", said.len());
}

#[test]
fn nobody_asks_where_there_are_players() {
    let mut clients = planned(Plan { players: 4, seconds: 3, vms: 2, hz: HZ, ..Plan::default() });
    let mut frame = [0; MOST];
    for now in [0, HZ, 9 * HZ] {
        assert_eq!((clients.next(now, &mut frame), clients.due()), (None, u64::MAX));
    }
    // Who asks for an address is told.
    clients.hear(HZ, Heard::Who { mac: [2; 6], ip: 1, asked: 2 });
    assert!(clients.due() == 0 && clients.next(HZ, &mut frame).is_some() && clients.due() == u64::MAX);
}

#[test]
fn gaps_are_those_of_a_poisson_process() {
    let mut clients = clients(1, 1);
    let gaps: Vec<u64> = (0..100_000).map(|_| clients.exponential() >> 16).collect();
    let mean = gaps.iter().sum::<u64>() / 100_000;
    assert!(mean.abs_diff(1 << 16) < 1 << 10, "{mean}");
    // Beyond twice the mean: e^-2.
    let far = gaps.iter().filter(|&&gap| gap > 2 << 16).count();
    assert!(far.abs_diff(13_534) < 500, "{far}");
    let squares = gaps.iter().map(|&gap| u128::from(gap) * u128::from(gap)).sum::<u128>() / 100_000;
    assert!(squares.abs_diff(2 << 32) < 1 << 28, "{squares}");
}

#[test]
fn what_is_lost_is_said_again() {
    let mut clients = clients(1_000, 500);
    let mut nth = 0;
    until_told(&mut clients, |segment| {
        nth += 1;
        server(segment).filter(|_| nth % 10 != 0)
    });
    // Of few the SYN is lost twice, which takes three seconds.
    assert!(clients.counts.served > 450 && clients.counts.served + clients.counts.late == 500);
    assert!(clients.latencies.quantile(0, 1000) > 200_000 && clients.latencies.quantile(0, 500) < 100);
}

#[test]
fn who_is_refused_or_not_answered_is_counted() {
    let mut refused = clients(1_000, 500);
    until_told(&mut refused, |segment| {
        (segment.flags == SYN).then_some(Segment { flags: RST | ACK, ack: segment.seq.wrapping_add(1), ..*segment })
    });
    assert_eq!((refused.counts.reset, refused.counts.served), (500, 0));
    let mut silent = clients(100, 500);
    until_told(&mut silent, |_| None);
    assert_eq!((silent.counts.late, silent.counts.served), (500, 0));
    // More than there are places for in three seconds.
    let mut crowd = clients(1_000, 4_000);
    until_told(&mut crowd, |_| None);
    assert!(crowd.counts.crowded > 1_000 && crowd.counts.late > 1_000);
}

#[test]
fn an_address_is_told_to_who_asks() {
    let mut clients = clients(1, 1);
    let mut frame = [0; MOST];
    let len = write_arp(&mut frame, [3; 6], FIRST_VM, [0xff; 6], 0x0a00_0202);
    frame[21] = 1;
    clients.hear(5, read(&frame[..len]).expect("a question"));
    assert_eq!(clients.due(), 0);
    let mut answer = [0; MOST];
    assert_eq!(clients.next(5, &mut answer), Some(60));
    assert_eq!((&answer[..6], &answer[20..22], &answer[28..32]), (&[3; 6][..], &[0, 2][..], &[10, 0, 2, 2][..]));
    assert_eq!(clients.next(5, &mut answer), None);
}

#[test]
fn all_are_visited_first_and_then_asked_by_popularity_by_a_few_at_a_time() {
    let zipf = Some(100);
    let plan = Plan {
        count: 2_000,
        warm_up: 500,
        vms: 1000,
        visits: 1000,
        zipf,
        to_first_byte: true,
        hz: HZ,
        ..Plan::default()
    };
    let mut clients = planned(plan);
    let mut waiting = 0;
    let said = until_told(&mut clients, |segment| {
        waiting += u32::from(segment.flags == SYN);
        assert!(waiting <= AT_ONCE + 1, "{waiting} at once");
        waiting -= u32::from(segment.flags & FIN != 0);
        server(segment)
    });
    let syns: Vec<u32> = said.iter().filter(|s| s.flags == SYN).map(|s| s.vm.0 - FIRST_VM).collect();
    assert!((0..1000).eq(syns[..1000].iter().copied()));
    assert_eq!((clients.counts.served, clients.counts.visited), (2_000, 1000));
    let to = |vm| syns[1000..].iter().filter(|&&other| other == vm).count();
    // Of 2,500, by the sum of 1/1 to 1/1000, which is 7.485: rank 0, rank 1, and the last.
    let second = u32::try_from(APART % 1000).expect("few");
    assert!(to(0).abs_diff(334) < 60 && to(second).abs_diff(167) < 45 && to(999) < 10, "{} {}", to(0), to(second));
}

#[test]
fn one_exponent_follows_the_other() {
    let plan = Plan {
        count: 500,
        warm_up: 100,
        vms: 100,
        visits: 100,
        zipf: Some(60),
        and_more: true,
        hz: HZ,
        ..Plan::default()
    };
    let mut clients = planned(plan);
    let said = until_told(&mut clients, server);
    let syns = said.iter().filter(|segment| segment.flags == SYN).count();
    // Five times, and those who have begun when the last ones end.
    assert!((100 + 5 * 600..100 + 5 * 620).contains(&syns), "{syns}");
    assert_eq!((clients.plan.zipf, clients.counts.served, clients.counts.visited), (Some(140), 500, 100));
}

#[test]
fn a_sweep_goes_over_all_beside_requests_to_a_few() {
    let plan =
        Plan { rate: 1_000, count: 3_000, warm_up: 100, vms: 2, visits: 50, sweep: 500, hz: HZ, ..Plan::default() };
    let mut clients = planned(plan);
    let said = until_told(&mut clients, server);
    let swept: Vec<&Segment> = said.iter().filter(|segment| segment.client.0 == SWEEPER).collect();
    let of = |vm| swept.iter().filter(|s| s.vm.0 == FIRST_VM + vm && s.flags == SYN).count();
    // Three seconds and a little more, in turn, after as much without.
    let first = said.iter().position(|segment| segment.client.0 == SWEEPER).unwrap_or(0);
    assert!(said[..first].iter().filter(|segment| segment.flags == SYN).count() >= 3_150);
    assert!((29..34).contains(&of(0)) && of(0).abs_diff(of(49)) <= 1, "{} and {}", of(0), of(49));
    assert!(swept.iter().filter(|s| s.flags == RST | ACK).count().abs_diff(50 * of(0)) < 60);
    let others = said.iter().filter(|s| s.client.0 != SWEEPER && s.flags == SYN).skip(50);
    assert!(others.map(|s| s.vm.0).all(|vm| vm < FIRST_VM + 2));
    assert_eq!(clients.counts.served, 3_000);
}

/// A server that needs three segments for a document, and says the next one when it hears of the last.
fn of_three(heard: &Segment, document: Document) -> Option<Segment> {
    let answer = |seq, flags, len| Segment { seq, ack: heard.seq, flags, len, ..*heard };
    match heard.flags {
        SYN => Some(Segment { seq: 500, ack: heard.seq.wrapping_add(1), flags: SYN | ACK, ..*heard }),
        flags if flags & PSH != 0 => {
            Some(Segment { ack: heard.seq.wrapping_add(length(document)), ..answer(501, ACK, 1460) })
        }
        flags if flags & FIN != 0 => Some(Segment { ack: heard.seq.wrapping_add(1), ..answer(501 + 4381, ACK, 0) }),
        _ if heard.ack == 501 + 1460 => Some(answer(501 + 1460, ACK, 1460)),
        _ if heard.ack == 501 + 2920 => Some(answer(501 + 2920, ACK | FIN, 1460)),
        _ => None,
    }
}

#[test]
fn large_documents_are_acknowledged_and_asked_for_again_by_the_same() {
    let document = Document::Bytes102400;
    let plan = Plan { same: 4, count: 12, warm_up: 4, vms: 2, document, hz: HZ, ..Plan::default() };
    for together in [false, true] {
        let mut clients = planned(Plan { together, ..plan });
        let (mut at_once, mut most) = (0_u32, 0);
        let said = until_told(&mut clients, |segment| {
            at_once += u32::from(segment.flags == SYN);
            most = most.max(at_once);
            at_once -= u32::from(segment.flags & FIN != 0);
            of_three(segment, document)
        });
        assert_eq!((clients.counts.served, most), (12, 4));
        // Its request once, and two bare acknowledgements, for each of sixteen.
        assert_eq!(said.iter().filter(|segment| segment.flags & PSH != 0).count(), 16);
        assert_eq!(said.iter().filter(|segment| segment.flags == ACK && segment.len == 0).count(), 32);
        let syns: Vec<u32> = said.iter().filter(|s| s.flags == SYN).map(|s| s.vm.0 - FIRST_VM).collect();
        assert_eq!((syns.len(), syns.iter().filter(|&&vm| vm == 0).count()), (16, 8));
        assert!(!clients.may_begin(), "nobody asks any more");
    }
}

/// A server that says ten thousand bytes at once, and its end when it hears of all of them.
fn of_one_record(heard: &Segment, document: Document) -> Option<Segment> {
    let answer = |seq, flags, len, more| Segment { seq, ack: heard.seq.wrapping_add(more), flags, len, ..*heard };
    match heard.flags {
        SYN => Some(answer(500, SYN | ACK, 0, 1)),
        flags if flags & PSH != 0 => Some(answer(501, ACK, 10_000, length(document))),
        flags if flags & FIN != 0 => Some(answer(10_502, ACK, 0, 1)),
        _ if heard.ack == 10_501 => Some(answer(10_501, ACK | FIN, 0, 0)),
        _ => None,
    }
}

#[test]
fn each_second_segment_is_acknowledged_where_that_is_asked_for() {
    let document = Document::Bytes102400;
    for (each_second, acks) in [(false, &[10_501][..]), (true, &[3_421, 6_341, 9_261, 10_501])] {
        let plan = Plan { same: 1, count: 2, warm_up: 1, vms: 1, document, each_second, hz: HZ, ..Plan::default() };
        let mut clients = planned(plan);
        let said = until_told(&mut clients, |segment| of_one_record(segment, document));
        let bare: Vec<u32> = said.iter().filter(|segment| segment.flags == ACK).map(|segment| segment.ack).collect();
        assert_eq!((clients.counts.served, bare), (2, [acks, acks, acks].concat()));
    }
}

#[test]
fn what_is_said_from_afar_comes_later() {
    let document = Document::Bytes102400;
    let plan = Plan { same: 1, count: 9, warm_up: 1, vms: 1, document, way: HZ / 1000, hz: HZ, ..Plan::default() };
    let mut clients = planned(plan);
    until_told(&mut clients, |segment| of_three(segment, document));
    assert_eq!(clients.counts.served, 9);
    // A SYN, a request and two acknowledgements.
    assert!((4_000..4_300).contains(&clients.latencies.quantile(0, 500)), "{}", clients.latencies.quantile(0, 500));
}

#[test]
fn who_is_slow_keeps_nobody_from_a_place() {
    let plan = Plan { same: 4, count: 4_000, warm_up: 4, vms: 4, hz: HZ, ..Plan::default() };
    let mut clients = planned(plan);
    let mut syns = 0;
    // The first VM says nothing to one client, which waits for three seconds, while the others ask a thousand times each and more.
    until_told(&mut clients, |segment| {
        syns += u32::from(segment.flags == SYN);
        if segment.vm.0 == FIRST_VM { None } else { server(segment) }
    });
    let Counts { served, late, crowded, .. } = clients.counts;
    assert_eq!((served + late, crowded), (4_000, 0));
    assert!(clients.skipped > 0 && late <= 2 && syns >= 4_004, "{late} late, {} skipped, {syns}", clients.skipped);
}

#[test]
fn hundreds_ask_at_once_and_all_are_served() {
    for same in [256, MOST_AT_ONCE] {
        let plan = Plan { same, count: 3 * same, warm_up: same, vms: same, visits: same, hz: HZ, ..Plan::default() };
        let mut clients = planned(plan);
        let mut of_each = vec![0; usize::try_from(same).expect("few")];
        until_told(&mut clients, |segment| {
            if segment.flags == SYN {
                of_each[usize::try_from(segment.vm.0 - FIRST_VM).expect("few")] += 1;
            }
            server(segment)
        });
        assert_eq!((clients.counts.served, clients.skipped), (3 * same, 0));
        assert!(of_each.iter().all(|&times| times == 5), "{of_each:?}");
    }
}
