//! Who hears what is sent to all or to a group. A guest says in its NIC page what it wants of that ([`Listens`]); what it says is an
//! allegation, by which it misses or gets frames itself.

use crate::egress::udp_ports;
use crate::frame::{ARP, Frame, ICMPV6, IPV4, IPV4_END, IPV6, IPV6_END, UDP};
use abi::nic::Listens;

/// What a frame to all or to a group is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A UDP broadcast to this port.
    Port(u16),
    /// For this IPv4 group.
    Group(u32),
    /// Something about neighbours: an announcement or answer of ARP, ICMPv6. Who talks to nobody does without.
    Neighbours,
    /// Anything else.
    Other,
}

impl Topic {
    /// What `frame` is about, which goes to all or to a group.
    pub fn of(frame: &(impl Frame + ?Sized)) -> Topic {
        let head = frame.head();
        match head.ethertype() {
            ARP => Topic::Neighbours,
            IPV4 if frame.len() >= IPV4_END => {
                let group = head.ipv4_destination();
                if group >> 28 == 0xe {
                    return Topic::Group(group);
                }
                let begins_udp = head.ipv4_protocol() == UDP && head.ipv4_fragment_offset() == 0;
                match udp_ports(frame, &head) {
                    Ok((_, port)) if begins_udp => Topic::Port(port),
                    _ => Topic::Other,
                }
            }
            IPV6 if frame.len() >= IPV6_END && carries_icmpv6(frame, head.ipv6_next()) => Topic::Neighbours,
            _ => Topic::Other,
        }
    }

    /// Whether a guest that says this wants to hear of it. `awake`: it has had frames of late.
    pub fn interests(self, listens: &Listens, awake: bool) -> bool {
        if listens.said != Listens::SAID {
            return true;
        }
        match self {
            Topic::Port(port) => port != 0 && listens.broadcast_ports.contains(&port),
            Topic::Group(group) => listens.groups.contains(&group),
            Topic::Neighbours => awake,
            Topic::Other => false,
        }
    }
}

/// Whether an IPv6 packet carries ICMPv6, behind hop-by-hop options at most: routers that ask who listens to groups have an alert in
/// front of that (RFC 3810, section 5).
fn carries_icmpv6(frame: &(impl Frame + ?Sized), next: u8) -> bool {
    let mut buffer = [0; IPV6_END + 1];
    next == ICMPV6 || (next == 0 && frame.copy(&mut buffer).get(IPV6_END) == Some(&ICMPV6))
}

/// Words of the set of topics.
const WORDS: usize = 16;
/// All guests are asked anew that often in a second, if there is anything for all.
const SURVEYS_PER_SECOND: u64 = 10;

/// What anybody at all wants to hear, so that most of what is sent to all concerns nobody and costs no look at each VM. It is gathered while
/// a frame goes to all, and holds for a while: a guest that has just said something else may miss what is sent to all so long.
#[derive(Debug)]
pub struct Audience {
    /// Ports and groups, hashed: one that is not in it nobody wants.
    topics: [u64; WORDS],
    /// Somebody wants everything.
    everything: bool,
    /// What holds does so until then, in ticks.
    until: u64,
    period: u64,
    /// Counts surveys, so that one that something has come across does not count.
    survey: u32,
    /// That survey goes on: what is above is not complete.
    open: bool,
}

/// A survey that goes along with a frame for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey(u32);

impl Audience {
    /// Nothing is known.
    pub fn new(ticks_per_second: u64) -> Self {
        let period = ticks_per_second / SURVEYS_PER_SECOND;
        Audience { topics: [0; WORDS], everything: true, until: 0, period, survey: 0, open: false }
    }

    /// Nothing is known any more: somebody has come who was not asked.
    pub fn forget(&mut self) {
        self.survey = self.survey.wrapping_add(1);
        self.open = false;
        self.until = 0;
    }

