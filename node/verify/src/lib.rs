//! Everything a third party needs to check the ledger with nothing but pinned keys: block headers, validator sets, commit
//! certificates and the log tree. No IO, no clock, no async; sizes are bounded before anything is allocated.
//! Formats: `proto/FORMAT.md`.
#![no_std]
#![deny(missing_docs, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic)]

extern crate alloc;

pub mod certificate;
pub mod checkpoint;
pub mod header;
pub mod log_tree;
pub mod note;
pub mod validators;

pub use certificate::{CertificateError, CommitCertificate, CommitSignature, verify_certificate};
pub use checkpoint::{CheckpointError, Cosignature, check_final, checkpoint_text, origin};
pub use header::{Header, MAX_BLOCK_BATCHES};
pub use log_tree::{LogRoot, LogTree};
pub use validators::{Address, Validator, ValidatorSet};
