//! What `anji init` writes, and what it refuses.

use super::*;
use anji_adapters::keys::{KeySuite, PrivateKey, Purpose};
use anji_contracts::entity::{SealSuite, Suite};
use anji_contracts::types::Role;
use std::os::unix::fs::PermissionsExt;

fn four() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../devnet/networks/four.toml")
}

fn tree(dir: &Path, prefix: &str, out: &mut Vec<String>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).expect("readable").map(|it| it.expect("entry")).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            out.push(format!("{name}/"));
            tree(&entry.path(), &format!("{name}/"), out);
        } else {
            let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
            out.push(format!("{name} {mode:o}"));
        }
    }
}

#[test]
fn a_network_is_made_in_one_step_and_never_overwritten() {
    let dir = tempfile::tempdir().expect("temp");
    let out = dir.path().join("net");
    init_all(&four(), &out, 0).expect("made");
    let mut files = Vec::new();
    tree(&out.join("issuer"), "", &mut files);
    let expected = [
        "adapter.toml 644",
        "config.toml 644",
        "data/",
        "data/consensus/",
        "data/consensus/wal 600",
        "genesis.bin 644",
        "genesis.json 644",
        "keys/",
        "keys/consensus.key 600",
        "keys/encryption.key 600",
        "keys/network.key 600",
        "keys/signing.key 600",
        "public.toml 644",
        "tokens/",
        "tokens/adapter-callers.toml 600",
        "tokens/adapter-wallet.token 600",
        "tokens/adapter.token 600",
        "tokens/callers.toml 600",
        "tokens/operator.token 600",
        "tokens/wallet.token 600",
    ];
    assert_eq!(files, expected);
    let genesis = crate::genesis::read(&out.join("issuer/genesis.bin")).expect("valid");
    assert_eq!(genesis.validators.len(), 4);
    assert_eq!(genesis.chain_id(), crate::genesis::read(&out.join("regulator/genesis.bin")).expect("valid").chain_id());

    let config = crate::config::load(&out.join("issuer/config.toml")).expect("reads back");
    assert_eq!(config.peers.len(), 4);
    let key = PrivateKey::read(&config.keys.consensus.expect("validator"), Purpose::Consensus).expect("key");
    assert!(genesis.validators.iter().any(|it| it.public_key.as_slice() == key.public()));
    let observer = crate::config::load(&out.join("regulator/config.toml")).expect("reads back");
    assert!(observer.keys.consensus.is_none() && !out.join("regulator/adapter.toml").exists());

    let adapter = anji_adapters::config::load(&out.join("issuer/adapter.toml")).expect("reads back");
    let signing = PrivateKey::read(&adapter.signing_key, Purpose::Signing).expect("key");
    assert_eq!(genesis.participants[1].keys[0].public_key, signing.public());
    assert_eq!(adapter.chain_id, genesis.chain_id().to_string());

    let shown = init_all(&four(), &out, 0).expect_err("kept").to_string();
    assert!(shown.contains("not empty") && shown.contains("way out"), "{shown}");
    // No secret in anything that others may read.
    let secret = hex::encode(signing.seed());
    for file in
        ["network.json", "issuer/config.toml", "issuer/adapter.toml", "issuer/public.toml", "issuer/genesis.json"]
    {
        let text = std::fs::read_to_string(out.join(file)).expect("readable");
        assert!(!text.contains(&secret), "{file}");
    }
}

