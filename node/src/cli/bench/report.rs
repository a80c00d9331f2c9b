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
    println!("{:.6}", row.value() * args.times);
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

/// The figures of the design, in its order: name, what it is made of, unit, bar if it has one.
const FIGURES: [(&str, From, &str, Option<Bar>); 20] = [
    ("pay_over_bare", From::Ratio("pay_per_s", "bare_per_s"), "", Some(Bar::AtLeast(0.12))),
    ("pay_over_bare_goal", From::Ratio("pay_per_s", "bare_per_s"), "", Some(Bar::AtLeast(0.25))),
    ("pay_per_s_batch_1000", From::Row("pay_per_s"), "payments/s", Some(Bar::AtLeast(20_000.0))),
    ("pay_per_s_batch_1000_next", From::Row("pay_per_s"), "payments/s", Some(Bar::AtLeast(42_000.0))),
    ("one_signature_over_bound", From::OneSignature, "", Some(Bar::AtLeast(0.25))),
    ("one_signature_over_bound_goal", From::OneSignature, "", Some(Bar::AtLeast(0.5))),
    ("finality_ms_p50_half_load", From::Row("half_load_ms_p50"), "ms", None),
    ("finality_ms_p99_half_load", From::Row("half_load_ms_p99"), "ms", None),
    ("half_load_p99_over_bare", From::Ratio("half_load_ms_p99", "bare_same_rate_ms_p99"), "", Some(Bar::AtMost(2.0))),
    ("one_alone_ms_p50", From::Row("one_alone_ms_p50"), "ms", Some(Bar::AtMost(60.0))),
    ("one_alone_ms_p50_goal", From::Row("one_alone_ms_p50"), "ms", Some(Bar::AtMost(30.0))),
    (
        "one_down_throughput",
        From::Ratio("one_down_answered_per_s", "healthy_answered_per_s"),
        "",
        Some(Bar::AtLeast(0.9)),
    ),
    ("one_down_p99", From::Ratio("one_down_ms_p99", "healthy_ms_p99"), "", Some(Bar::AtMost(2.0))),
    ("pay_with_10m_entries", From::Ratio("pay_10m_per_s", "pay_empty_per_s"), "", Some(Bar::AtLeast(0.9))),
    (
        "executor_with_10m_entries",
        From::Ratio("grow_pay_per_s_at_10m", "grow_empty_pay_per_s_beside_10m"),
        "",
        Some(Bar::AtLeast(0.9)),
    ),
    ("disk_bytes_per_byte", From::Row("pay_disk_bytes_per_byte"), "", Some(Bar::AtMost(5.0))),
    ("catch_up_over_live", From::Ratio("catch_up_per_s", "pay_per_s"), "", Some(Bar::AtLeast(5.0))),
    ("evidence_bundle_made_ms_p99", From::Row("evidence_10m_made_ms_p99"), "ms", Some(Bar::AtMost(5.0))),
    ("evidence_bundle_verified_ms_p99", From::Row("evidence_10m_verified_ms_p99"), "ms", Some(Bar::AtMost(5.0))),
    ("evidence_ledger_entries", From::Row("evidence_10m_ledger_entries"), "entries", Some(Bar::AtLeast(10_000_000.0))),
];

impl From {
    /// The figure with its windows, if it was measured.
    fn of(&self, rows: &[Row]) -> Option<Row> {
        let of = |name: &str| rows.iter().find(|it| it.name == name).filter(|it| it.value().is_finite());
        match self {
            Self::Row(name) => of(name).cloned(),
            Self::Ratio(above, below) => Some(of(above)?.over(of(below)?).with_note(of(above)?.note.clone())),
            Self::OneSignature => {
                let (one, bound) = (of("one_signature_per_s")?, of("signatures_batch_per_s_core")?);
                let ratio = one.value() / (bound.value() / 2.0);
                Some(Row::one(&one.name, ratio, "").with_note(one.note.clone()))
            }
        }
    }
}

/// Prints the table and writes the JSON.
pub(super) fn run(args: &ReportArgs) -> Result<()> {
    let rows = rows::read(&args.rows)?;
    if let Some(file) = &args.against {
        compare(&rows, &rows::read(file)?);
        return Ok(());
    }
    let machine = machine();
    println!("machine: {}", machine.as_str().unwrap_or_default());
    if !args.note.is_empty() {
        println!("{}", args.note);
    }
    println!("\n{:<34} {:>12} {:<11} {:>11}  {:<12} lowest to highest", "figure", "value", "unit", "bar", "holds");
    let mut out = Vec::new();
    for (name, from, unit, bar) in FIGURES {
        let measured = from.of(&rows);
        let value = measured.as_ref().map(Row::value);
        let holds = value.zip(bar).map(|(value, bar)| bar.holds(value));
        let answer = match (holds, value) {
            (Some(true), _) => "yes",
            (Some(false), _) => "NO",
            (None, None) => "not measured",
            (None, Some(_)) => "",
        };
        let shown = value.map_or_else(|| String::from("-"), figure);
        let spread = measured.as_ref().and_then(Row::spread);
        let bar = bar.map(Bar::shown).unwrap_or_default();
        println!("{name:<34} {shown:>12} {unit:<11} {bar:>11}  {answer:<12} {}", spread_shown(spread));
        out.push(json!({
            "name": name, "value": value, "unit": unit, "bar": (!bar.is_empty()).then_some(bar), "holds": holds,
            "spread": spread, "note": measured.map(|it| it.note).unwrap_or_default(),
        }));
    }
    println!("\nmeasured (median; lowest to highest window)");
    for row in &rows {
        let spread = spread_shown(row.spread());
        println!("{:<44} {:>12} {:<13} {spread:<24} {}", row.name, figure(row.value()), row.unit, row.note);
        if !out.iter().any(|it| it["name"] == row.name.as_str()) {
            out.push(json!({
                "name": row.name, "value": row.value(), "unit": row.unit, "bar": null, "holds": null,
                "spread": row.spread(), "note": row.note,
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

fn spread_shown(spread: Option<(f64, f64)>) -> String {
    spread.map(|(low, high)| format!("{} to {}", figure(low), figure(high))).unwrap_or_default()
}

/// This revision over the earlier one, figure by figure.
fn compare(rows: &[Row], before: &[Row]) {
    println!("{:<44} {:>12} {:>12} {:>8}  lowest to highest ratio", "figure", "earlier", "now", "ratio");
    for row in rows {
        if let Some(old) = before.iter().find(|it| it.name == row.name) {
            let (ratio, earlier, now) = (row.over(old), figure(old.value()), figure(row.value()));
            let (name, spread) = (&row.name, spread_shown(ratio.spread()));
            println!("{name:<44} {earlier:>12} {now:>12} {:>8.3}  {spread:<16} {}", ratio.value(), row.unit);
        }
    }
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
            Row::one("pay_per_s", 20_000.0, ""),
            Row::one("bare_per_s", 100_000.0, ""),
            Row::one("one_signature_per_s", 10_000.0, ""),
            Row::one("signatures_batch_per_s_core", 80_000.0, ""),
        ];
        let value = |from: &From| from.of(&rows).map(|it| it.value());
        assert_eq!(value(&FIGURES[0].1), Some(0.2));
        assert_eq!(value(&From::OneSignature), Some(0.25));
        assert_eq!(value(&From::Row("none")), None);
        assert!(Bar::AtLeast(0.12).holds(0.2) && !Bar::AtMost(2.0).holds(2.1));
    }
}
