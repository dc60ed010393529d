//! The server: a task for each connection.

use crate::connection::Connection;
use crate::files::Files;
use crate::site::Site;
use alloc::boxed::Box;
use alloc::rc::Rc;
use ilwaco::net::{Error, TcpListener};
use ilwaco::task::{Either, race, shutdown_requested, spawn};

/// Where requests are taken.
pub const PORT: u16 = 80;

/// The file system (ext4) that this program carries: `build-iso --files` and `pxe --files` build one that does.
#[cfg(carries_files)]
const CARRIED: Option<&[u8]> = Some(include_bytes!(env!("FORAKER_FILES")));
/// This one carries none.
#[cfg(not(carries_files))]
const CARRIED: Option<&[u8]> = None;

/// Serves for ever, or until the VM is asked to end itself. The code that the VM ends with: 0 when it was asked, 1 without
/// a network.
pub async fn serve() -> u64 {
    serve_with(CARRIED).await
}

/// The same, with the files of this file system where the VM has no disk.
pub async fn serve_with(carried: Option<&'static [u8]>) -> u64 {
    let vm = ilwaco::vm_id().slot;
    let address = match ilwaco::net::up().await {
        Ok(address) => address,
        Err(error) => {
            ilwaco::println!("httpd: {error}");
            return 1;
        }
    };
    let listener = match TcpListener::bind(PORT) {
        Ok(listener) => listener,
        Err(error) => {
            ilwaco::println!("httpd: port {PORT}: {error}");
            return 1;
        }
    };
    // In memory of its own, which is free again behind it.
    let site = Site::new(Box::pin(Files::attached(carried)).await);
    ilwaco::println!("httpd: serving http://{address}/ (vm {vm})");
    match race(shutdown_requested(), accept(&listener, &site)).await {
        Either::Left(()) => {
            ilwaco::println!("httpd: asked to end");
            0
        }
        Either::Right(error) => {
            ilwaco::println!("httpd: {error}");
            1
        }
    }
}

/// Accepts connections until that fails.
async fn accept(listener: &TcpListener, site: &Rc<Site>) -> Error {
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        site.accepted();
        // There are more tasks than connections, so this is a matter of principle: the client sees its connection closed.
        if spawn(Connection::serve(stream, site.clone())).is_err() {
            log::warn!("no task for a connection");
        }
    }
}
