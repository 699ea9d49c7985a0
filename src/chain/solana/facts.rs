//! What a transaction means for whom it pays: the change of balances that its block states (research/solana.md §3.6).

use std::collections::BTreeMap;

use h402_watch_engine::amount::Amount;
use h402_watch_engine::id::{Address, AssetId, TxId};
use h402_watch_engine::input::{Execution, Place, Transfer, TxFact, Verification, Via};
use h402_watch_engine::proof::{Part, Proof};
use serde_json::Value;
use solana_hash::Hash;

use super::text::{Link, bytes};
use super::wire::{BlockTx, Meta, RpcBlock, RpcTx, TokenBalance};
use crate::chain::Interests;

/// The programs that carry a text: SPL Memo, and the one before it.
pub const MEMO_PROGRAMS: [&str; 2] =
    ["MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr", "Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo"];
/// A vote is on the hash of a bank, of which the transactions' part is a chain of entries, and no tree.
const NO_LIGHT_PROOF: &str = "Solana has no light proof: nothing short of the whole block shows that a transaction is in it; the facts are \
                              the word of the nodes, see verification";
/// Where the indices of token transfers begin: above those of accounts, which are those of lamports.
const TOKENS_FROM: u32 = 1 << 16;

/// A transaction in a block, as far as it matters whom it pays.
#[derive(Clone, Debug, PartialEq)]
pub struct Executed {
    pub tx: TxId,
    /// Who it names, the fee payer first.
    accounts: Vec<Address>,
    err: Option<Value>,
    fee: u64,
    /// What each account held before and after, lamports.
    lamports: Vec<(u64, u64)>,
    /// What token accounts held before and after; unknown where the node did not record it.
    tokens: Option<Vec<Held>>,
    /// The texts that it carries; unknown where its instructions were not asked for.
    memos: Option<Vec<String>>,
}

/// What a token account held, on one side of the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    /// Its place among the accounts.
    account: usize,
    owner: Address,
    mint: AssetId,
    amount: u64,
    after: bool,
}

/// Whether a transaction of a block concerns somebody. One that failed pays nobody.
pub fn concerns(interests: &Interests, tx: &BlockTx<'_>) -> bool {
    let watched = |first: &&str| bytes::tx(first).is_some_and(|first| interests.txs.contains(&first));
    if !interests.txs.is_empty() && tx.transaction.signatures.first().is_some_and(watched) {
        return true;
    }
    let recipients = &interests.recipients;
    if recipients.is_empty() {
        return false;
    }
    let Some(meta) = tx.meta.as_ref().filter(|meta| meta.err.is_none()) else { return false };
    let mint = |held: &TokenBalance<'_>| bytes::account(held.mint);
    let paid = |owner: [u8; 32], held: &TokenBalance<'_>| {
        recipients.contains(&owner) && mint(held).is_some_and(|mint| recipients.wants(&owner, &mint))
    };
    let mut after = meta.post_token_balances.iter().flatten();
    if after.any(|held| held.owner.and_then(bytes::account).is_some_and(|owner| paid(owner, held))) {
        return true;
    }
    let named = |account: [u8; 32]| recipients.wants(&account, bytes::NATIVE);
    let mut accounts = tx.transaction.account_keys.iter();
    recipients.has_asset(bytes::NATIVE) && accounts.any(|account| bytes::account(account.pubkey).is_some_and(named))
}

/// Whether a transaction of a block was recorded with the balances of tokens, and with whose they are: without, nobody can say
/// that it paid nobody.
pub fn says_who_was_paid(tx: &BlockTx<'_>) -> bool {
    let Some(meta) = &tx.meta else { return false };
    let owned = |all: &Option<Vec<TokenBalance<'_>>>| {
        all.as_ref().is_some_and(|all| all.iter().all(|held| held.owner.is_some()))
    };
    meta.err.is_some() || (owned(&meta.pre_token_balances) && owned(&meta.post_token_balances))
}

impl Executed {
    /// From a block that was asked for with its accounts.
    ///
    /// # Errors
    /// If it can't be; says what is wrong.
    pub fn of_block(tx: &BlockTx<'_>) -> Result<Self, String> {
        let accounts = tx.transaction.account_keys.iter().map(|account| account.pubkey).collect();
        let meta = tx.meta.as_ref().ok_or("a transaction without its outcome")?;
        Self::read(&tx.transaction.signatures, accounts, meta)
    }

