//! Protobuf on one side, ledger types on the other, and nothing but the way between them.
//!
//! What comes in is checked here once: lengths, enum numbers, required messages; what goes out is complete. Protobuf bytes are never
//! hashed or signed, so nothing in here can change what was agreed. [`status`] holds the one table from the ledger's rejects and the
//! node's own reasons to gRPC status codes; [`ledger`] writes the ledger's state; [`terms`] reads what adapters send. [`connections`] is
//! the listening end that all gRPC servers share.
#![deny(missing_docs)]

pub mod connections;
pub mod field;
pub mod ledger;
pub mod status;
pub mod terms;

pub use field::FieldError;
pub use status::{DOMAIN, Reason, reject_code, reject_status, stream_error};
