use ropewalk::*;
fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9E3779B97F4A7C15) | 1;
    (0..n)
        .map(|_| {
            let mut x = 0.0;
            for _ in 0..4 {
                s ^= s << 13;
                s ^= s >> 7;
                s ^= s << 17;
                x += (s >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
            }
            x * 1.7
        })
        .collect()
}
fn case(spec: &Spec, b: u32, q: u32, k: u32) -> Inputs {
    let t = |n: u32, h: u32, d: u32, s| {
        Tensor::bshd(Data::from_f32(spec.dtype, &noise((b * n * h * d) as usize, s)), [b, n, h, d]).unwrap()
    };
    Inputs::new(
        t(q, spec.num_heads, spec.head_dim, 1),
        t(k, spec.num_kv_heads, spec.head_dim, 2),
        t(k, spec.num_kv_heads, spec.v_head_dim, 3),
    )
}
#[test]
fn smoke() {
    let gpu = Gpu::open(&{
        let mut o = GpuOptions::default();
        o.default_limits = true;
        o
    })
    .unwrap();
    println!("{}", gpu.describe());
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        for (h, g, d, dv) in [(4, 2, 64, 64), (2, 2, 33, 7), (3, 1, 256, 130), (2, 1, 2, 1)] {
            for causal in [false, true] {
                let mut spec = Spec::new(h, g, d);
                spec.v_head_dim = dv;
                spec.dtype = dtype;
                spec.rotary = Some(Rotary::new(
                    if causal { Pairing::Half } else { Pairing::Interleaved },
                    d / 4 * 2 + (d < 4) as u32 * 2,
                    1e4,
                ));
                if causal {
                    spec.mask = Mask::causal();
                    spec.bias = vec![Bias::Alibi { form: AlibiForm::Relative, slopes: None, scale: 1.0 }];
                    spec.logits_soft_cap = Some(20.0);
                }
                let inputs = case(&spec, 2, 37, 75);
                let t = std::time::Instant::now();
                let (got, stats) = gpu.attention_with(&spec, &inputs, &|_| ()).unwrap();
                let el = t.elapsed();
                let want = reference::attention(&spec, &inputs).unwrap();
                let e = |a: &[f32], b: &[f64]| {
                    a.iter()
                        .zip(b)
                        .map(|(a, b)| if *a as f64 == *b { 0.0 } else { (*a as f64 - b).abs() })
                        .fold(0.0, |m, x| if x > m || x.is_nan() { x } else { m })
                };
                let s = gpu.scores(&spec, &inputs).unwrap();
                let sr = reference::scores(&spec, &inputs).unwrap();
                let (q, k) = gpu.rotate(&spec, &inputs).unwrap();
                let (qr, kr) = reference::rotate(&spec, &inputs).unwrap();
                println!(
                    "{} out {:.1e} lse {:.1e} scores {:.1e} q {:.1e} k {:.1e}  {:?} {:?}",
                    stats.kernel,
                    e(&got.out, &want.out),
                    e(&got.lse, &want.lse),
                    e(&s, &sr),
                    e(&q, &qr),
                    e(&k, &kr),
                    el,
                    stats.wall_time
                );
            }
        }
    }
}
