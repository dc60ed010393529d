use super::*;
use proptest::prelude::*;

/// CPUID leaf 0xd of Intel's processors, and of AMD's, which have no MPX.
const INTEL: [u32; 8] = [0, 0, 576, 960, 1024, 1088, 1152, 1664];
const AMD: [u32; 8] = [0, 0, 576, 0, 0, 832, 896, 1408];

fn layout(xcr0: u64, offsets: [u32; 8], misaligned: bool) -> Layout {
    Layout::gather(xcr0, |leaf, sub| match leaf {
        0xd => [0, offsets[sub as usize], 0, 0],
        0x8000_0000 => [0x8000_0008, 0, 0, 0],
        0x8000_0001 => [0, 0, u32::from(misaligned) << 7, 0],
        _ => panic!("leaf {leaf:#x}"),
    })
}

fn state() -> impl Strategy<Value = VcpuState> {
    let x87 = (any::<[u16; 3]>(), any::<u8>(), any::<[u64; 2]>(), any::<[[u8; 10]; 8]>());
    let vectors = (any::<[[u64; 2]; 16]>(), any::<[[u64; 2]; 16]>(), any::<[u64; 8]>());
    let wide = (any::<[[u64; 4]; 16]>(), any::<[[u64; 8]; 16]>());
    (0_u8..32, x87, any::<u16>(), vectors, wide).prop_map(|(which, x87, mxcsr, vectors, wide)| {
        let mut state = VcpuState::INITIAL;
        if which & 1 != 0 {
            let ([control, status, opcode], tags, [instruction, operand], registers) = x87;
            state.x87 = X87 { control, status, opcode, tags, reserved: 0, instruction, operand, registers };
        }
        if which & 2 != 0 {
            (state.mxcsr, state.xmm) = (mxcsr.into(), vectors.0);
        }
        if which & 4 != 0 {
            state.ymm_high = vectors.1;
        }
        if which & 8 != 0 {
            (state.opmask, state.zmm) = (vectors.2, wide.1);
        }
        if which & 16 != 0 {
            state.zmm_high = wide.0;
        }
        state.level = state.least_level().raw();
        state
    })
}

/// An area in which nothing has been put in order.
fn filled(byte: u8) -> State {
    State([byte; AREA_BYTES as usize])
}

proptest! {
    /// From one maker's layout to the other's and back.
    #[test]
    fn a_state_survives_every_layout(state in state(), byte in any::<u8>()) {
        for (from, to) in [(INTEL, AMD), (AMD, INTEL)] {
            let (from, to) = (layout(0xe7, from, true), layout(0xe7, to, false));
            prop_assert_eq!(from.check(&state), Ok(()));
            let mut area = filled(byte);
            area.import(&from, &state);
            let mut moved = VcpuState::INITIAL;
            area.export(&from, &mut moved);
            prop_assert_eq!(&moved, &state);
            let mut other = filled(!byte);
            other.import(&to, &moved);
            let mut back = VcpuState { rip: 7, ..VcpuState::INITIAL };
            other.export(&to, &mut back);
            prop_assert_eq!(&VcpuState { rip: 0, ..back }, &state);
            prop_assert_eq!(back.rip, 7, "what is not in the area stays");
        }
    }

    /// A processor of a lower level takes what has nothing beyond it, and refuses the rest.
    #[test]
    fn a_level_is_refused_where_it_is_not(state in state()) {
        for (xcr0, level) in [(0x3, Level::Base), (0x7, Level::Avx), (0xe7, Level::Avx512)] {
            let layout = layout(xcr0, INTEL, false);
            prop_assert_eq!(layout.level(), level);
            let needs = state.least_level();
            let expected = if needs > level { Err(BadState::Level(needs)) } else { Ok(()) };
            prop_assert_eq!(layout.check(&state), expected);
        }
    }

    /// What XSAVE leaves of components that are in their initial state means nothing.
    #[test]
    fn only_what_the_header_names_counts(saved in any::<u8>(), byte in 1_u8..) {
        let layout = layout(0x7, INTEL, false);
        let mut area = filled(byte);
        area.0[HEADER..HEADER + 64].fill(0);
        area.0[HEADER] = saved;
        let mut state = VcpuState::INITIAL;
        area.export(&layout, &mut state);
        prop_assert_eq!(state.x87 == X87::INITIAL, saved & 1 == 0);
        prop_assert_eq!(is_zero(&state.xmm), saved & 2 == 0);
        prop_assert_eq!(is_zero(&state.ymm_high), saved & 4 == 0);
        prop_assert!(state.opmask == [0; 8] && is_zero(&state.zmm_high) && is_zero(&state.zmm), "not in XCR0");
        prop_assert_eq!(state.mxcsr, u32::from_le_bytes([byte; 4]), "MXCSR is always there");
    }
}

