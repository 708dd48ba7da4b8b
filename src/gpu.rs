//! The one-call form: host tensors in, host tensors out.

mod embed;
mod in_place;
mod linear;
mod matrix;

use crate::device::{Held, is_lost, turn_on};
use crate::pipeline::{Buffers, Pipelines, filled, scoped};
use crate::submission::{Submission, wait, yield_now};
use crate::tuning::{Source, TuningCache};
use crate::{Error, Inputs, Kernel, Limits, Output, Plan, Problem, Result, Slot, Spec, Step, slice};
use futures_channel::oneshot;
use std::borrow::Cow;
use std::collections::HashMap;
use std::num::NonZeroUsize;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::LazyLock;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// What hears the finished share of a call. [`Sync`], so that the `_async` forms are [`Send`]; not on the web, whose functions stay
/// on their thread.
#[cfg(not(target_arch = "wasm32"))]
pub type Progress<'a> = dyn Fn(f64) + Sync + 'a;
/// What hears the finished share of a call.
#[cfg(target_arch = "wasm32")]
pub type Progress<'a> = dyn Fn(f64) + 'a;

/// Which device to open.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct GpuOptions {
    /// Part of the adapter's name, driver, driver version or backend, any case; `None`: the best there is.
    pub adapter: Option<String>,
    /// WebGPU's default limits and no features at all, whatever the adapter has: what every device can do.
    pub default_limits: bool,
    /// Take the winners of `ropewalk tune` on this adapter into account. What is ignored of them [`Gpu::warnings`] tells.
    pub tuned: bool,
    /// Experimental: compute f16 attention on cooperative matrices where the adapter has them (Vulkan, Metal) and a small attention
    /// comes out right on them; [`Gpu::cooperative_matrix`] tells. Takes the cargo feature `cooperative-matrix`. Results are then within
    /// the bounds of [`Arithmetic::F16Matrix`](crate::check::Arithmetic), which are wider than those of f32.
    pub cooperative_matrix: bool,
    /// Keep compiled pipelines in the user's cache folder, where the device can: [`Gpu::save_pipelines`] writes them.
    pub keep_pipelines: bool,
}

impl GpuOptions {
    /// An adapter by (part of) its name, driver or backend.
    pub fn named(adapter: impl Into<String>) -> Self {
        GpuOptions { adapter: Some(adapter.into()), ..Self::default() }
    }
}

/// What a call did, beside its result.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// The label of the (first) plan.
    pub kernel: String,
    /// Where its tuning comes from.
    pub tuning: Option<Source>,
    /// Dispatches in all.
    pub dispatches: usize,
    /// Calls that the problem was cut into because of the device's binding limit; 1 if it fitted.
    pub parts: usize,
    /// Time on the device by its own timestamps, where it has them.
    pub gpu_time: Option<Duration>,
    /// From the first submission to the end of the last, by the host's clock. The first call of a kernel on some drivers
    /// includes its compilation.
    pub wall_time: Duration,
    /// Making the pipelines, by the host's clock.
    pub compile_time: Duration,
    /// Bytes of all device buffers that the call allocated (the largest part, if cut).
    pub allocated_bytes: u64,
}

/// A device of its own, with the pipelines compiled so far.
#[derive(Debug)]
pub struct Gpu {
    info: wgpu::AdapterInfo,
    device: Held<wgpu::Device>,
    queue: Held<wgpu::Queue>,
    limits: Limits,
    timestamps: bool,
    /// How long a call waits for a submission.
    timeout: Option<Duration>,
    /// The first error that no scope caught.
    errors: Arc<Mutex<Option<Error>>>,
    /// Why the device is lost, where its callback is ours.
    lost: Arc<OnceLock<String>>,
    pipelines: Arc<Pipelines>,
    warnings: Vec<String>,
    /// Rows of cooperative matrices, or why there are none.
    matrix: std::result::Result<u32, String>,
}

/// Every adapter of every backend that the environment allows (`WGPU_BACKEND`, read once), GPUs first, GL's last.
pub async fn adapters() -> Vec<wgpu::Adapter> {
    let mut all = adapters_of(!wgpu::Backends::GL).await;
    all.extend(adapters_of(wgpu::Backends::GL).await);
    all
}

