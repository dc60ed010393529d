//! The machine as the supervisor sees it: one control ring that all who ask share, and the names of VMs.

use crate::chain::Audit;
use crate::clock::Clock;
use crate::keep::Keep;
use crate::names::Names;
use crate::power::Power;
use crate::random::Source;
use crate::shown::shown;
use crate::tokens::Tokens;
use abi::control::{ControlReply, ControlRequest, vm_state};
use abi::vm::{ImageId, VmId};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use ilwaco::control::{Control, DiskReply, DiskRequest, Error, answers, answers_since};
use ilwaco::sync::{Mutex, MutexGuard};
use ilwaco::task::yield_now;
use ilwaco::time::Instant;

/// Images that are named where one is asked for that there is not.
const KNOWN: usize = 24;
/// Questions to the core after which others come to their turn.
const TURN: u32 = 16;

/// What is asked and told about.
pub struct Node {
    control: Mutex<Control>,
    /// How often it was asked for.
    turns: Cell<u32>,
    /// Held by who waits for the disk component, which the core lets this VM ask one thing at a time.
    disks: Mutex<()>,
    /// Held by who makes or removes virtual disks, so that no two take the rest of one quota.
    pub makes: Mutex<()>,
    /// Held by who compares what all VMs have taken, for which one at a time takes memory.
    pub samples: Mutex<()>,
    /// Bytes of memory that are kept for answers ([`crate::room`]).
    pub rooms: Cell<usize>,
    /// The VMs that have names. Nobody holds it across an await.
    pub names: RefCell<Names>,
    /// Who has done what. Nobody holds it across an await.
    pub audit: RefCell<Audit>,
    /// Who may change things over HTTP. Nobody holds it across an await.
    pub tokens: RefCell<Tokens>,
    /// Where keys and tokens come from. Nobody holds it across an await.
    pub random: RefCell<Source>,
    /// Images, by their numbers, as they were when the core was last asked. Nobody holds it across an await.
    pub images: RefCell<Vec<Image>>,
    /// What is known of the machine's clock. Nobody holds it across an await.
    pub clock: RefCell<Clock>,
    /// Whether somebody is sending an image: one at a time, for each takes memory as long as it comes.
    pub receives: Cell<bool>,
    /// Held by who gives the core an image, or takes one from it: the core takes one at a time.
    pub sends: Mutex<()>,
    /// Programs that are at consoles. Nobody holds it across an await.
    pub visits: RefCell<BTreeMap<(String, u64), Instant>>,
    /// Whether the machine is to be powered off.
    pub power: Power,
    /// What outlives this VM.
    pub keep: Keep,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its name; empty for a number that no image has.
    pub name: String,
    /// Bytes of memory that a VM of it has.
    pub memory_bytes: u64,
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
    /// Frames that it may hold, 0 where that is not known yet.
    pub limit: u32,
    /// Its address, 0 where DHCP gives it one.
    pub ipv4: u32,
}

impl Vm {
    /// The word for its state.
    pub fn state_word(&self) -> &'static str {
        abi::words::state_word(self.state)
    }

    /// As the core describes it.
    ///
    /// # Errors
    ///
    /// [`Error::Answer`] for another answer.
    pub fn of(reply: ControlReply) -> Result<Vm, Error> {
        let ControlReply::Vm { vm, image, state, ran_ticks, memory, metadata, tables, ipv4, claim, .. } = reply else {
            return Err(Error::Answer);
        };
        let frames = [memory, metadata, tables].map(u64::from).iter().sum();
        Ok(Vm { id: vm, image, state, ran_ticks, frames, limit: claim.limit, ipv4 })
    }
}

impl Node {
    /// The machine behind a control ring.
    ///
    /// # Errors
    ///
    /// As [`Control::ask`].
    pub async fn new(control: Control) -> Result<Node, Error> {
        let node = Node {
            control: Mutex::new(control),
            turns: Cell::new(0),
            disks: Mutex::new(()),
            makes: Mutex::new(()),
            samples: Mutex::new(()),
            rooms: Cell::new(0),
            names: RefCell::default(),
            audit: RefCell::default(),
            tokens: RefCell::default(),
            random: RefCell::default(),
            images: RefCell::default(),
            clock: RefCell::default(),
            receives: Cell::new(false),
            sends: Mutex::new(()),
            visits: RefCell::default(),
            power: Power::default(),
            keep: Keep::default(),
        };
        node.look_at_images().await?;
        Ok(node)
    }

    /// Asks the core which images there are: others may have sent some, or removed some.
    ///
    /// # Errors
    ///
    /// As [`Control::ask`].
    pub async fn look_at_images(&self) -> Result<(), Error> {
        let mut images = Vec::new();
        for number in 0.. {
            match self.ask(ControlRequest::Image { image: ImageId::new(number) }, drop).await? {
                ControlReply::Image { name, memory_bytes, .. } => {
                    images.push(Image { name: name.as_str().to_string(), memory_bytes });
                }
                _ => break,
            }
        }
        self.images.replace(images);
        Ok(())
    }

