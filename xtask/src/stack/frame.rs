//! What one function does with its stack: how deep it is at each of its calls, by a walk over its instructions.

use super::program::{Program, Symbol};
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use std::collections::{BTreeMap, BTreeSet};

/// Functions of assembly alone that have a size all the same: they go to a guest, with its registers, and come back.
const SWITCH: [&str; 4] = ["enter_guest", "exit_guest", "enter_guest_with_barriers", "exit_guest_with_barriers"];

/// Bytes of the return addresses with which a loop fills the processor's return stack buffer: calls of the next instruction but one, 32 of them,
/// which are taken off the stack all at once behind the loop (`backend::barriers`).
const FILLING: i64 = 32 * 8;

/// Whom a call goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// The function at this address.
    Known(u64),
    /// Whoever has its address taken.
    Any,
}

/// What a function does with its stack. Bytes count from the word that its return address has: that is the caller's.
#[derive(Debug, Default)]
pub struct Frame {
    /// Bytes that it takes itself at most.
    pub own: u64,
    /// Each call, and the bytes that are taken then, with the return address; a jump to another function takes none.
    pub calls: Vec<(u64, Callee)>,
    /// It comes back.
    pub returns: bool,
    /// Functions whose address one of its instructions takes.
    pub takes: BTreeSet<u64>,
    /// What of it is not understood, with the address.
    pub odd: Vec<String>,
}

/// What is known where an instruction is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// Bytes taken.
    depth: i64,
    /// The same, when RBP last became a copy of RSP.
    frame: Option<i64>,
    /// Where a probing loop ends (R11 of LLVM's inline stack probes).
    probe: Option<i64>,
    /// What was taken before a loop of [`FILLING`].
    filling: Option<i64>,
}

/// The walk over one function.
struct Walk<'p> {
    program: &'p Program,
    symbol: &'p Symbol,
    returning: &'p BTreeSet<u64>,
    code: &'p [u8],
    seen: BTreeMap<u64, State>,
    next: Vec<(u64, State)>,
    frame: Frame,
}

/// Walks over a function. Calls go on behind only where the callee is one of `returning`.
pub fn walk(program: &Program, symbol: &Symbol, returning: &BTreeSet<u64>) -> Frame {
    let code = program.code(symbol.start, symbol.end).unwrap_or_default();
    let start = State { depth: 0, frame: None, probe: None, filling: None };
    let mut walk = Walk {
        program,
        symbol,
        returning,
        code,
        seen: BTreeMap::new(),
        next: vec![(symbol.start, start)],
        frame: Frame::default(),
    };
    while let Some((at, state)) = walk.next.pop() {
        if let Err((at, what)) = walk.path(at, state) {
            walk.frame.odd.push(format!("{} at {at:#x}: {what}", symbol.name));
        }
    }
    walk.check_all_seen();
    walk.frame
}

type Odd = (u64, String);

