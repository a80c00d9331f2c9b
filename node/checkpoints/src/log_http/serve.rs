//! The HTTP door.

use super::pages;
use super::paths::TilePath;
use crate::service::Checkpoints;
use crate::witnessing::Witnessed;
use anji_contracts::types::ChainId;
use anji_storage::Reader;
use anji_verify::{SignedCheckpoint, ValidatorSet};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections at a time; further ones wait in the system's queue.
const CONNECTIONS: usize = 256;
/// A request's head must be here within this.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection's whole life.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);
/// Reads of the disk at a time.
const READS: usize = 8;
/// What never changes.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// What changes with every block.
const BRIEF: &str = "public, max-age=1";

/// Serves the log.
#[derive(Clone)]
pub struct LogHttp(Arc<Inner>);

struct Inner {
    chain_id: ChainId,
    validators: Arc<ValidatorSet>,
    reader: Reader,
    checkpoints: Checkpoints,
    witnessed: Option<Witnessed>,
    reads: Semaphore,
    /// The newest checkpoint's text, made once.
    note: Mutex<Option<(SignedCheckpoint, String)>>,
}

/// Takes the port.
///
/// # Errors
/// The address is taken or not ours.
pub async fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(listen).await
}

impl LogHttp {
    /// Over the checkpoints of one node; `witnessed` adds outside witnesses' cosignatures.
    #[must_use]
    pub fn new(
        chain_id: ChainId,
        validators: Arc<ValidatorSet>,
        reader: Reader,
        checkpoints: Checkpoints,
        witnessed: Option<Witnessed>,
    ) -> Self {
        let (reads, note) = (Semaphore::new(READS), Mutex::new(None));
        Self(Arc::new(Inner { chain_id, validators, reader, checkpoints, witnessed, reads, note }))
    }

    fn router(&self) -> Router {
        Router::new().route("/checkpoint", get(checkpoint)).route("/tile/{*path}", get(tile)).with_state(self.clone())
    }

    /// Serves until `stop`.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        serve_connections(listener, self.router(), stop).await;
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Inner) -> Result<T, anji_storage::ReadError> + Send + 'static,
    ) -> Result<T, Response> {
        let failed = |what: String| {
            tracing::error!(error = what, "the log cannot be served");
            (StatusCode::INTERNAL_SERVER_ERROR, "the node cannot read its data\n").into_response()
        };
        let _place = self.0.reads.acquire().await.map_err(|error| failed(error.to_string()))?;
        let inner = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || read(&inner)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

impl Inner {
    /// The newest final checkpoint as a note; with witnesses, the newest that they cosigned unless they are far behind.
    fn newest(&self) -> Result<Option<String>, anji_storage::ReadError> {
        let Some(checkpoint) = self.reader.newest_checkpoint()? else { return Ok(None) };
        if let Some(note) = self.witnessed.as_ref().and_then(|it| it.note(checkpoint.log)) {
            return Ok(Some(note));
        }
        let cached = || self.note.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, note)) = cached().as_ref().filter(|(known, _)| *known == checkpoint) {
            return Ok(Some(note.clone()));
        }
        let note = checkpoint.note(&self.chain_id, &self.validators).to_string();
        *cached() = Some((checkpoint, note.clone()));
        Ok(Some(note))
    }
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, BRIEF)], "not found\n").into_response()
}

async fn checkpoint(State(http): State<LogHttp>) -> Response {
    match http.read(Inner::newest).await {
        Ok(Some(note)) => {
            let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, BRIEF)];
            (headers, note).into_response()
        }
        Ok(None) => not_found(),
        Err(response) => response,
    }
}

async fn tile(State(http): State<LogHttp>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let Some(path) = TilePath::parse(&path) else { return not_found() };
    let size = http.0.checkpoints.final_head().log.size;
    let bytes = match http.read(move |inner| pages::load(&inner.reader, &path, size)).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return not_found(),
        Err(response) => return response,
    };
    let builder = Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CACHE_CONTROL, IMMUTABLE);
    // Hashes do not compress.
    let (builder, bytes) = match path.level {
        None if accepts_gzip(&headers) => (
            builder.header(header::CONTENT_ENCODING, "gzip").header(header::VARY, "accept-encoding"),
            compress(&bytes).unwrap_or_default(),
        ),
        None => (builder.header(header::VARY, "accept-encoding"), bytes),
        Some(_) => (builder, bytes),
    };
    builder.body(Body::from(bytes)).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING);
    let mut codings = values.iter().filter_map(|it| it.to_str().ok()).flat_map(|it| it.split(','));
    codings.any(|it| {
        let mut parts = it.split(';').map(str::trim);
        parts.next() == Some("gzip") && parts.next().is_none_or(|quality| !matches!(quality, "q=0" | "q=0.0"))
    })
}

fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Serves a router over bounded connections until `stop`; then those under way get a moment to finish.
pub(crate) async fn serve_connections(listener: TcpListener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                // Out of file descriptors, most likely: others must close first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (service, stopped) = (TowerToHyperService::new(router.clone()), stop.clone());
        connections.spawn(async move {
            let _place = place;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let life = tokio::time::sleep(CONNECTION_LIFE);
            // However it ends, the client knows better.
            tokio::select! {
                _ = connection.as_mut() => return,
                () = life => {}
                () = stopped.cancelled() => {}
            }
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(Duration::from_secs(5), connection).await;
        });
    }
    while connections.join_next().await.is_some() {}
}
