//! Names of things: networks, transactions, addresses, assets, blocks, watches, instants.
//!
//! A chain's own identifiers are opaque text here, in the one canonical spelling that the network's source
//! gives them (for instance an address with its checksum). The engine compares them and never looks inside.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                text::serialize(&self.0, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                text::deserialize(deserializer).map(Self::from)
            }
        }

        impl $name {
            /// Takes text that is already in the network's canonical spelling.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The canonical spelling.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::new(text)
            }
        }
    };
}

text_id! {
    /// A network in CAIP-2 form: `namespace:reference`.
    NetworkId
}
text_id! {
    /// A transaction id in the network's canonical spelling.
    TxId
}
text_id! {
    /// An address in the network's canonical spelling.
    Address
}
text_id! {
    /// What is paid: `native`, or the address of a token.
    AssetId
}
text_id! {
    /// A block hash in the network's canonical spelling.
    BlockHash
}
text_id! {
    /// Something that only one transaction of a chain can use up: an account's nonce, an output.
    ///
    /// Two transactions that share a spend key exclude each other.
    SpendKey
}
text_id! {
    /// The name of one watch: `w` and 32 hex digits, a digest of the request, so that the same request has the same name everywhere.
    WatchId
}

impl AssetId {
    /// The chain's own coin.
    pub const NATIVE: &'static str = "native";

    /// The chain's own coin.
    pub fn native() -> Self {
        Self::new(Self::NATIVE)
    }

    /// Whether this is the chain's own coin.
    pub fn is_native(&self) -> bool {
        self.as_str() == Self::NATIVE
    }
}

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This instant moved forward by `ms` milliseconds, stopping at the end of time.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// A block: height and hash. A height alone names no block (invariant 6).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockRef {
    /// Number of blocks below it.
    pub height: u64,
    /// Its hash.
    pub hash: BlockHash,
}

/// What links a block to the chain below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The block.
    pub block: BlockRef,
    /// The hash of the block below it.
    pub parent: BlockHash,
    /// The time that the block states.
    pub time: Timestamp,
    /// The number under which the network's nodes find it: its height, except on chains that number places of which some stay
    /// empty.
    pub slot: u64,
    /// What its hash is the hash of, for inclusion proofs; empty where it is not known, or its hash is of something else.
    pub bytes: Arc<[u8]>,
}
