//! Which adapters there are.

#[cfg(not(target_arch = "wasm32"))]
use std::sync::LazyLock;

/// Which device to open.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct GpuOptions {
    /// Part of the adapter's name, driver, driver version or backend, any case; `None`: the best there is.
    pub adapter: Option<String>,
    /// WebGPU's default limits and no features at all, whatever the adapter has: what every device can do.
    pub default_limits: bool,
    /// Take the winners of `ropewalk tune` on this adapter into account. What is ignored of them [`Gpu::warnings`](crate::Gpu::warnings) tells.
    pub tuned: bool,
    /// Experimental: compute f16 attention on cooperative matrices where the adapter has them (Vulkan) and small attentions
    /// come out right on them; [`Gpu::cooperative_matrix`](crate::Gpu::cooperative_matrix) tells. Takes the cargo feature `cooperative-matrix`. Results are then within
    /// the bounds of [`Arithmetic::F16Matrix`](crate::check::Arithmetic), which are wider than those of f32.
    pub cooperative_matrix: bool,
    /// Keep compiled pipelines in the user's cache folder, where the device can: [`Gpu::save_pipelines`](crate::Gpu::save_pipelines) writes them.
    pub keep_pipelines: bool,
}

impl GpuOptions {
    /// An adapter by (part of) its name, driver or backend.
    pub fn named(adapter: impl Into<String>) -> Self {
        GpuOptions { adapter: Some(adapter.into()), ..Self::default() }
    }
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
pub(crate) async fn adapters_of(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
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
pub(crate) async fn adapters_of(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
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
