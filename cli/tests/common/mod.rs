//! What the tests share: adapters, as in the library's `tests/common`, and what only a clone of the repository holds.
#![allow(dead_code)]
use ropewalk::{Gpu, GpuOptions, wgpu};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A file or folder of the repository. None: the test is left out and says so, since a published package lies alone.
pub fn repository(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let there = path.exists();
    if !there {
        left_out(&format!("no {}: a published package has none", path.display()));
    }
    there.then_some(path)
}

/// Every adapter with these options, but for those of OpenGL whose device is there by another road too.
pub fn opened(options: &GpuOptions) -> Vec<Gpu> {
    let all: Vec<Gpu> = Gpu::all(options).into_iter().filter_map(Result::ok).collect();
    let (gl, others): (Vec<Gpu>, Vec<Gpu>) = all.into_iter().partition(|gpu| gpu.info().backend == wgpu::Backend::Gl);
    let same = |gl: &Gpu, other: &Gpu| {
        let (a, b) = (gl.info(), other.info());
        a.name.contains(&b.name)
            || b.name.contains(&a.name)
            || (a.vendor != 0 && [a.vendor, a.device] == [b.vendor, b.device])
    };
    let alone = gl.into_iter().filter(|gl| !others.iter().any(|other| same(gl, other))).collect::<Vec<_>>();
    others.into_iter().chain(alone).collect()
}

/// [`opened`] with WebGPU's default limits and no features. None: the test is left out and says so, unless the environment promises an
/// adapter (`ROPEWALK_REQUIRE_ADAPTER`).
pub fn gpus() -> Vec<Gpu> {
    promised(opened(&default_limits()))
}

/// The same, those of OpenGL too.
pub fn every_adapter() -> Vec<Gpu> {
    promised(Gpu::all(&default_limits()).into_iter().filter_map(Result::ok).collect())
}

fn default_limits() -> GpuOptions {
    let mut options = GpuOptions::default();
    options.default_limits = true;
    options
}

fn promised(gpus: Vec<Gpu>) -> Vec<Gpu> {
    if gpus.is_empty() {
        assert!(std::env::var_os("ROPEWALK_REQUIRE_ADAPTER").is_none(), "an adapter was promised, none opens");
        left_out("no adapter");
    }
    gpus
}

/// Says that the running test is left out: in its output, and in the file that `ROPEWALK_LEFT_OUT` names, from which
/// `cargo xtask test` prints them all.
pub fn left_out(why: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {why}\n", thread.name().unwrap_or("a test"));
    print!("LEFT OUT: {line}");
    if let Some(path) = std::env::var_os("ROPEWALK_LEFT_OUT") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("ROPEWALK_LEFT_OUT names a file to append to");
    }
}
