//! brw's listings: ANV's "GEN Assembly".

use super::{Awaits, Instruction, Kind, Program, number};

/// `subgroup`: lanes of a subgroup; an instruction may be of fewer.
pub(super) fn read(listing: &str, subgroup: u32) -> Program {
    let mut program = Program::new();
    // a message stands on two lines, the second one says what it is
    let mut lines = listing.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(label) = line.strip_suffix(':') {
            program.start(label);
            continue;
        }
        let mut text = line.to_string();
        while let Some(more) = lines.next_if(|next| next.starts_with("        ")) {
            text += " ";
            text += more.trim();
        }
        let code = match text.strip_prefix('(') {
            Some(guarded) => guarded.split_once(')').map_or("", |(_, code)| code.trim()),
            None => text.as_str(),
        };
        // mad(8), cmp.l.f0.0(16), sync nop(1)
        let Some((name, rest)) = code.split_once('(') else { continue };
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            continue;
        }
        program.push(instruction(name, rest, subgroup));
        // some lanes jump, others pass
        if kind(name, rest) == Kind::Branch {
            program.jump(rest.split_whitespace().filter(|word| word.starts_with("LABEL")), true);
        }
    }
    program
}

fn instruction(name: &str, rest: &str, subgroup: u32) -> Instruction {
    let kind = kind(name, rest);
    let lanes = number(rest).unwrap_or(subgroup);
    let token = |word: &str| word.strip_prefix('$').and_then(number);
    let words = || rest.split_whitespace();
    let mut awaited = words().filter_map(|word| token(word.strip_suffix(".dst")?)).fold(0, |all, one| all | 1 << one);
    if name == "sync allwr" {
        awaited = u32::MAX;
    }
    Instruction {
        multiply_adds: if kind == Kind::Fma { lanes as f64 / subgroup as f64 } else { 0.0 },
        bytes: if matches!(kind, Kind::Shared | Kind::Load | Kind::Store | Kind::Scratch) { width(rest) } else { 0 },
        awaits: if awaited == 0 { Awaits::Nothing } else { Awaits::Tokens(awaited) },
        token: words().find_map(|word| token(word).filter(|_| !word.contains('.'))).filter(|_| kind == Kind::Load),
        ..Instruction::of(kind)
    }
}

fn kind(name: &str, rest: &str) -> Kind {
    let base = name.split('.').next().unwrap_or("");
    if base.starts_with("math") {
        return Kind::Special;
    }
    let floats = rest.split_whitespace().nth(1).is_some_and(|result| result.ends_with('F'));
    match base {
        "mad" | "mac" if floats => Kind::Fma,
        "dpas" => Kind::Matrix,
        "sync bar" => Kind::Barrier,
        "wait" | "nop" => Kind::Wait,
        _ if base.starts_with("sync") => Kind::Wait,
        "if" | "else" | "endif" | "while" | "break" | "cont" | "halt" | "jmpi" => Kind::Branch,
        "send" | "sendc" | "sends" => {
            let of = |word: &str| rest.contains(word);
            match () {
                _ if of("fence") => Kind::Wait,
                _ if of("slm") => Kind::Shared,
                // registers that were spilled go to the surface of scratch memory
                _ if of(" ss )") || of(" bss )") || of("scratch") => Kind::Scratch,
                _ if of("store") => Kind::Store,
                _ if of("transpose") => Kind::Scalar,
                _ if of("load") || of("atomic") => Kind::Load,
                _ => Kind::Barrier,
            }
        }
        _ => Kind::Valu,
    }
}

/// Bytes of a lane: `d32, V4`.
fn width(rest: &str) -> u32 {
    let words = || rest.split([' ', ',']);
    let bits = words().find_map(|word| word.strip_prefix('d').and_then(number)).unwrap_or(32);
    let many = words().find_map(|word| word.strip_prefix('V').and_then(number)).unwrap_or(1);
    bits.div_ceil(8) * many
}

#[cfg(test)]
mod tests {
    use super::super::{Contents, Counts};
    use super::*;

