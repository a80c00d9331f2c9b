//! The log tree over the stored tiles.
