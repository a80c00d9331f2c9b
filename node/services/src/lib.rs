//! The node's gRPC door: wallet, evidence and operator services, health and reflection.
//!
//! A call is answered in this order: token, role and rate (`door.rs`), then the fields, then whose data it is (`access.rs`), then the
//! ledger. Signed bytes go to the mempool exactly as they came. A receipt is shown only once its block is decided, durable and executed
//! here (`feed.rs`); reads come from storage, on blocking threads. Nothing is ever written.
//!
//! Every queue has a bound and an answer: connections beyond the limit are closed at once, calls beyond the rate and streams beyond the
//! count are RESOURCE_EXHAUSTED, a receiver that does not keep up is cut off and resumes from its sequence (`outlet.rs`).
//! The comments of `proto/anji/v1/*.proto` are the contract; the tests in `tests/services` hold the node to it.
#![deny(missing_docs)]

mod access;
mod callers;
mod changes;
mod deadline;
mod door;
mod evidence;
mod feed;
mod ledger;
mod limits;
mod metrics;
mod operator;
mod outlet;
mod receipts;
mod server;
mod submit;
mod view;
mod wallet;

pub use callers::{CallerSpec, Callers, CallersError};
pub use feed::Feed;
pub use limits::Limits;
pub use server::{Services, ServicesError, Setup};
pub use view::{NodeRole, NodeStatus, NodeView, PeerView, ValidatorView};
