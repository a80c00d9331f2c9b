//! How long a bundle takes: a node makes one for a payment, over gRPC as a wallet asks for it, and this process checks it with a trust file.

use super::Common;
use super::client::{self, Bank};
use super::load::latency_rows;
use super::rows::{Row, quantile};
use super::scrape;
use super::setup::{Session, load_payments};
use crate::{config, genesis};
use anji_contracts::types::{OpId, ParticipantId, ScopedId};
use anji_proto::v1 as pb;
use anji_verify::bundle::{self, Trust};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::time::{Duration, Instant};

/// Payments of a batch, where the ledger has none that is known.
const BATCH: u32 = 20;

#[derive(Args)]
pub(super) struct EvidenceArgs {
    #[command(flatten)]
    common: Common,
    /// What the rows are called.
    #[arg(long, default_value = "evidence")]
    name: String,
    /// Bundles of a window, each for another payment.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// Windows.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    windows: u32,
}

pub(super) async fn run(args: &EvidenceArgs) -> Result<()> {
    let network_dir = &args.common.network_dir;
    let (acquirer, _) = Bank::load(network_dir)?;
    let settings = config::load(&network_dir.join("acquirer/config.toml"))?;
    let trust = Trust::of_genesis(&genesis::read(&settings.genesis)?).context("genesis names no valid validators")?;
    let known = load_payments(network_dir)?;
    let payments = if known.is_empty() { pay(args, acquirer.participant).await? } else { known };
    let mut client = acquirer.connect_evidence()?;
    let (mut made, mut verified, mut sizes, mut entries) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let mut told = Instant::now();
    for number in 1..=args.windows {
        scrape::quiet().await;
        let (mut making, mut verifying, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..args.count {
            // Anywhere in the ledger, so that what is read is rarely what was read before.
            let place = rand::random::<u64>() % payments.len() as u64;
            let payment = payments.get(usize::try_from(place)?).context("there are no payments")?;
            let started = Instant::now();
            let bundle = client.bundle_of(payment).await?;
            making.push(started.elapsed().as_secs_f64() * 1000.0);
            let started = Instant::now();
            let proven = bundle::verify(&bundle, &trust).map_err(|error| anyhow::anyhow!("{payment}: {error}"))?;
            verifying.push(started.elapsed().as_secs_f64() * 1000.0);
            ensure!(proven.statements.len() == 2, "{payment}: the operation and its payment were to be proven");
            bytes.push(bundle.len() as f64);
            entries = proven.log.size;
            if told.elapsed() > Duration::from_secs(3) {
                told = Instant::now();
                eprintln!("evidence: window {number}, {} of {}", index + 1, args.count);
            }
        }
        sizes.push(quantile(&bytes, 0.5));
        made.push(making);
        verified.push(verifying);
    }
    let of = format!("an operation and its payment's state now, one of {} payments at random", payments.len());
    let called = |what: &str| format!("{}_{what}", args.name);
    let mut rows = latency_rows(&called("made"), &made, &format!("{of}; from the call to the last byte, gRPC"));
    rows.extend(latency_rows(&called("verified"), &verified, &format!("{of}; with a trust file")));
    rows.push(Row::of(called("bytes"), &sizes, "bytes"));
    rows.push(Row::one(called("ledger_entries"), entries as f64, "entries"));
    args.common.rows().add(&rows)
}

/// Payments to ask for, where nobody noted any.
async fn pay(args: &EvidenceArgs, participant: u32) -> Result<Vec<ScopedId>> {
    let mut session = Session::open(&args.common.network_dir, false).await?;
    let mut payments = Vec::new();
    for first in 0..u64::from(args.count.div_ceil(BATCH)) {
        let ops = session.plan.pay(&session.mandates, first * u64::from(BATCH), BATCH);
        let receipts = session.client.submit(session.signer.sign(&ops)?).await?;
        client::all_done(&receipts)?;
        let id = |op_id: OpId| ScopedId { participant: ParticipantId(participant), op_id };
        payments.extend(ops.iter().map(|op| id(op.op_id)));
    }
    Ok(payments)
}

impl client::EvidenceClient {
    /// The bundle of a payment; what is not final yet is asked for again.
    async fn bundle_of(&mut self, payment: &ScopedId) -> Result<Vec<u8>> {
        let id = pb::Id { participant: payment.participant.0, op_id: payment.op_id.0.to_be_bytes().to_vec() };
        let entity = pb::EvidenceEntity { key: Some(pb::evidence_entity::Key::Payment(id.clone())) };
        let claims = [pb::evidence_claim::About::Operation(id), pb::evidence_claim::About::Entity(entity)];
        self.get(&claims.map(|about| pb::EvidenceClaim { about: Some(about), height: 0 })).await
    }
}
