//! Starts an adapter and stops it: outbox, engine, followers, gRPC door.

use crate::callers::{Callers, read_token};
use crate::config::AdapterConfig;
use crate::engine::{Engine, EngineParts, INTAKE, Signer};
use crate::follow::{Identity, follow_receipts, watch_chain};
use crate::keys::{PrivateKey, Purpose};
use crate::metrics::Metrics;
use crate::node::Nodes;
use crate::outbox::file::OutboxFile;
use crate::outbox::index::{Index, IndexLimits};
use crate::outbox::record::Record;
use crate::outbox::writer::Writer;
use crate::service::Service;
use crate::state::{Shared, now_ms};
use crate::work::Work;
use anji_contracts::types::{ChainId, Hash32, KeyId, ParticipantId, Role};
use anji_proto::v1::adapter_service_server::AdapterServiceServer;
use anji_wire::connections;
use prometheus_client::registry::Registry;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

/// Operation ids may be this old; for as long a request whose id carries no time is remembered.
const REMEMBER_MS: u64 = 24 * 3_600_000 + 10 * 60_000;
/// Open connections; one more is closed at once.
const MAX_CONNECTIONS: usize = 1024;
/// Largest request; the largest there is holds a few hundred bytes.
const MAX_REQUEST: usize = 64 << 10;

/// An adapter cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// Key, token or callers file.
    #[error(transparent)]
    Settings(#[from] crate::settings::SettingsError),
    /// The signing key.
    #[error(transparent)]
    Key(#[from] crate::keys::KeyError),
    /// The outbox.
    #[error("{0}")]
    Outbox(Arc<crate::outbox::OutboxError>),
    /// A node's address.
    #[error("`nodes`: {0}\n  way out: write the address as http://host:port")]
    Nodes(String),
    /// The door.
    #[error(
        "`grpc.listen = {listen}` cannot be opened: {source}\n  way out: stop what uses the port, or change it in the config"
    )]
    Listen {
        /// The address.
        listen: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// The gRPC server.
    #[error("the gRPC server failed: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// A running adapter.
pub struct Adapter {
    shared: Arc<Shared>,
    address: std::net::SocketAddr,
    run: tokio::task::JoinHandle<Result<(), AdapterError>>,
}

/// A cheap look at a running adapter, for its health page.
#[derive(Clone)]
pub struct AdapterStatus(Arc<Shared>);

impl AdapterStatus {
    /// Every reason why requests are not served as they should be; empty when all is well.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        self.0.troubles()
    }

    /// The height the node was last seen at.
    #[must_use]
    pub fn height(&self) -> Option<u64> {
        self.0.chain().map(|it| it.height)
    }
}

impl Adapter {
    /// Opens the outbox and the door. Requests are taken at once and sent as soon as a node is reached.
    ///
    /// # Errors
    /// Anything that must be mended before it can start.
    pub async fn start(
        config: AdapterConfig,
        registry: &mut Registry,
        stop: CancellationToken,
    ) -> Result<Self, AdapterError> {
        let metrics = Metrics::register(registry);
        let callers = Callers::load(&config.grpc.callers, config.grpc.max_rate, config.grpc.max_streams)?;
        let key = PrivateKey::read(&config.signing_key, Purpose::Signing)?;
        let mut chain = [0; 32];
        // Checked when the config was read.
        hex::decode_to_slice(&config.chain_id, &mut chain).map_err(|error| AdapterError::Nodes(error.to_string()))?;
        let participant = ParticipantId(config.participant);
        let signer = Signer { chain: ChainId(Hash32(chain)), participant, key_id: KeyId(config.key_id), key };
        let mut nodes = Vec::new();
        for node in &config.nodes {
            nodes.push((node.address.clone(), read_token(&node.token)?));
        }
        let nodes = Arc::new(Nodes::new(nodes, metrics.switches.clone()).map_err(AdapterError::Nodes)?);
        let limits = IndexLimits {
            pending: config.requests.max_pending as usize,
            remembered: config.requests.max_remembered as usize,
            remember_ms: REMEMBER_MS,
        };
        let mut index = Index::new(limits);
        let mut position = None;
        let now = now_ms();
        let file = OutboxFile::open(&config.data_dir, signer.chain, participant, |record| {
            if let Record::Position(next_seq) = &record {
                position = Some(*next_seq);
            }
            index.restore(record, now);
        })
        .map_err(|error| AdapterError::Outbox(Arc::new(error)))?;
        let syncs = metrics.sync_seconds.clone();
        let writer = Writer::spawn(file, move |seconds| syncs.observe(seconds)).map_err(AdapterError::Thread)?;
        let shared = Arc::new(Shared::new(participant));
        let work = Work::load(&config.data_dir, chain, participant.0, config.requests.max_open_work as usize);
        let listen = config.grpc.listen;
        let listener = TcpListener::bind(listen).await.map_err(|source| AdapterError::Listen { listen, source })?;
        let address = listener.local_addr().map_err(|source| AdapterError::Listen { listen, source })?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            participant = participant.0,
            chain = %signer.chain,
            key = %hex::encode(signer.key.public()),
            node = nodes.address(),
            grpc = %address,
            outbox = %config.data_dir.display(),
            "adapter"
        );

