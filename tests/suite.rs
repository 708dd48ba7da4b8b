//! Every integration test, as one program: it is compiled and linked once. A test is asked for by file and name: `cargo test --test suite decode::`.

#[cfg(feature = "wgpu")]
mod common;

mod allocations;
mod append;
mod backends;
mod bench;
mod bias;
mod bounds;
mod config;
#[cfg(feature = "cooperative-matrix")]
mod coop;
mod coverage;
mod decode;
mod device;
mod docs;
mod embed;
mod factors;
mod futures;
mod gl;
mod hostile;
mod indices;
mod lanes;
#[cfg(feature = "naga")]
mod layout;
mod linear;
mod low_scores;
mod merge;
mod order;
mod packed;
mod phase;
mod plan;
mod pool;
mod rebind;
mod relative;
mod rotary;
mod rotate;
mod rules;
mod scaling;
mod score_mod;
mod share;
mod sizes;
mod storage;
mod systems;
mod tile;
mod tuning;
#[path = "twin.rs"]
mod twin_cases;
