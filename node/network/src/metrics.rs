//! What is counted. Names come out as `anji_network_<noun>_<unit>`; labels are the operator's names, never bytes.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub(crate) type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Seconds = Gauge<f64, AtomicU64>;

#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) connected: Gauge,
    pub(crate) sent_frames: Counters,
    pub(crate) sent_bytes: Counters,
    pub(crate) received_frames: Counters,
    pub(crate) received_bytes: Counters,
    pub(crate) dropped_frames: Counters,
    pub(crate) rtt_seconds: Family<Labels, Seconds>,
    pub(crate) violations: Counters,
    pub(crate) connections: Counters,
    pub(crate) open_connections: Gauge,
    pub(crate) refused_connections: Counter,
    pub(crate) failed_dials: Counters,
    pub(crate) requests: Counters,
    pub(crate) served_requests: Counters,
    pub(crate) request_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connected: Gauge::default(),
            sent_frames: Counters::default(),
            sent_bytes: Counters::default(),
            received_frames: Counters::default(),
            received_bytes: Counters::default(),
            dropped_frames: Counters::default(),
            rtt_seconds: Family::default(),
            violations: Counters::default(),
            connections: Counters::default(),
            open_connections: Gauge::default(),
            refused_connections: Counter::default(),
            failed_dials: Counters::default(),
            requests: Counters::default(),
            served_requests: Counters::default(),
            request_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
        };
        let m = metrics.clone();
        let to = registry.sub_registry_with_prefix("anji_network");
        to.register("connected_peers", "Peers with all push substreams open", m.connected);
        to.register("sent_frames", "Frames handed to a connection", m.sent_frames);
        to.register("sent_bytes", "Bytes of those frames", m.sent_bytes);
        to.register("received_frames", "Frames received", m.received_frames);
        to.register("received_bytes", "Bytes of those frames", m.received_bytes);
        to.register("dropped_frames", "Frames lost to a full queue or a lost peer", m.dropped_frames);
        to.register("rtt_seconds", "Last ping round trip", m.rtt_seconds);
        to.register("violations", "Connections cut because the peer broke the protocol", m.violations);
        to.register("connections", "Connections established", m.connections);
        to.register("open_connections", "Connections established and not closed yet", m.open_connections);
        to.register("refused_connections", "Connections refused after the handshake", m.refused_connections);
        to.register("failed_dials", "Dials that failed", m.failed_dials);
        to.register("requests", "Our requests by result", m.requests);
        to.register("served_requests", "Requests of peers by result", m.served_requests);
        to.register("request_seconds", "Answered requests of ours, from call to answer", m.request_seconds);
        metrics
    }
}

pub(crate) fn peer_label(name: &str) -> Labels {
    vec![("peer", name.to_owned())]
}

pub(crate) fn labels(name: &str, key: &'static str, value: &str) -> Labels {
    vec![("peer", name.to_owned()), (key, value.to_owned())]
}
