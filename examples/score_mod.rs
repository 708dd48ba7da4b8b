//! The user's own functions of a score: a soft cap, ALiBi, and the mask of a tree of drafted tokens.
use ropewalk::{AlibiForm, Bias, Gpu, Inputs, Mask, MaskMod, ScoreAt, ScoreMod, Spec, Tensor, alibi_slopes, check};

/// Grok's and Gemma 2's cap, here after everything else.
const SOFT_CAP: &str = "
const my_cap = 30.0;
fn score_mod(s: f32, at: ScoreAt) -> f32 { return my_cap * tanh_f32(s / my_cap); }
";

/// Slopes of 4 heads; `distance` is k_pos - q_pos.
const ALIBI: &str = "
const my_slopes = array<f32, 4>(0.25, 0.0625, 0.015625, 0.00390625);
fn score_mod(s: f32, at: ScoreAt) -> f32 { return s + my_slopes[at.head] * f32(distance(at)); }
";

/// Speculative decoding: the last keys are the drafted tokens, the same ones that ask. Each sees the prompt, itself and those
/// above it. Word i of the data is the parent of token i; the root's is itself.
const TREE: &str = "
const MY_DEPTH = 8;
fn mask_mod(at: ScoreAt) -> bool {
    let first = at.q_index - i32(at.i);
    if (i32(at.j) < first) { return true; }
    let key = at.j - u32(first);
    var node = at.i;
    for (var up = 0; up < MY_DEPTH; up++) {
        if (node == key) { return true; }
        node = user_u32(node);
    }
    return false;
}
";

fn main() -> ropewalk::Result<()> {
    let gpu = Gpu::new()?;
    let wave = |n: u32, step: f32| (0..n).map(|i| (i as f32 * step).sin()).collect::<Vec<f32>>();
    let plain = Inputs::new(
        Tensor::bshd(wave(7 * 4 * 64, 0.7), [1, 7, 4, 64])?,
        Tensor::bshd(wave(40 * 2 * 64, 0.3), [1, 40, 2, 64])?,
        Tensor::bshd(wave(40 * 2 * 64, 0.2), [1, 40, 2, 64])?,
    );

    // a closure beside the text feeds the reference; tanh_f32 is within 24 roundings
    let mut spec = Spec::new(4, 2, 64);
    spec.mask = Mask::causal();
    spec.score_mod = Some(SOFT_CAP.into());
    let mut inputs = plain.clone();
    inputs.score_mod = Some(ScoreMod::new(24.0, |s, _| 30.0 * (s / 30.0).tanh()));
    report("soft cap", &gpu, &spec, &inputs)?;

    let slopes = alibi_slopes(4);
    spec.score_mod = Some(ALIBI.into());
    inputs.score_mod = Some(ScoreMod::new(2.0, move |s, at| s + slopes[at.head as usize] * at.distance() as f64));
    let own = report("ALiBi", &gpu, &spec, &inputs)?;
    spec.score_mod = None;
    spec.bias = vec![Bias::Alibi { form: AlibiForm::Relative, slopes: None, scale: 1.0 }];
    let built_in = gpu.attention(&spec, &plain)?;
    println!("  the built-in's bits: {}", own.iter().map(|x| x.to_bits()).eq(built_in.out.iter().map(|x| x.to_bits())));

    let parents = [0u32, 0, 0, 1, 1, 2, 5];
    let mut spec = Spec::new(4, 2, 64);
    spec.mask_mod = Some(TREE.into());
    let mut inputs = plain.clone();
    inputs.user_data = parents.to_vec();
    inputs.mask_mod = Some(MaskMod::new(move |at: &ScoreAt| {
        let key = at.j as i32 - (at.q_index - at.i as i32);
        let mut above = std::iter::successors(Some(at.i), |node| Some(parents[*node as usize])).take(8);
        key < 0 || above.any(|node| node as i32 == key)
    }));
    report("tree", &gpu, &spec, &inputs)?;

    // what is wrong with a text is told at its line
    spec.mask_mod = Some("fn mask_mod(at: ScoreAt) -> bool {\n    while (at.j > 3u) { }\n    return true;\n}".into());
    println!("refused: {}", gpu.attention(&spec, &plain).map(|_| ()).unwrap_err());
    Ok(())
}

fn report(name: &str, gpu: &Gpu, spec: &Spec, inputs: &Inputs) -> ropewalk::Result<Vec<f32>> {
    let result = gpu.attention(spec, inputs)?;
    println!("{name}: {}", check::verify(spec, inputs, &result, &check::Options::default(), &|_| ())?);
    Ok(result.out)
}