    /// From a transaction that was asked for by its signature.
    ///
    /// # Errors
    /// If it can't be; says what is wrong.
    pub fn of_transaction(tx: &RpcTx<'_>) -> Result<Self, String> {
        let meta = tx.meta.as_ref().ok_or("a transaction without its outcome")?;
        let message = &tx.transaction.message;
        let mut executed = Self::read(&tx.transaction.signatures, message.account_keys.clone(), meta)?;
        let inner = meta.inner_instructions.iter().flatten().flat_map(|inner| &inner.instructions);
        let mut memos = Vec::new();
        for instruction in message.instructions.iter().chain(inner) {
            let program = executed.accounts.get(instruction.program_id_index);
            if program.is_some_and(|program| MEMO_PROGRAMS.contains(&program.as_str())) {
                let data = bs58::decode(instruction.data).into_vec().map_err(|_| "a memo that is no base58")?;
                // The program itself refuses what is no UTF-8.
                memos.extend(String::from_utf8(data));
            }
        }
        executed.memos = Some(memos);
        Ok(executed)
    }

    fn read<'a>(signatures: &[&str], mut accounts: Vec<&'a str>, meta: &'a Meta<'_>) -> Result<Self, String> {
        let first = signatures.first().ok_or("a transaction without a signature")?;
        if let (true, Some(loaded)) = (accounts.len() < meta.post_balances.len(), &meta.loaded_addresses) {
            accounts.extend(loaded.writable.iter().chain(&loaded.readonly));
        }
        let (before, after) = (&meta.pre_balances, &meta.post_balances);
        if before.len() != accounts.len() || after.len() != accounts.len() {
            return Err("a transaction whose balances are not those of its accounts".into());
        }
        let tokens = match (&meta.pre_token_balances, &meta.post_token_balances) {
            (Some(before), Some(after)) => {
                let before = before.iter().map(|held| held_at(held, false));
                before.chain(after.iter().map(|held| held_at(held, true))).collect::<Result<_, _>>()?
            }
            _ => None,
        };
        Ok(Self {
            tx: TxId::new(*first),
            accounts: accounts.into_iter().map(Address::new).collect(),
            err: meta.err.clone().filter(|err| !err.is_null()),
            fee: meta.fee,
            lamports: before.iter().copied().zip(after.iter().copied()).collect(),
            tokens,
            memos: None,
        })
    }

    /// Whether it carries texts that are not known yet.
    pub fn lacks_memos(&self) -> bool {
        self.memos.is_none() && self.accounts.iter().any(|account| MEMO_PROGRAMS.contains(&account.as_str()))
    }

    /// Lamports that come out of one's own token account, unwrapped or as its rent, are no payment.
    fn return_own_rent(&self, all: &mut BTreeMap<AssetId, Vec<Movement>>) {
        let Some(native) = all.get_mut(AssetId::NATIVE) else { return };
        for held in self.tokens.iter().flatten().filter(|held| !held.after) {
            let Some((before, after)) = self.lamports.get(held.account) else { continue };
            let taken = i128::from(before.saturating_sub(*after));
            if let Some(owner) = native.iter().position(|movement| movement.holder == held.owner)
                && let Some(account) = native.get(held.account).map(|_| held.account)
            {
                native[owner].change -= taken;
                native[account].change += taken;
            }
        }
    }

    /// The fact about it.
    pub fn fact(&self, link: &Link, verification: Verification) -> TxFact {
        let succeeded = self.err.is_none();
        let moved = Movements::of(self);
        let mut notes = BTreeMap::from([
            ("slot".into(), link.slot.to_string()),
            ("depthUnit".into(), "blocks".into()),
            ("fee".into(), self.fee.to_string()),
        ]);
        if let Some(err) = &self.err {
            notes.insert("error".into(), err.to_string());
        }
        // A token that withholds a fee credits less than was sent.
        notes.extend(moved.withheld().map(|(mint, sent)| (format!("sent:{mint}"), sent.to_string())));
        // Nothing takes the place of a signature; and changes of balances are net of what one pays oneself.
        TxFact {
            place: Place::Block { block: link.block_ref(), time: link.timestamp() },
            sender: self.accounts.first().cloned(),
            execution: if succeeded { Execution::Succeeded } else { Execution::Reverted },
            transfers: if succeeded { moved.transfers() } else { Vec::new() },
            transfers_known: self.tokens.is_some(),
            memos: self.memos.clone().unwrap_or_default(),
            references: self.accounts.clone(),
            notes,
            verification,
            proof: Some(Box::new(no_proof(link))),
            ..TxFact::of(self.tx.clone())
        }
    }
}

