//! A node that cannot start says why, naming the field or the folder, and what to do.

use anji_tests::Net;
use std::os::unix::fs::PermissionsExt;

/// Starts a node that must not start and gives what it said.
fn refusal(net: &Net, node: &str) -> String {
    let output = net.command(node).output().expect("the program runs");
    assert!(!output.status.success(), "{node} started");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn edit(net: &Net, node: &str, change: impl FnOnce(String) -> String) {
    let file = net.folder(node).join("config.toml");
    let text = std::fs::read_to_string(&file).expect("config.toml");
    std::fs::write(file, change(text)).expect("written");
}

#[test]
fn mistakes_in_the_configuration_are_named() {
    let net = Net::four("bad-config");
    edit(&net, "acquirer", |text| format!("colour = \"red\"\n{text}"));
    edit(&net, "issuer", |text| text.replace("heartbeat_ms = ", "heartbeat_ms = 1 # "));
    edit(&net, "provider", |text| text.replace("keys/network.key", "keys/nothing.key"));
    std::fs::write(net.folder("clearing").join("genesis.bin"), b"no genesis").expect("written");
    let key = net.folder("regulator").join("keys/network.key");
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o644)).expect("mode");
    let rows = [
        ("acquirer", vec!["config.toml", "colour"]),
        ("issuer", vec!["config.toml", "heartbeat_ms"]),
        ("provider", vec!["nothing.key"]),
        ("clearing", vec!["genesis.bin"]),
        ("regulator", vec!["network.key", "chmod 600"]),
    ];
    for (node, parts) in rows {
        let said = refusal(&net, node);
        for part in parts {
            assert!(said.contains(part), "{node} does not name {part}: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_data_folder_of_another_chain_is_refused() {
    let mut first = Net::four("chain-a").start();
    let _ = first.run(first.ledger().mandates(&["acquirer"], 1));
    assert!(first.stop("acquirer").success(), "a node that is asked to stop ends with success");
    let foreign = std::env::temp_dir().join(format!("anji-foreign-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&foreign);
    std::fs::rename(first.data("acquirer"), &foreign).expect("moved");
    drop(first);
    let second = Net::four("chain-b");
    std::fs::remove_dir_all(second.data("acquirer")).expect("removed");
    std::fs::rename(&foreign, second.data("acquirer")).expect("moved");
    let said = refusal(&second, "acquirer");
    assert!(said.contains("of chain") && said.contains("use the data folder"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn two_nodes_cannot_share_a_data_folder_or_a_port() {
    let net = Net::four("twice").start();
    let said = refusal(&net, "acquirer");
    assert!(said.contains("way out") && !said.contains("panicked"), "{said}");
}
