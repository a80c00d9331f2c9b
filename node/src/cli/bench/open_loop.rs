//! Open loop: batches arrive by a Poisson process at a given rate, whether or not the network keeps up. A latency counts from the moment
//! the batch should have been sent, so a stall delays everything that arrives during it and hides nothing.

use super::Common;
use super::client;
use super::load::latency_rows;
use super::rows::Row;
use super::scrape::{self, Moment};
use super::setup::Session;
use anyhow::{Result, ensure};
use clap::Args;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

#[derive(Args)]
pub(super) struct OpenArgs {
    #[command(flatten)]
    common: Common,
    /// What the rows are called.
    #[arg(long)]
    name: String,
    /// Payments a second on average.
    #[arg(long)]
    rate: f64,
    /// Payments of a batch.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Windows measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    windows: u32,
    /// Seconds of a window.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Seconds before each window that are not counted.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=600))]
    warmup: u64,
    /// The network executes nothing (`[benchmark] bare`).
    #[arg(long)]
    bare: bool,
}

/// When something arrives, and what.
struct Arrival {
    after: Duration,
    batch: Vec<u8>,
}

pub(super) async fn run(args: &OpenArgs) -> Result<()> {
    ensure!(args.rate > 0.0, "`--rate` must be above zero");
    let session = Session::open(&args.common.network_dir, args.bare).await?;
    let nodes = client::nodes(&args.common.network_dir)?;
    let (mut latencies, mut rates, mut windows) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=args.windows {
        let arrivals = sign(args, &session)?;
        scrape::quiet().await;
        let before = Moment::now(&nodes);
        let taken = window(args, &session, arrivals).await?;
        let after = Moment::now(&nodes);
        let payments = taken.len() as u64 * u64::from(args.batch);
        // Answered over the time until the last answer: what arrives is all answered, so this falls short only if the network does.
        let span = taken.iter().map(|(at, took)| *at + *took).max().unwrap_or_default().as_secs_f64();
        rates.push(payments as f64 / (span - args.warmup as f64).max(args.seconds as f64));
        latencies.push(taken.iter().map(|(_, took)| took.as_secs_f64() * 1000.0).collect::<Vec<f64>>());
        eprintln!("{}: window {number} of {} done, {} batches", args.name, args.windows, taken.len());
        windows.push((before, after, payments));
    }
    let note = format!(
        "Poisson, {:.0} payments/s in batches of {}, from the intended time; {}",
        args.rate,
        args.batch,
        scrape::load_note(&windows)
    );
    let mut rows = latency_rows(&args.name, &latencies, &note);
    rows.push(Row::of(format!("{}_answered_per_s", args.name), &rates, "payments/s"));
    args.common.rows().add(&rows)
}

/// All batches of a window with their times, signed before it begins.
fn sign(args: &OpenArgs, session: &Session) -> Result<Vec<Arrival>> {
    let batches_per_s = args.rate / f64::from(args.batch);
    let until = Duration::from_secs(args.warmup + args.seconds);
    let (mut arrivals, mut after, mut first) = (Vec::new(), Duration::ZERO, u64::from(rand::random::<u32>()));
    let mut told = Instant::now();
    loop {
        // The time between two arrivals of a Poisson process; the argument of the logarithm is in (0, 1].
        let wait = -(1.0 - rand::random::<f64>()).ln() / batches_per_s;
        after += Duration::from_secs_f64(wait);
        if after >= until {
            return Ok(arrivals);
        }
        let batch = session.signer.sign(&session.plan.pay(&session.mandates, first, args.batch))?;
        first += u64::from(args.batch);
        arrivals.push(Arrival { after, batch });
        if told.elapsed() > Duration::from_secs(3) {
            told = Instant::now();
            eprintln!("{}: signing, at {:.0} s of {} s", args.name, after.as_secs_f64(), until.as_secs());
        }
    }
}

/// (intended time, latency) of everything that arrived after the warm-up.
async fn window(args: &OpenArgs, session: &Session, arrivals: Vec<Arrival>) -> Result<Vec<(Duration, Duration)>> {
    let warmup = Duration::from_secs(args.warmup);
    let started = Instant::now() + Duration::from_millis(50);
    let mut under_way = JoinSet::new();
    let mut taken = Vec::with_capacity(arrivals.len());
    let mut told = Instant::now();
    for Arrival { after, batch } in arrivals {
        let intended = started + after;
        tokio::time::sleep_until(intended.into()).await;
        let (mut client, bare) = (session.client.clone(), args.bare);
        under_way.spawn(async move {
            let receipts = client.submit(batch).await?;
            let took = intended.elapsed();
            if !bare {
                client::all_done(&receipts)?;
            }
            anyhow::Ok((after, took))
        });
        while let Some(done) = under_way.try_join_next() {
            taken.push(done??);
        }
        if told.elapsed() > Duration::from_secs(3) {
            told = Instant::now();
            eprintln!("{}: {:>3.0} s, {} under way", args.name, after.as_secs_f64(), under_way.len());
        }
    }
    while let Some(done) = under_way.join_next().await {
        taken.push(done??);
    }
    taken.retain(|(after, _)| *after >= warmup);
    Ok(taken)
}
