//! The connections to one peer: which one is used, when to change over, when to dial. Decides, does nothing itself.

use std::sync::Arc;
use std::time::Duration;

use libp2p::swarm::ConnectionId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Channel;
use crate::channel::N_CHANNELS;
use crate::peer::Peer;

/// Readers of one channel on one connection: one, and briefly another after a change of connections there and back.
const MAX_READERS: usize = 4;

/// What the driver is to do.
#[derive(Debug)]
pub(crate) enum Action<S> {
    Open(ConnectionId, Channel),
    KeepAlive(ConnectionId, bool),
    Write {
        connection: ConnectionId,
        channel: Channel,
        stream: S,
        alive: CancellationToken,
        retired: CancellationToken,
    },
    /// The peer can be sent to from now on.
    Connected,
    /// Its last connection is gone.
    Disconnected,
}

/// `S` is the substream; tests put something simpler there.
pub(crate) struct Link<S> {
    pub(crate) peer: Arc<Peer>,
    pub(crate) dial: Dial,
    /// Counts the times the peer became connected; `Some` while it is.
    pub(crate) session: Option<u64>,
    /// The session the application was last told of.
    pub(crate) told: Option<u64>,
    n_sessions: u64,
    n_connections: u64,
    connections: Vec<Connection<S>>,
    active: Option<ConnectionId>,
}

struct Connection<S> {
    id: ConnectionId,
    /// Both sides agree on this without a word; on the order of events they may not.
    dialled_by_smaller: bool,
    /// Of two dialled by the same side the later counts: it dialled again because the earlier is dead to it.
    index: u64,
    keep_alive: bool,
    outbound: [Outbound<S>; N_CHANNELS],
    /// One clone per running reader.
    readers: [Arc<()>; N_CHANNELS],
    /// Cancelled when the connection is gone or given up.
    alive: CancellationToken,
    /// Cancelled when its writers are to finish.
    retired: CancellationToken,
}

enum Outbound<S> {
    Closed,
    Opening,
    Open(S),
    Writing,
}

impl<S> Link<S> {
    pub(crate) fn new(peer: Arc<Peer>, dial: Dial) -> Self {
        Self {
            peer,
            dial,
            session: None,
            told: None,
            n_sessions: 0,
            n_connections: 0,
            connections: Vec::new(),
            active: None,
        }
    }

    pub(crate) fn has_connection(&self) -> bool {
        !self.connections.is_empty()
    }

    /// Where a request goes.
    pub(crate) fn request_connection(&self) -> Option<ConnectionId> {
        self.session.and(self.active.or_else(|| self.best().map(|i| self.connections[i].id)))
    }

    pub(crate) fn connection_ids(&self) -> Vec<ConnectionId> {
        self.connections.iter().map(|connection| connection.id).collect()
    }

    /// The token of a connection that is not given up.
    pub(crate) fn alive(&self, id: ConnectionId) -> Option<CancellationToken> {
        self.connections.iter().find(|connection| connection.id == id).map(|connection| connection.alive.clone())
    }

    /// A place for one more reader of that channel; `None` when there are more than can be honest.
    pub(crate) fn reader_slot(&self, id: ConnectionId, channel: Channel) -> Option<Arc<()>> {
        let connection = self.connections.iter().find(|connection| connection.id == id)?;
        let slot = &connection.readers[channel.index()];
        (Arc::strong_count(slot) <= MAX_READERS).then(|| Arc::clone(slot))
    }

    pub(crate) fn on_established(
        &mut self,
        id: ConnectionId,
        dialled_by_smaller: bool,
        alive: CancellationToken,
    ) -> Vec<Action<S>> {
        self.n_connections += 1;
        self.connections.push(Connection {
            id,
            dialled_by_smaller,
            index: self.n_connections,
            keep_alive: true,
            outbound: [const { Outbound::Closed }; N_CHANNELS],
            readers: Default::default(),
            retired: alive.child_token(),
            alive,
        });
        self.advance()
    }

