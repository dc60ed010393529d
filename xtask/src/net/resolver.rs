//! Names that are none of this network's: the host's own resolver is asked for them, beside everything else, since it takes its time.

use super::Outside;
use super::names::{Found, Query};
use smoltcp::socket::udp::UdpMetadata;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Questions at once at most. Who asks beyond it asks again later.
const ASKED: usize = 32;

/// The questions that are being asked, and their answers.
pub struct Resolver {
    outside: Outside,
    asked: usize,
    sender: Sender<(Vec<u8>, UdpMetadata)>,
    answers: Receiver<(Vec<u8>, UdpMetadata)>,
    waker: Arc<mio::Waker>,
}

impl Resolver {
    /// Tells guests of nobody whom they do not reach by `outside`. `waker` is woken with each answer.
    pub fn new(outside: Outside, waker: Arc<mio::Waker>) -> Resolver {
        let (sender, answers) = channel();
        Resolver { outside, asked: 0, sender, answers, waker }
    }

    /// Has a question of `from` asked. The answer, where that is known already: where guests reach nobody, nothing is asked.
    pub fn ask(&mut self, query: Query, from: UdpMetadata) -> Option<Vec<u8>> {
        if self.outside == Outside::None {
            return Some(query.answer(&Found::Refused));
        }
        if !query.is_for_address() {
            // Only IPv4 is carried. Whether there is such a name does not matter to who gets nothing of it.
            return Some(query.answer(&Found::Addresses(Vec::new())));
        }
        if self.asked >= ASKED {
            return None;
        }
        let (outside, sender, waker) = (self.outside, self.sender.clone(), self.waker.clone());
        let ask = move || {
            let reply = query.answer(&found(look_up(query.name(), outside), outside));
            // Where nobody waits for it any more, nobody needs it.
            let _ = sender.send((reply, from));
            let _ = waker.wake();
        };
        if std::thread::Builder::new().name("resolver".into()).spawn(ask).is_ok() {
            self.asked += 1;
        }
        None
    }

    /// The next reply that has come, and whose it is.
    pub fn answered(&mut self) -> Option<(Vec<u8>, UdpMetadata)> {
        let answer = self.answers.try_recv().ok()?;
        self.asked -= 1;
        Some(answer)
    }
}

/// Asks the host's resolver for a name, and for none of its search list's.
#[cfg_attr(not(test), expect(unused_variables, reason = "it is for tests"))]
fn look_up(name: &str, outside: Outside) -> io::Result<Vec<Ipv4Addr>> {
    #[cfg(test)]
    if let Outside::Stand(address) = outside {
        return Ok(vec![address]);
    }
    let address = |address| match address {
        SocketAddr::V4(address) => Some(*address.ip()),
        SocketAddr::V6(_) => None,
    };
    Ok((format!("{name}."), 0).to_socket_addrs()?.filter_map(address).collect())
}

/// What a guest is told of it: nothing of who is in the host's own networks, if it does not get there.
fn found(looked_up: io::Result<Vec<Ipv4Addr>>, outside: Outside) -> Found {
    match looked_up {
        Ok(mut addresses) => {
            addresses.retain(|address| outside.leads(*address, 0).is_some());
            Found::Addresses(addresses)
        }
        Err(error) => {
            // The only way in which the standard library tells EAI_NONAME, as glibc and musl word it, and EAI_NODATA.
            let text = error.to_string();
            if text.contains("not known") || text.contains("does not resolve") {
                Found::NoSuchName
            } else if text.contains("No address associated") {
                Found::Addresses(Vec::new())
            } else {
                Found::Failure
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::HOST;

    #[test]
    fn guests_are_told_only_of_whom_they_reach() {
        let all = || Ok([[1, 1, 1, 1], [192, 168, 1, 1], [127, 0, 0, 1], [10, 0, 2, 2]].map(Ipv4Addr::from).to_vec());
        let told = |outside| match found(all(), outside) {
            Found::Addresses(addresses) => addresses,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(Outside::Public), [Ipv4Addr::new(1, 1, 1, 1), HOST]);
        assert_eq!(told(Outside::All), [Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(192, 168, 1, 1), HOST]);
    }

    #[test]
    fn failures_are_told_from_names_that_nobody_has() {
        let of = |text: &str| found(Err(io::Error::other(text.to_string())), Outside::Public);
        let begin = "failed to lookup address information: ";
        assert_eq!(of(&format!("{begin}Name or service not known")), Found::NoSuchName);
        assert_eq!(of(&format!("{begin}Name does not resolve")), Found::NoSuchName);
        assert_eq!(of(&format!("{begin}No address associated with hostname")), Found::Addresses(Vec::new()));
        assert_eq!(of(&format!("{begin}Temporary failure in name resolution")), Found::Failure);
    }
}
