//! What the component says that keeps the memory of VMs that are out.

use crate::board::Board;
use crate::component::EndpointId;
use crate::kernel::{Cpu, Kernel};
use abi::message::{BadMessage, Message};
use abi::swap::{SwapCommand, SwapEvent};
use backend::Backend;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Carry out a command of swap.
    ///
    /// # Errors
    /// What is no command.
    pub fn swap_command(&mut self, _: EndpointId, message: &Message) -> Result<(), BadMessage> {
        // It was asked for nothing, so there is nothing to answer.
        SwapCommand::try_from(message).map(|_| ())
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// First words to swap.
    pub(super) fn swap_hello(&mut self, to: EndpointId) {
        self.tell(to, &SwapEvent::Hello.into(), true);
    }
}
