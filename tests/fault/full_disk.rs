//! A disk that is full: the node stops and says why, the others go on; with room again it starts and catches up.
//! Needs root, to mount a small file system; says so and passes without it.

use crate::disk::copy;
use anji_tests::{ALL, Net};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A small file system in memory; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path, mebibytes: u32) -> Option<Self> {
        let options = format!("size={mebibytes}m");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder);
        command.output().is_ok_and(|output| output.status.success()).then(|| Self(folder.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Writes until nothing fits any more.
fn fill(file: &Path) {
    let mut out = std::fs::File::create(file).expect("a file");
    let block = vec![1; 64 << 10];
    while out.write_all(&block).is_ok() {}
    let _ = out.write_all(&block[..1024]);
}

#[test]
fn a_full_disk_stops_one_node_and_loses_nothing() {
    let net = Net::four("full-disk");
    let data = net.data("provider");
    // What `anji init` put there moves onto the small disk.
    let kept = net.dir.join("kept");
    copy(&data, &kept);
    let Some(_disk) = SmallDisk::mount(&data, 400) else {
        println!("full_disk: skipped, mounting a file system needs root");
        return;
    };
    copy(&kept, &data);
    let mut net = net.start();
    let mandates = net.run(net.ledger().mandates(&["acquirer"], 100));
    let filler = data.join("filler");
    fill(&filler);
    let others = ["acquirer", "issuer", "clearing"];
    let pay = |net: &Net| {
        let ops: Vec<_> = mandates.iter().map(|mandate| net.ledger().pay(*mandate, 1)).collect();
        net.run(net.ledger().done(&others, 1, &ops));
    };
    for _ in 0..50 {
        pay(&net);
        if !net.is_running("provider") {
            break;
        }
    }
    let status = net.wait_exit("provider", Duration::from_secs(30));
    assert!(!status.success(), "a node without a disk must not report success");
    let said = net.log("provider");
    assert!(said.to_lowercase().contains("space"), "the log must say that the disk is full: {said}");
    assert!(!said.contains("panicked"), "{said}");
    for _ in 0..5 {
        pay(&net);
    }
    std::fs::remove_file(&filler).expect("removed");
    net.start_node("provider");
    net.assert_equal_roots(&ALL);
    net.assert_all_alive();
}
