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
    case: Case,
}

/// A case of a kind, and what it is about.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub kind: &'static str,
    pub seed: u64,
    pub about: &'static str,
}

impl Case {
    /// The lines of a failure, with how to see it again.
    pub fn failed(self, problem: &str) -> String {
        let Case { kind, seed, about } = self;
        let about = if about.is_empty() { String::new() } else { format!(" ({about})") };
        let again = format!("cargo xtask fuzz --kind {kind} --seed {seed} --cases 1");
        format!("FAILED {kind}, seed {seed}{about}: {problem}\n  again: {again}")
    }
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
            Some(running) => end(running.case, &format!("asks for {size} bytes at once")),
            None => std::process::exit(1),
        }
    }
}

/// Ends the program on behalf of the running case, from whatever thread.
fn end(case: Case, problem: &str) -> ! {
    println!("{}", case.failed(problem));
    std::process::exit(1)
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
                end(running.case, &format!("still running after {} s", running.most.as_secs()));
            }
        }
    });
}

/// Runs one case; what it did wrong. A hang, and memory that a machine may not have, end the program with the same report.
pub fn run<T>(case: Case, most: Most, run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    *locked(&PANIC) = None;
    *locked(&RUNNING) = Some(Running { since: Instant::now(), most: most.time, case });
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::process::Command;

    const CASE: Case = Case { kind: "injected", seed: 7, about: "a fault" };
    const MOST: Most = Most { bytes: 16 << 20, time: Duration::from_secs(60) };

    /// Runs one of the faults below in a process of its own: whether it lived to the end, and what it printed.
    fn alone(fault: &str) -> (bool, String) {
        let program = std::env::current_exe().expect("this program");
        let test = format!("guard::tests::{fault}");
        let output =
            Command::new(program).args(["--exact", &test, "--ignored", "--nocapture"]).output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The fault is reported with its seed, and the next case runs.
    fn reported(run: impl FnOnce() -> Result<(), String>) {
        start();
        let problem = super::run(CASE, MOST, run).expect_err("a fault");
        println!("{}", CASE.failed(&problem));
        super::run(CASE, MOST, || Ok(())).expect("nothing wrong");
        println!("went on");
    }

    #[test]
    #[ignore = "a fault"]
    fn panics() {
        reported(|| panic!("the {} panic", "injected"));
    }
    #[test]
    #[ignore = "a fault"]
    fn panics_in_another_thread() {
        reported(|| {
            let thread = std::thread::spawn(|| panic!("the injected panic"));
            thread.join().map_err(|panic| std::panic::resume_unwind(panic))
        });
    }
    #[test]
    #[ignore = "a fault"]
    fn fails() {
        reported(|| Err("the injected failure".into()));
    }
    #[test]
    #[ignore = "a fault"]
    fn holds_too_much() {
        reported(|| {
            let mut held: Vec<Vec<u8>> = vec![];
            (0..32).for_each(|_| held.push(black_box(vec![1; 1 << 20])));
            Ok(())
        });
    }
    #[test]
    #[ignore = "a fault"]
    fn grows_too_much() {
        reported(|| {
            let mut held: Vec<u8> = vec![];
            (0..20 << 20).for_each(|i| held.push(black_box(i as u8)));
            Ok(())
        });
    }
    #[test]
    #[ignore = "a fault"]
    fn asks_for_what_no_machine_has() {
        reported(|| {
            black_box(vec![0u8; 1 << 40]);
            Ok(())
        });
    }
    #[test]
    #[ignore = "a fault"]
    fn hangs() {
        start();
        let most = Most { time: Duration::from_secs(1), ..MOST };
        let _ = super::run(CASE, most, || -> Result<(), String> {
            loop {
                std::thread::park()
            }
        });
        println!("went on");
    }

    #[test]
    fn every_injected_fault_is_reported_with_its_seed() {
        for (fault, report) in [
            ("panics", "the injected panic"),
            ("panics_in_another_thread", "the injected panic"),
            ("fails", "the injected failure"),
            ("holds_too_much", "bytes at once, 16777216 are the most"),
            ("grows_too_much", "bytes at once, 16777216 are the most"),
        ] {
            let (lived, said) = alone(fault);
            assert!(lived && said.contains("went on"), "{fault}: {said}");
            assert!(said.contains("FAILED injected, seed 7 (a fault)") && said.contains(report), "{fault}: {said}");
        }
    }

    #[test]
    fn what_cannot_go_on_ends_the_program_with_the_seed() {
        for (fault, report) in [
            ("asks_for_what_no_machine_has", "asks for 1099511627776 bytes at once"),
            ("hangs", "still running after 1 s"),
        ] {
            let (lived, said) = alone(fault);
            assert!(!lived && !said.contains("went on"), "{fault}: {said}");
            assert!(said.contains("FAILED injected, seed 7 (a fault)") && said.contains(report), "{fault}: {said}");
        }
    }
}
