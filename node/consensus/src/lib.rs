//! Agreeing on the order of blocks, with an engine that is not ours (Malachite, Tendermint in Rust) and everything around it that is: its
//! network, its log, what it signs, when a block is valid, when an idle chain rests, who may vote after a disaster.
//!
//! Consensus decides header hashes. A header names batches that were spread before; a node votes only for what it holds on disk. It executes
//! nothing itself and is ahead of execution by at most two blocks. Read [`ports`] for what it needs, `app.rs` for what the engine
//! asks, `proposals.rs` for how a proposal comes to a vote, [`validity`] for the rules, `run.rs` for start and end.
//!
//! What the engine demands of its user, and where it is kept:
//!
//! | trap | kept by |
//! |---|---|
//! | 1 a decided block whose body is nowhere | `proposals.rs` `keep_body` before the engine hears of a value, `handlers/get_value.rs` before the answer, `handlers/decided.rs` before the reply; test `four_killed_nodes_decide_again_from_their_logs` |
//! | 2 a mode that never asks whether a proposal is valid | `engine.rs`: `ProposalAndParts` (the default) with our own parts; test `an_invalid_proposal_is_not_decided` |
//! | 3 persistent peers are no gate | `network_actor.rs`, `inbound.rs`: the engine has no socket; `anji_network` admits configured identities only |
//! | 4 large broadcasts drop connections | `wire.rs` `MAX_FRAME_BYTES`: parts carry hashes, 256 KiB at most |
//! | 5 a start before peers are there loses a round | `handlers/ready.rs` |
//! | 6 slow answers block everything | `proposals.rs`: judged before the engine knows; `handlers/finalized.rs`: a height starts when its state is there |
//! | 7 a block that cannot be synced; an invalid decision | [`validity::MAX_BLOCK_BYTES`] and `serve.rs`; `handlers/synced.rs` stops the node; test `a_decided_block_that_breaks_a_rule_stops_the_node` |
//! | 8 two ways to verify | `signer.rs`: `verify_ed25519` of contracts, strict, everywhere |
//! | 9 `RestartHeight` forgets what was signed | never sent: `handlers/finalized.rs` knows `Start` only |
//! | 10 a value once called invalid blocks the node | `proposals.rs`: the engine is never told "invalid"; `clock.rs`: a clock only delays; tests in `validity_tests.rs` |
//! | 11 a lost log signs twice | `wal/guard.rs`, `follow.rs`; test `a_wiped_validator_follows_and_votes_again_when_it_may` |
//! | 12 idle by stalling `GetValue` | `idle.rs`: the answer to `Finalized` waits |
//! | 13 a dead proposer costs every n-th block | `proposer.rs`; test `a_dead_proposer_is_benched` |
#![deny(missing_docs)]
#![expect(clippy::result_large_err, reason = "a fatal error is made once in the life of a process")]

mod adapters;
mod app;
mod bodies;
mod catch_up;
mod chain;
pub mod clock;
mod codec;
mod config;
mod context;
mod engine;
mod engine_link;
pub mod error;
mod fetch;
mod follow;
mod handlers;
mod idle;
mod inbound;
mod metrics;
mod network_actor;
mod peers;
pub mod ports;
mod proposals;
pub mod proposer;
mod run;
mod serve;
mod shared;
mod signer;
mod status;
pub mod validity;
mod wal;
mod wire;

pub use chain::Tip;
pub use config::{ConsensusConfig, Timing};
pub use error::Fatal;
pub use inbound::Inbox;
pub use peers::PeerView;
pub use run::{Consensus, ConsensusHandle, ConsensusStatus, Neighbours};
pub use shared::Role;
pub use signer::ConsensusKey;
pub use wal::{Identity, VOTE_AGAIN_FILE, WAL_FILE, init_folder};

use arc_malachitebft_app_channel::app::types as engine_types;

/// The engine's own figures in the Prometheus text format.
#[must_use]
pub fn engine_metrics() -> String {
    let mut text = String::new();
    arc_malachitebft_app_channel::app::metrics::export(&mut text);
    text
}
