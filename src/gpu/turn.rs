//! What every use of a wgpu device shares: its turn, and how its loss is told.
//!
//! **Turns.** wgpu's GL backend has one context for all devices of an adapter. It panics where a thread does not get it within six
//! seconds (EGL) or one (WGL), be it for a submission, a wait or the end of a buffer; a dispatch of llvmpipe on a busy machine may take
//! longer. So whatever this crate does with GL devices is done in [`turn`], letting go of their objects ([`Held`]) and waiting ([`crate::gpu::submission::wait`])
//! included. A turn never lasts over an `.await`, and no other lock is taken that a thread without the turn may hold while it waits for it.
//!
//! **Loss.** wgpu tells no error scope that a device is lost, and the callback for it is the device owner's. What everybody can see is
//! [`is_lost`].

use parking_lot::ReentrantMutex;
use parking_lot::ReentrantMutexGuard;
use parking_lot::const_reentrant_mutex;

static GL: ReentrantMutex<()> = const_reentrant_mutex(());

/// The right to use devices of wgpu's GL backend, for as long as it is kept; see [`turn`].
#[derive(Debug)]
#[must_use = "the turn is over when it is dropped"]
pub struct Turn {
    _lock: Option<ReentrantMutexGuard<'static, ()>>,
}

/// Waits for this thread's turn on a device. A thread that has it may take it again.
///
/// Only for devices of wgpu's GL backend, whose threads panic where others keep them waiting, for six seconds on EGL and one on WGL: all work of this crate on such
/// devices is done in turn, and an engine that uses one from several threads takes a turn for calls of its own, letting go of buffers
/// included. Nothing is waited for on other backends.
///
/// Opening a device takes a turn too: see [`turn_on`].
pub fn turn(device: &wgpu::Device) -> Turn {
    turn_on(device.adapter_info().backend)
}

/// As [`turn`], where there is no device yet: for [`request_device`](wgpu::Adapter::request_device) on an adapter of this backend. It does
/// its work when it is called, so that the turn need not last until it is awaited.
pub fn turn_on(backend: wgpu::Backend) -> Turn {
    Turn { _lock: (backend == wgpu::Backend::Gl).then(|| GL.lock()) }
}

/// Handles of a device's objects, let go in its turn: wgpu frees what it no longer has a handle of at once.
#[derive(Debug, Clone)]
pub(crate) struct Held<T> {
    backend: wgpu::Backend,
    /// There until it is dropped.
    value: Option<T>,
}

impl<T> Held<T> {
    pub(crate) fn new(device: &wgpu::Device, value: T) -> Self {
        Held { backend: device.adapter_info().backend, value: Some(value) }
    }
    pub(crate) fn into_inner(mut self) -> T {
        self.value.take().expect("it is there until it is dropped")
    }
}

impl<T> std::ops::Deref for Held<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is there until it is dropped")
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let _turn = turn_on(self.backend);
        self.value = None;
    }
}

/// Whether a device is lost: then a buffer comes neither mapped nor with an error. Browsers map it all the same; there the device's
/// callback is the only sign, which any number of owners may set.
pub(crate) async fn is_lost(device: &wgpu::Device) -> bool {
    if cfg!(target_arch = "wasm32") {
        return false;
    }
    let (mapped, errors) = {
        let _turn = turn(device);
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("ropewalk, is the device lost"),
            size: wgpu::COPY_BUFFER_ALIGNMENT,
            usage: wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        });
        (buffer.get_mapped_range(..).is_ok(), (internal.pop(), validation.pop(), memory.pop()))
    };
    let errors = [errors.0.await, errors.1.await, errors.2.await];
    !mapped && errors.iter().all(Option::is_none)
}

/// Whether a buffer is of this device and not destroyed; for saying which of several is not.
pub(crate) async fn owns(device: &wgpu::Device, buffer: &wgpu::Buffer) -> bool {
    if cfg!(target_arch = "wasm32") {
        return true; // browsers have no such call
    }
    if crate::gpu::trusted::is_on_gl(buffer) != (device.adapter_info().backend == wgpu::Backend::Gl) {
        return false; // of another instance, which has the same numbers for other buffers
    }
    let error = {
        let _turn = turn(device);
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let state = wgpu::BufferUses::STORAGE_READ_ONLY;
        encoder.transition_resources([wgpu::BufferTransition { buffer, state }].into_iter(), [].into_iter());
        drop(encoder.finish());
        scope.pop()
    };
    error.await.is_none()
}
