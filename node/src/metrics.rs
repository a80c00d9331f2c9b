//! The HTTP door for monitoring: `/metrics` in OpenMetrics text, `/health/live` (the process answers) and `/health/ready`
//! (it does its work; 503 and the reasons otherwise). Read-only, without money or personal data.

use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What `/health/ready` tells.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    /// Why the process does not do its work, one sentence each; empty when it is ready.
    pub(crate) reasons: Vec<String>,
    /// Figures worth a glance.
    pub(crate) details: serde_json::Map<String, serde_json::Value>,
}

impl Health {
    fn starting() -> Self {
        Self {
            reasons: vec![String::from("starting: the data is being opened and checked")],
            details: serde_json::Map::new(),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        let mut page = serde_json::json!({ "ready": self.reasons.is_empty(), "reasons": self.reasons });
        if let Some(fields) = page.as_object_mut() {
            fields.extend(self.details.clone());
        }
        page
    }
}

/// Figures that are kept elsewhere, in the same text format.
pub(crate) type MoreMetrics = fn() -> String;

/// Nothing kept elsewhere.
pub(crate) const fn no_more() -> String {
    String::new()
}

/// Answers the question of readiness, cheaply and without waiting.
pub(crate) type HealthSource = Arc<dyn Fn() -> Health + Send + Sync>;

/// What is shown. Empty while the process starts: alive, not ready.
#[derive(Clone, Default)]
pub(crate) struct Page(Arc<OnceLock<(Arc<Registry>, HealthSource, MoreMetrics)>>);

impl Page {
    /// From now on there is something to show.
    pub(crate) fn fill(&self, registry: Arc<Registry>, health: HealthSource, more: MoreMetrics) {
        // Filled once; a second time would be a mistake that shows nothing worse than the first.
        let _ = self.0.set((registry, health, more));
    }

    fn metrics(&self) -> Response {
        let Some((registry, _, more)) = self.0.get() else {
            return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
        };
        // One document has one end.
        let mut text = more().replace("# EOF\n", "");
        match prometheus_client::encoding::text::encode(&mut text, registry) {
            Ok(()) => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                ([(header::CONTENT_TYPE, kind)], text).into_response()
            }
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }

    fn ready(&self) -> Response {
        let health = self.0.get().map_or_else(Health::starting, |(_, health, _)| health());
        let ready = health.reasons.is_empty();
        json(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &health.to_json())
    }
}

fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    let text = serde_json::to_string(body).unwrap_or_else(|_| String::from("{}"));
    (status, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response()
}

fn router(page: Page) -> Router {
    let metrics = {
        let page = page.clone();
        move || async move { page.metrics() }
    };
    let ready = move || async move { page.ready() };
    let live = || async { json(StatusCode::OK, &serde_json::json!({ "live": true })) };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(ready.clone()))
        .route("/health/ready", get(ready))
        .route("/health/live", get(live))
}

/// Takes the port. Serving begins with [`serve`].
///
/// # Errors
/// The address is taken or not ours.
pub(crate) async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).await.with_context(|| {
        format!("`metrics.listen = {listen}` cannot be opened\n  way out: stop what uses the port, or change it in the config")
    })
}

/// Serves until `stop`.
///
/// # Errors
/// The listener failed.
pub(crate) async fn serve(listener: TcpListener, page: Page, stop: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router(page)).with_graceful_shutdown(stop.cancelled_owned()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    #[tokio::test]
    async fn metrics_and_health_are_served() {
        let mut registry = Registry::default();
        let counter: Counter = Counter::default();
        registry.register("anji_test_things", "Things", counter.clone());
        counter.inc_by(3);
        let fit = Arc::new(AtomicBool::new(true));
        let asked = fit.clone();
        let health: HealthSource = Arc::new(move || {
            let ready = asked.load(Ordering::Relaxed);
            let reasons = if ready { vec![] } else { vec![String::from("no peers")] };
            Health { reasons, details: serde_json::Map::from_iter([(String::from("height"), 7.into())]) }
        });
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (stop, page) = (CancellationToken::new(), Page::default());
        let served = tokio::spawn(serve(listener, page.clone(), stop.clone()));
        let early = fetch(address, "/health").await;
        assert!(early.contains("503") && early.contains("starting"), "{early}");
        assert!(fetch(address, "/health/live").await.contains("200 OK"));
        page.fill(Arc::new(registry), health, || String::from("engine_things 4\n# EOF\n"));
        let metrics = fetch(address, "/metrics").await;
        assert!(
            metrics.contains("200 OK")
                && metrics.contains("anji_test_things_total 3")
                && metrics.contains("engine_things 4")
                && metrics.matches("# EOF").count() == 1,
            "{metrics}"
        );
        assert!(fetch(address, "/health/live").await.contains("{\"live\":true}"));
        let ready = fetch(address, "/health/ready").await;
        assert!(ready.contains("200 OK") && ready.contains("\"height\":7"), "{ready}");
        fit.store(false, Ordering::Relaxed);
        let unfit = fetch(address, "/health").await;
        assert!(unfit.contains("503") && unfit.contains("no peers"), "{unfit}");
        assert!(fetch(address, "/nothing").await.contains("404"));
        stop.cancel();
        served.await.expect("ends").expect("cleanly");
    }
}
