//! A program of the bare machine, as far as its stack is concerned: its functions, and what its constants say.

use crate::error::{Context, Result, fail};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where a function lies, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    pub name: String,
    /// Addresses: its first instruction, and the first behind it.
    pub start: u64,
    pub end: u64,
    /// A compiler wrote it.
    pub sized: bool,
}

/// Bytes of a section that is loaded, and where.
struct Part {
    start: u64,
    bytes: Vec<u8>,
    text: bool,
    /// Nothing writes it: what it says is what it says at run time.
    constant: bool,
}

/// A linked program.
pub struct Program {
    /// By their first addresses.
    pub functions: BTreeMap<u64, Symbol>,
    /// What all symbols stand for, by name.
    values: BTreeMap<String, u64>,
    /// Functions whose address stands in a table or is taken by an instruction, so that an indirect call may go there.
    pub taken: BTreeSet<u64>,
    parts: Vec<Part>,
}

impl Program {
    /// Reads an ELF file with its symbols.
    pub fn read(path: &Path) -> Result<Program> {
        let what = || format!("cannot read {}", path.display());
        let file = std::fs::read(path).context(what)?;
        let elf = object::File::parse(&*file).context(what)?;
        let mut parts = Vec::new();
        for section in elf.sections() {
            let constant = match section.kind() {
                SectionKind::Text | SectionKind::ReadOnlyData | SectionKind::ReadOnlyString => true,
                SectionKind::Data => false,
                _ => continue,
            };
            let bytes = section.data().context(what)?.to_vec();
            parts.push(Part { start: section.address(), bytes, text: section.kind() == SectionKind::Text, constant });
        }
        let symbols: Vec<(String, u64, u64, bool)> = elf
            .symbols()
            .filter(|symbol| !symbol.is_undefined())
            .map(|symbol| {
                let name = format!("{:#}", rustc_demangle::demangle(symbol.name().unwrap_or_default()));
                (name, symbol.address(), symbol.size(), symbol.kind() == SymbolKind::Text)
            })
            .collect();
        if symbols.is_empty() {
            fail!("{} has no symbols", path.display());
        }
        Ok(Program::new(parts, symbols))
    }

    /// A program of one section of machine code, for tests.
    #[cfg(test)]
    pub fn of_code(start: u64, bytes: Vec<u8>, names: &[(&str, u64)]) -> Program {
        let symbols = names.iter().map(|&(name, at)| (name.to_owned(), at, 0, true)).collect();
        Program::new(vec![Part { start, bytes, text: true, constant: true }], symbols)
    }

    fn new(parts: Vec<Part>, symbols: Vec<(String, u64, u64, bool)>) -> Program {
        let mut program = Program {
            functions: BTreeMap::new(),
            values: symbols.iter().map(|(name, at, ..)| (name.clone(), *at)).collect(),
            taken: BTreeSet::new(),
            parts,
        };
        let mut starts: Vec<u64> = symbols.iter().map(|symbol| symbol.1).collect();
        starts.sort_unstable();
        for (name, start, size, _) in symbols {
            let Some(part) = program.parts.iter().find(|part| part.text && part.holds(start)) else { continue };
            // What is written in assembly has no size: it ends where the next symbol stands.
            let next = starts.iter().copied().find(|&at| at > start).unwrap_or(u64::MAX).min(part.end());
            let end = if size == 0 { next } else { start + size };
            let known = program.functions.get(&start).is_some_and(|known| known.end >= end);
            if !known && end > start {
                program.functions.insert(start, Symbol { name, start, end, sized: size != 0 });
            }
        }
        // Whatever stands in a table at a multiple of a word and names the beginning of a function.
        for part in program.parts.iter().filter(|part| !part.text) {
            for word in part.bytes.chunks_exact(8) {
                let value = u64::from_le_bytes(word.try_into().expect("eight bytes"));
                if program.is_function(value) {
                    program.taken.insert(value);
                }
            }
        }
        program
    }

    /// Whether this is the address of a function that somebody may call. The program's base is an address for itself, and there lies its entry,
    /// or no code.
    pub fn is_function(&self, address: u64) -> bool {
        self.functions.contains_key(&address) && self.parts.iter().any(|part| part.text && part.start < address)
    }

    /// The machine code from `start` to `end`.
    pub fn code(&self, start: u64, end: u64) -> Option<&[u8]> {
        let part = self.parts.iter().find(|part| part.text && part.holds(start))?;
        let offset = usize::try_from(start - part.start).ok()?;
        part.bytes.get(offset..offset + usize::try_from(end.checked_sub(start)?).ok()?)
    }

    /// So many bytes of a constant.
    pub fn constant<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let part = self.parts.iter().find(|part| part.constant && part.holds(at))?;
        let offset = usize::try_from(at - part.start).ok()?;
        part.bytes.get(offset..offset + N)?.try_into().ok()
    }

    /// What a symbol stands for.
    pub fn value(&self, name: &str) -> Result<u64> {
        self.values.get(name).copied().ok_or_else(|| format!("the program has no symbol `{name}`").into())
    }
}

impl Part {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn holds(&self, at: u64) -> bool {
        (self.start..self.end()).contains(&at)
    }
}
