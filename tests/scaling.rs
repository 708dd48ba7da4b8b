//! Length extensions against transformers' and rotary-embedding-torch's own numbers.

use ropewalk::{
    Angle, Error, Inputs, LongRope, Pairing, Positions, RopeParameters, RopeScaling, Rotary, Spec, Tensor, Yarn,
    reference,
};
use safetensors::{Dtype, SafeTensors};
use std::f64::consts::TAU;

/// One file of `tests/golden/08_rope_scaling`.
struct Case {
    name: String,
    parameters: serde_json::Value,
    bytes: Vec<u8>,
}

impl Case {
    fn all() -> Vec<Case> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/08_rope_scaling");
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
        paths.sort();
        let cases: Vec<Case> = paths.into_iter().map(|path| Case::read(&path)).collect();
        assert_eq!(cases.len(), 18, "every golden case of the folder is read");
        cases
    }
    fn read(path: &std::path::Path) -> Case {
        let bytes = std::fs::read(path).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let parameters = metadata.metadata().as_ref().unwrap().get("parameters").unwrap();
        let parameters = serde_json::from_str(parameters).unwrap();
        Case { name: path.file_stem().unwrap().to_str().unwrap().into(), parameters, bytes }
    }
    fn number(&self, key: &str) -> Option<f64> {
        self.parameters[key].as_f64()
    }
    fn tensor(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = file.tensor(name).unwrap();
        let data = tensor.data();
        match tensor.dtype() {
            Dtype::F64 => data.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().unwrap())).collect(),
            Dtype::F32 => data.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap()) as f64).collect(),
            Dtype::I32 => data.chunks_exact(4).map(|c| i32::from_le_bytes(c.try_into().unwrap()) as f64).collect(),
            other => panic!("{}: {name} is {other}", self.name),
        }
    }
    fn rope(&self) -> RopeParameters {
        let count = |key| self.number(key).map(|n| n as u32);
        let dictionary = self.parameters["rope_parameters"].to_string();
        RopeParameters::from_json(&dictionary, count("max_position_embeddings"), count("seq_len")).unwrap()
    }
    /// cos and sin, `[position, pair]`, that the reference turns the unit vector of every pair by.
    fn cos_sin(&self, rotary: Rotary) -> (Vec<f64>, Vec<f64>) {
        let positions: Vec<i32> = self.tensor("positions").iter().map(|p| *p as i32).collect();
        let (len, d) = (positions.len() as u32, rotary.rotary_dim);
        let mut spec = Spec::new(1, 1, d);
        spec.rotary = Some(rotary);
        spec.positions = Positions::Ids;
        let unit: Vec<f32> = (0..len).flat_map(|_| (0..d).map(|i| if i < d / 2 { 1.0 } else { 0.0 })).collect();
        let unit = Tensor::bshd(unit, [1, len, 1, d]).unwrap();
        let mut inputs = Inputs::new(unit.clone(), unit.clone(), unit);
        inputs.q_positions = Some(positions.clone());
        inputs.k_positions = Some(positions);
        let (q, k) = reference::rotate(&spec, &inputs).unwrap();
        assert_eq!(q, k);
        let half = (d / 2) as usize;
        let rows = || q.chunks_exact(d as usize);
        (rows().flat_map(|r| r[..half].to_vec()).collect(), rows().flat_map(|r| r[half..].to_vec()).collect())
    }
}