    /// Whether nobody wants to hear of `topic`. `awake`: whether any VM has had frames of late.
    pub fn is_deaf(&self, topic: Topic, awake: bool, now: u64) -> bool {
        let known = now < self.until && !self.everything;
        known
            && match topic {
                Topic::Port(port) => !self.holds(port.into()),
                Topic::Group(group) => !self.holds(group),
                Topic::Neighbours => !awake,
                Topic::Other => true,
            }
    }

    /// Begins to ask all, when it is time and nobody does so already.
    pub fn begin(&mut self, now: u64) -> Option<Survey> {
        if self.open || now < self.until {
            return None;
        }
        self.forget();
        self.open = true;
        self.topics = [0; WORDS];
        self.everything = false;
        Some(Survey(self.survey))
    }

    /// One of them says this.
    pub fn add(&mut self, survey: Survey, listens: &Listens) {
        if survey != Survey(self.survey) {
            return;
        }
        self.everything |= listens.said != Listens::SAID;
        let ports = listens.broadcast_ports.iter().map(|&port| u32::from(port));
        for topic in ports.chain(listens.groups).filter(|&topic| topic != 0) {
            let (word, bit) = place(topic);
            self.topics[word] |= bit;
        }
    }

    /// All were asked.
    pub fn finish(&mut self, survey: Survey, now: u64) {
        if survey == Survey(self.survey) {
            self.open = false;
            self.until = now.saturating_add(self.period);
        }
    }

    fn holds(&self, topic: u32) -> bool {
        let (word, bit) = place(topic);
        self.topics[word] & bit != 0
    }
}

