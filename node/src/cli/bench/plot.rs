//! Growth as a picture: an SVG made of rows named `grow_<what>_at_<entries>`, one panel a figure, no library.

use super::rows::{self, figure};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct PlotArgs {
    /// The file of rows.
    #[arg(long, value_name = "FILE")]
    rows: PathBuf,
    /// Where the picture goes.
    #[arg(long, value_name = "FILE")]
    svg: PathBuf,
}

const PANELS: [(&str, &str); 4] = [
    ("pay_per_s", "executed Pay/s"),
    ("memory_mib", "memory, MiB"),
    ("start_s", "start with every check, s"),
    ("disk_bytes_per_entry", "disk, bytes an entry"),
];
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 220.0;
const MARGIN: f64 = 50.0;

/// `0`, `500k`, `10m` as a number of entries.
fn entries(text: &str) -> Option<f64> {
    let (digits, factor) = match text.strip_suffix('m') {
        Some(digits) => (digits, 1e6),
        None => text.strip_suffix('k').map_or((text, 1.0), |digits| (digits, 1e3)),
    };
    digits.parse::<f64>().ok().map(|number| number * factor)
}

pub(super) fn run(args: &PlotArgs) -> Result<()> {
    let rows = rows::read(&args.rows)?;
    let mut svg = String::new();
    let (wide, high) = (WIDTH * 2.0, HEIGHT * 2.0);
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" font-family="sans-serif" font-size="11">"#
    )?;
    writeln!(svg, r#"<rect width="{wide}" height="{high}" fill="white"/>"#)?;
    let mut drawn = 0;
    for (place, (what, title)) in PANELS.into_iter().enumerate() {
        let prefix = format!("grow_{what}_at_");
        let mut points: Vec<(f64, f64)> =
            rows.iter().filter_map(|row| Some((entries(row.name.strip_prefix(&prefix)?)?, row.value()))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (column, line) = ((place % 2) as f64, (place / 2) as f64);
        panel(&mut svg, (column * WIDTH, line * HEIGHT), title, &points)?;
        drawn += points.len();
    }
    writeln!(svg, "</svg>")?;
    ensure!(drawn > 0, "{}: there are no rows of growth", args.rows.display());
    std::fs::write(&args.svg, svg).with_context(|| format!("cannot write {}", args.svg.display()))
}

fn panel(svg: &mut String, (left, top): (f64, f64), title: &str, points: &[(f64, f64)]) -> Result<()> {
    let most = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).fold(0.0, f64::max).max(1e-9);
    let (most_x, most_y) = (most(|it| it.0), most(|it| it.1) * 1.1);
    let (base, end) = (top + HEIGHT - MARGIN, left + WIDTH - 20.0);
    let x = |value: f64| left + MARGIN + value / most_x * (WIDTH - MARGIN - 20.0);
    let y = |value: f64| base - value / most_y * (HEIGHT - MARGIN - 30.0);
    writeln!(svg, r#"<text x="{}" y="{}" font-weight="bold">{title}</text>"#, left + MARGIN, top + 18.0)?;
    let origin = left + MARGIN;
    writeln!(svg, r#"<path d="M{origin} {} V{base} H{end}" fill="none" stroke="black"/>"#, top + 28.0)?;
    let line: Vec<String> = points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
    writeln!(svg, r##"<polyline points="{}" fill="none" stroke="#1f5fa8" stroke-width="2"/>"##, line.join(" "))?;
    for (at, value) in points {
        let (px, py) = (x(*at), y(*value));
        writeln!(svg, r##"<circle cx="{px:.1}" cy="{py:.1}" r="3" fill="#1f5fa8"/>"##)?;
        writeln!(svg, r#"<text x="{px:.1}" y="{:.1}" text-anchor="middle">{}</text>"#, py - 7.0, figure(*value))?;
        let label = if *at >= 1e6 { format!("{} M", at / 1e6) } else { format!("{at}") };
        writeln!(svg, r#"<text x="{px:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#, base + 15.0)?;
    }
    writeln!(svg, r#"<text x="{}" y="{}" text-anchor="end">entries</text>"#, end, base + 30.0)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_a_point_per_row() {
        let dir = tempfile::tempdir().expect("temp");
        let (file, svg) = (dir.path().join("rows"), dir.path().join("grow.svg"));
        let rows = [("grow_pay_per_s_at_0", 50.0), ("grow_pay_per_s_at_1m", 40.0), ("other_at_1m", 3.0)];
        let rows: Vec<rows::Row> = rows.map(|(name, value)| rows::Row::one(name, value, "")).into();
        rows::Rows(Some(file.clone())).add(&rows).expect("written");
        run(&PlotArgs { rows: file, svg: svg.clone() }).expect("drawn");
        let picture = std::fs::read_to_string(svg).expect("there");
        assert_eq!(picture.matches("<circle").count(), 2);
        assert!(picture.contains(">1 M<"));
    }
}
