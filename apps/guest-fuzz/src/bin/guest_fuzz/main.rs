//! Carries out what the library draws, step after step, and says how far it has come.
//!
//! Boot arguments: `seed=N`, `steps=N` (ends after so many), `trace=N` (says each step from that one on, before it is done).
//!
//! A step runs under page tables of its own, which map everything to itself and let it write only the register page, the NIC's pages
//! and pages that nothing lies in; so what it does to its own VM it does to what the core and others read, and the guest goes on.
//! A fault ends the step, and so does the alarm when it finds one running. What the steps get through all the same ends the VM; whoever looks
//! on from outside starts another one with the next seed.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod step;
#[cfg(target_os = "none")]
mod world;

#[cfg(target_os = "none")]
mod guest {
    use super::console::{argument, say};
    use super::machine::{STACK, STACK_BYTES, exit};
    use super::step::Steps;
    use abi::note::{KIND_GUEST, Note};
    use core::arch::naked_asm;
    use guest_fuzz::Noise;
    use guest_fuzz::act::{Act, CLASSES};
    use guest_fuzz::counts::Counts;

    #[unsafe(link_section = ".note.foraker")]
    #[used]
    static NOTE: Note = Note::new(KIND_GUEST);

    /// Steps between two lines on the console.
    const SAID_EVERY: u64 = 256;

    #[unsafe(naked)]
    #[unsafe(no_mangle)]
    #[unsafe(link_section = ".text._start")]
    extern "sysv64" fn _start() -> ! {
        naked_asm!(
            "lea rsp, [{stack} + {size}]",
            "xor ebp, ebp",
            "call {start}",
            "ud2",
            stack = sym STACK,
            size = const STACK_BYTES,
            start = sym start,
        )
    }

    extern "sysv64" fn start() -> ! {
        let seed = argument("seed").unwrap_or(1);
        let steps = argument("steps").unwrap_or(u64::MAX);
        let trace = argument("trace").unwrap_or(u64::MAX);
        let Some(mut world) = Steps::new() else {
            say(format_args!("guest-fuzz: nobody has put instructions into this image"));
            exit(2);
        };
        let mut noise = Noise::new(seed);
        let mut counts = Counts::default();
        say(format_args!("guest-fuzz: seed={seed} {counts} faults=0 alarms=0"));
        for step in 0..steps {
            let act = Act::draw(&mut noise, world.places());
            if step >= trace {
                say(format_args!("guest-fuzz: step {step}: {act:x?}"));
                world.pause();
            }
            world.take(&act);
            if let Some(index) = CLASSES.iter().position(|(class, _)| *class == act.class()) {
                counts.0[index] += 1;
            }
            if (step + 1).is_multiple_of(SAID_EVERY) || step + 1 == steps {
                let (faults, alarms) = (world.faults, world.alarms);
                say(format_args!("guest-fuzz: seed={seed} {counts} faults={faults} alarms={alarms}"));
            }
        }
        exit(0)
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        exit(4)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    panic!("this program is a guest: build it for x86_64-unknown-none and boot it in Foraker");
}
