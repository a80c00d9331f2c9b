//! The ledger rules: pure, the same answer on every node, at any speed, for ever.
//!
//! A node gives this crate a view of the state before a block ([`StateView`]), the block's height and time
//! ([`BlockContext`]) and its batches in order; it gets back receipts, writes and due changes ([`BlockEffects`]).
//! There is no clock, no randomness, no float, no thread and no hash-ordered map in here.
//!
//! What holds after every operation, whoever asked for what:
//!
//! 1. Debits equal credits over all accounts, pending and posted; the nets of a window add up to zero. [`block`] compares the
//!    running totals at the end of every block.
//! 2. held = captured + released + remaining, each at least zero; captured ≥ refunds accepted or posted + chargebacks; fee legs
//!    are the schedule's quote to the fen. [`invariants::check_payment`] judges every new state of a payment before it is kept.
//! 3. At every new hold, line use ≤ ceiling and exposure ≤ min(cap, liquidity cover); refunds are checked as well. Judged operation
//!    by operation: any split of the same operations into batches and blocks of the same time gives the same results.
//! 4. A capture belongs to one window for ever, and a closed window never changes.
//! 5. An id resolves once: the same operation again gets the first receipt, to the byte.
//! 6. A refused operation leaves nothing behind but its receipt. One whose own postings would break 1 to 4 is refused with a 9xxx
//!    code and an alarm. A state that is already broken is reported in [`BlockEffects::broken`], and the node must stop.
//!
//! [`invariants::Scan`] recomputes every sum from all entities. What the bytes mean: `proto/FORMAT.md`.
#![no_std]
#![deny(
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

extern crate alloc;

pub mod batch;
pub mod block;
pub mod codec;
pub mod entity;
pub mod entry;
pub mod fees;
pub mod genesis;
pub mod invariants;
pub mod keys;
mod ledger;
pub mod ops;
mod postings;
pub mod reject;
pub mod rules;
pub mod types;
pub mod window_tree;

pub use batch::{CheckedBatch, DecodedBatch, decode_batch, encode_batch, find_key};
pub use block::{BlockContext, BlockEffects, BlockExecutor, StateView, Write};
pub use entity::{Entity, EntityKey, OpRecord};
pub use entry::{Entry, OpResult, Receipt};
pub use genesis::{Genesis, genesis_writes};
pub use invariants::Broken;
pub use reject::Reject;
