//! The one-call form: host tensors in, host tensors out.

use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::gpu::adapter::GpuOptions;
use crate::gpu::device::{Content, Gpu, Progress, Stats};
use crate::gpu::one_call::slice;
use crate::gpu::pipeline::scoped;
use crate::gpu::submission::{wait, yield_now};
use crate::inputs::cache::Placement;
use crate::inputs::inputs::Inputs;
use crate::inputs::problem::Problem;
use crate::plan::kernel::Kernel;
use crate::plan::linear::{StateLayout, v_tiles};
use crate::plan::plan::Plan;
use crate::plan::step::Step;
use crate::plan::storage::storage_of;
use crate::reference::attention::Output;
use crate::shader::layout::Slot;
use futures_channel::oneshot;
use std::borrow::Cow;
use std::collections::HashMap;

/// The state of every query head, as `work` holds it, from that of every kv head.
#[cfg(feature = "wgpu")]
pub(crate) fn expand_state(spec: &Spec, inputs: &Inputs, batch: u32, words: usize) -> Vec<f32> {
    let layout = StateLayout::new(spec, batch);
    let (n, v_dim) = (spec.features() as usize, spec.v_head_dim as usize);
    let mut work = vec![0.0; words];
    let heads = (0..batch).flat_map(|b| (0..spec.num_heads).map(move |h| (b, h)));
    for (unit, (b, h)) in heads.enumerate() {
        let kv = b as usize * spec.num_kv_heads as usize + (h / spec.group()) as usize;
        let mut copy = |from: &Option<Vec<f32>>, len: usize, to: usize| {
            let from = from.as_ref().and_then(|s| s.get(kv * len..(kv + 1) * len));
            if let (Some(from), Some(to)) = (from, work.get_mut(to..to + len)) {
                to.copy_from_slice(from);
            }
        };
        copy(&inputs.initial_state, n * v_dim, unit * n * v_dim);
        for tile in 0..v_tiles(spec) as usize {
            let at = (unit * v_tiles(spec) as usize + tile) * n + layout.normalizer as usize;
            copy(&inputs.initial_normalizer, n, at);
        }
    }
    work
}

