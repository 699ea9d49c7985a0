//! Verification of artefacts, offline: proofs are built here, and then spoilt in every way.

mod audit;
mod bitcoin;
mod bits;
mod ethereum;
mod form;
mod history;
mod outcomes;
mod printing;
mod signatures;
mod support;
mod vectors;
