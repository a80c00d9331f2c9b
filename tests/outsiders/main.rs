//! Strangers to this code: a client and a verifier in Python written from `proto/FORMAT.md` alone, and two tlog libraries, one in Python
//! and one in Go, that know nothing of this project. They meet a running network; `envelopes` compares bytes without one. `tests/run` installs what
//! they need.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail loudly")]

mod envelopes;

use anji_tests::{Net, VALIDATORS, anji, repository};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

fn python() -> PathBuf {
    let python = std::env::var_os("ANJI_OUTSIDERS_PYTHON").map(PathBuf::from);
    python.expect("ANJI_OUTSIDERS_PYTHON names the Python of the outsiders; run `tests/run`, which prepares it")
}

/// What a command said; panics unless it ended well.
fn said(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{text}");
    text
}

fn script(name: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(repository().join("tests/outsiders/python").join(name)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn write(file: &Path, value: &Value) {
    std::fs::write(file, value.to_string()).expect("written");
}

/// What an operator would hand to somebody who connects a wallet: address, token, participant, key.
fn party(net: &Net, network: &Value, name: &str) -> Value {
    let node = network["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).expect("a node");
    let key = std::fs::read_to_string(net.folder(name).join("keys/signing.key")).expect("a key");
    json!({
        "grpc": node["grpc"], "participant": node["participant_id"], "seed": key.lines().nth(1).expect("two lines"),
        "token": std::fs::read_to_string(net.folder(name).join("tokens/wallet.token")).expect("a token").trim(),
    })
}

fn evidence(arguments: &[&str]) -> Command {
    let mut command = Command::new(anji());
    command.arg("evidence").args(arguments);
    command
}

#[test]
fn strangers_submit_batches_and_check_receipts_evidence_and_log() {
    let mut net = Net::four("outsiders").start();
    let network: Value =
        serde_json::from_str(&std::fs::read_to_string(net.dir.join("network.json")).unwrap()).expect("JSON");
    let path = |name: &str| net.dir.join(name).display().to_string();
    let (trust, bundle) = (path("trust.json"), path("payment.evidence"));
    let genesis = net.folder("regulator").join("genesis.bin").display().to_string();
    said(&mut evidence(&["trust", "--genesis", &genesis, "--out", &trust]));

    // A wallet in Python: its own borsh, hashes, signatures and verifier.
    let settings = net.dir.join("client.json");
    write(
        &settings,
        &json!({
            "proto": repository().join("proto"), "trust": trust, "out": bundle,
            "acquirer": party(&net, &network, "acquirer"), "issuer": party(&net, &network, "issuer"),
        }),
    );
    let told = said(script("client.py").arg(&settings));
    assert!(told.contains("evidence: "), "{told}");

    // Our own verifier says the same of the same file, and names what fails of another.
    let explained = said(&mut evidence(&["explain", &bundle, "--trust", &trust]));
    assert!(explained.contains("Pay of 123.45") && explained.contains("signed, with its key 1"), "{explained}");
    let verified: Value =
        serde_json::from_str(&said(&mut evidence(&["verify", &bundle, "--trust", &trust, "--json"]))).expect("JSON");
    assert_eq!(verified["statements"].as_array().map(Vec::len), Some(3));
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes[300] ^= 1;
    std::fs::write(path("damaged.evidence"), bytes).unwrap();
    let refused = evidence(&["verify", &path("damaged.evidence"), "--trust", &trust]).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(65), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stdout).starts_with("DOES NOT HOLD: the "), "{refused:?}");

    // The log over HTTP, some blocks later, by libraries that know no more than C2SP.
    let mandate = net.run(net.ledger().mandates(&["acquirer"], 1))[0];
    for _ in 0..5 {
        let payments: Vec<_> = (0..60).map(|amount| net.ledger().pay(mandate, amount + 1)).collect();
        net.run(net.ledger().done(&["acquirer"], 1, &payments));
    }
    let observer = network["nodes"].as_array().unwrap().iter().find(|node| node["log_http"].is_string());
    let height = net.height("regulator");
    let settings = net.dir.join("log.json");
    write(
        &settings,
        &json!({
            "trust": trust, "log_http": observer.expect("a node serves its log")["log_http"],
            "older": { "size": verified["log"]["size"], "root": verified["log"]["root"] },
        }),
    );
    net.wait_height(&VALIDATORS, height, Duration::from_secs(20));
    let told = said(script("log.py").arg(&settings));
    assert!(told.contains("hash up"), "{told}");
    let reader = net.dir.join("log-go");
    said(
        Command::new("go")
            .args(["build", "-o"])
            .arg(&reader)
            .arg(".")
            .current_dir(repository().join("tests/outsiders/go"))
            .env("GO111MODULE", "off")
            .env("GOPATH", "/usr/share/gocode")
            .env("GOFLAGS", ""),
    );
    let told = said(Command::new(&reader).arg(&settings));
    assert!(told.contains("records and trees proven"), "{told}");
    net.assert_all_alive();
}
