//! The vectors of `binding.json`, by a second implementation and by the command line.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::{ROOT, accepted, python};

const BINARY: &str = env!("CARGO_BIN_EXE_h402-watch");

fn vectors() -> std::path::PathBuf {
    Path::new(ROOT).join("proto/artefacts/vectors/binding.json")
}

/// What `h402-watch hash` says to an object on its standard input.
fn hash(what: &str, protocol: &str, input: &str) -> Output {
    let mut command = Command::new(BINARY);
    command.args(["hash", what, "--protocol", protocol]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = piped.spawn().expect("runs");
    running.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("writes");
    running.wait_with_output().expect("ends")
}

#[test]
fn a_second_implementation_computes_the_same_hashes() {
    let said = accepted(&python("binding.py", &[&vectors()]));
    assert!(said.ends_with(" vectors"), "{said}");
}

#[test]
fn the_command_line_prints_them() {
    let text = std::fs::read(vectors()).expect("reads");
    let vectors: Vec<serde_json::Value> = serde_json::from_slice(&text).expect("a list");
    for vector in vectors.iter().filter(|vector| vector["what"] != "txBinding") {
        let text = |name: &str| vector[name].as_str().unwrap_or_default();
        let output = hash(text("what"), text("protocol"), text("input"));
        if vector["error"].is_null() {
            assert_eq!(accepted(&output), text("hash"), "{}", text("name"));
            continue;
        }
        let complained = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{}", text("name"));
        assert!(complained.starts_with(&format!("h402-watch: {}: expected ", text("error"))), "{complained}");
    }
}

#[test]
fn a_file_or_the_standard_input_is_read() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("header");
    std::fs::write(&file, "eyJ9\n").expect("writes");
    let of_file = |path: &Path| {
        let arguments = ["hash", "auth", "--protocol", "h402"];
        Command::new(BINARY).args(arguments).arg(path).output().expect("runs")
    };
    assert_eq!(accepted(&of_file(&file)), accepted(&hash("auth", "h402", "eyJ9")));
    let missing = of_file(&folder.path().join("missing"));
    let complained = String::from_utf8_lossy(&missing.stderr);
    assert!(complained.starts_with("h402-watch: reading ") && complained.contains("No such file"), "{complained}");
}
