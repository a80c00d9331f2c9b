//! A torn tail or a flipped byte in any file of a stopped node's data folder: named at start, never served.

use anji_proto::v1 as pb;
use anji_tests::{ALL, Dice, Net};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Files that hold nothing the node relies on: RocksDB's own diary, its copy of the options, its locks and its random name.
fn is_harmless(name: &str) -> bool {
    name == "LOCK" || name == "IDENTITY" || name == "LOG" || name.starts_with("LOG.old") || name.starts_with("OPTIONS-")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.metadata().expect("metadata").len() > 0 {
            found.push(path);
        }
    }
}

/// Copies a folder with everything in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("copied");
        }
    }
}

fn restore(net: &Net, node: &str, kept: &Path) {
    std::fs::remove_dir_all(net.data(node)).expect("removed");
    copy(kept, &net.data(node));
}

/// What became of a start on damaged files.
enum Start {
    /// The node ended and said this.
    Refused(String),
    /// The node serves, and these are its roots at the height that was known before.
    Serves(Option<pb::GetRootsResponse>),
}

fn start(net: &mut Net, node: &str, height: u64) -> Start {
    let log = std::fs::File::create(net.dir.join("damaged.log")).expect("a log");
    let mut command = net.command(node);
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log);
    let mut child = command.spawn().expect("the program starts");
    let deadline = Instant::now() + Duration::from_secs(30);
    let read_log = |net: &Net| std::fs::read_to_string(net.dir.join("damaged.log")).unwrap_or_default();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            let said = read_log(net);
            assert!(!status.success(), "it ended with success: {said}");
            return Start::Refused(said);
        }
        // A node that cut off a torn tail may first have to fetch what was in it.
        if net.status(node).is_some_and(|status| status.executed_height >= height) {
            let roots = net.run(net.ledger().roots(node, height));
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
            return Start::Serves(roots);
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("neither served nor ended:\n{}", read_log(net));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A network with some history whose node `provider` was stopped, its data put aside, and its roots at its last height.
fn stopped(name: &str) -> (Net, PathBuf, pb::GetRootsResponse) {
    let mut net = Net::four(name).start();
    let mandates = net.run(net.ledger().mandates(&["acquirer"], 100));
    for number in 0..20 {
        let ops: Vec<_> = mandates.iter().map(|mandate| net.ledger().pay(*mandate, 1 + number)).collect();
        net.run(net.ledger().done(&["acquirer"], 1, &ops));
    }
    let height = net.assert_equal_roots(&ALL);
    let roots = net.run(net.ledger().roots("provider", height)).expect("just compared");
    assert!(net.stop("provider").success());
    let kept = net.dir.join("kept");
    copy(&net.data("provider"), &kept);
    (net, kept, roots)
}

#[test]
fn a_flipped_byte_in_any_file_is_named_at_start() {
    let mut dice = Dice::from_environment("flip");
    let (mut net, kept, roots) = stopped("flip");
    let mut all = Vec::new();
    files(&kept, &mut all);
    assert!(all.len() > 5, "{all:?}");
    for file in all {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let inside = file.strip_prefix(&kept).expect("inside").to_owned();
        let bytes = std::fs::read(&file).expect("read");
        let last = bytes.len() - 1;
        let middle = usize::try_from(dice.between(0, last as u64)).expect("small");
        for place in [0, middle, last] {
            restore(&net, "provider", &kept);
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << dice.between(0, 7);
            std::fs::write(net.data("provider").join(&inside), damaged).expect("written");
            match start(&mut net, "provider", roots.height) {
                Start::Refused(said) => {
                    println!("{} byte {place} of {}: refused", inside.display(), bytes.len());
                    assert!(!said.contains("panicked"), "{}: {said}", inside.display());
                    assert!(said.contains(&name) || is_harmless(&name), "{} is not named: {said}", inside.display());
                }
                Start::Serves(served) => {
                    println!("{} byte {place} of {}: serves", inside.display(), bytes.len());
                    assert_eq!(served.as_ref(), Some(&roots), "{}: other roots are served", inside.display());
                    let said = std::fs::read_to_string(net.dir.join("damaged.log")).unwrap_or_default();
                    assert!(
                        is_harmless(&name) || said.contains(&name),
                        "byte {place} of {} is wrong, and nobody noticed",
                        inside.display()
                    );
                }
            }
        }
    }
    restore(&net, "provider", &kept);
    net.start_node("provider");
    net.assert_equal_roots(&ALL);
}

#[test]
fn a_torn_tail_is_cut_off_and_fetched_again() {
    let mut dice = Dice::from_environment("torn");
    let (mut net, kept, roots) = stopped("torn");
    let mut all = Vec::new();
    files(&kept, &mut all);
    let blocks = all.iter().filter(|path| path.extension().is_some_and(|it| it == "blk")).max().expect("a block file");
    let inside = blocks.strip_prefix(&kept).expect("inside").to_owned();
    let length = blocks.metadata().expect("metadata").len();
    for cut in [1, 7, dice.between(8, 400)] {
        restore(&net, "provider", &kept);
        let file = std::fs::OpenOptions::new().write(true).open(net.data("provider").join(&inside)).expect("opened");
        file.set_len(length - cut).expect("cut");
        drop(file);
        match start(&mut net, "provider", roots.height) {
            Start::Serves(served) => assert_eq!(served, Some(roots.clone()), "cut by {cut}"),
            // The state may already hold a block whose record was cut: then the node may refuse, if it says why.
            Start::Refused(said) => {
                let name = inside.file_name().expect("a name").to_string_lossy().into_owned();
                let way_out = "has lost its end; restore the data folder from a backup, or move it away";
                assert!(said.contains(&name) && said.contains(way_out), "cut by {cut}: {said}");
            }
        }
    }
}
