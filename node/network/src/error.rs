//! Errors by the decision they ask of the caller.

use libp2p::{Multiaddr, PeerId};

/// The network cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration contradicts itself.
    #[error("network configuration: {0}")]
    Config(String),
    /// The noise layer refuses our identity.
    #[error("network identity: {0}")]
    Identity(String),
    /// The address cannot be listened on.
    #[error("listen on {addr}: {reason}")]
    Listen {
        /// What was asked for.
        addr: Multiaddr,
        /// What the system answered.
        reason: String,
    },
}

/// A request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No connection to that peer now; ask another.
    #[error("not connected to {0}")]
    NotConnected(PeerId),
    /// Larger than a request may be; never sent.
    #[error("request of {size_bytes} bytes, at most {limit_bytes}")]
    TooLarge {
        /// What was asked to be sent.
        size_bytes: usize,
        /// What may be sent.
        limit_bytes: usize,
    },
    /// No answer in time, waiting for a free slot included.
    #[error("no answer in time")]
    Timeout,
    /// The peer closed the substream instead of answering: it is busy or does not want to.
    #[error("the peer closed the request unanswered")]
    Refused,
    /// The connection broke; whether the request arrived is unknown.
    #[error("connection lost: {0}")]
    ConnectionLost(String),
    /// The peer broke the protocol and was cut off.
    #[error("answer of {size_bytes} bytes, at most {limit_bytes}: peer cut off")]
    AnswerTooLarge {
        /// What the peer announced.
        size_bytes: usize,
        /// What it may send.
        limit_bytes: usize,
    },
}
