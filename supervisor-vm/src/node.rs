//! The machine as the supervisor sees it: one control ring that all who ask share, and the names of VMs.

use crate::names::Names;
use abi::control::{ControlReply, ControlRequest, status, vm_state};
use abi::vm::{ImageId, Slot, VmId};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use ilwaco::control::{Control, Error};
use ilwaco::sync::{Mutex, MutexGuard};

/// What is asked and told about.
pub struct Node {
    control: Mutex<Control>,
    /// The VMs that have names. Nobody holds it across an await.
    pub names: RefCell<Names>,
    /// The names of images, by their numbers. There are no others as long as the machine is up.
    pub images: Vec<String>,
}

/// A VM as the core describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Its id.
    pub id: VmId,
    /// Its image.
    pub image: ImageId,
    /// One of [`vm_state`].
    pub state: u16,
    /// Ticks that it ran.
    pub ran_ticks: u64,
    /// Frames that are its own, with page tables and metadata.
    pub frames: u64,
    /// Its address, 0 where DHCP gives it one.
    pub ipv4: u32,
}

impl Vm {
    /// The word for its state.
    pub fn state_word(&self) -> &'static str {
        match self.state {
            vm_state::WAITING => "waiting",
            vm_state::READY => "ready",
            vm_state::IDLE => "idle",
            vm_state::FAULT => "fault",
            vm_state::ENDING => "ending",
            vm_state::OUT => "out",
            vm_state::LEAVING => "leaving",
            vm_state::COMING => "coming",
            vm_state::POOLED => "pooled",
            _ => "unknown",
        }
    }

    fn of(reply: ControlReply) -> Result<Vm, Error> {
        let ControlReply::Vm { vm, image, state, ran_ticks, memory, metadata, tables, ipv4, .. } = reply else {
            return Err(Error::Answer);
        };
        let frames = [memory, metadata, tables].map(u64::from).iter().sum();
        Ok(Vm { id: vm, image, state, ran_ticks, frames, ipv4 })
    }
}

impl Node {
    /// The machine behind a control ring.
    ///
    /// # Errors
    ///
    /// As [`Control::ask`].
    pub async fn new(mut control: Control) -> Result<Node, Error> {
        let mut images = Vec::new();
        for number in 0.. {
            match control.ask(ControlRequest::Image { image: ImageId::new(number) }, drop).await? {
                ControlReply::Image { name, .. } => images.push(name.as_str().to_string()),
                _ => break,
            }
        }
        Ok(Node { control: Mutex::new(control), names: RefCell::default(), images })
    }

    /// The control ring, for one who asks; others wait for it.
    pub async fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().await
    }

    /// An image's name.
    pub fn image_name(&self, image: ImageId) -> &str {
        usize::try_from(image.number()).ok().and_then(|at| self.images.get(at)).map_or("?", String::as_str)
    }

    /// The image of this name.
    pub fn image(&self, name: &str) -> Option<ImageId> {
        let at = self.images.iter().position(|image| image == name)?;
        u32::try_from(at).ok().map(ImageId::new)
    }

    /// All VMs that live.
    ///
    /// # Errors
    ///
    /// As [`Control::ask`].
    pub async fn vms(&self) -> Result<Vec<Vm>, Error> {
        let mut found = Vec::new();
        let mut from = 0;
        loop {
            // Others may ask in between: who has many VMs keeps nobody waiting.
            let reply = self.control().await.ask(ControlRequest::NextVm { slot: Slot::new(from) }, drop).await?;
            let next = match reply {
                ControlReply::Done { status: status::GO_ON, value } => u32::try_from(value).unwrap_or(0),
                ControlReply::Done { .. } => return Ok(found),
                reply => {
                    let vm = Vm::of(reply)?;
                    found.push(vm);
                    vm.id.slot.number().saturating_add(1)
                }
            };
            if next <= from {
                return Err(Error::Answer);
            }
            from = next;
        }
    }

    /// Asks, and gives all answers but the last to `each`. The last one.
    ///
    /// # Errors
    ///
    /// As [`Control::ask`].
    pub async fn ask(&self, request: ControlRequest, each: impl FnMut(ControlReply)) -> Result<ControlReply, Error> {
        self.control().await.ask(request, each).await
    }
}

/// A VM, if it still lives.
///
/// # Errors
///
/// As [`Control::ask`].
pub async fn living(control: &mut Control, id: VmId) -> Result<Option<Vm>, Error> {
    match control.ask(ControlRequest::Vm { slot: id.slot }, drop).await? {
        ControlReply::Done { .. } => Ok(None),
        reply => Ok(Some(Vm::of(reply)?).filter(|vm| vm.id == id && vm.state != vm_state::ENDING)),
    }
}
