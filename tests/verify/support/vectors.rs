//! Records what tests build, as test vectors.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use h402_watch_verify::Code;
use serde_json::Value;

use super::signed;

/// Where the vectors stand.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/artefacts/vectors")
}

fn is_recording() -> bool {
    std::env::var_os("H402_WRITE_VECTORS").is_some()
}

/// The first artefact of a test that comes to this: in order, or refused with a code.
pub fn record(value: &Value, came_to: Result<(), Code>) {
    if !is_recording() {
        return;
    }
    let test = std::thread::current().name().expect("a test").replace("::", "-");
    let place = came_to.map_or_else(|code| format!("refused/{}", code.as_str()), |()| "accepted".to_owned());
    let evidence = signed(value);
    write(&format!("{place}/{test}.json"), &evidence.artefact, evidence.signature.as_deref());
}

/// Bytes that are refused with a code.
pub fn record_bytes(code: Code, name: &str, bytes: &[u8], signature: &str) {
    if is_recording() {
        write(&format!("refused/{}/{name}.json", code.as_str()), bytes, Some(signature));
    }
}

/// Artefacts that are wrong together.
pub fn record_chain(name: &str, artefacts: &[Value]) {
    for (artefact, n) in artefacts.iter().zip(1..) {
        if is_recording() {
            let evidence = signed(artefact);
            write(&format!("chains/{name}/{n}.json"), &evidence.artefact, evidence.signature.as_deref());
        }
    }
}

/// A file beside them.
pub fn record_file(name: &str, bytes: &[u8]) {
    if is_recording() {
        write(name, bytes, None);
    }
}

/// A file of the vectors, and its signature beside it; one that is there already stays.
fn write(name: &str, bytes: &[u8], signature: Option<&str>) {
    let path = folder().join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let Ok(mut file) = std::fs::File::create_new(&path) else { return };
    file.write_all(bytes).expect("writes");
    if let Some(signature) = signature {
        std::fs::write(path.with_added_extension("jws"), signature).expect("writes");
    }
}