fn instance(backends: wgpu::Backends) -> (wgpu::Instance, wgpu::Backends) {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    descriptor.backends &= backends;
    let backends = descriptor.backends;
    (wgpu::Instance::new(descriptor), backends)
}

/// The adapters of GL, or of all others. wgpu tells apart what comes from one instance alone, so a process has one; and one of GL's own, which
/// is made where it is wanted, since GL's loader is talkative. GL's adapters are found once: wgpu would give each a lock of its own
/// for the instance's one context.
#[cfg(not(target_arch = "wasm32"))]
async fn adapters_of(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
    static MOST: LazyLock<(wgpu::Instance, wgpu::Backends)> = LazyLock::new(|| instance(!wgpu::Backends::GL));
    static GL: LazyLock<(wgpu::Instance, Vec<wgpu::Adapter>)> = LazyLock::new(|| {
        let (instance, backends) = instance(wgpu::Backends::GL);
        let adapters = pollster::block_on(instance.enumerate_adapters(backends));
        (instance, sorted(adapters))
    });
    if backends == wgpu::Backends::GL {
        return GL.1.clone();
    }
    let (instance, backends) = &*MOST;
    sorted(instance.enumerate_adapters(*backends).await)
}

#[cfg(target_arch = "wasm32")]
async fn adapters_of(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
    let (instance, backends) = instance(backends);
    sorted(instance.enumerate_adapters(backends).await)
}

