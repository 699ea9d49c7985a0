//! What a chain's receipt of a transaction says: whether it succeeded, and what contracts logged.

use alloy_primitives::{Address as EvmAddress, B256, Log, U256, b256};
use alloy_rlp::Decodable as _;
use h402_watch_engine::amount::Amount;
use h402_watch_engine::id::{Address, AssetId};
use h402_watch_engine::input::{AuthorizationUse, Transfer, Via};

use super::trie::{items, text};

/// `Transfer(address,address,uint256)` of ERC-20.
pub const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");
/// `AuthorizationUsed(address,bytes32)` of EIP-3009.
pub const AUTHORIZATION_USED: B256 = b256!("98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5");
/// `AuthorizationCanceled(address,bytes32)` of EIP-3009.
pub const AUTHORIZATION_CANCELED: B256 = b256!("1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81");

/// The index of a transfer by a transaction's first log entry; 0 is the transaction's own value.
const FIRST_LOG: u32 = 1;

/// What a receipt says.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// `None` where it states what the state was instead, as before Byzantium.
    pub succeeded: Option<bool>,
    pub transfers: Vec<Transfer>,
    pub authorizations: Vec<AuthorizationUse>,
}

/// Reads a receipt in the encoding of EIP-2718, of any type: they differ in what follows the log.
pub fn read(bytes: &[u8]) -> Option<Told> {
    let list = match bytes.split_first()? {
        (kind, rest) if *kind < 0x80 => rest,
        _ => bytes,
    };
    let items = items(list)?;
    let [status, _gas, _bloom, logs, ..] = &items[..] else { return None };
    let succeeded = match &text(status)?[..] {
        [] => Some(false),
        [1] => Some(true),
        state if state.len() == 32 => None,
        _ => return None,
    };
    let mut left: &[u8] = logs;
    let logs = Vec::<Log>::decode(&mut left).ok().filter(|_| left.is_empty())?;
    let mut told = Told { succeeded, ..Told::default() };
    // Some chains keep the log of what was reverted; it moved nothing.
    if succeeded == Some(false) {
        return Some(told);
    }
    for (log, index) in logs.iter().zip(FIRST_LOG..) {
        told.note(log, index);
    }
    Some(told)
}

impl Told {
    fn note(&mut self, log: &Log, index: u32) {
        let asset = AssetId::new(log.address.to_checksum(None));
        match log.topics() {
            // Three topics and one word: ERC-721 has four topics, unindexed tokens of old have one.
            [TRANSFER, from, to] if log.data.data.len() == 32 => self.transfers.push(Transfer {
                index,
                asset,
                from: Some(spelled(EvmAddress::from_word(*from))),
                to: spelled(EvmAddress::from_word(*to)),
                amount: amount(U256::from_be_slice(&log.data.data)),
                via: Via::Log,
            }),
            [kind @ (AUTHORIZATION_USED | AUTHORIZATION_CANCELED), authorizer, nonce] => {
                self.authorizations.push(AuthorizationUse {
                    asset,
                    authorizer: spelled(EvmAddress::from_word(*authorizer)),
                    nonce: format!("{nonce:#x}"),
                    cancelled: *kind == AUTHORIZATION_CANCELED,
                });
            }
            _ => {}
        }
    }
}

/// An address, as artefacts spell it: with its checksum (EIP-55).
pub fn spelled(address: EvmAddress) -> Address {
    Address::new(address.to_checksum(None))
}

pub fn amount(value: U256) -> Amount {
    Amount::from_be_bytes(value.to_be_bytes())
}
