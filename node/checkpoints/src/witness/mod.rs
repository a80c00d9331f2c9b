//! An outside witness, as C2SP tlog-witness: it is sent checkpoints of logs it knows, checks that each continues the one before, and
//! cosigns. It holds no ledger and trusts no node: a log that shows two histories finds no second cosignature here, and what it showed
//! is kept as evidence.
//!
//! `request.rs` reads what is sent, `state.rs` remembers the last checkpoint of every log, `judge.rs` decides, `serve.rs` is the door.

mod judge;
mod request;
mod serve;
mod state;

pub use judge::{TrustedLog, Witness, WitnessKey};
pub(crate) use request::AddCheckpoint;
pub use serve::serve;
pub use state::WitnessError;
