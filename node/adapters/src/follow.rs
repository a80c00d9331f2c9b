//! The adapter's two ears at its node: what the chain is and whether it is the right one, and the receipts of its participant.
//! Both go on for ever: a broken stream is opened again, at the next node if need be, from where it stopped.

use crate::engine::{News, Signer};
use crate::node::{Nodes, read_receipt};
use crate::state::{Chain, Shared, now_ms};
use anji_contracts::types::{Currency, Role, ScheduleVersion};
use anji_proto::v1;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// How often the chain is looked at.
const POLL: Duration = Duration::from_secs(3);
/// A stream that says nothing for this long is dead: nodes say something at least every 10 s.
pub(crate) const SILENCE: Duration = Duration::from_secs(25);
/// This machine's clock may differ from ledger time by this much; a batch and an operation id allow for two minutes.
const CLOCK_MARGIN_MS: u64 = 60_000;

/// Waits longer with every failure, up to a bound.
#[derive(Debug, Default)]
pub(crate) struct Patience(u32);

impl Patience {
    pub(crate) async fn wait(&mut self) {
        let wait_ms = (100u64 << self.0.min(6)).min(5000);
        self.0 = self.0.saturating_add(1);
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }

    pub(crate) const fn reset(&mut self) {
        self.0 = 0;
    }
}

/// What is pinned against what the node shows.
pub(crate) struct Identity {
    pub(crate) chain_id: [u8; 32],
    pub(crate) key_id: u32,
    pub(crate) public_key: Vec<u8>,
}

impl Identity {
    pub(crate) fn of(signer: &Signer) -> Self {
        Self { chain_id: signer.chain.0.0, key_id: signer.key_id.0, public_key: signer.key.public() }
    }
}

