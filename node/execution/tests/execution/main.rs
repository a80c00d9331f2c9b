//! Execution over real storage: the same answers as the rules in memory, the same roots after every crash.
#![allow(dead_code, clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

#[path = "../../../../contracts/tests/common/mod.rs"]
mod contracts;
mod handle;
mod replay;
mod support;
mod throughput;
