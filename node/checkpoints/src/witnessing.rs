//! Takes final checkpoints to outside witnesses and collects their cosignatures, so that `/checkpoint` carries them. A witness that
//! does not answer holds up nothing: nodes never wait for one.

use crate::log_http::consistency;
use crate::service::Checkpoints;
use crate::witness::AddCheckpoint;
use anji_contracts::types::ChainId;
use anji_storage::Reader;
use anji_verify::checkpoint::check_line;
use anji_verify::note::{NoteSignature, VerifierKey, parse_signature_lines};
use anji_verify::{LogRoot, ValidatorSet};
use axum::body::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Shortest time from one submission to the next.
const PAUSE: Duration = Duration::from_secs(1);
/// A witness must answer within this.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer at most.
const ANSWER_BYTES: usize = 16 << 10;
/// While witnesses cosign, the newest checkpoint they cosigned is shown; not for longer than this once they stop.
const FRESH: Duration = Duration::from_secs(10);

/// An outside witness.
#[derive(Clone, Debug)]
pub struct WitnessTarget {
    /// `host:port` of its submission prefix, spoken to in plain HTTP: put a TLS proxy in between across networks.
    pub address: String,
    /// Path of its submission prefix: empty, or beginning with a slash and not ending with one.
    pub prefix: String,
    /// Its cosignatures verify with this.
    pub key: VerifierKey,
}

/// The newest checkpoint that a witness cosigned, as a note. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Witnessed(Arc<Mutex<Option<(Instant, LogRoot, String)>>>);

impl Witnessed {
    /// The note, unless the witnesses have fallen behind `newest`.
    pub(crate) fn note(&self, newest: LogRoot) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, log, note) = known.as_ref()?;
        (*log == newest || at.elapsed() < FRESH).then(|| note.clone())
    }

    fn set(&self, log: LogRoot, note: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), log, note));
    }
}

/// Submits final checkpoints until `stop`.
pub async fn submit_to_witnesses(
    chain_id: ChainId,
    validators: Arc<ValidatorSet>,
    reader: Reader,
    checkpoints: Checkpoints,
    targets: Vec<WitnessTarget>,
    witnessed: Witnessed,
    stop: CancellationToken,
) {
    let mut head = checkpoints.watch_final();
    let mut witnesses: Vec<Progress> = targets.into_iter().map(Progress::new).collect();
    loop {
        let read = reader.clone();
        let newest = tokio::task::spawn_blocking(move || read.newest_checkpoint()).await;
        if let Ok(Ok(Some(checkpoint))) = newest {
            let mut note = checkpoint.note(&chain_id, &validators);
            let text = note.to_string();
            let asked = witnesses.iter_mut().map(|it| it.cosign(&reader, checkpoint.log, &note.text, &text));
            let lines: Vec<NoteSignature> = futures::future::join_all(asked).await.into_iter().flatten().collect();
            if !lines.is_empty() {
                note.signatures.extend(lines);
                witnessed.set(checkpoint.log, note.to_string());
            }
        }
        let next = async {
            tokio::time::sleep(PAUSE).await;
            head.changed().await
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = next => if changed.is_err() { return },
        }
    }
}

/// Where one witness is.
struct Progress {
    target: WitnessTarget,
    /// The size it cosigned last, as far as known.
    old_size: u64,
    /// Its trouble was told.
    troubled: bool,
}

impl Progress {
    fn new(target: WitnessTarget) -> Self {
        Self { target, old_size: 0, troubled: false }
    }

    /// The witness's cosignatures on a checkpoint; empty, and told once, if it gives none.
    async fn cosign(&mut self, reader: &Reader, log: LogRoot, text: &str, note: &str) -> Vec<NoteSignature> {
        match self.try_cosign(reader, log, text, note).await {
            Ok(lines) => {
                if self.troubled {
                    tracing::info!(witness = self.target.key.name, "the witness cosigns again");
                }
                self.troubled = false;
                lines
            }
            Err(why) => {
                if !self.troubled {
                    tracing::warn!(witness = self.target.key.name, why, "no cosignature from the witness");
                }
                self.troubled = true;
                Vec::new()
            }
        }
    }

    async fn try_cosign(
        &mut self,
        reader: &Reader,
        log: LogRoot,
        text: &str,
        note: &str,
    ) -> Result<Vec<NoteSignature>, String> {
        // The second time with the size that the witness named.
        for _ in 0..2 {
            let (reader, old_size) = (reader.clone(), self.old_size);
            if old_size > log.size {
                return Err(format!("it has cosigned size {old_size}, this node is at {}", log.size));
            }
            let proof = tokio::task::spawn_blocking(move || consistency(&reader, old_size, log.size)).await;
            let proof = proof.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            let body = AddCheckpoint::render(old_size, &proof, note);
            let posted = tokio::time::timeout(TIMEOUT, post(&self.target, body)).await;
            let (status, kind, answer) = posted.map_err(|_| "it does not answer".to_owned())??;
            if status == StatusCode::CONFLICT && kind == "text/x.tlog.size" {
                self.old_size = answer.trim().parse().map_err(|_| "it names no size".to_owned())?;
                continue;
            }
            if status != StatusCode::OK {
                return Err(format!("it answers {status}: {}", answer.trim().chars().take(200).collect::<String>()));
            }
            let lines = parse_signature_lines(&answer).map_err(|error| error.to_string())?;
            let good: Vec<_> =
                lines.into_iter().filter(|line| check_line(&self.target.key, text, line) == Some(true)).collect();
            if good.is_empty() {
                return Err("its cosignature does not verify with its key".to_owned());
            }
            self.old_size = log.size;
            return Ok(good);
        }
        Err("it names one size and then another".to_owned())
    }
}

/// Status, content type and text of the answer.
async fn post(target: &WitnessTarget, body: String) -> Result<(StatusCode, String, String), String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", target.address);
    let stream = TcpStream::connect(&target.address).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let running = tokio::spawn(connection);
    let request = Request::post(format!("{}/add-checkpoint", target.prefix))
        .header(header::HOST, &target.address)
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| failed(&error))?;
    let answered = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let (head, body) = answered.into_parts();
    let bytes = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|error| failed(&error))?.to_bytes();
    running.abort();
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
    let text = String::from_utf8(bytes.to_vec()).map_err(|error| failed(&error))?;
    Ok((head.status, kind, text))
}
