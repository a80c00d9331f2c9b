//! The commands.

pub(crate) mod init;
