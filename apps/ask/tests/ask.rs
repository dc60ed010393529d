//! The client against a server on its network.

use ilwaco::sim::smoltcp::socket::tcp::Socket;
use ilwaco::sim::{Sim, World};
use ilwaco::task::block_on;

/// The code with which the VM ends, when its server says this to every request.
fn asked(args: &str, says: &'static str) -> u64 {
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
                socket.close();
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
fn so_are_failures() {
    assert_eq!(asked("", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"), 3);
    assert!(Sim::console().contains("ask: 10.0.2.2:80/100b: the response ended too early"));
    assert_eq!(asked("", "hello\r\n\r\n"), 3);
    assert_eq!(asked("", ""), 3, "nobody listens");
    assert!(Sim::console().contains("the peer does not accept the connection"), "{}", Sim::console());
    assert_eq!(asked("times=many", ""), 2);
}
