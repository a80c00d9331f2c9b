//! Adapters: what stands between a participant's systems and its node.
//!
//! The generic adapter takes plain requests over gRPC, fixes each to one operation in a durable outbox, puts operations into batches,
//! signs them with the participant's key and sees them through to the ledger's answer, whatever crashes in between. It must never
//! let one request act twice, and never tell an answer that is not the ledger's. Start with [`serve`]; [`outbox`] is what makes it safe,
//! `engine` what makes it fast.

pub mod callers;
pub mod config;
mod engine;
mod follow;
pub mod keys;
mod metrics;
mod node;
pub mod outbox;
mod request_id;
mod requests;
pub mod serve;
mod service;
pub mod settings;
mod state;
mod streams;
mod work;

pub use serve::{Adapter, AdapterError, AdapterStatus};
