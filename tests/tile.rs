//! The family `tile`: every tile and variant of it against the bounds, forced where a device would not take it.
#![cfg(feature = "wgpu")]

mod common;
use common::{gpus, inputs, noise};
use ropewalk::case;
use ropewalk::*;

/// Every listed case of attention that the family takes, each with another tile.
#[test]
fn cases_pass() {
    for gpu in gpus() {
        let mut ran = [0; 2];
        let mut failed = Vec::new();
        for (n, id) in case::matching("attention/").enumerate() {
            let case = id.build().expect("a listed case");
            let mut limits = *gpu.limits();
            let problem = Problem::new(&case.spec, &case.inputs).expect("a case");
            let tiles: Vec<_> = Tuning::candidates(Kernel::Attention, &case.spec, &problem.shape(), &limits).expect("candidates").into_iter().filter(|t| t.family == Family::Tile).collect();
            let Some(tuning) = tiles.get(n % tiles.len().max(1)) else { ran[1] += 1; println!("rows {id}"); continue };
            limits.tuning = Some(*tuning);
            let clock = std::time::Instant::now();
            let (out, stats) = gpu.with_limits(limits).attention_with(&case.spec, &case.inputs, &|_| ()).expect("it runs");
            if !stats.kernel.contains(".tile") { println!("not taken {id} {}", stats.kernel); continue }
            let (o, lse) = check::attention(&case.spec, &case.inputs).expect("bounds");
            let (o, lse) = (o.worst(&out.out), lse.worst(&out.lse));
            ran[0] += 1;
            let bad = o.failures + lse.failures > 0;
            if bad { failed.push(id.to_string()); }
            println!("{} {id} {} {:?} {:.3} {:.3} {:?}", if bad {"BAD"} else {"ok"}, stats.kernel, tuning, o.ratio, lse.ratio, clock.elapsed());
        }
        println!("{ran:?} failed {}: {failed:?}", failed.len());
        assert!(failed.is_empty());
    }
}
