//! RocksDB: options, column families, opening.
