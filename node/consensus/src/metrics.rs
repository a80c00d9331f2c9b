//! Figures of consensus, `anji_consensus_*`. The engine's own are exported by [`crate::engine_metrics`].

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Why something was refused.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct Reason {
    reason: &'static str,
}

/// What this node is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
pub(crate) enum Evidence {
    Vote,
    Proposal,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct EvidenceKind {
    kind: Evidence,
}

/// All figures.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) height: Gauge,
    pub(crate) round: Gauge,
    pub(crate) validator: Gauge,
    pub(crate) decide_seconds: Histogram,
    pub(crate) append_seconds: Histogram,
    pub(crate) block_bytes: Histogram,
    pub(crate) block_batches: Histogram,
    pub(crate) skipped_rounds: Counter,
    pub(crate) unproposed: Counter,
    pub(crate) synced_blocks: Counter,
    pub(crate) fetched_batches: Counter,
    refused_proposals: Family<Reason, Counter>,
    dropped_frames: Family<Reason, Counter>,
    equivocations: Family<EvidenceKind, Counter>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("anji_consensus");
        let metrics = Self {
            height: Gauge::default(),
            round: Gauge::default(),
            validator: Gauge::default(),
            decide_seconds: Histogram::new(exponential_buckets(0.002, 1.6, 18)),
            append_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 14)),
            block_bytes: Histogram::new(exponential_buckets(256.0, 4.0, 8)),
            block_batches: Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            skipped_rounds: Counter::default(),
            unproposed: Counter::default(),
            synced_blocks: Counter::default(),
            fetched_batches: Counter::default(),
            refused_proposals: Family::default(),
            dropped_frames: Family::default(),
            equivocations: Family::default(),
        };
        registry.register("height", "Last decided height", metrics.height.clone());
        registry.register("round", "Round this node is in", metrics.round.clone());
        registry.register("validator", "1 while this node votes, 0 while it follows", metrics.validator.clone());
        registry.register(
            "decide_seconds",
            "From the start of a height here to its decision here",
            metrics.decide_seconds.clone(),
        );
        registry.register(
            "append_seconds",
            "One synced append to the block file, body or certificate",
            metrics.append_seconds.clone(),
        );
        registry.register("block_bytes", "Bytes of the batches of decided blocks", metrics.block_bytes.clone());
        registry.register("block_batches", "Batches of decided blocks", metrics.block_batches.clone());
        registry.register("skipped_rounds", "Rounds that ended without a decision", metrics.skipped_rounds.clone());
        registry.register(
            "unproposed",
            "Turns to propose that passed because execution was not there in time",
            metrics.unproposed.clone(),
        );
        registry.register("synced_blocks", "Blocks fetched from peers", metrics.synced_blocks.clone());
        registry.register(
            "fetched_batches",
            "Batches of proposals that had to be asked for",
            metrics.fetched_batches.clone(),
        );
        registry.register("refused_proposals", "Proposals not voted for, by reason", metrics.refused_proposals.clone());
        registry.register(
            "dropped_frames",
            "Frames of peers that were dropped, by reason",
            metrics.dropped_frames.clone(),
        );
        registry.register("equivocations", "Proofs that a validator signed twice", metrics.equivocations.clone());
        metrics
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused_proposals.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn dropped(&self, reason: &'static str) {
        self.dropped_frames.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn equivocated(&self, kind: Evidence, count: usize) {
        self.equivocations.get_or_create(&EvidenceKind { kind }).inc_by(count as u64);
    }

    /// Of all proposals refused for a reason.
    #[cfg(test)]
    #[allow(dead_code, reason = "for tests")]
    pub(crate) fn n_refused(&self, reason: &'static str) -> u64 {
        self.refused_proposals.get_or_create(&Reason { reason }).get()
    }

    /// Of all frames dropped for a reason.
    #[cfg(test)]
    #[allow(dead_code, reason = "for tests")]
    pub(crate) fn n_dropped(&self, reason: &'static str) -> u64 {
        self.dropped_frames.get_or_create(&Reason { reason }).get()
    }
}
