//! An idle network: no blocks but the heartbeat, and none slower than it.

use anji_tests::{ALL, Net};
use std::time::Duration;

#[test]
fn an_idle_network_makes_no_blocks_but_the_heartbeat() {
    let mut net = Net::four("idle").start();
    let mandates = net.run(net.ledger().mandates(&["acquirer"], 1));
    // Until a header carries the roots of the last payment, blocks go on; then they stop.
    std::thread::sleep(Duration::from_secs(2));
    let before = net.height("acquirer");
    std::thread::sleep(Duration::from_secs(12));
    let idle = net.height("acquirer") - before;
    assert!(idle >= 1, "ledger time must move on by itself");
    assert!(idle <= 6, "{idle} blocks in 12 idle seconds");
    // And it wakes up at once.
    let begin = std::time::Instant::now();
    net.run(net.ledger().done(&["acquirer"], 1, &[net.ledger().pay(mandates[0], 1)]));
    assert!(begin.elapsed() < Duration::from_secs(2), "an idle chain took {:?} for a payment", begin.elapsed());
    let payment_at = net.height("acquirer");
    net.wait_height(&ALL, payment_at + 2, Duration::from_secs(3));
    net.assert_equal_roots(&ALL);
    net.assert_all_alive();
}
