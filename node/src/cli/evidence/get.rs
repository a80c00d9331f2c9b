//! Asking a node for a bundle.

use super::ask::Subject;
use super::{judge, trust};
use anji_proto::v1 as pb;
use anji_proto::v1::evidence_service_client::EvidenceServiceClient;
use anji_verify::bundle::MAX_BUNDLE_BYTES;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before asking again for what is not final yet.
const PAUSE: Duration = Duration::from_millis(200);

/// `anji evidence get`.
#[derive(Args)]
pub(super) struct GetArgs {
    /// The node's gRPC address, such as http://127.0.0.1:27003.
    #[arg(long, value_name = "URL", env = "ANJI_NODE")]
    node: String,
    /// The file with a token of the wallet role.
    #[arg(long, value_name = "FILE", env = "ANJI_TOKEN_FILE")]
    token: PathBuf,
    /// Where to write the bundle; `-` for standard output.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Checks the bundle with this trust file before it is written.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Waits this many seconds for what is not final yet.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u64,
    #[command(subcommand)]
    subject: Subject,
}

/// Gets a bundle and writes it. `Ok(false)`: it was to be checked and does not hold.
pub(super) fn run(args: &GetArgs) -> Result<bool> {
    let claims = args.subject.claims()?;
    let token = std::fs::read_to_string(&args.token).with_context(|| {
        format!("{}: cannot be read\n  way out: name a token file of the node", args.token.display())
    })?;
    let token = format!("Bearer {}", token.trim()).parse().context("the token is not printable")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(ask(&args.node, token, claims, Duration::from_secs(args.wait)))?;
    if let Some(file) = &args.trust
        && !judge(&answer.bundle, &trust::read(file)?, false, false)
    {
        return Ok(false);
    }
    if args.out.as_os_str() == "-" {
        std::io::stdout().lock().write_all(&answer.bundle)?;
    } else {
        let context = || format!("{}: cannot be written", args.out.display());
        std::fs::write(&args.out, &answer.bundle).with_context(context)?;
        println!("{}: {} bytes, as of block {}", args.out.display(), answer.bundle.len(), answer.height);
    }
    Ok(true)
}

async fn ask(
    node: &str,
    token: MetadataValue<Ascii>,
    claims: Vec<pb::EvidenceClaim>,
    wait: Duration,
) -> Result<pb::GetEvidenceResponse> {
    let unreachable = || format!("{node}: no node answers\n  way out: check the address and whether the node runs");
    let endpoint = Endpoint::from_shared(node.to_owned()).with_context(unreachable)?;
    let channel = endpoint.connect_timeout(Duration::from_secs(3)).connect().await.with_context(unreachable)?;
    let mut client = EvidenceServiceClient::new(channel).max_decoding_message_size(MAX_BUNDLE_BYTES + 1024);
    match ask_until(&mut client, &token, &claims, wait, PAUSE).await {
        Ok(answer) => Ok(answer),
        Err(status) => bail!("{node}: {} ({:?})", status.message(), status.code()),
    }
}

/// Asks for a bundle, again after `pause` for what is not final yet, until `wait` is over.
pub(in crate::cli) async fn ask_until(
    client: &mut EvidenceServiceClient<Channel>,
    token: &MetadataValue<Ascii>,
    claims: &[pb::EvidenceClaim],
    wait: Duration,
    pause: Duration,
) -> Result<pb::GetEvidenceResponse, Status> {
    let give_up = Instant::now() + wait;
    loop {
        let mut request = Request::new(pb::GetEvidenceRequest { claims: claims.to_vec() });
        request.metadata_mut().insert("authorization", token.clone());
        request.set_timeout(PATIENCE);
        match client.get_evidence(request).await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if is_early(&status) && Instant::now() < give_up => tokio::time::sleep(pause).await,
            Err(status) => return Err(status),
        }
    }
}

/// Whether asking again in a moment makes sense. What was just submitted elsewhere may not be here yet either.
fn is_early(status: &Status) -> bool {
    let reason = status.get_details_error_info().map(|info| info.reason);
    reason.as_deref() == Some("EVIDENCE_NOT_YET") || status.code() == Code::Unavailable
}
