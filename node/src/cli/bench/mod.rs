//! `anji bench`: load on a running network, through gRPC as any wallet would send it. Figures first: how many payments a second become
//! final in batches of 1,000, and how long one payment alone takes.

mod client;
mod work;

use anyhow::{Context, Result, ensure};
use clap::Args;
use client::{Bank, Client};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use work::{Plan, Signer};

const LONG: &str = "\
Puts load on a running network and prints what it measured. It speaks gRPC to the acquirer's and the issuer's node with the keys and
tokens of the network folder, so it is for networks made by `anji init` on one machine, not for one in earnest.

  anji bench --network-dir devnet/.run/net
  anji bench --network-dir devnet/.run/net --seconds 60 --in-flight 24 --json bench.json

Every payment is a real one: a mandate with guarantee, assertion, consent and disclosure behind it, all checks on, the answer given
after the block is durable and executed on the node that answers. Batches are signed before the clock starts.

The load is closed-loop: a new batch goes out when one is answered. The latency of one payment alone is that of batches of one
operation on an otherwise idle network, from the call to the receipt.";

/// `anji bench`.
#[derive(Args)]
#[command(long_about = LONG)]
pub(crate) struct BenchArgs {
    /// The folder that `anji init` made.
    #[arg(long, value_name = "DIR")]
    network_dir: PathBuf,
    /// Payments of a batch.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Batches under way at a time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=64))]
    in_flight: u32,
    /// Seconds measured, after the warm-up.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Seconds of load that are not counted.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=600))]
    warmup: u64,
    /// Mandates the payments are spread over.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    mandates: u32,
    /// Payments sent one after another for the latency of one alone.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    alone: u32,
    /// Writes the figures as JSON too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What the load did while it was measured.
#[derive(Default)]
struct Tally {
    done: AtomicU64,
    refused: AtomicU64,
}

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    crate::process::block_on(bench(args))
}