impl Walk<'_> {
    /// Follows one path until it ends or meets another.
    fn path(&mut self, mut at: u64, mut state: State) -> Result<(), Odd> {
        let mut before = Vec::new();
        loop {
            if at == self.symbol.end && !self.symbol.sized {
                // Assembly that goes on at its next label.
                return self.jump(at, state);
            }
            if !(self.symbol.start..self.symbol.end).contains(&at) {
                return Err((at, "the path leaves the function".into()));
            }
            if let Some(seen) = self.seen.insert(at, state) {
                return match seen.depth == state.depth {
                    true => Ok(()),
                    false => Err((at, format!("{} bytes are taken, or {}", seen.depth, state.depth))),
                };
            }
            let offset = usize::try_from(at - self.symbol.start).expect("in the function");
            let mut decoder = Decoder::with_ip(64, &self.code[offset..], at, DecoderOptions::NONE);
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                return Err((at, "no instruction".into()));
            }
            self.note_taken(&instruction);
            if !self.step(&instruction, &mut state, &before)? {
                return Ok(());
            }
            self.frame.own = self.frame.own.max(state.depth.try_into().unwrap_or(0));
            at = instruction.next_ip();
            before.push(instruction);
        }
    }

    /// One instruction, after those `before` it on this path. Whether the path goes on behind it.
    fn step(&mut self, i: &Instruction, state: &mut State, before: &[Instruction]) -> Result<bool, Odd> {
        match i.flow_control() {
            FlowControl::Next => self.change(i, state),
            FlowControl::ConditionalBranch => {
                let target = i.near_branch_target();
                // LLVM's inline probes: a page a round until RSP is R11.
                if i.mnemonic() == Mnemonic::Jne
                    && let Some(probe) = state.probe.take()
                    && before.last().is_some_and(|last| {
                        last.mnemonic() == Mnemonic::Cmp
                            && last.op0_register() == Register::RSP
                            && last.op1_register() == Register::R11
                    })
                {
                    state.depth = probe;
                    return Ok(true);
                }
                if let Some(before) = state.filling.take() {
                    state.depth = before + FILLING;
                    return Ok(true);
                }
                self.jump(target, *state)?;
                Ok(true)
            }
            FlowControl::UnconditionalBranch => self.jump(i.near_branch_target(), *state).map(|()| false),
            FlowControl::IndirectBranch => self.indirect_jump(i, *state).map(|()| false),
            // To other privileges and back.
            FlowControl::Call if i.mnemonic() != Mnemonic::Call => Ok(true),
            FlowControl::Call => {
                let callee = i.near_branch_target();
                if callee > self.symbol.start && callee < self.symbol.end {
                    return self.call_inside(callee, state);
                }
                Ok(self.call(state, Callee::Known(callee)))
            }
            FlowControl::IndirectCall => {
                let callee = self.pointer(i).map_or(Callee::Any, Callee::Known);
                Ok(self.call(state, callee))
            }
            // Far: CS is loaded anew by it, and it goes on behind.
            FlowControl::Return if matches!(i.mnemonic(), Mnemonic::Retf) => {
                state.depth -= 16;
                Ok(true)
            }
            FlowControl::Return => {
                // Returns from a trap and to ring 3 leave a stack that the processor or another one made.
                if matches!(i.mnemonic(), Mnemonic::Ret) && state.depth != 0 && !self.switches() {
                    return Err((i.ip(), format!("it returns with {} bytes taken", state.depth)));
                }
                self.frame.returns = true;
                Ok(false)
            }
            FlowControl::Interrupt => Ok(true),
            FlowControl::Exception | FlowControl::XbeginXabortXend => Ok(false),
        }
    }

    /// A call that is there for the processor's predictions.
    fn call_inside(&mut self, target: u64, state: &mut State) -> Result<bool, Odd> {
        if self.switches() {
            self.frame.own = self.frame.own.max(u64::try_from(state.depth + FILLING).unwrap_or(0));
            self.jump(target, *state)?;
            return Ok(true);
        }
        state.filling.get_or_insert(state.depth);
        state.depth += 8;
        self.jump(target, *state)?;
        Ok(false)
    }

    fn switches(&self) -> bool {
        SWITCH.iter().any(|name| self.symbol.name.ends_with(name))
    }

    /// Whether what is behind the call is reached.
    fn call(&mut self, state: &State, callee: Callee) -> bool {
        let depth = u64::try_from(state.depth).unwrap_or(0) + 8;
        self.frame.own = self.frame.own.max(depth);
        self.frame.calls.push((depth, callee));
        match callee {
            Callee::Known(at) => self.returning.contains(&at),
            Callee::Any => true,
        }
    }

    fn jump(&mut self, target: u64, state: State) -> Result<(), Odd> {
        if (self.symbol.start..self.symbol.end).contains(&target) {
            self.next.push((target, state));
            return Ok(());
        }
        // The jump of a function that ends with another.
        self.frame.returns |= self.returning.contains(&target);
        self.frame.calls.push((u64::try_from(state.depth).unwrap_or(0), Callee::Known(target)));
        Ok(())
    }

    /// By a table, or to another function.
    fn indirect_jump(&mut self, i: &Instruction, state: State) -> Result<(), Odd> {
        if let Some(callee) = self.pointer(i) {
            return self.jump(callee, state);
        }
        let targets = match i.op0_kind() {
            OpKind::Memory if i.memory_index_scale() == 8 && i.memory_base() == Register::None => {
                let table = i.memory_displacement64();
                let entry = |n| self.program.constant(table + 8 * n).map(u64::from_le_bytes);
                self.entries(entry)
            }
            OpKind::Register => self.offsets(i),
            _ => Vec::new(),
        };
        if targets.is_empty() {
            self.frame.returns = true;
            self.frame.calls.push((u64::try_from(state.depth).unwrap_or(0), Callee::Any));
        }
        for target in targets {
            self.next.push((target, state));
        }
        Ok(())
    }

    /// Targets by a table of 32-bit offsets: `lea T, [table]; movsxd R, [T + 4 * n]; add R, T; jmp R`.
    fn offsets(&self, i: &Instruction) -> Vec<u64> {
        let decoder = Decoder::with_ip(64, self.code, self.symbol.start, DecoderOptions::NONE);
        let before: Vec<Instruction> = decoder.into_iter().take_while(|before| before.ip() < i.ip()).collect();
        let mut last = before.iter().rev().take(6);
        let Some(load) = last.find(|load| {
            load.mnemonic() == Mnemonic::Movsxd
                && load.memory_index_scale() == 4
                && load.op0_register() == i.op0_register()
        }) else {
            return Vec::new();
        };
        let mut last = before.iter().rev();
        let Some(table) = last.find(|lea| {
            lea.mnemonic() == Mnemonic::Lea
                && lea.op0_register() == load.memory_base()
                && lea.is_ip_rel_memory_operand()
        }) else {
            return Vec::new();
        };
        let table = table.ip_rel_memory_address();
        self.entries(|n| {
            let offset = i64::from(i32::from_le_bytes(self.program.constant(table + 4 * n)?));
            Some(table.wrapping_add_signed(offset))
        })
    }

    /// The entries of a table, as far as they lie in the function.
    fn entries(&self, entry: impl Fn(u64) -> Option<u64>) -> Vec<u64> {
        let inside = |target: &u64| (self.symbol.start..self.symbol.end).contains(target);
        (0..1024).map_while(|n| entry(n).filter(inside)).collect()
    }

    /// Where a call or jump through a constant pointer goes.
    fn pointer(&self, i: &Instruction) -> Option<u64> {
        let constant = i.op0_kind() == OpKind::Memory && i.is_ip_rel_memory_operand();
        let pointer = u64::from_le_bytes(self.program.constant(i.ip_rel_memory_address())?);
        (constant && self.program.functions.contains_key(&pointer)).then_some(pointer)
    }

    /// What an instruction that goes on to the next one does to RSP, RBP and R11. Whether the path goes on on the same stack.
    fn change(&mut self, i: &Instruction, state: &mut State) -> Result<bool, Odd> {
        let odd = |what: &str| Err((i.ip(), format!("{what}: {i:?}")));
        let immediate = || i.immediate(1).cast_signed();
        let [to, from] = [i.op0_register(), i.op1_register()];
        match (i.mnemonic(), to) {
            (Mnemonic::Sub, Register::RSP) | (Mnemonic::Add, Register::RSP) if i.op1_kind() == OpKind::Register => {
                return odd("a frame of a size that only run time knows");
            }
            (Mnemonic::Sub, Register::RSP) => state.depth += immediate(),
            (Mnemonic::Add, Register::RSP) => state.depth -= immediate(),
            // Aligned down: by as much at most.
            (Mnemonic::And, Register::RSP) => state.depth += -immediate() - 8,
            (Mnemonic::Mov, Register::RSP) if from == Register::RBP => match state.frame {
                Some(frame) => state.depth = frame,
                None => return odd("RBP is no copy of RSP"),
            },
            (Mnemonic::Lea, Register::RSP) => {
                let displacement = i.memory_displacement64().cast_signed();
                match (i.memory_base(), state.frame) {
                    (Register::RBP, Some(frame)) => state.depth = frame - displacement,
                    (Register::RSP, _) => state.depth -= displacement,
                    _ => return self.switch(i),
                }
            }
            (Mnemonic::Leave, _) => match state.frame.take() {
                Some(frame) => state.depth = frame - 8,
                None => return odd("RBP is no copy of RSP"),
            },
            // The program's first instructions choose its stack.
            (Mnemonic::Mov, Register::RSP) if matches!(i.op1_kind(), OpKind::Immediate32to64 | OpKind::Immediate64) => {
                state.depth = 0;
            }
            (Mnemonic::Mov | Mnemonic::Xchg, Register::RSP) => return self.switch(i),
            (Mnemonic::Mov, Register::RBP) if from == Register::RSP => state.frame = Some(state.depth),
            (Mnemonic::Mov, Register::R11) if from == Register::RSP => state.probe = Some(state.depth),
            (Mnemonic::Lea, Register::R11)
                if i.memory_base() == Register::RSP && i.memory_index() == Register::None =>
            {
                state.probe = Some(state.depth - i.memory_displacement64().cast_signed());
            }
            (Mnemonic::Sub, Register::R11) if i.op1_kind() != OpKind::Register => {
                state.probe = state.probe.map(|probe| probe + immediate());
            }
            (Mnemonic::Hlt, _) => {}
            _ => state.depth -= i64::from(i.stack_pointer_increment()),
        }
        if i.code() == Code::Pop_r64 && to == Register::RBP {
            state.frame = None;
        }
        Ok(true)
    }

    /// A path that was not found, as by a table that is none of those known here, would be missing from the bound. What a compiler
    /// wrote has a size, and nothing in it is there for nothing.
    fn check_all_seen(&mut self) {
        let decoder = Decoder::with_ip(64, self.code, self.symbol.start, DecoderOptions::NONE);
        let padding = |i: &Instruction| matches!(i.mnemonic(), Mnemonic::Nop | Mnemonic::Int3 | Mnemonic::Ud2);
        let unseen = decoder.into_iter().find(|i| !self.seen.contains_key(&i.ip()) && !padding(i));
        if let Some(i) = unseen.filter(|_| self.symbol.sized && !self.switches()) {
            self.frame.odd.push(format!("{} at {:#x}: no path leads there", self.symbol.name, i.ip()));
        }
    }

    /// The path goes on on another stack, as assembly alone does: to a guest, to ring 3, and back into whoever entered them.
    fn switch(&mut self, i: &Instruction) -> Result<bool, Odd> {
        if self.symbol.sized && !self.switches() {
            return Err((i.ip(), "RSP becomes what is not known".into()));
        }
        self.frame.returns = true;
        Ok(false)
    }

    /// The function whose address an instruction loads.
    fn note_taken(&mut self, i: &Instruction) {
        let address = match i.mnemonic() {
            Mnemonic::Lea if i.is_ip_rel_memory_operand() => i.ip_rel_memory_address(),
            Mnemonic::Mov if i.op0_kind() == OpKind::Register && i.is_ip_rel_memory_operand() => {
                self.program.constant(i.ip_rel_memory_address()).map_or(0, u64::from_le_bytes)
            }
            Mnemonic::Mov | Mnemonic::Push
                if matches!(
                    i.op_kind(i.op_count() - 1),
                    OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64
                ) =>
            {
                i.immediate(i.op_count() - 1)
            }
            _ => return,
        };
        if self.program.is_function(address) {
            self.frame.takes.insert(address);
        }
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
