//! Pipelines of one device: each text compiled once, ahead where that is wanted.

use super::{Layouts, Pipeline};
use crate::{Plan, Result, Target};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Compiled pipelines of one device, for engines with several layers and shapes. Plans of the same text and tuning share one; plans with
/// the same bindings share their layouts.
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
    device: wgpu::Device,
    cache: Option<wgpu::PipelineCache>,
    layouts: Layouts,
    made: Mutex<HashMap<(String, bool), Pipeline>>,
}

impl Pipelines {
    /// None yet.
    pub fn new(device: wgpu::Device) -> Self {
        Pipelines { device, cache: None, layouts: Layouts::default(), made: Mutex::default() }
    }
    /// Compiles through wgpu's pipeline cache, which the caller reads and saves.
    pub fn with_cache(mut self, cache: wgpu::PipelineCache) -> Self {
        self.cache = Some(cache);
        self
    }
    pub(crate) fn cache(&self) -> Option<&wgpu::PipelineCache> {
        self.cache.as_ref()
    }
    /// How many were compiled.
    pub fn len(&self) -> usize {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
    /// Whether none was compiled yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        let key = (plan.wgsl(Target::Native).to_string(), plan.tuning().checks);
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(pipeline) = made {
            return pipeline.for_plan(plan);
        }
        let pipeline = Pipeline::made(&self.device, plan, &self.layouts, self.cache.as_ref()).await?;
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// Compiles plans ahead of their first use, and has the driver finish those that it compiles only when they first run
    /// ([`Pipeline::warm`]). The time that both took.
    ///
    /// # Errors
    /// The device's.
    pub fn warm(&self, queue: &wgpu::Queue, plans: &[Plan]) -> Result<Duration> {
        let mut time = Duration::ZERO;
        for plan in plans {
            let before = self.len();
            let pipeline = self.get(plan)?;
            if self.len() > before {
                time += pipeline.compile_time() + pipeline.warm(&self.device, queue)?;
            }
        }
        Ok(time)
    }
}
