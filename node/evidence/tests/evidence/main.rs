//! Evidence of a real small ledger: blocks in the block file, executed and stored as a node does, signed by four validators; every
//! kind of claim asked for, and checked with nothing but the genesis document.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod chain;
#[path = "../../../../contracts/tests/common/mod.rs"]
mod contracts;
mod story;
