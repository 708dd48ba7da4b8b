//! Burn's wgpu backend under the protocol of `../common.py`: rotation, keys and values repeated for groups, then
//! `attention`. Its rotation takes neighbouring pairs and angles in f32; the reference here does too, in f64 from those angles.
use burn::nn::{RotaryEncoding, RotaryEncodingConfig};
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use serde_json::{Value, json};
use std::io::{self, BufRead};
use std::time::{Duration, Instant};

const TOLERANCE: f64 = 1e-3;
const WARM: Duration = Duration::from_millis(200);

type Step = Box<dyn Fn() -> Result<(), String>>;

#[derive(Clone, Copy)]
struct Work {
    rows: usize,
    keys: usize,
    heads: usize,
    kv_heads: usize,
    dim: usize,
    bias: bool,
}

impl Work {
    fn named(case: &str) -> Option<Work> {
        let small = Work { rows: 1024, keys: 1024, heads: 8, kv_heads: 8, dim: 64, bias: case == "b1" };
        let llama = Work { rows: 2048, keys: 2048, heads: 32, kv_heads: 8, dim: 128, bias: false };
        match case {
            "p1" | "b1" => Some(small),
            "p2" => Some(llama),
            "d1" => Some(Work { rows: 1, keys: 4096, ..llama }),
            "r1" => Some(Work { rows: 4096, keys: 4096, ..llama }),
            _ => None,
        }
    }

    fn decode(&self) -> bool {
        self.rows < self.keys
    }

    fn bias(&self, head: usize, row: usize, key: usize) -> f32 {
        let slope = -0.5 / (head + 1) as f32;
        slope * row.abs_diff(key) as f32
    }
}

fn main() {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    println!("{}", json!({ "version": "0.22.1" }));
    let mut ready: Option<(String, Step)> = None;
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match (words.as_slice(), &ready) {
            (["prepare", case], _) => {
                ready = None;
                prepare(case, &device).map(|(step, mut answer)| {
                    answer["case"] = json!(case);
                    ready = Some((case.to_string(), step));
                    answer
                })
            }
            (["run", case, runs, seconds], Some((known, step))) if case == known => {
                timed(step, runs.parse().unwrap_or(1), seconds.parse().unwrap_or(1.0))
                    .map(|ms| json!({ "case": case, "ms": ms }))
            }
            _ => Err(format!("not understood: {line}")),
        };
        println!("{}", answer.unwrap_or_else(|reason| json!({ "failed": reason })));
    }
}

