//! The table and the JSON: every figure of the design with its bar, ratios made of rows of the same run, then everything else that was
//! measured. A figure that nothing has measured yet is shown as missing, never left out.

use super::rows::{self, Row, figure};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct ValueArgs {
    /// The file of rows.
    #[arg(long, value_name = "FILE")]
    rows: PathBuf,
    /// Which figure.
    #[arg(long)]
    name: String,
    /// Multiplied by this.
    #[arg(long, default_value_t = 1.0)]
    times: f64,
}

/// Prints one figure.
pub(super) fn value(args: &ValueArgs) -> Result<()> {
    let rows = rows::read(&args.rows)?;
    let row = rows.iter().find(|it| it.name == args.name);
    let row = row.with_context(|| format!("{}: there is no row {}", args.rows.display(), args.name))?;
    println!("{:.6}", row.value * args.times);
    Ok(())
}

#[derive(Args)]
pub(super) struct ReportArgs {
    /// The file of rows.
    #[arg(long, value_name = "FILE")]
    rows: PathBuf,
    /// Writes the table as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Rows of an earlier revision, measured in turn with these: prints the ratio of each figure.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Notes for the head of the table.
    #[arg(long, default_value = "")]
    note: String,
}

#[derive(Clone, Copy)]
enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

impl Bar {
    fn shown(self) -> String {
        match self {
            Self::AtLeast(bar) => format!(">= {bar}"),
            Self::AtMost(bar) => format!("<= {bar}"),
        }
    }

    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bar) => value >= bar,
            Self::AtMost(bar) => value <= bar,
        }
    }
}

/// How a figure of the design is made of rows.
enum From {
    Row(&'static str),
    Ratio(&'static str, &'static str),
    /// The first over the second, and that halved: two cores, four validators.
    OneSignature,
}

/// The figures of the design, in its order: name, what it is made of, unit, bar.
const FIGURES: [(&str, From, &str, Bar); 18] = [
    ("pay_over_bare", From::Ratio("pay_per_s_batch_1000", "bare_per_s"), "", Bar::AtLeast(0.12)),
    ("pay_over_bare_goal", From::Ratio("pay_per_s_batch_1000", "bare_per_s"), "", Bar::AtLeast(0.25)),
    ("pay_per_s_batch_1000", From::Row("pay_per_s_batch_1000"), "payments/s", Bar::AtLeast(20_000.0)),
    ("pay_per_s_batch_1000_next", From::Row("pay_per_s_batch_1000"), "payments/s", Bar::AtLeast(42_000.0)),
    ("one_signature_over_bound", From::OneSignature, "", Bar::AtLeast(0.25)),
    ("one_signature_over_bound_goal", From::OneSignature, "", Bar::AtLeast(0.5)),
    (
        "half_load_p99_over_bare",
        From::Ratio("finality_ms_p99_half_load", "bare_same_rate_ms_p99"),
        "",
        Bar::AtMost(2.0),
    ),
    ("one_alone_ms_p50", From::Row("one_alone_ms_p50"), "ms", Bar::AtMost(60.0)),
    ("one_alone_ms_p50_goal", From::Row("one_alone_ms_p50"), "ms", Bar::AtMost(30.0)),
    ("one_down_throughput", From::Ratio("one_down_answered_per_s", "healthy_answered_per_s"), "", Bar::AtLeast(0.9)),
    ("one_down_p99", From::Ratio("one_down_ms_p99", "healthy_ms_p99"), "", Bar::AtMost(2.0)),
    ("pay_with_10m_entries", From::Ratio("pay_10m_per_s", "pay_empty_per_s"), "", Bar::AtLeast(0.9)),
    ("executor_with_10m_entries", From::Ratio("grow_pay_per_s_at_10m", "grow_pay_per_s_at_0"), "", Bar::AtLeast(0.9)),
    ("disk_bytes_per_byte", From::Row("pay_disk_bytes_per_byte"), "", Bar::AtMost(5.0)),
    ("catch_up_over_live", From::Ratio("catch_up_per_s", "pay_per_s_batch_1000"), "", Bar::AtLeast(5.0)),
    ("evidence_bundle_made_ms_p99", From::Row("evidence_bundle_made_ms_p99"), "ms", Bar::AtMost(5.0)),
    ("evidence_bundle_verified_ms_p99", From::Row("evidence_bundle_verified_ms_p99"), "ms", Bar::AtMost(5.0)),
    ("evidence_ledger_entries", From::Row("evidence_ledger_entries"), "entries", Bar::AtLeast(10_000_000.0)),
];

impl From {
    fn value(&self, rows: &[Row]) -> Option<f64> {
        let of = |name: &str| rows.iter().find(|it| it.name == name).map(|it| it.value).filter(|it| it.is_finite());
        match self {
            Self::Row(name) => of(name),
            Self::Ratio(above, below) => Some(of(above)? / of(below)?),
            Self::OneSignature => Some(of("one_signature_per_s")? / (of("signatures_batch_per_s_core")? / 2.0)),
        }
    }

