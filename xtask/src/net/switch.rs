//! A switch with one port: for Bochs' `ethmod=vde`, a VDE switch; for QEMU's `-netdev dgram`, one without formalities.
//!
//! QEMU sends each frame as a datagram to our socket `data` and takes those that come to its own, `machine` in the same
//! folder. A VDE client introduces itself:
//! The client connects to the control socket and sends `{ u32 magic; u32 version; i32 type; sockaddr_un own }`; the switch
//! answers with the `sockaddr_un` of its data socket. From then on each datagram is an Ethernet frame. The client's own
//! address is in the abstract namespace, padded with zeros to its full length.

use crate::error::{Context, Result};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// First word of the client's request.
const MAGIC: u32 = 0xfeed_face;
/// Bytes of `sun_path`.
const PATH_BYTES: usize = 108;
/// Bytes of a `sockaddr_un`.
const ADDRESS_BYTES: usize = 2 + PATH_BYTES;
/// Bytes of the request, the compiler's padding behind it included.
const REQUEST_BYTES: usize = 124;
/// Address family of UNIX sockets.
const AF_UNIX: u16 = 1;
/// Longest frame that is taken from the machine.
const MAX_FRAME: usize = 16 * 1024;

/// The switch, and its one client once it has come.
pub struct Switch {
    control: UnixListener,
    data: UnixDatagram,
    /// The data socket's path as the client has to write it.
    data_path: String,
    /// The client; the stream is kept because closing it would mean "unplugged".
    client: Option<(SocketAddr, UnixStream)>,
    /// The socket of a client that does not introduce itself.
    machine: PathBuf,
}

impl Switch {
    /// Opens the sockets `ctl` and `data` in `folder`, which the client calls `seen_as`.
    pub fn start(folder: &Path, seen_as: &str) -> Result<Switch> {
        let what = || format!("cannot open the switch's sockets in {}", folder.display());
        let control = UnixListener::bind(folder.join("ctl")).context(what)?;
        control.set_nonblocking(true).context(what)?;
        let data = UnixDatagram::bind(folder.join("data")).context(what)?;
        data.set_nonblocking(true).context(what)?;
        Ok(Switch {
            control,
            data,
            data_path: format!("{seen_as}/data"),
            client: None,
            machine: folder.join("machine"),
        })
    }

    /// Asks for an event whenever a client wants to introduce itself, and one whenever there are frames.
    pub fn register(&self, registry: &mio::Registry, control: mio::Token, data: mio::Token) -> std::io::Result<()> {
        let readable = mio::Interest::READABLE;
        registry.register(&mut mio::unix::SourceFd(&self.control.as_raw_fd()), control, readable)?;
        registry.register(&mut mio::unix::SourceFd(&self.data.as_raw_fd()), data, readable)
    }

    /// The next frame that the machine has sent, if there is one.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        if self.client.is_none() {
            self.accept();
        }
        let mut frame = vec![0; MAX_FRAME];
        let count = self.data.recv(&mut frame).ok()?;
        frame.truncate(count);
        Some(frame)
    }

    /// Sends a frame to the machine. False when it has to be tried again later.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        let sent = match &self.client {
            Some((client, _)) => self.data.send_to_addr(frame, client),
            None => self.data.send_to(frame, &self.machine),
        };
        // Where nobody is plugged in, frames get lost, as on a real switch.
        !sent.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    fn accept(&mut self) {
        let Ok((mut stream, _)) = self.control.accept() else { return };
        let mut request = [0; REQUEST_BYTES];
        let answered = stream.set_nonblocking(false).is_ok()
            && stream.set_read_timeout(Some(std::time::Duration::from_secs(2))).is_ok()
            && stream.read_exact(&mut request).is_ok()
            && stream.write_all(&self.address()).is_ok();
        if let Some(client) = client_address(&request)
            && answered
        {
            self.client = Some((client, stream));
        }
    }

    /// The data socket's `sockaddr_un`.
    fn address(&self) -> [u8; ADDRESS_BYTES] {
        let mut address = [0; ADDRESS_BYTES];
        address[..2].copy_from_slice(&AF_UNIX.to_ne_bytes());
        address[2..2 + self.data_path.len()].copy_from_slice(self.data_path.as_bytes());
        address
    }
}

/// The client's address in its request.
fn client_address(request: &[u8; REQUEST_BYTES]) -> Option<SocketAddr> {
    let path = &request[14..14 + PATH_BYTES];
    if request[..4] != MAGIC.to_ne_bytes() || path[0] != 0 {
        return None;
    }
    SocketAddr::from_abstract_name(&path[1..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_client_that_does_as_bochs_does_gets_frames_both_ways() {
        let folder = std::env::temp_dir().join(format!("foraker-switch-test-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut switch = Switch::start(&folder, "net").unwrap();
        let mut name = [0_u8; PATH_BYTES - 1];
        let own = format!("{:5}t", std::process::id());
        name[..own.len()].copy_from_slice(own.as_bytes());
        let data = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        let mut request = Vec::new();
        request.extend_from_slice(&MAGIC.to_ne_bytes());
        request.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
        request.extend_from_slice(&name);
        request.resize(REQUEST_BYTES, 0);
        let mut control = UnixStream::connect(folder.join("ctl")).unwrap();
        control.write_all(&request).unwrap();
        assert!(switch.receive().is_none());
        let mut answer = [0; ADDRESS_BYTES];
        control.read_exact(&mut answer).unwrap();
        assert_eq!(&answer[2..11], b"net/data\0");
        data.send_to(b"up", folder.join("data")).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        let frame = loop {
            match switch.receive() {
                Some(frame) => break frame,
                None => assert!(Instant::now() < end),
            }
        };
        assert_eq!(frame, b"up");
        assert!(switch.send(b"down"));
        let mut frame = [0; 16];
        assert_eq!(data.recv(&mut frame).unwrap(), 4);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_client_without_an_abstract_address_is_refused() {
        let mut request = [0; REQUEST_BYTES];
        assert!(client_address(&request).is_none());
        request[..4].copy_from_slice(&MAGIC.to_ne_bytes());
        request[14] = b'/';
        assert!(client_address(&request).is_none());
    }
}