    pub(crate) fn on_opened(&mut self, id: ConnectionId, channel: Channel, stream: S) -> Vec<Action<S>> {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
            let outbound = &mut connection.outbound[channel.index()];
            if matches!(outbound, Outbound::Opening) {
                // An open substream would hold a connection that is to drain.
                *outbound = if connection.keep_alive { Outbound::Open(stream) } else { Outbound::Closed };
            }
        }
        self.advance()
    }

    /// The connection is gone, or given up: nothing runs on it from here on.
    pub(crate) fn on_closed(&mut self, id: ConnectionId) -> Vec<Action<S>> {
        let Some(position) = self.connections.iter().position(|connection| connection.id == id) else {
            return Vec::new();
        };
        self.connections.remove(position).alive.cancel();
        if self.active == Some(id) {
            self.active = None;
        }
        if self.connections.is_empty() && self.session.take().is_some() {
            return vec![Action::Disconnected];
        }
        self.advance()
    }

    fn best(&self) -> Option<usize> {
        let preference = |connection: &Connection<S>| (connection.dialled_by_smaller, connection.index);
        (0..self.connections.len()).max_by_key(|&i| preference(&self.connections[i]))
    }

    /// Moves towards using the best connection, and only it. The one in use stays in use until the better one is ready.
    fn advance(&mut self) -> Vec<Action<S>> {
        let mut actions = Vec::new();
        let Some(best) = self.best() else { return actions };
        let connection = &mut self.connections[best];
        let id = connection.id;
        if !connection.keep_alive {
            connection.keep_alive = true;
            actions.push(Action::KeepAlive(id, true));
        }
        for channel in Channel::ALL {
            let outbound = &mut connection.outbound[channel.index()];
            if matches!(outbound, Outbound::Closed) {
                *outbound = Outbound::Opening;
                actions.push(Action::Open(id, channel));
            }
        }
        if self.active != Some(id) {
            if !connection.outbound.iter().all(|outbound| matches!(outbound, Outbound::Open(_))) {
                return actions;
            }
            self.activate(best, &mut actions);
        }
        for other in self.connections.iter_mut().filter(|other| other.id != id && other.keep_alive) {
            other.retire();
            actions.push(Action::KeepAlive(other.id, false));
        }
        actions
    }

    fn activate(&mut self, position: usize, actions: &mut Vec<Action<S>>) {
        let connection = &mut self.connections[position];
        self.active = Some(connection.id);
        if self.session.is_none() {
            self.n_sessions += 1;
            self.session = Some(self.n_sessions);
            self.dial.on_connected();
            actions.push(Action::Connected);
        }
        for channel in Channel::ALL {
            let outbound = std::mem::replace(&mut connection.outbound[channel.index()], Outbound::Writing);
            if let Outbound::Open(stream) = outbound {
                let (alive, retired) = (connection.alive.clone(), connection.retired.clone());
                actions.push(Action::Write { connection: connection.id, channel, stream, alive, retired });
            }
        }
    }
}

impl<S> Connection<S> {
    /// Its writers finish what they took; readers and requests go on until the connection is idle.
    fn retire(&mut self) {
        self.keep_alive = false;
        self.retired.cancel();
        self.retired = self.alive.child_token();
        for outbound in &mut self.outbound {
            // A negotiation under way cannot be called back; its end decides, see `on_opened`.
            if !matches!(outbound, Outbound::Opening) {
                *outbound = Outbound::Closed;
            }
        }
    }
}

/// When to dial: back-off doubles up to a cap, each pause is stretched or shortened by up to half.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) at: Option<Instant>,
    pub(crate) under_way: bool,
    pause: Duration,
    min: Duration,
    max: Duration,
}