fn worst(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn frequencies_and_attention_factor_are_the_packages() {
    for case in Case::all() {
        let rope = case.rope();
        let rotary_dim = case.number("rotary_dim").unwrap() as u32;
        let (inv_freq, attention_factor) = rope.scaling.inv_freq(rope.theta.unwrap(), rotary_dim).unwrap();
        let want = case.tensor("inv_freq");
        assert_eq!(inv_freq.len(), want.len(), "{}", case.name);
        for (p, (got, want)) in inv_freq.iter().zip(&want).enumerate() {
            assert!((got - want).abs() <= 1e-14 * want.abs(), "{} pair {p}: {got} for {want}", case.name);
        }
        let want = case.number("attention_factor").unwrap();
        assert!((attention_factor - want).abs() <= 1e-15 * want, "{}: {attention_factor} for {want}", case.name);
    }
}

#[test]
fn exact_angles_are_those_of_the_f64_frequencies() {
    for case in Case::all() {
        let rope = case.rope();
        let rotary_dim = case.number("rotary_dim").unwrap() as u32;
        let rotary = Rotary::scaled(Pairing::Half, rotary_dim, rope.theta.unwrap(), &rope.scaling).unwrap();
        let tolerance = 2e-7 * rotary.attention_factor;
        let (cos, sin) = case.cos_sin(rotary);
        for (name, got) in [("cos", &cos), ("sin", &sin)] {
            let off = worst(got, &case.tensor(name));
            assert!(off <= tolerance, "{}: {name} off by {off:e}", case.name);
        }
        // The three kinds of cos differ: a mix-up would not pass.
        assert!(worst(&cos, &case.tensor("cos_hf_f32")) > 1e-3, "{}", case.name);
        assert!(worst(&cos, &case.tensor("cos_f64_from_inv_freq_f32")) > 1e-3, "{}", case.name);
    }
}

#[test]
fn angles_of_float32_frequencies_are_the_modules() {
    for case in Case::all() {
        let rope = case.rope();
        let rotary_dim = case.number("rotary_dim").unwrap() as u32;
        let (_, attention_factor) = rope.scaling.inv_freq(rope.theta.unwrap(), rotary_dim).unwrap();
        let mut rotary = Rotary::with_inv_freq(Pairing::Half, case.tensor("inv_freq_f32"));
        rotary.attention_factor = attention_factor;
        for (angle, suffix) in [(Angle::Exact, "f64_from_inv_freq_f32"), (Angle::Float32, "hf_f32")] {
            rotary.angle = angle;
            let (cos, sin) = case.cos_sin(rotary.clone());
            for (name, got) in [("cos", cos), ("sin", sin)] {
                let off = worst(&got, &case.tensor(&format!("{name}_{suffix}")));
                assert!(off <= 1.2e-7 * attention_factor, "{}: {name}_{suffix} off by {off:e}", case.name);
            }
        }
    }
}

#[test]
fn llama_3_steps_where_its_two_factors_are_one() {
    let step = |high| RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: high,
        original_max_position_embeddings: 8192,
    };
    let plain = RopeScaling::Default.inv_freq(500_000.0, 128).unwrap().0;
    let (stepped, _) = step(1.0).inv_freq(500_000.0, 128).unwrap();
    let long = plain.iter().position(|f| TAU / f > 8192.0).unwrap();
    assert_eq!(stepped[..long], plain[..long]);
    let divided: Vec<f64> = plain[long..].iter().map(|f| f / 8.0).collect();
    assert_eq!(stepped[long..], divided);
    // A frequency exactly on the step (theta such that pair 1 of 2 turns once in 8192): unchanged, not 0 / 0.
    let theta = (8192.0f64 / TAU).powi(2);
    let (edge, _) = step(1.0).inv_freq(theta, 4).unwrap();
    assert!(edge.iter().all(|f| f.is_finite()), "{edge:?}");
    assert!(step(0.5).inv_freq(500_000.0, 128).is_err());
}

#[test]
fn base_changes_keep_the_first_pair_and_stretch_the_last() {
    let plain = RopeScaling::Default.inv_freq(10_000.0, 64).unwrap().0;
    let (ntk, _) = RopeScaling::Ntk { factor: 4.0 }.inv_freq(10_000.0, 64).unwrap();
    assert_eq!(ntk[0], 1.0);
    assert!((ntk[31] * 4.0 / plain[31] - 1.0).abs() < 1e-14);
    // Dynamic at twice its length with factor 3 is the fixed change by 3 * 2 - 2 = 4.
    let dynamic = RopeScaling::Dynamic { factor: 3.0, max_position_embeddings: 1000, seq_len: Some(2000) };
    let (dynamic, _) = dynamic.inv_freq(10_000.0, 64).unwrap();
    assert!(worst(&dynamic, &ntk) < 1e-15);
}

