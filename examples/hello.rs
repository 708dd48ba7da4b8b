//! One call: rotary attention with grouped heads, and its check.
use ropewalk::{Gpu, Inputs, Mask, Pairing, Rotary, Spec, Tensor, check};

fn main() -> ropewalk::Result<()> {
    // 4 query heads share 2 kv heads of 64 elements; the last 3 of 10 tokens are queries
    let mut spec = Spec::new(4, 2, 64);
    spec.rotary = Some(Rotary::new(Pairing::Half, 64, 10_000.0));
    spec.mask = Mask::causal();

    let wave = |n: u32, step: f32| (0..n).map(|i| (i as f32 * step).sin()).collect::<Vec<f32>>();
    let inputs = Inputs::new(
        Tensor::bshd(wave(3 * 4 * 64, 0.7), [1, 3, 4, 64])?,
        Tensor::bshd(wave(10 * 2 * 64, 0.3), [1, 10, 2, 64])?,
        Tensor::bshd(wave(10 * 2 * 64, 0.2), [1, 10, 2, 64])?,
    );

    let gpu = Gpu::new()?;
    let result = gpu.attention(&spec, &inputs)?;
    println!("{}", gpu.describe());
    println!("out[0..4] = {:?}, lse[0] = {}", &result.out[..4], result.lse[0]);
    println!("{}", check::verify(&spec, &inputs, &result, &check::Options::default(), &|_| ())?);
    Ok(())
}