        let index = Arc::new(Mutex::new(index));
        let (intake, requests) = mpsc::channel(INTAKE);
        let service = Service {
            callers: Arc::new(callers),
            index: index.clone(),
            intake,
            nodes: nodes.clone(),
            shared: shared.clone(),
            work: Arc::new(work),
            metrics: metrics.clone(),
            default_deadline: Duration::from_millis(config.requests.default_deadline_ms),
            stop: stop.clone(),
        };
        let parts =
            EngineParts { config, signer, index, nodes, shared: shared.clone(), metrics, writer, next_seq: position };
        let run = tokio::spawn(run(service, parts, requests, listener, stop));
        Ok(Self { shared, address, run })
    }

    /// Where the door is.
    #[must_use]
    pub const fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// A handle for the health page.
    #[must_use]
    pub fn status(&self) -> AdapterStatus {
        AdapterStatus(self.shared.clone())
    }

    /// Waits until it has stopped, because it was told to or because it cannot go on.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub async fn stopped(self) -> Result<(), AdapterError> {
        match self.run.await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

async fn run(
    service: Service,
    parts: EngineParts,
    requests: mpsc::Receiver<crate::engine::NewRequest>,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), AdapterError> {
    let (nodes, shared, metrics) = (parts.nodes.clone(), parts.shared.clone(), parts.metrics.clone());
    let work = service.work.clone();
    let (first, mut seen) = watch::channel(None);
    let (news, told) = mpsc::channel(256);
    let identity = Identity::of(&parts.signer);
    let position = parts.next_seq;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(watch_chain(nodes.clone(), shared.clone(), identity, first, stop.clone()));
    {
        let (nodes, shared, stop) = (nodes.clone(), shared.clone(), stop.clone());
        tasks.spawn(async move {
            // Nothing is sent before the chain was seen, so no receipt of ours lies before its next batch.
            let seen = seen.wait_for(Option::is_some);
            let start = tokio::select! {
                () = stop.cancelled() => return,
                seen = seen => seen.ok().and_then(|it| *it).unwrap_or_default(),
            };
            if shared.chain().is_some_and(|it| it.role == Role::Issuer) {
                let (work, nodes, stop) = (work, nodes.clone(), stop.clone());
                tokio::spawn(crate::work::follow(work, nodes, metrics, stop));
            }
            follow_receipts(nodes, shared, position.unwrap_or(start), news, stop).await;
        });
    }
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<AdapterServiceServer<Service>>().await;
    {
        let (shared, stop) = (shared.clone(), stop.clone());
        tasks.spawn(async move {
            let mut served = true;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
                let well = shared.troubles().is_empty();
                if well != served {
                    served = well;
                    if well {
                        reporter.set_serving::<AdapterServiceServer<Service>>().await;
                    } else {
                        reporter.set_not_serving::<AdapterServiceServer<Service>>().await;
                    }
                }
            }
        });
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(anji_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    let adapter = AdapterServiceServer::new(service).max_decoding_message_size(MAX_REQUEST);
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .concurrency_limit_per_connection(4096)
        .max_concurrent_streams(4096);
    let mut routes = server.add_service(health).add_service(adapter);
    match reflection {
        Ok(reflection) => routes = routes.add_service(reflection),
        Err(error) => tracing::error!(%error, "reflection is not served"),
    }
    let door = CancellationToken::new();
    let (accepted, incoming) = mpsc::channel(16);
    let on_refused = || tracing::warn!(limit = MAX_CONNECTIONS, "too many connections, one more was closed");
    tasks.spawn(connections::accept(listener, MAX_CONNECTIONS, stop.clone(), || (), on_refused, accepted));
    let served = routes.serve_with_incoming_shutdown(ReceiverStream::new(incoming), door.clone().cancelled_owned());
    tokio::pin!(served);
    let engine_stop = CancellationToken::new();
    let engine = Engine::run(parts, requests, told, engine_stop.clone());
    tokio::pin!(engine);

    let result = tokio::select! {
        result = &mut engine => result.map_err(AdapterError::Outbox),
        result = &mut served => result.map_err(AdapterError::Server),
        () = stop.cancelled() => {
            shared.stop();
            // Callers are told that their requests are open; what is in the outbox is seen through after the next start.
            door.cancel();
            let calls = async {
                let _ = tokio::time::timeout(Duration::from_secs(3), &mut served).await;
                engine_stop.cancel();
            };
            let (result, ()) = tokio::join!(&mut engine, calls);
            result.map_err(AdapterError::Outbox)
        }
    };
    stop.cancel();
    tasks.join_all().await;
    match &result {
        Ok(()) => tracing::info!("the adapter has stopped; open requests are seen through after the next start"),
        Err(error) => tracing::error!(%error, "the adapter stops"),
    }
    result
}