/// Where a port or a group is in the set: its highest bits after a multiplication by 2^32 over the golden ratio.
fn place(topic: u32) -> (usize, u64) {
    let hash = topic.wrapping_mul(0x9e37_79b9) >> 22;
    ((hash >> 6) as usize % WORDS, 1 << (hash % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Mac;
    use crate::test_frames as frames;
    use proptest::prelude::*;

    const HOST: Mac = Mac::new([0x52, 0x54, 0, 1, 2, 3]);

    fn listens(ports: &[u16], groups: &[u32]) -> Listens {
        let mut listens = Listens { said: Listens::SAID, ..Listens::default() };
        listens.broadcast_ports[..ports.len()].copy_from_slice(ports);
        listens.groups[..groups.len()].copy_from_slice(groups);
        listens
    }

    #[test]
    fn topics() {
        let to_all = |to, protocol, payload: &[u8]| frames::ipv4(HOST, Mac::BROADCAST, 9, to, protocol, payload);
        let datagram = frames::udp((5, 137), &[]);
        let mut fragment = to_all(u32::MAX, 17, &datagram);
        fragment[20..22].copy_from_slice(&[0, 8]);
        let mut options = to_all(u32::MAX, 17, &[&[1; 4][..], &datagram].concat());
        options[14] = 0x46;
        for (frame, topic) in [
            (frames::arp(HOST, Mac::BROADCAST, 2, (HOST, 9), 5), Topic::Neighbours),
            (to_all(u32::MAX, 17, &datagram), Topic::Port(137)),
            (to_all(0x0a00_02ff, 17, &datagram), Topic::Port(137)),
            (options, Topic::Port(137)),
            (to_all(0xe000_00fb, 17, &datagram), Topic::Group(0xe000_00fb)),
            (to_all(u32::MAX, 17, &[]), Topic::Other),
            (to_all(u32::MAX, 1, &datagram), Topic::Other),
            (fragment, Topic::Other),
            (frames::ipv6(HOST, Mac::BROADCAST, [0xfe; 16], 58, &[136; 24]), Topic::Neighbours),
            (frames::ipv6(HOST, Mac::BROADCAST, [0xfe; 16], 0, &[58, 0, 5, 2, 0, 0, 1, 0, 130]), Topic::Neighbours),
            (frames::ipv6(HOST, Mac::BROADCAST, [0xfe; 16], 0, &[17, 0, 5, 2, 0, 0, 1, 0, 130]), Topic::Other),
            (frames::ipv6(HOST, Mac::BROADCAST, [0xfe; 16], 0, &[]), Topic::Other),
            (frames::ipv6(HOST, Mac::BROADCAST, [0xfe; 16], 17, &datagram), Topic::Other),
            (frames::ethernet(HOST, Mac::BROADCAST, 0x88cc, &[0; 46]), Topic::Other),
        ] {
            assert_eq!(Topic::of(frame.as_slice()), topic, "{frame:x?}");
        }
    }

    #[test]
    fn a_guest_hears_what_it_says() {
        let says = listens(&[68, 137], &[7]);
        for (topic, asleep, awake) in [
            (Topic::Port(137), true, true),
            (Topic::Port(138), false, false),
            // What stands for none is no port and no group.
            (Topic::Port(0), false, false),
            (Topic::Group(7), true, true),
            (Topic::Group(8), false, false),
            (Topic::Neighbours, false, true),
            (Topic::Other, false, false),
        ] {
            assert_eq!((topic.interests(&says, false), topic.interests(&says, true)), (asleep, awake), "{topic:?}");
            // Everything, unless it says that this is all.
            assert!(topic.interests(&Listens { said: 0, ..says }, false));
            assert!(topic.interests(&Listens { said: 2, ..says }, false));
        }
    }

    #[test]
    fn what_was_gathered_holds_for_a_while_and_not_for_newcomers() {
        let mut audience = Audience::new(1000);
        assert!(!audience.is_deaf(Topic::Other, false, 5));
        let survey = audience.begin(5).expect("nothing is known");
        assert_eq!(audience.begin(6), None, "one at a time");
        audience.add(survey, &listens(&[68], &[]));
        assert!(!audience.is_deaf(Topic::Other, false, 7), "not complete");
        audience.finish(survey, 10);
        assert_eq!(audience.begin(109), None);
        assert!(audience.is_deaf(Topic::Port(137), true, 109) && !audience.is_deaf(Topic::Port(68), true, 109));
        assert!(audience.is_deaf(Topic::Neighbours, false, 109) && !audience.is_deaf(Topic::Neighbours, true, 109));
        assert!(!audience.is_deaf(Topic::Port(137), true, 110), "too long ago");
        let survey = audience.begin(110).expect("it is time");
        // Somebody comes meanwhile who is perhaps not asked.
        audience.forget();
        audience.add(survey, &listens(&[], &[]));
        audience.finish(survey, 120);
        assert!(!audience.is_deaf(Topic::Other, false, 121));
        let survey = audience.begin(121).expect("nothing is known");
        audience.add(survey, &Listens::default());
        audience.finish(survey, 122);
        assert!(!audience.is_deaf(Topic::Other, false, 123), "one wants everything");
    }

    proptest! {
        /// What one wants is never said to be wanted by nobody.
        #[test]
        fn nobody_misses_anything(
            guests in proptest::collection::vec((0..3_u32, proptest::array::uniform10(0..20_u16), proptest::array::uniform6(0..20_u32)), 0..5),
            port in 0..20_u16,
            group in 0..20_u32,
        ) {
            let mut audience = Audience::new(1000);
            let survey = audience.begin(1).expect("nothing is known");
            for topic in [Topic::Port(port), Topic::Group(group), Topic::Neighbours, Topic::Other] {
                let mut wanted = false;
                for &(said, broadcast_ports, groups) in &guests {
                    let listens = Listens { said, broadcast_ports, groups, ..Listens::default() };
                    audience.add(survey, &listens);
                    // Group 0 is no group; frames to it do not exist.
                    wanted |= topic != Topic::Group(0) && topic.interests(&listens, true);
                }
                audience.finish(survey, 2);
                prop_assert!(!(wanted && audience.is_deaf(topic, true, 3)), "{topic:?}");
            }
        }
    }
}