/// What stands in the place of an inclusion proof: the word of the nodes, and of which block.
fn no_proof(link: &Link) -> Proof {
    let mut proof = Proof::none(NO_LIGHT_PROOF);
    // All that is followed, or looked up, is read at this level.
    proof.parts.insert("commitment".into(), Part::Text("confirmed".into()));
    proof.parts.insert("slot".into(), Part::Number(link.slot));
    proof.parts.insert("blockhash".into(), Part::Text(link.block_ref().hash.to_string()));
    proof
}

fn held_at(held: &TokenBalance<'_>, after: bool) -> Result<Option<Held>, String> {
    // Nodes that don't say whose it is can't be asked who was paid.
    let Some(owner) = held.owner else { return Ok(None) };
    let amount = held.ui_token_amount.amount.parse().map_err(|_| "a token's amount that is no number")?;
    let (owner, mint) = (Address::new(owner), AssetId::new(held.mint));
    Ok(Some(Held { account: held.account_index, owner, mint, amount, after }))
}

/// How much more, or less, a holder has of an asset after a transaction.
struct Movement {
    /// Stable wherever the transaction lands: accounts are in its signed order.
    index: u32,
    holder: Address,
    change: i128,
}

/// All of them, by asset.
struct Movements(BTreeMap<AssetId, Vec<Movement>>);

impl Movements {
    fn of(tx: &Executed) -> Self {
        let mut all: BTreeMap<AssetId, Vec<Movement>> = BTreeMap::new();
        for ((i, (before, after)), holder) in (0..).zip(&tx.lamports).zip(&tx.accounts) {
            // The fee is not paid to anybody that a payment is made to; who pays it may be paid in the same transaction.
            let fee = if i == 0 { tx.fee } else { 0 };
            let change = i128::from(*after) + i128::from(fee) - i128::from(*before);
            all.entry(AssetId::native()).or_default().push(Movement { index: i, holder: holder.clone(), change });
        }
        tx.return_own_rent(&mut all);
        for held in tx.tokens.iter().flatten() {
            // One account has one owner afterwards; before, it may have been another's.
            let index = if held.after { u32::try_from(held.account).unwrap_or(TOKENS_FROM) } else { TOKENS_FROM };
            let index = TOKENS_FROM + index;
            let change = if held.after { i128::from(held.amount) } else { -i128::from(held.amount) };
            let movements = all.entry(held.mint.clone()).or_default();
            match movements.iter_mut().find(|movement| movement.holder == held.owner) {
                Some(movement) => {
                    movement.index = movement.index.min(index);
                    movement.change += change;
                }
                None => movements.push(Movement { index, holder: held.owner.clone(), change }),
            }
        }
        Self(all)
    }

    /// What was received, and from whom where that can only be one.
    fn transfers(&self) -> Vec<Transfer> {
        let mut transfers = Vec::new();
        for (asset, movements) in &self.0 {
            let mut payers = movements.iter().filter(|movement| movement.change < 0);
            let payer = payers.next().filter(|_| payers.next().is_none());
            for movement in movements.iter().filter(|movement| movement.change > 0) {
                transfers.push(Transfer {
                    index: movement.index,
                    asset: asset.clone(),
                    from: payer.map(|payer| payer.holder.clone()),
                    to: movement.holder.clone(),
                    amount: Amount::from(movement.change.unsigned_abs()),
                    via: Via::Balance,
                });
            }
        }
        transfers.sort_by_key(|transfer| transfer.index);
        transfers
    }

    /// The tokens of which less arrived than was sent, and how much was sent.
    fn withheld(&self) -> impl Iterator<Item = (&AssetId, u128)> {
        self.0.iter().filter(|(asset, _)| !asset.is_native()).filter_map(|(asset, movements)| {
            let side = |sign: i128| movements.iter().map(|m| m.change).filter(|c| c.signum() == sign).sum::<i128>();
            let (sent, received) = (side(-1).unsigned_abs(), side(1).unsigned_abs());
            (received > 0 && sent > received).then_some((asset, sent))
        })
    }
}

