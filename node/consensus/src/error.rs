//! What can go wrong, by the decision it asks for: drop a peer's message, refuse to start, or stop the node.

use crate::validity::Fault;
use anji_contracts::types::Hash32;
use std::io;
use std::path::PathBuf;

/// A peer's bytes are no message. The message is dropped and counted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// The bytes do not decode.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A list is longer than it may be.
    #[error("{found} {what}, at most {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many may be.
        limit: usize,
    },
    /// A round number out of reach.
    #[error("round {0} is out of range")]
    Round(u32),
    /// A range of heights that is empty, starts at 0 or is too long.
    #[error("heights {first} to {last} cannot be asked for at once")]
    Range {
        /// First height.
        first: u64,
        /// Last height.
        last: u64,
    },
    /// A message without a round: never written, never sent.
    #[error("the message has no round")]
    NoRound,
}

/// The consensus log in the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Bytes differ from what was written. Starting anyway could sign twice.
    #[error(
        "the consensus log {} is damaged at byte {offset}: {what}; move the file away and start again: the node then follows \
         without voting until it is past every height it could have signed",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The log belongs to another chain or to another key.
    #[error("the consensus log {} is of {found}, this node is {expected}; use the data folder of this node", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: String,
        /// What this node is.
        expected: String,
    },
    /// There is a log already where a new one was to be made.
    #[error("{} exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// A neighbour (block file, execution) failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}")]
pub struct PortError {
    /// What failed and how.
    pub what: String,
    /// Whether going on could make a balance wrong: a root or a sum does not fit.
    pub broken: bool,
}

impl PortError {
    /// A failure of the machine.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), broken: false }
    }
}

/// Consensus cannot go on in this process. The node must exit, and its operator must read this.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// A block was decided that breaks a rule here: this program or more than a third of the power is wrong.
    #[error("height {height}: the decided block {value} breaks a rule of this node: {fault}; the node stops")]
    InvalidDecision {
        /// The height.
        height: u64,
        /// What was decided.
        value: Hash32,
        /// The rule.
        fault: Fault,
    },
    /// A decided value has no body here, though every body is synced before it is voted for.
    #[error("height {height}: the body of the decided block {value} is not in the block file; the node stops")]
    BodyMissing {
        /// The height.
        height: u64,
        /// What was decided.
        value: Hash32,
    },
    /// The block file did not take a record or could not be read.
    #[error("block file: {0}")]
    Blocks(PortError),
    /// Execution has stopped: a root or a sum does not fit, or the state cannot be written.
    #[error("execution: {0}")]
    Execution(PortError),
    /// The consensus log cannot be used.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The engine stopped itself because going on could sign twice.
    #[error(
        "the consensus engine stopped for safety, most often because its log could not be written (full disk?): {0}"
    )]
    Safety(String),
    /// The engine ended.
    #[error("the consensus engine ended: {0}")]
    Engine(String),
    /// The configuration contradicts itself.
    #[error("consensus configuration: {0}")]
    Config(String),
}

impl Fatal {
    /// What the process should exit with: 70 where going on could make a balance wrong, 71 where it could sign twice, 74 for the disk, 1 otherwise.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::InvalidDecision { .. } | Self::BodyMissing { .. } => 70,
            Self::Execution(error) | Self::Blocks(error) => {
                if error.broken {
                    70
                } else {
                    74
                }
            }
            Self::Safety(_) | Self::Wal(_) => 71,
            Self::Engine(_) | Self::Config(_) => 1,
        }
    }
}
