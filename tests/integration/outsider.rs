//! Somebody who is not on the list connects to a node's peer port. (That an outsider with a valid identity gets no byte of any
//! protocol is tested in `node/network`.)

use anji_tests::{ALL, Net};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn peer_ports(net: &Net) -> Vec<String> {
    let text = std::fs::read_to_string(net.dir.join("network.json")).expect("network.json");
    let network: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    network["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| node["p2p"].as_str().expect("p2p").to_owned())
        .collect()
}

#[test]
fn noise_on_the_peer_port_is_cut_off_and_nobody_notices() {
    let mut net = Net::four("outsider").start();
    let mandate = net.run(net.ledger().mandates(&["acquirer"], 1))[0];
    let mut held_open = Vec::new();
    for address in peer_ports(&net) {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"\x13/multistream/1.0.0\n\x07/noise\n", b""] {
            let mut stream = TcpStream::connect(&address).expect("the port is open");
            let _ = stream.write_all(bytes);
            held_open.push(stream);
        }
    }
    // While those hang, business goes on.
    net.run(net.ledger().done(&["acquirer"], 1, &[net.ledger().pay(mandate, 5)]));
    for mut stream in held_open {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        let mut answer = Vec::new();
        // Closed, or reset: an error is fine, an answer beyond the handshake is not.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 200, "{} bytes for an outsider", answer.len());
    }
    net.run(net.ledger().done(&["issuer"], 1, &[net.ledger().pay(mandate, 5)]));
    net.assert_equal_roots(&ALL);
    net.assert_all_alive();
}
