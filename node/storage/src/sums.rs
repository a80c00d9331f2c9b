//! Digests of RocksDB's files, so that a flipped byte in any of them is named at start.
