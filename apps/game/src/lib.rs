//! A game's server, as far as the network sees one: players say in datagrams what they do, and ten times in a second each of them is told where everybody is.
#![no_std]
#![forbid(unsafe_code)]

pub mod world;

use ilwaco::net::{SocketAddr, UdpSocket};
use ilwaco::task::{Either, race, shutdown_requested};
use ilwaco::time::{Duration, Instant, sleep_until};
use world::{SAID, UPDATE, World};

/// The port, Quake II's.
pub const PORT: u16 = 27_910;
/// From one update to the next.
pub const TICK: Duration = Duration::from_millis(100);
/// Bytes that are read of a datagram: more than is looked at.
const LONGEST: usize = 64;

/// Serves for ever, or until the VM is asked to end itself. The code that the VM ends with: 0 when it was asked, 1 without a network.
pub async fn serve() -> u64 {
    let vm = ilwaco::vm_id().slot;
    let address = match ilwaco::net::up().await {
        Ok(address) => address,
        Err(error) => {
            ilwaco::println!("game: {error}");
            return 1;
        }
    };
    let socket = match UdpSocket::bind(PORT) {
        Ok(socket) => socket,
        Err(error) => {
            ilwaco::println!("game: port {PORT}: {error}");
            return 1;
        }
    };
    ilwaco::println!("game: serving {address} port {PORT} (vm {vm})");
    match race(shutdown_requested(), play(&socket)).await {
        Either::Left(()) => {
            ilwaco::println!("game: asked to end");
            0
        }
        Either::Right(error) => {
            ilwaco::println!("game: {error}");
            1
        }
    }
}

/// Hears players, and tells them of the world when it is time.
async fn play(socket: &UdpSocket) -> ilwaco::net::Error {
    let (mut world, mut bytes, mut next) = (World::<SocketAddr>::new(), [0; LONGEST], Instant::now() + TICK);
    loop {
        match race(sleep_until(next), socket.recv_from(&mut bytes)).await {
            Either::Left(()) => {
                world.step();
                let mut update = [0; UPDATE];
                for place in 0..world::PLAYERS {
                    if let Some(player) = world.tell(place, &mut update) {
                        // Who cannot be sent to misses one.
                        let _ = socket.send_to(&update, player).await;
                    }
                }
                next = next + TICK;
                let now = Instant::now();
                if next <= now {
                    // The world does not run after what it has missed.
                    next = now + TICK;
                }
            }
            Either::Right(Ok((SAID, player))) => world.hear(player, &bytes),
            // It is of no game.
            Either::Right(Ok(_)) => {}
            Either::Right(Err(error)) => return error,
        }
    }
}