fn sorted(mut adapters: Vec<wgpu::Adapter>) -> Vec<wgpu::Adapter> {
    adapters.sort_by_key(|a| match a.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    adapters
}

/// One line that tells an adapter from the others: backend, name, driver.
pub fn describe(info: &wgpu::AdapterInfo) -> String {
    let driver = format!("{} {}", info.driver, info.driver_info);
    let driver = driver.trim();
    match driver {
        "" => format!("{:?} {}", info.backend, info.name),
        _ => format!("{:?} {} ({driver})", info.backend, info.name),
    }
}

impl Limits {
    /// Of a wgpu device; software adapters get shorter dispatches.
    pub fn of_device(limits: &wgpu::Limits, device_type: wgpu::DeviceType) -> Self {
        let ours = Limits {
            max_binding_size: limits.max_storage_buffer_binding_size.min(i32::MAX as u64 & !3),
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            max_workgroup_storage: limits.max_compute_workgroup_storage_size,
            max_invocations: limits.max_compute_invocations_per_workgroup,
            ..Limits::default()
        };
        if device_type == wgpu::DeviceType::Cpu { ours.for_cpu() } else { ours }
    }
    /// What the features that a device was opened with allow kernels to use.
    pub fn with_features(self, features: wgpu::Features, info: &wgpu::AdapterInfo) -> Self {
        let one_size = features.contains(wgpu::Features::SUBGROUP) && info.subgroup_min_size == info.subgroup_max_size;
        Limits {
            subgroup_size: if one_size { info.subgroup_min_size } else { 0 },
            f16: features.contains(wgpu::Features::SHADER_F16),
            ..self
        }
    }
}

impl Gpu {
    /// How many pipelines the one-call form keeps, where [`Gpu::pipelines`] was not told another number: prefill and decode of some ten
    /// layers that differ, about 1 GB on llvmpipe.
    pub const MAX_PIPELINES: NonZeroUsize = NonZeroUsize::new(32).unwrap();

    /// The best adapter there is: discrete, integrated, virtual, software, in this order.
    pub fn new() -> Result<Self> {
        Self::open(&GpuOptions::default())
    }
    /// An adapter by part of its name, driver or backend.
    pub fn with_adapter(name: &str) -> Result<Self> {
        Self::open(&GpuOptions::named(name))
    }
    /// See [`GpuOptions`].
    pub fn open(options: &GpuOptions) -> Result<Self> {
        pollster::block_on(Self::open_async(options))
    }
    /// Every adapter that opens; the others with the reason.
    pub fn all(options: &GpuOptions) -> Vec<Result<Self>> {
        pollster::block_on(async {
            let mut gpus = Vec::new();
            for adapter in adapters().await {
                if matches(&adapter, options) {
                    gpus.push(Self::from_adapter(&adapter, options).await);
                }
            }
            gpus
        })
    }
    /// See [`Gpu::open`].
    pub async fn open_async(options: &GpuOptions) -> Result<Self> {
        // GL comes last: the same devices with less of everything, and its loader is talkative
        let mut all = adapters_of(!wgpu::Backends::GL).await;
        if !all.iter().any(|a| matches(a, options)) {
            all.extend(adapters_of(wgpu::Backends::GL).await);
        }
        match all.iter().find(|a| matches(a, options)) {
            Some(adapter) => Self::from_adapter(adapter, options).await,
            None => Err(Error::NoAdapter {
                problem: match (&options.adapter, all.is_empty()) {
                    (_, true) => "this machine shows none".into(),
                    (name, false) => {
                        let names: Vec<_> = all.iter().map(|a| describe(&a.get_info())).collect();
                        format!("none matches {:?} among: {}", name.as_deref().unwrap_or(""), names.join("; "))
                    }
                },
                help: "install a Vulkan driver (Debian: mesa-vulkan-drivers, a software one), or name one of \
                       `ropewalk devices`"
                    .into(),
            }),
        }
    }
    /// Opens an adapter.
    pub async fn from_adapter(adapter: &wgpu::Adapter, options: &GpuOptions) -> Result<Self> {
        let info = adapter.get_info();
        let mut required_limits = wgpu::Limits::default();
        let mut required_features = wgpu::Features::empty();
        if !options.default_limits {
            let has = adapter.limits();
            required_limits.max_buffer_size = has.max_buffer_size;
            required_limits.max_storage_buffer_binding_size = has.max_storage_buffer_binding_size;
            required_limits.max_compute_workgroup_storage_size = has.max_compute_workgroup_storage_size;
            required_limits.max_compute_invocations_per_workgroup = has.max_compute_invocations_per_workgroup;
            let useful = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16;
            required_features = adapter.features() & useful;
        }
        if options.keep_pipelines {
            required_features |= adapter.features() & wgpu::Features::PIPELINE_CACHE;
        }
        let plain = wgpu::DeviceDescriptor {
            label: Some("ropewalk"),
            required_features,
            required_limits,
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        };
        let mut matrix = matrix::wanted(adapter, options);
        let mut opened = None;
        if let Ok(wanted) = &matrix {
            match request(adapter, &wanted.descriptor(&plain)).await {
                Ok(both) => opened = Some(both),
                Err(e) => matrix = Err(format!("the device does not open with them: {e}")),
            }
        }
        let (device, queue) = match opened {
            Some(both) => both,
            None => {
                request(adapter, &plain).await.map_err(|e| Error::device(format!("opening {}", describe(&info)), e))?
            }
        };
        let mut gpu = Self::around(info, device, queue);
        gpu.hear_of_loss();
        gpu.take_matrix(matrix.map(|wanted| wanted.size), &matrix::untouched).await;
        if options.tuned {
            let (cache, warnings) = TuningCache::load(&gpu.info);
            gpu.limits.tunings = cache.tunings();
            gpu.warnings.extend(warnings);
        }
        if options.keep_pipelines {
            gpu.load_pipelines().await?;
        }
        Ok(gpu)
    }
    /// Around a device that the caller made, with at least WebGPU's default limits. Takes over its handler of uncaptured
    /// errors. Its lost callback stays the caller's: [`Error::DeviceLost`] is told, but not why.
    pub fn from_device(info: wgpu::AdapterInfo, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let gpu = Self::around(info, device, queue);
        if cfg!(target_arch = "wasm32") {
            gpu.hear_of_loss(); // any number of callbacks may be set there
        }
        gpu
    }

    fn around(info: wgpu::AdapterInfo, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let errors = Arc::new(Mutex::new(None));
        let sink = errors.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            if let Ok(mut sink) = sink.lock() {
                sink.get_or_insert(Error::of_wgpu("running", e));
            }
        }));
        let limits = Limits::of_device(&device.limits(), info.device_type).with_features(device.features(), &info);
        let timestamps = device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        let pipelines = Arc::new(Pipelines::new(device.clone()));
        pipelines.set_capacity(Self::MAX_PIPELINES);
        Gpu {
            info,
            queue: Held::new(&device, queue),
            device: Held::new(&device, device.clone()),
            limits,
            timestamps,
            timeout: None,
            errors,
            lost: Arc::default(),
            pipelines,
            warnings: Vec::new(),
            matrix: Err(matrix::NOT_ASKED.into()),
        }
    }

    fn hear_of_loss(&self) {
        let lost = self.lost.clone();
        self.device.set_device_lost_callback(move |reason, message| {
            let _ = lost.set(match reason {
                wgpu::DeviceLostReason::Destroyed => "it was destroyed".into(),
                wgpu::DeviceLostReason::Unknown => message,
            });
        });
    }

    async fn load_pipelines(&mut self) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(path) = crate::pipeline::disk::path(&self.info)
            && self.device.features().contains(wgpu::Features::PIPELINE_CACHE)
        {
            let (saved, warning) = crate::pipeline::disk::load(&path, &self.info);
            self.warnings.extend(warning);
            let device = &self.device;
            let made = scoped(device, "opening the pipeline cache", || crate::trusted::pipeline_cache(device, saved));
            let pipelines = Pipelines::new(wgpu::Device::clone(&self.device)).with_cache(made.await?);
            pipelines.set_capacity(Self::MAX_PIPELINES);
            self.pipelines = Arc::new(pipelines);
        }
        Ok(())
    }
    /// Writes the pipelines compiled so far into the user's cache folder, where the device was opened with
    /// [`GpuOptions::keep_pipelines`] and can; else does nothing.
    ///
    /// # Errors
    /// [`Error::Input`] where the folder cannot be written.
    pub fn save_pipelines(&self) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        if let (Some(cache), Some(path)) = (self.pipelines.cache(), crate::pipeline::disk::path(&self.info))
            && self.pipelines.compiled() > 0
        {
            pollster::block_on(self.check_alive("saving pipelines"))?;
            return crate::pipeline::disk::save(&path, &self.info, cache);
        }
        Ok(())
    }
    /// What was ignored when it was opened: damaged or foreign files of the user's cache folder.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The adapter.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.info
    }
    /// The adapter in one line.
    pub fn describe(&self) -> String {
        describe(&self.info)
    }
    /// The device, for plans and buffers of the caller's own.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }
    /// The queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }
    /// The same device with other limits, within its own: for trying how work is cut.
    pub fn with_limits(&self, limits: Limits) -> Self {
        Gpu {
            info: self.info.clone(),
            device: self.device.clone(),
            queue: self.queue.clone(),
            limits,
            timestamps: self.timestamps,
            timeout: self.timeout,
            errors: self.errors.clone(),
            lost: self.lost.clone(),
            pipelines: self.pipelines.clone(),
            warnings: Vec::new(),
            matrix: self.matrix.clone(),
        }
    }
    /// The pipelines of the one-call form. The [`MAX_PIPELINES`](Self::MAX_PIPELINES) used last are kept, until
    /// [`Pipelines::set_capacity`] says otherwise; [`Pipelines::clear`] forgets them.
    pub fn pipelines(&self) -> &Pipelines {
        &self.pipelines
    }
    /// How long a call, or [`Gpu::finish`], waits for a submission before it is [`Error::Timeout`]; `None`, as it is at first: for as long as it
    /// takes. What was submitted goes on. Does nothing on the web, whose promises know no timeout.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }
    /// What plans on this device must respect.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Waits until everything that was submitted is done.
    ///
    /// # Errors
    /// Those of the device that no scope caught, its loss among them.
    pub fn finish(&self) -> Result<()> {
        self.wait_alive(None)
    }
    /// Waits until a submission is done.
    ///
    /// # Errors
    /// As [`Gpu::finish`].
    pub fn wait_for(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        self.wait_alive(Some(submission))
    }
    /// wgpu calls what was submitted to a lost device done.
    fn wait_alive(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let done = self.wait(submission);
        pollster::block_on(self.check_alive("waiting for the device"))?;
        done
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
    async fn run(
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
        let values = |slot: Slot, dtype: crate::Dtype| {
            results.get(&slot).map(|bytes| crate::Data::from_bytes(dtype, bytes).to_f32()).unwrap_or_default()
        };
        let dtype = if kernel == Kernel::Scores { crate::Dtype::F32 } else { problem.inputs.q.dtype() };
        Ok(Run { out: values(Slot::Out, dtype), lse: values(Slot::Work, crate::Dtype::F32) })
    }

    /// What stands in `out` and `work` afterwards.
    async fn run_bytes(
        &self,
        kernel: Kernel,
        problem: &Problem<'_>,
        stats: &mut Stats,
        progress: &Progress<'_>,
    ) -> Result<HashMap<Slot, Vec<u8>>> {
        let (spec, inputs) = (problem.spec, problem.inputs);
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
                mask: inputs.mask.as_ref(),
            },
            &mut step,
        )?;
        let tables = plan.pack_tables(&inputs.parameters, inputs.angle_table.as_ref())?;
        // D or decay, the user's words, gates
        let decay = inputs.decay.as_deref().unwrap_or_default();
        let bias = inputs.attn_bias.as_ref().map_or(decay, |d| &d.data);
        let gates: Vec<f32> = inputs.gates.iter().flatten().map(|g| *g as f32).collect();
        let dense: Cow<[u8]> = match (inputs.user_data.as_slice(), gates.as_slice()) {
            ([], []) => Cow::Borrowed(bytemuck::cast_slice(bias)),
            (words, gates) => {
                [bytemuck::cast_slice(bias), bytemuck::cast_slice(words), bytemuck::cast_slice(gates)].concat().into()
            }
        };
        let element = inputs.q.dtype().size() as u64;
        let start = |t: &crate::Tensor| t.offset() as u64 * element;
        let mut contents = vec![
            Content { slot: source_slot(kernel), bytes: source.data().bytes(), offset: start(source) },
            Content { slot: Slot::K, bytes: inputs.k.data().bytes(), offset: start(&inputs.k) },
            Content { slot: Slot::V, bytes: inputs.v.data().bytes(), offset: start(&inputs.v) },
            Content { slot: Slot::Tables, bytes: bytemuck::cast_slice(&tables), offset: 0 },
            Content { slot: Slot::Dense, bytes: &dense, offset: 0 },
            Content { slot: Slot::Step, bytes: bytemuck::cast_slice(&step), offset: 0 },
        ];
        let state = match inputs.initial_state {
            Some(_) => {
                crate::linear::expand_state(spec, inputs, problem.shape.batch, plan.workspace_size() as usize / 4)
            }
            None => Vec::new(),
        };
        if !state.is_empty() {
            contents.push(Content { slot: Slot::Work, bytes: bytemuck::cast_slice(&state), offset: 0 });
        }
        self.execute(&plan, &contents, stats, progress).await
    }

    /// Uploads, binds, runs every dispatch of a plan, and reads `out` and `work` back.
    async fn execute(
        &self,
        plan: &Plan,
        contents: &[Content<'_>],
        stats: &mut Stats,
        progress: &Progress<'_>,
    ) -> Result<HashMap<Slot, Vec<u8>>> {
        self.told(self.try_execute(plan, contents, stats, progress).await).await
    }

    async fn try_execute(
        &self,
        plan: &Plan,
        contents: &[Content<'_>],
        stats: &mut Stats,
        progress: &Progress<'_>,
    ) -> Result<HashMap<Slot, Vec<u8>>> {
        if stats.kernel.is_empty() {
            stats.kernel = plan.label().to_string();
            stats.tuning = Some(plan.tuning_source());
        }
        let clock = Clock::now();
        let pipeline = self.pipelines.get_async(plan).await?;
        stats.compile_time += clock.elapsed();

        // buffers
        let size_of = |slot: Slot| plan.binding(slot).map_or(0, |b| b.size);
        let out = size_of(Slot::Out);
        // with how much of each is read back: in place, all that was given
        let given = contents.iter().find(|c| c.slot == Slot::Out).map_or(0, |c| c.bytes.len() as u64);
        let results = [(Slot::Out, out, out.max(given)), (Slot::Work, size_of(Slot::Work), plan.work_results())];
        let mut allocated = 0;
        let context = "allocating buffers";
        let made = scoped(&self.device, context, || {
            let mut buffers = HashMap::new();
            for Content { slot, bytes, .. } in contents {
                if plan.binding(*slot).is_some() {
                    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
                    let buffer = filled(&self.device, slot.name(), usage, bytes)?;
                    allocated += buffer.size();
                    buffers.insert(*slot, buffer);
                }
            }
            let mut staging = Vec::new();
            for (slot, size, read) in results {
                if size > 0 {
                    let make = |size: u64, usage| {
                        let descriptor = wgpu::BufferDescriptor {
                            label: Some(slot.name()),
                            size: size.next_multiple_of(4),
                            usage,
                            mapped_at_creation: false,
                        };
                        self.device.create_buffer(&descriptor)
                    };
                    // `out` in place, or a state to start from, has contents already
                    buffers.entry(slot).or_insert_with(|| {
                        allocated += size.next_multiple_of(4);
                        make(size, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC)
                    });
                    if read > 0 {
                        allocated += read.next_multiple_of(4);
                        staging.push((slot, make(read, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)));
                    }
                }
            }
            Some((buffers, staging, self.timestamps.then(|| Timer::new(&self.device))))
        });
        let Some((buffers, staging, timer)) = made.await? else {
            return Err(Error::out_of_memory(context, "a buffer could not be mapped"));
        };
        let buffers = Held::new(&self.device, buffers);
        let (staging, timer) = (Held::new(&self.device, staging), Held::new(&self.device, timer));
        let uniforms: u64 = [Slot::Params, Slot::Chunk, Slot::Rotary, Slot::Heads].into_iter().map(size_of).sum();
        stats.allocated_bytes = stats.allocated_bytes.max(allocated + uniforms);
        let start = |slot: Slot| contents.iter().find(|c| c.slot == slot).map_or(0, |c| c.offset);
        let bound = buffers.iter().fold(Buffers::new(), |all, (slot, buffer)| all.with(*slot, buffer, start(*slot)));
        let dispatch = pipeline.bind_async(&self.device, &bound).await?;

        // work, one submission a dispatch, so that no watchdog sees them as one
        let clock = Clock::now();
        let context = format!("running {}", plan.label());
        let mut before = None;
        let last = dispatch.chunks().saturating_sub(1);
        for chunk in 0..dispatch.chunks() {
            let submitted = scoped(&self.device, &context, || {
                let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                {
                    let timestamp_writes = timer.as_ref().and_then(|t| t.writes(chunk == 0, chunk == last));
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                        label: Some(plan.label()),
                        timestamp_writes,
                    });
                    dispatch.encode_chunk(&mut pass, chunk);
                }
                if chunk == last {
                    for (slot, staging) in staging.iter() {
                        if let Some(buffer) = buffers.get(slot) {
                            encoder.copy_buffer_to_buffer(buffer, 0, staging, 0, staging.size());
                        }
                    }
                    if let Some(timer) = timer.as_ref() {
                        timer.resolve(&mut encoder);
                    }
                }
                Submission::new(&self.queue, encoder.finish())
            });
            // one submission ahead: the device stays busy, and progress is true
            if let Some(previous) = before.replace(submitted.await?) {
                previous.done(&self.device, self.timeout).await?;
                self.check()?;
                progress(chunk as f64 / dispatch.chunks() as f64);
            }
        }
        if let Some(last) = before {
            last.done(&self.device, self.timeout).await?;
        }
        self.check()?;
        stats.wall_time += clock.elapsed();
        stats.dispatches += dispatch.chunks();
        progress(1.0);

        // results
        let mut read = HashMap::new();
        for (slot, buffer) in staging.iter() {
            read.insert(*slot, self.read(buffer).await?);
        }
        if let Some(timer) = timer.as_ref() {
            let ticks = self.read(&timer.staging).await?;
            let tick = |i: usize| ticks.get(8 * i..8 * i + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
            if let (Some(from), Some(to)) = (tick(0), tick(1)) {
                let nanos = to.saturating_sub(from) as f64 * self.queue.get_timestamp_period() as f64;
                *stats.gpu_time.get_or_insert_default() += Duration::from_nanos(nanos as u64);
            }
        }
        self.check()?;
        Ok(read)
    }

    /// Errors that no scope caught.
    fn check(&self) -> Result<()> {
        match self.errors.lock().ok().and_then(|mut e| e.take()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// An error if the device is lost.
    async fn check_alive(&self, context: &str) -> Result<()> {
        if !is_lost(&self.device).await && self.lost.get().is_none() {
            return Ok(());
        }
        let _ = wait(&self.device, None, self.timeout); // a destroyed device calls back when it has nothing left to do
        Err(Error::device_lost(context, self.lost.get().map(String::as_str)))
    }

    /// A failure of a lost device is told as its loss.
    async fn told<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(
            Error::Device { context, .. }
            | Error::DeviceLost { context, .. }
            | Error::OutOfMemory { context, .. }
            | Error::Timeout { context, .. },
        ) = &result
        {
            self.check_alive(context).await?;
        }
        result
    }

    async fn read(&self, buffer: &wgpu::Buffer) -> Result<Vec<u8>> {
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

/// Opens an adapter, in turn.
async fn request(
    adapter: &wgpu::Adapter,
    descriptor: &wgpu::DeviceDescriptor<'_>,
) -> std::result::Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    let opened = {
        let _turn = turn_on(adapter.get_info().backend);
        adapter.request_device(descriptor)
    };
    opened.await
}

/// What a buffer holds at the start, and where in it the binding starts, in bytes.
struct Content<'a> {
    slot: Slot,
    bytes: &'a [u8],
    offset: u64,
}

/// Where a kernel finds q, x, or the source of a rotation.
fn source_slot(kernel: Kernel) -> Slot {
    if kernel.in_place() { Slot::Out } else { Slot::Q }
}

/// The results of one part, contiguous.
#[derive(Default)]
struct Run {
    out: Vec<f32>,
    lse: Vec<f32>,
}

/// Zeros for a result, or an error where there is no memory for it.
fn zeros(shape: [u32; 4]) -> Result<Vec<f32>> {
    let len = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d as usize));
    let mut values = Vec::new();
    match len.map(|len| values.try_reserve_exact(len).map(|()| values.resize(len, 0.0))) {
        Some(Ok(())) => Ok(values),
        _ => Err(Error::out_of_memory("allocating a result", format!("{shape:?} values"))),
    }
}

