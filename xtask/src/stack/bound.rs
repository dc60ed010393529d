//! How deep a stack becomes at most, by what each function does with it ([`super::frame`]).

use super::frame::{Callee, Frame, walk};
use super::program::Program;
use crate::error::{Result, fail};
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use std::collections::{BTreeMap, BTreeSet};

/// Functions that call themselves, part of the name, how often at once at most, and why.
const RECURSIONS: &[(&str, u64, &str)] = &[
    ("Tables<M>::visit", 4, "page tables have four levels"),
    ("Tables<M>::free_below", 4, "page tables have four levels"),
    ("four_level::free_below", 4, "nested tables have four levels"),
    ("str::slice_error_fail_rt", 2, "its own slices are cut where a character begins"),
    ("quicksort::quicksort", 32, "twice the logarithm of the length, then it becomes heapsort"),
    ("pivot::median3_rec", 8, "each time with an eighth of the length"),
];

/// What every panic goes to, which does not come back, and how often it is entered at most: what is said of a panic while another is told goes
/// past the log's lock, where nothing panics.
const HANDLER: &str = "rust_begin_unwind";
const PANICS: u64 = 2;

/// What the processor alone goes to, by its tables, and nobody calls: beginnings of names.
const GATES: [&str; 2] = ["trap_", "syscall_entry"];

/// Calls through pointers that lie on each other at most. Formatting is all that has more than one: what is logged (`dyn Log`) is written by
/// a `Display` that has fields of its own kind of `Display`, whose text goes to a `dyn Write`.
const INDIRECT: usize = 6;

/// The functions of a program.
pub struct Bounds<'p> {
    program: &'p Program,
    /// What a panic goes to.
    handler: Option<u64>,
    frames: BTreeMap<u64, Frame>,
    /// By the number of indirect calls that may still follow: what each function and all that it calls take at most.
    most: Vec<BTreeMap<u64, u64>>,
    /// By the same: what an indirect call takes at most, and whose that is.
    any: Vec<(u64, u64)>,
}

/// The functions that can be reached from those at `roots`, directly or by a pointer.
fn reach(program: &Program, roots: &[u64], returning: &BTreeSet<u64>) -> Result<BTreeMap<u64, Frame>> {
    let mut frames = BTreeMap::new();
    let mut next = roots.to_vec();
    while let Some(start) = next.pop() {
        if frames.contains_key(&start) {
            continue;
        }
        let Some(symbol) = program.functions.get(&start) else {
            fail!("a call goes to {start:#x}, where no function begins");
        };
        let frame = walk(program, symbol, returning);
        next.extend(&frame.takes);
        for &(_, callee) in &frame.calls {
            match callee {
                Callee::Known(callee) => next.push(callee),
                Callee::Any => next.extend(&program.taken),
            }
        }
        frames.insert(start, frame);
    }
    Ok(frames)
}

