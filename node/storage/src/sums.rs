//! Digests of RocksDB's files, so that a flipped byte in any of them is named at start, even where RocksDB would not look.
//!
//! `state/SUMS` has a line `name size crc32c` for each table (they never change), for `OPTIONS-*` and `IDENTITY`, and for the manifest's first
//! `size` bytes (it only grows); the last line is the checksum of the lines before. It is written after opening, after flushes and
//! on closing. A file that is not listed yet is checked by reading all of RocksDB's own block checksums instead.

use crate::error::OpenError;
use crate::folder::{REBUILD, io_error, write_atomically};
use crate::state::State;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const SUMS: &str = "SUMS";
const TITLE: &str = "anji state sums 1";
/// How often new tables are looked for.
const INTERVAL: Duration = Duration::from_secs(10);

/// Size and crc32c of a file by name.
type Sums = BTreeMap<String, (u64, u32)>;

fn corrupted(path: &Path, what: impl Into<String>) -> OpenError {
    OpenError::Corrupted { path: path.to_path_buf(), offset: None, what: what.into(), way_out: REBUILD }
}

/// crc32c of the first `size` bytes; `None` if there are fewer.
fn sum_of(path: &Path, size: u64) -> io::Result<Option<u32>> {
    let mut file = File::open(path)?.take(size);
    let mut buffer = vec![0; 1 << 20];
    let mut sum = 0;
    let mut left = size;
    loop {
        let n_read = file.read(&mut buffer)?;
        if n_read == 0 {
            return Ok((left == 0).then_some(sum));
        }
        sum = crc32c::crc32c_append(sum, buffer.get(..n_read).unwrap_or_default());
        left = left.saturating_sub(n_read as u64);
    }
}

fn render(sums: &Sums) -> String {
    let mut text = format!("{TITLE}\n");
    for (name, (size, sum)) in sums {
        text.push_str(&format!("{name} {size} {sum:08x}\n"));
    }
    let sum = crc32c::crc32c(text.as_bytes());
    text.push_str(&format!("crc32c {sum:08x}\n"));
    text
}

fn parse(text: &str) -> Option<Sums> {
    let mut sums = Sums::new();
    for line in text.lines().skip(1) {
        let mut words = line.split(' ');
        let name = words.next()?;
        if name == "crc32c" {
            break;
        }
        let size = words.next()?.parse().ok()?;
        let sum = u32::from_str_radix(words.next()?, 16).ok()?;
        sums.insert(name.to_owned(), (size, sum));
    }
    (render(&sums) == text).then_some(sums)
}

fn is_table(name: &str) -> bool {
    name.ends_with(".sst")
}

/// What the files said before RocksDB touched them.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    tables: Sums,
}

impl Checked {
    /// Whether every table that RocksDB uses was read and found intact.
    pub(crate) fn covers(&self, tables: &[String]) -> bool {
        tables.iter().all(|table| self.tables.contains_key(table))
    }

    /// The tables in the folder that nothing is known about yet.
    pub(crate) fn not_covered(&self, dir: &Path) -> Vec<String> {
        let names =
            fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|it| it.file_name().into_string().ok());
        names.filter(|name| is_table(name) && !self.tables.contains_key(name)).collect()
    }
}

/// `CURRENT` must name a manifest that is there; one flipped byte makes it something else.
fn check_current(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join("CURRENT");
    let text = fs::read(&path).map_err(io_error(&path))?;
    let name = std::str::from_utf8(&text).ok().and_then(|text| text.strip_suffix('\n')).filter(|name| {
        let digits = name.strip_prefix("MANIFEST-").unwrap_or_default();
        digits.len() >= 6 && digits.bytes().all(|digit| digit.is_ascii_digit()) && dir.join(name).is_file()
    });
    name.map(|_| ()).ok_or_else(|| corrupted(&path, "it does not name a manifest that is there"))
}

