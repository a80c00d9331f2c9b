//! The scripts: they explain themselves and name what is wrong.

use anji_tests::repository;
use std::process::{Command, Output};

fn run(script: &str, arguments: &[&str]) -> Output {
    // A run folder of its own, so that a running devnet is left alone.
    let folder = std::env::temp_dir().join(format!("anji-scripts-{}", std::process::id()));
    let mut command = Command::new(repository().join(script));
    command.args(arguments).env("ANJI_RUN_DIR", folder);
    command.output().unwrap_or_else(|error| panic!("{script}: {error}"))
}

#[test]
fn every_script_has_help() {
    for script in ["devnet/up", "devnet/down", "devnet/status", "devnet/perturb", "devnet/bench", "tests/run"] {
        let output = run(script, &["--help"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{script} --help");
        assert!(text.starts_with(script) && text.lines().count() >= 4, "{script} --help says: {text}");
    }
}

#[test]
fn mistakes_are_named_with_a_way_out() {
    let rows: [(&str, &[&str], &str); 6] = [
        ("devnet/up", &["--dmeo"], "unknown option `--dmeo`"),
        ("devnet/up", &["--keep", "--no-build"], "there is no network in"),
        ("devnet/status", &[], "there is no network in"),
        ("devnet/perturb", &["kill"], "an action and a node are needed"),
        ("devnet/perturb", &["tickle", "issuer"], "unknown action `tickle`"),
        ("devnet/perturb", &["kill", "issuer"], "there is no network in"),
    ];
    for (script, arguments, expected) in rows {
        let output = run(script, arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{script} {arguments:?} succeeded");
        assert!(text.contains(expected), "{script} {arguments:?} says: {text}");
    }
    assert!(run("devnet/down", &[]).status.success(), "nothing to stop is no mistake");
}
