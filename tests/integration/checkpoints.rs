//! Final receipts, the log over HTTP and an outside witness, on real processes, and all of it again after every node was killed. Whatever
//! is served is checked with the validators' keys and nothing else.

use anji_contracts::types::{ChainId, Hash32, ParticipantId};
use anji_proto::v1 as pb;
use anji_tests::{ALL, Net, VALIDATORS};
use anji_verify::checkpoint::{Checkpoint, check_line, cosigner_key, log_key, parse_signed_checkpoint};
use anji_verify::log_proof::{check_consistency, check_inclusion, consistency_path, inclusion_path};
use anji_verify::log_tree::{leaf_hash, subtree_root};
use anji_verify::note::{SignedNote, VerifierKey};
use anji_verify::{Address, Validator};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Head and body of an answer.
fn fetch(address: &str, path: &str) -> (String, Vec<u8>) {
    let Ok(mut stream) = TcpStream::connect(address) else { return Default::default() };
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let border = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap_or(answer.len());
    let body = answer.get(border + 4..).unwrap_or_default().to_vec();
    (String::from_utf8_lossy(&answer[..border]).to_lowercase(), body)
}

fn summary(net: &Net) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(net.dir.join("network.json")).unwrap()).unwrap()
}

fn log_address(net: &Net) -> String {
    let nodes = summary(net)["nodes"].as_array().unwrap().clone();
    nodes.iter().find_map(|it| it["log_http"].as_str().map(str::to_owned)).expect("a node serves the log")
}

fn validators(net: &Net) -> (ChainId, Vec<Validator>) {
    let read = |name: &str| {
        let text = std::fs::read_to_string(net.folder(name).join("public.toml")).unwrap();
        let line = text.lines().find(|it| it.starts_with("consensus")).unwrap();
        let mut key = [0; 32];
        hex::decode_to_slice(line.split('"').nth(1).unwrap(), &mut key).unwrap();
        key
    };
    let mut chain = [0; 32];
    hex::decode_to_slice(summary(net)["chain_id"].as_str().unwrap(), &mut chain).unwrap();
    let validators = VALIDATORS.iter().zip(1..).map(|(name, number)| {
        let public_key = read(name);
        Validator { address: Address::of(&public_key), participant: ParticipantId(number), public_key, power: 1 }
    });
    (ChainId(Hash32(chain)), validators.collect())
}

/// The checkpoint as a client with pinned keys reads it: at least three validators' lines of both kinds, none of them false.
fn checkpoint(net: &Net) -> Option<(SignedNote, Checkpoint)> {
    let (head, body) = fetch(&log_address(net), "/checkpoint");
    if !head.starts_with("http/1.1 200") {
        return None;
    }
    assert!(head.contains("content-type: text/plain; charset=utf-8") && head.contains("max-age=1"), "{head}");
    let (note, checkpoint) = parse_signed_checkpoint(&body).expect("a signed checkpoint");
    let (chain_id, validators) = validators(net);
    for key_of in [log_key, cosigner_key] {
        let signers = validators.iter().filter(|validator| {
            let key = key_of(&chain_id, validator);
            let verdicts: Vec<bool> =
                note.signatures.iter().filter_map(|it| check_line(&key, &note.text, it)).collect();
            assert!(verdicts.iter().all(|good| *good), "a false line of {}", key.name);
            !verdicts.is_empty()
        });
        assert!(signers.count() >= 3, "{note}");
    }
    Some((note, checkpoint))
}

fn wait_checkpoint(
    net: &Net,
    what: &str,
    is_so: impl Fn(&SignedNote, &Checkpoint) -> bool,
) -> (SignedNote, Checkpoint) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some((note, checkpoint)) = checkpoint(net).filter(|(note, checkpoint)| is_so(note, checkpoint)) {
            return (note, checkpoint);
        }
        assert!(Instant::now() < deadline, "no checkpoint {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn index_path(index: u64) -> String {
    if index < 1000 { format!("{index:03}") } else { format!("x{:03}/{:03}", index / 1000, index % 1000) }
}

/// Hashes or entries of a tile of a log of `size` entries, partial where it is.
fn tile(net: &Net, level: &str, below: u64, index: u64, size: u64) -> Vec<u8> {
    let width = (size / below - index * 256).min(256);
    let partial = if width < 256 { format!(".p/{width}") } else { String::new() };
    let path = format!("/tile/{level}/{}{partial}", index_path(index));
    let (head, body) = fetch(&log_address(net), &path);
    assert!(head.starts_with("http/1.1 200") && head.contains("immutable"), "{path}: {head}");
    body
}

/// The root over leaves `index << level ..`, out of served tiles.
fn subtree(net: &Net, size: u64, level: u32, index: u64) -> Hash32 {
    let (tile_level, within) = (level / 8, level % 8);
    let (first, width) = (index << within, 1usize << within);
    let bytes = tile(net, &tile_level.to_string(), 256u64.pow(tile_level), first / 256, size);
    let hashes: Vec<Hash32> = bytes.as_chunks::<32>().0.iter().map(|it| Hash32(*it)).collect();
    let from = (first % 256) as usize;
    subtree_root(&hashes[from..from + width]).unwrap()
}

