//! What is counted. Names come out as `anji_services_<noun>_<unit>`. Labels are methods, codes and reasons, never callers' data.

use anji_wire::Reason;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Instant;
use tonic::Status;

type Labels = Vec<(&'static str, String)>;

#[derive(Clone)]
pub(crate) struct Metrics {
    calls: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram>,
    refused: Family<Labels, Counter>,
    pub(crate) connections: Gauge,
    pub(crate) refused_connections: Counter,
    streams: Family<Labels, Gauge>,
    pub(crate) slow_receivers: Counter,
    pub(crate) sent_batches: Counter,
    pub(crate) sent_changes: Counter,
    pub(crate) waiting_calls: Gauge,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let m = Self {
            calls: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0001, 2.0, 18))),
            refused: Family::default(),
            connections: Gauge::default(),
            refused_connections: Counter::default(),
            streams: Family::default(),
            slow_receivers: Counter::default(),
            sent_batches: Counter::default(),
            sent_changes: Counter::default(),
            waiting_calls: Gauge::default(),
        };
        let to = registry.sub_registry_with_prefix("anji_services");
        to.register("calls", "Calls answered, by method and status code", m.calls.clone());
        to.register("call_seconds", "Time to answer a call, or to open a stream", m.seconds.clone());
        to.register("refused_calls", "Calls refused at the door, by reason", m.refused.clone());
        to.register("connections", "Open connections", m.connections.clone());
        to.register(
            "refused_connections",
            "Connections closed at once, too many being open",
            m.refused_connections.clone(),
        );
        to.register("streams", "Open streams, by method", m.streams.clone());
        to.register("slow_receivers", "Streams cut off because the receiver did not keep up", m.slow_receivers.clone());
        to.register("sent_batches", "Batches of receipts sent on streams", m.sent_batches.clone());
        to.register("sent_changes", "Changes sent on streams", m.sent_changes.clone());
        to.register("waiting_calls", "Calls that wait for a decision", m.waiting_calls.clone());
        m
    }

    pub(crate) fn on_refused(&self, reason: Reason) {
        self.refused.get_or_create(&vec![("reason", reason.name().to_owned())]).inc();
    }

    /// Counts one answered call.
    pub(crate) fn on_answer<T>(&self, method: &'static str, since: Instant, answer: &Result<T, Status>) {
        let code = answer.as_ref().map_or_else(Status::code, |_| tonic::Code::Ok);
        let method = ("method", method.to_owned());
        self.calls.get_or_create(&vec![method.clone(), ("code", format!("{code:?}"))]).inc();
        self.seconds.get_or_create(&vec![method]).observe(since.elapsed().as_secs_f64());
    }

    /// Counts a stream until dropped.
    pub(crate) fn stream(&self, method: &'static str) -> Held {
        Held::new(&self.streams.get_or_create(&vec![("method", method.to_owned())]))
    }
}

/// Raises a gauge by one until dropped.
pub(crate) struct Held(Gauge);

impl Held {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
