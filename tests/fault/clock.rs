//! One node's clock is wrong: payments go on, roots stay equal. Uses Debian's libfaketime; says so and passes without it.

use anji_tests::{ALL, Net};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn libfaketime() -> Option<PathBuf> {
    let places = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    ];
    places.iter().map(Path::new).find(|path| path.exists()).map(Path::to_path_buf)
}

fn one_wrong_clock(name: &str, offset: &str) {
    let Some(library) = libfaketime() else {
        println!("{name}: skipped, libfaketime is not installed");
        return;
    };
    let mut net = Net::four(name);
    for node in ALL.into_iter().filter(|node| *node != "provider") {
        net.start_node(node);
    }
    let mut command = net.command("provider");
    command.env("LD_PRELOAD", library).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    net.start_as("provider", command);
    net.wait_connected(&ALL);
    let mandates = net.run(net.ledger().mandates(&["acquirer"], 10));
    for number in 0..12 {
        let ops: Vec<_> = mandates.iter().map(|mandate| net.ledger().pay(*mandate, 1 + number)).collect();
        net.run(net.ledger().done(&["acquirer", "issuer"], 1, &ops));
    }
    net.wait_for("all nodes agree", Duration::from_secs(60), || net.height("provider") >= net.height("acquirer"));
    net.assert_equal_roots(&ALL);
    net.assert_all_alive();
}

#[test]
fn a_validator_whose_clock_is_behind_does_not_stop_payments() {
    one_wrong_clock("clock-behind", "-30s");
}

#[test]
fn a_validator_whose_clock_is_ahead_does_not_stop_payments() {
    one_wrong_clock("clock-ahead", "+30s");
}