/// What a node's answer says of transactions: a block that was asked for with its accounts, or one transaction.
///
/// # Errors
/// If it can't be read, or can't be.
pub fn read(answer: &str) -> Result<Vec<TxFact>, String> {
    let executed = match serde_json::from_str::<RpcTx<'_>>(answer) {
        Ok(tx) => vec![Executed::of_transaction(&tx)?],
        Err(_) => {
            let block: RpcBlock<'_> = serde_json::from_str(answer).map_err(|error| error.to_string())?;
            block.transactions.iter().flatten().map(Executed::of_block).collect::<Result<_, _>>()?
        }
    };
    let link = Link { height: 0, hash: Hash::default(), parent: Hash::default(), time: 0, slot: 0 };
    Ok(executed.iter().map(|executed| executed.fact(&link, Verification::Endpoint)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PAYER: &str = "9WzDXwBbmkg8ZTbNMqUxvQRAyrZzDsGYdLVL9zYtAWWM";
    const SHOP: &str = "2hxMBBkjXdCzSMrePEkwKe6bBQ4tBpj9p5jXcTYdUcc1";
    const MINT: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkwyTDt1v";

    fn held(account: usize, owner: &str, amount: &str) -> Value {
        json!({"accountIndex": account, "mint": MINT, "owner": owner, "programId": "p", "uiTokenAmount": {"amount": amount}})
    }

    /// A payment of tokens that opens the shop's account, by both of the ways in which it can be asked for.
    fn both() -> [Value; 2] {
        let accounts = [PAYER, "source", "target", MEMO_PROGRAMS[0], SHOP];
        let meta = json!({
            "err": null, "fee": 5000, "innerInstructions": [], "loadedAddresses": {"writable": [], "readonly": [SHOP]},
            "preBalances": [1_000_000_000u64, 2_039_280, 0, 1, 0],
            "postBalances": [997_955_720u64, 2_039_280, 2_039_280, 1, 0],
            "preTokenBalances": [held(1, PAYER, "18446744073709551615")],
            "postTokenBalances": [held(1, PAYER, "18446744073709551515"), held(2, SHOP, "99")],
        });
        let keys: Vec<_> = accounts.iter().map(|key| json!({"pubkey": key})).collect();
        let in_block = json!({"transaction": {"signatures": ["s"], "accountKeys": keys}, "meta": meta});
        let block = json!({
            "blockhash": "b", "previousBlockhash": "a", "parentSlot": 0, "blockHeight": 1, "blockTime": 1,
            "transactions": [in_block],
        });
        let memo = json!({"programIdIndex": 3, "data": bs58::encode("order 7").into_string()});
        let message = json!({"accountKeys": accounts[..4], "instructions": [memo]});
        [block, json!({"slot": 7, "meta": meta, "transaction": {"signatures": ["s"], "message": message}})]
    }

    #[test]
    fn a_block_and_a_transaction_say_the_same() {
        let [block, transaction] = both().map(|answer| read(&answer.to_string()).expect("it can be read").remove(0));
        assert_eq!(transaction.memos, ["order 7"]);
        assert_eq!(TxFact { memos: Vec::new(), ..transaction }, block);
        let paid: Vec<_> = block.transfers.iter().map(|moved| (moved.to.as_str(), moved.amount.to_string())).collect();
        // The rent of the new account goes to the account, not to the shop.
        assert_eq!(paid, [("target", "2039280".to_owned()), (SHOP, "99".to_owned())]);
        assert_eq!(block.transfers[1].from.as_ref().map(Address::as_str), Some(PAYER));
        assert_eq!(block.notes.get(&format!("sent:{MINT}")).map(String::as_str), Some("100"), "a fee was withheld");
        assert!(block.references.iter().any(|named| named.as_str() == SHOP));
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let [mut block, _] = both();
        let meta = &mut block["transactions"][0]["meta"];
        for (key, wrong) in
            [("preBalances", json!([1])), ("postTokenBalances", json!([held(1, SHOP, "-1")])), ("fee", json!(null))]
        {
            let right = std::mem::replace(&mut meta[key], wrong);
            let text = json!({"blockhash": "b", "previousBlockhash": "a", "parentSlot": 0, "transactions": [
                {"transaction": {"signatures": ["s"], "accountKeys": []}, "meta": meta}
            ]});
            assert!(read(&text.to_string()).is_err(), "{key}");
            meta[key] = right;
        }
    }

    #[test]
    fn an_unknown_error_or_version_is_read_all_the_same() {
        let [mut block, _] = both();
        block["transactions"][0]["version"] = json!(200);
        block["transactions"][0]["meta"]["err"] = json!({"SomethingNew": [1, 2]});
        let fact = read(&block.to_string()).expect("it can be read").remove(0);
        assert_eq!((fact.execution, fact.transfers.len()), (Execution::Reverted, 0));
        assert_eq!(fact.notes.get("error").map(String::as_str), Some(r#"{"SomethingNew":[1,2]}"#));
    }
}
