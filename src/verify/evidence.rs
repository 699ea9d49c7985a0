//! How artefacts and their signatures are handed over: as files beside each other, or as lines of a stream.

use h402_watch_engine::canonical::Json;

use crate::json::{self, Object};
use crate::wrong::{Code, Wrong};

/// An artefact as it was handed over, not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Its bytes.
    pub artefact: Vec<u8>,
    /// The signature beside it, if there is one.
    pub signature: Option<String>,
}

impl Evidence {
    /// From the bytes of `settled.json` and of `settled.json.jws`.
    ///
    /// # Errors
    /// If the signature is no text.
    pub fn from_files(artefact: &[u8], signature: Option<&[u8]>) -> Result<Self, Wrong> {
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec());
            text.map_err(|_| Wrong::new(Code::SignatureFormat, "the signature is no text"))
        };
        Ok(Self { artefact: artefact.to_vec(), signature: signature.map(text).transpose()? })
    }

    /// From an evidence line, with the newline that ends it.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_line(line: &[u8]) -> Result<Self, Wrong> {
        let wrong = |said: &str| Wrong::new(Code::EvidenceLine, said);
        let text = line.strip_suffix(b"\n").ok_or_else(|| wrong("the line is not ended by a newline"))?;
        let json = json::parse(text).map_err(|found| wrong(&found.to_string()))?;
        let mut root = Object::new(&json, "")?;
        let artefact = root.take("artefact").ok_or_else(|| wrong("the line holds no artefact"))?;
        let signature = root.maybe_text("signature")?.map(str::to_owned);
        root.end()?;
        Ok(Self { artefact: artefact.to_canonical().into_bytes(), signature })
    }

    /// The evidence line, with its newline.
    ///
    /// # Errors
    /// If the artefact is not canonical JSON.
    pub fn to_line(&self) -> Result<String, Wrong> {
        let signature = self.signature.as_ref();
        let line = Json::object([("artefact", json::parse(&self.artefact)?), ("signature", Json::maybe(signature))]);
        Ok(line.to_canonical() + "\n")
    }
}

/// The evidence lines of a stream, in order; one that is wrong does not hide the others.
///
/// # Errors
/// Of each line: if it is none.
pub fn lines(stream: &[u8]) -> impl Iterator<Item = Result<Evidence, Wrong>> {
    stream.split_inclusive(|byte| *byte == b'\n').map(Evidence::from_line)
}

/// Whether bytes are evidence lines, rather than an artefact alone: that begins with the name of what it is.
pub fn is_lines(bytes: &[u8]) -> bool {
    bytes.starts_with(b"{\"artefact\":{")
}
