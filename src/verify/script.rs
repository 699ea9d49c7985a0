//! Bitcoin's networks, and how their scripts and descriptors are spelled as addresses: as the service spells them.

use std::str::FromStr as _;

use bitcoin::secp256k1::{Secp256k1, VerifyOnly};
use bitcoin::{Address, Network, Script};
use miniscript::Descriptor;
use miniscript::descriptor::DescriptorPublicKey;

/// The longest descriptor that the service takes, bytes.
const DESCRIPTOR_MAX: usize = 4096;

/// The network that a CAIP-2 reference of the namespace `bip122` names: the first 16 bytes of its genesis hash.
pub(crate) fn network(reference: &str) -> Option<Network> {
    let known = [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest];
    known.into_iter().find(|network| {
        let genesis = bitcoin::constants::genesis_block(*network).block_hash().to_string();
        genesis.get(..32) == Some(reference)
    })
}

/// The address of a script, or the script itself where it has none.
pub(crate) fn address(script: &Script, network: Network) -> String {
    Address::from_script(script, network).map_or_else(|_| format!("script:{script:x}"), |address| address.to_string())
}

/// A descriptor that was read once, to derive many addresses.
pub(crate) struct Derivation {
    branches: Vec<Descriptor<DescriptorPublicKey>>,
    network: Network,
    secp: Secp256k1<VerifyOnly>,
}

impl Derivation {
    /// Reads a descriptor; `None` if it is none.
    pub fn new(descriptor: &str, network: Network) -> Option<Self> {
        if descriptor.len() > DESCRIPTOR_MAX {
            return None;
        }
        let branches = Descriptor::<DescriptorPublicKey>::from_str(descriptor).ok()?.into_single_descriptors().ok()?;
        Some(Self { branches, network, secp: Secp256k1::verification_only() })
    }

    /// The address at a place; `None` if it derives none there.
    pub fn address(&self, (branch, index): (u32, u32)) -> Option<String> {
        let branch = self.branches.get(usize::try_from(branch).ok()?)?;
        let derived = branch.derived_descriptor(&self.secp, index).ok()?;
        derived.address(self.network).ok().map(|address| address.to_string())
    }
}
