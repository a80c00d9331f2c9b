//! A bank as the benchmark sees it: one node's address, token and signing key; and the calls it makes.

use crate::cli::evidence::get::ask_until;
use anji_adapters::keys::{PrivateKey, Purpose};
use anji_proto::v1 as pb;
use anji_proto::v1::evidence_service_client::EvidenceServiceClient;
use anji_proto::v1::wallet_service_client::WalletServiceClient;
use anji_verify::bundle::MAX_BUNDLE_BYTES;
use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

/// Longest wait for one batch: far above any figure worth printing.
const PATIENCE: Duration = Duration::from_secs(30);

/// A participant with its node.
pub(super) struct Bank {
    pub(super) participant: u32,
    pub(super) key: PrivateKey,
    address: SocketAddr,
    token: MetadataValue<Ascii>,
}

#[derive(serde::Deserialize)]
struct Summary {
    nodes: Vec<NodeSummary>,
}

/// A node as `anji init` left it.
#[derive(Clone, serde::Deserialize)]
pub(super) struct NodeSummary {
    pub(super) name: String,
    participant_id: u32,
    grpc: SocketAddr,
    pub(super) metrics: SocketAddr,
    power: u64,
}

impl NodeSummary {
    pub(super) const fn is_validator(&self) -> bool {
        self.power > 0
    }
}

/// The nodes of a folder that `anji init` made.
pub(super) fn nodes(dir: &Path) -> Result<Vec<NodeSummary>> {
    let file = dir.join("network.json");
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("{}: cannot be read; is this a folder that `anji init` made?", file.display()))?;
    let summary: Summary =
        serde_json::from_str(&text).with_context(|| format!("{}: not understood", file.display()))?;
    Ok(summary.nodes)
}

impl Bank {
    /// The nodes named `acquirer` and `issuer` of a folder that `anji init` made.
    pub(super) fn load(dir: &Path) -> Result<(Self, Self)> {
        let nodes = nodes(dir)?;
        let find = |name: &str| -> Result<Self> {
            let node = nodes.iter().find(|node| node.name == name);
            let node = node.with_context(|| format!("{}: no node is named {name}", dir.display()))?;
            let folder = dir.join(name);
            let token_file = folder.join("tokens/wallet.token");
            let token = std::fs::read_to_string(&token_file)
                .with_context(|| format!("{}: cannot be read", token_file.display()))?;
            Ok(Self {
                participant: node.participant_id,
                key: PrivateKey::read(&folder.join("keys/signing.key"), Purpose::Signing)?,
                address: node.grpc,
                token: format!("Bearer {}", token.trim()).parse().context("the token is not printable")?,
            })
        };
        Ok((find("acquirer")?, find("issuer")?))
    }

    /// Connects when first used.
    fn channel(&self) -> Result<Channel> {
        Ok(Endpoint::from_shared(format!("http://{}", self.address))?
            .connect_timeout(Duration::from_secs(2))
            .tcp_nodelay(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .connect_lazy())
    }

    /// Submits batches.
    pub(super) fn connect(&self) -> Result<Client> {
        let channel = self.channel()?;
        Ok(Client { inner: WalletServiceClient::new(channel), token: self.token.clone(), wait: pb::Wait::Decided })
    }
}

/// Asks one node for bundles.
pub(super) struct EvidenceClient {
    inner: EvidenceServiceClient<Channel>,
    token: MetadataValue<Ascii>,
}

impl Bank {
    /// Asks for bundles.
    pub(super) fn connect_evidence(&self) -> Result<EvidenceClient> {
        let inner = EvidenceServiceClient::new(self.channel()?).max_decoding_message_size(MAX_BUNDLE_BYTES + 1024);
        Ok(EvidenceClient { inner, token: self.token.clone() })
    }
}

impl EvidenceClient {
    /// A bundle of these claims. What is not final yet is asked for again.
    pub(super) async fn get(&mut self, claims: &[pb::EvidenceClaim]) -> Result<Vec<u8>> {
        match ask_until(&mut self.inner, &self.token, claims, PATIENCE, Duration::from_millis(20)).await {
            Ok(answer) => Ok(answer.bundle),
            Err(status) => bail!("no bundle: {:?}: {}", status.code(), status.message()),
        }
    }
}

/// Calls to one node.
#[derive(Clone)]
pub(super) struct Client {
    inner: WalletServiceClient<Channel>,
    token: MetadataValue<Ascii>,
    /// What an answer waits for.
    pub(super) wait: pb::Wait,
}

impl Client {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request.set_timeout(PATIENCE);
        request
    }

    pub(super) async fn chain_info(&mut self) -> Result<pb::GetChainInfoResponse> {
        let request = self.request(pb::GetChainInfoRequest {});
        Ok(self.inner.get_chain_info(request).await.context("the acquirer's node does not answer")?.into_inner())
    }

    /// Submits a batch and waits for its receipts. A full mempool is waited out: that is what bounds a closed loop.
    pub(super) async fn submit(&mut self, signed_batch: Vec<u8>) -> Result<pb::ReceiptBatch> {
        let signed_batch = bytes::Bytes::from(signed_batch);
        loop {
            let message = pb::SubmitBatchRequest { signed_batch: signed_batch.clone(), wait: self.wait.into() };
            match self.inner.submit_batch(self.request(message)).await {
                Ok(answer) => return answer.into_inner().receipts.context("no receipts though they were waited for"),
                Err(status) if status.code() == tonic::Code::ResourceExhausted => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(status) => bail!("a batch was not taken: {:?}: {}", status.code(), status.message()),
            }
        }
    }
}

/// One stream of batches: what goes in at `0` is answered at `1`, in any order.
pub(super) type Conversation = (mpsc::Sender<pb::SubmitBatchesRequest>, tonic::Streaming<pb::SubmitBatchesResponse>);

impl Client {
    /// Opens a stream of batches.
    pub(super) async fn converse(&mut self) -> Result<Conversation> {
        let (sender, receiver) = mpsc::channel(64);
        let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
        request.metadata_mut().insert("authorization", self.token.clone());
        let answers = self.inner.submit_batches(request).await.context("no stream of batches")?.into_inner();
        Ok((sender, answers))
    }

    /// A batch on a stream.
    pub(super) fn streamed(&self, tag: u64, signed_batch: Vec<u8>) -> pb::SubmitBatchesRequest {
        pb::SubmitBatchesRequest { tag, signed_batch: signed_batch.into(), wait: self.wait.into() }
    }
}

/// How many of a batch's operations were refused.
pub(super) fn refused(batch: &pb::ReceiptBatch) -> u64 {
    let is_refused = |receipt: &&pb::Receipt| !matches!(receipt.result, Some(pb::receipt::Result::Done(_)));
    batch.receipts.iter().filter(is_refused).count() as u64
}

/// Every operation of the batch must be done.
pub(super) fn all_done(batch: &pb::ReceiptBatch) -> Result<()> {
    let first = batch.receipts.iter().find_map(|receipt| match &receipt.result {
        Some(pb::receipt::Result::Refused(reject)) => Some(format!("{} {}", reject.code, reject.text)),
        _ => None,
    });
    ensure!(first.is_none(), "an operation was refused: {}", first.unwrap_or_default());
    Ok(())
}
