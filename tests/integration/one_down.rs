//! One validator down, frozen, restarted, wiped: payments go on, and the node comes back by itself.

use anji_contracts::types::MandateId;
use anji_proto::v1 as pb;
use anji_tests::{ALL, Net, VALIDATORS};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

fn pay(net: &Net, nodes: &[&str], mandates: &[MandateId], n_batches: u64) {
    for number in 0..n_batches {
        let ops: Vec<_> = mandates.iter().map(|mandate| net.ledger().pay(*mandate, 100 + number)).collect();
        net.run(net.ledger().done(nodes, 1, &ops));
    }
}

#[test]
fn payments_settle_with_any_one_validator_down_and_it_catches_up() {
    let mut net = Net::four("one-down").start();
    let mandates = net.run(net.ledger().mandates(&["acquirer"], 20));
    for victim in VALIDATORS {
        net.kill(victim);
        let others: Vec<&str> = VALIDATORS.into_iter().filter(|it| *it != victim).collect();
        pay(&net, &others, &mandates, 5);
        net.start_node(victim);
        let height = net.height(others[0]);
        net.wait_height(&[victim], height, SOON);
        net.assert_equal_roots(&ALL);
    }
    net.assert_all_alive();
}

#[test]
fn a_frozen_validator_does_not_stop_payments_and_catches_up() {
    let mut net = Net::four("frozen").start();
    let mandates = net.run(net.ledger().mandates(&["acquirer"], 5));
    net.pause("provider");
    pay(&net, &["acquirer", "issuer"], &mandates, 10);
    net.resume("provider");
    net.assert_equal_roots(&ALL);
    net.assert_all_alive();
}

#[test]
fn with_two_validators_down_payments_wait_and_then_settle() {
    let mut net = Net::four("two-down").start();
    let mandates = net.run(net.ledger().mandates(&["acquirer"], 5));
    net.kill("provider");
    net.kill("clearing");
    let height = net.height("acquirer");
    let ops = [net.ledger().pay(mandates[0], 1)];
    let batch = net.ledger().batch(1, &ops);
    let (ledger, waiting) = (net.ledger().clone(), batch.clone());
    let settled = net.spawn(async move { ledger.settle(&["acquirer"], 1, &waiting, SOON).await });
    std::thread::sleep(Duration::from_secs(3));
    assert!(!settled.is_finished(), "settled with half the power");
    assert!(net.height("acquirer") <= height + 1, "a block was decided with half the power");
    net.start_node("provider");
    net.start_node("clearing");
    net.run(settled).expect("it settles once they are back");
    net.assert_equal_roots(&ALL);
    net.assert_all_alive();
}

#[test]
fn a_wiped_validator_follows_until_voting_is_safe() {
    let mut net = Net::four("wiped").start();
    let mandates = net.run(net.ledger().mandates(&["acquirer"], 10));
    pay(&net, &["acquirer"], &mandates, 10);
    let role = |net: &Net| net.status("issuer").map(|status| status.role());
    assert_eq!(role(&net), Some(pb::NodeRole::Validator));
    net.kill("issuer");
    pay(&net, &["acquirer"], &mandates, 3);
    net.wipe("issuer");
    net.wait_for("the wiped node answers", SOON, || net.status("issuer").is_some());
    let status = net.status("issuer").expect("it just answered");
    if status.role() == pb::NodeRole::Follower {
        assert!(!status.role_reason.is_empty(), "a follower says why");
    }
    assert!(net.log("issuer").contains("follow"), "the log says that the node follows only");
    net.wait_for("it votes again", Duration::from_secs(120), || {
        pay(&net, &["acquirer"], &mandates[..1], 1);
        role(&net) == Some(pb::NodeRole::Validator)
    });
    net.assert_equal_roots(&ALL);
    // It counts again: with another one down the chain goes on.
    net.kill("clearing");
    pay(&net, &["acquirer"], &mandates, 3);
    net.start_node("clearing");
    net.assert_equal_roots(&ALL);
    net.assert_all_alive();
}

#[test]
fn a_wiped_observer_fetches_everything() {
    let mut net = Net::four("observer").start();
    let mandates = net.run(net.ledger().mandates(&["acquirer"], 50));
    pay(&net, &["acquirer"], &mandates, 10);
    net.wipe("regulator");
    pay(&net, &["acquirer"], &mandates, 2);
    net.assert_equal_roots(&ALL);
    assert_eq!(net.status("regulator").map(|status| status.role()), Some(pb::NodeRole::Follower));
}
