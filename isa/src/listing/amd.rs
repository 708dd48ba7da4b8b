//! ACO's listings: RADV's "Assembly".

use super::{Awaits, Instruction, Kind, Program, number};

/// `stores_are_counted`: GCN counts stores with loads (vmcnt), RDNA apart from them. `scratch`: there is private memory.
pub(super) fn read(listing: &str, stores_are_counted: bool, scratch: bool) -> Program {
    let mut program = Program::new();
    for line in listing.lines() {
        let line = line.split(';').next().unwrap_or("").trim_end();
        if let Some(label) = line.strip_suffix(':') {
            program.start(label);
            continue;
        }
        let (name, operands) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        if name.is_empty() {
            continue;
        }
        program.push(instruction(name, operands.trim(), stores_are_counted, scratch));
        if kind(name, operands, scratch) == Kind::Branch {
            program.jump([operands.trim()], name.starts_with("s_cbranch"));
        }
    }
    program
}

fn instruction(name: &str, operands: &str, stores_are_counted: bool, scratch: bool) -> Instruction {
    let kind = kind(name, operands, scratch);
    let moves = matches!(kind, Kind::Shared | Kind::Load | Kind::Store | Kind::Scratch);
    // private memory is memory too: it shares the counter
    let loads = kind == Kind::Load || kind == Kind::Scratch && name.contains("load");
    let counted = loads || stores_are_counted && matches!(kind, Kind::Store | Kind::Scratch);
    Instruction {
        multiply_adds: multiply_adds(name, operands),
        bytes: if moves { width(name) } else { 0 },
        awaits: awaits(name, operands),
        token: counted.then_some(0),
        ..Instruction::of(kind)
    }
}

fn kind(name: &str, operands: &str, scratch: bool) -> Kind {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if starts(&["v_wmma", "v_swmmac", "v_mfma", "v_smfma"]) {
        Kind::Matrix
    } else if multiply_adds(name, operands) > 0.0 {
        Kind::Fma
    } else if starts(&["v_exp_f", "v_log_f", "v_rcp_f", "v_rsq_f", "v_sqrt_f", "v_sin_f", "v_cos_f"]) {
        Kind::Special
    } else if starts(&["v_"]) {
        Kind::Valu
    } else if starts(&["ds_"]) {
        Kind::Shared
    } else if starts(&["scratch_"]) {
        Kind::Scratch
    } else if starts(&["buffer_", "global_", "flat_"]) {
        // older RADV reaches private memory through a buffer, at the wave's offset in a scalar register
        let at = operands.split(']').next_back().unwrap_or("").trim_start_matches([',', ' ']);
        match (scratch && at.starts_with('s'), name.contains("load") || name.contains("atomic")) {
            (true, _) => Kind::Scratch,
            (false, true) => Kind::Load,
            (false, false) => Kind::Store,
        }
    } else if starts(&["s_wait", "s_delay_alu", "s_nop"]) {
        Kind::Wait
    } else if starts(&["s_barrier"]) {
        Kind::Barrier
    } else if starts(&["s_cbranch", "s_branch", "s_endpgm"]) {
        Kind::Branch
    } else {
        Kind::Scalar
    }
}

fn multiply_adds(name: &str, operands: &str) -> f64 {
    let fused = |name: &str| ["fma", "mac", "mad"].iter().any(|stem| name.contains(stem));
    if name.starts_with("v_dual_") {
        let parts = name.split_whitespace().chain(operands.split("::").skip(1).map(str::trim));
        return parts.filter(|part| fused(part.split_whitespace().next().unwrap_or(""))).count() as f64;
    }
    let float = name.contains("_f32") || name.contains("_f16") || name.contains("fma_mix");
    match name.starts_with("v_") && fused(name) && float {
        false if name.starts_with("v_dot2_") || name.starts_with("v_dot2c_") => 2.0,
        false => 0.0,
        true if name.starts_with("v_pk_") => 2.0,
        true => 1.0,
    }
}

/// `s_waitcnt vmcnt(2) lgkmcnt(0)`; newer ones have an instruction a counter: `s_wait_loadcnt 0x2`.
fn awaits(name: &str, operands: &str) -> Awaits {
    let newest = match name {
        "s_waitcnt" => operands.split("vmcnt(").nth(1).and_then(number),
        "s_wait_loadcnt" | "s_wait_loadcnt_dscnt" => {
            let digits = operands.trim_start_matches("0x");
            u32::from_str_radix(digits.split(',').next().unwrap_or(""), 16).ok()
        }
        _ => None,
    };
    newest.map_or(Awaits::Nothing, |newest| Awaits::AllBut(newest as usize))
}

