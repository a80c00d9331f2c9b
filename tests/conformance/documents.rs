//! The documents: every file and command they name exists; decision records are complete.

use anji_tests::repository;
use std::path::{Path, PathBuf};

/// All Markdown files but build output.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            documents(&path, found);
        } else if path.extension().is_some_and(|it| it == "md") {
            found.push(path);
        }
    }
}

fn all_documents() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    documents(&repository(), &mut found);
    assert!(found.len() > 8, "{found:?}");
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).expect("text"))).collect()
}

#[test]
fn every_link_to_a_file_leads_somewhere() {
    for (path, text) in all_documents() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let there = path.parent().expect("a folder").join(target);
            assert!(there.exists(), "{} links to {target}, which does not exist", path.display());
        }
    }
}

#[test]
fn every_command_that_the_documents_name_exists() {
    for (path, text) in all_documents() {
        for line in text.lines().map(str::trim) {
            let Some(command) = line.strip_prefix("./").and_then(|rest| rest.split_whitespace().next()) else {
                continue;
            };
            let there = repository().join(command);
            assert!(there.exists(), "{}: `{line}`", path.display());
        }
    }
}

#[test]
fn the_readme_names_the_two_commands_first() {
    let text = std::fs::read_to_string(repository().join("README.md")).expect("README.md");
    let commands: Vec<&str> = text.lines().filter(|line| line.starts_with("./")).take(2).collect();
    assert!(commands[0].starts_with("./devnet/up") && commands[1].starts_with("./tests/run"), "{commands:?}");
}

#[test]
fn decision_records_say_what_was_decided_and_what_was_turned_down() {
    let mut numbers = Vec::new();
    for (path, text) in all_documents() {
        if path.parent().is_some_and(|folder| folder.ends_with("decisions")) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            numbers.push(name.split('-').next().unwrap_or_default().parse::<u32>().expect("NNNN-title.md"));
            for part in ["**Context.**", "**Decision.**", "**Consequences.**", "**Turned down.**"] {
                assert!(text.contains(part), "{name} lacks {part}");
            }
            assert!(text.lines().count() < 80, "{name} is longer than a page");
        }
    }
    numbers.sort_unstable();
    let count = u32::try_from(numbers.len()).expect("few");
    assert_eq!(numbers, (1..=count).collect::<Vec<_>>(), "numbers without gaps");
}
