//! Opening a device.

use crate::error::{Error, Result};
use crate::gpu::adapter::{GpuOptions, adapters, adapters_of, describe};
use crate::gpu::device::{Gpu, request};
use crate::gpu::one_call::matrix;
use crate::gpu::one_call::one_call::matches;
use crate::gpu::winners::TuningCache;

impl Gpu {
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
}
