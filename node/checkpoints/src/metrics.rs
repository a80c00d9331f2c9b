//! What is counted: `anji_checkpoints_<noun>_<unit>`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) final_height: Gauge,
    pub(crate) cosigned: Counter,
    pub(crate) verified: Counter,
    pub(crate) contradictions: Counter,
    pub(crate) sync_seconds: Histogram,
    pub(crate) final_seconds: Histogram,
    dropped: Family<Vec<(&'static str, &'static str)>, Counter>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.0005, 2.0, 14));
        let metrics = Self {
            final_height: Gauge::default(),
            cosigned: Counter::default(),
            verified: Counter::default(),
            contradictions: Counter::default(),
            sync_seconds: seconds(),
            final_seconds: seconds(),
            dropped: Family::default(),
        };
        let m = metrics.clone();
        let to = registry.sub_registry_with_prefix("anji_checkpoints");
        to.register("final_height", "Highest height cosigned by more than two thirds of the power", m.final_height);
        to.register("cosigned", "Checkpoints this node cosigned", m.cosigned);
        to.register("verified_signatures", "Cosignatures of others that verified", m.verified);
        to.register("contradictions", "Logs that a validator signed and this node has not", m.contradictions);
        to.register("sync_seconds", "Making signed checkpoints durable", m.sync_seconds);
        to.register("final_seconds", "From executed here to final", m.final_seconds);
        to.register("dropped_frames", "Frames of peers that were not used", m.dropped);
        metrics
    }

    pub(crate) fn dropped(&self, reason: &'static str) {
        self.dropped.get_or_create(&vec![("reason", reason)]).inc();
    }
}
