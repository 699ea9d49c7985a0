//! The keys that artefacts are signed with: read, made at the first start, published.
//!
//! What a signature and a set of keys look like is said once, in the verifier (`h402_watch_verify`).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::SubjectPublicKeyInfoRef;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{EncodePrivateKey as _, KeypairBytes, ObjectIdentifier, PrivateKeyInfo, SecretDocument};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use h402_watch_verify::jwks::{self, Jwk};
use h402_watch_verify::jws;

/// The key file in the store's directory, where the configuration names no key.
pub const DEFAULT_FILE: &str = "signing-key.pem";

/// Keys take some hundred bytes; what is longer is another file.
const FILE_MAX_BYTES: u64 = 16 * 1024;

/// For its owner alone.
const PRIVATE: u32 = 0o600;

/// Where the keys are.
pub struct KeySources<'a> {
    /// The private key that signs, as PEM text. Without it, the first of `files`.
    pub key: Option<&'a str>,
    /// Key files. All but the one that signs are published only, so that what they signed can still be verified.
    pub files: &'a [PathBuf],
    /// The file that signs where neither of these is given.
    pub default: PathBuf,
}

impl KeySources<'_> {
    fn is_default(&self) -> bool {
        self.key.is_none() && self.files.is_empty()
    }
}

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is not what it must be.
    #[error("{name}: expected {expected}")]
    Unfit {
        /// Which key.
        name: String,
        /// What it must be.
        expected: String,
    },
    /// Its file can't be read or written.
    #[error("{name}: could not {action}")]
    File {
        /// Which key.
        name: String,
        /// What was being done.
        action: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Signs artefacts, and knows which keys have.
pub struct Signer {
    secret: SigningKey,
    /// Those that are published; the one that signs comes first.
    keys: Vec<Jwk>,
}

impl Signer {
    /// Reads the keys. `first_start`: nothing was signed yet, so that a default key that is not there is made.
    ///
    /// # Errors
    /// If one of them can't be used; says which, and what to do.
    pub fn open(sources: &KeySources<'_>, first_start: bool) -> Result<Self, KeyError> {
        if sources.is_default() && !there(&sources.default)? {
            if !first_start {
                return unfit(file_name(&sources.default), &lost(&sources.default));
            }
            make(&sources.default)?;
        }
        Self::read(sources)
    }

    /// Whether the keys can be used. Makes none.
    ///
    /// # Errors
    /// As [`Signer::open`]; a default key may be missing, though.
    pub fn check(sources: &KeySources<'_>) -> Result<(), KeyError> {
        if sources.is_default() && !there(&sources.default)? {
            return Ok(());
        }
        Self::read(sources).map(|_| ())
    }

    fn read(sources: &KeySources<'_>) -> Result<Self, KeyError> {
        let mut named = Vec::new();
        if let Some(text) = sources.key {
            let name = "signing.key".to_owned();
            named.push((name.clone(), parse(text).or_else(|expected| unfit(name, &expected))?));
        }
        let default = std::slice::from_ref(&sources.default);
        for path in if sources.is_default() { default } else { sources.files } {
            named.push((file_name(path), read_file(path)?));
        }
        match named.first() {
            Some((_, Key::Private(secret))) => Ok(Self { secret: secret.clone(), keys: distinct(&named)? }),
            Some((name, Key::Public(_))) => unfit(name.clone(), "a private key: the first one signs"),
            None => unfit("signing.keys".into(), "at least one key"),
        }
    }

    /// The signature over an artefact: the same bytes and key always give the same one.
    pub fn sign(&self, artefact: &[u8]) -> String {
        let kid = self.kid();
        let signature = self.secret.sign(jws::signing_input(kid, artefact).as_bytes());
        jws::detached(kid, &signature.to_bytes())
    }

    /// The name of the key that signs.
    pub fn kid(&self) -> &str {
        self.keys.first().map_or("", Jwk::kid)
    }

    /// The public keys, as a JWK set: those that no longer sign included.
    pub fn key_set(&self) -> String {
        jwks::to_json(&self.keys)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.kid())
    }
}

