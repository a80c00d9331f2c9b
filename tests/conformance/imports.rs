//! The import table of ARCHITECTURE.md against `cargo metadata`.

use anji_tests::repository;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

type Imports = BTreeMap<String, BTreeSet<String>>;

/// The rows `| crate | imports |` of the section "Imports".
fn written() -> Imports {
    let text = std::fs::read_to_string(repository().join("node/docs/ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let section =
        text.split("\n## Imports\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a section Imports");
    let mut imports = Imports::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, list] = cells[..] else { panic!("a row with other than two cells: {line}") };
        let list = list.split(',').map(str::trim).filter(|it| !it.is_empty()).map(|it| format!("anji-{it}"));
        imports.insert(name.trim_matches('`').to_owned(), list.collect());
    }
    imports
}

/// What the manifests say: dependencies on our own crates, tests' own ones left out.
fn real() -> Imports {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"])
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut imports = Imports::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
        let ours = dependencies
            .filter(|it| it["kind"].is_null())
            .filter_map(|it| it["name"].as_str())
            .filter(|name| name.starts_with("anji-"));
        imports.insert(package["name"].as_str().expect("a name").to_owned(), ours.map(str::to_owned).collect());
    }
    imports
}

#[test]
fn the_import_table_is_what_cargo_sees() {
    let (mut written, mut real) = (written(), real());
    // The tests may import anything; that nobody imports them is checked below.
    assert!(written.remove("anji-tests").is_some() && real.remove("anji-tests").is_some());
    assert_eq!(written.keys().collect::<Vec<_>>(), real.keys().collect::<Vec<_>>(), "the crates of the table");
    for (name, imports) in &real {
        assert_eq!(written.get(name), Some(imports), "imports of {name}");
    }
}

#[test]
fn nobody_imports_the_tests_the_devnet_or_the_program() {
    for (name, imports) in real() {
        for outer in ["anji-tests", "anji-experiments", "anji-devnet", "anji"] {
            assert!(!imports.contains(outer), "{name} imports {outer}");
        }
    }
}

#[test]
fn the_rules_import_nothing_of_ours() {
    let real = real();
    for name in ["anji-contracts", "anji-proto", "anji-network"] {
        assert!(real[name].is_empty(), "{name} imports {:?}", real[name]);
    }
    assert_eq!(real["anji-devnet"], BTreeSet::from(["anji-proto".to_owned()]));
}