/// Looks at the chain again and again. Tells the sequence of the next batch once the chain was seen to be the right one.
pub(crate) async fn watch_chain(
    nodes: Arc<Nodes>,
    shared: Arc<Shared>,
    identity: Identity,
    first: watch::Sender<Option<u64>>,
    stop: CancellationToken,
) {
    let mut last_height: Option<u64> = None;
    let mut told = None;
    loop {
        match nodes.chain_info().await {
            Ok(info) => {
                let trouble = check_identity(&info, &identity, shared.participant.0);
                if trouble != told {
                    match &trouble {
                        Some(text) => {
                            tracing::error!(node = nodes.address(), "{text}; nothing is signed until this is mended")
                        }
                        None if told.is_some() => {
                            tracing::info!(node = nodes.address(), "chain and key are as configured again")
                        }
                        None => {}
                    }
                    told.clone_from(&trouble);
                }
                shared.identity_trouble(trouble.clone());
                if trouble.is_none()
                    && let Some(chain) = read_chain(&info, shared.participant.0)
                {
                    // A chain at rest says nothing about the clock.
                    if last_height.is_some_and(|last| last < info.height) {
                        shared.clock_trouble(clock_trouble(info.time_ms));
                    }
                    last_height = Some(info.height);
                    if first.borrow().is_none() {
                        first.send_replace(Some(info.next_batch_seq));
                        tracing::info!(node = nodes.address(), height = info.height, role = ?chain.role, "connected");
                    }
                    shared.saw_chain(chain);
                }
            }
            Err(status) => {
                tracing::debug!(node = nodes.address(), code = %status.code(), "the chain cannot be looked at: {}", status.message())
            }
        }
        let wait = if first.borrow().is_some() { POLL } else { Duration::from_millis(300) };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn check_identity(info: &v1::GetChainInfoResponse, identity: &Identity, participant: u32) -> Option<String> {
    if info.chain_id != identity.chain_id {
        return Some(format!(
            "the node is on another chain ({}); correct `nodes` or `chain_id` in the config",
            hex::encode(&info.chain_id)
        ));
    }
    if info.caller != participant {
        return Some(format!(
            "the node knows this adapter's token as participant {}; correct the token or `participant`",
            info.caller
        ));
    }
    let Some(own) = info.participants.iter().find(|it| it.id == participant) else {
        return Some(format!("the ledger has no participant {participant}; correct `participant`"));
    };
    let Some(key) = own.keys.iter().find(|it| it.key_id == identity.key_id) else {
        return Some(format!(
            "the ledger has no key {} of participant {participant}; correct `key_id`",
            identity.key_id
        ));
    };
    if key.public_key != identity.public_key {
        return Some(format!(
            "the signing key is not key {} of participant {participant}; correct `signing_key` or `key_id`",
            identity.key_id
        ));
    }
    None
}

fn read_chain(info: &v1::GetChainInfoResponse, participant: u32) -> Option<Chain> {
    let own = info.participants.iter().find(|it| it.id == participant)?;
    let role = match v1::Role::try_from(own.role).ok()? {
        v1::Role::Acquirer => Role::Acquirer,
        v1::Role::Issuer => Role::Issuer,
        v1::Role::ServiceProvider => Role::ServiceProvider,
        v1::Role::Clearing => Role::Clearing,
        v1::Role::Regulator => Role::Regulator,
        v1::Role::FeePayee => Role::FeePayee,
        v1::Role::Unspecified => return None,
    };
    Some(Chain {
        height: info.height,
        currency: Currency(u16::try_from(info.currency).ok()?),
        schedule: ScheduleVersion(info.schedule.as_ref().map_or(0, |it| it.version)),
        role,
        seen: Instant::now(),
    })
}

fn clock_trouble(ledger_ms: u64) -> Option<String> {
    let now = now_ms();
    let apart = now.abs_diff(ledger_ms);
    let direction = if now > ledger_ms { "ahead of" } else { "behind" };
    (apart > CLOCK_MARGIN_MS)
        .then(|| format!("this machine's clock is {} s {direction} ledger time; set it (NTP)", apart / 1000))
}

/// Hands on all receipts of the participant from `next_seq`.
pub(crate) async fn follow_receipts(
    nodes: Arc<Nodes>,
    shared: Arc<Shared>,
    mut next_seq: u64,
    news: mpsc::Sender<News>,
    stop: CancellationToken,
) {
    let mut patience = Patience::default();
    loop {
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = receipts_once(&nodes, &shared, &mut next_seq, &news, &mut patience) => ended,
        };
        tracing::debug!(node = nodes.address(), next_seq, code = %ended.code(), "the stream of receipts ended: {}", ended.message());
        let trouble = format!("the node's receipts cannot be followed: {}", ended.message());
        shared.follower_trouble((patience.0 > 3).then_some(trouble));
        tokio::select! {
            () = stop.cancelled() => return,
            () = patience.wait() => {}
        }
    }
}

/// The next message of a node's stream, or why there will be none.
pub(crate) async fn next_message<T>(stream: &mut Streaming<T>) -> Result<T, Status> {
    match tokio::time::timeout(SILENCE, stream.message()).await {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) => Err(Status::unavailable("the node closed the stream")),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(Status::unavailable("the node fell silent")),
    }
}

async fn receipts_once(
    nodes: &Nodes,
    shared: &Shared,
    next_seq: &mut u64,
    news: &mpsc::Sender<News>,
    patience: &mut Patience,
) -> Status {
    let message = v1::StreamReceiptsRequest { from_seq: *next_seq, tell_final: true, ..Default::default() };
    let opened = nodes.open(message, |mut client, request| async move { client.stream_receipts(request).await }).await;
    let (node, mut stream) = match opened {
        Ok(opened) => opened,
        Err(status) => return status,
    };
    let ended = loop {
        let item = match next_message(&mut stream).await {
            Ok(message) => message.item,
            Err(status) => break status,
        };
        patience.reset();
        let told = match item {
            Some(v1::stream_receipts_response::Item::Batch(batch)) => {
                let receipts = batch.receipts.iter().map(read_receipt).collect::<Result<Vec<_>, _>>();
                match receipts {
                    Ok(receipts) => News::Receipts { receipts, next_seq: batch.seq.saturating_add(1) },
                    Err(error) => break Status::internal(format!("a receipt cannot be read: {error}")),
                }
            }
            Some(v1::stream_receipts_response::Item::NextSeq(next_seq)) => {
                News::Receipts { receipts: Vec::new(), next_seq }
            }
            Some(v1::stream_receipts_response::Item::FinalHeight(height)) => {
                shared.saw_final(height);
                continue;
            }
            None => continue,
        };
        let News::Receipts { next_seq: after, .. } = &told;
        *next_seq = (*next_seq).max(*after);
        if news.send(told).await.is_err() {
            return Status::cancelled("the adapter is stopping");
        }
    };
    nodes.stream_failed(node, &ended);
    ended
}
