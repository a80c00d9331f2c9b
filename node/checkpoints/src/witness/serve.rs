//! The witness's door: `POST /add-checkpoint`.

use super::judge::{Answer, Witness};
use crate::log_http::serve_connections;
use anji_verify::note::MAX_NOTE_BYTES;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A note, a proof of 63 lines, and the first line.
const MAX_BODY_BYTES: usize = MAX_NOTE_BYTES + 64 * 64;

/// Serves until `stop`.
pub async fn serve(witness: Arc<Witness>, listener: TcpListener, stop: CancellationToken) {
    let router = Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(witness);
    serve_connections(listener, router, stop).await;
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, body: Bytes) -> Response {
    let time_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let judged = tokio::task::spawn_blocking(move || witness.add_checkpoint(&body, time_s)).await;
    match judged {
        Ok(Answer::Cosigned(lines)) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], lines).into_response(),
        Ok(Answer::WrongOldSize(size)) => {
            (StatusCode::CONFLICT, [(header::CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n")).into_response()
        }
        Ok(Answer::Refused(status, why)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, format!("{why}\n")).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
