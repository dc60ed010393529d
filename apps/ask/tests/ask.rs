//! The client against a server on its network.

use ilwaco::block_on;
use ilwaco::sim::smoltcp::socket::tcp::Socket;
use ilwaco::sim::{Sim, World};

/// The code with which the VM ends, when its server says this to every request, and then closes.
fn asked(args: &str, says: &'static str) -> u64 {
    asked_by(args, says, |_| true)
}

/// The same, of a server that closes after the requests for which `closes` says so; the first is number 1.
fn asked_by(args: &str, says: &'static str, closes: impl Fn(u32) -> bool + 'static) -> u64 {
    let mut count = 0;
    let mut world = World::new(&format!("ip=10.0.2.16/24 gw=10.0.2.2 server=10.0.2.2:80 {args}"));
    let handle = world.tcp();
    world.script(move |sockets, _, _| {
        let socket = sockets.get_mut::<Socket>(handle);
        if !socket.is_open() && !says.is_empty() {
            socket.listen(80).expect("closed");
        }
        if socket.can_recv() {
            let whole = socket.recv(|bytes| (bytes.len(), bytes.ends_with(b"\r\n\r\n"))).expect("open");
            if whole {
                socket.send_slice(says.as_bytes()).expect("open");
                count += 1;
                if closes(count) {
                    socket.close();
                }
            }
        }
    });
    world.run();
    block_on(ask::run())
}

#[test]
fn answers_are_reported() {
    assert_eq!(asked("times=2 path=/x", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), 0);
    let console = Sim::console();
    assert_eq!(console.matches("ask: 10.0.2.2:80/x: 200, 5 bytes, ").count(), 2, "{console}");
}

#[test]
fn round_trips_are_over_one_connection() {
    let says = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(asked_by("times=1 round-trips=100", says, |count| count == 1), 0);
    let console = Sim::console();
    assert!(console.contains("ask: round trips of 10.0.2.2:80/100b: count=100 ticks="), "{console}");
    assert_eq!(asked_by("times=1 round-trips=100", says, |count| count == 1 || count == 50), 3, "it ended early");
    assert_eq!(asked("round-trips=many", says), 2);
}

#[test]
fn so_are_failures() {
    assert_eq!(asked("", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"), 3);
    assert!(Sim::console().contains("ask: 10.0.2.2:80/100b: the response ended too early"));
    assert_eq!(asked("", "hello\r\n\r\n"), 3);
    assert_eq!(asked("", ""), 3, "nobody listens");
    let console = Sim::console();
    let refused = "ask: 10.0.2.2:80/100b: the peer does not accept the connection";
    assert_eq!(console.matches(refused).count(), 2, "at first, and when it is over: {console}");
    assert!(console.contains(&format!("{refused}; up to 30 more attempts, one a second")), "{console}");
    assert_eq!(asked("times=many", ""), 2);
    assert!(
        Sim::console().contains("ask: times=many is no number of requests: it is one from 0 to 4294967295, as times=3")
    );
    assert_eq!(asked("server=not.known:80", ""), 3);
    let console = Sim::console();
    assert_eq!(console.matches("no name server is known").count(), 1, "which will not pass: {console}");
}
