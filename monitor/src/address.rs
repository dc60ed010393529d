//! The word of `identity` that says where the VM is from then on: `addr=`.

use crate::arguments::Arguments;
use crate::command::Mistake;
use abi::control::CREATE_ARGS_BYTES;
use core::net::Ipv4Addr;

/// Takes the address out of what stands behind the slot, 0 without one; the rest is boot arguments, zero-padded. Of two
/// addresses the last counts.
///
/// # Errors
///
/// [`Mistake::Address`], or that the boot arguments do not fit.
pub fn split_off(text: &str) -> Result<(u32, [u8; CREATE_ARGS_BYTES]), Mistake> {
    let mut ipv4 = 0;
    let mut args = Arguments::new();
    for piece in text.split_inclusive(' ') {
        match piece.trim_matches(' ').split_once('=') {
            Some(("addr", value)) => ipv4 = address(value).ok_or(Mistake::Address)?,
            _ => args.push(piece)?,
        }
    }
    Ok((ipv4, args.finish()))
}

fn address(value: &str) -> Option<u32> {
    let address: Ipv4Addr = value.parse().ok()?;
    let a_host = !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast();
    a_host.then(|| address.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_taken_out_and_the_rest_stays() {
        let mut args = [0; CREATE_ARGS_BYTES];
        assert_eq!(split_off(""), Ok((0, args)));
        assert_eq!(split_off("addr=10.0.2.77"), Ok((0x0a00_024d, args)));
        args[..7].copy_from_slice(b"a=1 b=2");
        assert_eq!(split_off("a=1 addr=10.0.2.77 b=2"), Ok((0x0a00_024d, args)));
        assert_eq!(split_off("addr=1.2.3.4 a=1 b=2 addr=10.0.2.77 "), Ok((0x0a00_024d, args)));
    }

    #[test]
    fn what_is_no_hosts_address_is_refused() {
        for text in
            ["addr=", "addr=10.0.2", "addr=10.0.2.256", "addr=0.0.0.0", "addr=224.0.0.1", "addr=255.255.255.255"]
        {
            assert_eq!(split_off(text), Err(Mistake::Address), "{text}");
        }
        assert_eq!(split_off(&"x".repeat(CREATE_ARGS_BYTES + 1)), Err(Mistake::LongArguments));
    }
}
