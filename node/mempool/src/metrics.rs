//! What is counted. Names come out as `anji_mempool_<noun>_<unit>`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub(crate) type Labels = Vec<(&'static str, String)>;

#[derive(Clone, Default)]
pub(crate) struct Counters {
    pub(crate) waiting_batches: Gauge,
    pub(crate) waiting_ops: Gauge,
    pub(crate) kept_batches: Gauge,
    pub(crate) memory_bytes: Gauge,
    pub(crate) remembered_batches: Gauge,
    pub(crate) admitted: Family<Labels, Counter>,
    pub(crate) admitted_ops: Counter,
    pub(crate) known: Family<Labels, Counter>,
    pub(crate) refused: Family<Labels, Counter>,
    pub(crate) expired: Counter,
    pub(crate) dropped_pushes: Counter,
    pub(crate) muted_peers: Counter,
    pub(crate) respread: Counter,
}

#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) counters: Counters,
    pub(crate) judging_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            counters: Counters::default(),
            judging_seconds: Histogram::new(exponential_buckets(0.00005, 2.0, 16)),
        };
        let m = metrics.counters.clone();
        let to = registry.sub_registry_with_prefix("anji_mempool");
        to.register("waiting_batches", "Batches waiting for a block", m.waiting_batches);
        to.register("waiting_ops", "Operations waiting for a block", m.waiting_ops);
        to.register("kept_batches", "Batches kept: waiting, included, executed lately", m.kept_batches);
        to.register("memory_bytes", "Memory of the batches kept", m.memory_bytes);
        to.register("remembered_batches", "Batches on the chain remembered by hash", m.remembered_batches);
        to.register("admitted_batches", "Batches admitted, by origin", m.admitted);
        to.register("admitted_ops", "Operations admitted", m.admitted_ops);
        to.register("known_batches", "Batches that were known already, by origin", m.known);
        to.register("refused_batches", "Batches refused, by origin and reason", m.refused);
        to.register("expired_batches", "Batches that expired before they entered a block", m.expired);
        to.register("dropped_pushes", "Peers' pushes dropped unread for rate or standing", m.dropped_pushes);
        to.register("muted_peers", "Times a peer lost its standing", m.muted_peers);
        to.register("respread_batches", "Batches pushed to the peers again", m.respread);
        to.register("judging_seconds", "Time to decode, hash and verify one batch", metrics.judging_seconds.clone());
        metrics
    }
}
