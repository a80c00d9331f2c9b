//! Closed loop: a new batch goes out when one is answered, so the network is as full as it gets. Windows of equal length, each with a
//! warm-up that does not count; the median is the figure.

use super::Common;
use super::client::{self, Client, NodeSummary};
use super::rows::{Row, quantile};
use super::scrape::{self, Moment, folder_bytes};
use super::setup::Session;
use anji_proto::v1::submit_batches_response::Answer;
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

#[derive(Args)]
pub(super) struct LoadArgs {
    #[command(flatten)]
    common: Common,
    /// What the rows are called.
    #[arg(long)]
    name: String,
    /// Payments of a batch; batches of one go through streams, as single calls would measure HTTP.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Batches under way at a time.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=2048))]
    in_flight: u32,
    /// Windows measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    windows: u32,
    /// Seconds of a window.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Seconds of load before each window that are not counted.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=600))]
    warmup: u64,
    /// Signs batches while the load runs; otherwise they are signed before each window.
    #[arg(long)]
    live: bool,
    /// The network executes nothing (`[benchmark] bare`): empty answers are right.
    #[arg(long)]
    bare: bool,
    /// Adds CPU by stage, memory and disk.
    #[arg(long)]
    costs: bool,
}

/// What the load did while it was counted.
#[derive(Default)]
struct Tally {
    payments: AtomicU64,
    refused: AtomicU64,
    counting: AtomicBool,
    stop: AtomicBool,
}

impl Tally {
    fn add(&self, payments: u64, refused: u64) {
        if self.counting.load(Ordering::Relaxed) {
            self.payments.fetch_add(payments - refused, Ordering::Relaxed);
            self.refused.fetch_add(refused, Ordering::Relaxed);
        }
    }
}

type Batches = Arc<Mutex<mpsc::Receiver<Result<Vec<u8>>>>>;

pub(super) async fn run(args: &LoadArgs) -> Result<()> {
    let dir = &args.common.network_dir;
    let session = Arc::new(Session::open(dir, args.bare).await?);
    let nodes = client::nodes(dir)?;
    let mut windows = Vec::new();
    let (mut rates, mut bytes_sent, mut payments_sent) = (Vec::new(), 0, 0);
    let disk_before = validators_bytes(dir, &nodes);
    // Signing a batch takes about as long for one payment as for many.
    let mut guess = if args.batch == 1 { 8_000.0 } else { 40_000.0 };
    for number in 1..=args.windows {
        let outcome = window(args, &session, &nodes, guess).await?;
        let rate = outcome.payments as f64 / outcome.after.seconds_since(&outcome.before);
        eprintln!("{}: window {number} of {}: {rate:.0} payments/s", args.name, args.windows);
        ensure!(
            outcome.refused == 0,
            "{} payments were refused; the figures are not those of payments",
            outcome.refused
        );
        bytes_sent += outcome.bytes_sent;
        payments_sent += outcome.payments_sent;
        rates.push(rate);
        guess = rate * 1.2;
        windows.push((outcome.before, outcome.after, outcome.payments));
    }
    let how = if args.live { "signed while sent" } else { "signed before" };
    let note =
        format!("batches of {}, {how}, closed loop of {}, {}", args.batch, args.in_flight, scrape::load_note(&windows));
    let mut rows = vec![Row::of(format!("{}_per_s", args.name), &rates, "payments/s").with_note(note)];
    let batch_bytes = bytes_sent as f64 / (payments_sent.max(1)) as f64;
    let bytes: Vec<f64> = rates.iter().map(|rate| rate * batch_bytes).collect();
    rows.push(Row::of(format!("{}_bytes_per_s", args.name), &bytes, "bytes/s"));
    if args.costs {
        rows.extend(scrape::cpu_rows(&args.name, &windows));
        let peak = windows.last().map_or(f64::NAN, |(_, after, _)| after.peak_mib());
        rows.push(Row::one(format!("{}_memory_mib_peak", args.name), peak, "MiB").with_note("the largest validator"));
        let grown = validators_bytes(dir, &nodes).saturating_sub(disk_before) as f64;
        let per_validator = grown / nodes.iter().filter(|it| it.is_validator()).count().max(1) as f64;
        let per_payment = per_validator / payments_sent.max(1) as f64;
        rows.push(
            Row::one(format!("{}_disk_bytes_per_payment", args.name), per_payment, "bytes").with_note("a validator"),
        );
        rows.push(Row::one(format!("{}_disk_bytes_per_byte", args.name), per_payment / batch_bytes, ""));
    }
    args.common.rows().add(&rows)
}