impl Gpu {
    /// Waits until everything that was submitted is done.
    ///
    /// # Errors
    /// Those of the device that no scope caught, its loss among them.
    pub fn finish(&self) -> Result<()> {
        self.wait_alive(None)
    }
    /// As [`Gpu::finish`] or [`Gpu::wait_for`], but a loss may go unnoticed: asking for it takes time, which is not a clock's.
    #[doc(hidden)]
    pub fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        wait(&self.device, submission, self.timeout)?;
        self.check()
    }
    /// The bytes of a buffer with `MAP_READ`, once everything that was submitted is done.
    ///
    /// # Errors
    /// The device's. [`Error::Input`] where the buffer is not one to map: without that usage, of another device, destroyed, mapped already.
    pub fn read_back(&self, buffer: &wgpu::Buffer) -> Result<Vec<u8>> {
        pollster::block_on(async { self.told(self.read(buffer).await).await })
    }
    /// Attention: the twin of [`reference::attention`](crate::reference::attention).
    pub fn attention(&self, spec: &Spec, inputs: &Inputs) -> Result<Output<f32>> {
        pollster::block_on(self.attention_async(spec, inputs, &|_| ())).map(|(output, _)| output)
    }
    /// Attention with figures; `progress` hears the finished share of the dispatches.
    pub fn attention_with(
        &self,
        spec: &Spec,
        inputs: &Inputs,
        progress: &Progress<'_>,
    ) -> Result<(Output<f32>, Stats)> {
        pollster::block_on(self.attention_async(spec, inputs, progress))
    }
    /// See [`Gpu::attention_with`].
    pub async fn attention_async(
        &self,
        spec: &Spec,
        inputs: &Inputs,
        progress: &Progress<'_>,
    ) -> Result<(Output<f32>, Stats)> {
        let problem = Problem::new(spec, inputs)?;
        slice::parts(Kernel::Attention, &problem, &self.limits)?; // before anything large is allocated
        let [batch, q_len] = [problem.shape.batch, problem.shape.q_len];
        let (heads, dim) = (spec.num_heads, spec.v_head_dim);
        let mut output = Output {
            out_shape: [batch, q_len, heads, dim],
            out: zeros([batch, q_len, heads, dim])?,
            lse: zeros([batch, heads, q_len, 1])?,
        };
        let stats = self
            .run(Kernel::Attention, &problem, progress, &mut |part, run| {
                let first = part.kv_heads.start * spec.group();
                let n = part.kv_heads.len() as u32 * spec.group();
                for (bi, b) in part.batch.clone().enumerate() {
                    for i in 0..q_len {
                        let from = ((bi as u32 * q_len + i) * n * dim) as usize;
                        let to = (((b * q_len + i) * heads + first) * dim) as usize;
                        let len = (n * dim) as usize;
                        output.out[to..to + len].copy_from_slice(&run.out[from..from + len]);
                    }
                    let (from, to) = ((bi as u32 * n * q_len) as usize, ((b * heads + first) * q_len) as usize);
                    let len = (n * q_len) as usize;
                    for (to, lse) in output.lse[to..to + len].iter_mut().zip(&run.lse[from..from + len]) {
                        // the device's sentinel of a row that saw no key
                        *to = if *lse < -2e38 { f32::NEG_INFINITY } else { *lse };
                    }
                }
            })
            .await?;
        Ok((output, stats))
    }
    /// The scores that the softmax receives, `[batch, num_heads, q_len, capacity]`, -inf where masked: the twin of
    /// [`reference::scores`](crate::reference::scores).
    pub fn scores(&self, spec: &Spec, inputs: &Inputs) -> Result<Vec<f32>> {
        pollster::block_on(self.scores_async(spec, inputs))
    }
    /// See [`Gpu::scores`].
    pub async fn scores_async(&self, spec: &Spec, inputs: &Inputs) -> Result<Vec<f32>> {
        let problem = Problem::new(spec, inputs)?;
        slice::parts(Kernel::Scores, &problem, &self.limits)?;
        let plane = problem.shape.q_len as usize * problem.shape.kv_len as usize;
        let mut scores = zeros([problem.shape.batch, spec.num_heads, problem.shape.q_len, problem.shape.kv_len])?;
        self.run(Kernel::Scores, &problem, &|_| (), &mut |part, run| {
            let first = part.kv_heads.start * spec.group();
            let len = part.kv_heads.len() * spec.group() as usize * plane;
            for (bi, b) in part.batch.clone().enumerate() {
                let to = (b * spec.num_heads + first) as usize * plane;
                scores[to..to + len].copy_from_slice(&run.out[bi * len..(bi + 1) * len]);
            }
        })
        .await?;
        Ok(scores)
    }
    /// The rotated q (`[batch, q_len, num_heads, head_dim]`) and k (`[batch, capacity, num_kv_heads, head_dim]`), rounded
    /// to the storage type: the twin of [`reference::rotate`](crate::reference::rotate). Rows of k from kv_len on are 0.
    pub fn rotate(&self, spec: &Spec, inputs: &Inputs) -> Result<(Vec<f32>, Vec<f32>)> {
        pollster::block_on(self.rotate_async(spec, inputs))
    }
    /// See [`Gpu::rotate`].
    pub async fn rotate_async(&self, spec: &Spec, inputs: &Inputs) -> Result<(Vec<f32>, Vec<f32>)> {
        let problem = Problem::new(spec, inputs)?;
        let [batch, q_len, kv_len] = [problem.shape.batch, problem.shape.q_len, problem.shape.kv_len];
        let mut both = Vec::new();
        let kernels = [
            (Kernel::RotateQ { in_place: false }, q_len, spec.num_heads, spec.group()),
            (Kernel::RotateK { in_place: false }, kv_len, spec.num_kv_heads, 1),
        ];
        for (kernel, len, heads, group) in kernels {
            let row = spec.head_dim as usize;
            let mut rotated = zeros([batch, len, heads, spec.head_dim])?;
            self.run(kernel, &problem, &|_| (), &mut |part, run| {
                let (first, n) = ((part.kv_heads.start * group) as usize, part.kv_heads.len() * group as usize);
                for (bi, b) in part.batch.clone().enumerate() {
                    for i in 0..len as usize {
                        let from = (bi * len as usize + i) * n * row;
                        let to = ((b as usize * len as usize + i) * heads as usize + first) * row;
                        rotated[to..to + n * row].copy_from_slice(&run.out[from..from + n * row]);
                    }
                }
            })
            .await?;
            both.push(rotated);
        }
        match (both.pop(), both.pop()) {
            (Some(k), Some(q)) => Ok((q, k)),
            _ => Err(Error::device("rotating", "no result")),
        }
    }
    /// Runs a kernel over the parts of a problem that fit the device.
    pub(crate) async fn run(
        &self,
        kernel: Kernel,
        problem: &Problem<'_>,
        progress: &Progress<'_>,
        collect: &mut (dyn FnMut(&slice::Part, &Run) + Send),
    ) -> Result<Stats> {
        let parts = slice::parts(kernel, problem, &self.limits)?;
        let mut stats = Stats { parts: parts.len(), ..Stats::default() };
        for (n, part) in parts.iter().enumerate() {
            let share = |done: f64| progress((n as f64 + done) / parts.len() as f64);
            // one part that fits as it lies is taken as it lies; others are gathered
            let run = if parts.len() == 1 && Plan::for_problem(kernel, problem, &self.limits).is_ok() {
                self.run_part(kernel, problem, &mut stats, &share).await?
            } else {
                let (spec, inputs) = slice::part(problem, part)?;
                let mut problem = Problem::new(&spec, &inputs)?;
                problem.shape.first_batch = part.batch.start;
                problem.shape.first_head = part.kv_heads.start * spec.group();
                self.run_part(kernel, &problem, &mut stats, &share).await?
            };
            collect(part, &run);
        }
        Ok(stats)
    }
    async fn run_part(
        &self,
        kernel: Kernel,
        problem: &Problem<'_>,
        stats: &mut Stats,
        progress: &Progress<'_>,
    ) -> Result<Run> {
        let results = self.run_bytes(kernel, problem, stats, progress).await?;
        let values = |slot: Slot, dtype: crate::equation::dtype::Dtype| {
            results
                .get(&slot)
                .map(|bytes| crate::inputs::tensor::Data::from_bytes(dtype, bytes).to_f32())
                .unwrap_or_default()
        };
        let dtype = storage_of(problem.spec, kernel, Slot::Out).unwrap_or(crate::equation::dtype::Dtype::F32);
        Ok(Run { out: values(Slot::Out, dtype), lse: values(Slot::Work, crate::equation::dtype::Dtype::F32) })
    }
    /// What stands in `out` and `work` afterwards.
    pub(crate) async fn run_bytes(
        &self,
        kernel: Kernel,
        problem: &Problem<'_>,
        stats: &mut Stats,
        progress: &Progress<'_>,
    ) -> Result<HashMap<Slot, Vec<u8>>> {
        let spec = problem.spec;
        let inputs = if kernel.rotates_only() { &*problem.inputs } else { problem.inputs() };
        let plan = Plan::for_problem(kernel, problem, &self.limits)?;
        let source = match kernel {
            Kernel::RotateK { .. } => &inputs.k,
            _ => &inputs.q,
        };
        let mut step = vec![0; plan.step_layout().words as usize];
        let lens = inputs.kv_lens.clone().unwrap_or_default();
        plan.step_layout().write(
            &Step {
                q_len: problem.shape.q_len,
                kv_len: inputs.kv_len.unwrap_or(problem.shape.kv_len),
                kv_lens: &lens,
                q_positions: inputs.q_positions.as_deref().unwrap_or_default(),
                k_positions: inputs.k_positions.as_deref().unwrap_or_default(),
                q_segments: inputs.q_segments.as_deref().unwrap_or_default(),
                k_segments: inputs.k_segments.as_deref().unwrap_or_default(),
                cu_seqlens_q: inputs.cu_seqlens_q.as_deref().unwrap_or_default(),
                cu_seqlens_k: inputs.cu_seqlens_k.as_deref().unwrap_or_default(),
                slots: match &inputs.placement {
                    Some(Placement::Slots(starts)) => starts,
                    _ => &[],
                },
                block_table: match &inputs.placement {
                    Some(Placement::Pages { table, .. }) => table,
                    _ => &[],
                },
                mask: inputs.mask.as_ref(),
            },
            &mut step,
        )?;
        let tables = plan.pack_tables(&inputs.parameters, inputs.angle_table.as_ref())?;
        // D or decay, the user's words, numbers of rows and keys
        let decay = inputs.decay.as_deref().unwrap_or_default();
        let bias = inputs.attn_bias.as_ref().map_or(decay, |d| &d.data);
        let gates: Vec<f32> = row_numbers(inputs);
        let dense: Cow<[u8]> = match (inputs.user_data.as_slice(), gates.as_slice()) {
            ([], []) => Cow::Borrowed(bytemuck::cast_slice(bias)),
            (words, gates) => {
                [bytemuck::cast_slice(bias), bytemuck::cast_slice(words), bytemuck::cast_slice(gates)].concat().into()
            }
        };
        let start = |t: &crate::inputs::tensor::Tensor| {
            let [elements, bytes] = t.dtype().block(t.shape()[3]).map(u64::from);
            t.offset() as u64 / elements * bytes
        };
        let mut contents = vec![
            Content { slot: source_slot(kernel), bytes: source.data().bytes(), offset: start(source) },
            Content { slot: Slot::K, bytes: inputs.k.data().bytes(), offset: start(&inputs.k) },
            Content { slot: Slot::V, bytes: inputs.v.data().bytes(), offset: start(&inputs.v) },
            Content { slot: Slot::Tables, bytes: bytemuck::cast_slice(&tables), offset: 0 },
            Content { slot: Slot::Dense, bytes: &dense, offset: 0 },
            Content { slot: Slot::Step, bytes: bytemuck::cast_slice(&step), offset: 0 },
        ];
        let state = match inputs.initial_state {
            Some(_) => self::expand_state(spec, inputs, problem.shape.batch, plan.workspace_size() as usize / 4),
            None => Vec::new(),
        };
        if !state.is_empty() {
            contents.push(Content { slot: Slot::Work, bytes: bytemuck::cast_slice(&state), offset: 0 });
        }
        self.execute(&plan, &contents, stats, progress).await
    }
    /// Uploads, binds, runs every dispatch of a plan, and reads `out` and `work` back.
    pub(crate) async fn execute(
        &self,
        plan: &Plan,
        contents: &[Content<'_>],
        stats: &mut Stats,
        progress: &Progress<'_>,
    ) -> Result<HashMap<Slot, Vec<u8>>> {
        self.told(self.try_execute(plan, contents, stats, progress).await).await
    }
    /// Errors that no scope caught.
    pub(crate) fn check(&self) -> Result<()> {
        match self.errors.lock().ok().and_then(|mut e| e.take()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
    pub(crate) async fn read(&self, buffer: &wgpu::Buffer) -> Result<Vec<u8>> {
        let context = "mapping a result";
        // which a buffer of a lost device is too
        let unfit = async |problem: &str| match self.check_alive(context).await {
            Ok(()) => Error::input("buffer", problem, "read a buffer of this device that can be mapped"),
            Err(lost) => lost,
        };
        if !buffer.usage().contains(wgpu::BufferUsages::MAP_READ) {
            return Err(unfit("lacks BufferUsages::MAP_READ").await);
        }
        let (signal, mut mapped) = oneshot::channel();
        let called = scoped(&self.device, context, || {
            buffer.map_async(wgpu::MapMode::Read, .., move |result| drop(signal.send(result)));
        });
        called.await?;
        yield_now().await;
        if let Err(e) = self.wait(None) {
            let _ = scoped(&self.device, context, || buffer.unmap()).await; // so that it can be read later
            return Err(e);
        }
        // On the web mapping takes its time. Elsewhere whoever polled has mapped it by now, or nobody will: a buffer of another
        // device. The callback may still be on its way in another thread.
        #[cfg(target_arch = "wasm32")]
        let result = Some((&mut mapped).await.map_err(|e| Error::device(context, e))?);
        #[cfg(not(target_arch = "wasm32"))]
        let result = mapped.try_recv().map_err(|e| Error::device(context, e))?;
        if let Some(Err(e)) = result {
            return Err(unfit(&format!("cannot be mapped: {e}")).await);
        }
        let bytes = buffer.get_mapped_range(..).map(|view| view.to_vec());
        let unmapped = scoped(&self.device, context, || buffer.unmap()).await;
        match bytes {
            Ok(bytes) => unmapped.map(|()| bytes),
            Err(_) if result.is_none() => Err(unfit("is not mapped: is it of another device?").await),
            Err(e) => Err(Error::device("reading a result", e)),
        }
    }
}

/// Where a kernel finds q, x, or the source of a rotation.
pub(crate) fn source_slot(kernel: Kernel) -> Slot {
    if kernel.in_place() { Slot::Out } else { Slot::Q }
}

/// The results of one part, contiguous.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) out: Vec<f32>,
    pub(crate) lse: Vec<f32>,
}

/// Zeros for a result, or an error where there is no memory for it.
pub(crate) fn zeros(shape: [u32; 4]) -> Result<Vec<f32>> {
    let len = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d as usize));
    let mut values = Vec::new();
    match len.map(|len| values.try_reserve_exact(len).map(|()| values.resize(len, 0.0))) {
        Some(Ok(())) => Ok(values),
        _ => Err(Error::out_of_memory("allocating a result", format!("{shape:?} values"))),
    }
}

pub(crate) fn matches(adapter: &wgpu::Adapter, options: &GpuOptions) -> bool {
    let info = adapter.get_info();
    let text = format!("{:?} {} {} {}", info.backend, info.name, info.driver, info.driver_info).to_lowercase();
    options.adapter.as_ref().is_none_or(|wanted| text.contains(&wanted.to_lowercase()))
}

/// Gates and what stands behind them in `dense`: see `Plan::gate_offset`.
fn row_numbers(inputs: &Inputs) -> Vec<f32> {
    let mut all: Vec<f32> = inputs.gates.iter().flatten().map(|g| *g as f32).collect();
    all.extend(inputs.query_scales.iter().flatten());
    all.extend(inputs.query_sinks.iter().flatten());
    all.extend(inputs.key_bias.iter().flatten().map(|c| *c as f32));
    all.extend(inputs.key_bias.iter().flatten().map(|c| (*c - *c as f32 as f64) as f32));
    all.extend(inputs.relative_queries.iter().flatten());
    all.extend(inputs.beta.iter().flatten());
    all
}
