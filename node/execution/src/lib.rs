//! Runs decided blocks: entries, receipts and roots from the ledger rules, in one thread, behind consensus by at most two blocks.
//!
//! Given the same blocks it gives the same roots on every node and after every crash. It decides nothing: what a block does is
//! `anji_contracts`' answer, what is kept is `anji_storage`'s. A root or a sum that does not fit stops the node.
//! Read [`executor`] for one block's way, [`handle`] for the thread, [`scan`] for the full check of a data folder.
#![deny(missing_docs)]

mod cache;
pub mod error;
pub mod executor;
pub mod handle;
pub mod metrics;
pub mod registry;
pub mod scan;
mod scan_windows;
mod view;
mod writing;

pub use error::ExecutionError;
pub use executor::{Alarm, DecidedBlock, Executed, ExecutionOptions, Executor};
pub use handle::{ExecutionHandle, spawn};
pub use metrics::ExecutionMetrics;
pub use registry::RegistrySnapshot;
pub use scan::{Report, scan_invariants};
