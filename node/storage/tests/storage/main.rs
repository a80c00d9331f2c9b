//! The data folder under every kind of harm: cut, flipped, full, locked, of another chain, half written.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

mod blocks;
mod checkpoints;
mod disk;
mod folder;
mod proofs;
mod snapshot;
mod state;
mod support;
mod windows;
