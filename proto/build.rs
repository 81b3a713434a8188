//! Compiles `certwell/v1/*.proto` with protox, so that no `protoc` has to be installed.

use std::path::PathBuf;

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=certwell");
    let descriptors = protox::compile(
        [
            "certwell/v1/enrollment.proto",
            "certwell/v1/fleet.proto",
            "certwell/v1/admin.proto",
        ],
        ["."],
    )?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::SmallCodec")
        // These carry secrets: their Debug is written by hand, in src/redact.rs.
        .skip_debug([
            "certwell.v1.JoinToken",
            "certwell.v1.EnrollRequest",
            "certwell.v1.KeyPair",
            "certwell.v1.CreatedToken",
            "certwell.v1.PageResponse",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
