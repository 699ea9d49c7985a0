//! Verifies the artefacts of h402-watch offline, without the service: what they are is said in `proto/artefacts/README.md`.

pub mod binding;
pub mod jwks;
pub mod jws;
pub mod wrong;
