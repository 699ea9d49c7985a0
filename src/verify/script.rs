//! Bitcoin's networks, and how their scripts and descriptors are spelled as addresses: as the service spells them.

use std::str::FromStr as _;

use bitcoin::secp256k1::Secp256k1;
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

/// The address that a descriptor derives; `None` if it derives none there.
pub(crate) fn derive(descriptor: &str, (branch, index): (u32, u32), network: Network) -> Option<String> {
    if descriptor.len() > DESCRIPTOR_MAX {
        return None;
    }
    let branches = Descriptor::<DescriptorPublicKey>::from_str(descriptor).ok()?.into_single_descriptors().ok()?;
    let branch = branches.get(usize::try_from(branch).ok()?)?;
    let derived = branch.derived_descriptor(&Secp256k1::verification_only(), index).ok()?;
    derived.address(network).ok().map(|address| address.to_string())
}
