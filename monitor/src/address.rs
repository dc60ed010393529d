//! The word of `identity` that says where the VM is from then on: `addr=`.

use crate::arguments::Arguments;
use crate::mistake::Mistake;
use core::net::Ipv4Addr;

/// Takes the address out of what stands behind the slot, 0 without one; the rest is boot arguments, which are put into `args`. Of
/// two addresses the last counts.
///
/// # Errors
///
/// [`Mistake::Address`], or that the boot arguments do not fit.
pub fn split_off(text: &str, args: &mut Arguments) -> Result<u32, Mistake> {
    let mut ipv4 = 0;
    args.clear();
    for piece in text.split_inclusive(' ') {
        match piece.trim_matches(' ').split_once('=') {
            Some(("addr", value)) => ipv4 = address(value).ok_or(Mistake::Address)?,
            _ => args.push(piece)?,
        }
    }
    Ok(ipv4)
}

fn address(value: &str) -> Option<u32> {
    let address: Ipv4Addr = value.parse().ok()?;
    let a_host = !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast();
    a_host.then(|| address.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Result<(u32, String), Mistake> {
        let mut args = Arguments::new();
        let ipv4 = split_off(text, &mut args)?;
        Ok((ipv4, String::from_utf8(args.as_bytes().to_vec()).expect("text")))
    }

    #[test]
    fn the_address_is_taken_out_and_the_rest_stays() {
        let found = |ipv4, args: &str| Ok((ipv4, args.to_owned()));
        assert_eq!(split(""), found(0, ""));
        assert_eq!(split("addr=10.0.2.77"), found(0x0a00_024d, ""));
        assert_eq!(split("a=1 addr=10.0.2.77 b=2"), found(0x0a00_024d, "a=1 b=2"));
        assert_eq!(split("addr=1.2.3.4 a=1 b=2 addr=10.0.2.77 "), found(0x0a00_024d, "a=1 b=2"));
    }

    #[test]
    fn what_is_no_hosts_address_is_refused() {
        for text in
            ["addr=", "addr=10.0.2", "addr=10.0.2.256", "addr=0.0.0.0", "addr=224.0.0.1", "addr=255.255.255.255"]
        {
            assert_eq!(split(text), Err(Mistake::Address), "{text}");
        }
        assert_eq!(split(&"x".repeat(abi::guest::BOOT_ARGS_MAX + 1)), Err(Mistake::LongArguments));
    }
}
