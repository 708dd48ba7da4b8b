//! Every test of the program, as one: see the library's tests/suite.rs.

mod common;

mod bench;
mod cli;
mod conform;
mod plot;
mod tune;
mod validate;
