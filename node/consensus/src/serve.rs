//! Answers peers' requests: batches by hash, and decided blocks from the block file. Past the engine, so that a peer that catches up
//! holds up no vote. Bounded: so many at a time, so many bytes each, at least one block where there is one (engine trap 7).

use crate::shared::Shared;
use crate::wire::{self, ANSWER_SOFT_BYTES, BatchesAnswer, BlockBytes, BlocksAnswer, DecidedBytes, PeerRequest};
use anji_contracts::types::Hash32;
use anji_network::Request;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Requests for blocks that are read from disk at a time; more wait. The network bounds what each peer may have open.
const BLOCK_READERS: usize = 4;

/// Answers requests.
#[derive(Clone)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    readers: Arc<Semaphore>,
}

impl Server {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, readers: Arc::new(Semaphore::new(BLOCK_READERS)) }
    }

    /// Answers in the background. A request that does not decode is closed unanswered.
    pub(crate) fn serve(&self, request: Request) {
        let decoded = match wire::decode_request(&request.bytes) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.shared.metrics.dropped("malformed_request");
                tracing::warn!(peer = %request.from, %error, "refused a request");
                return;
            }
        };
        let server = self.clone();
        tokio::spawn(async move {
            let answer = match decoded {
                PeerRequest::Batches(hashes) => Some(server.batches(&hashes)),
                PeerRequest::Blocks { first, last } => {
                    // Closed only when the process ends.
                    let Ok(_permit) = server.readers.acquire().await else { return };
                    if request.responder.is_closed() {
                        return;
                    }
                    server.blocks(first, last).await
                }
            };
            if let Some(answer) = answer {
                request.responder.answer(answer);
            }
        });
    }

    fn batches(&self, hashes: &[Hash32]) -> Bytes {
        let mut batches = Vec::new();
        let mut size_bytes = 0;
        for hash in hashes {
            let Some(batch) = self.shared.pool.get(hash).or_else(|| self.shared.bodies.batch(hash)) else { continue };
            size_bytes += batch.bytes.len();
            batches.push(batch.bytes.to_vec());
            if size_bytes >= ANSWER_SOFT_BYTES {
                break;
            }
        }
        wire::encode(&BatchesAnswer { batches })
    }

    async fn blocks(&self, first: u64, last: u64) -> Option<Bytes> {
        let read = self
            .shared
            .blocking(move |shared| {
                let last = last.min(shared.blocks.decided_height());
                let mut blocks = Vec::new();
                let mut size_bytes = 0;
                for height in first..=last {
                    let Some((body, certificate)) = shared.blocks.load_block(height)? else { break };
                    size_bytes += body.batches.iter().map(Bytes::len).sum::<usize>();
                    let batches = body.batches.iter().map(|bytes| bytes.to_vec()).collect();
                    blocks.push(DecidedBytes { certificate, body: BlockBytes { header: body.header, batches } });
                    if size_bytes >= ANSWER_SOFT_BYTES {
                        break;
                    }
                }
                Ok(wire::encode(&BlocksAnswer { blocks }))
            })
            .await;
        match read {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::error!(first, last, %error, "cannot serve blocks");
                None
            }
        }
    }
}
