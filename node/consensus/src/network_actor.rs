//! The engine's network: our own actor in the place of its libp2p node (engine trap 3). Sends what the engine publishes over
//! `anji_network`, where strangers never get past the handshake, and fetches the blocks that the engine's sync asks for.
//! What arrives comes in through `inbound.rs`.

use crate::codec;
use crate::context::{Anji, ProposalPart};
use crate::engine_types::PeerId as EnginePeerId;
use crate::error::WireError;
use crate::shared::Shared;
use crate::wire::{self, ConsensusFrame, PeerRequest};
use anji_network::{Channel, NetworkHandle, PeerId, RequestError};
use arc_malachitebft_app_channel::app::engine::network::{
    Msg, Multiaddr, NetworkEvent, NetworkRef, PersistentPeerError, Status,
};
use arc_malachitebft_app_channel::app::engine::util::streaming::StreamContent;
use arc_malachitebft_sync::{OutboundFailureReason, OutboundRequestId, Request, Response, ValueRequest};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::AbortHandle;

/// The engine's network actor.
pub(crate) struct NetworkActor {
    shared: Arc<Shared>,
    requests: Requests,
}

/// Requests for blocks under way; the engine allows a handful at a time.
type Requests = Arc<Mutex<HashMap<OutboundRequestId, AbortHandle>>>;

pub(crate) struct State {
    n_requests: u64,
}

/// Sends a frame to all peers.
pub(crate) fn broadcast(network: &NetworkHandle, frame: &ConsensusFrame) {
    network.broadcast(Channel::Consensus, wire::encode(frame));
}

/// The engine's name of a peer.
pub(crate) fn engine_peer(peer: &PeerId) -> Option<EnginePeerId> {
    EnginePeerId::from_bytes(&peer.to_bytes()).ok()
}

fn our_peer(peer: &EnginePeerId) -> Option<PeerId> {
    PeerId::from_bytes(&peer.to_bytes()).ok()
}

impl NetworkActor {
    pub(crate) async fn spawn(shared: Arc<Shared>) -> Result<NetworkRef<Anji>, SpawnErr> {
        let actor = Self { shared, requests: Requests::default() };
        let (actor, _) = Actor::spawn(None, actor, ()).await?;
        Ok(actor)
    }

    fn publish(&self, frame: Result<ConsensusFrame, WireError>) {
        match frame {
            Ok(frame) => broadcast(&self.shared.network, &frame),
            Err(error) => tracing::error!(%error, "a message of the engine cannot be sent"),
        }
    }

    /// What a new listener is told first: who is here, how far they are, and that it may begin.
    fn first_events(&self) -> Vec<NetworkEvent<Anji>> {
        let mut events = Vec::new();
        for (peer, view) in self.shared.peers.all() {
            let Some(peer) = engine_peer(&peer).filter(|_| view.connected) else { continue };
            events.push(NetworkEvent::PeerConnected(peer));
            if let (Some(tip), Some(first)) = (view.tip.filter(|tip| *tip > 0), view.first_height) {
                events.push(NetworkEvent::Status(
                    peer,
                    Status::new(crate::context::Height(tip), crate::context::Height(first)),
                ));
            }
        }
        // The engine waits for this word, whatever the address: the port is open since long.
        events.push(NetworkEvent::Listening(Multiaddr::empty()));
        events
    }

    fn send_request(&self, peer: EnginePeerId, request: ValueRequest<Anji>, id: OutboundRequestId) {
        let shared = Arc::clone(&self.shared);
        let requests = Arc::clone(&self.requests);
        let task_id = id.clone();
        let task = tokio::spawn(async move {
            let event = fetch_blocks(&shared, peer, request, task_id.clone()).await;
            lock(&requests).remove(&task_id);
            shared.link.emit(&event);
        });
        let mut requests = lock(&self.requests);
        requests.insert(id, task.abort_handle());
        // The task may have been faster than its entry.
        requests.retain(|_, task| !task.is_finished());
    }
}