impl Dial {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { at: None, under_way: false, pause: min, min, max }
    }

    pub(crate) fn schedule(&mut self, now: Instant) {
        if self.at.is_none() && !self.under_way {
            self.at = Some(now + self.pause.mul_f64(rand::random_range(0.5..1.5)));
            self.pause = (self.pause * 2).min(self.max);
        }
    }

    /// Not before then, whatever the back-off says.
    pub(crate) fn hold_until(&mut self, at: Instant) {
        self.at = Some(at);
    }

    fn on_connected(&mut self) {
        self.pause = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::{Limits, PeerConfig, peer_id_of_seed};
    use prometheus_client::registry::Registry;

    fn link() -> Link<&'static str> {
        let limits = Limits::default();
        let config = PeerConfig { peer_id: peer_id_of_seed(&[1; 32]), name: "p".to_owned(), addrs: vec![] };
        let peer = Arc::new(Peer::new(config, &limits, &Metrics::register(&mut Registry::default())));
        Link::new(peer, Dial::new(limits.redial_min, limits.redial_max))
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    fn establish(link: &mut Link<&'static str>, n: usize, by_smaller: bool) -> Vec<Action<&'static str>> {
        link.on_established(id(n), by_smaller, CancellationToken::new())
    }

    fn open_all(link: &mut Link<&'static str>, n: usize) -> Vec<Action<&'static str>> {
        Channel::ALL.into_iter().flat_map(|channel| link.on_opened(id(n), channel, "stream")).collect()
    }

    fn n_writes(actions: &[Action<&str>]) -> usize {
        actions.iter().filter(|action| matches!(action, Action::Write { .. })).count()
    }

    #[test]
    fn connected_only_when_all_push_substreams_are_open() {
        let mut link = link();
        assert_eq!(establish(&mut link, 1, false).len(), N_CHANNELS);
        assert!(link.on_opened(id(1), Channel::Consensus, "s").is_empty());
        assert!(link.on_opened(id(1), Channel::Batches, "s").is_empty());
        assert!(link.on_opened(id(1), Channel::Control, "s").is_empty());
        assert_eq!(link.request_connection(), None);
        let actions = link.on_opened(id(1), Channel::Checkpoints, "s");
        assert!(matches!(actions[0], Action::Connected));
        assert_eq!(n_writes(&actions), N_CHANNELS);
        assert_eq!(link.request_connection(), Some(id(1)));
    }

    #[test]
    fn a_better_connection_takes_over_only_when_ready_and_without_a_new_session() {
        let mut link = link();
        establish(&mut link, 1, false);
        let writers = open_all(&mut link, 1);
        let retired = writers.iter().find_map(|action| match action {
            Action::Write { retired, .. } => Some(retired.clone()),
            _ => None,
        });
        let retired = retired.expect("a writer runs");
        establish(&mut link, 2, true);
        assert!(!retired.is_cancelled());
        assert_eq!(link.request_connection(), Some(id(1)));
        let actions = open_all(&mut link, 2);
        assert!(retired.is_cancelled());
        assert_eq!(n_writes(&actions), N_CHANNELS);
        assert!(actions.iter().any(|action| matches!(action, Action::KeepAlive(other, false) if *other == id(1))));
        assert!(!actions.iter().any(|action| matches!(action, Action::Connected)));
        assert_eq!(link.request_connection(), Some(id(2)));
        assert!(link.on_closed(id(1)).is_empty());
        assert_eq!(link.session, Some(1));
    }

    #[test]
    fn a_worse_connection_is_let_go_and_taken_back_when_it_is_the_last() {
        let mut link = link();
        establish(&mut link, 1, true);
        open_all(&mut link, 1);
        let actions = establish(&mut link, 2, false);
        assert!(matches!(actions[..], [Action::KeepAlive(other, false)] if other == id(2)));
        let actions = link.on_closed(id(1));
        assert!(matches!(actions[0], Action::KeepAlive(other, true) if other == id(2)));
        assert_eq!(actions.len(), 1 + N_CHANNELS);
        assert_eq!(n_writes(&open_all(&mut link, 2)), N_CHANNELS);
        assert_eq!(link.session, Some(1));
        assert!(matches!(link.on_closed(id(2))[..], [Action::Disconnected]));
    }

    #[test]
    fn a_substream_that_opens_on_a_connection_let_go_is_dropped() {
        let mut link = link();
        establish(&mut link, 1, false);
        establish(&mut link, 2, true);
        open_all(&mut link, 2);
        assert!(link.on_opened(id(1), Channel::Consensus, "late").is_empty());
        assert!(matches!(link.connections[0].outbound[0], Outbound::Closed));
        // Needed again, it opens what is closed; the two negotiations still under way are not repeated.
        let actions = link.on_closed(id(2));
        let opens = actions.iter().filter(|action| matches!(action, Action::Open(other, _) if *other == id(1)));
        assert_eq!(opens.count(), 1);
    }

    #[test]
    fn both_sides_choose_the_same_connection_in_any_order() {
        for order in [[(1, true), (2, false)], [(2, false), (1, true)]] {
            let mut link = link();
            for (n, by_smaller) in order {
                establish(&mut link, n, by_smaller);
                open_all(&mut link, n);
            }
            assert_eq!(link.request_connection(), Some(id(1)));
        }
    }

    #[test]
    fn of_two_dialled_by_one_side_the_later_counts() {
        let mut link = link();
        establish(&mut link, 1, true);
        open_all(&mut link, 1);
        establish(&mut link, 2, true);
        open_all(&mut link, 2);
        assert_eq!(link.request_connection(), Some(id(2)));
    }

    #[test]
    fn readers_of_one_channel_are_bounded() {
        let mut link = link();
        establish(&mut link, 1, true);
        let slots: Vec<_> = std::iter::from_fn(|| link.reader_slot(id(1), Channel::Batches)).take(100).collect();
        assert_eq!(slots.len(), MAX_READERS);
        assert!(link.reader_slot(id(1), Channel::Control).is_some());
    }

    #[test]
    fn the_pause_between_dials_grows_to_the_cap() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut dial = Dial::new(min, max);
        let now = Instant::now();
        for expected_ms in [100, 200, 400, 800, 1000, 1000] {
            dial.schedule(now);
            let pause = dial.at.take().expect("scheduled") - now;
            let expected = Duration::from_millis(expected_ms);
            assert!(pause >= expected / 2 && pause <= expected * 3 / 2, "{pause:?} for {expected:?}");
        }
        dial.on_connected();
        dial.schedule(now);
        assert!(dial.at.expect("scheduled") - now <= min * 3 / 2);
    }
}
