//! The one task that owns the swarm. It decides and spawns; substreams are read and written by tasks of their own,
//! so it never waits for a peer or for the application.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Stream, Swarm, ping};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::behaviour::{OpenReply, Opened, Order, StreamEvent};
use crate::channel::Purpose;
use crate::handle::Shared;
use crate::link::{Action, Dial, Link};
use crate::metrics::{labels, peer_label};
use crate::push::{read_frames, write_frames};
use crate::request::serve;
use crate::resolve::{needs_resolving, resolve};
use crate::start::{Behaviour, BehaviourEvent, Inboxes};
use crate::{Channel, PeerEvent};

/// Outsiders must not be able to fill the log.
const REFUSAL_LOG_PAUSE: Duration = Duration::from_secs(10);
const SHUTDOWN_WAIT: Duration = Duration::from_secs(1);

/// From the handles.
pub(crate) enum Command {
    OpenRequest { peer: PeerId, reply: OpenReply },
    Shutdown(oneshot::Sender<()>),
}

/// From the tasks on substreams.
pub(crate) enum Report {
    Violation { peer: PeerId, violation: Violation },
    WriterFailed { peer: PeerId, connection: ConnectionId, channel: Channel, error: std::io::Error },
    Resolved { peer: PeerId, addrs: Vec<Multiaddr> },
}

/// What no honest node does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Violation {
    #[error("{what} frame of {size_bytes} bytes, at most {limit_bytes}")]
    FrameTooLarge { what: &'static str, size_bytes: usize, limit_bytes: usize },
    #[error("too many {what} substreams")]
    TooManySubstreams { what: &'static str },
}

impl Violation {
    fn name(&self) -> &'static str {
        match self {
            Self::FrameTooLarge { .. } => "frame_too_large",
            Self::TooManySubstreams { .. } => "too_many_substreams",
        }
    }
}

pub(crate) struct Driver {
    swarm: Swarm<Behaviour>,
    shared: Arc<Shared>,
    links: HashMap<PeerId, Link<Stream>>,
    inboxes: Inboxes,
    commands: mpsc::Receiver<Command>,
    reports_tx: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
    /// Parent of every connection's token.
    running: CancellationToken,
    refusal_logged_at: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(
        swarm: Swarm<Behaviour>,
        shared: Arc<Shared>,
        inboxes: Inboxes,
        commands: mpsc::Receiver<Command>,
        reports_tx: mpsc::Sender<Report>,
        reports: mpsc::Receiver<Report>,
    ) -> Self {
        let limits = &shared.limits;
        let link = |peer| Link::new(Arc::clone(peer), Dial::new(limits.redial_min, limits.redial_max));
        let mut links: HashMap<_, _> = shared.peers.iter().map(|peer| (peer.id, link(peer))).collect();
        for link in links.values_mut().filter(|link| !link.peer.addrs.is_empty()) {
            link.dial.hold_until(Instant::now());
        }
        let running = CancellationToken::new();
        Self { swarm, shared, links, inboxes, commands, reports_tx, reports, running, refusal_logged_at: None }
    }

