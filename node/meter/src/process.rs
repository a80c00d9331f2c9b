//! What the system knows of this process, from `/proc/self`. A figure that cannot be read is left out.

use std::collections::BTreeMap;
use std::fs;

/// Clock ticks a second in `/proc`: fixed by the system's interface, whatever the kernel's own rate is.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of the living threads in nanoseconds, by name. Numbers at the end of a name (a pool's threads) are left out.
pub(crate) fn threads() -> BTreeMap<String, u64> {
    let mut by_name = BTreeMap::new();
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return by_name };
    for task in tasks.flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).ok();
        // A thread that ends meanwhile is simply not there.
        let (Some(name), Some(stat)) = (read("comm"), read("schedstat")) else { continue };
        let Some(ns) = stat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()) else { continue };
        *by_name.entry(label(&name)).or_default() += ns;
    }
    by_name
}

/// A thread's name as a label: nothing in it can end the label early.
fn label(name: &str) -> String {
    let name = name.trim().trim_end_matches(|c: char| c.is_ascii_digit());
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_:".contains(c) { c } else { '_' }).collect()
}

/// (name, kind, meaning, value).
pub(crate) fn figures() -> Vec<(&'static str, &'static str, &'static str, f64)> {
    let mut figures = Vec::new();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold anything; user and system time are the 12th and 13th field after it.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<f64> = after_name.split_whitespace().skip(11).take(2).filter_map(|it| it.parse().ok()).collect();
    if let [user, system] = ticks[..] {
        let seconds = (user + system) / TICKS_PER_SECOND;
        figures.push((
            "anji_process_cpu_seconds",
            "counter",
            "CPU time of the process, ended threads included",
            seconds,
        ));
        let seconds = system / TICKS_PER_SECOND;
        figures.push(("anji_process_system_cpu_seconds", "counter", "The part of it spent in the kernel", seconds));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |field: &str| number_after(&status, field).map(|kib| kib * 1024.0);
    if let Some(bytes) = kib("VmRSS:") {
        figures.push(("anji_process_resident_bytes", "gauge", "Memory in use", bytes));
    }
    if let Some(bytes) = kib("VmHWM:") {
        figures.push(("anji_process_peak_resident_bytes", "gauge", "The most memory that was in use", bytes));
    }
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    if let Some(bytes) = number_after(&io, "write_bytes:") {
        figures.push(("anji_process_written_bytes", "counter", "Bytes sent to the disk", bytes));
    }
    figures
}

fn number_after(text: &str, field: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_labels() {
        for (name, expected) in [("anji-order\n", "anji-order"), ("rocksdb:low0", "rocksdb:low"), ("a\"b c", "a_b_c")] {
            assert_eq!(label(name), expected);
        }
    }

    #[test]
    fn fields_are_found_at_the_start_of_a_line() {
        let text = "rchar: 7\ncancelled_write_bytes: 9\nwrite_bytes: 4096\n";
        assert_eq!(number_after(text, "write_bytes:"), Some(4096.0));
        assert_eq!(number_after(text, "none:"), None);
    }
}