struct Timer {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
}

impl Timer {
    fn new(device: &wgpu::Device) -> Self {
        let set = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("time"),
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        });
        let make = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("time"),
                size: 16,
                usage,
                mapped_at_creation: false,
            })
        };
        let resolved = make(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
        let staging = make(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        Timer { set, resolved, staging }
    }
    /// The first pass writes the start, the last the end.
    fn writes(&self, first: bool, last: bool) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        (first || last).then(|| wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: first.then_some(0),
            end_of_pass_write_index: last.then_some(1),
        })
    }
    fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.set, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, 16);
    }
}

/// The host's clock; browsers have none in std.
pub(crate) struct Clock {
    #[cfg(not(target_arch = "wasm32"))]
    start: std::time::Instant,
}

impl Clock {
    pub(crate) fn now() -> Self {
        Clock {
            #[cfg(not(target_arch = "wasm32"))]
            start: std::time::Instant::now(),
        }
    }
    pub(crate) fn elapsed(&self) -> Duration {
        #[cfg(not(target_arch = "wasm32"))]
        return self.start.elapsed();
        #[cfg(target_arch = "wasm32")]
        Duration::ZERO
    }
}

fn matches(adapter: &wgpu::Adapter, options: &GpuOptions) -> bool {
    let info = adapter.get_info();
    let text = format!("{:?} {} {} {}", info.backend, info.name, info.driver, info.driver_info).to_lowercase();
    options.adapter.as_ref().is_none_or(|wanted| text.contains(&wanted.to_lowercase()))
}
