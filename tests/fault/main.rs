//! Nodes that die, disks that lie, clocks that are wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail loudly")]

mod clock;
mod disk;
mod full_disk;
mod kill9;
