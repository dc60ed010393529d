//! Echoes: what a VM executes for a ping.

use super::http::{busy, conditions, inside, server};
use super::mechanism::instructions;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Context, Result, fail};
use crate::test::lab::Lab;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

pub const ENTRY: Entry = Entry {
    name: "icmp_echo",
    measures: "an ICMP echo of 56 bytes that a VM answers",
    // Which frames share a batch depends on the host's timing.
    repeats: Repeats::Within(0.05),
    run,
};

/// Requests that are on their way at once, as with the connections of the web figures.
const AT_ONCE: u16 = 16;
/// Rounds of so many requests: before the measurement, and in it.
const WARM_UP: u16 = 8;
const ROUNDS: u16 = 125;
/// Bytes behind the header, as `ping` has them.
const PAYLOAD: usize = 56;
const ID: [u8; 2] = *b"Fo";
const PATIENCE: Duration = Duration::from_secs(30);

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let value = inside(bench, ENTRY.name, measure)?;
    let requests = u64::from(AT_ONCE) * u64::from(ROUNDS);
    let conditions = format!(
        "{}, tap; 1 VM, {AT_ONCE} requests of {PAYLOAD} bytes at once; all instructions of the machine but idle ones over \
         {requests} echoes",
        conditions(bench.kind)?
    );
    Ok(vec![instructions(ENTRY.name, value, conditions)])
}

fn measure(lab: &Lab) -> Result<u64> {
    let running = server(lab)?;
    let SocketAddr::V4(address) = running.services()[0] else { fail!("the server has no IPv4 address") };
    let mut socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))
        .context(|| "cannot open a socket for ICMP".into())?;
    socket.set_read_timeout(Some(PATIENCE)).context(|| "cannot set a time-out".into())?;
    let to = SockAddr::from(SocketAddr::from((*address.ip(), 0)));
    let mut number = 0;
    let mut rounds = |count| (0..count).try_for_each(|_| round(&mut socket, &to, &mut number));
    rounds(WARM_UP)?;
    let busy = busy(&running, || rounds(ROUNDS))?;
    running.power_off()?;
    Ok(busy / (u64::from(AT_ONCE) * u64::from(ROUNDS)))
}

/// Sends requests, and waits for all their answers. `number`: of the first one.
fn round(socket: &mut Socket, to: &SockAddr, number: &mut u16) -> Result<()> {
    let mut expected = Vec::new();
    for _ in 0..AT_ONCE {
        let request = request(*number);
        socket.send_to(&request, to).context(|| "cannot send an echo request".into())?;
        // The answer is the request but for its kind and checksum.
        expected.push(request[4..].to_vec());
        *number = number.wrapping_add(1);
    }
    while !expected.is_empty() {
        let mut packet = [0; 1500];
        let len = socket.read(&mut packet).context(|| format!("{} echoes did not come", expected.len()))?;
        let header = usize::from(packet[0] & 15) * 4;
        if let Some(message) = packet.get(header..len)
            && let [0, 0, _, _, rest @ ..] = message
        {
            expected.retain(|echo| echo != rest);
        }
    }
    Ok(())
}

/// An echo request.
fn request(number: u16) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0];
    message.extend(ID);
    message.extend(number.to_be_bytes());
    message.extend([0x5a; PAYLOAD]);
    let checksum = !sum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// The sum of RFC 1071 over an even number of bytes.
pub fn sum(bytes: &[u8]) -> u16 {
    bytes.chunks_exact(2).fold(0, |sum: u16, pair| {
        let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([pair[0], pair[1]]));
        sum + u16::from(carry)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_valid() {
        for number in [0, 1, 0x1234, u16::MAX] {
            let request = request(number);
            assert_eq!((request.len(), &request[..2], sum(&request)), (64, &[8, 0][..], 0xffff));
        }
    }
}
