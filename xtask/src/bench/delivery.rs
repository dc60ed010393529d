//! What Denali's virtual architecture gains by batched interrupts and by idles with timeouts: web servers that are all busy, and what a request takes of
//! the machine.
//!
//! Each machine is run twice, the second time for longer; the difference is of the requests that were more.

use super::load;
use super::mechanism::parse;
use super::plot::{self, Line};
use super::{Bench, Entry, Figure, Repeats, write};
use crate::error::{Result, fail};
use crate::machine::Kind;
use crate::test::lab::Lab;
use std::fmt::Write;

pub const BATCHING: Entry = Entry {
    name: "batching_gain_256",
    measures: "instructions for a request for 100 KB where each frame is told by itself, over those by default, 256 web servers",
    repeats: Repeats::Within(0.02),
    run: batching,
};
pub const IDLE: Entry = Entry {
    name: "idle_with_timeout_gain",
    measures: "time for a request for 100 KB where idles have no timeouts, over that where they have, 64 web servers",
    // A VM comes round in 640 ms, and what falls into its turn differs.
    repeats: Repeats::Within(0.25),
    run: idle,
};

pub const DOCUMENTS: Entry = Entry {
    name: "http_documents",
    measures: "instructions for each byte of a document of 1 MB, and for requests for documents of 100 bytes to that, one web server, eight clients",
    repeats: Repeats::Within(0.02),
    run: documents,
};

/// VMs of the curve, and of the figure.
const VMS: [u32; 6] = [1, 8, 64, 256, 512, 800];
const MANY: u32 = 256;
/// Memory in MiB.
const MEGS: u32 = 1024;

/// How a machine is asked.
struct Asked<'a> {
    /// The word of the plan, and the document.
    how: &'static str,
    document: &'static str,
    sched: &'static str,
    vms: u32,
    /// Clients of each VM.
    each: u32,
    /// Boot arguments of the servers.
    args: &'a str,
}

/// Ticks from the first request until all is done, and those of them that clients took.
struct Run {
    ticks: u64,
    own: u64,
}

fn once(lab: &Lab, asked: &Asked, times: u32) -> Result<Run> {
    let Asked { how, document, sched, vms, each, args } = asked;
    let options = format!("vms=httpd*{vms} sched={sched} slots=4096 net=10.0.2.16/16,gw=10.0.2.2");
    let boot = load::boot(lab, &options, &format!("{how}-{document}-{each}-{times}-{vms}"))?.megs(MEGS);
    let boot = boot.deterministic().system(|system| {
        for image in system.image.iter_mut().filter(|image| image.name == "httpd") {
            (*args).clone_into(&mut image.args);
            image.ports.clear();
        }
    });
    let running = boot.start()?;
    let line = load::outcomes(&running, 1)?.remove(0);
    let took = running.wait_for("load: ticks=", std::time::Duration::ZERO)?;
    for word in [" ended: ", " killed: "] {
        running.must_not_say(0, word)?;
    }
    running.power_off()?;
    if parse(&line, "served")? != u64::from(each * times * vms) {
        fail!("not all were served: {line}");
    }
    Ok(Run { ticks: parse(&took, "ticks")?, own: parse(&took, "own")? })
}

/// Ticks of the machine for a request, clients apart: as all servers have something to do all the time, these are instructions.
// Ticks of seconds are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn taken(lab: &Lab, asked: &Asked, (short, long): (u32, u32)) -> Result<f64> {
    let (less, more) = (once(lab, asked, short)?, once(lab, asked, long)?);
    let requests = f64::from(asked.vms * asked.each * (long - short));
    let of = |run: &Run| run.ticks as f64 - run.own as f64;
    Ok((of(&more) - of(&less)) / requests)
}

fn batching(bench: &Bench) -> Result<Vec<Figure>> {
    let (lab, mut notes) = (Lab::with(Kind::Qemu)?, String::new());
    let mut of = |how, sched, vms: u32| -> Result<f64> {
        // As many more requests, whatever the VMs.
        let times = (1, 1 + (512 / vms).max(2));
        let ticks = taken(&lab, &Asked { how, document: "100k", sched, vms, each: 1, args: "" }, times)?;
        // Writing to a string cannot fail.
        let _ = writeln!(notes, "    {vms} VMs, {how}, sched={sched}: {ticks:.0}");
        Ok(ticks)
    };
    if bench.long {
        let mut curves = [Vec::new(), Vec::new(), Vec::new()];
        for vms in VMS {
            for ((how, sched), curve) in
                [("ack", "fair"), ("ack", "round-robin"), ("one", "fair")].into_iter().zip(&mut curves)
            {
                curve.push(of(how, sched, vms)?);
            }
        }
        write(&format!("{}-curve.svg", BATCHING.name), &drawn(&curves))?;
    }
    let default = of("ack", "fair", MANY)?;
    let value = (of("one", "fair", MANY)? / default * 100.0).round() / 100.0;
    bench.note(notes);
    let conditions = format!(
        "QEMU, SVM, one CPU, TSC counts instructions (icount shift=0), 10^9 a second; {} httpd, {MEGS} MiB, a client each that asks for /100k again and again, a \
         connection per request, from clients that the demultiplexer holds and that acknowledge each second segment; the machine's time, in which it does not idle, without that of clients; each frame for a VM told by \
         itself, and the next one not for 2 us after it, over what is default (sched=fair, all frames that have come)",
        MANY
    );
    Ok(vec![Figure { metric: BATCHING.name, value, unit: "ratio", conditions }])
}

