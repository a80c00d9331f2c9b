//! Where the time of a block goes.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

/// Sums since start; rates and shares are the reader's business.
#[derive(Clone, Debug, Default)]
pub struct ExecutionMetrics {
    /// Decoding batches.
    pub decode_seconds: Counter<f64, AtomicU64>,
    /// Reading what a block needs before it runs.
    pub prefetch_seconds: Counter<f64, AtomicU64>,
    /// The rules.
    pub rules_seconds: Counter<f64, AtomicU64>,
    /// Encoding entries and receipts.
    pub encode_seconds: Counter<f64, AtomicU64>,
    /// Hashing and writing: the commit.
    pub commit_seconds: Counter<f64, AtomicU64>,
    /// Blocks executed.
    pub blocks: Counter,
    /// Operations executed.
    pub ops: Counter,
    /// Operations refused.
    pub ops_refused: Counter,
    /// Entries appended.
    pub entries: Counter,
    /// Operations refused with a 9xxx code.
    pub alarms: Counter,
    /// Height of the last executed block.
    pub height: Gauge,
}

impl ExecutionMetrics {
    /// Registers the metrics as `anji_execution_…`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("anji_execution");
        registry.register("decode_seconds", "Time spent decoding batches", metrics.decode_seconds.clone());
        registry.register("prefetch_seconds", "Time spent reading ahead", metrics.prefetch_seconds.clone());
        registry.register("rules_seconds", "Time spent in the ledger rules", metrics.rules_seconds.clone());
        registry.register("encode_seconds", "Time spent encoding entries", metrics.encode_seconds.clone());
        registry.register("commit_seconds", "Time spent hashing and writing", metrics.commit_seconds.clone());
        registry.register("blocks", "Blocks executed", metrics.blocks.clone());
        registry.register("ops", "Operations executed", metrics.ops.clone());
        registry.register("ops_refused", "Operations refused", metrics.ops_refused.clone());
        registry.register("entries", "Entries appended to the log", metrics.entries.clone());
        registry.register("alarms", "Operations refused with a 9xxx code", metrics.alarms.clone());
        registry.register("height", "Height of the last executed block", metrics.height.clone());
        metrics
    }
}
