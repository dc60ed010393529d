//! The function `recvfrom` for Bochs, which xtask has the dynamic linker load before the C library (`LD_PRELOAD`).
//!
//! The VDE module of Bochs 2.7 takes frames with `recvfrom` and passes the length of the sender's address uninitialised
//! (`bx_vde_pktmover_c::rx_timer` in `iodev/network/eth_vde.cc`). When what lies on the stack there is negative, the system
//! drops the frame and says EINVAL; an idle machine, whose stack does not change, hears nothing any more. Nothing in Bochs
//! reads the sender's address, so this one does not ask for it.

use libc::{c_int, c_void, size_t, sockaddr, socklen_t, ssize_t};

/// `recv`, whatever is said about the sender's address: `address` and `length` stay as they are.
///
/// # Safety
/// As for `recv`: `buffer` can take `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvfrom(
    socket: c_int,
    buffer: *mut c_void,
    bytes: size_t,
    flags: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
) -> ssize_t {
    let _ = (address, length);
    // SAFETY: the caller's promise about the buffer is the one that `recv` needs.
    unsafe { libc::recv(socket, buffer, bytes, flags) }
}
