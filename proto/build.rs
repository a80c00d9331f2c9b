//! Compiles the proto files with protox, so that no protoc needs to be installed, and keeps the descriptor set for reflection.

use prost::Message;
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "anji/v1/ledger.proto",
        "anji/v1/wallet.proto",
        "anji/v1/operator.proto",
        "anji/v1/evidence.proto",
        "anji/v1/adapter.proto",
    ];
    println!("cargo:rerun-if-changed=anji");
    // A Compiler keeps source info, which becomes the documentation of the generated types.
    let descriptors = protox::Compiler::new(["."])?
        .include_imports(true)
        .include_source_info(true)
        .open_files(files)?
        .file_descriptor_set();
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // Reflection does not need the comments.
    let mut served = descriptors.clone();
    for file in &mut served.file {
        file.source_code_info = None;
    }
    std::fs::write(out.join("anji.v1.bin"), served.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".anji.v1.SubmitBatchRequest.signed_batch")
        .bytes(".anji.v1.SubmitBatchesRequest.signed_batch")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
