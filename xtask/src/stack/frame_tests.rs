//! Functions whose stacks are known.

use super::super::bound::Bounds;
use super::super::program::Program;
use super::{Callee, walk};
use iced_x86::code_asm::*;
use std::collections::BTreeSet;

const START: u64 = 0x1_0000;
/// A place below `START` that names the program's base, so that all functions may have their addresses taken.
const HOLE: usize = 16;

type Make = dyn Fn(&mut CodeAssembler);

/// Assembles functions, each by its name, one behind the other.
fn program(functions: &[(&str, &Make)]) -> Program {
    let mut bytes = vec![0xcc; HOLE];
    let mut names = Vec::new();
    for (name, make) in functions {
        let at = START + bytes.len() as u64;
        let mut assembler = CodeAssembler::new(64).expect("64 bits");
        make(&mut assembler);
        bytes.extend(assembler.assemble(at).expect("good instructions"));
        names.push((*name, at));
    }
    Program::of_code(START, bytes, &names)
}

/// Where the functions lie.
fn starts(program: &Program) -> Vec<u64> {
    program.functions.keys().copied().collect()
}

fn asm(result: Result<(), IcedError>) {
    result.expect("a good instruction");
}

#[test]
fn pushes_and_frames_count_and_so_do_return_addresses() {
    let program = program(&[("f", &|a| {
        asm(a.push(rbx));
        asm(a.sub(rsp, 0x40));
        asm(a.call(START + 0x100));
        asm(a.add(rsp, 0x40));
        asm(a.pop(rbx));
        asm(a.ret());
    })]);
    let symbol = program.functions.values().next().expect("one");
    let frame = walk(&program, symbol, &BTreeSet::from([START + 0x100]));
    assert!(frame.odd.is_empty() && frame.returns, "{frame:?}");
    assert_eq!((frame.own, frame.calls), (0x50, vec![(0x50, Callee::Known(START + 0x100))]));
    // Where the callee does not come back, nothing behind the call is reached.
    let frame = walk(&program, symbol, &BTreeSet::new());
    assert!(!frame.returns);
}

#[test]
fn both_ways_of_a_branch_count_and_have_to_agree() {
    let deep = |more: i32| {
        program(&[("f", &move |a| {
            let (mut other, mut end) = (a.create_label(), a.create_label());
            asm(a.test(rdi, rdi));
            asm(a.je(other));
            asm(a.sub(rsp, 0x20));
            asm(a.add(rsp, 0x20));
            asm(a.jmp(end));
            asm(a.set_label(&mut other));
            asm(a.sub(rsp, 0x100));
            asm(a.add(rsp, 0x100 - more));
            asm(a.set_label(&mut end));
            asm(a.ret());
        })])
    };
    let of = |program: &Program| walk(program, program.functions.values().next().expect("one"), &BTreeSet::new());
    let frame = of(&deep(0));
    assert!(frame.odd.is_empty() && frame.own == 0x100, "{frame:?}");
    assert!(of(&deep(8)).odd[0].contains("bytes are taken"), "{:?}", of(&deep(8)));
}

#[test]
fn probes_of_large_frames_count_as_what_they_reach() {
    let program = program(&[("f", &|a| {
        let mut again = a.create_label();
        asm(a.mov(r11, rsp));
        asm(a.sub(r11, 0x7000));
        asm(a.set_label(&mut again));
        asm(a.sub(rsp, 0x1000));
        asm(a.mov(qword_ptr(rsp), 0));
        asm(a.cmp(rsp, r11));
        asm(a.jne(again));
        asm(a.sub(rsp, 0x123));
        asm(a.ud2());
    })]);
    let frame = walk(&program, program.functions.values().next().expect("one"), &BTreeSet::new());
    assert!(frame.odd.is_empty() && frame.own == 0x7123, "{frame:?}");
}

#[test]
fn frames_that_are_aligned_count_as_the_most_that_they_can_be() {
    let program = program(&[("f", &|a| {
        asm(a.push(rbp));
        asm(a.mov(rbp, rsp));
        asm(a.push(rbx));
        asm(a.and(rsp, -64));
        asm(a.sub(rsp, 0x80));
        asm(a.lea(rsp, qword_ptr(rbp - 8)));
        asm(a.pop(rbx));
        asm(a.pop(rbp));
        asm(a.ret());
    })]);
    let frame = walk(&program, program.functions.values().next().expect("one"), &BTreeSet::new());
    assert!(frame.odd.is_empty() && frame.returns, "{frame:?}");
    assert_eq!(frame.own, 16 + 56 + 0x80);
}