fn assert_continues(net: &Net, old: &Checkpoint, new: &Checkpoint) {
    assert!(old.log.size <= new.log.size, "a log never shrinks: {old:?} {new:?}");
    let subtree = |level, index| Ok::<_, ()>(subtree(net, new.log.size, level, index));
    let path = if old.log.size < new.log.size {
        consistency_path(old.log.size, new.log.size, subtree).unwrap()
    } else {
        Vec::new()
    };
    assert_eq!(check_consistency(&old.log, &new.log, &path), Ok(()));
}

/// Every entry of the log as served is what the checkpoint commits to.
fn assert_entries(net: &Net, checkpoint: &Checkpoint) {
    let size = checkpoint.log.size;
    let mut leaves = Vec::new();
    for index in 0..size.div_ceil(256) {
        let mut bytes = &tile(net, "entries", 1, index, size)[..];
        while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
            let (entry, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
            leaves.push(leaf_hash(entry));
            bytes = rest;
        }
    }
    assert_eq!(leaves.len() as u64, size);
    assert_eq!(subtree_root(&leaves), Some(checkpoint.log.root));
    for index in [0, size / 2, size - 1] {
        let path = inclusion_path(index, size, |level, at| Ok::<_, ()>(subtree(net, size, level, at))).unwrap();
        assert_eq!(check_inclusion(&leaves[usize::try_from(index).unwrap()], index, &checkpoint.log, &path), Ok(()));
    }
}

fn pay_final(net: &Net, node: &str, mandate: anji_contracts::types::MandateId) -> u64 {
    net.run(async {
        let batch = net.ledger().batch(1, &[net.ledger().pay(mandate, 100)]);
        let request = pb::SubmitBatchRequest { signed_batch: batch, wait: pb::Wait::Final.into() };
        let answer = net.ledger().wallet_of(node, 1).submit_batch(request).await.expect("final").into_inner();
        answer.receipts.expect("receipts").height
    })
}

fn witness(net: &mut Net) -> VerifierKey {
    let mut command = Command::new(anji_tests::anji());
    command.args(["witness", "run", "--config"]).arg(net.folder("witness").join("witness.toml"));
    net.start_as("witness", command);
    let text = std::fs::read_to_string(net.folder("regulator").join("config.toml")).unwrap();
    let lines = text.lines().skip_while(|it| *it != "[[witnesses]]");
    let key = lines.filter_map(|it| it.strip_prefix("key = ")).next().expect("the observer knows the witness");
    VerifierKey::parse(key.trim_matches('"')).unwrap()
}

#[test]
fn what_is_final_can_be_checked_by_anybody_and_survives_a_crash_of_all_nodes() {
    let mut net = Net::four("checkpoints").start();
    let mandates = net.run(net.ledger().mandates(&["acquirer"], 2));
    let height = pay_final(&net, "issuer", mandates[0]);
    let is_final = |net: &Net, node: &str, height| net.status(node).is_some_and(|it| it.final_height >= height);
    for node in ALL {
        net.wait_for(&format!("height {height} is final on {node}"), PATIENCE, || is_final(&net, node, height));
    }
    let roots = net.run(net.ledger().roots("clearing", height)).expect("executed");
    let covers = |checkpoint: &Checkpoint| checkpoint.log.size >= roots.log_size;
    let (_, first) = wait_checkpoint(&net, "covers the payment", |_, it| covers(it));
    assert_entries(&net, &first);
    for path in ["/", "/tile/0/999", "/tile/0/000.p/0", "/tile/1/000", "/checkpoint/", "/tile/entries/../../x"] {
        assert!(fetch(&log_address(&net), path).0.starts_with("http/1.1 404"), "{path}");
    }

    let key = witness(&mut net);
    let witnessed = |note: &SignedNote| note.signatures.iter().any(|it| check_line(&key, &note.text, it) == Some(true));
    pay_final(&net, "issuer", mandates[1]);
    let (_, second) = wait_checkpoint(&net, "that the witness cosigned", |note, _| witnessed(note));
    assert_continues(&net, &first, &second);

    for node in ALL {
        net.kill(node);
    }
    net.kill("witness");
    for node in ALL {
        net.start_node(node);
    }
    net.wait_connected(&ALL);
    let again = pay_final(&net, "provider", mandates[0]);
    assert!(again > height);
    for node in ALL {
        net.wait_for(&format!("height {again} is final on {node}"), PATIENCE, || is_final(&net, node, again));
    }
    witness(&mut net);
    let roots = net.run(net.ledger().roots("clearing", again)).expect("executed");
    let (_, third) =
        wait_checkpoint(&net, "cosigned after the crash", |note, it| witnessed(note) && it.log.size >= roots.log_size);
    assert_continues(&net, &second, &third);
    assert_entries(&net, &third);
    net.assert_equal_roots(&ALL);
    for node in ALL {
        assert!(
            !net.log(node).contains("CONTRADICTION") && !net.log(node).contains("a validator cosigned a log"),
            "{node}"
        );
    }
    net.assert_all_alive();
}

/// One validator is down: the other three still make everything final. A second one down: decided stops, and so does final.
#[test]
fn three_of_four_validators_make_final() {
    let mut net = Net::four("final-three").start();
    let mandates = net.run(net.ledger().mandates(&["acquirer"], 1));
    net.kill("provider");
    let height = pay_final(&net, "issuer", mandates[0]);
    net.start_node("provider");
    net.wait_for("the fourth learns of it", PATIENCE, || {
        net.status("provider").is_some_and(|status| status.final_height >= height)
    });
    net.assert_all_alive();
}
