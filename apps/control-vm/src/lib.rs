//! A guest that controls the machine: it lists components and VMs, creates VMs of an image one after the other, sees each of them run,
//! and destroys it. Its image has `control = true` in `system.toml`.
//!
//! Boot arguments: `image=NAME` (`httpd`), `times=N` (1), `pad=N`: so many bytes of boot arguments more for each VM. `bomb=N`: it creates so many VMs as fast as it can, destroys
//! them, and begins anew, without end.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use ilwaco::args::Args;
use ilwaco::control::{Control, Error, ImageId, Terms, VmId, VmState};
use ilwaco::println;
use ilwaco::time::{Duration, sleep};

/// How often a VM is looked at until it runs, and how long in between.
const LOOKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// Does what its boot arguments say. The code that the VM ends with: 0 when all went well, 2 where it does not control the machine.
pub async fn run() -> u64 {
    let args = Args::of_this_vm();
    let number = |key: &str, default| args.get(key).and_then(|value| value.parse().ok()).unwrap_or(default);
    let (image, times, pad) = (args.get("image").unwrap_or("httpd"), number("times", 1), number("pad", 0));
    let Some(mut control) = Control::open() else {
        println!("control-vm: this VM does not control the machine; its image needs control = true in system.toml");
        return 2;
    };
    let bomb = number("bomb", 0);
    let done = match bomb {
        0 => act(&mut control, image, times, pad).await,
        most => explode(&mut control, image, most).await,
    };
    match done {
        Ok(()) => {
            println!("control-vm: done");
            0
        }
        Err(error) => {
            println!("control-vm: {error}");
            1
        }
    }
}

async fn act(control: &mut Control, image: &str, times: usize, pad: usize) -> Result<(), Error> {
    for component in control.components().await? {
        println!("control-vm: component {} start {}", component.name, component.incarnation);
    }
    list(control).await?;
    let number = control.image(image).await?;
    for _ in 0..times {
        let vm = create(control, number, pad).await?;
        println!("control-vm: created {vm} of {image}");
        match runs(control, vm).await? {
            Some(state) => println!("control-vm: {vm} runs with {} frames", state.memory),
            None => println!("control-vm: {vm} does not come to run"),
        }
        control.destroy(vm).await?;
        println!("control-vm: destroyed {vm}");
    }
    list(control).await
}

/// Creates VMs until there are `most`, or there is no room for another one, destroys them all, and again.
async fn explode(control: &mut Control, image: &str, most: usize) -> Result<(), Error> {
    let number = control.image(image).await?;
    loop {
        let mut created = Vec::new();
        while created.len() < most {
            match create(control, number, 0).await {
                Ok(vm) => created.push(vm),
                Err(error) if created.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        for vm in created {
            control.destroy(vm).await?;
        }
    }
}

async fn list(control: &mut Control) -> Result<(), Error> {
    for state in control.vms().await? {
        println!("control-vm: {} of image {} in state {}", state.vm, state.image, state.state);
    }
    Ok(())
}

async fn create(control: &mut Control, image: ImageId, pad: usize) -> Result<VmId, Error> {
    let mut extra = vec![b'x'; pad];
    if let [a, b, ..] = &mut extra[..] {
        (*a, *b) = (b'p', b'=');
    }
    control.create(image, &extra, Terms::UNSAID).await
}

/// The VM as it is when it has run so far that it idles.
async fn runs(control: &mut Control, vm: VmId) -> Result<Option<VmState>, Error> {
    for _ in 0..LOOKS {
        let idles = |state: &VmState| state.vm == vm && state.state == ilwaco::control::IDLE;
        if let Some(state) = control.vms().await?.into_iter().find(idles) {
            return Ok(Some(state));
        }
        sleep(PAUSE).await;
    }
    Ok(None)
}