    /// The row whose spread and note say how good the figure is.
    const fn source(&self) -> &'static str {
        match self {
            Self::Row(name) | Self::Ratio(name, _) => name,
            Self::OneSignature => "one_signature_per_s",
        }
    }
}

/// Prints the table and writes the JSON.
pub(super) fn run(args: &ReportArgs) -> Result<()> {
    let rows = rows::read(&args.rows)?;
    if let Some(file) = &args.against {
        return compare(&rows, &rows::read(file)?);
    }
    let machine = machine();
    println!("machine: {}", machine.as_str().unwrap_or_default());
    if !args.note.is_empty() {
        println!("{}", args.note);
    }
    println!("\n{:<34} {:>12} {:<11} {:>10}  holds", "figure", "value", "unit", "bar");
    let mut out = Vec::new();
    for (name, from, unit, bar) in FIGURES {
        let value = from.value(&rows);
        let holds = value.map(|value| bar.holds(value));
        let answer = match holds {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "not measured",
        };
        let shown = value.map_or_else(|| String::from("-"), figure);
        println!("{name:<34} {shown:>12} {unit:<11} {:>10}  {answer}", bar.shown());
        let source = rows.iter().find(|it| it.name == from.source());
        out.push(json!({
            "name": name, "value": value, "unit": unit, "bar": bar.shown(), "holds": holds,
            "spread": source.and_then(|it| it.spread), "note": source.map(|it| it.note.clone()).unwrap_or_default(),
        }));
    }
    println!("\nmeasured (median; lowest to highest window)");
    for row in &rows {
        let spread = row.spread.map(|(low, high)| format!("{} to {}", figure(low), figure(high))).unwrap_or_default();
        println!("{:<44} {:>12} {:<13} {spread:<24} {}", row.name, figure(row.value), row.unit, row.note);
        if !out.iter().any(|it| it["name"] == row.name.as_str()) {
            out.push(json!({
                "name": row.name, "value": row.value, "unit": row.unit, "bar": null, "holds": null,
                "spread": row.spread, "note": row.note,
            }));
        }
    }
    if let Some(file) = &args.json {
        let value = json!({ "machine": machine, "note": args.note, "rows": out });
        std::fs::write(file, serde_json::to_string_pretty(&value)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// This revision over the earlier one, figure by figure.
fn compare(rows: &[Row], before: &[Row]) -> Result<()> {
    println!("{:<44} {:>12} {:>12} {:>8}", "figure", "earlier", "now", "ratio");
    for row in rows {
        if let Some(old) = before.iter().find(|it| it.name == row.name) {
            let ratio = row.value / old.value;
            println!("{:<44} {:>12} {:>12} {ratio:>8.3} {}", row.name, figure(old.value), figure(row.value), row.unit);
        }
    }
    Ok(())
}

fn machine() -> Value {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, it)| it);
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let memory = read("/proc/meminfo");
    let kib: u64 = memory.split_whitespace().nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split(' ').take(3).collect();
    json!(format!(
        "{cores} cores of {model}, {} GiB, Linux {}, load average {} at the end",
        kib >> 20,
        kernel.trim(),
        load.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_made_of_rows() {
        let rows = [
            Row::one("pay_per_s_batch_1000", 20_000.0, ""),
            Row::one("bare_per_s", 100_000.0, ""),
            Row::one("one_signature_per_s", 10_000.0, ""),
            Row::one("signatures_batch_per_s_core", 80_000.0, ""),
        ];
        assert_eq!(FIGURES[0].1.value(&rows), Some(0.2));
        assert_eq!(From::OneSignature.value(&rows), Some(0.25));
        assert_eq!(From::Row("none").value(&rows), None);
        assert!(Bar::AtLeast(0.12).holds(0.2) && !Bar::AtMost(2.0).holds(2.1));
    }
}
