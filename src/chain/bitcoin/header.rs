//! Headers, in the bytes that their hash is the hash of.

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::consensus::encode::{deserialize_hex, serialize};

use super::text::Link;

/// A header at a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its place.
    pub link: Link,
    /// What was hashed.
    pub header: Header,
}

impl Placed {
    /// A header at a height.
    ///
    /// # Errors
    /// If it does not have the work that it claims.
    pub fn new(header: Header, height: u64) -> Result<Self, String> {
        let hash =
            header.validate_pow(header.target()).map_err(|_| "a header without the work that it claims".to_owned())?;
        let link = Link { height, hash, parent: header.prev_blockhash, time: u64::from(header.time), slot: height };
        Ok(Self { link, header })
    }

    /// A header in hex, as servers send it.
    ///
    /// # Errors
    /// If it is none, or does not have the work that it claims.
    pub fn read(hex: &str, height: u64) -> Result<Self, String> {
        let header: Header = deserialize_hex(hex).map_err(|_| "a header that can't be read".to_owned())?;
        Self::new(header, height)
    }

    /// What its hash is the hash of.
    pub fn bytes(&self) -> Arc<[u8]> {
        serialize(&self.header).into()
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::Network;

    use super::*;

    #[test]
    fn a_header_needs_the_work_that_it_claims() {
        let genesis = bitcoin::constants::genesis_block(Network::Bitcoin).header;
        let hex = bitcoin::consensus::encode::serialize_hex(&genesis);
        assert_eq!(Placed::read(&hex, 0).map(|placed| placed.link.hash), Ok(genesis.block_hash()));
        assert_eq!(hex::encode(Placed::read(&hex, 0).expect("a header").bytes()), hex);
        let damaged = hex.replacen("01000000", "02000000", 1);
        assert!(Placed::read(&damaged, 0).is_err());
        assert!(Placed::read(&hex[2..], 0).is_err());
    }
}
