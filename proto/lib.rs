//! The gRPC schema `h402.watch.v1` and the code generated from it.
//!
//! The generated code is checked in, so that a build needs neither `protoc` nor a build script. The test
//! `generated_code_is_up_to_date` fails when it differs from the schema; run it with `H402_WRITE_PROTO=1` to write it anew.

/// `h402.watch.v1`
#[allow(missing_docs, clippy::all)]
#[rustfmt::skip]
#[path = "generated/h402.watch.v1.rs"]
pub mod v1;

/// The schema as an encoded `FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptor.bin");
