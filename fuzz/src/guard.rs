//! What a case must not do: panic, hang, or hold more memory than its input gives reason for. Each is reported with the case's kind
//! and seed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes beyond which nothing is allocated: the program ends with the case's seed, before the machine is in need.
const END: usize = 3 << 30;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The running case.
static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

/// What the case's first panic said, and where, on whatever thread.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

#[derive(Clone, Copy)]
struct Running {
    since: Instant,
    most: Duration,
    kind: &'static str,
    seed: u64,
}

/// What a case may take.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Bytes that it may hold at once, of all threads.
    pub bytes: usize,
    /// How long it may run on a busy machine.
    pub time: Duration,
}

/// The system's allocator, counted.
pub struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it is.
#[expect(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size);
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(block, layout, size) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(block, layout) }
    }
}

fn take(size: usize) {
    let live = LIVE.fetch_add(size, Relaxed).saturating_add(size);
    PEAK.fetch_max(live, Relaxed);
    if live > END {
        LIVE.fetch_sub(size, Relaxed);
        let running = *locked(&RUNNING);
        match running {
            Some(running) => end(running, &format!("asks for {size} bytes at once")),
            None => std::process::exit(1),
        }
    }
}

/// Ends the program on behalf of the running case, from whatever thread.
fn end(Running { kind, seed, .. }: Running, problem: &str) -> ! {
    println!("{}", failure(kind, seed, problem));
    std::process::exit(1)
}

/// The line of a failure, and how to see it again.
pub fn failure(kind: &str, seed: u64, problem: &str) -> String {
    let again = format!("cargo xtask fuzz --kind {kind} --seed {seed} --cases 1");
    format!("FAILED {kind}, seed {seed}: {problem}\n  again: {again}")
}

/// Keeps what panics say for the report, and ends the program when a case hangs. Call it once.
pub fn start() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string().replace('\n', " ");
        locked(&PANIC).get_or_insert(text);
    }));
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = *locked(&RUNNING);
            if let Some(running) = now.filter(|running| running.since.elapsed() > running.most) {
                end(running, &format!("still running after {} s", running.most.as_secs()));
            }
        }
    });
}

/// Runs one case; what it did wrong. A hang, and memory that a machine may not have, end the program with the same report.
pub fn case<T>(
    kind: &'static str,
    seed: u64,
    most: Most,
    run: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    *locked(&PANIC) = None;
    *locked(&RUNNING) = Some(Running { since: Instant::now(), most: most.time, kind, seed });
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    let held = PEAK.load(Relaxed).saturating_sub(before);
    *locked(&RUNNING) = None;
    match outcome {
        Err(_) => Err(locked(&PANIC).take().unwrap_or_else(|| "panicked".into())),
        Ok(_) if held > most.bytes => {
            Err(format!("held {held} bytes at once, {} are the most for its input", most.bytes))
        }
        Ok(result) => result,
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
