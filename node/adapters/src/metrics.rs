//! The adapter's figures: `anji_adapter_*`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Handles of all figures; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Calls by method and gRPC status code.
    pub(crate) calls: Family<[(&'static str, String); 2], Counter>,
    /// Decided operations by result: done or refused.
    pub(crate) decided: Family<[(&'static str, &'static str); 1], Counter>,
    /// From the call to the decision.
    pub(crate) decided_seconds: Histogram,
    /// Requests under way.
    pub(crate) pending: Gauge,
    /// Answered requests that must be remembered.
    pub(crate) remembered: Gauge,
    /// Batches handed in, by how the node answered.
    pub(crate) batches: Family<[(&'static str, &'static str); 1], Counter>,
    /// Operations looked up at the node for want of an answer.
    pub(crate) asked: Counter,
    /// Changes to another node.
    pub(crate) switches: Counter,
    /// Syncs of the outbox.
    pub(crate) sync_seconds: Histogram,
    /// Bytes of the outbox.
    pub(crate) outbox_bytes: Gauge,
    /// Items that wait for this participant's answer.
    pub(crate) work_open: Gauge,
}

impl Metrics {
    /// Registers all figures.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        let metrics = Self {
            calls: Family::default(),
            decided: Family::default(),
            decided_seconds: seconds(),
            pending: Gauge::default(),
            remembered: Gauge::default(),
            batches: Family::default(),
            asked: Counter::default(),
            switches: Counter::default(),
            sync_seconds: seconds(),
            outbox_bytes: Gauge::default(),
            work_open: Gauge::default(),
        };
        let it = metrics.clone();
        registry.register("anji_adapter_calls", "Calls by method and gRPC status code", it.calls);
        registry.register("anji_adapter_decided", "Decided operations by result", it.decided);
        registry.register("anji_adapter_decided_seconds", "From the call to the ledger's decision", it.decided_seconds);
        registry.register("anji_adapter_pending_count", "Requests under way", it.pending);
        registry.register("anji_adapter_remembered_count", "Answered requests that must be remembered", it.remembered);
        registry.register("anji_adapter_batches", "Batches handed in, by how the node answered", it.batches);
        registry.register("anji_adapter_asked", "Operations looked up at the node for want of an answer", it.asked);
        registry.register("anji_adapter_node_switches", "Changes to another node", it.switches);
        registry.register("anji_adapter_outbox_sync_seconds", "Syncs of the outbox", it.sync_seconds);
        registry.register("anji_adapter_outbox_bytes", "Size of the outbox", it.outbox_bytes);
        registry.register("anji_adapter_work_open_count", "Items waiting for this participant's answer", it.work_open);
        metrics
    }
}
