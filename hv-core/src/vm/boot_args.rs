//! The boot arguments of a VM: its image's, its address, and those that its creator gave.

use crate::boot::options::Net;
use abi::guest::BOOT_ARGS_MAX;

/// As the guest finds them.
pub type BootArgs = heapless::String<BOOT_ARGS_MAX>;

/// They do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl From<heapless::CapacityError> for TooLong {
    fn from(_: heapless::CapacityError) -> Self {
        TooLong
    }
}

/// Append the arguments of a VM at the address `ipv4` to `args`; `image` and `extra` are padded with zeros. (To return them
/// would copy a kilobyte.)
///
/// # Errors
/// [`TooLong`].
pub fn compose(args: &mut BootArgs, image: &[u8], net: &Net, ipv4: u32, extra: &[u8]) -> Result<(), TooLong> {
    args.push_str(text(image))?;
    if !args.is_empty() {
        args.push(' ')?;
    }
    match *net {
        Net::Static { prefix, gateway, .. } => {
            args.push_str("ip=")?;
            push_address(args, ipv4)?;
            args.push('/')?;
            push_decimal(args, prefix)?;
            if let Some(gateway) = gateway {
                args.push_str(" gw=")?;
                push_address(args, gateway)?;
            }
        }
        Net::Dhcp => args.push_str("ip=dhcp")?,
    }
    let extra = text(extra);
    if !extra.is_empty() {
        args.push(' ')?;
        args.push_str(extra)?;
    }
    Ok(())
}

/// An IPv4 address with its dots. `core::fmt` takes ten times as long, which would be a tenth of a VM's creation.
fn push_address(to: &mut BootArgs, address: u32) -> Result<(), TooLong> {
    for (i, byte) in address.to_be_bytes().into_iter().enumerate() {
        if i != 0 {
            to.push('.')?;
        }
        push_decimal(to, byte)?;
    }
    Ok(())
}

fn push_decimal(to: &mut BootArgs, number: u8) -> Result<(), TooLong> {
    for (least, divisor) in [(100, 100), (10, 10), (0, 1)] {
        if number >= least {
            to.push(char::from(b'0' + number / divisor % 10))?;
        }
    }
    Ok(())
}

/// Zero-padded bytes as text; bytes that are no text count as none.
fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    core::str::from_utf8(&bytes[..end]).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(image: &[u8], net: &Net, ipv4: u32, extra: &[u8]) -> String {
        let mut args = BootArgs::new();
        compose(&mut args, image, net, ipv4, extra).expect("fits");
        args.as_str().to_owned()
    }

    #[test]
    fn they_come_in_order() {
        let lan = Net::Static { address: 0x0a00_0210, prefix: 24, gateway: Some(0x0a00_0202) };
        let args = composed(b"workers=2\0\0", &lan, 0x0a00_0211, b"crime=hlt\0");
        assert_eq!(args, "workers=2 ip=10.0.2.17/24 gw=10.0.2.2 crime=hlt");
        assert_eq!(composed(b"\0", &Net::Dhcp, 0, b"\0"), "ip=dhcp");
        let alone = Net::Static { address: 0, prefix: 8, gateway: None };
        let address = u32::from(core::net::Ipv4Addr::new(255, 105, 0, 200));
        assert_eq!(composed(b"", &alone, address, b"\xff"), "ip=255.105.0.200/8");
    }

    #[test]
    fn too_long_is_said() {
        let fits = [b'x'; BOOT_ARGS_MAX - "ip=dhcp ".len()];
        assert_eq!(composed(&fits, &Net::Dhcp, 0, b"").len(), BOOT_ARGS_MAX);
        assert_eq!(compose(&mut BootArgs::new(), &fits, &Net::Dhcp, 0, b"y"), Err(TooLong));
        let all = [b'x'; BOOT_ARGS_MAX];
        assert_eq!(compose(&mut BootArgs::new(), &all, &Net::Dhcp, 0, b""), Err(TooLong));
    }
}