fn lock(requests: &Requests) -> std::sync::MutexGuard<'_, HashMap<OutboundRequestId, AbortHandle>> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn fetch_blocks(
    shared: &Arc<Shared>,
    peer: EnginePeerId,
    request: ValueRequest<Anji>,
    id: OutboundRequestId,
) -> NetworkEvent<Anji> {
    let (first, last) = (*request.range.start(), *request.range.end());
    let Some(to) = our_peer(&peer) else {
        return NetworkEvent::SyncRequestFailed(id, peer, OutboundFailureReason::DialFailure);
    };
    let bytes = wire::encode(&PeerRequest::Blocks { first: first.0, last: last.0 });
    let answer = match shared.network.request(to, bytes, shared.config.timing.request_timeout).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(peer = %to, %first, %last, %error, "no blocks from this peer");
            let reason = match error {
                RequestError::NotConnected(_) => OutboundFailureReason::DialFailure,
                RequestError::Timeout => OutboundFailureReason::Timeout,
                RequestError::Refused | RequestError::TooLarge { .. } => OutboundFailureReason::UnsupportedProtocols,
                RequestError::ConnectionLost(_) => OutboundFailureReason::ConnectionClosed,
                RequestError::AnswerTooLarge { .. } => OutboundFailureReason::Io,
            };
            return NetworkEvent::SyncRequestFailed(id, peer, reason);
        }
    };
    // Megabytes: not on an async thread.
    let decoded = tokio::task::spawn_blocking(move || {
        wire::decode_blocks(&answer).map(|answer| codec::blocks_to_engine(answer, first))
    })
    .await;
    match decoded {
        Ok(Ok(response)) => NetworkEvent::SyncResponse(id, peer, Some(Response::ValueResponse(response))),
        Ok(Err(error)) => {
            tracing::warn!(peer = %to, %error, "this peer's answer is no list of blocks");
            NetworkEvent::SyncResponse(id, peer, None)
        }
        Err(_) => NetworkEvent::SyncRequestFailed(id, peer, OutboundFailureReason::Io),
    }
}

#[async_trait::async_trait]
impl Actor for NetworkActor {
    type Msg = Msg<Anji>;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<Msg<Anji>>, (): ()) -> Result<State, ActorProcessingErr> {
        Ok(State { n_requests: 0 })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Msg<Anji>>,
        message: Msg<Anji>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Subscribe(subscriber) => self.shared.link.subscribe(subscriber, self.first_events()),
            Msg::PublishConsensusMsg(message) => self.publish(codec::consensus_frame(&message)),
            Msg::PublishLivenessMsg(message) => self.publish(codec::liveness_frame(&message)),
            Msg::PublishProposalPart(part) => {
                if let StreamContent::Data(part) = part.content {
                    publish_part(&self.shared.network, &part);
                }
            }
            Msg::OutgoingRequest(peer, Request::ValueRequest(request), reply) => {
                state.n_requests += 1;
                let id = OutboundRequestId::new(state.n_requests);
                // Nobody waits for the id only when the engine is ending.
                let _ = reply.send(id.clone());
                self.send_request(peer, request, id);
            }
            Msg::CancelRequest(id) => {
                if let Some(task) = lock(&self.requests).remove(&id) {
                    task.abort();
                }
            }
            Msg::DumpState(reply) => {
                let _ = reply.send(None);
            }
            Msg::UpdatePersistentPeers(_, reply) => {
                let error = PersistentPeerError::InternalError("peers are set by the configuration alone".to_owned());
                let _ = reply.send(Err(error));
            }
            // Status is sent by `status.rs`, from the block file; blocks are served by `serve.rs`, past the engine; who is a
            // validator is configured.
            Msg::BroadcastStatus(_)
            | Msg::OutgoingResponse(..)
            | Msg::CancelInboundRequest(_)
            | Msg::UpdateValidatorSet(_)
            | Msg::ValidatorProofVerified { .. }
            | Msg::NewEvent(_) => {}
        }
        Ok(())
    }

    async fn post_stop(&self, _myself: ActorRef<Msg<Anji>>, _state: &mut State) -> Result<(), ActorProcessingErr> {
        for (_, task) in lock(&self.requests).drain() {
            task.abort();
        }
        Ok(())
    }
}

/// Sends header and batch hashes to all peers.
pub(crate) fn publish_part(network: &NetworkHandle, part: &ProposalPart) {
    broadcast(network, &ConsensusFrame::Part(codec::part_to_wire(part)));
}
