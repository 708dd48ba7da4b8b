//! What is computed with all of it: the systems as data, our own cases by address, the named workloads.
//!
//! Called by the command line and by users; nothing of the library calls it.

pub mod case;
pub(crate) mod draft;
#[cfg(test)]
pub(crate) mod drawn;
pub mod systems;
pub mod workload;
