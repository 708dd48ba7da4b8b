//! Waiting for the device.

use crate::{Error, Result};
#[cfg(target_arch = "wasm32")]
use futures_channel::oneshot;

/// Work that was submitted, to be waited for.
pub(crate) struct Submission {
    #[cfg(not(target_arch = "wasm32"))]
    index: wgpu::SubmissionIndex,
    #[cfg(target_arch = "wasm32")]
    done: oneshot::Receiver<()>,
}

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

    /// Until the device is done with it. Other futures of the thread run first; then the thread is blocked, but for the web's.
    pub(crate) async fn done(self, device: &wgpu::Device) -> Result<()> {
        let context = "waiting for the device";
        #[cfg(not(target_arch = "wasm32"))]
        {
            yield_now().await;
            let poll = wgpu::PollType::Wait { submission_index: Some(self.index), timeout: None };
            device.poll(poll).map_err(|e| Error::device(context, e))?;
        }
        #[cfg(target_arch = "wasm32")]
        {
            let _ = device;
            self.done.await.map_err(|e| Error::device(context, e))?;
        }
        Ok(())
    }
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
