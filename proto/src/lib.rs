//! The gRPC contract of Anji, generated from `anji/v1/*.proto`. The comments in those files are the documentation.
//! Nothing here is ever hashed or signed: signed bytes are described in `proto/FORMAT.md`.

/// Version 1 of every service. Fields are only ever added.
pub mod v1 {
    #![allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used, unreachable_pub, reason = "generated")]
    tonic::include_proto!("anji.v1");
}

/// Descriptors of all services and messages, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/anji.v1.bin"));
