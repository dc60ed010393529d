//! Keeps the machine's Unix time right, by a time server that the boot arguments name: `ntp=ADDRESS` or `ntp=NAME`, as often as there are servers.

use crate::clock::Mending;
use crate::node::Node;
use crate::sntp::{BYTES, Bad, PORT, Question, Sample};
use abi::control::{ControlReply, ControlRequest, status};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use chacha20::rand_core::Rng;
use core::net::{IpAddr, SocketAddr};
use ilwaco::args::Args;
use ilwaco::net::UdpSocket;
use ilwaco::time::{Duration, sleep, timeout, unix_nanos};

/// Between two questions, at first and at most (RFC 4330, 10: never below 15 s but at the start).
const EACH_FIRST: Duration = Duration::from_secs(64);
const EACH_MOST: Duration = Duration::from_secs(1024);
/// Between two questions as long as none was answered, at first.
const AGAIN: Duration = Duration::from_secs(4);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// From this on a clock is asked about more often, in nanoseconds.
const FINE_NS: u64 = 10_000_000;
/// Parts of a million by which time goes faster or slower.
const SLEW_PPM: u32 = 500;

/// The servers that the boot arguments name.
pub fn servers(args: &Args) -> Vec<String> {
    let named = args.words().filter_map(|word| word.strip_prefix("ntp=")).filter(|name| !name.is_empty());
    named.map(ToOwned::to_owned).collect()
}

/// Asks the servers for ever, one after the other when one does not answer.
pub async fn keep(node: Rc<Node>, servers: Vec<String>) {
    let (mut each, mut silent) = (EACH_FIRST, 0_u32);
    for server in servers.iter().cycle() {
        loop {
            match ask(&node, server).await {
                Ok(sample) => {
                    silent = 0;
                    mend(&node, server, sample).await;
                    let fine = sample.offset_ns.unsigned_abs() < FINE_NS;
                    each = if fine { (each * 2).min(EACH_MOST) } else { EACH_FIRST };
                    sleep(each).await;
                }
                Err(why) => {
                    silent = silent.saturating_add(1);
                    // Once, and not each time, as long as it lasts.
                    if silent == 1 {
                        log::warn!("ntp: {server} does not say the time: {why}; another is asked, or it again");
                    }
                    break;
                }
            }
        }
        sleep((AGAIN * (1 << silent.min(8))).min(EACH_MOST)).await;
    }
}

/// One question, and the answer to it.
async fn ask(node: &Node, server: &str) -> Result<Sample, String> {
    let address = match server.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => {
            let found = ilwaco::net::lookup(server).await.map_err(|error| format!("no address: {error}"))?;
            *found.first().ok_or("no address")?
        }
    };
    let to = SocketAddr::new(address, PORT);
    let mut random = node.random.borrow_mut().fork();
    // Neither the port nor the number can be guessed by who does not see the question.
    let port = 0xc000 | (random.next_u32() & 0x3fff) as u16;
    let socket = UdpSocket::bind(port).map_err(|error| error.to_string())?;
    let question = Question { nonce: random.next_u64(), sent_ns: unix_nanos() };
    socket.send_to(&question.packet(), to).await.map_err(|error| error.to_string())?;
    let answer = async {
        let mut packet = [0; BYTES];
        loop {
            let (len, from) = socket.recv_from(&mut packet).await.map_err(|error| error.to_string())?;
            let now = unix_nanos();
            match question.answered(&packet[..len], now) {
                Err(Bad::NotOurs) => {}
                _ if from != to => {}
                Ok(sample) => return Ok(sample),
                Err(why) => return Err(said(why)),
            }
        }
    };
    timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err("no answer within 2 s".to_string()))
}

fn said(why: Bad) -> String {
    match why {
        Bad::NotOurs => "that was no answer".to_string(),
        Bad::Unsynchronised => "it does not know it".to_string(),
        Bad::Nonsense => "its times cannot be, or it took longer than a second".to_string(),
        Bad::Kiss(code) => format!("it does not want to be asked ({})", code.escape_ascii()),
    }
}

/// Has the machine's clock be what a server says.
async fn mend(node: &Node, server: &str, Sample { offset_ns, .. }: Sample) {
    let mending = node.clock.borrow().mending(offset_ns);
    let ms = offset_ns / 1_000_000;
    let ppm = match mending {
        Mending::Slew => Some(SLEW_PPM),
        Mending::Step => Some(0),
        Mending::Wait => None,
        Mending::Refuse => {
            log::error!("ntp: {server} says that it is {ms} ms later than the clock that was right: not believed");
            None
        }
    };
    if let Some(ppm) = ppm {
        let by_ns = offset_ns.cast_unsigned();
        match node.ask(ControlRequest::AdjustClock { by_ns, ppm }, drop).await {
            Ok(ControlReply::Done { status: status::OK, .. }) if ppm == 0 => {
                log::info!("ntp: the machine's clock was {ms} ms behind {server}, and is set");
            }
            Ok(ControlReply::Done { status: status::OK, .. }) => {}
            other => return log::error!("ntp: the core does not adjust the clock: {other:?}"),
        }
    }
    node.clock.borrow_mut().note(server, offset_ns, mending);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use core::cell::RefCell;
    use ilwaco::block_on;
    use ilwaco::control::Control;
    use ilwaco::sim::Sim;

    #[test]
    fn servers_are_named_by_the_boot_arguments_in_their_order() {
        let args = Args::new("ntp=10.0.2.2 key=AAAA ntp=time.example ntp= ntpd=x");
        assert_eq!(servers(&args), ["10.0.2.2", "time.example"]);
    }
    /// What the core was told to do with the clock: by how many nanoseconds, and how fast.
    type Adjusted = Rc<RefCell<Vec<(i64, u32)>>>;

    fn machine() -> Adjusted {
        let _sim = Sim::new("");
        let adjusted = Adjusted::default();
        let list = adjusted.clone();
        Sim::control(move |request, _| {
            vec![match request {
                ControlRequest::AdjustClock { by_ns, ppm } => {
                    list.borrow_mut().push((by_ns.cast_signed(), ppm));
                    ControlReply::Done { status: status::OK, value: 0 }
                }
                _ => ControlReply::Done { status: status::NOT_FOUND, value: 0 },
            }]
        });
        adjusted
    }

    #[test]
    fn a_clock_is_set_where_it_is_far_away_and_goes_faster_or_slower_where_it_is_near() {
        const MS: i64 = 1_000_000;
        let adjusted = machine();
        block_on(async {
            let node = Node::new(Control::open().expect("a ring")).await.expect("an answer");
            for (offset_ns, told) in [
                // At first at once, however far that is.
                (-700_000_000 * MS, Some((-700_000_000 * MS, 0))),
                (100 * MS, Some((100 * MS, SLEW_PPM))),
                (-127 * MS, Some((-127 * MS, SLEW_PPM))),
                (0, Some((0, SLEW_PPM))),
                // Only what is said twice.
                (5_000 * MS, None),
                (5_000 * MS, Some((5_000 * MS, 0))),
                // And what cannot be not at all.
                (2_000_000 * MS, None),
                (2_000_000 * MS, None),
            ] {
                mend(&node, "10.0.2.2", Sample { offset_ns, delay_ns: 0, stratum: 1 }).await;
                assert_eq!(adjusted.borrow_mut().pop(), told, "{offset_ns}");
            }
            let clock = node.clock.borrow().clone();
            assert_eq!((clock.server.as_str(), clock.offset_ns), ("10.0.2.2", 5_000 * MS));
        });
    }
}
