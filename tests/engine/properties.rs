//! What holds of the engine's parts whatever they are given.

mod support;

use std::collections::BTreeMap;

use h402_watch_engine::amount::Amount;
use h402_watch_engine::canonical::{INTEGER_MAX, Json};
use h402_watch_engine::changes::{Claim, ClaimKey, ClaimState};
use h402_watch_engine::claims::Ledger;
use h402_watch_engine::heads::Heads;
use h402_watch_engine::input::{Block, Execution, TxFact};
use h402_watch_engine::request::{AmountRule, WatchRequest};
use h402_watch_engine::watch_id;
use proptest::prelude::*;
use support::{World, block, block_ref, carries, pays, watch_address, watch_tx};

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        (0..=INTEGER_MAX).prop_map(Json::Int),
        any::<String>().prop_map(Json::Text),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Json::List),
            prop::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

/// The same value as another library sees it.
fn as_serde(json: &Json) -> serde_json::Value {
    match json {
        Json::Null => serde_json::Value::Null,
        Json::Bool(value) => (*value).into(),
        Json::Int(value) => (*value).into(),
        Json::Text(text) => text.as_str().into(),
        Json::List(values) => values.iter().map(as_serde).collect(),
        Json::Object(members) => members.iter().map(|(name, value)| (name.clone(), as_serde(value))).collect(),
    }
}

/// The same value, its members in another order.
fn reversed(json: &Json) -> Json {
    match json {
        Json::Object(members) => {
            Json::Object(members.iter().rev().map(|(name, value)| (name.clone(), reversed(value))).collect())
        }
        Json::List(values) => Json::List(values.iter().map(reversed).collect()),
        other => other.clone(),
    }
}

/// A block's worth of what happens: which transactions are mined, and which of those are reverted.
type Mined = Vec<(u8, bool)>;

fn chain() -> impl Strategy<Value = Vec<Mined>> {
    prop::collection::vec(prop::collection::vec((0..6_u8, any::<bool>()), 0..3), 1..9)
}

fn requests() -> impl Strategy<Value = Vec<WatchRequest>> {
    let request = (0..6_u8, 1..4_u64, 0..4_u32, 0..3_u8, any::<bool>(), 0..6_u8);
    prop::collection::vec(request, 1..7).prop_map(|all| {
        let made = all.into_iter().zip(0_u32..).map(|((tx, amount, depth, rule, by_address, memo), n)| {
            let amount = amount * 50;
            let mut request =
                if by_address { watch_address(amount, depth) } else { watch_tx(&format!("t{tx}"), amount, depth) };
            request.terms.amount_rule = [AmountRule::Exact, AmountRule::AtLeast, AmountRule::UpTo][usize::from(rule)];
            request.idempotency_key = Some(n.to_string());
            request.terms.memo = (memo < 3).then(|| format!("m{memo}"));
            request
        });
        made.collect()
    })
}

