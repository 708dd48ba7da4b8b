//! The bounds are tight: each mutation of a right computation breaks one. And they do not cry wolf.
//!
//! A mutation is made in the arguments: the GPU computes the mutated problem, the check compares it with the right one.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{gpus, inputs, noise, sampled};
use ropewalk::*;

const SEEDS: u64 = 4;

/// The right problem: GQA 4/2, causal with a window, cap, a bias table; queries are the last rows.
fn problem(dtype: Dtype, kv_len: u32, seed: u64) -> (Spec, Inputs) {
    let q_len = 5;
    let mut spec = Spec::new(4, 2, 64);
    spec.dtype = dtype;
    spec.rotary = Some(Rotary::new(Pairing::Half, 64, 10_000.0));
    spec.positions = Positions::Ids;
    spec.logits_soft_cap = Some(5.0);
    spec.bias = vec![Bias::Table { min: -40, max: 0 }];
    spec.mask = Mask::causal();
    spec.mask.window_left = Some(kv_len * 3 / 4);
    let mut inputs = inputs(&spec, 1, q_len, kv_len, seed);
    inputs.q_positions = Some((kv_len as i32 - q_len as i32..kv_len as i32).collect());
    inputs.k_positions = Some((0..kv_len as i32).collect());
    inputs.parameters.insert("bias_table".into(), noise(4 * 41, seed + 1000));
    (spec, inputs)
}

/// A key that every query sees (inside the smallest window, before the first query).
fn some_key(kv_len: u32, seed: u64) -> u32 {
    let first = kv_len - kv_len * 3 / 4 + 1;
    first + (seed * 7919 % (kv_len - 5 - first) as u64) as u32
}

/// The rows `order` of k, v and the key positions.
fn take_keys(inputs: &mut Inputs, order: &[u32]) {
    let rows = |t: &Tensor| {
        let [_, _, heads, dim] = t.shape();
        let values: Vec<f32> = order
            .iter()
            .flat_map(|j| (0..heads).flat_map(|h| t.row(0, *j, h).map(|x| x as f32).collect::<Vec<_>>()))
            .collect();
        Tensor::bshd(Data::from_f32(t.dtype(), &values), [1, order.len() as u32, heads, dim]).unwrap()
    };
    (inputs.k, inputs.v) = (rows(&inputs.k), rows(&inputs.v));
    let positions = inputs.k_positions.take().unwrap();
    inputs.k_positions = Some(order.iter().map(|j| positions[*j as usize]).collect());
}

type Mutation = fn(&mut Spec, &mut Inputs, u64);

const MUTATIONS: [(&str, Mutation); 10] = [
    ("one key skipped", |spec, inputs, seed| {
        let n = inputs.k.shape()[1];
        spec.mask.dense = true;
        let skipped = some_key(n, seed);
        inputs.mask = Some(Dense::new([1, 1, 1, n], (0..n).map(|j| j != skipped).collect()).unwrap());
    }),
    ("one key counted twice", |spec, inputs, seed| {
        let n = inputs.k.shape()[1];
        let twice = some_key(n, seed);
        let mut order: Vec<u32> = (0..n).collect();
        order.insert(twice as usize, twice);
        take_keys(inputs, &order);
        spec.mask.window_left = spec.mask.window_left.map(|w| w + 1);
    }),
    ("position off by one", |_, inputs, _| {
        inputs.k_positions.as_mut().unwrap().iter_mut().for_each(|p| *p += 1);
    }),
    ("wrong pairing", |spec, _, _| spec.rotary.as_mut().unwrap().pairing = Pairing::Interleaved),
    ("bias row off by one", |_, inputs, _| inputs.parameters.values_mut().for_each(|t| t.rotate_left(1))),
    ("scale off by 1 %", |spec, _, _| spec.softmax_scale = Some(1.01 * spec.scale())),
    ("cap left out", |spec, _, _| spec.logits_soft_cap = None),
    ("window off by one", |spec, _, _| spec.mask.window_left = spec.mask.window_left.map(|w| w - 1)),
    ("wrong kv head for a query head", |_, inputs, _| {
        let swap = |t: &mut Tensor| {
            let [_, len, heads, dim] = t.shape();
            let values: Vec<f32> = (0..len)
                .flat_map(|j| (0..heads).rev().flat_map(move |h| [(j, h)]))
                .flat_map(|(j, h)| t.row(0, j, h).map(|x| x as f32).collect::<Vec<_>>())
                .collect();
            *t = Tensor::bshd(Data::from_f32(t.dtype(), &values), [1, len, heads, dim]).unwrap();
        };
        swap(&mut inputs.k);
        swap(&mut inputs.v);
    }),
    ("last tile of an odd length dropped", |spec, inputs, _| {
        let n = inputs.k.shape()[1];
        spec.mask.dense = true;
        // 2 048 is even: there the last tile of 32
        let kept = (n - 1) / 32 * 32;
        inputs.mask = Some(Dense::new([1, 1, 1, n], (0..n).map(|j| j < kept).collect()).unwrap());
    }),
];