#[test]
fn what_fills_the_return_stack_buffer_is_on_the_stack_for_a_while() {
    let fill = |taken_back: i32| {
        program(&[("f", &move |a| {
            let mut again = a.create_label();
            asm(a.push(rbx));
            asm(a.mov(eax, 16));
            asm(a.set_label(&mut again));
            for _ in 0..2 {
                let mut behind = a.create_label();
                asm(a.call(behind));
                asm(a.int3());
                asm(a.set_label(&mut behind));
                asm(a.nop());
            }
            asm(a.dec(eax));
            asm(a.jne(again));
            asm(a.add(rsp, taken_back));
            asm(a.pop(rbx));
            asm(a.ret());
        })])
    };
    let of = |program: &Program| walk(program, program.functions.values().next().expect("one"), &BTreeSet::new());
    let frame = of(&fill(0x100));
    assert!(frame.odd.is_empty() && frame.calls.is_empty() && frame.own == 8 + 0x100, "{frame:?}");
    assert!(of(&fill(0xf8)).odd[0].contains("it returns with 8 bytes taken"));
}

#[test]
fn a_frame_that_only_run_time_knows_is_refused() {
    let program = program(&[("f", &|a| {
        asm(a.sub(rsp, rdi));
        asm(a.ud2());
    })]);
    let error = Bounds::of(&program, &starts(&program)).err().expect("refused").to_string();
    assert!(error.contains("only run time knows"), "{error}");
}

#[test]
fn the_deepest_of_all_paths_is_the_bound() {
    // f calls g (deep) before h (flat): f has 0x10 and its own frame.
    let program = program(&[
        ("h", &|a| {
            asm(a.sub(rsp, 0x200));
            asm(a.add(rsp, 0x200));
            asm(a.ret());
        }),
        ("g", &|a| {
            asm(a.call(START + HOLE as u64));
            asm(a.ret());
        }),
    ]);
    let [h, g] = starts(&program)[..] else { panic!() };
    let bounds = Bounds::of(&program, &[g]).expect("bounded");
    assert_eq!((bounds.most(h), bounds.most(g)), (0x200, 8 + 0x200));
    let path: Vec<_> = bounds.path(g).into_iter().map(|(bytes, name)| (bytes, name.to_string())).collect();
    assert_eq!(path, [(8, "g".to_owned()), (0x200, "h".to_owned())]);
}

#[test]
fn an_indirect_call_may_go_to_whoever_has_its_address_taken() {
    let program = program(&[
        ("deep", &|a| {
            asm(a.sub(rsp, 0x300));
            asm(a.add(rsp, 0x300));
            asm(a.ret());
        }),
        ("deeper_but_not_taken", &|a| {
            asm(a.sub(rsp, 0x900));
            asm(a.add(rsp, 0x900));
            asm(a.ret());
        }),
        ("f", &|a| {
            asm(a.mov(rax, START + HOLE as u64));
            asm(a.call(rax));
            asm(a.ret());
        }),
    ]);
    let f = starts(&program)[2];
    let bounds = Bounds::of(&program, &[f]).expect("bounded");
    assert_eq!(bounds.most(f), 8 + 0x300);
}

#[test]
fn who_calls_itself_is_refused_unless_it_is_known_how_often() {
    let of = |name: &str| {
        let program = program(&[(name, &|a| {
            asm(a.sub(rsp, 0x38));
            asm(a.call(START + HOLE as u64));
            asm(a.add(rsp, 0x38));
            asm(a.ret());
        })]);
        let start = starts(&program)[0];
        Bounds::of(&program, &[start]).map(|bounds| bounds.most(start))
    };
    let error = of("f").expect_err("refused").to_string();
    assert!(error.contains("f call themselves"), "{error}");
    assert_eq!(of("backend::four_level::free_below").expect("four levels"), 4 * 0x40 + 0x40);
}

#[test]
fn a_panic_comes_once_and_once_while_it_is_told() {
    let program = program(&[
        ("__rustc::rust_begin_unwind", &|a| {
            asm(a.sub(rsp, 0x100));
            asm(a.ud2());
        }),
        ("f", &|a| {
            asm(a.sub(rsp, 0x20));
            asm(a.call(START + HOLE as u64));
        }),
    ]);
    let f = starts(&program)[1];
    assert_eq!(Bounds::of(&program, &[f]).expect("bounded").most(f), 0x28 + 2 * 0x100);
}
