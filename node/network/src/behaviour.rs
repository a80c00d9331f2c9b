//! The libp2p side: opens and accepts our substreams on one named connection and hands them up; no bytes are read here.
//!
//! Ready-made behaviours do not say on which connection a substream runs, or who broke the codec, and both decide
//! what is cut off. So this one is ours. Admission stays with `allow_block_list`, see `start.rs`.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use futures::channel::oneshot;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, StreamUpgradeError, SubstreamProtocol, THandlerInEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol};

use crate::Channel;
use crate::channel::{Protocols, Purpose};

/// A substream was not opened.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("peer does not speak this protocol: other chain or version")]
    Unsupported,
    #[error("peer did not answer the negotiation")]
    Timeout,
    #[error("{0}")]
    Io(String),
}

/// Who waits for a request substream.
pub(crate) type OpenReply = oneshot::Sender<Result<Stream, OpenError>>;

/// From the driver to one connection.
#[derive(Debug)]
pub(crate) enum Order {
    OpenPush(Channel),
    OpenRequest(OpenReply),
    /// Whether the connection stays when nothing runs on it.
    KeepAlive(bool),
}

/// From one connection to the driver.
#[derive(Debug)]
pub(crate) enum Opened {
    Inbound(Purpose, Stream),
    Push(Channel, Result<Stream, OpenError>),
}

/// [`Opened`], and where.
#[derive(Debug)]
pub(crate) struct StreamEvent {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) opened: Opened,
}

pub(crate) struct Streams {
    protocols: Protocols,
    queued: VecDeque<ToSwarm<StreamEvent, Order>>,
    /// Peers that broke the protocol, and until when they stay away.
    kept_away: HashMap<PeerId, Instant>,
    waker: Option<Waker>,
}

#[derive(Debug, thiserror::Error)]
#[error("peer broke the protocol a moment ago")]
struct KeptAway;

impl Streams {
    pub(crate) fn new(protocols: Protocols) -> Self {
        Self { protocols, queued: VecDeque::new(), kept_away: HashMap::new(), waker: None }
    }

    /// An order for a connection that has closed meanwhile is dropped by the swarm.
    pub(crate) fn order(&mut self, peer: PeerId, connection: ConnectionId, order: Order) {
        self.queued.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: order,
        });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(crate) fn keep_away(&mut self, peer: PeerId, until: Instant) {
        self.kept_away.insert(peer, until);
    }

    fn admit(&mut self, peer: PeerId) -> Result<Handler, ConnectionDenied> {
        if let Some(until) = self.kept_away.get(&peer) {
            if Instant::now() < *until {
                return Err(ConnectionDenied::new(KeptAway));
            }
            self.kept_away.remove(&peer);
        }
        Ok(Handler {
            protocols: self.protocols.clone(),
            orders: VecDeque::new(),
            opened: VecDeque::new(),
            keep_alive: true,
        })
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = StreamEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.admit(peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.admit(peer)
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, opened: Opened) {
        self.queued.push_back(ToSwarm::GenerateEvent(StreamEvent { peer, connection, opened }));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<StreamEvent, THandlerInEvent<Self>>> {
        if let Some(event) = self.queued.pop_front() {
            return Poll::Ready(event);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// One connection's substreams. Both queues stay short: the connection task drains them before it negotiates more.
pub(crate) struct Handler {
    protocols: Protocols,
    orders: VecDeque<Negotiation>,
    opened: VecDeque<Opened>,
    keep_alive: bool,
}

/// What an outbound negotiation is for.
pub(crate) enum Negotiation {
    Push(Channel),
    Request(OpenReply),
}

impl Handler {
    fn on_outbound(&mut self, negotiation: Negotiation, result: Result<Stream, OpenError>) {
        match negotiation {
            Negotiation::Push(channel) => self.opened.push_back(Opened::Push(channel, result)),
            // The one who asked may have gone; the substream closes with it.
            Negotiation::Request(reply) => drop(reply.send(result)),
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Opened;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Negotiation;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(Upgrade(self.protocols.all()), ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.keep_alive
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::OpenPush(channel) => self.orders.push_back(Negotiation::Push(channel)),
            Order::OpenRequest(reply) => self.orders.push_back(Negotiation::Request(reply)),
            Order::KeepAlive(keep_alive) => self.keep_alive = keep_alive,
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Upgrade, Negotiation, Opened>> {
        if let Some(opened) = self.opened.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(opened));
        }
        if let Some(negotiation) = self.orders.pop_front() {
            let purpose = match negotiation {
                Negotiation::Push(channel) => Purpose::Push(channel),
                Negotiation::Request(_) => Purpose::Request,
            };
            let upgrade = Upgrade(vec![self.protocols.name(purpose).clone()]);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(upgrade, negotiation),
            });
        }
        Poll::Pending
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Upgrade, Upgrade, (), Negotiation>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (stream, name), .. }) => {
                if let Some(purpose) = self.protocols.purpose(&name) {
                    self.opened.push_back(Opened::Inbound(purpose, stream));
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: (stream, _), info }) => {
                self.on_outbound(info, Ok(stream))
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let error = match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
                    StreamUpgradeError::Timeout => OpenError::Timeout,
                    StreamUpgradeError::Io(error) => OpenError::Io(error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.on_outbound(info, Err(error));
            }
            _ => {}
        }
    }
}

/// Negotiates a name and hands over the substream as it is.
pub(crate) struct Upgrade(Vec<StreamProtocol>);

impl UpgradeInfo for Upgrade {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}

impl OutboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}