    const DG2: &str = "mov(8)          g74<1>UD        g0.1<0,1,0>UD                   { align1 WE_all 1Q };
LABEL18:
mad(8)          g103<1>UD       0x06c0UW        g103<8,8,1>UW   0x0004UW { align1 WE_all 1Q I@3 };
(+f0.0) break(8) JIP:  LABEL5         UIP:  LABEL5              { align1 1Q };
send(8)         g14UD           g13UD           nullUD          0x62403500                0x02000000
                ugm MsgDesc: ( load, a32, d32, V4, L1STATE_L3MOCS dst_len = 4, src0_len = 1, src1_len = 0 bti )  BTI 2  base_offset 0  { align1 1Q $4 };
send(8)         g18UD           g13UD           nullUD          0x62403500                0x02000000
                ugm MsgDesc: ( load, a32, d32, V4, L1STATE_L3MOCS dst_len = 4, src0_len = 1, src1_len = 0 bti )  BTI 2  base_offset 0  { align1 1Q $5 };
send(8)         g45UD           g64UD           nullUD          0x02403500                0x00000000
                slm MsgDesc: ( load, a32, d32, V4, L1STATE_L3MOCS dst_len = 4, src0_len = 1, src1_len = 0 flat )  base_offset 0  { align1 1Q $2 };
send(1)         g51UD     g0UD            nullUD          0x0210011f                0x00000000
                slm MsgDesc: ( fence, a32, threadgroup, none, normal_routing dst_len = 1, src0_len = 1, src1_len = 0 flat )  base_offset 0  { align1 WE_all 1N $8 };
send(1)         g102UD          g5UD            nullUD          0x6210c500                0x05000000
                ugm MsgDesc: ( load, a32, d32, V8, transpose, L1STATE_L3MOCS dst_len = 1, src0_len = 1, src1_len = 0 bti )  BTI 5  base_offset 0  { align1 WE_all 1N $0 };
send(1)         g102UD          g5UD            nullUD          0x6210c500                0x05000000
                ugm MsgDesc: ( load, a32, d32, V8, transpose, L1STATE_L3MOCS dst_len = 1, src0_len = 1, ss )  src1_len = 0 ex_bso surface_state_index 0  { align1 WE_all 1N $15 };
sync nop(1)                     null<0,1,0>UB                   { align1 WE_all 1N $4.src };
send(8)         g22UD           g13UD           nullUD          0x62403500                0x02000000
                ugm MsgDesc: ( load, a32, d32, V4, L1STATE_L3MOCS dst_len = 4, src0_len = 1, src1_len = 0 bti )  BTI 2  base_offset 0  { align1 1Q $6 };
mad(8)          g1<1>F          g2<8,8,1>F      g14<8,8,1>F     g4<1,1,1>F { align1 1Q @4 $4.dst };
math exp(8)     g106<1>F        g105<0,1,0>F    null<8,8,1>F    { align1 WE_all 1Q $3 };
send(8)         g20UD           g13UD           nullUD          0x62403500                0x02000000
                ugm MsgDesc: ( load, a32, d32, V2, L1STATE_L3MOCS dst_len = 4, src0_len = 1, src1_len = 0 bti )  BTI 2  base_offset 0  { align1 1Q $4 };
sync bar(8)       null<0,1,0>UB                   { align1 WE_all 1Q };
while(8)        JIP:  LABEL18                                   { align1 1Q };
";

    #[test]
    fn a_loop_of_dg2() {
        let contents = Contents::of(&read(DG2, 16));
        let Counts { label, fma, multiply_adds, special, valu, shared, shared_bytes, .. } = &contents.loops[0];
        assert_eq!((label.as_str(), *fma, *multiply_adds, *special, *valu), ("LABEL18", 1, 0.5, 1, 1));
        assert_eq!((*shared, *shared_bytes), (1, 16));
        let Counts { loads, load_bytes, scratch, scalar, waits, barriers, branches, .. } = &contents.loops[0];
        assert_eq!((*loads, *load_bytes, *scratch, *scalar, *waits, *barriers, *branches), (4, 56, 1, 1, 2, 1, 2));
        // .src says that a message has read its registers, not that it has answered
        assert_eq!(contents.in_flight(), (3, 48));
        assert_eq!(contents.whole.instructions, contents.loops[0].instructions + 1);
    }

    #[test]
    fn the_end_of_all_flights() {
        let Awaits::Tokens(all) = instruction("sync allwr", "1) null<0,1,0>UB", 8).awaits else { panic!() };
        assert_eq!(all, u32::MAX);
    }
}
