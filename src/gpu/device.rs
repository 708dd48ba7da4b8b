//! `Gpu`: a device with its limits, its pipelines, and how long it is waited for.

use crate::error::{Error, Result};
use crate::gpu::adapter::describe;
use crate::gpu::clock::{Clock, Timer};
use crate::gpu::dispatch::Buffers;
use crate::gpu::pipeline::{filled, scoped};
use crate::gpu::pipelines::Pipelines;
use crate::gpu::submission::{Submission, wait};
use crate::gpu::turn::{Held, is_lost, turn_on};
use crate::plan::budget::{DISCRETE_RATE, INTEGRATED_RATE, flop_per_dispatch};
use crate::plan::limits::Limits;
use crate::plan::plan::Plan;
use crate::plan::tuning::table::Source;
use crate::shader::layout::Slot;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::time::Duration;

/// What hears the finished share of a call. [`Sync`], so that the `_async` forms are [`Send`]; not on the web, whose functions stay
/// on their thread.
#[cfg(not(target_arch = "wasm32"))]
pub type Progress<'a> = dyn Fn(f64) + Sync + 'a;

/// What hears the finished share of a call.
#[cfg(target_arch = "wasm32")]
pub type Progress<'a> = dyn Fn(f64) + 'a;

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
    pub(crate) info: wgpu::AdapterInfo,
    pub(crate) device: Held<wgpu::Device>,
    queue: Held<wgpu::Queue>,
    pub(crate) limits: Limits,
    timestamps: bool,
    /// How long a call waits for a submission.
    pub(crate) timeout: Option<Duration>,
    /// The first error that no scope caught.
    pub(crate) errors: Arc<Mutex<Option<Error>>>,
    /// Why the device is lost, where its callback is ours.
    lost: Arc<OnceLock<String>>,
    pipelines: Arc<Pipelines>,
    pub(crate) warnings: Vec<String>,
    /// Rows of cooperative matrices, or why there are none.
    pub(crate) matrix: std::result::Result<u32, String>,
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
        let of_rate = |rate: f64| Limits { max_flop_per_dispatch: flop_per_dispatch(rate), ..ours };
        match device_type {
            wgpu::DeviceType::Cpu => ours.for_cpu(),
            wgpu::DeviceType::DiscreteGpu => of_rate(DISCRETE_RATE),
            wgpu::DeviceType::IntegratedGpu => of_rate(INTEGRATED_RATE),
            _ => ours,
        }
    }
    /// What the features that a device was opened with allow kernels to use.
    pub fn with_features(self, features: wgpu::Features, info: &wgpu::AdapterInfo) -> Self {
        let one_size = features.contains(wgpu::Features::SUBGROUP) && info.subgroup_min_size == info.subgroup_max_size;
        Limits {
            subgroup_size: if one_size { info.subgroup_min_size } else { 0 },
            f16: features.contains(wgpu::Features::SHADER_F16),
            // Metal does not tell the vendor, who is Apple
            registers: match FEW_REGISTERS.contains(&info.vendor) || info.backend == wgpu::Backend::Metal {
                true => 128,
                false => self.registers,
            },
            ..self
        }
    }
}

/// Vendors (PCI's numbers, or Khronos') whose compilers give a lane 128 registers: Intel (of 8 lanes each), Apple, Arm, Qualcomm, Imagination.
const FEW_REGISTERS: [u32; 5] = [0x8086, 0x106b, 0x13b5, 0x5143, 0x1010];

impl Gpu {
    /// How many pipelines the one-call form keeps, where [`Gpu::pipelines`] was not told another number: prefill and decode of some ten
    /// layers that differ, about 1 GB on llvmpipe.
    pub const MAX_PIPELINES: NonZeroUsize = NonZeroUsize::new(32).unwrap();
    /// Around a device that the caller made, with at least WebGPU's default limits. Takes over its handler of uncaptured
    /// errors. Its lost callback stays the caller's: [`Error::DeviceLost`] is told, but not why.
    pub fn from_device(info: wgpu::AdapterInfo, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let gpu = Self::around(info, device, queue);
        if cfg!(target_arch = "wasm32") {
            gpu.hear_of_loss(); // any number of callbacks may be set there
        }
        gpu
    }
    pub(crate) fn around(info: wgpu::AdapterInfo, device: wgpu::Device, queue: wgpu::Queue) -> Self {
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
            matrix: Err(NOT_ASKED.into()),
        }
    }
    pub(crate) fn hear_of_loss(&self) {
        let lost = self.lost.clone();
        self.device.set_device_lost_callback(move |reason, message| {
            let _ = lost.set(match reason {
                wgpu::DeviceLostReason::Destroyed => "it was destroyed".into(),
                wgpu::DeviceLostReason::Unknown => message,
            });
        });
    }
    pub(crate) async fn load_pipelines(&mut self) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(path) = crate::gpu::disk::path(&self.info)
            && self.device.features().contains(wgpu::Features::PIPELINE_CACHE)
        {
            let (saved, warning) = crate::gpu::disk::load(&path, &self.info);
            self.warnings.extend(warning);
            let device = &self.device;
            let made =
                scoped(device, "opening the pipeline cache", || crate::gpu::trusted::pipeline_cache(device, saved));
            let pipelines = Pipelines::new(wgpu::Device::clone(&self.device)).with_cache(made.await?);
            pipelines.set_capacity(Self::MAX_PIPELINES);
            self.pipelines = Arc::new(pipelines);
        }
        Ok(())
    }
    /// Writes the pipelines compiled so far into the user's cache folder, where the device was opened with
    /// [`GpuOptions::keep_pipelines`](crate::GpuOptions::keep_pipelines) and can; else does nothing.
    ///
    /// # Errors
    /// [`Error::Input`] where the folder cannot be written.
    pub fn save_pipelines(&self) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        if let (Some(cache), Some(path)) = (self.pipelines.cache(), crate::gpu::disk::path(&self.info))
            && self.pipelines.compiled() > 0
        {
            pollster::block_on(self.check_alive("saving pipelines"))?;
            return crate::gpu::disk::save(&path, &self.info, cache);
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
    /// Waits until a submission is done.
    ///
    /// # Errors
    /// As [`Gpu::finish`].
    pub fn wait_for(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        self.wait_alive(Some(submission))
    }
    /// wgpu calls what was submitted to a lost device done.
    pub(crate) fn wait_alive(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let done = self.wait(submission);
        pollster::block_on(self.check_alive("waiting for the device"))?;
        done
    }
    pub(crate) async fn try_execute(
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
    /// An error if the device is lost.
    pub(crate) async fn check_alive(&self, context: &str) -> Result<()> {
        if !is_lost(&self.device).await && self.lost.get().is_none() {
            return Ok(());
        }
        let _ = wait(&self.device, None, self.timeout); // a destroyed device calls back when it has nothing left to do
        Err(Error::device_lost(context, self.lost.get().map(String::as_str)))
    }
    /// A failure of a lost device is told as its loss.
    pub(crate) async fn told<T>(&self, result: Result<T>) -> Result<T> {
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
}

/// Opens an adapter, in turn.
pub(crate) async fn request(
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
pub(crate) struct Content<'a> {
    pub(crate) slot: Slot,
    pub(crate) bytes: &'a [u8],
    pub(crate) offset: u64,
}

pub(crate) const NOT_ASKED: &str = "not asked for: see GpuOptions::cooperative_matrix";
