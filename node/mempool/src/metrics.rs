//! What is counted. Names come out as `anji_mempool_<noun>_<unit>`.

use crate::admit::{Admitted, Known, Origin};
use crate::error::{Full, MempoolError};
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
    admitted: Family<Labels, Counter>,
    admitted_ops: Counter,
    known: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
    pub(crate) expired: Counter,
    pub(crate) dropped_pushes: Counter,
    pub(crate) muted_peers: Counter,
    pub(crate) respread: Counter,
}

/// Counters of one origin, looked up once.
#[derive(Clone)]
struct Of {
    admitted: Counter,
    known: Counter,
}

impl Of {
    fn new(counters: &Counters, origin: &str) -> Self {
        let labels = vec![("origin", origin.to_owned())];
        Self {
            admitted: counters.admitted.get_or_create(&labels).clone(),
            known: counters.known.get_or_create(&labels).clone(),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) counters: Counters,
    clients: Of,
    peers: Of,
    pub(crate) judging_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let counters = Counters::default();
        let metrics = Self {
            clients: Of::new(&counters, "client"),
            peers: Of::new(&counters, "peer"),
            counters,
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
        to.register(
            "judging_seconds",
            "Time to decode, hash and verify one large batch, or small ones that came together",
            metrics.judging_seconds.clone(),
        );
        metrics
    }

    /// What became of a batch.
    pub(crate) fn count(&self, origin: Origin, result: &Result<Admitted, MempoolError>) {
        let (of, origin) = match origin {
            Origin::Client => (&self.clients, "client"),
            Origin::Peer(_) => (&self.peers, "peer"),
        };
        let error = match result {
            Ok(Admitted { known: Known::New, n_ops, .. }) => {
                of.admitted.inc();
                self.counters.admitted_ops.inc_by(u64::from(*n_ops));
                return;
            }
            Ok(_) => {
                of.known.inc();
                return;
            }
            Err(error) => error,
        };
        let why = match error {
            MempoolError::Reject(reject) => reject.name(),
            MempoolError::Full { what: Full::Pool, .. } => "pool_full",
            MempoolError::Full { what: Full::Participant, .. } => "participant_full",
            MempoolError::Full { what: Full::Judging, .. } => "judging_full",
            MempoolError::Stopping => "stopping",
        };
        self.counters.refused.get_or_create(&vec![("origin", origin.to_owned()), ("reason", why.to_owned())]).inc();
    }
}
