//! Waiting for the device.

use crate::error::{Error, Result};
use crate::gpu::turn::turn;
#[cfg(target_arch = "wasm32")]
use futures_channel::oneshot;
use std::time::Duration;

/// Work that was submitted, to be waited for.
pub(crate) struct Submission {
    #[cfg(not(target_arch = "wasm32"))]
    index: wgpu::SubmissionIndex,
    #[cfg(target_arch = "wasm32")]
    done: oneshot::Receiver<()>,
}

const CONTEXT: &str = "waiting for the device";

impl Submission {
    pub(crate) fn new(queue: &wgpu::Queue, commands: wgpu::CommandBuffer) -> Self {
        let index = queue.submit([commands]);
        #[cfg(not(target_arch = "wasm32"))]
        return Submission { index };
        #[cfg(target_arch = "wasm32")]
        {
            let _ = index;
            let (signal, done) = oneshot::channel();
            queue.on_submitted_work_done(move || _ = signal.send(()));
            Submission { done }
        }
    }

    /// Until the device is done with it. Other futures of the thread run first; then the thread is blocked, but for the web's, whose
    /// promises know no timeout.
    pub(crate) async fn done(self, device: &wgpu::Device, timeout: Option<Duration>) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        {
            yield_now().await;
            wait(device, Some(self.index), timeout)
        }
        #[cfg(target_arch = "wasm32")]
        {
            let _ = (device, timeout);
            self.done.await.map_err(|e| Error::device(CONTEXT, e))
        }
    }
}

/// Blocks the thread until a submission is done; `None`: all of them. On GL it lets other threads have their turns in between, and goes on where
/// wgpu gives up after two seconds.
pub(crate) fn wait(
    device: &wgpu::Device,
    submission: Option<wgpu::SubmissionIndex>,
    timeout: Option<Duration>,
) -> Result<()> {
    const SLICE: Duration = Duration::from_millis(100);
    let on_gl = device.adapter_info().backend == wgpu::Backend::Gl;
    let clock = crate::gpu::clock::Clock::now();
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(clock.elapsed()));
        let slice = if on_gl { Some(left.unwrap_or(SLICE).min(SLICE)) } else { left };
        let polled = poll(device, wgpu::PollType::Wait { submission_index: submission.clone(), timeout: slice })?;
        match (polled, timeout) {
            (Ok(_), _) => return Ok(()),
            (Err(wgpu::PollError::Timeout), Some(after)) if left == Some(Duration::ZERO) => {
                return Err(Error::Timeout { context: CONTEXT.into(), after });
            }
            (Err(wgpu::PollError::Timeout), _) => {}
            (Err(e), _) => return Err(Error::device(CONTEXT, e)),
        }
    }
}

/// Polls in turn. wgpu panics where a driver gives its device up meanwhile; it has told the lost callback by then.
fn poll(device: &wgpu::Device, poll: wgpu::PollType) -> Result<std::result::Result<wgpu::PollStatus, wgpu::PollError>> {
    let _turn = turn(device);
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| device.poll(poll)));
    polled.or_else(|panic| match pollster::block_on(crate::gpu::turn::is_lost(device)) {
        true => Err(Error::device_lost(CONTEXT, None)),
        false => std::panic::resume_unwind(panic), // a callback's own
    })
}

/// Lets the other futures of the thread run once.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| match std::mem::replace(&mut yielded, true) {
        true => std::task::Poll::Ready(()),
        false => {
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        }
    })
    .await;
}