#[test]
fn operators_on_their_own_machines_reach_the_same_chain() {
    let dir = tempfile::tempdir().expect("temp");
    let public = dir.path().join("public");
    std::fs::create_dir(&public).expect("made");
    let network = network_file::load(&four(), 0).expect("good");
    for node in &network.nodes {
        let home = dir.path().join(&node.name);
        folder::make_keys(node, KeySuite::Ed25519, &home).expect("keys");
        assert!(
            folder::make_keys(node, KeySuite::Ed25519, &home)
                .expect_err("kept")
                .to_string()
                .contains("never overwritten")
        );
        std::fs::copy(home.join("public.toml"), public.join(format!("{}.toml", node.name))).expect("sent");
    }
    let step = |step: Step| run(InitArgs { step: Some(step), network: None, out: None, port_offset: 0 });
    step(Step::Genesis { network: four(), participants: public.clone(), out: dir.path().to_path_buf() })
        .expect("genesis");
    let genesis = dir.path().join("genesis.bin");
    let node = |name: &str| {
        step(Step::Node {
            network: four(),
            participants: public.clone(),
            genesis: genesis.clone(),
            node: name.to_owned(),
            out: dir.path().to_path_buf(),
        })
    };
    node("issuer").expect("made");
    assert!(node("issuer").expect_err("kept").to_string().contains("exists already"));
    assert!(node("nobody").expect_err("unknown").to_string().contains("its nodes are acquirer"));

    // Somebody else's keys in the folder.
    std::fs::remove_file(dir.path().join("acquirer/keys/network.key")).expect("removed");
    std::fs::copy(dir.path().join("clearing/keys/network.key"), dir.path().join("acquirer/keys/network.key"))
        .expect("copied");
    assert!(node("acquirer").expect_err("refused").to_string().contains("but public.toml says"));

    // A public key that changed after genesis was made.
    std::fs::copy(public.join("clearing.toml"), dir.path().join("kept.toml")).expect("copied");
    let text = std::fs::read_to_string(public.join("clearing.toml")).expect("read");
    let line = text.lines().find(|line| line.starts_with("consensus")).expect("there");
    let other =
        format!("consensus = \"{}\"", hex::encode(PrivateKey::generate(Purpose::Consensus).expect("key").public()));
    std::fs::write(public.join("clearing.toml"), text.replace(line, &other)).expect("written");
    assert!(node("provider").expect_err("refused").to_string().contains("differs from what the network file"));
    std::fs::write(public.join("second.toml"), text).expect("written");
    assert!(node("provider").expect_err("refused").to_string().contains("a second file for node `clearing`"));
}

#[test]
fn the_same_keys_salt_and_time_give_the_same_genesis() {
    let network = network_file::load(&four(), 0).expect("good");
    let key = |node: &str, purpose| {
        let seed = *blake3::hash(format!("{node} {purpose:?}").as_bytes()).as_bytes();
        hex::encode(PrivateKey::from_seed(purpose, seed).public())
    };
    let publics: Publics = network
        .nodes
        .iter()
        .map(|node| {
            let keys = genesis::PublicKeys {
                node: node.name.clone(),
                network: key(&node.name, Purpose::Network),
                consensus: (node.power > 0).then(|| key(&node.name, Purpose::Consensus)),
                signing: node.adapter_grpc.map(|_| key(&node.name, Purpose::Signing)),
                encryption: key(&node.name, Purpose::Encryption),
            };
            (node.name.clone(), keys)
        })
        .collect();
    let built = genesis::build(&network, &publics, [7; 32], 1_790_000_000_000).expect("built");
    genesis_writes(&built).expect("valid by the ledger's rules");
    insta::assert_snapshot!("genesis", serde_json::to_string_pretty(&genesis::readable(&built)).expect("json"));
    assert_ne!(
        built.chain_id(),
        genesis::build(&network, &publics, [8; 32], 1_790_000_000_000).expect("built").chain_id()
    );
}

#[test]
fn a_participant_of_the_suite_sm2_gets_sm2_keys_in_its_files_and_in_genesis() {
    let dir = tempfile::tempdir().expect("temp");
    let file = dir.path().join("n.toml");
    let good = std::fs::read_to_string(four()).expect("readable");
    std::fs::write(&file, good.replace("role = \"issuer\"", "role = \"issuer\"\nsuite = \"sm2\"")).expect("written");
    let out = dir.path().join("net");
    init_all(&file, &out, 0).expect("made");
    let genesis = crate::genesis::read(&out.join("issuer/genesis.bin")).expect("valid");
    let read = |name: &str, purpose| PrivateKey::read(&out.join("issuer/keys").join(name), purpose).expect("a key");
    let (signing, encryption) = (read("signing.key", Purpose::Signing), read("encryption.key", Purpose::Encryption));
    let issuer = &genesis.participants[1];
    assert_eq!((issuer.keys[0].suite, &issuer.keys[0].public_key), (Suite::Sm2Sm3, &signing.public()));
    let sealed = issuer.encryption.as_ref().expect("a node of its own");
    assert_eq!((sealed.suite, &sealed.public_key), (SealSuite::Sm2, &encryption.public()));
    assert_eq!(genesis.participants[0].keys[0].suite, Suite::Ed25519);
    // A payee of fees has no node, so no envelope is sealed to it.
    assert!(genesis.participants.iter().any(|it| it.encryption.is_none() && it.role == Role::FeePayee));

    // The keys were made by another network file.
    let network = network_file::load(&four(), 0).expect("good");
    let publics = read_publics(&out).expect("read");
    let shown = genesis::build(&network, &publics, [7; 32], 1).expect_err("refused").in_file(&four()).to_string();
    assert!(shown.contains("participants[issuer].suite = ed25519") && shown.contains("another suite"), "{shown}");
}

