//! The guest that measures. The boot argument `bench=NAME` says what; the result is a line on the console,
//! `bench: NAME median=… mean=… min=… max=… samples=…`.
#![no_std]
#![cfg_attr(target_os = "none", no_main)]

#[cfg(target_os = "none")]
mod guest {
    use abi::guest::{device, hypercall as number, pending};
    use abi::nic::MAX_FRAME;
    use abi::note::{KIND_GUEST, Note};
    use bench::guest::{
        Args, clear_pending, enable, exit, hypercall, print, receiver, sender, slot, touch, tsc, tsc_hz, yield_turn,
    };
    use bench::{Samples, parse_hex};
    use core::arch::naked_asm;
    use core::cell::UnsafeCell;

    #[unsafe(link_section = ".note.foraker")]
    #[used]
    static NOTE: Note = Note::new(KIND_GUEST);

    const STACK_BYTES: usize = 32 * 1024;

    #[repr(C, align(4096))]
    struct Stack(UnsafeCell<[u8; STACK_BYTES]>);

    // SAFETY: nobody looks at it but the CPU, through RSP.
    unsafe impl Sync for Stack {}

    #[unsafe(link_section = ".stack")]
    static STACK: Stack = Stack(UnsafeCell::new([0; STACK_BYTES]));

    /// The first instruction of this VM reads the time.
    #[unsafe(naked)]
    #[unsafe(no_mangle)]
    #[unsafe(link_section = ".text._start")]
    extern "sysv64" fn _start() -> ! {
        naked_asm!(
            "rdtsc",
            "shl rdx, 32",
            "lea rdi, [rdx + rax]",
            "lea rsp, [{stack} + {size}]",
            "xor ebp, ebp",
            "call {start}",
            "ud2",
            stack = sym STACK,
            size = const STACK_BYTES,
            start = sym start,
        )
    }

    extern "sysv64" fn start(entered: u64) -> ! {
        let args = Args::read();
        match args.get("bench") {
            Some("null_hypercall") => null_hypercall(),
            Some("vm_switch") => vm_switch(&args),
            Some("demand_zero_fault") => demand_zero_fault(),
            Some("vm_create") => vm_create(entered, &args),
            Some("stay") => stay(),
            Some("packet_rx") => packet_rx(),
            Some("nic") => nic(&args),
            Some("compute") => compute(),
            Some("work") => work(),
            Some("busy") => busy(&args),
            Some("alarms") if slot() == 0 => alarms(),
            Some("alarms") => compute(),
            Some(other) => print(format_args!("bench: {other}: there is no such measurement")),
            None => print(format_args!("bench: say what to measure with bench=NAME")),
        }
        exit(0)
    }

    /// Runs whenever it may, for those who look from outside who gets how much of the CPU.
    fn compute() -> ! {
        loop {
            core::hint::spin_loop();
        }
    }

