//! Pipelines of one device: each text compiled once, ahead where that is wanted.

use crate::error::{Error, Result};
use crate::gpu::pipeline::{Layouts, Pipeline};
use crate::gpu::turn::{Held, is_lost};
use crate::plan::plan::Plan;
use crate::shader::compose::Target;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// Compiled pipelines of one device, for engines with several layers and shapes. Plans of the same text and tuning share one; plans with
/// the same bindings share their layouts. All are kept, unless [`Pipelines::set_capacity`] says how many.
///
/// ```
/// use ropewalk::{Gpu, Kernel, Pipelines, Plan, Shape, Spec};
/// # let Ok(gpu) = Gpu::new() else { return Ok::<(), ropewalk::Error>(()) };
/// let spec = Spec::new(8, 2, 64);
/// let shapes = [Shape::new(&spec, 1, 512, 512), Shape::new(&spec, 1, 1, 4096)];      // prefill, decode
/// let plans = shapes.map(|shape| Plan::new(Kernel::Attention, &spec, &shape, gpu.limits()));
/// let plans = plans.into_iter().collect::<Result<Vec<_>, _>>()?;
/// let pipelines = Pipelines::new(gpu.device().clone());
/// let time = pipelines.warm(gpu.queue(), &plans)?;                  // while the model loads
/// println!("{} pipelines in {time:?}", pipelines.len());
/// let pipeline = pipelines.get(&plans[1])?;                        // at once
/// # let _ = pipeline;
/// # Ok::<(), ropewalk::Error>(())
/// ```
#[derive(Debug)]
pub struct Pipelines {
    cache: Option<wgpu::PipelineCache>,
    layouts: Layouts,
    /// What is forgotten is dropped without this lock, since that takes a turn on the device.
    made: Mutex<Made>,
    /// Let go last: `cache` and `layouts` have the device too, which is to end in its turn.
    device: Held<wgpu::Device>,
}

#[derive(Debug)]
struct Made {
    /// By text and whether the compiler adds run-time checks.
    kept: LruCache<(String, bool), Pipeline>,
    compiled: usize,
}

impl Pipelines {
    /// None yet.
    pub fn new(device: wgpu::Device) -> Self {
        let made = Mutex::new(Made { kept: LruCache::unbounded(), compiled: 0 });
        Pipelines { cache: None, layouts: Layouts::default(), made, device: Held::new(&device, device.clone()) }
    }
    /// Compiles through wgpu's pipeline cache, which the caller reads and saves.
    pub fn with_cache(mut self, cache: wgpu::PipelineCache) -> Self {
        self.cache = Some(cache);
        self
    }
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn cache(&self) -> Option<&wgpu::PipelineCache> {
        self.cache.as_ref()
    }
    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// How many it keeps.
    pub fn len(&self) -> usize {
        self.made().kept.len()
    }
    /// Whether it keeps none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How many were compiled, those that it no longer keeps among them.
    pub fn compiled(&self) -> usize {
        self.made().compiled
    }
    /// Keeps at most so many from now on: one more, and the least recently used is forgotten. Whoever holds a clone of it or a [`Dispatch`]
    /// keeps that alive; [`Pipelines::get`] compiles it anew. One takes megabytes on some drivers (28 MB on llvmpipe).
    ///
    /// [`Dispatch`]: crate::Dispatch
    pub fn set_capacity(&self, capacity: NonZeroUsize) {
        let forgotten: Vec<_> = {
            let mut made = self.made();
            let many = made.kept.len().saturating_sub(capacity.get());
            let forgotten = std::iter::from_fn(|| made.kept.pop_lru()).take(many).collect();
            made.kept.resize(capacity);
            forgotten
        };
        drop(forgotten);
    }
    /// Forgets all.
    pub fn clear(&self) {
        let forgotten: Vec<_> = {
            let mut made = self.made();
            std::iter::from_fn(|| made.kept.pop_lru()).collect()
        };
        drop(forgotten);
    }

    /// The pipeline of a plan, compiled if no earlier plan had the same text and tuning.
    ///
    /// # Errors
    /// The device's.
    pub fn get(&self, plan: &Plan) -> Result<Pipeline> {
        pollster::block_on(self.get_async(plan))
    }
    /// See [`Pipelines::get`].
    ///
    /// # Errors
    /// The device's.
    pub async fn get_async(&self, plan: &Plan) -> Result<Pipeline> {
        self.find(plan).await.map(|(pipeline, _)| pipeline)
    }
    /// Also whether it was compiled for this call.
    async fn find(&self, plan: &Plan) -> Result<(Pipeline, bool)> {
        let key = (plan.wgsl(Target::Native).to_string(), plan.tuning().checks);
        let kept = self.made().kept.get(&key).cloned();
        if let Some(pipeline) = kept {
            if is_lost(&self.device).await {
                return Err(Error::device_lost(format!("looking for {}", plan.label()), None));
            }
            return Ok((pipeline.for_plan(plan)?, false));
        }
        let pipeline = Pipeline::made(&self.device, plan, &self.layouts, self.cache.as_ref()).await?;
        let forgotten = {
            let mut made = self.made();
            made.compiled += 1;
            made.kept.push(key, pipeline.clone())
        };
        drop(forgotten);
        Ok((pipeline, true))
    }

    /// Compiles plans ahead of their first use, and has the driver finish those that it compiles only when they first run
    /// ([`Pipeline::warm`]). The time that both took.
    ///
    /// # Errors
    /// The device's.
    pub fn warm(&self, queue: &wgpu::Queue, plans: &[Plan]) -> Result<Duration> {
        let mut time = Duration::ZERO;
        for plan in plans {
            let (pipeline, compiled) = pollster::block_on(self.find(plan))?;
            if compiled {
                time += pipeline.compile_time() + pipeline.warm(&self.device, queue)?;
            }
        }
        Ok(time)
    }
}
