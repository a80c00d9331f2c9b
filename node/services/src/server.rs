//! Starting and stopping the gRPC door.

use crate::callers::Callers;
use crate::door::{Door, Role};
use crate::evidence::EvidenceDesk;
use crate::feed::Feed;
use crate::limits::Limits;
use crate::metrics::{Held, Metrics};
use crate::operator::Operator;
use crate::view::NodeView;
use crate::wallet::Wallet;
use anji_contracts::Genesis;
use anji_contracts::batch::MAX_BATCH_BYTES;
use anji_contracts::types::{ChainId, ParticipantId};
use anji_mempool::Mempool;
use anji_proto::v1::evidence_service_server::EvidenceServiceServer;
use anji_proto::v1::operator_service_server::OperatorServiceServer;
use anji_proto::v1::wallet_service_server::WalletServiceServer;
use anji_storage::Reader;
use anji_wire::connections;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Names of the services, as the health service knows them; the empty one stands for the node.
const SERVICES: [&str; 4] = ["", "anji.v1.WalletService", "anji.v1.EvidenceService", "anji.v1.OperatorService"];
/// Room beside a batch of the largest size in a message. A batch that is a little too large gets its own code.
const MESSAGE_EXTRA_BYTES: usize = 64 * 1024;
const SMALL_MESSAGE_BYTES: usize = 64 * 1024;
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// What a connection may have in flight towards us before we read it.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What the services are made of.
pub struct Setup {
    /// Name of the node.
    pub node: String,
    /// Version of the program.
    pub version: String,
    /// Whose node it is.
    pub participant: ParticipantId,
    /// The genesis document.
    pub genesis: Arc<Genesis>,
    /// The ledger.
    pub reader: Reader,
    /// Where batches go.
    pub mempool: Mempool,
    /// What was executed.
    pub feed: Arc<Feed>,
    /// Every block up to this height is final.
    pub final_height: watch::Receiver<u64>,
    /// The rest of the node.
    pub view: Arc<dyn NodeView>,
    /// Who may call.
    pub callers: Callers,
    /// The bounds.
    pub limits: Limits,
}

/// What every service holds.
pub(crate) struct Core {
    pub(crate) node: String,
    pub(crate) version: String,
    pub(crate) participant: ParticipantId,
    pub(crate) chain: ChainId,
    pub(crate) genesis: Arc<Genesis>,
    pub(crate) reader: Reader,
    pub(crate) mempool: Mempool,
    pub(crate) feed: Arc<Feed>,
    pub(crate) final_height: watch::Receiver<u64>,
    pub(crate) view: Arc<dyn NodeView>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) stopping: CancellationToken,
    pub(crate) started: Instant,
}

/// Why the door cannot open.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address or stop what uses it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The built-in descriptors are damaged.
    #[error("the reflection service cannot be built: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// The open door.
pub struct Services {
    local_addr: SocketAddr,
    core: Arc<Core>,
    health: HealthReporter,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Services {
    /// Listens and serves. Health says NOT_SERVING until [`Self::set_serving`]; calls are answered from the start.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(
        address: SocketAddr,
        setup: Setup,
        metrics: &mut prometheus_client::registry::Registry,
    ) -> Result<Self, ServicesError> {
        let listen = |source| ServicesError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        let metrics = Metrics::register(metrics);
        let callers = Arc::new(setup.callers);
        let core = Arc::new(Core {
            node: setup.node,
            version: setup.version,
            participant: setup.participant,
            chain: setup.genesis.chain_id(),
            genesis: setup.genesis,
            reader: setup.reader,
            mempool: setup.mempool,
            feed: setup.feed,
            final_height: setup.final_height,
            view: setup.view,
            limits: setup.limits,
            metrics: metrics.clone(),
            stopping: CancellationToken::new(),
            started: Instant::now(),
        });
        let door = |role| Door { callers: callers.clone(), role, metrics: metrics.clone() };
        let wallet = WalletServiceServer::new(Wallet(core.clone()))
            .max_decoding_message_size(MAX_BATCH_BYTES + MESSAGE_EXTRA_BYTES);
        let evidence =
            EvidenceServiceServer::new(EvidenceDesk::new(core.clone())).max_decoding_message_size(SMALL_MESSAGE_BYTES);
        let operator =
            OperatorServiceServer::new(Operator(core.clone())).max_decoding_message_size(SMALL_MESSAGE_BYTES);
        let (health, health_service) = tonic_health::server::health_reporter();
        set_all(&health, ServingStatus::NotServing).await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(anji_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;

        let (accepted, incoming) = mpsc::channel(16);
        let limit = core.limits.connections;
        let (on_open, on_refused) = (metrics.connections.clone(), metrics.refused_connections.clone());
        let on_open = move || Held::new(&on_open);
        let on_refused = move || {
            on_refused.inc();
            tracing::debug!(limit, "too many connections, one more was closed");
        };
        tokio::spawn(connections::accept(listener, limit, core.stopping.clone(), on_open, on_refused, accepted));
        let router = Server::builder()
            .max_concurrent_streams(core.limits.streams_per_connection)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_service(InterceptedService::new(wallet, door(Role::Wallet)))
            .add_service(InterceptedService::new(evidence, door(Role::Wallet)))
            .add_service(InterceptedService::new(operator, door(Role::Operator)))
            .add_service(health_service)
            .add_service(reflection);
        let stopping = core.stopping.clone();
        let incoming = ReceiverStream::new(incoming);
        let server = tokio::spawn(router.serve_with_incoming_shutdown(incoming, stopping.cancelled_owned()));
        tracing::info!(address = %local_addr, "gRPC services are open");
        Ok(Self { local_addr, core, health, server })
    }

    /// Where it listens; with the port the system chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What the health service says: whether the node follows the chain closely enough to be asked.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        set_all(&self.health, status).await;
    }

    /// Stops: no new connection, streams and waiting calls end with UNAVAILABLE, the others get some time to finish.
    pub async fn stop(mut self) {
        set_all(&self.health, ServingStatus::NotServing).await;
        self.core.stopping.cancel();
        match tokio::time::timeout(self.core.limits.shutdown_grace, &mut self.server).await {
            Ok(Ok(Ok(()))) => tracing::info!("gRPC services are closed"),
            Ok(Ok(Err(error))) => tracing::warn!(%error, "gRPC services ended with an error"),
            Ok(Err(error)) => tracing::warn!(%error, "gRPC services did not end well"),
            Err(_) => {
                self.server.abort();
                tracing::warn!("gRPC services were closed with calls under way");
            }
        }
    }
}

async fn set_all(health: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        health.set_service_status(service, status).await;
    }
}
