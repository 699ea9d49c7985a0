//! What can be wrong with an artefact: a code for programs, a sentence for people.

use serde::Serialize;

/// Which rule is broken. The codes are stable: programs may tell errors apart by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A set of public keys that can't be read.
    KeySet,
    /// A signature that is not spelled as signatures of artefacts are.
    SignatureFormat,
    /// A signature of a key that is not in the set.
    UnknownKey,
    /// A signature that its key did not make over these bytes.
    Signature,
}

impl Code {
    /// The code as it stands in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeySet => "key_set",
            Self::SignatureFormat => "signature_format",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}: {said}", code.as_str())]
pub struct Wrong {
    /// Which rule is broken.
    pub code: Code,
    /// How, in words.
    pub said: String,
}

impl Wrong {
    /// A broken rule, and how it is broken.
    pub fn new(code: Code, said: impl Into<String>) -> Self {
        Self { code, said: said.into() }
    }
}
