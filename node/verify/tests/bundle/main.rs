//! Evidence bundles against everything that could be wrong with one. The ledger here is made up: a log in memory, signed by keys
//! of the test, so that every rule of the format is met or broken on purpose. Bundles of a real ledger: `node/evidence/tests`.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod bytes;
mod claims;
#[path = "../../../../contracts/tests/common/mod.rs"]
mod contracts;
mod fuzz;
mod sets;
mod world;
