//! Storage of k and v in types of their own: what ggml's blocks mean, by the package gguf (`tests/storage/ggml_blocks.json`); kernels within their
//! bounds; what is refused.

use ropewalk::{Blocks, Data, Dtype, Kernel, Limits, Pairing, Plan, Rotary, Shape, Spec, Tensor};
use serde_json::Value;

fn table() -> Value {
    serde_json::from_str(include_str!("storage/ggml_blocks.json")).expect("JSON")
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number") as f32).collect()
}

#[test]
fn blocks_mean_what_gguf_says_and_are_quantised_to_its_bytes() {
    let table = table();
    let values = floats(&table["values"]);
    let mut seen = 0;
    for (name, case) in table["types"].as_object().expect("types") {
        let dtype = Dtype::named(name).unwrap_or_else(|| panic!("{name} is no type"));
        let hex = case["bytes"].as_str().expect("hex");
        let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex");
        let bytes: Vec<u8> = (0..hex.len() / 2).map(byte).collect();
        let wanted = floats(&case["dequantised"]);
        let data = Data::from(Blocks::new(dtype, wanted.len() as u32, bytes.clone()).expect("whole blocks"));
        assert_eq!((data.len(), data.dtype()), (wanted.len(), dtype), "{name}");
        for (i, want) in wanted.iter().enumerate() {
            assert_eq!(data.get(i).to_bits(), want.to_bits(), "{name}[{i}]: {} for {want}", data.get(i));
            assert!((data.exact(i) - *want as f64).abs() <= 6e-8 * data.exact(i).abs(), "{name}[{i}]");
        }
        if case["quantised"] == true {
            assert_eq!(Data::from_rows(dtype, values.len() as u32, &values).bytes(), bytes, "{name}");
        }
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn every_type_keeps_what_it_can() {
    let values: Vec<f32> = (0..256).map(|i| ((i * 37 % 101) as f32 - 50.0) / 20.0).collect();
    for (dtype, most) in [
        (Dtype::Q8_0, 0.011),
        (Dtype::Q4_0, 0.32),
        (Dtype::Q4_1, 0.18),
        (Dtype::Q5_0, 0.17),
        (Dtype::Q5_1, 0.09),
        (Dtype::Iq4Nl, 0.35),
        (Dtype::Int8, 0.011),
        (Dtype::F8E4m3, 0.126),
    ] {
        let data = Data::from_rows(dtype, 64, &values);
        assert_eq!(data.bytes().len() as u64, 4 * dtype.row_bytes(64), "{}", dtype.name());
        let worst = values.iter().enumerate().map(|(i, x)| (data.get(i) - x).abs()).fold(0.0, f32::max);
        assert!(worst < most && worst > 0.0, "{}: {worst}", dtype.name());
    }
    // every number of fp8 but NaN is itself again
    for bits in (0..=255u8).filter(|bits| bits & 127 != 127) {
        let one = Data::from(Blocks::new(Dtype::F8E4m3, 4, vec![bits; 4]).expect("a block"));
        assert_eq!(Data::from_rows(Dtype::F8E4m3, 4, &one.to_f32()).bytes(), one.bytes(), "{bits}");
    }
    assert_eq!(Data::from_rows(Dtype::F8E4m3, 4, &[1e9, -1e9, 1e-9, 0.3]).to_f32(), [448.0, -448.0, 0.0, 0.3125]);
}

fn spec(k: Dtype, v: Dtype, dim: u32) -> Spec {
    let mut spec = Spec::new(4, 2, dim);
    spec.rotary = Some(Rotary::new(Pairing::Half, dim / 2 * 2, 1e4));
    (spec.k_dtype, spec.v_dtype) = (Some(k), Some(v));
    spec
}

#[test]
fn what_cannot_be_stored_is_refused_with_the_way_out() {
    let refused = |spec: &Spec| spec.validate().expect_err("refused").to_string();
    let error = refused(&spec(Dtype::Q8_0, Dtype::F16, 80));
    assert!(error.contains("k_dtype") && error.contains("pad rows with zeros to 96 elements"), "{error}");
    let error = refused(&spec(Dtype::F16, Dtype::Int8, 33));
    assert!(error.contains("v_dtype") && error.contains("to 36 elements"), "{error}");
    let mut q = spec(Dtype::F16, Dtype::F16, 64);
    q.dtype = Dtype::Q8_0;
    assert!(refused(&q).contains("give f32, f16 or bf16"));
    let error = refused(&Spec::new(1, 1, 577));
    assert!(error.contains("is 577") && error.contains("give 1 to 576, and project wider rows down"), "{error}");
    let blocks = |dtype, dim, n: usize| Blocks::new(dtype, dim, vec![0; n]).expect_err("refused").to_string();
    assert!(blocks(Dtype::F16, 64, 128).contains("which has none"));
    assert!(blocks(Dtype::Q4_0, 40, 36).contains("pad them to 64"));
    assert!(blocks(Dtype::Q4_0, 64, 35).contains("no whole blocks"));
    // strides and offsets between blocks
    let data = || Data::from_rows(Dtype::Q8_0, 64, &[0.5; 512]);
    let strides = ropewalk::Strides { batch: 256, token: 80, head: 64 };
    let error = Tensor::strided(data(), [1, 2, 1, 64], strides, 0).expect_err("refused").to_string();
    assert!(error.contains("whole blocks"), "{error}");
    let spec = spec(Dtype::Q8_0, Dtype::Q8_0, 64);
    let mut shape = Shape::new(&spec, 1, 1, 100);
    shape.k.token += 16;
    let plan = |kernel, shape: &Shape| Plan::new(kernel, &spec, shape, &Limits::default());
    let error = plan(Kernel::Attention, &shape).expect_err("refused").to_string();
    assert!(error.contains("shape.k") && error.contains("multiples of 32"), "{error}");
    let shape = Shape::new(&spec, 1, 1, 100);
    let error = plan(Kernel::RotateK { in_place: true }, &shape).expect_err("refused").to_string();
    assert!(error.contains("leave keys unrotated"), "{error}");
}

#[test]
fn files_without_the_new_fields_mean_what_they_meant() {
    let text = r#"{"schema": 1, "num_heads": 2, "num_kv_heads": 1, "head_dim": 64, "v_head_dim": 64, "dtype": "f16"}"#;
    let old = Spec::from_json(text).expect("an old file");
    assert_eq!([old.k_storage(), old.v_storage(), old.out_storage()], [Dtype::F16; 3]);
    assert!(!old.to_json().contains("k_dtype"));
    for dtype in Dtype::ALL {
        let spec = spec(dtype, dtype, 64);
        assert_eq!(Spec::from_json(&spec.to_json()).expect("the same"), spec);
        assert!(spec.to_json().contains(&format!("\"k_dtype\": \"{}\"", dtype.name())));
    }
}

/// 18 to 34 bytes for 32 elements are what a plan binds.
#[test]
fn plans_bind_the_bytes_of_blocks() {
    let spec = spec(Dtype::Q8_0, Dtype::Q4_0, 64);
    let plan = Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 1, 100), &Limits::default()).expect("a plan");
    let size = |slot| plan.binding(slot).map(|b| (b.size, b.wgsl_type.clone()));
    assert_eq!(size(ropewalk::Slot::K), Some((100 * 2 * 68, "array<u32>".to_string())));
    assert_eq!(size(ropewalk::Slot::V), Some((100 * 2 * 36, "array<u32>".to_string())));
}