/// Makes a private key in a file that is not there yet, for its owner alone; it is on the disk when this returns. Returns its
/// name.
///
/// # Errors
/// If there is such a file already, or it can't be written.
pub fn make(path: &Path) -> Result<String, KeyError> {
    let failed = |action| move |source| KeyError::File { name: file_name(path), action, source };
    // Without the public half, which PKCS#8 has room for: OpenSSL 3.0 can't read a file that has it.
    let mut pair = KeypairBytes { secret_key: [0; 32], public_key: None };
    getrandom::fill(&mut pair.secret_key)
        .map_err(std::io::Error::from)
        .map_err(failed("draw random numbers for it"))?;
    let public = SigningKey::from_bytes(&pair.secret_key).verifying_key();
    let pem = pair.to_pkcs8_pem(LineEnding::LF).map_err(std::io::Error::other).map_err(failed("encode it"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // It gets its name once it is whole, so that a crash leaves no half of a key; an existing file is never replaced.
    let write = || {
        let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(PRIVATE)).tempfile_in(folder)?;
        file.write_all(pem.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(failed("make it"))?;
    Ok(jwk(&public).kid().to_owned())
}

/// The public keys of key files, private ones or public ones, as a JWK set.
///
/// # Errors
/// If one of them can't be used.
pub fn key_set_of(files: &[PathBuf]) -> Result<String, KeyError> {
    let named = files.iter().map(|path| Ok((file_name(path), read_file(path)?)));
    Ok(jwks::to_json(&distinct(&named.collect::<Result<Vec<_>, KeyError>>()?)?))
}

enum Key {
    Private(SigningKey),
    Public(VerifyingKey),
}

impl Key {
    fn public(&self) -> VerifyingKey {
        match self {
            Self::Private(secret) => secret.verifying_key(),
            Self::Public(public) => *public,
        }
    }
}

fn jwk(public: &VerifyingKey) -> Jwk {
    Jwk::from_ed25519(public.as_bytes())
}

/// Each of them once.
fn distinct(named: &[(String, Key)]) -> Result<Vec<Jwk>, KeyError> {
    let (mut keys, mut known) = (Vec::new(), BTreeMap::new());
    for (name, key) in named {
        let key = jwk(&key.public());
        if let Some(first) = known.insert(key.kid().to_owned(), name) {
            return unfit(name.clone(), &format!("another key than that of {first}"));
        }
        keys.push(key);
    }
    Ok(keys)
}

fn read_file(path: &Path) -> Result<Key, KeyError> {
    let failed = |source| KeyError::File { name: file_name(path), action: "read it", source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    let key = parse(&String::from_utf8_lossy(&bytes)).or_else(|expected| unfit(file_name(path), &expected))?;
    if matches!(key, Key::Private(_)) && mode & 0o077 != 0 {
        let mode = mode & 0o777;
        let expected =
            format!("a private key that its owner alone can use, not mode {mode:03o}: chmod 600 {}", path.display());
        return unfit(file_name(path), &expected);
    }
    Ok(key)
}

/// Reads a PEM text, or says what was expected; never what stands there.
fn parse(text: &str) -> Result<Key, String> {
    let form = "a PEM text: PRIVATE KEY (PKCS#8, not encrypted) or PUBLIC KEY";
    let (label, document) = SecretDocument::from_pem(text.trim()).map_err(|_| form.to_owned())?;
    match label {
        "PRIVATE KEY" => {
            let info = PrivateKeyInfo::try_from(document.as_bytes()).map_err(|_| form.to_owned())?;
            of_ed25519(info.algorithm.oid)?;
            SigningKey::try_from(info).map(Key::Private).map_err(|_| "a whole private key of Ed25519".into())
        }
        "PUBLIC KEY" => {
            let info = SubjectPublicKeyInfoRef::try_from(document.as_bytes()).map_err(|_| form.to_owned())?;
            of_ed25519(info.algorithm.oid)?;
            VerifyingKey::try_from(info).map(Key::Public).map_err(|_| "a whole public key of Ed25519".into())
        }
        other => Err(format!("{form}, not {other}")),
    }
}

fn of_ed25519(algorithm: ObjectIdentifier) -> Result<(), String> {
    if algorithm == ed25519_dalek::pkcs8::ALGORITHM_OID {
        return Ok(());
    }
    Err(format!("a key of Ed25519, not one of the algorithm {algorithm}"))
}

fn there(path: &Path) -> Result<bool, KeyError> {
    let failed = |source| KeyError::File { name: file_name(path), action: "look for it", source };
    path.try_exists().map_err(failed)
}

fn lost(path: &Path) -> String {
    format!(
        "the key that signed what the store holds. Bring it back, or make a new one: h402-watch key new {}; what the lost one \
         signed can then be verified only by those who have its public half",
        path.display()
    )
}

fn file_name(path: &Path) -> String {
    format!("key file {}", path.display())
}

fn unfit<T>(name: String, expected: &str) -> Result<T, KeyError> {
    Err(KeyError::Unfit { name, expected: expected.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use h402_watch_verify::jws::Detached;

    use super::*;

    /// The example keys of RFC 8410, section 10.
    const PRIVATE_PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    const PUBLIC_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a folder"))
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
            let path = self.path(name);
            std::fs::write(&path, text).expect("writes");
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("is ours");
            path
        }

        fn open(&self, files: &[PathBuf]) -> Result<Signer, KeyError> {
            Signer::open(&KeySources { key: None, files, default: self.path("default.pem") }, true)
        }

        fn openssl(&self, arguments: &str) {
            let arguments = arguments.split(' ');
            let ended =
                Command::new("openssl").args(arguments).current_dir(self.0.path()).output().expect("openssl runs");
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        }
    }

    fn kids(key_set: &str) -> Vec<String> {
        let keys = jwks::Keys::parse(key_set.as_bytes()).expect("a set");
        keys.iter().map(|key| key.kid().to_owned()).collect()
    }

    #[test]
    fn the_first_start_makes_a_key_for_its_owner_alone_and_later_ones_use_it() {
        let folder = Folder::new();
        let first = folder.open(&[]).expect("makes a key");
        let mode = std::fs::metadata(folder.path("default.pem")).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(folder.0.path().read_dir().expect("a folder").count(), 1, "nothing else is left behind");
        let second = folder.open(&[]).expect("is there");
        assert_eq!((first.kid(), first.sign(b"{}")), (second.kid(), second.sign(b"{}")));
        assert_ne!(first.kid(), Folder::new().open(&[]).expect("makes a key").kid());
        assert_eq!(format!("{first:?}"), format!("Signer({})", first.kid()));
    }

    #[test]
    fn a_key_that_signed_and_is_gone_is_missed() {
        let folder = Folder::new();
        let sources = KeySources { key: None, files: &[], default: folder.path("default.pem") };
        let told = Signer::open(&sources, false).expect_err("is missed").to_string();
        assert!(told.contains("expected the key that signed what the store holds"), "{told}");
        assert!(told.contains("h402-watch key new"), "{told}");
        Signer::check(&sources).expect("whether anything was signed is not known");
        assert!(!folder.path("default.pem").exists());
    }

    #[test]
    fn a_key_file_is_never_replaced() {
        let folder = Folder::new();
        let path = folder.write("key.pem", "mine", 0o600);
        make(&path).expect_err("is there");
        assert_eq!(std::fs::read_to_string(&path).expect("is there"), "mine");
        make(&folder.path("no/such/folder/key.pem")).expect_err("has no folder");
    }

    #[test]
    fn the_first_signs_and_all_are_published() {
        let folder = Folder::new();
        let (new, old) = (folder.write("new.pem", PRIVATE_PEM, 0o400), folder.path("old.pem"));
        let old_kid = make(&old).expect("makes");
        folder.openssl("genpkey -algorithm ed25519 -out lost.pem");
        folder.openssl("pkey -in lost.pem -pubout -out oldest.pem");
        let files = [new, old, folder.path("oldest.pem")];
        let signer = folder.open(&files).expect("are fine");
        let all = kids(&signer.key_set());
        assert_eq!((all.len(), all[0].as_str(), all[1].as_str()), (3, signer.kid(), old_kid.as_str()));
        let public = folder.write("public.pem", PUBLIC_PEM, 0o644);
        assert_eq!(kids(&key_set_of(&[public]).expect("is fine")), [signer.kid()], "they are a pair");
        assert_eq!(key_set_of(&files).expect("are fine"), signer.key_set());
        assert!(!folder.path("default.pem").exists());

        let keys = jwks::Keys::parse(signer.key_set().as_bytes()).expect("a set");
        let signed = Detached::parse(&signer.sign(b"{\"n\":1}")).expect("is one");
        assert_eq!(signed.kid, signer.kid());
        signed.verify(b"{\"n\":1}", &keys).expect("it signed this");
        signed.verify(b"{\"n\":2}", &keys).expect_err("it did not sign that");

        let text = format!("\n{}\n", PRIVATE_PEM.replace('\n', "\r\n"));
        let by_text = KeySources { key: Some(&text), files: &files[1..], default: folder.path("default.pem") };
        assert_eq!(Signer::open(&by_text, false).expect("are fine").key_set(), signer.key_set());
    }

    #[test]
    fn keys_are_exchanged_with_openssl() {
        let folder = Folder::new();
        folder.openssl("genpkey -algorithm ed25519 -out theirs.pem");
        folder.openssl("pkey -in theirs.pem -pubout -out theirs-public.pem");
        let kid = make(&folder.path("ours.pem")).expect("makes");
        folder.openssl("pkey -in ours.pem -pubout -out ours-public.pem");
        let public = |name: &str| kids(&key_set_of(&[folder.path(name)]).expect("is read"));
        assert_eq!(public("ours-public.pem"), [kid]);
        assert_eq!(public("theirs-public.pem"), public("theirs.pem"));

        let signer = folder.open(&[folder.path("theirs.pem")]).expect("is read");
        let signature = Detached::parse(&signer.sign(b"{}")).expect("is one").signature;
        std::fs::write(folder.path("signature"), signature).expect("writes");
        std::fs::write(folder.path("input"), jws::signing_input(signer.kid(), b"{}")).expect("writes");
        folder.openssl("pkeyutl -verify -pubin -inkey theirs-public.pem -rawin -in input -sigfile signature");
    }

    #[test]
    fn what_is_no_key_for_this_is_refused_saying_why() {
        let folder = Folder::new();
        folder.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256.pem");
        folder.openssl("pkey -in p256.pem -pubout -out p256-public.pem");
        folder.openssl("genpkey -algorithm ed25519 -aes256 -pass pass:secret -out encrypted.pem");
        folder.openssl("genpkey -algorithm ed25519 -outform DER -out key.der");
        let good = folder.write("good.pem", PRIVATE_PEM, 0o600);
        let public = folder.write("public.pem", PUBLIC_PEM, 0o644);
        let lax = folder.write("lax.pem", PRIVATE_PEM, 0o640);
        let again = folder.write("again.pem", PRIVATE_PEM, 0o600);
        let cut = folder.write("cut.pem", &PRIVATE_PEM[..60], 0o600);
        let two = folder.write("two.pem", &format!("{PRIVATE_PEM}{PUBLIC_PEM}"), 0o600);
        let form = "expected a PEM text: PRIVATE KEY (PKCS#8, not encrypted) or PUBLIC KEY";
        let cases = [
            (vec![folder.path("p256.pem")], "a key of Ed25519, not one of the algorithm 1.2.840.10045.2.1"),
            (vec![good.clone(), folder.path("p256-public.pem")], "a key of Ed25519, not one of"),
            (vec![folder.path("encrypted.pem")], "not ENCRYPTED PRIVATE KEY"),
            (vec![folder.path("key.der")], form),
            (vec![cut], form),
            (vec![two], form),
            (vec![folder.write("empty.pem", "", 0o600)], form),
            (vec![lax.clone()], &format!("not mode 640: chmod 600 {}", lax.display())),
            (vec![good.clone(), lax], "not mode 640: chmod 600"),
            (vec![good.clone(), again], &format!("expected another key than that of key file {}", good.display())),
            (vec![public, good], "expected a private key: the first one signs"),
            (vec![folder.path("nowhere.pem")], "could not read it"),
        ];
        for (files, expected) in cases {
            let told = folder.open(&files).expect_err(expected).to_string();
            assert!(told.starts_with("key file ") && told.contains(expected), "{told:?} does not say {expected:?}");
            assert!(!told.contains("MC4C"), "{told}");
        }
        for (text, expected) in [("", form), (PUBLIC_PEM, "expected a private key"), ("my secret", form)] {
            let sources = KeySources { key: Some(text), files: &[], default: folder.path("default.pem") };
            let told = Signer::check(&sources).expect_err(expected).to_string();
            assert!(told.starts_with("signing.key: ") && told.contains(expected), "{told}");
            assert!(!told.contains("secret"), "{told}");
        }
    }
}
