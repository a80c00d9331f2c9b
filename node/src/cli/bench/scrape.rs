//! What the nodes and the machine say of themselves while they are measured: counters before and after, and who else used the CPU.

use super::client::NodeSummary;
use super::rows::{Row, quantile};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Counters of one node by name and label.
pub(super) type Counters = BTreeMap<String, f64>;

/// Reads a node's metrics page.
pub(super) fn counters(metrics: SocketAddr) -> Result<Counters> {
    let context = || format!("{metrics}: the metrics cannot be read");
    let mut stream = TcpStream::connect_timeout(&metrics, Duration::from_secs(2)).with_context(context)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").with_context(context)?;
    let mut page = String::new();
    stream.read_to_string(&mut page).with_context(context)?;
    if !page.starts_with("HTTP/1.1 200") {
        bail!("{metrics}: {}", page.lines().next().unwrap_or("no answer"));
    }
    Ok(parse(&page))
}

fn parse(page: &str) -> Counters {
    let line = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    page.lines().filter(|it| it.starts_with("anji_")).filter_map(line).collect()
}

/// All nodes and the machine at one moment.
pub(super) struct Moment {
    at: Instant,
    nodes: Vec<(String, bool, Option<Counters>)>,
    /// Busy and all CPU time of the machine, in ticks.
    machine: (f64, f64),
    own_cpu: f64,
}

impl Moment {
    /// Now. A node that does not answer is left out.
    pub(super) fn now(nodes: &[NodeSummary]) -> Self {
        let read = |node: &NodeSummary| (node.name.clone(), node.is_validator(), counters(node.metrics).ok());
        Self {
            at: Instant::now(),
            nodes: nodes.iter().map(read).collect(),
            machine: machine_ticks(),
            own_cpu: own_cpu(),
        }
    }

    /// What happened on every node since `before`: validators, then others.
    fn since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (bool, Spent)> + 'a {
        self.nodes.iter().zip(&before.nodes).filter_map(|((_, validator, now), (_, _, then))| {
            Some((*validator, Spent::between(then.as_ref()?, now.as_ref()?)))
        })
    }

    /// The share of the machine's CPU that neither the nodes nor this load used.
    pub(super) fn foreign_share(&self, before: &Self) -> f64 {
        let nodes: f64 = self.since(before).map(|(_, spent)| spent.process).sum();
        let own = self.own_cpu - before.own_cpu;
        let (busy, all) = (self.machine.0 - before.machine.0, self.machine.1 - before.machine.1);
        let ours = (nodes + own) * 100.0;
        ((busy - ours) / all.max(1.0)).max(0.0)
    }

    pub(super) fn seconds_since(&self, before: &Self) -> f64 {
        (self.at - before.at).as_secs_f64()
    }

    /// The most memory that any validator used so far, in MiB.
    pub(super) fn peak_mib(&self) -> f64 {
        let peaks =
            self.nodes.iter().filter_map(|(_, _, it)| it.as_ref()?.get("anji_process_peak_resident_bytes").copied());
        peaks.fold(0.0, f64::max) / f64::from(1 << 20)
    }
}

/// The stages of the table.
const STAGES: [&str; 10] =
    ["receive", "verify", "spread", "order", "execute", "tree", "store", "reply", "rest", "total"];

/// CPU seconds of one node, by stage.
struct Spent {
    stages: [f64; STAGES.len()],
    process: f64,
}

impl Spent {
    fn between(before: &Counters, now: &Counters) -> Self {
        let of = |name: &str| now.get(name).copied().unwrap_or(0.0) - before.get(name).copied().unwrap_or(0.0);
        let stage = |name: &str| of(&format!("anji_cpu_stage_seconds_total{{stage=\"{name}\"}}"));
        let threads = |name: &str| of(&format!("anji_cpu_threads_seconds_total{{threads=\"{name}\"}}"));
        let (verify, reply) = (stage("verify"), stage("reply"));
        // gRPC and what is judged on arrival share threads.
        let receive = (threads("anji-main") - verify - reply).max(0.0);
        let tables = threads("rocksdb:low") + threads("rocksdb:high") + threads("anji-sums");
        let (spread, order) = (threads("anji-network"), threads("anji-order"));
        let (execute, tree, store) = (stage("execute"), stage("tree"), stage("store") + tables);
        let process = of("anji_process_cpu_seconds_total");
        let named = receive + verify + spread + order + execute + tree + store + reply;
        let rest = (process - named).max(0.0);
        Self { stages: [receive, verify, spread, order, execute, tree, store, reply, rest, process], process }
    }
}

