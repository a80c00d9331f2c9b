//! The mandates that payments are made on, opened once for a network and kept in a file beside it.

use super::Common;
use super::client::{self, Bank, Client};
use super::work::{Plan, Signer};
use anji_contracts::codec;
use anji_contracts::types::{MandateId, ScopedId};
use anji_proto::v1 as pb;
use anyhow::{Context, Result, anyhow};
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(super) struct SetupArgs {
    #[command(flatten)]
    common: Common,
    /// Mandates the payments are spread over.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    mandates: u32,
}

const PAYMENTS: &str = "bench-payments.bin";

/// Everything a command needs to pay.
pub(super) struct Session {
    pub(super) plan: Plan,
    pub(super) signer: Signer,
    pub(super) client: Client,
    pub(super) mandates: Vec<MandateId>,
}

fn file(network_dir: &Path) -> PathBuf {
    network_dir.join("bench-mandates.bin")
}

impl Session {
    /// Connects. A bare network knows no mandates, so any will do.
    pub(super) async fn open(network_dir: &Path, bare: bool) -> Result<Self> {
        let (acquirer, _) = Bank::load(network_dir)?;
        let mut client = acquirer.connect()?;
        // Final is what a payment counts from. A bare network has nothing to cosign.
        client.wait = if bare { pb::Wait::Decided } else { pb::Wait::Final };
        let plan = Plan::new(&client.chain_info().await?)?;
        let signer = Signer::new(&acquirer, &plan);
        let mandates = if bare {
            plan.propose(2000).iter().map(|op| signer.mandate_id(op)).collect()
        } else {
            let file = file(network_dir);
            let bytes = std::fs::read(&file).with_context(|| {
                format!("{}: cannot be read\n  way out: run `anji bench setup` first", file.display())
            })?;
            codec::decode(&bytes).map_err(|reject| anyhow!("{}: not understood: {reject}", file.display()))?
        };
        Ok(Self { plan, signer, client, mandates })
    }
}

pub(super) fn keep(network_dir: &Path, mandates: &[MandateId]) -> Result<()> {
    let file = file(network_dir);
    std::fs::write(&file, codec::encode(mandates)).with_context(|| format!("cannot write {}", file.display()))
}

/// Payments spread over a large ledger, for those who look for something in it.
pub(super) fn keep_payments(network_dir: &Path, payments: &[ScopedId]) -> Result<()> {
    let file = network_dir.join(PAYMENTS);
    std::fs::write(&file, codec::encode(payments)).with_context(|| format!("cannot write {}", file.display()))
}

/// What [`keep_payments`] kept; nothing if the ledger was not written by `anji bench grow`.
pub(super) fn load_payments(network_dir: &Path) -> Result<Vec<ScopedId>> {
    let file = network_dir.join(PAYMENTS);
    if !file.exists() {
        return Ok(Vec::new());
    }
    let bytes = std::fs::read(&file).with_context(|| format!("{}: cannot be read", file.display()))?;
    codec::decode(&bytes).map_err(|reject| anyhow!("{}: not understood: {reject}", file.display()))
}

pub(super) async fn run(args: &SetupArgs) -> Result<()> {
    let (acquirer, issuer) = Bank::load(&args.common.network_dir)?;
    let (mut front, mut back) = (acquirer.connect()?, issuer.connect()?);
    let chain = front.chain_info().await?;
    eprintln!("chain {} at height {}", hex::encode(&chain.chain_id), chain.height);
    let plan = Plan::new(&chain)?;
    let (acquirer, issuer) = (Signer::new(&acquirer, &plan), Signer::new(&issuer, &plan));
    let mut mandates = Vec::new();
    let mut left = args.mandates;
    while left > 0 {
        let count = left.min(1000);
        left -= count;
        let proposed = plan.propose(count);
        let ids: Vec<_> = proposed.iter().map(|op| acquirer.mandate_id(op)).collect();
        client::all_done(&front.submit(acquirer.sign(&proposed)?).await?)?;
        client::all_done(&back.submit(issuer.sign(&plan.activate(&ids))?).await?)?;
        mandates.extend(ids);
    }
    eprintln!("{} mandates are active", mandates.len());
    keep(&args.common.network_dir, &mandates)
}
