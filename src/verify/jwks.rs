//! Public keys as JSON: a JWK (RFC 7517, RFC 8037) each, named by its thumbprint (RFC 7638), and sets of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::VerifyingKey;
use h402_watch_engine::canonical::{Json, digest};
use serde_json::Value;

use crate::wrong::{Code, Wrong};

/// A public key of Ed25519.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    public: [u8; 32],
    kid: String,
}

impl Jwk {
    /// The key of these bytes (RFC 8032, 5.1.5).
    pub fn from_ed25519(public: &[u8; 32]) -> Self {
        Self { public: *public, kid: thumbprint(public) }
    }

    /// Its name: the thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Its bytes.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    fn to_json(&self) -> Json {
        Json::object([
            ("alg", Json::text("EdDSA")),
            ("crv", Json::text("Ed25519")),
            ("kid", Json::text(self.kid.as_str())),
            ("kty", Json::text("OKP")),
            ("use", Json::text("sig")),
            ("x", Json::text(URL_SAFE_NO_PAD.encode(self.public))),
        ])
    }
}

/// The name of a public key of Ed25519: the digest of what it can't do without, in the spelling of RFC 8037, appendix A.3.
pub fn thumbprint(public: &[u8; 32]) -> String {
    let needed = Json::object([
        ("crv", Json::text("Ed25519")),
        ("kty", Json::text("OKP")),
        ("x", Json::text(URL_SAFE_NO_PAD.encode(public))),
    ]);
    URL_SAFE_NO_PAD.encode(digest(needed.to_canonical().as_bytes()))
}

/// A set of keys, as it is published.
pub fn to_json(keys: &[Jwk]) -> String {
    Json::object([("keys", Json::List(keys.iter().map(Jwk::to_json).collect()))]).to_canonical()
}

/// The keys whose signatures are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<Jwk>);

impl Keys {
    /// These keys.
    pub fn new(keys: impl IntoIterator<Item = Jwk>) -> Self {
        Self(keys.into_iter().collect())
    }

    /// Reads a set. Keys of other kinds and for other uses may be in it; they are passed over.
    ///
    /// # Errors
    /// If it is no set, or holds a key of Ed25519 that is not what it says.
    pub fn parse(text: &[u8]) -> Result<Self, Wrong> {
        let wrong = |said: &str| Wrong::new(Code::KeySet, said);
        let set: Value =
            serde_json::from_slice(text).map_err(|error| wrong(&format!("the set of keys is no JSON: {error}")))?;
        let listed =
            set.get("keys").and_then(Value::as_array).ok_or_else(|| wrong("a set of keys has a list `keys`"))?;
        let mut keys = Vec::new();
        for (place, key) in listed.iter().enumerate() {
            let read = read(key).map_err(|said| wrong(&format!("key {place} of the set {said}")))?;
            keys.extend(read);
        }
        Ok(Self(keys))
    }

    /// The key of that name.
    pub fn find(&self, kid: &str) -> Option<&Jwk> {
        self.0.iter().find(|key| key.kid == kid)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Jwk> {
        self.0.iter()
    }
}

/// Reads one key; `None` if it is none that artefacts are signed with.
fn read(key: &Value) -> Result<Option<Jwk>, &'static str> {
    let key = key.as_object().ok_or("is no object")?;
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    // Those that lack what tells their kind are no error of the set (RFC 7517, section 5).
    if text("kty") != Some("OKP") || text("crv") != Some("Ed25519") {
        return Ok(None);
    }
    // RFC 9864 gave the algorithm a second name.
    let signs = key.get("use").is_none_or(|used| used == "sig");
    if !signs || !key.get("alg").is_none_or(|alg| alg == "EdDSA" || alg == "Ed25519") {
        return Ok(None);
    }
    if key.contains_key("d") {
        return Err("is a private one: whoever has this file can sign");
    }
    let x = text("x").and_then(|x| URL_SAFE_NO_PAD.decode(x).ok());
    let public: [u8; 32] = x.and_then(|x| x.try_into().ok()).ok_or("has no `x` of 32 bytes in base64url")?;
    VerifyingKey::from_bytes(&public).map_err(|_| "is no point of the curve")?;
    let jwk = Jwk::from_ed25519(&public);
    if key.get("kid").is_some_and(|kid| *kid != jwk.kid) {
        return Err("has a `kid` that is not its thumbprint");
    }
    Ok(Some(jwk))
}