/// Compares the files of a state folder with their digests. `whole` reads every table; otherwise only their sizes are compared.
pub(crate) fn check_files(dir: &Path, whole: bool) -> Result<Checked, OpenError> {
    check_current(dir)?;
    let path = dir.join(SUMS);
    let text = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Checked::default()),
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    let sums = std::str::from_utf8(&text).ok().and_then(parse);
    let sums = sums.ok_or_else(|| corrupted(&path, "it does not match its own checksum"))?;
    let mut checked = Checked::default();
    for (name, (size, sum)) in sums {
        let path = dir.join(&name);
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            // Compacted away since, or replaced by a later open; RocksDB knows what it needs.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(OpenError::Io { path, source }),
        };
        if length < size || (is_table(&name) && length != size) {
            return Err(corrupted(&path, format!("it has {length} bytes, {size} were written")));
        }
        if is_table(&name) && !whole {
            continue;
        }
        if sum_of(&path, size).map_err(io_error(&path))? != Some(sum) {
            return Err(corrupted(&path, "its bytes do not match the digest made when it was written"));
        }
        if is_table(&name) {
            checked.tables.insert(name, (size, sum));
        }
    }
    Ok(checked)
}

/// Writes `SUMS` now and then from a thread of its own, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct SumsKeeper {
    shared: Arc<Shared>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Arc<State>,
    /// What `SUMS` says now.
    written: Mutex<Sums>,
}

impl SumsKeeper {
    pub(crate) fn start(state: Arc<State>, checked: Checked) -> Result<Self, OpenError> {
        let dir = state.dir.clone();
        let shared = Arc::new(Shared { state, written: Mutex::new(checked.tables) });
        shared.update().map_err(io_error(&dir))?;
        let (stop, stopped) = mpsc::channel();
        let keeper = Arc::clone(&shared);
        let run = move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = keeper.update() {
                    tracing::warn!(%error, "the digests of the state's files were not written");
                }
            }
        };
        let thread = std::thread::Builder::new().name("anji-sums".into()).spawn(run).map_err(io_error(&dir))?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn write_now(&self) -> io::Result<()> {
        self.shared.update()
    }
}

impl Drop for SumsKeeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// The tables that RocksDB uses now, by file name.
pub(crate) fn live_tables(state: &State) -> io::Result<Vec<String>> {
    let files = state.db.live_files().map_err(io::Error::other)?;
    Ok(files.into_iter().map(|file| file.name.trim_start_matches('/').to_owned()).collect())
}

impl Shared {
    fn update(&self) -> io::Result<()> {
        let dir = &self.state.dir;
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = Sums::new();
        for name in live_tables(&self.state)? {
            let known = written.get(&name).copied();
            if let Some(sum) = known.map_or_else(|| sum_whole(&dir.join(&name)), |sum| Ok(Some(sum)))? {
                sums.insert(name, sum);
            }
        }
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_manifest = name.starts_with("MANIFEST-");
            if is_manifest || name == "IDENTITY" || (name.starts_with("OPTIONS-") && !name.ends_with(".dbtmp")) {
                let known = written.get(&name).copied();
                let same =
                    is_manifest && known.is_some_and(|(size, _)| entry.metadata().is_ok_and(|it| it.len() == size));
                let sum = if same { known } else { sum_whole(&entry.path())? };
                sums.extend(sum.map(|sum| (name, sum)));
            }
        }
        if *written != sums || !dir.join(SUMS).exists() {
            write_atomically(&dir.join(SUMS), render(&sums).as_bytes())?;
            *written = sums;
        }
        Ok(())
    }
}

/// Size and digest; `None` if the file is gone.
fn sum_whole(path: &Path) -> io::Result<Option<(u64, u32)>> {
    let sum = fs::metadata(path).and_then(|metadata| Ok((metadata.len(), sum_of(path, metadata.len())?)));
    match sum {
        Ok((size, sum)) => Ok(sum.map(|sum| (size, sum))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_read_back_and_no_flipped_bit_passes() {
        let sums = Sums::from([("000007.sst".to_owned(), (1234, 0xdead_beef)), ("IDENTITY".to_owned(), (36, 1))]);
        let text = render(&sums);
        assert_eq!(parse(&text), Some(sums));
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone().into_bytes();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let parsed = std::str::from_utf8(&flipped).ok().and_then(parse);
            assert_eq!(parsed, None, "bit {bit}");
        }
    }
}
