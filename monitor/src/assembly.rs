//! The steps of `create` and `identity` in which a VM is put together ([`crate::composition`]).

use crate::command::Command;
use crate::composition::{IMAGE_ARGS, Unfit, VM_DISK, Who};
use crate::host::Host;
use crate::session::{Outcome, Session};
use abi::control::ControlRequest;
use abi::manifest::IMAGE_ARGS_BYTES;
use abi::vm::ImageId;

impl Session {
    /// The question for the network, before a VM is put together. `None` when there is no such image, and the command has ended.
    pub(crate) fn network_request(&mut self, command: Command, host: &mut impl Host) -> Option<ControlRequest> {
        if let Command::Create(image, terms) = command {
            let Some(index) = self.images.iter().position(|&name| name == image) else {
                host.print(format_args!("error create: no image {image}; \"images\" lists them"));
                self.finish();
                return None;
            };
            self.composition.image = ImageId::new(u32::try_from(index).ok()?);
            self.composition.who = Who::New(terms);
        }
        Some(ControlRequest::Network)
    }

    /// Put the VM together from all that is known now, and ask the core for it.
    pub(crate) fn compose(&mut self, command: Command, host: &mut impl Host) -> Outcome {
        let mut of_image = [0; IMAGE_ARGS_BYTES];
        host.read_page(IMAGE_ARGS, &mut of_image);
        let word = command.word();
        if let Who::New(terms) = self.composition.who {
            host.write_page(VM_DISK, &terms.disk.to_bytes());
        }
        match self.composition.request(&of_image) {
            Ok((request, at, bytes)) => {
                host.write_page(at, bytes);
                self.last(request, host)
            }
            Err(Unfit::TooLong(why)) => {
                host.print(format_args!("error {word}: {why}"));
                Outcome::Failed
            }
            Err(Unfit::AddressFromDhcp) => {
                host.print(format_args!("error {word}: addresses come from DHCP on this machine; leave addr= out"));
                Outcome::Failed
            }
        }
    }
}