#[test]
fn a_wrong_network_file_is_refused_by_file_field_and_value() {
    let dir = tempfile::tempdir().expect("temp");
    let good = std::fs::read_to_string(four()).expect("readable");
    let file = dir.path().join("n.toml");
    let rows = [
        ("currency = 156", "curency = 156", "unknown field `curency`"),
        (
            "role = \"issuer\"",
            "role = \"issuer\"\nsuite = \"rsa\"",
            "`participants[issuer].suite = rsa`: no such suite",
        ),
        ("role = \"issuer\"", "role = \"bank\"", "`participants[issuer].role = bank`: no such role"),
        ("name = \"provider\"\nlegal", "name = \"issuer\"\nlegal", "used twice"),
        ("name = \"provider\"\nlegal", "name = \"Pro vider\"\nlegal", "not a name"),
        ("licence_ends = 2036-12-31", "licence_ends = 12:00:00", "not a date"),
        ("payee = \"channel\"", "payee = \"chanel\"", "`schedules[1].legs[3].payee = chanel`: no such participant"),
        ("bearer = \"merchant\"", "bearer = \"leg:0\"", "nobody who could bear it"),
        ("participant = \"clearing\"", "participant = \"cleaning\"", "`nodes[clearing].participant = cleaning`"),
        ("grpc = \"127.0.0.1:27021\"", "grpc = \"127.0.0.1:27011\"", "used twice in this file"),
        ("p2p = \"127.0.0.1:27010\"", "p2p = \"27010\"", "`nodes[acquirer].p2p = 27010`: not an address"),
        ("adapter_metrics = \"127.0.0.1:27016\"\n", "", "missing beside adapter_grpc"),
        ("power = 1", "power = 0", "there is no validator"),
        ("licence_scenes = [\"online\"", "licence_scenes = [\"offline\"", "no such scene"),
    ];
    for (old, new, expected) in rows {
        assert!(good.contains(old), "{old}");
        std::fs::write(&file, good.replace(old, new)).expect("written");
        let shown = network_file::load(&file, 0).map(drop).expect_err(expected).to_string();
        assert!(
            shown.contains(expected) && shown.contains("n.toml") && shown.contains("way out"),
            "{expected:?} not in {shown}"
        );
    }
    assert!(network_file::load(&four(), 60_000).map(drop).expect_err("too far").to_string().contains("exceeds 65535"));
    assert_eq!(network_file::load(&four(), 100).expect("shifted").nodes[0].p2p, "127.0.0.1:27110");
    // What only the ledger's own rules refuse.
    std::fs::write(&file, good.replace("window_length_ms = 60_000", "window_length_ms = 1")).expect("written");
    let shown = init_all(&file, &dir.path().join("net"), 0).expect_err("refused").to_string();
    assert!(shown.contains("params.window_length_ms"), "{shown}");
}

#[test]
fn a_damaged_genesis_is_refused() {
    let dir = tempfile::tempdir().expect("temp");
    let out = dir.path().join("net");
    init_all(&four(), &out, 0).expect("made");
    let file = out.join("issuer/genesis.bin");
    let good = std::fs::read(&file).expect("read");
    for cut in [0, 1, good.len() / 2, good.len() - 1] {
        std::fs::write(&file, &good[..cut]).expect("written");
        let shown = crate::genesis::read(&file).expect_err("refused").to_string();
        assert!(shown.contains("genesis.bin") && shown.contains("way out"), "{shown}");
    }
    assert!(crate::genesis::read(&dir.path().join("nothing")).is_err());
}