#[test]
fn yarn_leaves_fast_pairs_and_divides_slow_ones() {
    let yarn = |truncate| {
        let mut yarn = Yarn::new(16.0, 4096);
        yarn.truncate = Some(truncate);
        RopeScaling::Yarn(yarn).inv_freq(10_000.0, 128).unwrap().0
    };
    let plain = RopeScaling::Default.inv_freq(10_000.0, 128).unwrap().0;
    let turns: Vec<f64> = plain.iter().map(|f| 4096.0 * f / TAU).collect();
    for (p, turns) in turns.iter().enumerate() {
        let share = |f: &[f64]| f[p] / plain[p];
        if *turns > 32.0 {
            assert_eq!(share(&yarn(false)), 1.0, "pair {p}");
        } else if *turns < 1.0 {
            assert!((share(&yarn(false)) * 16.0 - 1.0).abs() < 1e-15, "pair {p}");
        } else {
            assert!((1.0 / 16.0..=1.0).contains(&share(&yarn(true))), "pair {p}");
        }
    }
    assert!(worst(&yarn(true), &yarn(false)) > 1e-5, "rounding the ramp's ends changes it");
}

/// The field that an error names.
fn field(result: Result<(Vec<f64>, f64), Error>) -> String {
    match result {
        Err(Error::Spec { field, .. }) => field,
        other => panic!("no error of the spec: {other:?}"),
    }
}

#[test]
fn bad_numbers_are_errors_that_name_their_field() {
    let longrope = |short: Vec<f64>, long: Vec<f64>, original| {
        let mut longrope = LongRope::new(short, long, original);
        longrope.factor = Some(2.0);
        longrope
    };
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        for scaling in [
            RopeScaling::Linear { factor: bad },
            RopeScaling::Ntk { factor: bad },
            RopeScaling::Dynamic { factor: bad, max_position_embeddings: 4096, seq_len: None },
            RopeScaling::Yarn(Yarn::new(bad, 4096)),
            RopeScaling::Proportional { partial_rotary_factor: 0.5, factor: Some(bad) },
            RopeScaling::Llama3 {
                factor: bad,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 8192,
            },
        ] {
            assert_eq!(field(scaling.inv_freq(10_000.0, 64)), "scaling.factor", "{scaling:?}");
        }
        let llama = |low, high| RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: 8192,
        };
        assert_eq!(field(llama(bad, 4.0).inv_freq(10_000.0, 64)), "scaling.low_freq_factor");
        assert_eq!(field(llama(1.0, bad).inv_freq(10_000.0, 64)), "scaling.high_freq_factor");
        let share = RopeScaling::Proportional { partial_rotary_factor: bad, factor: None };
        assert_eq!(field(share.inv_freq(10_000.0, 64)), "scaling.partial_rotary_factor");
        assert_eq!(field(RopeScaling::Default.inv_freq(bad, 64)), "scaling.theta");
        type Set = fn(&mut Yarn, f64);
        let fields: [(&str, Set); 5] = [
            ("beta_fast", |y, x| y.beta_fast = Some(x)),
            ("beta_slow", |y, x| y.beta_slow = Some(x)),
            ("attention_factor", |y, x| y.attention_factor = Some(x)),
            ("mscale", |y, x| (y.mscale, y.mscale_all_dim) = (Some(x), Some(1.0))),
            ("mscale_all_dim", |y, x| (y.mscale, y.mscale_all_dim) = (Some(1.0), Some(x))),
        ];
        for (name, set) in fields {
            let mut yarn = Yarn::new(4.0, 4096);
            set(&mut yarn, bad);
            assert_eq!(field(RopeScaling::Yarn(yarn).inv_freq(10_000.0, 64)), format!("scaling.{name}"));
        }
        let list = RopeScaling::LongRope(longrope(vec![1.0, 1.0], vec![1.0, bad], 4096));
        assert_eq!(field(list.inv_freq(10_000.0, 4)), "scaling.long_factor[1]");
        let mut factor = longrope(vec![1.0; 2], vec![1.0; 2], 4096);
        factor.factor = Some(bad);
        assert_eq!(field(RopeScaling::LongRope(factor.clone()).inv_freq(10_000.0, 4)), "scaling.factor");
        (factor.factor, factor.attention_factor) = (None, Some(bad));
        assert_eq!(field(RopeScaling::LongRope(factor).inv_freq(10_000.0, 4)), "scaling.attention_factor");
    }
}