#[test]
fn a_field_lies_where_the_processor_has_it() {
    let mut state = VcpuState::INITIAL;
    state.x87.control = 0x27f;
    state.x87.registers[7] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    state.mxcsr = 0x9fc0;
    state.xmm[1] = [0x1111, 0x2222];
    state.ymm_high[15] = [0x3333, 0x4444];
    state.opmask[7] = 0x5555;
    state.zmm_high[1] = [1, 2, 3, 4];
    state.zmm[15][7] = 0x6666;
    state.level = Level::Avx512.raw();
    for (offsets, [opmask, high, zmm]) in [(INTEL, [1088, 1152, 1664]), (AMD, [832, 896, 1408])] {
        let mut area = filled(0xcc);
        area.import(&layout(0xe7, offsets, false), &state);
        let word = |at: usize| u64::from_le_bytes(area.0[at..at + 8].try_into().expect("eight"));
        assert_eq!(area.0[..2], [0x7f, 2]);
        assert_eq!(area.0[32 + 7 * 16..32 + 7 * 16 + 11], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0]);
        assert_eq!(area.0[24..28], [0xc0, 0x9f, 0, 0]);
        assert_eq!([word(176), word(184)], [0x1111, 0x2222]);
        assert_eq!([word(576 + 240), word(576 + 248)], [0x3333, 0x4444]);
        assert_eq!(word(opmask + 56), 0x5555);
        assert_eq!([word(high + 32), word(high + 56)], [1, 4]);
        assert_eq!(word(zmm + 15 * 64 + 56), 0x6666);
        assert_eq!((word(512), word(520)), (0xe7, 0), "all components, in the standard format");
        assert!(area.0[528..576].iter().all(|&byte| byte == 0), "or XRSTOR faults");
    }
}

#[test]
fn what_no_guest_has_is_refused() {
    let layout = layout(0x7, INTEL, false);
    let with = |change: fn(&mut VcpuState)| {
        let mut state = VcpuState::INITIAL;
        change(&mut state);
        layout.check(&state)
    };
    let hole = 1 << 47;
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(with(|state| state.magic = 0), Err(BadState::Unknown));
    assert_eq!(with(|state| state.version = 0), Err(BadState::Unknown));
    assert_eq!(with(|state| state.level = 7), Err(BadState::Length));
    assert_eq!(with(|state| state.ymm_high[0][0] = 1), Err(BadState::NotZero));
    assert_eq!(with(|state| state.reserved = 1), Err(BadState::NotZero));
    assert_eq!(with(|state| state.x87.reserved = 1), Err(BadState::NotZero));
    assert_eq!(with(|state| state.level = 2), Err(BadState::Level(Level::Avx512)));
    assert_eq!(with(|state| state.rip = 1 << 47), Err(BadState::NotCanonical(hole)));
    assert_eq!(with(|state| state.fs_base = 1 << 47), Err(BadState::NotCanonical(hole)));
    assert_eq!(with(|state| state.gs_base = 1 << 47), Err(BadState::NotCanonical(hole)));
    assert_eq!(with(|state| state.kernel_gs_base = 1 << 47), Err(BadState::NotCanonical(hole)));
    for flags in [0, 0x2, 0x202 | 1 << 17, 0x202 | 3 << 12, 0x202 | 1 << 63] {
        let state = VcpuState { rflags: flags, ..VcpuState::INITIAL };
        assert_eq!(layout.check(&state), Err(BadState::Flags(flags)));
    }
    assert_eq!(with(|state| state.mxcsr = 0x1_0000), Err(BadState::Mxcsr(0x1_0000)));
    assert_eq!(with(|state| state.mxcsr = 0x2_1f80), Err(BadState::Mxcsr(0x2_0000)));
    let amd = self::layout(0x7, AMD, true);
    assert_eq!(amd.check(&VcpuState { mxcsr: 0x2_1f80, ..VcpuState::INITIAL }), Ok(()));
}

#[test]
fn nothing_is_asked_of_a_processor_that_it_does_not_have() {
    let ask = |leaf: u32, sub: u32| match leaf {
        0x8000_0000 => [0x8000_0000, 0, 0, 0],
        _ => panic!("leaf {leaf:#x}, {sub}"),
    };
    let old = Layout::gather(0x3, ask);
    assert_eq!(old, layout(0x3, INTEL, false), "components that are not in XCR0 have no place");
    let misaligned = VcpuState { mxcsr: 0x2_1f80, ..VcpuState::INITIAL };
    assert_eq!(old.check(&misaligned), Err(BadState::Mxcsr(0x2_0000)));
}

#[test]
fn sse_is_there_when_its_registers_or_mxcsr_are_not_initial() {
    let saved = |state: &VcpuState| {
        let mut area = filled(0xcc);
        area.import(&layout(0x3, INTEL, false), state);
        area.0[HEADER]
    };
    let mut vectors = VcpuState::INITIAL;
    vectors.xmm[3][1] = 1;
    let control = VcpuState { mxcsr: 0x9fc0, ..VcpuState::INITIAL };
    assert_eq!([VcpuState::INITIAL, vectors, control].map(|state| saved(&state)), [0, 2, 2]);
}
