//! What the service writes, held against other people's code: `rfc8785`, `jsonschema` and `joserfc` in Python, `jose` in Node.

#[path = "../support/cache.rs"]
mod cache;

mod binding;
mod schemas;
mod signed;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use signed::{Folder, signer};
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Stories of tests/golden, each a folder with whole watches.
fn golden() -> Vec<PathBuf> {
    let folders = std::fs::read_dir(Path::new(ROOT).join("tests/golden")).expect("a folder");
    let mut folders: Vec<_> = folders.map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    folders
}

/// One story, signed, in a folder of its own.
fn story(name: &str) -> (TempDir, Folder) {
    let below = TempDir::new().expect("a folder");
    let folder = Folder::of(&Path::new(ROOT).join("tests/golden").join(name), below.path());
    (below, folder)
}

/// Runs a script of tests/python.
fn python(script: &str, arguments: &[&Path]) -> Output {
    let python = cache::devnet().join("python/bin/python");
    assert!(python.exists(), "no Python environment in {}: run `make python` first", python.display());
    let script = Path::new(ROOT).join("tests/python").join(script);
    Command::new(python).arg("-B").arg(script).args(arguments).output().expect("runs")
}

fn by_python(folders: &[&Path]) -> Output {
    let schemas = Path::new(ROOT).join("proto/artefacts");
    python("evidence.py", &[&[schemas.as_path()], folders].concat())
}

fn by_node(folders: &[&Path]) -> Output {
    let modules = cache::devnet().join("node");
    assert!(modules.exists(), "no packages for Node in {}: run `make node` first", modules.display());
    let script = Path::new(ROOT).join("tests/node/evidence.mjs");
    Command::new("node").arg(script).arg(modules).args(folders).output().expect("Node.js is installed")
}

#[track_caller]
fn accepted(output: &Output) -> String {
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complained}");
    said.trim_end().to_owned()
}

/// That it was refused, with one line that holds all of `words`.
#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.status.code(), said.as_ref()), (Some(1), ""), "{complained}");
    assert!(words.iter().all(|word| complained.contains(word)), "{complained}");
    assert_eq!(complained.lines().count(), 1, "{complained}");
}

#[test]
fn other_peoples_code_accepts_every_golden_artefact() {
    let below = TempDir::new().expect("a folder");
    let folders: Vec<_> = golden().iter().map(|golden| Folder::of(golden, below.path())).collect();
    let paths: Vec<_> = folders.iter().map(|folder| folder.path.as_path()).collect();
    let files = golden().into_iter().map(|folder| std::fs::read_dir(folder).expect("a folder").count());
    let all = format!("{} artefacts", files.sum::<usize>());
    assert_eq!(accepted(&by_python(&paths)), all);
    assert_eq!(accepted(&by_node(&paths)), all);
}

#[test]
fn a_changed_byte_is_refused() {
    let (_below, folder) = story("failures");
    folder.alter("05-settled.json", r#""amount":"90""#, r#""amount":"91""#);
    // Canonical, and what a schema allows: it is the signature that tells.
    refused(&by_python(&[&folder.path]), &["05-settled.json", "bad_signature"]);
    refused(&by_node(&[&folder.path]), &["05-settled.json", "signature verification failed"]);
}

#[test]
fn a_signature_of_another_key_or_another_artefact_is_refused() {
    let (_below, folder) = story("address");
    let artefact = folder.read("03-settled.json");
    let others = signer().sign(artefact.as_bytes());
    for signature in [others, folder.read("02-included.json.jws"), String::new(), "a..b".into()] {
        folder.write_signature("03-settled.json", &signature);
        refused(&by_python(&[&folder.path]), &["03-settled.json"]);
        refused(&by_node(&[&folder.path]), &["03-settled.json"]);
    }
}

#[test]
fn a_chain_that_was_altered_or_has_a_gap_is_refused() {
    let (_below, folder) = story("address");
    folder.alter_and_sign("02-included.json", r#""received":"100""#, r#""received":"101""#);
    refused(&by_python(&[&folder.path]), &["03-settled.json", "hash chain"]);
    let (_below, folder) = story("address");
    folder.remove("02-included.json");
    refused(&by_python(&[&folder.path]), &["03-settled.json", "hash chain"]);
}

#[test]
fn what_is_not_canonical_is_refused_though_it_is_signed() {
    let cases = [
        (r#"{"artefact""#, r#"{ "artefact""#),
        (r#""version":1"#, r#""version":1.0"#),
        (r#""network":"test:1""#, r#""network":"test\u003a1""#),
        (r#""index":3,"network":"test:1""#, r#""network":"test:1","index":3"#),
        (r#""index":3"#, r#""index":3,"index":3"#),
    ];
    for (from, to) in cases {
        let (_below, folder) = story("address");
        folder.alter_and_sign("03-settled.json", from, to);
        refused(&by_python(&[&folder.path]), &["03-settled.json", "not canonical JSON"]);
    }
}
