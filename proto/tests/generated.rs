//! Keeps the generated code in step with the schema.

use std::path::Path;

use prost::Message as _;

#[test]
fn generated_code_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([root]).expect("the schema's folder");
    compiler.include_source_info(true).include_imports(true);
    compiler.open_file("h402/watch/v1/watch.proto").expect("the schema compiles");
    let descriptors = compiler.file_descriptor_set();
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(out)
        .compile_fds(descriptors.clone())
        .expect("code is generated");
    // Reflection needs no comments.
    let mut bare = descriptors;
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    let code = std::fs::read(out.join("h402.watch.v1.rs")).expect("the generated code");
    for (name, fresh) in [("h402.watch.v1.rs", code), ("descriptor.bin", bare.encode_to_vec())] {
        let path = root.join("generated").join(name);
        if std::env::var_os("H402_WRITE_PROTO").is_some() {
            std::fs::write(&path, &fresh).expect("writes");
        }
        let kept = std::fs::read(&path).expect("checked in");
        assert!(kept == fresh, "{name} differs from the schema: run this test with H402_WRITE_PROTO=1");
    }
}
