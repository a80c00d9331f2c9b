//! What was measured, as lines of a file that the commands append to and the report reads; and the bars of the design.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// One figure.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    /// What it is; rows of one name are windows of one figure.
    pub(super) name: String,
    /// What each window gave, in the order they were measured.
    windows: Vec<f64>,
    /// Its unit; empty for a ratio.
    pub(super) unit: String,
    /// How it came about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) note: String,
}

impl Row {
    pub(super) fn one(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self::of(name, &[value], unit)
    }

    pub(super) fn of(name: impl Into<String>, windows: &[f64], unit: &str) -> Self {
        Self { name: name.into(), windows: windows.to_vec(), unit: unit.to_owned(), note: String::new() }
    }

    pub(super) fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// The median of the windows.
    pub(super) fn value(&self) -> f64 {
        quantile(&self.windows, 0.5)
    }

    /// Lowest and highest window, if there are several.
    pub(super) fn spread(&self) -> Option<(f64, f64)> {
        (self.windows.len() > 1).then(|| (quantile(&self.windows, 0.0), quantile(&self.windows, 1.0)))
    }

    /// This over the other. Windows that were measured in turn are set against each other, one by one, so that what the machine does
    /// meanwhile is in both; otherwise median over median.
    pub(super) fn over(&self, other: &Self) -> Self {
        let pairs: Vec<f64> = self.windows.iter().zip(&other.windows).map(|(above, below)| above / below).collect();
        if self.windows.len() == other.windows.len() {
            Self::of(&self.name, &pairs, "")
        } else {
            Self::one(&self.name, self.value() / other.value(), "")
        }
    }

    fn shown(&self) -> String {
        let spread =
            self.spread().map(|(low, high)| format!(" ({} to {})", figure(low), figure(high))).unwrap_or_default();
        let note = if self.note.is_empty() { String::new() } else { format!("; {}", self.note) };
        format!("{:<44} {:>12} {}{spread}{note}", self.name, figure(self.value()), self.unit)
    }
}

/// A number with as many digits as mean something.
pub(super) fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The value below which that share of the values lies, by the nearest rank; the middle of the two for a median of an even number.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    if share == 0.5 && !sorted.is_empty() && sorted.len().is_multiple_of(2) {
        let upper = sorted.len() / 2;
        return f64::midpoint(sorted[upper - 1], sorted[upper]);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    let rank = (sorted.len() as f64 * share).ceil().max(1.0) as usize - 1;
    sorted.get(rank).copied().unwrap_or(f64::NAN)
}

/// The file that rows are appended to; nothing is written without one.
pub(super) struct Rows(pub(super) Option<PathBuf>);

impl Rows {
    /// Shows the rows and appends them.
    pub(super) fn add(&self, rows: &[Row]) -> Result<()> {
        for row in rows {
            println!("{}", row.shown());
        }
        let Some(file) = &self.0 else { return Ok(()) };
        let context = || format!("cannot write {}", file.display());
        let mut out = std::fs::OpenOptions::new().create(true).append(true).open(file).with_context(context)?;
        for row in rows {
            writeln!(out, "{}", serde_json::to_string(row)?).with_context(context)?;
        }
        Ok(())
    }
}

/// All rows of a file, those of one name put together: their windows one after the other, the note of the last.
pub(super) fn read(file: &Path) -> Result<Vec<Row>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{}: cannot be read", file.display()))?;
    let mut rows: Vec<Row> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let row: Row =
            serde_json::from_str(line).with_context(|| format!("{}: not understood: {line}", file.display()))?;
        match rows.iter_mut().find(|known| known.name == row.name) {
            Some(known) => {
                known.windows.extend(row.windows);
                known.note = row.note;
            }
            None => rows.push(row),
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_rank() {
        let values: Vec<f64> = (1..=101).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5), 51.0);
        assert_eq!(quantile(&values, 0.99), 100.0);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert_eq!(quantile(&[1.0, 3.0], 0.5), 2.0);
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.0), 1.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn rows_of_a_name_are_windows_of_one_figure() {
        let dir = tempfile::tempdir().expect("temp");
        let rows = Rows(Some(dir.path().join("rows")));
        rows.add(&[Row::one("a", 1.0, "ms"), Row::of("b", &[1.0, 2.0, 9.0], "")]).expect("written");
        rows.add(&[Row::one("a", 3.0, "ms").with_note("again")]).expect("written");
        let read = read(&dir.path().join("rows")).expect("read");
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].value(), read[0].spread(), read[0].note.as_str()), (2.0, Some((1.0, 3.0)), "again"));
        assert_eq!((read[1].value(), read[1].spread()), (2.0, Some((1.0, 9.0))));
    }

    #[test]
    fn windows_taken_in_turn_are_compared_in_turn() {
        let (slow_then_fast, bare) = (Row::of("a", &[10.0, 20.0, 30.0], ""), Row::of("b", &[20.0, 40.0, 90.0], ""));
        assert_eq!(slow_then_fast.over(&bare).value(), 0.5);
        assert_eq!(slow_then_fast.over(&bare).spread(), Some((30.0 / 90.0, 0.5)));
        assert_eq!(slow_then_fast.over(&Row::of("b", &[10.0, 40.0], "")).value(), 20.0 / 25.0);
    }
}
