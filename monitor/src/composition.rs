//! What a VM is to be, from the operator's words, its image's boot arguments and the network, as they become known.

use crate::arguments::Arguments;
use abi::addresses::Net;
use abi::control::ControlRequest;
use abi::manifest::IMAGE_ARGS_BYTES;
use abi::request_page::Piece;
use abi::terms::Terms;
use abi::vm::{ImageId, Slot, VmId};
use boot_args::{BootArgs, TooLong, compose};

/// Where the image's boot arguments are put in the request page.
// Small numbers.
#[allow(clippy::cast_possible_truncation)]
pub const IMAGE_ARGS: Piece = Piece { offset: 0, len: IMAGE_ARGS_BYTES as u16 };
/// Where the VM's are.
const VM_ARGS_OFFSET: u16 = 1024;

/// Where its virtual disk is named.
// Small numbers.
#[allow(clippy::cast_possible_truncation)]
pub const VM_DISK: Piece = Piece { offset: 512, len: abi::attachment::BYTES as u16 };

/// Who the VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// One that is to be created.
    New(Terms),
    /// One that becomes somebody else, and its address.
    Other(VmId, u32),
}

/// A VM that is being put together.
#[derive(Debug)]
pub struct Composition {
    pub who: Who,
    pub image: ImageId,
    pub net: Net,
    /// Where a new one will be, as far as is known.
    pub slot: Slot,
    /// The operator's words.
    pub extra: Arguments,
    args: BootArgs,
    /// Nobody has the virtual disk that it is to have in a way that is in its way.
    pub judged: bool,
    /// How often it had to be put together anew because another one took its slot.
    pub moved: u32,
}

/// Why a VM cannot be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    TooLong(TooLong),
    /// It was given an address, and gets its own by DHCP.
    AddressFromDhcp,
}

impl Composition {
    /// Nothing is known yet.
    pub const fn new() -> Self {
        Composition {
            who: Who::New(Terms::UNSAID),
            image: ImageId::new(0),
            net: Net::Dhcp,
            slot: Slot::new(0),
            extra: Arguments::new(),
            args: BootArgs::new(),
            judged: false,
            moved: 0,
        }
    }

    /// The request that the core has to be asked, with what must be written into the request page before, and where.
    ///
    /// # Errors
    ///
    /// [`Unfit`].
    pub fn request(&mut self, of_image: &[u8]) -> Result<(ControlRequest, Piece, &[u8]), Unfit> {
        let ipv4 = match (self.who, self.net) {
            (Who::Other(_, address), Net::Dhcp) if address != 0 => return Err(Unfit::AddressFromDhcp),
            (Who::Other(_, address), _) => address,
            (Who::New(_), net) => net.address_of(self.slot),
        };
        compose(&mut self.args, of_image, &self.net, ipv4, self.extra.as_bytes()).map_err(Unfit::TooLong)?;
        let len = u16::try_from(self.args.len()).unwrap_or(u16::MAX);
        let args = Piece { offset: VM_ARGS_OFFSET, len };
        let request = match self.who {
            Who::New(Terms { share, claim, tenant, disk }) => {
                // With DHCP any slot will do.
                let slot = matches!(self.net, Net::Static { .. }).then_some(self.slot);
                let disk = if disk == abi::attachment::Attachment::NONE { Piece::EMPTY } else { VM_DISK };
                ControlRequest::Create { image: self.image, slot, ipv4, args, share, claim, tenant, disk }
            }
            Who::Other(vm, _) => ControlRequest::Identity { vm, ipv4, args },
        };
        Ok((request, args, &self.args))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAN: Net = Net::Static { address: 0x0a00_0210, prefix: 24, gateway: None };

    #[test]
    fn a_new_vm_has_the_address_of_its_slot_where_addresses_go_by_slots() {
        let mut vm = Composition { net: LAN, slot: Slot::new(3), ..Composition::new() };
        vm.extra.push("a=b").expect("short");
        let (request, piece, bytes) = vm.request(b"n=1").expect("fits");
        assert_eq!((piece.offset, bytes), (1024, &b"n=1 ip=10.0.2.19/24 a=b"[..]));
        let (image, Terms { share, claim, tenant, .. }) = (ImageId::new(0), Terms::UNSAID);
        let disk = Piece::EMPTY;
        let slot = Some(Slot::new(3));
        assert_eq!(
            request,
            ControlRequest::Create { image, slot, ipv4: 0x0a00_0213, args: piece, share, claim, tenant, disk }
        );
        vm.net = Net::Dhcp;
        let (request, args, bytes) = vm.request(b"").expect("fits");
        assert_eq!(
            (request, bytes),
            (
                ControlRequest::Create { image, slot: None, ipv4: 0, args, share, claim, tenant, disk },
                &b"ip=dhcp a=b"[..]
            )
        );
    }

    #[test]
    fn one_that_becomes_somebody_else_has_the_address_that_it_is_given() {
        let id = VmId::new(7, 1);
        let mut vm = Composition { who: Who::Other(id, 0x0a00_0263), net: LAN, ..Composition::new() };
        let (request, args, bytes) = vm.request(b"").expect("fits");
        assert_eq!(
            (request, bytes),
            (ControlRequest::Identity { vm: id, ipv4: 0x0a00_0263, args }, &b"ip=10.0.2.99/24"[..])
        );
        vm.net = Net::Dhcp;
        assert_eq!(vm.request(b""), Err(Unfit::AddressFromDhcp));
        vm.who = Who::Other(id, 0);
        assert!(vm.request(b"").is_ok());
    }

    #[test]
    fn the_image_and_the_operator_together_may_say_too_much() {
        let mut vm = Composition::new();
        vm.extra.push(&"x".repeat(1000)).expect("fits alone");
        assert_eq!(vm.request(&[b'y'; 128]), Err(Unfit::TooLong(TooLong { bytes: 1137 })));
        assert!(vm.request(b"").is_ok());
    }
}
