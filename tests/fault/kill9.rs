//! `kill -9` under load, from a printed seed: one node, two, all at once. No receipt that was given is ever lost or changed, roots
//! stay equal, the chain goes on.

use anji_proto::v1 as pb;
use anji_tests::{ALL, Decided, Dice, Ledger, Net, VALIDATORS};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ROUNDS: usize = 20;
const LOADERS: usize = 4;

/// Pays without end until told to stop, and keeps every receipt that was given.
async fn load(ledger: Ledger, place: usize, stop: Arc<AtomicBool>, given: Arc<Mutex<Vec<Decided>>>, all: Mandates) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let ops: Vec<_> =
            (0..10).map(|i| ledger.pay(all[(place * 7 + number * 3 + i) % all.len()], 1 + i as u64)).collect();
        let batch = ledger.batch(1, &ops);
        let mut nodes = VALIDATORS;
        nodes.rotate_left((place + number) % VALIDATORS.len());
        let decided = ledger.settle(&nodes, 1, &batch, Duration::from_secs(240)).await;
        given.lock().expect("no loader panicked").push(decided);
        number += 1;
    }
}

type Mandates = Arc<Vec<anji_contracts::types::MandateId>>;

#[test]
fn no_receipt_is_lost_when_nodes_are_killed_under_load() {
    let mut dice = Dice::from_environment("kill9");
    let mut net = Net::four("kill9").start();
    let ledger = net.ledger().clone();
    let mandates: Mandates = Arc::new(net.run(ledger.mandates(&["acquirer"], 50)));
    let stop = Arc::new(AtomicBool::new(false));
    let given = Arc::new(Mutex::new(Vec::new()));
    let loaders: Vec<_> = (0..LOADERS)
        .map(|place| {
            let load = load(ledger.clone(), place, Arc::clone(&stop), Arc::clone(&given), Arc::clone(&mandates));
            net.spawn(load)
        })
        .collect();

    for round in 0..ROUNDS {
        std::thread::sleep(Duration::from_millis(dice.between(100, 700)));
        let n_victims = *dice.pick(&[1, 1, 2, 4, 5]);
        let mut victims = ALL.to_vec();
        while victims.len() > n_victims {
            victims.remove(usize::try_from(dice.between(0, victims.len() as u64 - 1)).expect("small"));
        }
        if n_victims == 4 {
            victims = VALIDATORS.to_vec();
        }
        let n_given = given.lock().expect("no loader panicked").len();
        println!("round {round}: {n_given} batches answered, killing {victims:?}");
        net.assert_all_alive();
        for victim in &victims {
            net.kill(victim);
        }
        std::thread::sleep(Duration::from_millis(dice.between(0, 500)));
        for victim in &victims {
            net.start_node(victim);
        }
        // The chain goes on: more batches are answered than before.
        net.wait_for("payments settle again", Duration::from_secs(120), || {
            given.lock().expect("no loader panicked").len() > n_given + LOADERS
        });
    }

    stop.store(true, Ordering::Relaxed);
    for loader in loaders {
        net.run(loader).expect("a loader ends well");
    }
    net.assert_equal_roots(&ALL);
    net.assert_all_alive();
    let given = given.lock().expect("no loader panicked");
    println!("{} batches of 10 payments answered in {ROUNDS} rounds", given.len());
    for node in ALL {
        assert_receipts_stand(&net, node, &given);
    }
    for node in ALL {
        assert!(net.stop(node).success());
        net.assert_invariants(node);
    }
}

/// Reads all receipts of a node from the first on and compares those that were given.
fn assert_receipts_stand(net: &Net, node: &str, given: &[Decided]) {
    let stored = net.run(async {
        let mut wallet = net.ledger().wallet_of(node, 1);
        let request = pb::StreamReceiptsRequest { from_seq: 0, participant: 1, ..Default::default() };
        let mut stream = wallet.stream_receipts(request).await.expect("a stream").into_inner();
        let last = given.iter().map(|it| it.receipts.seq).max().expect("something was given");
        let mut stored = std::collections::BTreeMap::new();
        while let Some(item) = stream.message().await.expect("the stream goes on") {
            if let Some(pb::stream_receipts_response::Item::Batch(batch)) = item.item {
                let seq = batch.seq;
                assert!(stored.insert(seq, batch).is_none(), "batch {seq} came twice");
                if seq >= last {
                    break;
                }
            }
        }
        stored
    });
    for Decided { node: from, receipts } in given {
        assert_eq!(stored.get(&receipts.seq), Some(receipts), "{node} has other receipts than {from} gave");
    }
}
