//! Everything a third party needs to check the ledger with nothing but pinned keys: block headers, validator sets, commit
//! certificates and the log tree. No IO, no clock, no async; sizes are bounded before anything is allocated.
//! Formats: `proto/FORMAT.md`.
#![no_std]
#![deny(missing_docs, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic)]

extern crate alloc;

pub mod active_tree;
pub mod bundle;
pub mod certificate;
pub mod checkpoint;
pub mod equivocation;
pub mod header;
pub mod log_proof;
pub mod log_tree;
pub mod merkle_proof;
pub mod note;
pub mod prepared;
pub mod proof_error;
mod rfc6962;
pub mod validators;
pub mod window_proof;

pub use active_tree::{ActiveProof, check_active};
pub use certificate::{CertificateError, CommitCertificate, CommitSignature, verify_certificate};
pub use checkpoint::{CheckpointError, Cosignature, SignedCheckpoint, ValidatorSignatures, check_final};
pub use header::{Header, MAX_BLOCK_BATCHES};
pub use log_proof::{check_consistency, check_inclusion};
pub use log_tree::{LogRoot, LogTree};
pub use merkle_proof::{check_merkle, merkle_path};
pub use prepared::{BaseTable, PreparedKey, Signed, verify_each};
pub use proof_error::ProofError;
pub use rfc6962::MAX_PATH;
pub use validators::{Address, Validator, ValidatorSet, is_more_than_two_thirds};
pub use window_proof::{WindowAbsence, WindowMember, check_absent, check_captured};
