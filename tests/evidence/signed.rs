//! Artefacts as they are handed to someone else: a folder of files, each with its signature, and the keys.

use std::path::{Path, PathBuf};

use h402_watch::sign::{KeySources, Signer};

/// A key as the service makes it at its first start.
pub fn signer() -> Signer {
    let below = tempfile::TempDir::new().expect("a folder");
    let sources = KeySources { key: None, files: &[], default: below.path().join("key.pem") };
    Signer::open(&sources, true).expect("makes a key")
}

/// A folder of signed artefacts.
pub struct Folder {
    pub path: PathBuf,
    signer: Signer,
}

impl Folder {
    /// The artefacts of a folder of golden files, signed.
    pub fn of(golden: &Path, below: &Path) -> Self {
        let path = below.join(golden.file_name().expect("a name"));
        let folder = Self { path, signer: signer() };
        std::fs::create_dir(&folder.path).expect("a new folder");
        std::fs::write(folder.path.join("jwks.json"), folder.signer.key_set()).expect("writes");
        for entry in std::fs::read_dir(golden).expect("a folder") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("UTF-8");
            folder.write(&name, &std::fs::read(entry.path()).expect("reads"));
        }
        folder
    }

    /// An artefact and its signature.
    pub fn write(&self, name: &str, artefact: &[u8]) {
        std::fs::write(self.path.join(name), artefact).expect("writes");
        self.write_signature(name, &self.signer.sign(artefact));
    }

    pub fn write_signature(&self, name: &str, signature: &str) {
        std::fs::write(self.path.join(format!("{name}.jws")), signature).expect("writes");
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path.join(name)).expect("reads")
    }

    /// Alters the text of an artefact, without signing it anew.
    pub fn alter(&self, name: &str, from: &str, to: &str) {
        std::fs::write(self.path.join(name), self.altered(name, from, to)).expect("writes");
    }

    /// Alters it, and signs what came out: what a service would do that writes something else than the format.
    pub fn alter_and_sign(&self, name: &str, from: &str, to: &str) {
        self.write(name, self.altered(name, from, to).as_bytes());
    }

    fn altered(&self, name: &str, from: &str, to: &str) -> String {
        let artefact = self.read(name);
        assert!(artefact.contains(from), "{name} has no {from}");
        artefact.replacen(from, to, 1)
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path.join(name)).expect("removes");
        std::fs::remove_file(self.path.join(format!("{name}.jws"))).expect("removes");
    }
}