/// Bytes of a lane: `_dwordx4`, `_b128`, `_2addr_b32` and `_read2_b64` twice as much.
fn width(name: &str) -> u32 {
    let twice = name.contains("2addr") || name.contains("read2") || name.contains("write2");
    let bytes = match name.split("_dword").nth(1) {
        Some(many) => 4 * many.strip_prefix('x').and_then(number).unwrap_or(1),
        None => {
            let bits = name.split('_').rev().find_map(|part| {
                let digits = part.strip_prefix(['b', 'u', 'i'])?;
                number(digits).or_else(|| number(digits.trim_start_matches("yte")))
            });
            match bits {
                Some(bits) => bits.div_ceil(8),
                None if name.contains("byte") => 1,
                None if name.contains("short") => 2,
                None => 4,
            }
        }
    };
    if twice { 2 * bytes } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::super::{Contents, Counts};
    use super::*;

    const RDNA2: &str = "BB0:
\ts_buffer_load_dwordx4 s[16:19], s[8:11], null               ; f4280404 fa000000
\ts_cbranch_scc0 BB3                                         ; bf840447
BB1:
\tbuffer_load_dwordx4 v[36:39], v36, s[28:31], 0 offen        ; e0381000 80072424
\tbuffer_load_dwordx4 v[40:43], v37, s[28:31], 0 offen        ; e0381000 80072424
\tds_read_b128 v[44:47], v40 offset:16                        ; dbfc0000 2c000028
\ts_waitcnt vmcnt(1) lgkmcnt(0)                               ; bf8c0170
\tbuffer_load_dword v48, v38, s[28:31], 0 offen               ; e0301000 80072424
\tv_mul_f32_e32 v52, v52, v38                                 ; 10684d34
\tv_fmac_f32_e32 v52, v40, v39                                ; 56684f28
\tv_exp_f32_e32 v1, v2                                        ; 7e024b02
\tbuffer_store_dwordx2 v[0:1], v9, s[4:7], 0 offen            ; e0740000 02010c80
\tbuffer_store_dwordx4 v[12:15], off, s[4:7], s2              ; e0780000 02010c80
\ts_waitcnt_vscnt null, 0x0                                   ; bbfd0000
\ts_barrier                                                   ; bf8a0000
\ts_branch BB1                                               ; bf82ffd2
BB3:
\ts_endpgm                                                    ; bf810000
";

    #[test]
    fn a_loop_of_rdna2() {
        let contents = Contents::of(&read(RDNA2, false, true));
        let Counts { label, instructions, fma, multiply_adds, special, valu, .. } = &contents.loops[0];
        assert_eq!((label.as_str(), *instructions, *fma, *multiply_adds, *special, *valu), ("BB1", 13, 1, 1.0, 1, 1));
        let Counts { shared, shared_bytes, loads, load_bytes, stores, scratch, .. } = &contents.loops[0];
        assert_eq!((*shared, *shared_bytes, *loads, *load_bytes, *stores, *scratch), (1, 16, 3, 36, 1, 1));
        let Counts { waits, barriers, branches, scalar, .. } = &contents.loops[0];
        assert_eq!((*waits, *barriers, *branches, *scalar), (2, 1, 1, 0));
        assert_eq!(contents.in_flight(), (2, 32));
        assert_eq!((contents.whole.scalar, contents.whole.branches), (1, 3));
        // without private memory it is a store to a buffer at a scalar offset
        assert_eq!(Contents::of(&read(RDNA2, false, false)).whole.stores, 2);
    }

    #[test]
    fn nothing_passes_a_jump_that_is_always_taken() {
        let text = "BB0:
\tv_nop
BB2:
\ts_cbranch_scc1 BB5
\ts_cbranch_scc1 BB6
BB3:
\ts_branch BB2
BB5:
\tv_nop
\ts_branch BB7
BB6:
\ts_branch BB2
BB7:
\ts_endpgm
";
        let loops = Contents::of(&read(text, false, false)).loops;
        assert_eq!(loops.iter().map(|one| (one.label.as_str(), one.instructions)).collect::<Vec<_>>(), [("BB2", 4)]);
    }

    #[test]
    fn gcn_counts_stores_with_loads() {
        let text = "BB0:
\tbuffer_load_dword v1, v2, s[0:3], 0 offen
\tbuffer_store_dword v3, v2, s[0:3], 0 offen
\ts_waitcnt vmcnt(1)
\tbuffer_load_dwordx2 v[4:5], v2, s[0:3], 0 offen
";
        assert_eq!(Contents::of(&read(text, true, false)).in_flight(), (1, 8));
        assert_eq!(Contents::of(&read(text, false, false)).in_flight(), (2, 12));
    }

    #[test]
    fn multiply_adds_of_an_instruction() {
        let dual = ("v_dual_fmac_f32", "v16, v1, v2 :: v_dual_fmaak_f32 v17, v16, v1, 0x3f800000");
        assert_eq!(multiply_adds(dual.0, dual.1), 2.0);
        assert_eq!(multiply_adds("v_dual_fmac_f32", "v16, v1, v2 :: v_dual_mul_f32 v17, v16, v1"), 1.0);
        assert_eq!(multiply_adds("v_dual_mov_b32", "v5, 0 :: v_dual_mov_b32 v4, 0"), 0.0);
        assert_eq!(multiply_adds("v_pk_fma_f32", ""), 2.0);
        assert_eq!(multiply_adds("v_fma_mixlo_f16", ""), 1.0);
        assert_eq!(multiply_adds("v_mac_f32_e32", ""), 1.0);
        assert_eq!(multiply_adds("v_mad_u32_u24", ""), 0.0);
    }

    #[test]
    fn kinds_and_waits_of_newer_cards() {
        assert_eq!(kind("v_wmma_f32_16x16x16_f16", "", false), Kind::Matrix);
        assert_eq!(kind("scratch_load_b128", "v[0:3], off, off offset:16", true), Kind::Scratch);
        assert_eq!(kind("s_delay_alu", "instid0(VALU_DEP_1)", false), Kind::Wait);
        assert_eq!(awaits("s_wait_loadcnt", "0x1a"), Awaits::AllBut(26));
        assert_eq!(awaits("s_waitcnt", "lgkmcnt(0)"), Awaits::Nothing);
    }

    #[test]
    fn widths() {
        let all = [("buffer_load_dwordx3", 12), ("ds_load_2addr_b32", 8), ("ds_read2_b64", 16), ("ds_store_b96", 12)];
        let more =
            [("buffer_load_b128", 16), ("buffer_load_dword", 4), ("buffer_store_short", 2), ("buffer_load_u16", 2)];
        for (name, bytes) in all.into_iter().chain(more).chain([("ds_swizzle_b32", 4), ("buffer_load_ubyte", 1)]) {
            assert_eq!(width(name), bytes, "{name}");
        }
    }
}
