//! The few calls that write the block file, behind a trait, so that tests can make a disk fail at any of them.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Writes of the block file.
pub trait Disk: Debug + Send + Sync {
    /// Writes all bytes at the offset.
    ///
    /// # Errors
    /// The system's answer; any part may have been written.
    fn write_all_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file's contents durable.
    ///
    /// # Errors
    /// The system's answer; nothing is known about what is durable then.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Cuts the file.
    ///
    /// # Errors
    /// The system's answer.
    fn truncate(&self, file: &File, length: u64) -> io::Result<()>;
}

/// The real thing.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn write_all_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }
}
