//! NAK's listings: NVK's "NAK assembly".

use super::{Awaits, Instruction, Kind, Program, number};

pub(super) fn read(listing: &str) -> Program {
    let mut program = Program::new();
    for line in listing.lines() {
        let (code, note) = line.split_once("//").unwrap_or((line, ""));
        let code = code.trim();
        if code.starts_with("block") {
            // block.u 6 L13 [5, 214] -> {
            program.start(code.split_whitespace().nth(2).unwrap_or(""));
            continue;
        }
        let guarded = code.starts_with('@');
        let code = match code.strip_prefix('@') {
            Some(guarded) => guarded.split_once(char::is_whitespace).map_or("", |(_, code)| code.trim()),
            None => code,
        };
        let (results, code) = code.split_once('=').map_or(("", code), |(results, code)| (results.trim(), code.trim()));
        let name = code.split_whitespace().next().unwrap_or("");
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            continue;
        }
        program.push(instruction(name, results, note));
        // @!p0 bra pT L1, bra !up0 L1, bra pT L1: the last one always
        match name {
            "bra" => {
                let always = !guarded && code.split_whitespace().nth(1) == Some("pT");
                program.jump(code.split_whitespace().next_back(), !always);
            }
            "exit" => program.jump([], guarded),
            _ => {}
        }
    }
    program
}

fn instruction(name: &str, results: &str, note: &str) -> Instruction {
    let kind = kind(name, results);
    let multiply_adds = match (kind, name.starts_with("hfma2")) {
        (Kind::Fma, true) => 2.0,
        (Kind::Fma, false) => 1.0,
        _ => 0.0,
    };
    let moves = matches!(kind, Kind::Shared | Kind::Load | Kind::Store | Kind::Scratch);
    // delay=1 wt=001000 wr:3: starts when scoreboard 3 is empty, and is what the next wait on 3 waits for
    let tokens = note.split("wt=").nth(1).and_then(|bits| u32::from_str_radix(bits.split_whitespace().next()?, 2).ok());
    Instruction {
        multiply_adds,
        bytes: if moves { width(name) } else { 0 },
        awaits: tokens.map_or(Awaits::Nothing, Awaits::Tokens),
        token: note.split("wr:").nth(1).and_then(number).filter(|_| kind == Kind::Load),
        ..Instruction::of(kind)
    }
}

fn kind(name: &str, results: &str) -> Kind {
    let base = name.split('.').next().unwrap_or("");
    let uniform = results.starts_with("ur") || results.starts_with("up");
    match base {
        "ffma" | "hfma2" => Kind::Fma,
        "hmma" | "imma" => Kind::Matrix,
        "mufu" => Kind::Special,
        _ if name.contains(".shared") => Kind::Shared,
        "lds" | "sts" | "ldsm" | "atoms" => Kind::Shared,
        _ if name.contains(".local") => Kind::Scratch,
        "ldl" | "stl" => Kind::Scratch,
        "ld" | "ldg" | "atom" | "atomg" => Kind::Load,
        "st" | "stg" | "red" => Kind::Store,
        "ldc" | "ldcu" => Kind::Scalar,
        "bar" => Kind::Barrier,
        "nop" | "depbar" | "membar" | "errbar" | "warpsync" => Kind::Wait,
        "bra" | "brx" | "exit" | "call" | "ret" | "kill" | "bssy" | "bsync" | "bbreak" | "bclear" | "bmov" => {
            Kind::Branch
        }
        _ if uniform => Kind::Scalar,
        _ => Kind::Valu,
    }
}

/// Bytes of a lane: `ld.shared.strong.cta.b128`.
fn width(name: &str) -> u32 {
    let bits = name.split('.').filter_map(|part| number(part.strip_prefix(['b', 'u', 's', 'f'])?)).next_back();
    bits.unwrap_or(32).div_ceil(8)
}

#[cfg(test)]
mod tests {
    use super::super::{Contents, Counts};
    use super::*;

    const HOPPER: &str = "block.u 0 L2 [] -> {
      ur0      = s2r sr[0x25]                                       // delay=1 wr:0
                 bra !up0 L1                                        // delay=1 wt=000111
} -> [1, 2]
block 1 L4 [0, 1] -> {
      r42      = ld.global.a64.constant.b32 [r42..44], p0           // delay=1 wr:3
      r43      = ld.global.a64.constant.b32 [r44..46], p0           // delay=1 rd:0 wr:3
      r0..4    = ld.shared.strong.cta.b128 [r225.x16+0x6710], pT    // delay=1 wr:0
      r44      = ffma.ftz r43 r1 r2                                 // delay=4 wt=000001
      r46      = ld.global.a64.strong.gpu.b64 [r42..44], p0         // delay=1 wr:4
      r45      = fmul.ftz r42 r43                                   // delay=4 wt=001000
      r47      = mufu.exp2.f32 r1                                   // delay=1 wr:5
                 st.local.strong.cta.b128 [rZ+0x10] r28..32         // delay=4 rd:0
      p0 null  = plop3 pT pT up0 LUT[0xaa] LUT[0x0]                 // delay=6
                 bar.sync                                           // delay=6 yld
@!p5             bra pT L4                                          // delay=1 wt=010000
} -> [1]
";

    #[test]
    fn a_loop_of_hopper() {
        let contents = Contents::of(&read(HOPPER));
        let Counts { label, instructions, fma, multiply_adds, special, valu, .. } = &contents.loops[0];
        assert_eq!((label.as_str(), *instructions, *fma, *multiply_adds, *special, *valu), ("L4", 11, 1, 1.0, 1, 2));
        let Counts { shared, shared_bytes, loads, load_bytes, scratch, barriers, branches, .. } = &contents.loops[0];
        assert_eq!((*shared, *shared_bytes, *loads, *load_bytes, *scratch), (1, 16, 3, 16, 1));
        assert_eq!((*barriers, *branches), (1, 1));
        // the wait for scoreboard 0 ends no load of scoreboard 3
        assert_eq!(contents.in_flight(), (3, 16));
        assert_eq!(contents.whole.scalar, 1);
    }

    #[test]
    fn what_follows_a_jump_or_an_exit() {
        let loops = |text: &str| {
            let loops = Contents::of(&read(text)).loops;
            loops.iter().map(|one| (one.label.clone(), one.instructions)).collect::<Vec<_>>()
        };
        let around = |jump: &str| {
            format!(
                "block 0 L0 [] -> {{\nbra pT L2\n}}\nblock 1 L1 [] -> {{\nnop\n{jump}\n}}\nblock 2 L2 [] -> {{\nnop\nbra !up0 L1\nbra pT L2\n}}\n"
            )
        };
        assert_eq!(loops(&around("exit")), [("L2".into(), 3)]);
        assert_eq!(loops(&around("bra pT L0")), [("L0".into(), 3), ("L2".into(), 3)]);
        assert_eq!(loops(&around("@p0 exit")), [("L2".into(), 5)]);
        // one that is guarded is passed
        let text = "block 0 L0 [] -> {\nnop\n}\nblock 1 L1 [] -> {\n@p0 bra pT L3\n}\nblock 2 L2 [] -> {\nbra pT L1\n}\nblock 3 L3 [] -> {\nexit\n}\n";
        assert_eq!(loops(text), [("L1".into(), 2)]);
    }
}
