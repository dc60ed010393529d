//! The echo service (RFC 862) over UDP: what comes to port 7 goes back to where it came from.
#![no_std]
#![forbid(unsafe_code)]

use ilwaco::net::UdpSocket;
use ilwaco::task::{Either, race, shutdown_requested};

/// The port.
pub const PORT: u16 = 7;
/// Bytes of the longest datagram that fits into a frame.
const LONGEST: usize = 1472;
/// Ports below belong to services, some of which answer everything, as this one does: two of them would never stop.
const CLIENTS_FROM: u16 = 1024;

/// Serves for ever, or until the VM is asked to end itself. The code that the VM ends with: 0 when it was asked, 1 without a network.
pub async fn serve() -> u64 {
    let vm = ilwaco::vm_id().slot;
    let address = match ilwaco::net::up().await {
        Ok(address) => address,
        Err(error) => {
            ilwaco::println!("udp-echo: {error}");
            return 1;
        }
    };
    let socket = match UdpSocket::bind(PORT) {
        Ok(socket) => socket,
        Err(error) => {
            ilwaco::println!("udp-echo: port {PORT}: {error}");
            return 1;
        }
    };
    ilwaco::println!("udp-echo: serving {address} port {PORT} (vm {vm})");
    match race(shutdown_requested(), echo(&socket)).await {
        Either::Left(()) => {
            ilwaco::println!("udp-echo: asked to end");
            0
        }
        Either::Right(error) => {
            ilwaco::println!("udp-echo: {error}");
            1
        }
    }
}

async fn echo(socket: &UdpSocket) -> ilwaco::net::Error {
    // Of what came in fragments and is longer there is a byte more than can be sent: it gets no answer, rather than one that is cut.
    let mut bytes = [0; LONGEST + 1];
    loop {
        match socket.recv_from(&mut bytes).await {
            Ok((len, from)) if from.port() >= CLIENTS_FROM => {
                // Who cannot be sent to gets nothing.
                let _ = socket.send_to(&bytes[..len], from).await;
            }
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}
