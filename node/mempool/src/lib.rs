//! Signed batches on their way into a block: admitted once, kept in bounded memory, spread to every peer, offered to the proposer in
//! fair shares. Nothing here is final: a batch is a fact when its block is decided, and the answers given here are advice.
//!
//! 1. [`Mempool::submit`] judges the exact bytes: they decode, have not expired by this node's clock, are signed by a key that is
//!    valid now, are not known, and fit. Decoding, hashing and the signature run on a bounded number of threads: small batches where they
//!    arrive, those that arrive together in one go ([`Mempool::submit_all`]), large ones on blocking threads.
//! 2. What a client hands in is pushed to the peers, who judge it the same way; batches that were admitted together share a frame
//!    (`frame.rs`). A push that is lost does no harm: whoever misses a batch of a proposal asks for it, and what stays behind is pushed
//!    again after a while.
//! 3. [`Mempool::candidate`] gives every participant a fair share of a block, each participant's batches in the order of arrival.
//! 4. Included batches stay until their block is executed and some time beyond, since a peer may still ask for them.
//! 5. A peer whose pushes do not decode or verify loses its standing: what it pushes is dropped unread for a while.
//!
//! Every bound has an answer: a full pool, a participant's full share or too many batches under judgement is
//! [`MempoolError::Full`] with a time to ask again; a peer's push beyond its rate is dropped and counted.
//! What a batch costs is the memory it takes here, its decoded operations included, not only its bytes.
//! Read `pool.rs` (the state and its bounds) and `admit.rs` (the judgement) next.
#![deny(missing_docs)]

mod admit;
mod candidate;
mod error;
mod frame;
mod limits;
mod metrics;
mod pool;
mod ports;
mod spread;
mod standing;

#[cfg(test)]
mod pool_tests;

pub use admit::{Admitted, Known, Mempool, MempoolStatus, Origin};
pub use candidate::CandidateLimits;
pub use error::{Full, MempoolError};
pub use frame::{MAX_FRAME_BATCHES, decode_frame, encode_frames};
pub use limits::Limits;
pub use pool::PoolBatch;
pub use ports::{Clock, Registry, Spread, system_clock};
pub use standing::PeerStanding;