    /// The control ring, for one who asks; others wait for it. What somebody has asked who did not wait for the answer is answered by then, so that nothing is
    /// written into the request page beside what is asked next.
    pub async fn control(&self) -> MutexGuard<'_, Control> {
        // The core mostly answers at once, so who asks for each of many VMs would never wait for anything, and everybody else for him.
        self.turns.set(self.turns.get().wrapping_add(1));
        if self.turns.get().is_multiple_of(TURN) {
            yield_now().await;
        }
        let mut control = self.control.lock().await;
        control.settle().await;
        control
    }

    /// An image's name.
    pub fn image_name(&self, image: ImageId) -> String {
        name_of(&self.images.borrow(), image).to_string()
    }

    /// The image of this name, and what is known of it.
    pub fn image(&self, name: &str) -> Option<(ImageId, Image)> {
        let images = self.images.borrow();
        let at = images.iter().position(|image| image.name == name && !name.is_empty())?;
        Some((ImageId::new(u32::try_from(at).ok()?), images[at].clone()))
    }

    /// An image that the core holds, or that is kept: its number where the core holds it, and bytes of memory that a VM of it has.
    pub fn knows_image(&self, name: &str) -> Option<(Option<ImageId>, u64)> {
        if let Some((id, image)) = self.image(name) {
            return Some((Some(id), image.memory_bytes));
        }
        self.keep.library.borrow().get(name).map(|kept| (None, kept.memory_bytes))
    }

    /// Why there is no image of a name.
    pub fn no_image(&self, name: &str) -> String {
        let (images, library) = (self.images.borrow(), self.keep.library.borrow());
        let held = images.iter().map(|image| image.name.as_str()).filter(|name| !name.is_empty());
        let others = library.iter().map(|(name, _)| name).filter(|name| self.image(name).is_none());
        let known: Vec<&str> = held.chain(others).collect();
        let more = known.len().saturating_sub(KNOWN);
        let known = known.get(..KNOWN).unwrap_or(&known).join(", ");
        let more = if more > 0 { format!(" and {more} more, as `image list` shows") } else { String::new() };
        format!("there is no image `{}`: known are {known}{more}", shown(name))
    }

    /// Asks, and gives all answers but the last to `each`. The last one.
    ///
    /// # Errors
    ///
    /// As [`Control::ask`].
    pub async fn ask(&self, request: ControlRequest, each: impl FnMut(ControlReply)) -> Result<ControlReply, Error> {
        self.control().await.ask(request, each).await
    }

    /// Asks several things that the core answers at once: the answers in their order.
    ///
    /// # Errors
    ///
    /// As [`Control::ask`].
    pub async fn ask_each(&self, requests: &[ControlRequest]) -> Result<Vec<ControlReply>, Error> {
        self.control().await.ask_each(requests).await
    }

    /// Which of these still live: of each whether it does.
    ///
    /// # Errors
    ///
    /// As [`Control::ask`].
    pub async fn live(&self, ids: &[VmId]) -> Result<Vec<bool>, Error> {
        let requests: Vec<_> = ids.iter().map(|id| ControlRequest::Vm { slot: id.slot }).collect();
        let replies = self.ask_each(&requests).await?;
        let lives = |(id, reply): (&VmId, &ControlReply)| matches!(*reply, ControlReply::Vm { vm, state, .. } if vm == *id && state != vm_state::ENDING);
        Ok(ids.iter().zip(&replies).map(lives).collect())
    }

    /// Asks the disk component. However long that takes, the control ring is free for others.
    ///
    /// # Errors
    ///
    /// As [`Control::ask_disks`] and [`Control::answer_of_disks`].
    pub async fn ask_disks(&self, request: DiskRequest) -> Result<DiskReply, Error> {
        let _turn = self.disks.lock().await;
        let question = self.control().await.ask_disks(request)?;
        loop {
            let seen = answers();
            if let Some(reply) = self.control().await.answer_of_disks(&question)? {
                return Ok(reply);
            }
            answers_since(seen).await;
        }
    }
}

/// The name of an image among these.
pub fn name_of(images: &[Image], image: ImageId) -> &str {
    let known = usize::try_from(image.number()).ok().and_then(|at| images.get(at));
    known.filter(|image| !image.name.is_empty()).map_or("?", |image| &image.name)
}

/// A VM, if it still lives.
///
/// # Errors
///
/// As [`Control::ask`].
pub async fn living(control: &mut Control, id: VmId) -> Result<Option<Vm>, Error> {
    Ok(found(control, id).await?.filter(|vm| vm.state != vm_state::ENDING))
}

/// A VM, if there still is such a one, perhaps one that is being taken apart.
///
/// # Errors
///
/// As [`Control::ask`].
pub async fn found(control: &mut Control, id: VmId) -> Result<Option<Vm>, Error> {
    match control.ask(ControlRequest::Vm { slot: id.slot }, drop).await? {
        ControlReply::Done { .. } => Ok(None),
        reply => Ok(Some(Vm::of(reply)?).filter(|vm| vm.id == id)),
    }
}
