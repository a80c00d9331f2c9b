//! Adapters: what stands between a participant's systems and its node.

pub mod callers;
pub mod config;
pub mod keys;
pub mod settings;