/// Instructions for a request by VMs, as shares of the most.
fn drawn(curves: &[Vec<f64>; 3]) -> String {
    let most = curves.iter().flatten().copied().fold(1.0, f64::max);
    let names = ["batched, wakers first", "batched, in turn", "one by one"];
    let line = |(name, curve): (&str, &Vec<f64>)| Line {
        name: name.to_owned(),
        heights: curve.iter().map(|value| Some(value / most)).collect(),
    };
    let lines: Vec<Line> = names.into_iter().zip(curves).map(line).collect();
    let places = VMS.map(|vms| vms.to_string());
    let title = format!("instructions for a request for 100 KB by VMs; 1.0 is {most:.0}");
    plot::lines(&title, &places, VMS.len(), &lines)
}

/// Servers that idle with timeouts, without, and never.
const SERVERS: u32 = 64;
const CLIENTS: u32 = 4;

fn idle(bench: &Bench) -> Result<Vec<Figure>> {
    let (lab, mut notes) = (Lab::with(Kind::Qemu)?, String::new());
    let mut of = |how, args, times| -> Result<f64> {
        let asked = Asked { how, document: "100k", sched: "fair", vms: SERVERS, each: CLIENTS, args };
        let taken = taken(&lab, &asked, times)?;
        // Writing to a string cannot fail.
        let _ = writeln!(notes, "    {how} idle={args}: {:.0} ticks, {:.0} requests in a second", taken, 1e9 / taken);
        Ok(taken)
    };
    let with = of("far", "idle=timed", (2, 12))?;
    // Whose VMs come round in 640 ms.
    let without = of("far", "idle=untimed", (2, 5))?;
    if bench.long {
        of("far", "idle=spin", (2, 5))?;
        for args in ["idle=timed", "idle=untimed"] {
            of("get", args, (2, 6))?;
        }
    }
    bench.note(notes);
    let conditions = format!(
        "QEMU, SVM, one CPU, TSC counts instructions (icount shift=0), 10^9 a second; sched=fair; quantum=10ms; {SERVERS} httpd, {MEGS} MiB, {CLIENTS} clients each that ask \
         for /100k again and again, a connection per request, from clients that the demultiplexer holds, whose words take a millisecond; time of the machine \
         without that of clients; idle=untimed over idle=timed"
    );
    let value = (without / with * 100.0).round() / 100.0;
    Ok(vec![Figure { metric: IDLE.name, value, unit: "ratio", conditions }])
}

/// Documents with their bytes.
const SIZES: [(&str, u32); 6] =
    [("100b", 100), ("2258b", 2_258), ("10k", 10_240), ("50k", 51_200), ("100k", 102_400), ("1000k", 1_024_000)];
const AT_ONCE: u32 = 8;

fn documents(bench: &Bench) -> Result<Vec<Figure>> {
    let (lab, mut notes, mut per_byte) = (Lab::with(Kind::Qemu)?, String::new(), Vec::new());
    for (document, bytes) in SIZES {
        // As many bytes for all, if not too many.
        let times = (1, 1 + (102_400 / bytes).clamp(2, 50));
        let asked = Asked { how: "get", document, sched: "fair", vms: 1, each: AT_ONCE, args: "" };
        let busy = taken(&lab, &asked, times)?;
        let of_byte = busy / f64::from(bytes);
        // Writing to a string cannot fail.
        let _ = writeln!(
            notes,
            "    {document}: {busy:.0} instructions, {of_byte:.2} a byte, {:.0} Mbit/s at 10^9 a second",
            8_000.0 / of_byte
        );
        per_byte.push(of_byte);
    }
    bench.note(notes);
    let least = per_byte.iter().copied().fold(f64::INFINITY, f64::min);
    let line = Line {
        name: "least over a byte's".to_owned(),
        heights: per_byte.iter().map(|of_byte| Some(least / of_byte)).collect(),
    };
    let places = SIZES.map(|(document, _)| document.to_owned());
    let title = format!("bytes for an instruction by document; 1.0 is {:.2}", 1.0 / least);
    write(&format!("{}-curve.svg", DOCUMENTS.name), &plot::lines(&title, &places, SIZES.len(), &[line]))?;
    let value = per_byte.last().map_or(0.0, |last| (last * 100.0).round() / 100.0);
    let conditions = format!(
        "QEMU, SVM, one CPU, TSC counts instructions (icount shift=0), 10^9 a second; sched=fair; 1 httpd, {AT_ONCE} clients that ask for /1000k again and again, a \
         connection per request, from clients that the demultiplexer holds, whose wire takes no time and cuts segments; the machine's time, in which it does not idle, without that of clients"
    );
    Ok(vec![Figure { metric: "http_1mb_per_byte", value, unit: "instructions/byte", conditions }])
}
