//! The ledger rules: pure, the same answer on every node, at any speed, for ever.
//!
//! A node gives this crate a view of the state before a block ([`StateView`]), the block's height and time
//! ([`BlockContext`]) and its batches in order; it gets back receipts, writes and due changes ([`BlockEffects`]).
//! There is no clock, no randomness, no float, no thread and no hash-ordered map in here.
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
mod ledger;
pub mod ops;
mod postings;
pub mod reject;
mod rules;
pub mod types;

pub use batch::{CheckedBatch, DecodedBatch, decode_batch, encode_batch, find_key};
pub use block::{BlockContext, BlockEffects, BlockExecutor, StateView, Write};
pub use entity::{Entity, EntityKey, OpRecord};
pub use entry::{Entry, OpResult, Receipt};
pub use genesis::{Genesis, genesis_writes};
pub use invariants::Broken;
pub use reject::Reject;
