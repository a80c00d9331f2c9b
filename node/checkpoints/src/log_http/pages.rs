//! What each path answers. Every call may block on the disk.

use super::paths::{TilePath, WIDTH};
use anji_contracts::types::Hash32;
use anji_storage::{ReadError, Reader};

/// The bytes of a tile or bundle of a log of `size` entries; `None` if the log has no such tile.
pub(crate) fn load(reader: &Reader, path: &TilePath, size: u64) -> Result<Option<Vec<u8>>, ReadError> {
    if path.needs().is_none_or(|needs| needs > size) {
        return Ok(None);
    }
    match path.level {
        None => bundle(reader, path.index * WIDTH, path.width).map(Some),
        Some(level) => {
            let width = usize::try_from(path.width).unwrap_or(usize::MAX);
            let hashes = reader.tile_prefix(level, path.index, width)?;
            let hashes = hashes.ok_or_else(|| missing(format!("tile {} of level {level}", path.index)))?;
            Ok(Some(hashes.iter().flat_map(|hash| hash.0).collect()))
        }
    }
}

/// The proof that the log of `new` entries continues that of `old`; both must be within the stored log.
pub(crate) fn consistency(reader: &Reader, old: u64, new: u64) -> Result<Vec<Hash32>, ReadError> {
    if old == 0 || old >= new {
        return Ok(Vec::new());
    }
    reader.consistency(old, new)?.ok_or_else(|| missing(format!("the log of {new} entries")))
}

fn missing(place: String) -> ReadError {
    ReadError::Corrupted { place, what: "it is missing".to_owned() }
}

/// Entries, each after its length as a big-endian u16.
fn bundle(reader: &Reader, first: u64, width: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::with_capacity(64 << 10);
    for index in first..first + width {
        let entry = reader.entry_bytes(index)?.ok_or_else(|| missing(format!("entry {index}")))?;
        let length = u16::try_from(entry.len()).map_err(|_| ReadError::Corrupted {
            place: format!("entry {index}"),
            what: format!("it has {} bytes; a bundle holds at most 65,535 of each", entry.len()),
        })?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&entry);
    }
    Ok(bytes)
}