async fn bench(args: &BenchArgs) -> Result<()> {
    let (acquirer, issuer) = Bank::load(&args.network_dir)?;
    let mut client = acquirer.connect()?;
    let chain = client.chain_info().await?;
    eprintln!("chain {} at height {}", hex::encode(&chain.chain_id), chain.height);
    let plan = Plan::new(&chain, args.mandates)?;
    let (acquirer_signer, issuer_signer) = (Signer::new(&acquirer, &plan), Signer::new(&issuer, &plan));

    eprintln!("opening {} mandates", args.mandates);
    let mandates =
        Arc::new(open_mandates(&plan, &mut client, &mut issuer.connect()?, &acquirer_signer, &issuer_signer).await?);

    let alone = one_alone(&plan, &mandates, &acquirer_signer, &mut client, args.alone).await?;
    let (rate, tally, windows) = load(args, &plan, &mandates, &acquirer_signer, &client).await?;

    let (p50, p99) = (quantile(&alone, 50), quantile(&alone, 99));
    println!("{:<34} {:>12} unit", "figure", "value");
    let name = format!("pay_per_s_batch_{}", args.batch);
    println!("{name:<34} {rate:>12.0} payments/s (slowest and fastest second {:.0} and {:.0})", windows.0, windows.1);
    println!("{:<34} {:>12}", "payments_done", tally.done.load(Ordering::Relaxed));
    println!("{:<34} {:>12}", "payments_refused", tally.refused.load(Ordering::Relaxed));
    println!("{:<34} {p50:>12.1} ms", "one_alone_ms_p50");
    println!("{:<34} {p99:>12.1} ms", "one_alone_ms_p99");
    if let Some(file) = &args.json {
        let value = json!({ "rows": [
            { "name": name, "value": rate, "unit": "payments/s" },
            { "name": "one_alone_ms_p50", "value": p50, "unit": "ms" },
            { "name": "one_alone_ms_p99", "value": p99, "unit": "ms" },
        ], "seconds": args.seconds, "in_flight": args.in_flight, "mandates": args.mandates });
        std::fs::write(file, serde_json::to_string_pretty(&value)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let refused = tally.refused.load(Ordering::Relaxed);
    ensure!(refused == 0, "{refused} payments were refused; the figures are not those of payments");
    Ok(())
}

/// Proposes and activates the mandates, in batches.
async fn open_mandates(
    plan: &Plan,
    front: &mut Client,
    back: &mut Client,
    acquirer: &Signer,
    issuer: &Signer,
) -> Result<Vec<anji_contracts::types::MandateId>> {
    let mut mandates = Vec::new();
    let mut left = plan.mandates;
    while left > 0 {
        let count = left.min(1000);
        left -= count;
        let proposed = plan.propose(count);
        let ids: Vec<_> = proposed.iter().map(|op| acquirer.mandate_id(op)).collect();
        client::all_done(&front.submit(acquirer.sign(&proposed)?).await?)?;
        let activated = plan.activate(&ids);
        client::all_done(&back.submit(issuer.sign(&activated)?).await?)?;
        mandates.extend(ids);
    }
    Ok(mandates)
}

/// Milliseconds of one payment after another on an idle network.
async fn one_alone(
    plan: &Plan,
    mandates: &[anji_contracts::types::MandateId],
    signer: &Signer,
    client: &mut Client,
    count: u32,
) -> Result<Vec<f64>> {
    eprintln!("one payment at a time, {count} times");
    let mut taken = Vec::new();
    for index in 0..count {
        let batch = signer.sign(&plan.pay(mandates, u64::from(index), 1))?;
        let started = Instant::now();
        let receipts = client.submit(batch).await?;
        taken.push(started.elapsed().as_secs_f64() * 1000.0);
        client::all_done(&receipts)?;
    }
    Ok(taken)
}

/// Closed-loop load: payments a second over the measured time, what became of them, slowest and fastest second.
async fn load(
    args: &BenchArgs,
    plan: &Plan,
    mandates: &Arc<Vec<anji_contracts::types::MandateId>>,
    signer: &Signer,
    client: &Client,
) -> Result<(f64, Arc<Tally>, (f64, f64))> {
    // Signed ahead by a thread of its own, at most so many batches, so that signing never limits the rate for long.
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Vec<u8>>>(256);
    let stop = Arc::new(AtomicBool::new(false));
    let producer = {
        let (plan, mandates, signer, stop, size) =
            (plan.clone(), Arc::clone(mandates), signer.clone(), Arc::clone(&stop), args.batch);
        std::thread::spawn(move || {
            let mut first = 1_000_000u64;
            while !stop.load(Ordering::Relaxed) {
                let batch = signer.sign(&plan.pay(&mandates, first, size));
                first += u64::from(size);
                if sender.blocking_send(batch).is_err() {
                    return;
                }
            }
        })
    };
    eprintln!("signing ahead");
    let receiver = Arc::new(Mutex::new(receiver));
    while receiver.lock().await.len() < 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    eprintln!(
        "load: {} batches of {} under way, {} s and {} s of warm-up",
        args.in_flight, args.batch, args.seconds, args.warmup
    );
    let tally = Arc::new(Tally::default());
    let counting = Arc::new(AtomicBool::new(false));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..args.in_flight {
        let (mut client, receiver, tally) = (client.clone(), Arc::clone(&receiver), Arc::clone(&tally));
        let (stop, counting) = (Arc::clone(&stop), Arc::clone(&counting));
        workers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let Some(batch) = receiver.lock().await.recv().await else { break };
                let receipts = client.submit(batch?).await?;
                if counting.load(Ordering::Relaxed) {
                    let refused = client::refused(&receipts);
                    tally.done.fetch_add(receipts.receipts.len() as u64 - refused, Ordering::Relaxed);
                    tally.refused.fetch_add(refused, Ordering::Relaxed);
                }
            }
            anyhow::Ok(())
        });
    }
    tokio::time::sleep(Duration::from_secs(args.warmup)).await;
    counting.store(true, Ordering::Relaxed);
    let started = Instant::now();
    let (mut slowest, mut fastest, mut before) = (f64::MAX, 0.0f64, 0u64);
    for second in 1..=args.seconds {
        tokio::time::sleep_until((started + Duration::from_secs(second)).into()).await;
        let done = tally.done.load(Ordering::Relaxed);
        let rate = (done - before) as f64;
        before = done;
        (slowest, fastest) = (slowest.min(rate), fastest.max(rate));
        eprintln!("{second:>4} s  {rate:>8.0} payments/s");
        if let Some(ended) = workers.try_join_next() {
            ended??;
        }
    }
    counting.store(false, Ordering::Relaxed);
    let rate = tally.done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    drop(receiver);
    producer.join().map_err(|_| anyhow::anyhow!("the signing thread panicked"))?;
    Ok((rate, tally, (slowest, fastest)))
}

/// Nearest-rank quantile in per cent.
fn quantile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(rank).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_are_nearest_rank() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&values, 50), 50.0);
        assert_eq!(quantile(&values, 99), 99.0);
        assert_eq!(quantile(&[7.0], 99), 7.0);
    }
}