fn timed(step: &Step, runs: usize, seconds: f64) -> Result<Vec<f64>, String> {
    let start = Instant::now();
    step()?;
    while start.elapsed() < WARM {
        step()?;
    }
    let (start, mut times) = (Instant::now(), vec![]);
    while times.len() < runs || start.elapsed().as_secs_f64() < seconds {
        let begin = Instant::now();
        step()?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

fn prepare(case: &str, device: &Device) -> Result<(Step, Value), String> {
    let work = Work::named(case).ok_or_else(|| format!("no workload {case}"))?;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |heads: usize, tokens: usize| -> Vec<f32> {
        (0..heads * tokens * work.dim).map(|_| normal(&mut seed)).collect()
    };
    let (q, k, v) = (draw(work.heads, work.rows), draw(work.kv_heads, work.keys), draw(work.kv_heads, work.keys));
    let tensor = |x: &[f32], shape: [usize; 4]| Tensor::<4>::from_data(TensorData::new(x.to_vec(), shape), device);
    let tq = tensor(&q, [1, work.heads, work.rows, work.dim]);
    let tk = tensor(&k, [1, work.kv_heads, work.keys, work.dim]);
    let tv = tensor(&v, [1, work.kv_heads, work.keys, work.dim]);
    let rope = RotaryEncodingConfig::new(work.keys, work.dim).init(device);
    let waits = device.clone();
    let sync = move || waits.sync().map_err(|error| format!("{error:?}"));

    if case == "r1" {
        let rotated = rope.forward(tq.clone());
        let verdict = judge(&numbers(rotated)?, &work, |head, row| rotate(&q, &work, head, row, row));
        let step: Step = Box::new(move || {
            let both = (rope.forward(tq.clone()), rope.forward(tk.clone()));
            sync()?;
            drop(both);
            Ok(())
        });
        return Ok((step, noted(verdict, "RotaryEncoding, not in place")));
    }
    let bias = work.bias.then(|| {
        let at = |i: usize| work.bias(i / (work.rows * work.keys), i / work.keys % work.rows, i % work.keys);
        let values: Vec<f32> = (0..work.heads * work.rows * work.keys).map(at).collect();
        tensor(&values, [1, work.heads, work.rows, work.keys])
    });
    let all = move || attend(&work, &rope, &tq, &tk, &tv, &bias);
    let out = numbers(all())?;
    let verdict = judge(&out, &work, |head, row| reference(&work, &q, &k, &v, head, row));
    let step: Step = Box::new(move || {
        let out = all();
        sync()?;
        drop(out);
        Ok(())
    });
    let note =
        if work.decode() { "RotaryEncoding + attention, no cache written" } else { "RotaryEncoding + attention" };
    Ok((step, noted(verdict, note)))
}

fn noted(mut verdict: Value, note: &str) -> Value {
    verdict["note"] = json!(note);
    verdict
}

fn attend(
    work: &Work,
    rope: &RotaryEncoding,
    q: &Tensor<4>,
    k: &Tensor<4>,
    v: &Tensor<4>,
    bias: &Option<Tensor<4>>,
) -> Tensor<4> {
    let repeated = |x: Tensor<4>| match work.heads / work.kv_heads {
        1 => x,
        group => x
            .reshape([work.kv_heads, 1, work.keys, work.dim])
            .repeat_dim(1, group)
            .reshape([1, work.heads, work.keys, work.dim]),
    };
    let k = if work.decode() { k.clone() } else { rope.forward(k.clone()) };
    let q = rope.apply(q.clone(), work.keys - work.rows);
    let options = AttentionModuleOptions { scale: None, softcap: None, is_causal: !work.decode() };
    attention(q, repeated(k), repeated(v.clone()), None, bias.clone(), options)
}

fn numbers(x: Tensor<4>) -> Result<Vec<f32>, String> {
    x.into_data().try_to_vec().map_err(|error| format!("{error:?}"))
}

/// Rows of every head: the first 40, then one of 61, and the last.
fn judge(out: &[f32], work: &Work, reference: impl Fn(usize, usize) -> Vec<f64>) -> Value {
    let (mut rows, mut largest) = (vec![], 0f64);
    for head in 0..work.heads {
        for row in (0..work.rows).filter(|row| *row < 40 || row % 61 == 0 || row + 1 == work.rows) {
            let right = reference(head, row);
            let got = out.iter().skip((head * work.rows + row) * work.dim);
            rows.push(right.iter().zip(got).map(|(a, b)| (a - f64::from(*b)).abs()).fold(0.0, f64::max));
            largest = right.iter().fold(largest, |most, x| most.max(x.abs()));
        }
    }
    let wrong = rows.iter().filter(|error| !(**error <= TOLERANCE * largest)).count();
    match wrong {
        0 => {
            let worst = rows.iter().fold(0.0, |a: f64, b| a.max(*b)) / largest;
            json!({ "right": true, "verdict": format!("right to {worst:.0e}") })
        }
        _ => json!({ "right": false, "verdict": format!("wrong rows: {wrong} of {}", rows.len()) }),
    }
}

fn reference(work: &Work, q: &[f32], k: &[f32], v: &[f32], head: usize, row: usize) -> Vec<f64> {
    let group = head * work.kv_heads / work.heads;
    let position = row + work.keys - work.rows;
    let q = rotate(q, work, head, row, position);
    let token = |x: &[f32], key: usize| -> Vec<f64> {
        x.iter().skip((group * work.keys + key) * work.dim).take(work.dim).map(|x| f64::from(*x)).collect()
    };
    let kv = Work { rows: work.keys, ..*work };
    let scores: Vec<f64> = (0..=position)
        .map(|key| {
            let k = if work.decode() { token(k, key) } else { rotate(k, &kv, group, key, key) };
            let bias = if work.bias { f64::from(work.bias(head, row, key)) } else { 0.0 };
            q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() / (work.dim as f64).sqrt() + bias
        })
        .collect();
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut out = vec![0.0; work.dim];
    let mut sum = 0.0;
    for (key, score) in scores.iter().enumerate() {
        let weight = (score - top).exp();
        sum += weight;
        out.iter_mut().zip(token(v, key)).for_each(|(out, v)| *out += weight * v);
    }
    out.iter_mut().for_each(|x| *x /= sum);
    out
}

/// Row `row` of head `head`, rotated to `position`.
fn rotate(x: &[f32], work: &Work, head: usize, row: usize, position: usize) -> Vec<f64> {
    let start = (head * work.rows + row) * work.dim;
    let values: Vec<f64> = x.iter().skip(start).take(work.dim).map(|x| f64::from(*x)).collect();
    let pairs = values.chunks_exact(2).enumerate();
    pairs
        .flat_map(|(pair, values)| {
            let frequency = 10_000f32.powf(-((2 * pair) as f32) / work.dim as f32);
            let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
            let (a, b) = (values[0], values[1]);
            [a * cos - b * sin, a * sin + b * cos]
        })
        .collect()
}

/// Normal by the sum of twelve uniform numbers.
fn normal(state: &mut u64) -> f32 {
    let mut uniform = || {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..12).map(|_| uniform()).sum::<f32>() - 6.0
}
