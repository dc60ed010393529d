//! The boot arguments of a VM as whoever creates it puts them together: its image's, its address, and its creator's own.
//!
//! The core takes them as bytes and reads none of it, so that a VM's arguments mean the same whoever has created it: the boot code
//! for `vms=`, the monitor for `create` and `identity`, and a VM that controls the machine.
//!
//! ```
//! use abi::addresses::Net;
//! use boot_args::{BootArgs, compose};
//!
//! let net = Net::Static { address: 0x0a00_0210, prefix: 24, gateway: Some(0x0a00_0202) };
//! let mut args = BootArgs::new();
//! compose(&mut args, b"workers=2", &net, 0x0a00_0211, b"crime=hlt").expect("they fit");
//! assert_eq!(&args, b"workers=2 ip=10.0.2.17/24 gw=10.0.2.2 crime=hlt");
//! ```
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use abi::addresses::Net;
use abi::guest::BOOT_ARGS_MAX;
use core::fmt;

/// As the guest finds them: at most [`BOOT_ARGS_MAX`] bytes.
pub type BootArgs = heapless::Vec<u8, BOOT_ARGS_MAX>;

/// They do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Bytes that they would take.
    pub bytes: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes;
        write!(
            f,
            "the boot arguments, with those of the image and the address, take {bytes} bytes of {BOOT_ARGS_MAX}; shorten them"
        )
    }
}

/// Put the arguments of a VM at the address `ipv4`, 0 where it asks DHCP, into `args`, in place of what is there. `image` and
/// `extra` end at their first zero. (To return them would copy a kilobyte.)
///
/// # Errors
/// [`TooLong`]; then nothing is there.
pub fn compose(args: &mut BootArgs, image: &[u8], net: &Net, ipv4: u32, extra: &[u8]) -> Result<(), TooLong> {
    args.clear();
    let mut out = Out { args, bytes: 0 };
    let image = text(image);
    out.put(image);
    if !image.is_empty() {
        out.put(b" ");
    }
    out.put(b"ip=");
    match *net {
        Net::Static { prefix, gateway, .. } => {
            out.address(ipv4);
            out.put(b"/");
            out.decimal(prefix);
            if let Some(gateway) = gateway {
                out.put(b" gw=");
                out.address(gateway);
            }
        }
        Net::Dhcp => out.put(b"dhcp"),
    }
    let extra = text(extra);
    if !extra.is_empty() {
        out.put(b" ");
        out.put(extra);
    }
    let bytes = out.bytes;
    if bytes > BOOT_ARGS_MAX {
        args.clear();
        return Err(TooLong { bytes });
    }
    Ok(())
}

/// What stands before the first zero.
#[must_use]
pub fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or(bytes)
}

/// Counts also what does not fit.
struct Out<'a> {
    args: &'a mut BootArgs,
    bytes: usize,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        // What is cut off is never looked at: the count says so.
        let _ = self.args.extend_from_slice(bytes);
    }

    fn address(&mut self, address: u32) {
        for (i, byte) in address.to_be_bytes().into_iter().enumerate() {
            if i != 0 {
                self.put(b".");
            }
            self.decimal(byte);
        }
    }

    /// `core::fmt` takes ten times as long, which would be a tenth of a VM's creation.
    fn decimal(&mut self, number: u8) {
        for (least, divisor) in [(100, 100), (10, 10), (0, 1)] {
            if number >= least {
                self.put(&[b'0' + number / divisor % 10]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn composed(image: &[u8], net: &Net, ipv4: u32, extra: &[u8]) -> String {
        let mut args = BootArgs::from_slice(b"what was there before").expect("short");
        compose(&mut args, image, net, ipv4, extra).expect("fits");
        String::from_utf8(args.to_vec()).expect("text")
    }

    #[test]
    fn they_come_in_order() {
        let lan = Net::Static { address: 0x0a00_0210, prefix: 24, gateway: Some(0x0a00_0202) };
        let args = composed(b"workers=2\0\0", &lan, 0x0a00_0211, b"crime=hlt\0");
        assert_eq!(args, "workers=2 ip=10.0.2.17/24 gw=10.0.2.2 crime=hlt");
        assert_eq!(composed(b"\0", &Net::Dhcp, 0, b"\0"), "ip=dhcp");
        let alone = Net::Static { address: 0, prefix: 8, gateway: None };
        let address = u32::from(Ipv4Addr::new(255, 105, 0, 200));
        assert_eq!(composed(b"", &alone, address, b""), "ip=255.105.0.200/8");
    }

    #[test]
    fn bytes_that_are_no_text_are_passed_on() {
        let mut args = BootArgs::new();
        compose(&mut args, b"", &Net::Dhcp, 0, b"\xff\x01").expect("fits");
        assert_eq!(args, b"ip=dhcp \xff\x01");
    }

    #[test]
    fn too_long_is_said_with_how_long() {
        let fits = [b'x'; BOOT_ARGS_MAX - "ip=dhcp ".len()];
        assert_eq!(composed(&fits, &Net::Dhcp, 0, b"").len(), BOOT_ARGS_MAX);
        let mut args = BootArgs::new();
        assert_eq!(compose(&mut args, &fits, &Net::Dhcp, 0, b"y"), Err(TooLong { bytes: BOOT_ARGS_MAX + 2 }));
        assert!(args.is_empty());
        let all = [b'x'; BOOT_ARGS_MAX];
        let error = compose(&mut args, &all, &Net::Dhcp, 0, b"").expect_err("too long");
        let text = "the boot arguments, with those of the image and the address, take 1032 bytes of 1024; shorten them";
        assert_eq!(error.to_string(), text);
    }

    proptest! {
        #[test]
        fn every_address_is_written_as_everybody_writes_it(address: u32, prefix in 0_u8..=32, gateway: Option<u32>) {
            let net = Net::Static { address: 1, prefix, gateway };
            let mut expected = format!("ip={}/{prefix}", Ipv4Addr::from(address));
            if let Some(gateway) = gateway {
                expected += &format!(" gw={}", Ipv4Addr::from(gateway));
            }
            prop_assert_eq!(composed(b"", &net, address, b""), expected);
        }
    }
}