    /// The same with instructions that emulators do not take for a wait, which QEMU's PAUSE is: it executes some hundred times as many of these in a second.
    fn work() -> ! {
        let mut number = 1_u64;
        loop {
            number = core::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005));
        }
    }

    /// Computes for `run=` microseconds of its own time and idles for `idle=`, again and again.
    fn busy(args: &Args) -> ! {
        /// Steps of the work that is measured.
        const STEPS: u64 = 1_000;
        let microseconds = |key| args.get(key).and_then(|text| text.parse::<u64>().ok()).unwrap_or(1_000);
        let hz = tsc_hz().max(1);
        let (run, idle) = (microseconds("run") * hz / 1_000_000, microseconds("idle") * hz / 1_000_000);
        let compute = |steps| {
            let mut number = 1_u64;
            for _ in 0..steps {
                number = core::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005));
            }
        };
        // The least: others may have run in between.
        let took = |_| {
            let before = tsc();
            compute(STEPS);
            tsc() - before
        };
        let ticks = (0..32).map(took).min().unwrap_or(STEPS).max(1);
        loop {
            compute(run * STEPS / ticks);
            hypercall(number::IDLE, tsc() + idle);
        }
    }

    /// How late the ends of idles come, in the first slot, beside others that compute.
    fn alarms() {
        let (samples, microsecond) = (samples(), (tsc_hz() / 1_000_000).max(1));
        // The others have begun by then.
        hypercall(number::IDLE, tsc() + 300_000 * microsecond);
        let mut random = 1_u64;
        for _ in 0..400 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let due = tsc() + (1_000 + (random >> 33) % 19_000) * microsecond;
            while tsc() < due {
                hypercall(number::IDLE, due);
            }
            samples.push((tsc() - due) / microsecond);
        }
        if let (Some(p50), Some(p99), Some(most)) =
            (samples.quantile(500), samples.quantile(990), samples.quantile(1000))
        {
            print(format_args!("bench: alarms p50={p50} p99={p99} most={most} samples={}", samples.len()));
        }
    }

    /// Samples lie here and not on the stack, so that all measurements find it as deep.
    struct Table(UnsafeCell<Samples<1024>>);

    // SAFETY: one CPU, one thread, and `samples` is called once by each measurement, of which there is one in a VM.
    unsafe impl Sync for Table {}

    static TABLE: Table = Table(UnsafeCell::new(Samples::new()));

    /// The table, every page of which is there.
    fn samples() -> &'static mut Samples<1024> {
        // SAFETY: see `Table`.
        let samples = unsafe { &mut *TABLE.0.get() };
        for _ in 0..1024 {
            samples.push(0);
        }
        samples.clear();
        samples
    }

    fn report(name: &str, samples: &mut Samples<1024>, more: &str) {
        match samples.figures() {
            Some(figures) => print(format_args!("bench: {name} {figures}{more}")),
            None => print(format_args!("bench: {name}: no samples")),
        }
    }

    /// What two readings of the time cost by themselves.
    fn reading() -> u64 {
        let mut least = u64::MAX;
        for _ in 0..64 {
            let before = tsc();
            least = least.min(tsc() - before);
        }
        least
    }

    /// To the core and back: the hypercall that does nothing, from the instruction before to the one behind.
    fn null_hypercall() {
        let (samples, reading) = (samples(), reading());
        for _ in 0..64 {
            hypercall(number::NOP, 0);
        }
        for _ in 0..1_000 {
            let before = tsc();
            hypercall(number::NOP, 0);
            samples.push((tsc() - before).saturating_sub(reading));
        }
        report("null_hypercall", samples, "");
    }

    /// From VM to VM: two of these, or more, give their turns up to each other; half a round is a switch. `warm-up=` and `rounds=`: that many.
    fn vm_switch(args: &Args) {
        let samples = samples();
        let number = |key, usual| args.get(key).and_then(|text| text.parse::<u32>().ok()).unwrap_or(usual);
        let (warm_up, rounds) = (number("warm-up", 5_000), number("rounds", 1_000));
        // The others are being created meanwhile, and end when this one still goes on.
        for _ in 0..warm_up {
            yield_turn();
        }
        for _ in 0..rounds {
            let before = tsc();
            yield_turn();
            samples.push(tsc() - before);
        }
        for _ in 0..warm_up {
            yield_turn();
        }
        report("vm_switch_round", samples, "");
    }

    /// First touch of pages that the image does not hold. The core zeroes each with 512 stores, which count one by one.
    fn demand_zero_fault() {
        const PAGES: u64 = 256;
        let (samples, reading) = (samples(), reading());
        let first = 8 << 20;
        for page in 0..PAGES + 8 {
            let before = tsc();
            // SAFETY: nothing of this program lies there.
            unsafe { touch(first + page * abi::limits::PAGE_SIZE) };
            let cost = (tsc() - before).saturating_sub(reading);
            if page >= 8 {
                samples.push(cost);
            }
        }
        report("demand_zero_fault", samples, " zeroing=512");
    }

    /// `bench-create` says in the boot arguments when it asked for this VM.
    fn vm_create(entered: u64, args: &Args) {
        match args.get("t0").and_then(parse_hex) {
            Some(asked) => print(format_args!("bench: vm_create instructions={}", entered.saturating_sub(asked))),
            None => print(format_args!("bench: vm_create: no t0= in the boot arguments")),
        }
    }

    /// Does nothing for ever: one of a crowd.
    fn stay() -> ! {
        loop {
            hypercall(number::IDLE, u64::MAX);
        }
    }

    /// Waits for frames, and says when each batch came to its handler and how many frames it held. `bench-burst` says when
    /// the demultiplexer began with it.
    fn packet_rx() {
        let Some(mut ring) = receiver() else {
            print(format_args!("bench: packet_rx: this VM has no NIC"));
            return;
        };
        enable(pending::NIC);
        print(format_args!("bench: packet_rx ready"));
        loop {
            while ring.prepare_wait() {
                hypercall(number::IDLE, u64::MAX);
                let handler = tsc();
                ring.cancel_wait();
                clear_pending();
                let mut batch = 0_u32;
                while let Ok(Some(_)) = ring.peek() {
                    batch += 1;
                    if ring.advance().is_err() {
                        break;
                    }
                }
                print(format_args!("bench: packet_rx handler={handler} batch={batch}"));
            }
            ring.cancel_wait();
            // Frames that came between the last look and the announcement belong to no batch.
            while let Ok(Some(_)) = ring.peek() {
                if ring.advance().is_err() {
                    break;
                }
            }
        }
    }

    /// Takes frames one by one, and with `answers=1` sends each back. `receives=` and `sends=` hypercalls are made for each frame beside, as a driver accesses the registers
    /// of a device that is emulated: with `by=core` they are answered at once, else each has the demultiplexer run, as a device's model in a component would.
    fn nic(args: &Args) {
        let (Some(mut ring), Some(mut out)) = (receiver(), sender()) else {
            print(format_args!("bench: nic: this VM has no NIC"));
            return;
        };
        let of = |key| args.get(key).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let (receives, sends, answers) = (of("receives"), of("sends"), of("answers") != 0);
        let by_core = args.get("by") == Some("core");
        let access = |times| {
            for _ in 0..times {
                if by_core {
                    hypercall(number::NOP, 0)
                } else {
                    hypercall(number::KICK, device::NIC)
                };
            }
        };
        enable(pending::NIC);
        print(format_args!("bench: nic ready"));
        let mut frame = [0_u8; MAX_FRAME];
        loop {
            while let Ok(Some(record)) = ring.peek() {
                access(receives);
                let bytes = frame.get_mut(..record.len).filter(|bytes| bytes.len() >= 34);
                let read = bytes.and_then(|bytes| ring.read(&record, 0, bytes).map(|()| bytes));
                if let Some(bytes) = read.filter(|_| answers) {
                    // Back to whom it is from: cards and addresses change places, and checksums stay.
                    let (to, from) = bytes.split_at_mut(6);
                    to.swap_with_slice(&mut from[..6]);
                    let (from, to) = bytes.split_at_mut(30);
                    from[26..].swap_with_slice(&mut to[..4]);
                    access(sends);
                    if out.push(bytes).is_ok() && out.consumer_waits() {
                        hypercall(number::KICK, device::NIC);
                    }
                }
                if ring.advance().is_err() {
                    break;
                }
            }
            if ring.prepare_wait() {
                hypercall(number::IDLE, u64::MAX);
                clear_pending();
            }
            ring.cancel_wait();
        }
    }

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo) -> ! {
        print(format_args!("{info}"));
        exit(101)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    panic!("this program is a guest: build it for x86_64-unknown-none and boot it in Foraker");
}
