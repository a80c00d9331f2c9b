//! Where a node's CPU time goes, by stage of a payment's way: what every optimisation starts from.
//!
//! Work that runs to its end on one thread is measured where it happens ([`measure`], by the thread's own CPU clock, so that neighbours
//! on the machine do not count). Everything asynchronous runs on threads named after their stage, whose clocks are read when somebody
//! asks ([`text`]). It measures and decides nothing: no other crate may read a figure back. Counters are those of the process.
#![deny(missing_docs)]

mod process;

use rustix::time::{ClockId, clock_gettime};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// A stage whose work is measured in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Decoding, hashing and checking the signature of a batch on arrival.
    Verify,
    /// Running a decided block by the rules and encoding what it leads to.
    Execute,
    /// Hashing entries into the log tree and the active tree.
    Tree,
    /// Writing entries and indexes.
    Store,
    /// Making receipts and handing them to whoever waits.
    Reply,
}

/// All of them.
pub const STAGES: [Stage; 5] = [Stage::Verify, Stage::Execute, Stage::Tree, Stage::Store, Stage::Reply];

static NANOSECONDS: [AtomicU64; STAGES.len()] = [const { AtomicU64::new(0) }; STAGES.len()];

impl Stage {
    /// Its name as a label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Execute => "execute",
            Self::Tree => "tree",
            Self::Store => "store",
            Self::Reply => "reply",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Verify => 0,
            Self::Execute => 1,
            Self::Tree => 2,
            Self::Store => 3,
            Self::Reply => 4,
        }
    }

    /// Nanoseconds so far.
    #[must_use]
    pub fn nanoseconds(self) -> u64 {
        NANOSECONDS.get(self.index()).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

/// CPU time of this thread in nanoseconds.
#[must_use]
pub fn thread_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, rest) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// Runs `work` and counts its CPU time on this thread for `stage`. Not for a part of what is measured already: it would count twice.
pub fn measure<T>(stage: Stage, work: impl FnOnce() -> T) -> T {
    let lap = Lap::start();
    let done = work();
    lap.end(stage);
    done
}

/// A stretch of work on one thread, for stages that follow each other without a function around each.
#[derive(Debug)]
#[must_use = "a lap that is not ended counts nothing"]
pub struct Lap {
    since_ns: u64,
}

impl Lap {
    /// Begins now.
    pub fn start() -> Self {
        Self { since_ns: thread_ns() }
    }

    /// Counts the time since the beginning, on the same thread, for `stage`.
    pub fn end(self, stage: Stage) {
        let _ = self.next(stage);
    }

    /// The same, and begins another lap.
    pub fn next(self, stage: Stage) -> Self {
        let now_ns = thread_ns();
        if let Some(counter) = NANOSECONDS.get(stage.index()) {
            counter.fetch_add(now_ns.saturating_sub(self.since_ns), Ordering::Relaxed);
        }
        Self { since_ns: now_ns }
    }
}

/// The figures as OpenMetrics text: `anji_cpu_stage_seconds` (measured in place), `anji_cpu_threads_seconds` (by name of threads that live;
/// stages measured in place on them are part of it), and what the system knows of the process.
#[must_use]
pub fn text() -> String {
    let mut text = String::new();
    head(&mut text, "anji_cpu_stage_seconds", "counter", "CPU time by stage, measured in place");
    for stage in STAGES {
        let seconds = seconds(stage.nanoseconds());
        line(&mut text, format_args!("anji_cpu_stage_seconds_total{{stage=\"{}\"}} {seconds}", stage.name()));
    }
    head(&mut text, "anji_cpu_threads_seconds", "counter", "CPU time by name of the living threads");
    for (name, ns) in process::threads() {
        let seconds = seconds(ns);
        line(&mut text, format_args!("anji_cpu_threads_seconds_total{{threads=\"{name}\"}} {seconds}"));
    }
    for (name, kind, help, value) in process::figures() {
        head(&mut text, name, kind, help);
        let suffix = if kind == "counter" { "_total" } else { "" };
        line(&mut text, format_args!("{name}{suffix} {value}"));
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}."));
    line(text, format_args!("# TYPE {name} {kind}"));
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn spin(time: Duration) {
        let until = Instant::now() + time;
        let mut n = 0u64;
        while Instant::now() < until {
            n = std::hint::black_box(n.wrapping_mul(31) + 1);
        }
    }

    #[test]
    fn work_counts_and_sleep_does_not() {
        let before = Stage::Reply.nanoseconds();
        measure(Stage::Reply, || std::thread::sleep(Duration::from_millis(50)));
        let slept = Stage::Reply.nanoseconds() - before;
        assert!(slept < 40_000_000, "{slept} ns while asleep");
        let lap = Lap::start();
        spin(Duration::from_millis(50));
        let lap = lap.next(Stage::Reply);
        lap.end(Stage::Tree);
        assert!(Stage::Reply.nanoseconds() > before + slept, "work is counted");
    }

    #[test]
    fn the_text_names_every_stage_and_this_thread() {
        let thread = std::thread::Builder::new().name("anji-named-so".into()).spawn(|| {
            spin(Duration::from_millis(20));
            text()
        });
        let text = thread.expect("spawned").join().expect("ends");
        for stage in STAGES {
            assert!(text.contains(&format!("{{stage=\"{}\"}}", stage.name())), "{text}");
        }
        assert!(text.contains("threads=\"anji-named-so\""), "{text}");
        assert!(text.contains("anji_process_resident_bytes "), "{text}");
        assert!(!text.contains("# EOF"), "the page around it ends the document");
    }
}