/// CPU microseconds per payment of a validator by stage, the mean of the validators; medians over the windows.
pub(super) fn cpu_rows(prefix: &str, windows: &[(Moment, Moment, u64)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (place, stage) in STAGES.into_iter().enumerate() {
        let per_window = |(before, after, payments): &(Moment, Moment, u64)| {
            let spent: Vec<f64> =
                after.since(before).filter(|(validator, _)| *validator).map(|(_, spent)| spent.stages[place]).collect();
            spent.iter().sum::<f64>() / (spent.len().max(1) as f64) * 1e6 / (*payments).max(1) as f64
        };
        let values: Vec<f64> = windows.iter().map(per_window).collect();
        rows.push(Row::of(format!("{prefix}_cpu_us_{stage}"), &values, "µs"));
    }
    let client: Vec<f64> = windows
        .iter()
        .map(|(before, after, payments)| (after.own_cpu - before.own_cpu) * 1e6 / (*payments).max(1) as f64)
        .collect();
    rows.push(
        Row::of(format!("{prefix}_cpu_us_load_client"), &client, "µs").with_note("this program: signing and calling"),
    );
    rows
}

/// A note on how quiet the machine was.
pub(super) fn load_note(windows: &[(Moment, Moment, u64)]) -> String {
    let shares: Vec<f64> = windows.iter().map(|(before, after, _)| after.foreign_share(before)).collect();
    format!("others used {:.0} % of the CPU", quantile(&shares, 0.5) * 100.0)
}

/// Waits until the machine has nothing to do, two minutes at most: what an earlier load left behind, compactions and trees of closed windows
/// above all, is not the next window's.
pub(super) async fn quiet() {
    const SAMPLE: Duration = Duration::from_millis(250);
    let (mut begun, mut in_a_row, mut before) = (Instant::now(), 0, machine_ticks());
    let until = begun + Duration::from_secs(120);
    while in_a_row < 4 && Instant::now() < until {
        tokio::time::sleep(SAMPLE).await;
        let now = machine_ticks();
        let busy = (now.0 - before.0) / (now.1 - before.1).max(1.0);
        in_a_row = if busy < 0.06 { in_a_row + 1 } else { 0 };
        before = now;
        if begun.elapsed() > Duration::from_secs(3) {
            begun = Instant::now();
            eprintln!("waiting until the machine is quiet, {:.0} % busy", busy * 100.0);
        }
    }
}

fn machine_ticks() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|it| it.parse().ok())
        .collect();
    let all: f64 = fields.iter().sum();
    let idle: f64 = fields.iter().skip(3).take(2).sum();
    (all - idle, all)
}

fn own_cpu() -> f64 {
    let own = anji_meter::text();
    parse(&own).get("anji_process_cpu_seconds_total").copied().unwrap_or(0.0)
}

/// Bytes of all files below a folder.
pub(super) fn folder_bytes(folder: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(it) if it.is_dir() => folder_bytes(&entry.path()),
            // What is really taken up: files may be longer than what was written, or shorter than the space set aside.
            Ok(it) => it.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_add_up_to_the_process() {
        let page = "anji_cpu_stage_seconds_total{stage=\"verify\"} 2\nanji_cpu_threads_seconds_total{threads=\"anji-main\"} 5\n\
            anji_cpu_threads_seconds_total{threads=\"anji-order\"} 1\nanji_process_cpu_seconds_total 10\nother 3\n";
        let spent = Spent::between(&Counters::new(), &parse(page));
        let named: f64 = spent.stages[..STAGES.len() - 1].iter().sum();
        assert_eq!((named, spent.process), (10.0, 10.0));
        assert_eq!(spent.stages[0], 3.0, "what the main threads did beside verifying");
    }
}
