//! Who may call: static bearer tokens.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// The tokens that are accepted; with none of them, every caller is.
#[derive(Clone, Default)]
pub struct Tokens {
    /// Digests, so that comparing takes the same time for each wrong token, and memory holds no secret.
    digests: Arc<[[u8; 32]]>,
}

impl Tokens {
    /// Accepts these.
    pub fn new<'a>(tokens: impl IntoIterator<Item = &'a str>) -> Self {
        Self { digests: tokens.into_iter().map(|token| Sha256::digest(token).into()).collect() }
    }

    /// Whether callers need one.
    pub fn are_required(&self) -> bool {
        !self.digests.is_empty()
    }

    fn accept(&self, header: Option<&str>) -> bool {
        let Some((scheme, token)) = header.and_then(|header| header.split_once(' ')) else { return false };
        let digest: [u8; 32] = Sha256::digest(token.trim()).into();
        scheme.eq_ignore_ascii_case("bearer") && self.digests.contains(&digest)
    }
}

impl Interceptor for Tokens {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if !self.are_required() || self.accept(header) {
            return Ok(request);
        }
        Err(Status::unauthenticated(
            "expected metadata `authorization: Bearer <token>` with a token of the configuration",
        ))
    }
}
