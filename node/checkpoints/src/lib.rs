//! Checkpoints of the log: this node's own signatures, the other validators', and from when on a block is final.
//!
//! 1. After every executed block a validator writes (height, size, root) to a file of its own and syncs it; only then it signs
//!    (`cosigned.rs`, `cosigner.rs`, on a thread of their own, never on the voting or execution path).
//! 2. Both signatures go to all peers on the network's checkpoint channel; what was missed is asked for (`wire.rs`, `service.rs`).
//! 3. Signatures are verified one by one, within a budget per peer, and counted (`tracker.rs`). A height is **final** when
//!    validators with more than two thirds of the power signed one size and root, and this node has executed the block to the
//!    same. Whatever is at or below a final height is final too.
//! 4. Final checkpoints are kept ([`anji_storage::CheckpointStore`]) and told ([`Checkpoints::watch_final`]).
//!
//! 5. The log is served to everyone over HTTP (`log_http/`), taken to outside witnesses (`witnessing.rs`), and `witness/` is one.
//! 6. What validators signed that excludes each other is kept for good (`misbehaviour.rs`).
//!
//! A validator never signs two roots for one size, whatever crashes: what it may have signed is on its disk, or below a height
//! under which it signs nothing new. Two roots on one size stop the node.
#![deny(missing_docs)]

mod budget;
mod cosigned;
mod cosigner;
mod error;
mod log_http;
mod metrics;
mod misbehaviour;
mod service;
mod tracker;
mod wire;
mod witness;
mod witnessing;

pub use cosigned::COSIGNED_FILE;
pub use cosigner::CosignKey;
pub use error::CheckpointsError;
pub use log_http::{LogHttp, bind as bind_log_http};
pub use misbehaviour::{EQUIVOCATIONS_FILE, Equivocations, read_equivocations};
pub use service::{Checkpoints, FinalHead, Setup};
pub use witness::{TrustedLog, Witness, WitnessError, WitnessKey, serve as serve_witness};
pub use witnessing::{WitnessTarget, Witnessed, submit_to_witnesses};