/// The blocks of a chain, each transaction in the first that mines it.
fn blocks(chain: &[Mined]) -> Vec<Block> {
    let mut used = [false; 6];
    let facts = |mined: &Mined, used: &mut [bool; 6]| {
        let mut facts = Vec::new();
        for (tx, reverts) in mined {
            if !std::mem::replace(&mut used[usize::from(*tx)], true) {
                let fact = pays(&format!("t{tx}"), "shop", 40 + 30 * u64::from(*tx));
                let execution = if *reverts { Execution::Reverted } else { Execution::Succeeded };
                let transfers = if *reverts { Vec::new() } else { fact.transfers.clone() };
                let memos = vec![format!("m{}", tx % 3)];
                facts.push(TxFact { execution, transfers, memos, ..fact });
            }
        }
        facts
    };
    (6..).zip(chain).map(|(height, mined)| block(height, "a", "a", facts(mined, &mut used))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// RFC 8785: one spelling, whatever the order of members; and it is the JSON that it should be.
    #[test]
    fn canonical_json_has_one_spelling_and_keeps_the_value(value in json()) {
        let text = value.to_canonical();
        let read: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        prop_assert_eq!(read, as_serde(&value));
        prop_assert_eq!(reversed(&value).to_canonical(), text);
    }

    #[test]
    fn amounts_are_digits_and_back(a in any::<u128>(), b in any::<u128>()) {
        let (left, right) = (Amount::from(a), Amount::from(b));
        prop_assert_eq!(a.to_string().parse::<Amount>(), Ok(left));
        prop_assert_eq!(left.to_string(), a.to_string());
        prop_assert_eq!(left.saturating_sub(right), Amount::from(a.saturating_sub(b)));
        prop_assert_eq!(left.saturating_add(right).saturating_sub(right), left);
        prop_assert_eq!(left < right, a < b);
    }

    /// One owner at a time; what is consumed is never given back.
    #[test]
    fn the_ledger_behaves_as_a_map(steps in prop::collection::vec((0..3_u32, 0..3_u8, 0..4_u8), 0..40)) {
        let mut ledger = Ledger::default();
        let mut model = BTreeMap::<ClaimKey, Claim>::new();
        for (index, watch, action) in steps {
            let key = ClaimKey { network: "n".into(), tx: "t".into(), index };
            let watch: h402_watch_engine::id::WatchId = format!("w{watch}").into();
            match action {
                0 | 1 => {
                    let state = if action == 0 { ClaimState::Reserved } else { ClaimState::Consumed };
                    ledger.set(key.clone(), watch.clone(), state);
                    model.insert(key, Claim { watch, state });
                }
                2 => {
                    let held = model.get(&key).is_some_and(|c| c.watch == watch && c.state == ClaimState::Reserved);
                    prop_assert_eq!(ledger.release(&key, &watch), held);
                    if held {
                        model.remove(&key);
                    }
                }
                _ => prop_assert_eq!(ledger.holder(&key), model.get(&key)),
            }
        }
        for (key, claim) in ledger.drain() {
            prop_assert_eq!(claim.as_ref(), model.get(&key));
        }
    }

    /// However blocks come and go, what is kept is linked, bounded, and counted from the head.
    #[test]
    fn the_chain_of_headers_stays_linked(steps in prop::collection::vec(any::<bool>(), 1..60), horizon in 1..8_u32) {
        let mut heads = Heads::new(horizon, Vec::new());
        let mut next = 1;
        for (n, push) in steps.into_iter().enumerate() {
            let base = heads.head().map(|head| head.block.clone());
            if push || base.is_none() {
                let mut header = block(next, &format!("b{n}"), "x", Vec::new()).header;
                if let Some(base) = base {
                    header.parent = base.hash;
                    prop_assert_eq!(heads.fork_point(&[&header], None), Ok(Some(base.height)));
                }
                next += 1;
                heads.push(header);
            } else if heads.iter().count() > 1 {
                heads.pop();
                next -= 1;
            }
            let kept: Vec<_> = heads.iter().collect();
            prop_assert!(kept.len() <= usize::try_from(horizon).expect("small"));
            prop_assert!(kept.windows(2).all(|pair| pair[1].parent == pair[0].block.hash));
            for header in &kept {
                prop_assert_eq!(heads.at(header.block.height), Some(*header));
                prop_assert!(heads.holds(&header.block));
                prop_assert!(!heads.holds(&block_ref(header.block.height, "elsewhere")));
                prop_assert_eq!(heads.depth_of(header.block.height), next - header.block.height);
            }
        }
    }

    /// How a source cuts the chain into reports decides nothing.
    #[test]
    fn one_report_or_many_give_the_same_log(chain in chain(), requests in requests(), cuts in prop::collection::vec(any::<bool>(), 9)) {
        let (mut whole, mut pieces) = (World::new(), World::new());
        for request in requests {
            whole.create(request.clone());
            pieces.create(request);
        }
        let blocks = blocks(&chain);
        let end = blocks.last().expect("at least one").header.time;
        for world in [&mut whole, &mut pieces] {
            world.now = end;
        }
        whole.blocks(blocks.clone());
        let mut piece = Vec::new();
        for (block, cut) in blocks.into_iter().zip(cuts.into_iter().chain(std::iter::repeat(true))) {
            piece.push(block);
            if cut {
                pieces.blocks(std::mem::take(&mut piece));
            }
        }
        if !piece.is_empty() {
            pieces.blocks(piece);
        }
        prop_assert_eq!(whole.story(), pieces.story());
        prop_assert_eq!(whole.log, pieces.log);
    }

    /// While a watch waits for what carries its mark, no other watch takes that, however old or exact.
    #[test]
    fn a_payment_that_is_bound_pays_no_other_order(
        watches in prop::collection::vec((0..3_u8, 1..4_u64), 1..7),
        payments in prop::collection::vec((0..4_u8, 1..4_u64), 1..9),
    ) {
        let mut world = World::new();
        for (n, (memo, amount)) in (0_u32..).zip(&watches) {
            let mut asked = watch_address(if *memo > 0 { 1_000_000 } else { amount * 50 }, 1);
            asked.terms.memo = (*memo > 0).then(|| format!("m{memo}"));
            asked.idempotency_key = Some(n.to_string());
            world.create(asked);
        }
        let paid = |(n, (memo, amount)): (u64, &(u8, u64))| carries(&format!("t{n}"), &[&format!("m{memo}")], amount * 50);
        let mined = (0..).zip(&payments).map(paid);
        let mined = (6..).zip(mined).map(|(height, fact)| block(height, "a", "a", vec![fact]));
        world.blocks(mined.collect());
        for (n, (memo, _)) in payments.iter().enumerate() {
            let holder = world.claims.iter().find(|(key, _)| key.tx.as_str() == format!("t{n}"));
            let holder = holder.map(|(_, claim)| &world.watches[&claim.watch].request.terms.memo);
            let waits = *memo > 0 && watches.iter().any(|(asked, _)| asked == memo);
            if waits {
                prop_assert_eq!(holder, Some(&Some(format!("m{memo}"))));
            } else {
                prop_assert!(holder.is_none_or(Option::is_none));
            }
        }
    }

    /// The name of a watch is a digest of all that was asked.
    #[test]
    fn requests_that_differ_have_different_names(requests in requests()) {
        for (i, one) in requests.iter().enumerate() {
            for other in &requests[i + 1..] {
                prop_assert_eq!(one == other, watch_id(one) == watch_id(other));
            }
        }
    }
}