impl<'p> Bounds<'p> {
    /// Walks over all functions that can be reached from those at `roots`.
    ///
    /// # Errors
    /// An instruction that is not understood, or functions that call themselves and nothing is known of how often.
    pub fn of(program: &'p Program, roots: &[u64]) -> Result<Bounds<'p>> {
        // Who comes back is found by who does: as long as somebody new is found.
        let mut returning = BTreeSet::new();
        let frames = loop {
            let frames = reach(program, roots, &returning)?;
            let found: BTreeSet<u64> =
                frames.iter().filter(|(_, frame)| frame.returns).map(|(&start, _)| start).collect();
            if found.is_subset(&returning) {
                let odd: Vec<&str> = frames.values().flat_map(|frame| &frame.odd).map(String::as_str).collect();
                if !odd.is_empty() {
                    fail!("stacks cannot be bounded:\n    {}", odd.join("\n    "));
                }
                break frames;
            }
            returning.extend(found);
        };
        let handler =
            program.functions.values().find(|symbol| symbol.name.contains(HANDLER)).map(|symbol| symbol.start);
        let mut bounds = Bounds { program, handler, frames, most: Vec::new(), any: Vec::new() };
        bounds.any.push((0, 0));
        for level in 0..=INDIRECT {
            bounds.add_level(level)?;
        }
        Ok(bounds)
    }

    /// What everybody takes at most when so many indirect calls may follow.
    fn add_level(&mut self, level: usize) -> Result<()> {
        let mut graph: DiGraphMap<u64, ()> = DiGraphMap::new();
        for (&start, frame) in &self.frames {
            graph.add_node(start);
            for &(_, callee) in &frame.calls {
                if let Callee::Known(callee) = callee
                    && self.handler != Some(callee)
                {
                    graph.add_edge(start, callee, ());
                }
            }
        }
        let mut most = BTreeMap::new();
        // Callees come before their callers.
        for group in tarjan_scc(&graph) {
            let again = group.len() > 1 || graph.contains_edge(group[0], group[0]);
            let times = if again { self.recursion(&group)? } else { 0 };
            let (mut inner, mut outer) = (0, 0);
            for member in &group {
                let frame = &self.frames[member];
                let mut deepest = 0;
                outer = outer.max(frame.own);
                for &(depth, callee) in &frame.calls {
                    match callee {
                        Callee::Known(callee) if self.handler == Some(callee) => outer = outer.max(depth),
                        Callee::Known(callee) if group.contains(&callee) => deepest = deepest.max(depth),
                        Callee::Known(callee) => outer = outer.max(depth + most[&callee]),
                        Callee::Any => outer = outer.max(depth + self.any[level].0),
                    }
                }
                inner += deepest;
            }
            for member in group {
                most.insert(member, times * inner + outer);
            }
        }
        let taken = self.program.taken.iter().chain(self.frames.values().flat_map(|frame| &frame.takes));
        let called = taken.filter(|function| !GATES.iter().any(|gate| self.name(**function).starts_with(gate)));
        let any = called.filter_map(|function| Some((*most.get(function)?, *function))).max().unwrap_or_default();
        self.most.push(most);
        self.any.push(any);
        Ok(())
    }

    /// How often functions that call each other do so at once, at most.
    fn recursion(&self, group: &[u64]) -> Result<u64> {
        let names: Vec<&str> = group.iter().map(|start| self.name(*start)).collect();
        match RECURSIONS.iter().find(|(part, ..)| names.iter().any(|name| name.contains(part))) {
            Some(&(_, times, _)) => Ok(times),
            None => fail!("{} call themselves, and nothing is known of how often", names.join(", ")),
        }
    }

    fn name(&self, start: u64) -> &str {
        self.program.functions.get(&start).map_or("?", |symbol| &symbol.name)
    }

    /// Bytes of stack that this function and all that it calls take at most, panics included.
    pub fn most(&self, start: u64) -> u64 {
        let of = |start| self.most.last().and_then(|most| most.get(&start)).copied().unwrap_or(0);
        of(start) + self.handler.map_or(0, |handler| PANICS * of(handler))
    }

    /// Who is called on the deepest path from a function, with what each takes until its call.
    pub fn path(&self, mut start: u64) -> Vec<(u64, String)> {
        let mut path = Vec::new();
        let mut level = INDIRECT;
        while let Some(frame) = self.frames.get(&start) {
            let below = |callee: Callee| match callee {
                Callee::Known(callee) => (self.most[level].get(&callee).copied().unwrap_or(0), callee),
                Callee::Any => self.any[level],
            };
            let deepest =
                frame.calls.iter().map(|&(depth, callee)| (depth + below(callee).0, depth, callee)).max_by_key(|d| d.0);
            let again = path.iter().any(|(_, name)| name == self.name(start));
            let Some((_, depth, callee)) = deepest.filter(|deepest| deepest.0 > frame.own && !again) else {
                path.push((frame.own, self.name(start).to_owned()));
                return path;
            };
            path.push((depth, self.name(start).to_owned()));
            start = below(callee).1;
            if callee == Callee::Any {
                if level == 0 {
                    return path;
                }
                level -= 1;
            }
        }
        path
    }
}
