//! Networks of real processes that work, lose a node, and are asked the wrong things.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail loudly")]

mod bad_batches;
mod bad_config;
mod checkpoints;
mod idle;
mod one_down;
mod outsider;
