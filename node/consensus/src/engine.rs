//! Starts and stops the engine: its consensus and sync actors with our network, our log and our codecs.

use crate::app::{App, Next};
use crate::codec::WireCodec;
use crate::context::{Anji, VoterAddress};
use crate::error::{Fatal, WalError};
use crate::network_actor::NetworkActor;
use crate::shared::{Role, Shared};
use crate::signer::{ConsensusKey, VoteSigner, VoteVerifier};
use crate::wal::{Identity, MayVote, OpenWal, Recovered, WAL_FILE, WalActor, WalFile, check};
use anji_verify::Address;
use arc_malachitebft_app_channel::app::config::{ConsensusConfig as EngineConsensus, NodeConfig, ValueSyncConfig};
use arc_malachitebft_app_channel::{
    Channels, ConsensusContext, EngineBuilder, EngineHandle, RequestContext, SyncContext,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Blocks asked for in one request, and requests at a time: at most 24 blocks of 2 MiB are in memory for catching up, and as many again
/// in the engine's queue.
const SYNC_BATCH: usize = 8;
const SYNC_PARALLEL: usize = 3;
/// How long the engine may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What the engine reads of its configuration.
struct EngineConfig {
    name: String,
    consensus: EngineConsensus,
    value_sync: ValueSyncConfig,
}

impl NodeConfig for EngineConfig {
    fn moniker(&self) -> &str {
        &self.name
    }

    fn consensus(&self) -> &EngineConsensus {
        &self.consensus
    }

    fn consensus_mut(&mut self) -> &mut EngineConsensus {
        &mut self.consensus
    }

    fn value_sync(&self) -> &ValueSyncConfig {
        &self.value_sync
    }

    fn value_sync_mut(&mut self) -> &mut ValueSyncConfig {
        &mut self.value_sync
    }
}

fn engine_config(shared: &Shared) -> EngineConfig {
    // Time-outs are not here: they come with every height. The peer-to-peer part is not used.
    let value_sync = ValueSyncConfig {
        enabled: true,
        // `status.rs` tells and hears statuses.
        status_update_interval: Duration::from_secs(3600),
        request_timeout: shared.config.timing.request_timeout,
        parallel_requests: SYNC_PARALLEL,
        batch_size: SYNC_BATCH,
        ..ValueSyncConfig::default()
    };
    EngineConfig { name: shared.config.name.clone(), consensus: EngineConsensus::default(), value_sync }
}

const WAITS_FOR_PEERS: &str =
    "its consensus log is fresh, and it waits to hear from two thirds of the validators how far the chain is";

/// With what the engine is started.
pub(crate) enum Start {
    Validator { key: ConsensusKey, wal: OpenWal },
    Follower,
}

/// Decides by the log in the data folder whether this node votes, and tells.
///
/// # Errors
/// The log is damaged or foreign.
pub(crate) fn role_at_start(shared: &Shared) -> Result<(Start, Role), WalError> {
    let Some((key, address)) = shared.config.key.clone().zip(shared.config.own_address()) else {
        return Ok((Start::Follower, Role::Observer));
    };
    let identity = Identity { chain_id: shared.config.chain_id, validator: address };
    Ok(match check(&shared.config.folder, identity, shared.blocks.decided_height())? {
        MayVote::Yes(found) => (validator(key, *found), Role::Validator),
        MayVote::IfChainIsFresh(found) => {
            (validator(key, *found), Role::Follower { reason: WAITS_FOR_PEERS.to_owned(), votes_after: None })
        }
        MayVote::No { reason } => {
            tracing::warn!(
                reason,
                "this validator follows without voting until a height is decided that is above every height it could have signed"
            );
            (Start::Follower, Role::Follower { reason, votes_after: None })
        }
    })
}

fn validator(key: ConsensusKey, found: Recovered) -> Start {
    Start::Validator { key, wal: OpenWal { file: found.wal, entries: found.entries } }
}

/// A fresh log that was not made here says nothing about the age of the chain: this folder was prepared elsewhere, or it was restored to
/// its first day. So the node asks its peers, and follows if the chain has begun. Where it has not, nothing is lost by waiting: without two
/// thirds there is no block.
///
/// # Errors
/// The log cannot be written.
pub(crate) async fn settle_fresh(shared: &Shared, start: Start) -> Result<Start, Fatal> {
    let waits = matches!(start, Start::Validator { .. }) && shared.progress().role != Role::Validator;
    let Some(own) = shared.config.own_address().filter(|_| waits) else { return Ok(start) };
    let mut changes = shared.peers.changes();
    let tip = loop {
        if let Some(tip) = shared.peers.tip_of_most(&shared.config.validators, own) {
            break tip;
        }
        // The sender lives in the peers, and they live as long as this node.
        let _ = changes.changed().await;
    };
    if tip == 0 {
        // From now on the log is this node's own.
        let start = with_new_log(shared, 0)?;
        shared.set_votes_from(0);
        return Ok(start);
    }
    let reason = format!("its consensus log is fresh, but the chain is at height {tip} already");
    tracing::warn!(reason, "this validator follows without voting until it is past every height it could have signed");
    shared.update_progress(|progress| progress.role = Role::Follower { reason, votes_after: None });
    Ok(Start::Follower)
}

/// A validator with a new log at `height`, over whatever is there.
///
/// # Errors
/// The system refused.
///
/// # Correctness
/// Only once nothing that this key has signed can be for this height or a later one.
pub(crate) fn with_new_log(shared: &Shared, height: u64) -> Result<Start, Fatal> {
    let (key, validator) = shared
        .config
        .key
        .clone()
        .zip(shared.config.own_address())
        .ok_or_else(|| Fatal::Config("an observer cannot become a validator".to_owned()))?;
    let identity = Identity { chain_id: shared.config.chain_id, validator };
    let folder = &shared.config.folder;
    std::fs::create_dir_all(folder).map_err(|source| WalError::Io { path: folder.clone(), source })?;
    let file = WalFile::create(&folder.join(WAL_FILE), identity, height)?;
    Ok(Start::Validator { key, wal: OpenWal { file, entries: Vec::new() } })
}

/// A running engine.
pub(crate) struct Engine {
    channels: Channels<Anji>,
    handle: EngineHandle,
    /// Keeps the engine's own way to publish open; this crate publishes directly.
    _publish: mpsc::Receiver<arc_malachitebft_app_channel::NetworkMsg<Anji>>,
}

impl Engine {
    /// Starts it.
    ///
    /// # Errors
    /// An actor did not start.
    pub(crate) async fn start(shared: &Arc<Shared>, start: Start) -> Result<(Self, App), Fatal> {
        let failed = |error: &dyn std::fmt::Display| Fatal::Engine(format!("it did not start: {error}"));
        let verifier = Box::new(VoteVerifier::new(shared.config.chain_id, &shared.config.validators));
        let (consensus, wal, voter) = match start {
            Start::Validator { key, wal } => {
                let address = key.address();
                let signer = Box::new(VoteSigner::new(shared.config.chain_id, key));
                let context = ConsensusContext::new_validator(VoterAddress(address), verifier, signer);
                (context, Some(wal), Some(address))
            }
            // Not an address of the set: the engine would sign, and there is no signer.
            Start::Follower => (ConsensusContext::new_full_node(VoterAddress(Address([0; 20])), verifier), None, None),
        };
        let wal = WalActor::spawn(wal).await.map_err(|error| failed(&error))?;
        let network = NetworkActor::spawn(Arc::clone(shared)).await.map_err(|error| failed(&error))?;
        let (publish, _publish) = mpsc::channel(1);
        let (channels, handle) = EngineBuilder::new(Anji, engine_config(shared))
            .with_custom_wal(wal)
            .with_custom_network(network, publish)
            .with_default_sync(SyncContext::new(WireCodec))
            .with_default_consensus(consensus)
            .with_default_request(RequestContext::new(16))
            .build()
            .await
            .map_err(|error| failed(&error))?;
        shared.metrics.validator.set(i64::from(voter.is_some()));
        Ok((Self { channels, handle, _publish }, App::new(Arc::clone(shared), voter)))
    }

    /// Answers the engine until something else is to be done.
    pub(crate) async fn serve(&mut self, app: &mut App) -> Next {
        loop {
            let Some(message) = self.channels.consensus.recv().await else {
                app.shared.fail(self.why_ended().await);
                return Next::Stop;
            };
            match app.handle(message).await {
                Next::Go => {}
                next => return next,
            }
        }
    }

    async fn why_ended(&mut self) -> Fatal {
        // Where going on could sign twice, the engine stops its actors but keeps its supervisor; otherwise that ends too.
        match tokio::time::timeout(Duration::from_secs(1), &mut self.handle.handle).await {
            Err(_) => Fatal::Safety("see the engine's last error in the log".to_owned()),
            Ok(_) => Fatal::Engine("see its last error in the log".to_owned()),
        }
    }

    /// Ends it and waits for that.
    pub(crate) async fn stop(self, shared: &Shared) {
        shared.link.clear();
        let Self { channels, handle, .. } = self;
        // Answers that nobody takes must not hold up the actors that wait for them.
        drop(channels);
        let cell = handle.actor.get_cell();
        cell.stop_children_and_wait(Some("consensus ends".to_owned()), Some(STOP_TIMEOUT)).await;
        // The supervisor ends by itself once a child has ended; asking again is for the case that there was none.
        cell.stop(Some("consensus ends".to_owned()));
        if !handle.handle.is_finished() && tokio::time::timeout(STOP_TIMEOUT, handle.handle).await.is_err() {
            tracing::warn!("the engine's supervisor did not end in time");
            cell.kill();
        }
    }
}
