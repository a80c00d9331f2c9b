//! A disk that fails: whatever happens, nothing is acknowledged that is not there, and a start finds a whole file.

use crate::support::*;
use anji_storage::{AppendError, Disk, Store, StoreOptions, SystemDisk};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Part of the bytes arrive, then the disk is full.
    Full,
    /// All bytes arrive, but the sync fails.
    Sync,
    /// Part of the bytes arrive, and the file cannot be cut back.
    FullAndStuck,
}

/// Fails at the n-th write.
#[derive(Debug)]
struct FaultyDisk {
    fault: Fault,
    writes_left: AtomicI64,
}

impl Disk for FaultyDisk {
    fn write_all_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.writes_left.fetch_sub(1, SeqCst) > 0 || self.fault == Fault::Sync {
            return SystemDisk.write_all_at(file, bytes, offset);
        }
        SystemDisk.write_all_at(file, &bytes[..bytes.len() / 2], offset)?;
        Err(ErrorKind::StorageFull.into())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.fault == Fault::Sync && self.writes_left.load(SeqCst) == -1 {
            // Once, as Linux does: the next sync would lie.
            self.writes_left.fetch_sub(1, SeqCst);
            return Err(io::Error::other("input/output error"));
        }
        SystemDisk.sync(file)
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        if self.fault == Fault::FullAndStuck {
            return Err(io::Error::other("input/output error"));
        }
        SystemDisk.truncate(file, length)
    }
}

#[test]
fn a_failing_disk_never_corrupts_the_file() {
    for fault in [Fault::Full, Fault::Sync, Fault::FullAndStuck] {
        // The first write makes the segment; each block is two more.
        for n_writes in 1..10i64 {
            let dir = folder();
            let disk = Arc::new(FaultyDisk { fault, writes_left: AtomicI64::new(n_writes) });
            let failing = StoreOptions { disk, segment_bytes: 900, ..options() };
            let opened = Store::open(dir.path(), &genesis(1), &failing).unwrap();
            let blocks = &opened.blocks;
            let mut acknowledged = 0;
            let error = (1..)
                .find_map(|height| {
                    let block = block(height, &[b"some bytes of a batch"]);
                    let appended = blocks.append_proposal(&block.header, &block.batches).map(|_| ());
                    let appended = appended.and_then(|()| blocks.append_decision(&block.certificate));
                    acknowledged += u64::from(appended.is_ok());
                    appended.err()
                })
                .unwrap();
            match fault {
                Fault::Full | Fault::FullAndStuck => {
                    assert!(matches!(error, AppendError::DiskFull { .. }), "{error}");
                    assert!(error.to_string().contains("free space"), "{error}");
                }
                Fault::Sync => assert!(matches!(error, AppendError::Io { .. }), "{error}"),
            }
            // After a failure nothing more is taken in this run: a sync that failed once may claim success later.
            let next = block(acknowledged + 1, &[]);
            let again = blocks.append_proposal(&next.header, &next.batches);
            assert!(matches!(again, Err(AppendError::Poisoned)), "{again:?}");
            assert_eq!(blocks.decided_height(), acknowledged);
            drop(opened);
            // With space again the node starts where it was, and goes on.
            let healthy = StoreOptions { segment_bytes: 900, ..options() };
            let opened = Store::open(dir.path(), &genesis(1), &healthy).unwrap();
            assert_eq!(opened.blocks.decided_height(), acknowledged, "{fault:?} after {n_writes} writes");
            for height in 1..=acknowledged + 3 {
                let block = block(height, &[b"some bytes of a batch"]);
                if height > acknowledged {
                    decide(&opened.blocks, &block);
                }
                assert_eq!(opened.blocks.load_block(height).unwrap().unwrap(), block);
            }
        }
    }
}

#[test]
fn a_full_file_system_is_a_clear_error_and_no_damage() {
    // /dev/full takes no byte: the nearest thing to a full disk without being root.
    let dir = folder();
    decide(&open(dir.path()).blocks, &block(1, &[]));
    let bytes = fs::read(segment(dir.path(), 1)).unwrap();
    let opened = open(dir.path());
    let file = File::options().write(true).open("/dev/full").unwrap();
    let error = SystemDisk.write_all_at(&file, &bytes, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    drop(opened);
    assert_eq!(fs::read(segment(dir.path(), 1)).unwrap(), bytes);
}