#[test]
fn every_mutation_breaks_a_bound() {
    let Some(gpu) = gpus().into_iter().next() else { return };
    for kv_len in sampled(3, [37, 300, 2048]) {
        let right: Vec<_> = [Dtype::F32, Dtype::F16, Dtype::Bf16]
            .into_iter()
            .flat_map(|dtype| (0..SEEDS).map(move |seed| (seed, problem(dtype, kv_len, seed))))
            .map(|(seed, (spec, inputs))| (seed, check::attention(&spec, &inputs).unwrap(), spec, inputs))
            .collect();
        let (mut all_caught, mut all_tried) = (0, 0);
        for (name, mutate) in MUTATIONS {
            let (mut caught, mut tried) = (0, 0);
            for (seed, (out, lse), spec, inputs) in &right {
                let (mut wrong_spec, mut wrong) = (spec.clone(), inputs.clone());
                mutate(&mut wrong_spec, &mut wrong, *seed);
                let gpu_result = gpu.attention(&wrong_spec, &wrong).unwrap();
                let broken = out.worst(&gpu_result.out).failures + lse.worst(&gpu_result.lse).failures > 0;
                tried += 1;
                caught += broken as u32;
            }
            println!("{kv_len:5} keys, {name}: {caught} of {tried} caught");
            assert!(caught > 0, "{name} at {kv_len} keys is never caught");
            (all_caught, all_tried) = (all_caught + caught, all_tried + tried);
        }
        println!("{kv_len:5} keys: {all_caught} of {all_tried} mutations caught");
        let rate = all_caught as f64 / all_tried as f64;
        assert!(rate >= if kv_len <= 300 { 0.99 } else { 0.9 }, "{rate} at {kv_len} keys");
    }
}

#[test]
fn no_false_alarm() {
    for gpu in gpus() {
        let mut worst = [check::Worst::default(); 3];
        let mut elements = 0;
        // short rows give many elements of out, long ones many of scores
        let (mut spec, _) = problem(Dtype::F32, 37, 0);
        (spec.positions, spec.mask.window_left, spec.bias) = (Positions::Index, None, Vec::new());
        spec.logits_soft_cap = Some(5.0);
        for (n, (batch, q_len, kv_len)) in [(400, 64, 37), (2, 1024, 512)].into_iter().enumerate() {
            let inputs = inputs(&spec, batch, q_len, kv_len, 7);
            let got = gpu.attention(&spec, &inputs).unwrap();
            let (out, lse) = check::attention(&spec, &inputs).unwrap();
            for (w, new) in worst.iter_mut().zip([out.worst(&got.out), lse.worst(&got.lse)]) {
                assert_eq!(new.failures, 0, "{}: {new:?}", gpu.describe());
                elements += new.elements;
                *w = if new.ratio > w.ratio { new } else { *w };
            }
            if n == 1 {
                let scores = check::scores(&spec, &inputs).unwrap().worst(&gpu.scores(&spec, &inputs).unwrap());
                assert_eq!(scores.failures, 0, "{}: {scores:?}", gpu.describe());
                elements += scores.elements;
                worst[2] = scores;
            }
        }
        let [out, lse, scores] = worst.map(|w| w.ratio);
        println!(
            "{}: {elements} elements, no alarm; worst error / bound: out {out:.3}, lse {lse:.3}, scores {scores:.3}",
            gpu.describe()
        );
        assert!(elements >= 10_000_000);
    }
}
