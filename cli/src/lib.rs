//! The command line: parse, call the library, print. Results go to stdout, everything else to stderr.
//!
//! A library so that a fuzzer reaches [`readers`]; the program is [`run`]. Without the feature `program` what remains needs no
//! arguments, files, threads or terminal, and builds for wasm32-unknown-unknown: [`cases`], [`workloads`] and [`pictures`],
//! with results as [`text`]. Not a stable API.

pub mod cases;
pub mod litmus;
pub mod pictures;
pub mod record;
pub mod text;
pub mod workloads;

#[cfg(feature = "program")]
mod bench;
#[cfg(feature = "program")]
mod config;
#[cfg(feature = "program")]
mod conform;
#[cfg(feature = "program")]
mod demo;
#[cfg(feature = "program")]
mod devices;
#[cfg(feature = "program")]
mod figures;
#[cfg(feature = "program")]
mod files;
#[cfg(feature = "program")]
mod golden;
#[cfg(feature = "program")]
mod plot;
#[cfg(feature = "program")]
mod program;
#[cfg(feature = "program")]
mod progress;
#[cfg(feature = "program")]
pub mod readers;
#[cfg(feature = "program")]
mod replay;
#[cfg(feature = "program")]
mod report;
#[cfg(feature = "program")]
mod run;
#[cfg(feature = "program")]
mod source;
#[cfg(feature = "program")]
mod systems;
#[cfg(feature = "program")]
mod tensors;
#[cfg(feature = "program")]
mod tune;
#[cfg(feature = "program")]
mod validate;
#[cfg(feature = "program")]
mod wgsl;

#[cfg(feature = "program")]
pub use program::run;
#[cfg(feature = "program")]
use program::verdict;
