//! What a VM takes of the tables of the core and of each component: for its slot, for its seat, and for a seat where VMs can go out.
//!
//! What each component asks for stands in its program's note; what the core and all of them take a machine says. Both have to come to the same.

use super::mechanism::parse;
use super::{Bench, Entry, Figure, Repeats};
use crate::error::{Context, Result, fail};
use crate::test::lab::Lab;
use abi::note::{NOTE_NAME, TABLES_TYPE, TableBytes, TablesNote};
use object::{Object as _, ObjectSection as _};
use std::fmt::Write;
use zerocopy::FromBytes;

pub const ENTRY: Entry = Entry {
    name: "seat_bytes",
    measures: "tables of core and components for a VM that is in, and the part of each of them for a slot and for a seat",
    repeats: Repeats::Exactly,
    run,
};

/// Slots and seats, as powers of two, of the machine that the others are compared with; and those of the one with more slots, and of the one with more seats.
const FEW: (u32, u32) = (16, 10);
const SLOTS: (u32, u32) = (20, 10);
const SEATS: (u32, u32) = (16, 15);
/// Memory of them, in MiB.
const MEMORY: u32 = 1024;
/// Bytes of a frame.
const FRAME: u64 = 4096;
/// How far what notes say may be from what the machine took, in per cent: tables are rounded up to frames, windows have page tables.
const APART: f64 = 3.0;

/// Frames of the core, and of components with their DMA memory.
struct Taken {
    core: u64,
    components: u64,
}

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let lab = bench.lab()?;
    let (few, slots, seats) = (taken(lab, FEW)?, taken(lab, SLOTS)?, taken(lab, SEATS)?);
    let core = (each(few.core, slots.core, FEW.0, SLOTS.0)?, each(few.core, seats.core, FEW.1, SEATS.1)?);
    let all = (
        each(few.components, slots.components, FEW.0, SLOTS.0)?,
        each(few.components, seats.components, FEW.1, SEATS.1)?,
    );
    let (mut notes, mut said) = (String::new(), (0, 0));
    let mut row = |what: &str, of_slot: &str, of_seat: &str, pooled: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(notes, "    {what:<24} {of_slot:>8} a slot {of_seat:>8} a seat {pooled:>8} where VMs go out");
    };
    row("core", &format!("{:.0}", core.0), &format!("{:.0}", core.1), "");
    for component in &lab.system.component {
        let mut tables = TableBytes::NONE;
        for policy in component.programs() {
            tables = tables.max(note_of(lab, &policy.module)?);
        }
        let of_seat = tables.per_seat + tables.keep_per_seat;
        row(
            &component.name,
            &tables.per_slot.to_string(),
            &of_seat.to_string(),
            &(of_seat + tables.pooled_per_seat).to_string(),
        );
        // The machine has no disk, and nobody goes out there.
        if !component.optional {
            said = (said.0 + tables.per_slot, said.1 + of_seat);
        }
    }
    row("those without a disk", &format!("{:.0}", all.0), &format!("{:.0}", all.1), "");
    bench.note(notes);
    for (what, said, took) in [("slot", said.0, all.0), ("seat", said.1, all.1)] {
        let said = f64::from(said);
        if (said - took).abs() * 100.0 > APART * took {
            fail!(
                "the components' notes say {said} bytes for a {what}, and the machine took {took:.1}: something is as large as their number and in no note"
            );
        }
    }
    let conditions = format!(
        "frames of core, components and their DMA memory at seats=2^{} less those at seats=2^{}, over the difference; slots=2^{}, {MEMORY} MiB, no disk, pool=0, the \
         default policies; a VM's own frames apart",
        SEATS.1, FEW.1, FEW.0
    );
    let value = ((core.1 + all.1) * 100.0).round() / 100.0;
    Ok(vec![Figure { metric: ENTRY.name, value, unit: "bytes", conditions }])
}

/// Bytes for each of what there are more of.
// Far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn each(few: u64, many: u64, from: u32, to: u32) -> Result<f64> {
    match many.checked_sub(few) {
        Some(more) => Ok((more * FRAME) as f64 / ((1_u64 << to) - (1 << from)) as f64),
        None => fail!("2^{to} of them take fewer frames than 2^{from}: {many} and {few}"),
    }
}

/// What a machine of this size takes without a VM.
fn taken(lab: &Lab, (slots, seats): (u32, u32)) -> Result<Taken> {
    let running = lab.boot(&format!("vms= slots=2^{slots} seats=2^{seats} pool=0")).megs(MEMORY).start()?;
    running.wait_for_monitor()?;
    let lines = running.monitor("frames")?;
    let of = |owner: &str| match lines.iter().find(|line| line.contains(&format!("owner={owner} "))) {
        Some(line) => parse(line, "frames"),
        None => fail!("`frames` names no owner {owner}: {lines:?}"),
    };
    let taken = Taken { core: of("core")?, components: of("components")? + of("dma")? };
    running.power_off()?;
    Ok(taken)
}

/// What the tables of a program take.
fn note_of(lab: &Lab, program: &str) -> Result<TableBytes> {
    let path = lab.program(program)?;
    let what = || format!("cannot read {}", path.display());
    let file = std::fs::read(path).context(what)?;
    let elf = object::File::parse(&*file).context(what)?;
    let Some(section) = elf.section_by_name(".note.foraker") else { fail!("{}: no note", path.display()) };
    Ok(tables_in(section.data().context(what)?))
}

/// The tables that a note asks for among these; none where there is no such note.
fn tables_in(mut notes: &[u8]) -> TableBytes {
    while let Ok((note, _)) = TablesNote::read_from_prefix(notes) {
        if (note.note_type, note.name, note.desc_size) == (TABLES_TYPE, NOTE_NAME, 16) {
            return note.tables;
        }
        // Name and contents begin at a multiple of four.
        let [name, contents] = [note.name_size, note.desc_size].map(|size| size.next_multiple_of(4) as usize);
        notes = notes.get(12 + name + contents..).unwrap_or_default();
    }
    TableBytes::NONE
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::note::{KIND_COMPONENT, Note};
    use zerocopy::IntoBytes as _;

    #[test]
    fn the_tables_of_a_program_stand_behind_its_first_note() {
        let tables = TableBytes { per_slot: 3, per_seat: 5, keep_per_seat: 7, pooled_per_seat: 9 };
        let (first, second) = (Note::new(KIND_COMPONENT), TablesNote::new(tables));
        let notes = [first.as_bytes(), second.as_bytes()].concat();
        assert_eq!(tables_in(&notes), tables);
        assert_eq!(tables_in(&notes[..notes.len() - 1]), TableBytes::NONE, "it is cut");
        assert_eq!(tables_in(first.as_bytes()), TableBytes::NONE);
    }

    #[test]
    fn a_part_is_what_more_of_them_take() {
        assert_eq!(each(100, 228, 10, 16).unwrap().to_bits(), (128.0 * 4096.0 / 64_512.0_f64).to_bits());
        assert!(each(2, 1, 10, 16).is_err());
    }
}
