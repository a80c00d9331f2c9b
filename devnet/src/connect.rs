//! gRPC connections with a bearer token, and how an answer is judged: done, refused by the ledger with a number, or open (ask
//! again under the same request id).

use anji_proto::v1::adapter_service_client::AdapterServiceClient;
use anji_proto::v1::operator_service_client::OperatorServiceClient;
use anji_proto::v1::wallet_service_client::WalletServiceClient;
use anyhow::{Context, Result};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

/// Adds `authorization: Bearer <token>` to every call.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

pub(crate) type Adapter = AdapterServiceClient<InterceptedService<Channel, Bearer>>;
pub(crate) type Operator = OperatorServiceClient<InterceptedService<Channel, Bearer>>;
pub(crate) type Wallet = WalletServiceClient<InterceptedService<Channel, Bearer>>;

/// Where a service listens and what opens it.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) address: String,
    pub(crate) token: Option<String>,
}

impl Door {
    /// The plain channel; connects when first used.
    pub(crate) fn channel(&self) -> Result<Channel> {
        Ok(Endpoint::from_shared(format!("http://{}", self.address))
            .with_context(|| format!("{} is no address", self.address))?
            .connect_timeout(Duration::from_secs(2))
            .tcp_nodelay(true)
            .connect_lazy())
    }

    fn open(&self) -> Result<InterceptedService<Channel, Bearer>> {
        let value = match &self.token {
            Some(token) => Some(format!("Bearer {token}").parse().context("the token is not printable")?),
            None => None,
        };
        Ok(InterceptedService::new(self.channel()?, Bearer(value)))
    }

    pub(crate) fn adapter(&self) -> Result<Adapter> {
        Ok(AdapterServiceClient::new(self.open()?).max_decoding_message_size(16 << 20))
    }

    pub(crate) fn operator(&self) -> Result<Operator> {
        Ok(OperatorServiceClient::new(self.open()?))
    }

    pub(crate) fn wallet(&self) -> Result<Wallet> {
        Ok(WalletServiceClient::new(self.open()?))
    }
}

/// The ledger's reject code in an error, if the ledger's rules caused it. The adapter's own answer to a request id with another
/// content counts as the ledger's `IdConflict`: it is the same rule, one door further out.
pub(crate) fn reject_code(status: &Status) -> Option<u16> {
    const ID_CONFLICT: u16 = 3001;
    let info = status.get_details_error_info()?;
    if info.reason == "REQUEST_ID_CONFLICT" {
        return Some(ID_CONFLICT);
    }
    info.metadata.get("code")?.parse().ok()
}

/// Whether the outcome is open, so that the same request must be asked again.
pub(crate) fn is_open(status: &Status) -> bool {
    // ABORTED (another operation of a chain failed) has a reject code and is final.
    reject_code(status).is_none()
        && matches!(
            status.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled | Code::Unknown
        )
}

/// One line for people: code, reason, message.
pub(crate) fn explain(status: &Status) -> String {
    let reason = status.get_details_error_info().map(|info| format!(" {}", info.reason)).unwrap_or_default();
    format!("{:?}{reason}: {}", status.code(), status.message())
}