    pub(crate) async fn run(mut self) {
        let done = loop {
            let dial_at = self.links.values().filter_map(|link| link.dial.at).min();
            let has_news = self.links.values().any(|link| link.told != link.session);
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                Some(report) = self.reports.recv() => self.on_report(report),
                command = self.commands.recv() => match command {
                    Some(Command::OpenRequest { peer, reply }) => self.on_open_request(peer, reply),
                    Some(Command::Shutdown(done)) => break Some(done),
                    None => break None,
                },
                permit = self.inboxes.peers.clone().reserve_owned(), if has_news => {
                    let news = next_news(&mut self.links);
                    if let (Ok(permit), Some(news)) = (permit, news) {
                        permit.send(news);
                    }
                },
                () = sleep_until(dial_at.unwrap_or_else(Instant::now)), if dial_at.is_some() => self.dial_due(),
            }
        };
        self.end().await;
        if let Some(done) = done {
            // The caller may not wait for it.
            let _ = done.send(());
        }
    }

    async fn end(mut self) {
        self.running.cancel();
        for link in self.links.values() {
            if link.session.is_some() {
                link.peer.on_disconnected();
            }
        }
        self.shared.metrics.connected.set(0);
        self.shared.metrics.open_connections.set(0);
        let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            // An error means that it has just gone.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        // A peer that does not read cannot hold us: what is left closes with the swarm.
        let _ = timeout(SHUTDOWN_WAIT, closed).await;
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(event)) => self.on_stream_event(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.on_ping(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                self.shared.metrics.open_connections.dec();
                if let Some(link) = self.links.get_mut(&peer_id) {
                    let cause = cause.map_or_else(|| "closed".to_owned(), |cause| cause.to_string());
                    tracing::debug!(peer = %link.peer.name, %connection_id, cause, "connection closed");
                    let actions = link.on_closed(connection_id);
                    self.apply(peer_id, actions);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => self.on_dial_failed(peer, &error),
            SwarmEvent::IncomingConnectionError { peer_id, send_back_addr, error, .. } => {
                self.on_refused(peer_id, &send_back_addr, &error);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                let mut addrs = self.shared.listen_addrs.lock().unwrap_or_else(PoisonError::into_inner);
                if !addrs.contains(&address) {
                    addrs.push(address);
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                let mut addrs = self.shared.listen_addrs.lock().unwrap_or_else(PoisonError::into_inner);
                addrs.retain(|addr| *addr != address);
            }
            SwarmEvent::ListenerError { error, .. } => tracing::error!(%error, "listener"),
            SwarmEvent::ListenerClosed { reason, .. } => {
                tracing::error!(?reason, "listener closed: peers can no longer dial us");
            }
            _ => {}
        }
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        self.shared.metrics.open_connections.inc();
        let Some(link) = self.links.get_mut(&peer) else { return };
        let dialled_by_us = endpoint.is_dialer();
        if dialled_by_us {
            link.dial.under_way = false;
        }
        link.dial.at = None;
        tracing::debug!(peer = %link.peer.name, connection_id = %id, dialled_by_us, "connection established");
        self.shared.metrics.connections.get_or_create(&peer_label(&link.peer.name)).inc();
        let dialled_by_smaller = dialled_by_us == (self.shared.local < peer);
        let actions = link.on_established(id, dialled_by_smaller, self.running.child_token());
        self.apply(peer, actions);
    }

    fn on_stream_event(&mut self, StreamEvent { peer, connection, opened }: StreamEvent) {
        match opened {
            Opened::Inbound(Purpose::Push(channel), stream) => self.on_inbound_push(peer, connection, channel, stream),
            Opened::Inbound(Purpose::Request, stream) => self.on_inbound_request(peer, connection, stream),
            Opened::Push(channel, Ok(stream)) => {
                if let Some(link) = self.links.get_mut(&peer) {
                    let actions = link.on_opened(connection, channel, stream);
                    self.apply(peer, actions);
                }
            }
            Opened::Push(channel, Err(error)) => {
                if let Some(link) = self.links.get(&peer).filter(|link| link.alive(connection).is_some()) {
                    let channel = channel.name();
                    tracing::warn!(peer = %link.peer.name, channel, %error, "push substream refused, connection closed");
                    self.give_up(peer, connection);
                }
            }
        }
    }

    fn on_inbound_push(&mut self, peer: PeerId, connection: ConnectionId, channel: Channel, stream: Stream) {
        let Some(link) = self.links.get(&peer) else { return };
        let Some(alive) = link.alive(connection) else { return };
        let Some(slot) = link.reader_slot(connection, channel) else {
            return self.on_violation(peer, &Violation::TooManySubstreams { what: channel.name() });
        };
        let limit_bytes = self.shared.limits.channel(channel).frame_bytes;
        let inbox = self.inboxes.push[channel.index()].clone();
        let of = Arc::clone(&link.peer);
        self.spawn(alive, async move {
            let report = read_frames(stream, of, channel, limit_bytes, inbox).await;
            drop(slot);
            report
        });
    }

    fn on_inbound_request(&mut self, peer: PeerId, connection: ConnectionId, stream: Stream) {
        let Some(link) = self.links.get(&peer) else { return };
        let Some(alive) = link.alive(connection) else { return };
        let metrics = self.shared.metrics.clone();
        let of = Arc::clone(&link.peer);
        let Ok(slot) = Arc::clone(&of.serving).try_acquire_owned() else {
            metrics.served_requests.get_or_create(&labels(&of.name, "result", "refused")).inc();
            return;
        };
        let limits = Arc::clone(&self.shared.limits);
        let requests = self.inboxes.requests.clone();
        self.spawn(alive, async move {
            match serve(stream, Arc::clone(&of), limits, requests, slot).await {
                Ok(served) => {
                    metrics.served_requests.get_or_create(&labels(&of.name, "result", served.name())).inc();
                    None
                }
                Err(report) => Some(report),
            }
        });
    }

    fn on_ping(&mut self, event: ping::Event) {
        let Some(link) = self.links.get(&event.peer) else { return };
        match event.result {
            Ok(rtt) => {
                link.peer.on_rtt(rtt);
                self.shared.metrics.rtt_seconds.get_or_create(&peer_label(&link.peer.name)).set(rtt.as_secs_f64());
            }
            Err(ping::Failure::Unsupported) => {}
            Err(error) if link.alive(event.connection).is_some() => {
                tracing::warn!(peer = %link.peer.name, %error, "no answer to ping, connection closed");
                self.give_up(event.peer, event.connection);
            }
            Err(_) => {}
        }
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::Violation { peer, violation } => self.on_violation(peer, &violation),
            Report::WriterFailed { peer, connection, channel, error } => {
                if let Some(link) = self.links.get(&peer).filter(|link| link.alive(connection).is_some()) {
                    let channel = channel.name();
                    tracing::debug!(peer = %link.peer.name, channel, %error, "push substream broke, connection closed");
                    self.give_up(peer, connection);
                }
            }
            Report::Resolved { peer, addrs } => self.dial(peer, addrs),
        }
    }

    fn on_violation(&mut self, peer: PeerId, violation: &Violation) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let pause = self.shared.limits.violation_pause;
        tracing::warn!(peer = %link.peer.name, %violation, pause_ms = pause.as_millis(), "peer broke the protocol, cut off");
        self.shared.metrics.violations.get_or_create(&labels(&link.peer.name, "kind", violation.name())).inc();
        let connections = link.connection_ids();
        if !link.peer.addrs.is_empty() {
            link.dial.hold_until(Instant::now() + pause);
        }
        self.swarm.behaviour_mut().streams.keep_away(peer, std::time::Instant::now() + pause);
        for connection in connections {
            self.give_up(peer, connection);
        }
    }

    /// Closes a connection. From here on it is gone for us, however long the peer takes to let it go.
    fn give_up(&mut self, peer: PeerId, connection: ConnectionId) {
        self.swarm.close_connection(connection);
        if let Some(link) = self.links.get_mut(&peer) {
            let actions = link.on_closed(connection);
            self.apply(peer, actions);
        }
    }

    fn on_open_request(&mut self, peer: PeerId, reply: OpenReply) {
        // Dropping the reply says "not connected".
        if let Some(connection) = self.links.get(&peer).and_then(Link::request_connection) {
            self.swarm.behaviour_mut().streams.order(peer, connection, Order::OpenRequest(reply));
        }
    }

    fn apply(&mut self, peer: PeerId, actions: Vec<Action<Stream>>) {
        for action in actions {
            let Some(link) = self.links.get_mut(&peer) else { return };
            let streams = &mut self.swarm.behaviour_mut().streams;
            match action {
                Action::Open(connection, channel) => streams.order(peer, connection, Order::OpenPush(channel)),
                Action::KeepAlive(connection, keep) => streams.order(peer, connection, Order::KeepAlive(keep)),
                Action::Connected => {
                    tracing::info!(peer = %link.peer.name, "connected");
                    link.peer.on_connected();
                    self.shared.metrics.connected.inc();
                }
                Action::Disconnected => {
                    tracing::info!(peer = %link.peer.name, "disconnected");
                    link.peer.on_disconnected();
                    self.shared.metrics.connected.dec();
                }
                Action::Write { connection, channel, stream, alive, retired } => {
                    let of = Arc::clone(&link.peer);
                    self.spawn(alive, async move {
                        let failed = write_frames(stream, of, channel, retired).await.err();
                        failed.map(|error| Report::WriterFailed { peer, connection, channel, error })
                    });
                }
            }
        }
        if let Some(link) = self.links.get_mut(&peer)
            && !link.has_connection()
            && !link.peer.addrs.is_empty()
        {
            link.dial.schedule(Instant::now());
        }
    }

    fn dial_due(&mut self) {
        let now = Instant::now();
        let due: Vec<PeerId> =
            self.links.iter().filter(|(_, link)| link.dial.at.is_some_and(|at| at <= now)).map(|(id, _)| *id).collect();
        for peer in due {
            let Some(link) = self.links.get_mut(&peer) else { continue };
            link.dial.at = None;
            if link.has_connection() || link.dial.under_way {
                continue;
            }
            link.dial.under_way = true;
            let addrs = link.peer.addrs.clone();
            if addrs.iter().any(needs_resolving) {
                let alive = self.running.child_token();
                self.spawn(alive, async move { Some(Report::Resolved { peer, addrs: resolve(addrs).await }) });
            } else {
                self.dial(peer, addrs);
            }
        }
    }

    fn dial(&mut self, peer: PeerId, addrs: Vec<Multiaddr>) {
        // A new port each time: dialling from the listening port, two nodes can meet half-way in one TCP connection
        // in which both believe to be the dialler. Whether to dial is our decision: the swarm still counts
        // connections that we have given up.
        let opts =
            DialOpts::peer_id(peer).addresses(addrs).condition(PeerCondition::Always).allocate_new_port().build();
        if let Err(error) = self.swarm.dial(opts) {
            self.on_dial_failed(peer, &error);
        }
    }

    fn on_dial_failed(&mut self, peer: PeerId, error: &DialError) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        tracing::debug!(peer = %link.peer.name, %error, "dial failed");
        self.shared.metrics.failed_dials.get_or_create(&peer_label(&link.peer.name)).inc();
        link.dial.under_way = false;
        self.apply(peer, Vec::new());
    }

    fn on_refused(&mut self, peer: Option<PeerId>, from: &Multiaddr, error: &ListenError) {
        if !matches!(error, ListenError::Denied { .. }) {
            tracing::debug!(%from, %error, "incoming connection failed");
            return;
        }
        self.shared.metrics.refused_connections.inc();
        let now = Instant::now();
        if self.refusal_logged_at.is_none_or(|at| now - at >= REFUSAL_LOG_PAUSE) {
            self.refusal_logged_at = Some(now);
            let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
            tracing::warn!(peer, %from, %error, "connection refused");
        }
    }

    /// Runs until done or until the connection is gone.
    fn spawn(&self, alive: CancellationToken, task: impl Future<Output = Option<Report>> + Send + 'static) {
        let reports = self.reports_tx.clone();
        tokio::spawn(async move {
            if let Some(Some(report)) = alive.run_until_cancelled_owned(task).await {
                // Fails only when the driver has ended, and then there is nothing to report.
                let _ = reports.send(report).await;
            }
        });
    }
}

/// What the application does not know yet: the end of a session before the start of the next.
fn next_news(links: &mut HashMap<PeerId, Link<Stream>>) -> Option<PeerEvent> {
    let (peer, link) = links.iter_mut().find(|(_, link)| link.told != link.session)?;
    if link.told.take().is_some() {
        return Some(PeerEvent::Disconnected(*peer));
    }
    link.told = link.session;
    Some(PeerEvent::Connected(*peer))
}