/// Numbers that are nearly normal, of deviation 1.
fn normal(n: usize, seed: u64) -> Vec<f32> {
    let uniform = |i: u64| {
        let x = (i + seed * 1_000_003).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (x >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n as u64).map(|i| (0..12).map(|k| uniform(12 * i + k)).sum()).collect()
}

/// The error of attention's output by storage of k and v, as docs/engines.md has it: 2 kv heads of 64, 256 keys, 16 queries, RoPE; rows that are
/// normal, and keys of which two channels are 20 times larger.
#[test]
fn the_table_of_errors_is_what_the_reference_finds() {
    let (heads, kv_heads, dim, q_len, kv_len) = (4, 2, 64, 16, 256);
    let tensor = |dtype: Dtype, values: &[f32], len: u32, heads: u32| {
        Tensor::bshd(Data::from_rows(dtype, dim, values), [1, len, heads, dim]).expect("rows")
    };
    let rows = |len: u32, heads: u32, seed| normal((len * heads * dim) as usize, seed);
    let (q, k, v) = (rows(q_len, heads, 1), rows(kv_len, kv_heads, 2), rows(kv_len, kv_heads, 3));
    let outliers = |(i, x): (usize, &f32)| if [5, 40].contains(&(i % dim as usize)) { 20.0 * x } else { *x };
    let wide: Vec<f32> = k.iter().enumerate().map(outliers).collect();
    let error = |k: &[f32], dtype: Dtype, rotated: bool| {
        let mut spec = Spec::new(heads, kv_heads, dim);
        spec.rotary = Some(Rotary::new(Pairing::Half, dim, 1e4));
        let plain = ropewalk::Inputs::new(
            tensor(Dtype::F32, &q, q_len, heads),
            tensor(Dtype::F32, k, kv_len, kv_heads),
            tensor(Dtype::F32, &v, kv_len, kv_heads),
        );
        let want = ropewalk::reference::attention(&spec, &plain).expect("a reference").out;
        let mut keys = k.to_vec();
        if rotated {
            let turned = ropewalk::reference::rotate(&spec, &plain).expect("a reference").1;
            keys = turned.into_iter().map(|x| x as f32).collect();
            spec.rotary.iter_mut().for_each(|rotary| rotary.keys_rotated = true);
        }
        (spec.k_dtype, spec.v_dtype) = (Some(dtype), Some(dtype));
        let (k, v) = (tensor(dtype, &keys, kv_len, kv_heads), tensor(dtype, &v, kv_len, kv_heads));
        let stored = ropewalk::Inputs::new(plain.q.clone(), k, v);
        let got = ropewalk::reference::attention(&spec, &stored).expect("a reference").out;
        let off: f64 = got.iter().zip(&want).map(|(a, b)| (a - b).powi(2)).sum();
        (off / want.iter().map(|x| x * x).sum::<f64>()).sqrt()
    };
    let mut table = String::from(
        "| k and v in | bits an element | normal, unrotated | normal, rotated | outliers, unrotated | outliers, rotated |\n\
         |---|--:|--:|--:|--:|--:|\n",
    );
    for dtype in Dtype::ALL.into_iter().filter(|dtype| *dtype != Dtype::F32) {
        let bits = 8.0 * dtype.row_bytes(dim) as f64 / dim as f64;
        let errors = [(&k, false), (&k, true), (&wide, false), (&wide, true)].map(|(k, rotated)| {
            let x = 100.0 * error(k, dtype, rotated);
            // two digits
            let places = (1 - x.log10().floor() as i32).clamp(0, 6) as usize;
            format!("{x:.places$} %")
        });
        table += &format!("| `{}` | {bits} | {} |\n", dtype.name(), errors.join(" | "));
    }
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/engines.md")).expect("the page");
    assert!(page.contains(&table), "docs/engines.md lacks this table:\n{table}");
}

#[cfg(feature = "wgpu")]
mod on_devices {
    use super::*;
    use crate::common::gpus;
    use ropewalk::Inputs;
    use ropewalk::check::{Options, verify};

    fn inputs(spec: &Spec, q_len: u32, kv_len: u32) -> Inputs {
        let noise = |n: u32, seed: u32| -> Vec<f32> {
            let one = |i: u32| ((i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16) as f32 / 32_768.0) - 1.0;
            (0..n).map(one).collect()
        };
        let tensor = |dtype, len: u32, heads: u32, dim: u32, seed| {
            let data = Data::from_rows(dtype, dim, &noise(len * heads * dim, seed));
            Tensor::bshd(data, [1, len, heads, dim]).expect("rows")
        };
        Inputs::new(
            tensor(spec.dtype, q_len, spec.num_heads, spec.head_dim, 1),
            tensor(spec.k_storage(), kv_len, spec.num_kv_heads, spec.head_dim, 2),
            tensor(spec.v_storage(), kv_len, spec.num_kv_heads, spec.v_head_dim, 3),
        )
    }

    /// Every type once, half of them as keys that turn inside the kernel; an odd number of blocks a row.
    #[test]
    fn kernels_read_every_type() {
        for gpu in gpus() {
            let pairs = [
                (Dtype::Q8_0, Dtype::Q5_1),
                (Dtype::Q4_0, Dtype::Q5_0),
                (Dtype::Q4_1, Dtype::Iq4Nl),
                (Dtype::F8E4m3, Dtype::Int8),
            ];
            for (k, v) in pairs {
                let spec = spec(k, v, 96);
                let inputs = inputs(&spec, 1, 65);
                let got = gpu.attention(&spec, &inputs).expect("a result");
                let report = verify(&spec, &inputs, &got, &Options::default(), &|_| ()).expect("bounds");
                assert!(report.passed(), "{} and {} on {}", k.name(), v.name(), gpu.describe());
            }
        }
    }

    /// Absorbed latent attention: 512 + 64 elements of a key, whose first 512 are its value.
    #[test]
    fn the_value_of_a_latent_key_is_the_front_of_its_row() {
        let mut spec = Spec::new(4, 1, 576);
        (spec.v_head_dim, spec.k_dtype, spec.v_dtype) = (512, Some(Dtype::Q8_0), Some(Dtype::Q8_0));
        let mut inputs = inputs(&spec, 1, 40);
        let strides = inputs.k.strides();
        inputs.v = Tensor::strided(inputs.k.data().clone(), [1, 40, 1, 512], strides, 0).expect("a part of every row");
        for gpu in gpus() {
            let got = gpu.attention(&spec, &inputs).expect("a result");
            let report = verify(&spec, &inputs, &got, &Options::default(), &|_| ()).expect("bounds");
            assert!(report.passed(), "{}", gpu.describe());
        }
    }
}