#[test]
fn lengths_and_shapes_that_do_not_fit_are_errors() {
    let longrope = |short: usize, long: usize, original| {
        RopeScaling::LongRope(LongRope::new(vec![1.0; short], vec![1.0; long], original))
    };
    assert_eq!(field(longrope(3, 2, 4096).inv_freq(10_000.0, 4)), "scaling.short_factor");
    assert_eq!(field(longrope(2, 3, 4096).inv_freq(10_000.0, 4)), "scaling.long_factor");
    assert_eq!(field(longrope(2, 2, 0).inv_freq(10_000.0, 4)), "scaling.original_max_position_embeddings");
    // No factor, no length to compute it from, no attention factor.
    assert_eq!(field(longrope(2, 2, 4096).inv_freq(10_000.0, 4)), "scaling.attention_factor");
    let dynamic = RopeScaling::Dynamic { factor: 2.0, max_position_embeddings: 0, seq_len: None };
    assert_eq!(field(dynamic.inv_freq(10_000.0, 64)), "scaling.max_position_embeddings");
    let yarn = |original| RopeScaling::Yarn(Yarn::new(2.0, original));
    assert_eq!(field(yarn(0).inv_freq(10_000.0, 64)), "scaling.original_max_position_embeddings");
    assert_eq!(field(yarn(4096).inv_freq(1.0, 64)), "scaling.theta");
    // Over 2 tokens no pair turns even once: the ramp would run backwards.
    assert_eq!(field(yarn(2).inv_freq(10_000.0, 64)), "scaling.original_max_position_embeddings");
    let mut lone = Yarn::new(2.0, 4096);
    lone.mscale = Some(1.0);
    assert_eq!(field(RopeScaling::Yarn(lone).inv_freq(10_000.0, 64)), "scaling.mscale");
    for rotary_dim in [0, 1, 63, u32::MAX - 1] {
        assert_eq!(field(RopeScaling::Default.inv_freq(10_000.0, rotary_dim)), "scaling.rotary_dim");
    }
    assert_eq!(field(RopeScaling::Ntk { factor: 2.0 }.inv_freq(10_000.0, 2)), "scaling.rotary_dim");
    let share = RopeScaling::Proportional { partial_rotary_factor: 1.5, factor: None };
    assert_eq!(field(share.inv_freq(10_000.0, 64)), "scaling.partial_rotary_factor");
    assert_eq!(field(RopeScaling::Linear { factor: 1e-320 }.inv_freq(10_000.0, 64)), "scaling");
}

#[test]
fn a_scaled_rotation_survives_a_spec_file() {
    for case in Case::all() {
        let rope = case.rope();
        let rotary_dim = case.number("rotary_dim").unwrap() as u32;
        let mut spec = Spec::new(1, 1, rotary_dim);
        spec.rotary = Some(Rotary::scaled(Pairing::Half, rotary_dim, rope.theta.unwrap(), &rope.scaling).unwrap());
        assert_eq!(Spec::from_json(&spec.to_json()).unwrap(), spec, "{}", case.name);
    }
}