fn validators_bytes(dir: &Path, nodes: &[NodeSummary]) -> u64 {
    nodes.iter().filter(|it| it.is_validator()).map(|it| folder_bytes(&dir.join(&it.name).join("data"))).sum()
}

struct Outcome {
    payments: u64,
    refused: u64,
    before: Moment,
    after: Moment,
    /// Warm-up and end included.
    payments_sent: u64,
    bytes_sent: u64,
}

async fn window(args: &LoadArgs, session: &Arc<Session>, nodes: &[NodeSummary], guess: f64) -> Result<Outcome> {
    let tally = Arc::new(Tally::default());
    let ahead = if args.live { 8 } else { batches_ahead(args, guess) };
    let (sender, receiver) = mpsc::channel(ahead);
    let sent = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let producer = {
        let (session, tally, size, sent) = (Arc::clone(session), Arc::clone(&tally), args.batch, Arc::clone(&sent));
        // What was signed before the window is for the window: more is signed only when it runs out, so that signing is not measured.
        let refill_at = if args.live { ahead } else { ahead / 8 };
        std::thread::Builder::new().name("bench-signer".into()).spawn(move || {
            let mut first = rand::random::<u32>().into();
            let mut ready = false;
            while !tally.stop.load(Ordering::Relaxed) {
                ready |= sender.capacity() == 0;
                if ready && sender.max_capacity() - sender.capacity() > refill_at {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
                let batch = session.signer.sign(&session.plan.pay(&session.mandates, first, size));
                first += u64::from(size);
                let bytes = batch.as_ref().map_or(0, Vec::len) as u64;
                if sender.blocking_send(batch).is_err() {
                    return;
                }
                sent.0.fetch_add(u64::from(size), Ordering::Relaxed);
                sent.1.fetch_add(bytes, Ordering::Relaxed);
            }
        })?
    };
    let mut told = Instant::now();
    while !args.live && receiver.len() < ahead {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if told.elapsed() > Duration::from_secs(3) {
            told = Instant::now();
            eprintln!("{}: signed {} of {ahead} batches", args.name, receiver.len());
        }
    }
    scrape::quiet().await;
    let batches: Batches = Arc::new(Mutex::new(receiver));
    let mut workers = JoinSet::new();
    if args.batch == 1 {
        for _ in 0..args.in_flight.div_ceil(STREAM_DEPTH) {
            workers.spawn(stream(
                session.client.clone(),
                Arc::clone(&batches),
                Arc::clone(&tally),
                args.in_flight.min(STREAM_DEPTH),
            ));
        }
    } else {
        for _ in 0..args.in_flight {
            workers.spawn(calls(
                session.client.clone(),
                Arc::clone(&batches),
                Arc::clone(&tally),
                args.batch,
                args.bare,
            ));
        }
    }
    tokio::time::sleep(Duration::from_secs(args.warmup)).await;
    let before = Moment::now(nodes);
    tally.counting.store(true, Ordering::Relaxed);
    let started = Instant::now();
    let mut seen = 0;
    for second in 1..=args.seconds {
        tokio::time::sleep_until((started + Duration::from_secs(second)).into()).await;
        if second % 2 == 0 {
            let done = tally.payments.load(Ordering::Relaxed);
            eprintln!("{}: {second:>3} s {:>9} payments/s", args.name, (done - seen) / 2);
            seen = done;
        }
        if let Some(ended) = workers.try_join_next() {
            ended??;
        }
    }
    tally.counting.store(false, Ordering::Relaxed);
    let after = Moment::now(nodes);
    let payments = tally.payments.load(Ordering::Relaxed);
    tally.stop.store(true, Ordering::Relaxed);
    // The signing thread may wait for room: take what it has until it is gone.
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    // Those that were signed and never sent do not count.
    let left = {
        let mut queue = batches.lock().await;
        let left = queue.len();
        queue.close();
        left as u64
    };
    drop(batches);
    producer.join().map_err(|_| anyhow!("the signing thread panicked"))?;
    let (all, bytes) = (sent.0.load(Ordering::Relaxed), sent.1.load(Ordering::Relaxed));
    let payments_sent = all.saturating_sub(left * u64::from(args.batch));
    let bytes_sent = bytes / all.max(1) * payments_sent;
    Ok(Outcome { payments, refused: tally.refused.load(Ordering::Relaxed), before, after, payments_sent, bytes_sent })
}

/// How many batches to sign before a window: all that it will take if it is a little faster than expected, within reason.
fn batches_ahead(args: &LoadArgs, guess: f64) -> usize {
    let payments = guess * (args.seconds + args.warmup) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let batches = (payments / f64::from(args.batch)) as usize;
    // About 300 bytes a payment: half a gigabyte at most.
    batches.clamp(64, 1_500_000 / args.batch as usize)
}

/// One call after another.
async fn calls(mut client: Client, batches: Batches, tally: Arc<Tally>, size: u32, bare: bool) -> Result<()> {
    while !tally.stop.load(Ordering::Relaxed) {
        let Some(batch) = batches.lock().await.recv().await else { break };
        let receipts = client.submit(batch?).await?;
        ensure!(bare == receipts.receipts.is_empty(), "the network is bare, or is not, against what was said");
        tally.add(u64::from(size), client::refused(&receipts));
    }
    Ok(())
}

/// Batches of one that a stream may have under way.
const STREAM_DEPTH: u32 = 64;

/// A stream that is kept full of batches of one.
async fn stream(mut client: Client, batches: Batches, tally: Arc<Tally>, depth: u32) -> Result<()> {
    let (sender, mut answers) = client.converse().await?;
    let (mut under_way, mut tag) = (0, 0);
    loop {
        while under_way < depth && !tally.stop.load(Ordering::Relaxed) {
            let Some(batch) = batches.lock().await.recv().await else { break };
            tag += 1;
            sender.send(client.streamed(tag, batch?)).await.context("the stream is over")?;
            under_way += 1;
        }
        if under_way == 0 {
            return Ok(());
        }
        let answer = answers.message().await.context("the stream ended")?.context("the stream ended")?;
        under_way -= 1;
        match answer.answer {
            Some(Answer::Accepted(accepted)) => {
                tally.add(1, accepted.receipts.as_ref().map_or(0, client::refused));
            }
            // Full: it is slow enough now.
            Some(Answer::Error(error)) if error.retry_after_ms > 0 => {}
            Some(Answer::Error(error)) => bail!("a batch was not taken: {}: {}", error.reason, error.message),
            None => bail!("an answer without content"),
        }
    }
}

/// Milliseconds as p50, p99 and the number of samples; medians over the windows.
pub(super) fn latency_rows(name: &str, windows: &[Vec<f64>], note: &str) -> Vec<Row> {
    let of = |share: f64| -> Vec<f64> { windows.iter().map(|it| quantile(it, share)).collect() };
    let count: usize = windows.iter().map(Vec::len).sum();
    let note = format!("{count} samples; {note}");
    vec![
        Row::of(format!("{name}_ms_p50"), &of(0.5), "ms").with_note(note.clone()),
        Row::of(format!("{name}_ms_p99"), &of(0.99), "ms").with_note(note),
        Row::of(format!("{name}_ms_max"), &of(1.0), "ms"),
    ]
}
