//! The gRPC door over a real ledger: a chain of one node, blocks made by the tests, real clients over loopback.
#![allow(dead_code, clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

mod bad_input;
mod chain;
#[path = "../../../../contracts/tests/common/mod.rs"]
mod contracts;
mod door;
mod evidence;
mod operator;
mod streams;
mod submit;
mod wallet;
