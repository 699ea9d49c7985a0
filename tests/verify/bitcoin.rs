//! Proofs of Bitcoin.

use bitcoin::absolute::LockTime;
use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::opcodes::OP_0;
use bitcoin::{CompactTarget, ScriptBuf, Transaction, Witness};
use h402_watch_verify::{Code, Inclusion, NoteCode};
use serde_json::{Value, json};

use crate::support::bitcoin::{
    Block, NETWORK, Node, branch, coinbase, coinbase_of, hexes, levels, mined, pair, payment, shop, shop_script,
    stripped, unmined,
};
use crate::support::{check, good, left, refused, with};

const BRANCH: &str = "/proofs/0/branch";
const COINBASE_BRANCH: &str = "/proofs/0/coinbaseBranch";

fn hashes(value: &Value) -> Vec<Node> {
    let texts: Vec<String> = serde_json::from_value(value.clone()).expect("texts");
    texts.iter().map(|text| Node::from_slice(&hex::decode(text).expect("hex")).expect("32 bytes")).collect()
}

#[test]
fn every_place_in_a_block_is_proven() {
    for count in (2..=18).chain([31, 32, 33, 127, 128, 129, 200]) {
        let block = Block::new(count, 500);
        for place in (0..count).filter(|place| count < 40 || [0, 1, 2, 127, 128, count - 1].contains(place)) {
            let report = good(&block.settled(place));
            let Inclusion::Proven { transactions } = &report.inclusion else { panic!("{report}") };
            let one = &transactions[0];
            assert_eq!((one.height, &one.hash), (500, &block.header.block_hash().to_string()));
            assert_eq!(one.work_bits, Some(1), "regtest asks for two hashes");
            let of_coinbase: &[NoteCode] = if place == 0 { &[NoteCode::MaturityUnproven] } else { &[] };
            assert_eq!(left(&report), of_coinbase);
        }
    }
    // A coinbase alone: the root is its id.
    let report = good(&Block::new(1, 500).settled(0));
    assert!(matches!(report.inclusion, Inclusion::Proven { .. }), "{report}");
}

#[test]
fn another_place_is_refused() {
    for count in [2, 3, 4, 5, 6, 7, 9, 12, 200] {
        let block = Block::new(count, 500);
        for place in 1..count.min(8) {
            let settled = block.settled(place);
            for other in 0..16_u64 {
                if usize::try_from(other) == Ok(place) {
                    continue;
                }
                let moved = with(&settled, "/proofs/0/index", json!(other));
                let code = h402_watch_verify::verify(&crate::support::unsigned(&moved), None).map_err(|w| w.code);
                let expected = if other == 0 {
                    vec![Code::ProofCoinbase]
                } else {
                    // Whoever is paired with itself seems to have two places.
                    vec![Code::ProofBranch, Code::ProofDuplicate]
                };
                assert!(code.as_ref().is_err_and(|code| expected.contains(code)), "{count}: {place} {other} {code:?}");
            }
        }
    }
    let settled = Block::new(4, 500).settled(1);
    refused(&with(&settled, "/proofs/0/index", json!(3)), Code::ProofBranch);
    refused(&with(&settled, "/proofs/0/index", json!(5)), Code::ProofBranch);
    refused(&with(&settled, "/proofs/0/index", json!(1_u64 << 52)), Code::ProofBranch);
}

#[test]
fn another_branch_is_refused() {
    let settled = Block::new(13, 500).settled(9);
    let siblings = hashes(&settled["proofs"][0]["branch"]);
    let to = |siblings: &[Node]| with(&settled, BRANCH, json!(hexes(siblings)));
    for n in 0..siblings.len() {
        let mut swapped = siblings.clone();
        swapped.swap(n, (n + 1) % siblings.len());
        refused(&to(&swapped), Code::ProofBranch);
        let mut fewer = siblings.clone();
        fewer.remove(n);
        refused(&to(&fewer), Code::ProofBranch);
        let mut more = siblings.clone();
        more.insert(n, siblings[n]);
        refused(&to(&more), Code::ProofBranch);
        let mut reversed = siblings.clone();
        let mut bytes = reversed[n].to_byte_array();
        bytes.reverse();
        reversed[n] = Node::from_byte_array(bytes);
        refused(&to(&reversed), Code::ProofBranch);
    }
    refused(&to(&[siblings.clone(), vec![Node::all_zeros(); 70]].concat()), Code::ProofBranch);
    // A branch that leads where it should, and is longer than any block's.
    let deep = |length: u8| {
        let mut block = Block::new(3, 500);
        let siblings: Vec<_> = (0..length).map(|n| Node::hash(&[n])).collect();
        let lead = |leaf: Node| siblings.iter().fold(leaf, |node, sibling| pair(node, *sibling));
        block.header = mined(block.header.prev_blockhash, lead(block.ids()[0]));
        let settled = with(&block.settled(0), BRANCH, json!(hexes(&siblings)));
        with(&settled, COINBASE_BRANCH, json!(hexes(&siblings)))
    };
    good(&deep(15));
    refused(&deep(16), Code::ProofBranch);
    refused(&with(&settled, BRANCH, json!(["00"])), Code::ProofEncoding);
    refused(&with(&settled, BRANCH, json!(["0G"])), Code::Shape);
}

/// CVE-2012-2459: a list that repeats its end has the same root, so that a transaction seems to be in another place.
#[test]
fn what_a_list_repeats_is_refused() {
    // [a, b, c] and [a, b, c, c].
    let block = Block::new(3, 500);
    let ids = block.ids();
    let repeated = [ids.clone(), vec![ids[2]]].concat();
    assert_eq!(levels(&ids).last(), levels(&repeated).last());
    let mut settled = with(&block.settled(2), "/proofs/0/index", json!(3));
    refused(&settled, Code::ProofDuplicate);
    // [a, b, c, d, e, f] and [a, b, c, d, e, f, e, f].
    let block = Block::new(6, 500);
    let ids = block.ids();
    let repeated = [ids.clone(), ids[4..].to_vec()].concat();
    assert_eq!(levels(&ids).last(), levels(&repeated).last());
    for (place, copy) in [(4, 6), (5, 7)] {
        good(&block.settled(place));
        settled = with(&block.settled(place), "/proofs/0/index", json!(copy));
        assert_eq!(branch(&repeated, copy), branch(&ids, place));
        refused(&settled, Code::ProofDuplicate);
    }
}

/// Who is paired with its like, and not at the end, is in a list that no node takes.
#[test]
fn what_a_list_repeats_before_its_end_is_refused() {
    let once = Block::new(7, 500);
    let mut txs = once.txs.clone();
    txs.insert(3, txs[2].clone());
    let block = Block::of(txs, 500);
    refused(&block.settled(2), Code::ProofDuplicate);
    refused(&block.settled(3), Code::ProofDuplicate);
    good(&block.settled(4));
    // Nor is the first of a level ever its last.
    let cb = coinbase(500);
    let id = cb.compute_txid().to_raw_hash();
    let mut block = Block::of(vec![cb], 500);
    block.header = mined(block.header.prev_blockhash, pair(id, id));
    let settled = with(&block.settled(0), BRANCH, json!(hexes(&[id])));
    refused(&with(&settled, COINBASE_BRANCH, json!(hexes(&[id]))), Code::ProofDuplicate);
}

/// CVE-2017-12842: the inner nodes of the tree are 64 bytes, as a transaction may be.
#[test]
fn an_inner_node_is_no_transaction() {
    let block = Block::new(8, 500);
    let levels = levels(&block.ids());
    let node = [levels[0][2].to_byte_array(), levels[0][3].to_byte_array()].concat();
    let name = levels[1][1].to_string();
    let mut settled = block.settled(1);
    for pointer in ["/transfers/0/tx", "/proofs/0/tx", "/subject/tx"] {
        settled = with(&settled, pointer, json!(name));
    }
    settled = with(&settled, "/proofs/0/transaction", json!(hex::encode(node)));
    settled = with(&settled, BRANCH, json!(hexes(&branch(&levels[1], 1))));
    refused(&settled, Code::ProofNode);
}

/// The other way round: a transaction of 64 bytes is in a block, and its second half is the id of one that was never mined, so
/// that a branch leads on below it. How high the tree is the coinbase shows.
#[test]
fn nothing_is_below_a_transaction() {
    // Found by trying: its id has the lengths and counts where a transaction has them.
    let mut never_mined = payment(1);
    never_mined.lock_time = LockTime::from_consensus(3_477_378);
    let id = never_mined.compute_txid().to_raw_hash();
    let mut first_half = [3; 32];
    first_half[4] = 1;
    let bytes = [first_half, id.to_byte_array()].concat();
    let small: Transaction = deserialize(&bytes).expect("64 bytes that are a transaction, and an inner node");
    assert_eq!((serialize(&small), small.output.len()), (bytes, 1));
    let mut txs = Block::new(4, 500).txs;
    txs[2] = small;
    let block = Block::of(txs, 500);
    let under = [vec![Node::from_byte_array(first_half)], branch(&block.ids(), 2)].concat();
    assert_eq!(
        under.iter().zip([1, 0, 1]).fold(id, |node, (sibling, right)| {
            if right == 1 { pair(*sibling, node) } else { pair(node, *sibling) }
        }),
        block.header.merkle_root.to_raw_hash(),
        "the branch is good"
    );

    let mut forged = Block::new(4, 500);
    forged.header = block.header;
    forged.txs[1] = never_mined;
    let mut settled = with(&forged.settled(1), "/proofs/0/index", json!(5));
    settled = with(&settled, BRANCH, json!(hexes(&under)));
    settled = with(&settled, COINBASE_BRANCH, json!(hexes(&branch(&block.ids(), 0))));
    refused(&settled, Code::ProofCoinbase);
    for more in [Node::all_zeros(), block.ids()[1]] {
        let longer = [vec![more], branch(&block.ids(), 0)].concat();
        refused(&with(&settled, COINBASE_BRANCH, json!(hexes(&longer))), Code::ProofCoinbase);
    }
    // The small one itself is there, and refused all the same: nobody can tell.
    let mut small = block.settled(3);
    for pointer in ["/transfers/0/tx", "/proofs/0/tx", "/subject/tx"] {
        small = with(&small, pointer, json!(block.tx(2)));
    }
    let theirs = block.proof(2);
    refused(&with(&small, "/proofs/0", theirs), Code::ProofNode);
}

#[test]
fn the_coinbase_stands_first() {
    let block = Block::new(6, 500);
    let settled = block.settled(3);
    let coinbase_is = |tx: &Transaction, siblings: &[Node]| {
        let changed = with(&settled, "/proofs/0/coinbase", json!(stripped(tx)));
        if json!(hexes(siblings)) == changed["proofs"][0]["coinbaseBranch"] {
            changed
        } else {
            with(&changed, COINBASE_BRANCH, json!(hexes(siblings)))
        }
    };
    let ids = block.ids();
    refused(&coinbase_is(&block.txs[1], &branch(&ids, 1)), Code::ProofCoinbase);
    refused(&coinbase_is(&block.txs[1], &branch(&ids, 0)), Code::ProofCoinbase);
    refused(&coinbase_is(&coinbase(501), &branch(&ids, 0)), Code::ProofCoinbase);
    let other = Block::new(2, 500);
    refused(&with(&settled, COINBASE_BRANCH, json!(hexes(&branch(&other.ids(), 0)))), Code::ProofCoinbase);
    // 60 bytes, and 4 of scripts.
    let mut small = coinbase_of(ScriptBuf::from_bytes(vec![0x01, 0x11, 0, 0]));
    small.output.truncate(1);
    small.output[0].script_pubkey = ScriptBuf::new();
    refused(&coinbase_is(&small, &branch(&ids, 0)), Code::ProofNode);
    // One that is not first, and an ordinary one that is.
    let mut txs = block.txs.clone();
    txs[3] = coinbase(500);
    refused(&Block::of(txs, 500).settled(3), Code::ProofCoinbase);
    let mut txs = block.txs.clone();
    txs[0] = payment(9);
    refused(&Block::of(txs, 500).settled(3), Code::ProofCoinbase);
}

#[test]
fn the_coinbase_states_the_height() {
    for height in [1, 2, 15, 16, 17, 127, 128, 255, 256, 500, 32_767, 32_768, 800_000] {
        let block = Block::new(3, height);
        let report = good(&block.settled(1));
        assert_eq!(left(&report), []);
        for other in [height + 1, height + 16, height + 256, height * 256] {
            refused(&with(&block.settled(1), "/transfers/0/block/height", json!(other)), Code::ProofHeight);
        }
        if height > 1 {
            refused(&with(&block.settled(1), "/transfers/0/block/height", json!(height - 1)), Code::ProofHeight);
        }
    }
    // As BIP 34 spells small numbers.
    let script = ScriptBuf::from_bytes(vec![0x01, 0x10, OP_0.to_u8()]);
    good(&Block::of(vec![coinbase_of(script), payment(1)], 16).settled(1));
    for script in [vec![0x51, 0x61], vec![0x04, 0xf4, 0x01, 0x00, 0x00], vec![0x02, 0xf4], vec![0x4c, 0x02, 0xf4, 0x01]]
    {
        let script = ScriptBuf::from_bytes(script);
        refused(&Block::of(vec![coinbase_of(script), payment(1)], 500).settled(1), Code::ProofHeight);
    }
}

/// A block of the main network, of January 2009: its header, its coinbase and its other transaction.
const OLD_BLOCK: &str = "010000004ddccd549d28f385ab457e98d1b11ce80bfea2c5ab93015ade4973e400000000bf4473e53794beae34e64fccc471dace6ae544180816f89591894e0f417a914cd74d6e49ffff001d323b3a7b0201000000010000000000000000000000000000000000000000000000000000000000000000ffffffff0804ffff001d026e04ffffffff0100f2052a0100000043410446ef0102d1ec5240f0d061a4246c1bdef63fc3dbab7733052fbbf0ecd8f41fc26bf049ebb4f9527f374280259e7cfa99c48b0e3f39c51347a19a5819651503a5ac00000000010000000321f75f3139a013f50f315b23b0c9a2b6eac31e2bec98e5891c924664889942260000000049483045022100cb2c6b346a978ab8c61b18b5e9397755cbd17d6eb2fe0083ef32e067fa6c785a02206ce44e613f31d9a6b0517e46f3db1576e9812cc98d159bfdaf759a5014081b5c01ffffffff79cda0945903627c3da1f85fc95d0b8ee3e76ae0cfdc9a65d09744b1f8fc85430000000049483045022047957cdd957cfd0becd642f6b84d82f49b6cb4c51a91f49246908af7c3cfdf4a022100e96b46621f1bffcf5ea5982f88cef651e9354f5791602369bf5a82a6cd61a62501fffffffffe09f5fe3ffbf5ee97a54eb5e5069e9da6b4856ee86fc52938c2f979b0f38e82000000004847304402204165be9a4cbab8049e1af9723b96199bfd3e85f44c6b4c0177e3962686b26073022028f638da23fc003760861ad481ead4099312c60030d4cb57820ce4d33812a5ce01ffffffff01009d966b01000000434104ea1feff861b51fe3f5f8a3b12d0f4712db80e919548a80839fc47c6a21e66d957e9c5d8cd108c7a2d2324bad71f9904ac0ae7336507d785b17a2c115e427a32fac00000000";

/// The second transaction of that block, as one that paid.
fn old_settled() -> Value {
    let old: bitcoin::Block = deserialize(&hex::decode(OLD_BLOCK).expect("hex")).expect("a block");
    let block = Block { header: old.header, txs: old.txdata, height: 170 };
    let paid = &block.txs[1].output[0];
    let to = format!("script:{:x}", paid.script_pubkey);
    let to = bitcoin::Address::from_script(&paid.script_pubkey, bitcoin::Network::Bitcoin)
        .map_or(to, |address| address.to_string());
    let mut settled = Block { txs: vec![block.txs[0].clone(), payment(1)], ..block.clone() }.settled(1);
    settled = with(&settled, "/network", json!("bip122:000000000019d6689c085ae165831e93"));
    settled = with(&settled, "/transfers/0/index", json!(0));
    for pointer in ["/transfers/0/to", "/terms/payTo"] {
        settled = with(&settled, pointer, json!(to));
    }
    for pointer in ["/transfers/0/amount", "/received", "/terms/amount"] {
        settled = with(&settled, pointer, json!(paid.value.to_sat().to_string()));
    }
    for pointer in ["/transfers/0/tx", "/subject/tx"] {
        settled = with(&settled, pointer, json!(block.tx(1)));
    }
    with(&settled, "/proofs/0", block.proof(1))
}

#[test]
fn blocks_of_before_bip_34_do_not_state_their_height() {
    let settled = old_settled();
    let report = good(&settled);
    assert_eq!(left(&report), [NoteCode::HeightUnproven], "{report}");
    let Inclusion::Proven { transactions } = &report.inclusion else { panic!("{report}") };
    assert_eq!(transactions[0].work_bits, Some(32), "a difficulty of 1");
    // So it is with failures.
    let mut failed = settled.clone();
    failed = crate::support::without(&failed, "/transfers");
    failed["outcome"] = json!("failed");
    failed["reason"] = json!("too_early");
    failed["received"] = json!("0");
    failed["transaction"] = json!({
        "tx": settled["transfers"][0]["tx"], "block": settled["transfers"][0]["block"], "execution": "succeeded",
        "verification": "trie", "transfers": [],
    });
    assert_eq!(left(&good(&failed)), [NoteCode::HeightUnproven, NoteCode::ReasonUnproven]);
    // Where blocks state it, this one does not.
    refused(&with(&settled, "/transfers/0/block/height", json!(227_931)), Code::ProofHeight);
}

/// Whoever makes headers chooses what they ask: on the main network that follows from the header below.
#[test]
fn headers_of_another_difficulty_are_refused() {
    let old: bitcoin::Block = deserialize(&hex::decode(OLD_BLOCK).expect("hex")).expect("a block");
    let settled = old_settled();
    let next =
        |bits: u32, below| Header { prev_blockhash: below, bits: CompactTarget::from_consensus(bits), ..old.header };
    for (bits, said) in
        [(0x1d00_fffe, "another difficulty"), (0x207f_ffff, "another difficulty"), (0x1d00_ffff, "not worked")]
    {
        let header = next(bits, old.header.block_hash());
        let forged = with(&settled, "/proofs/0/headers", json!([hex::encode(serialize(&header))]));
        let wrong = check(&forged).expect_err("no work");
        assert!(wrong.code == Code::ProofWork && wrong.said.contains(said), "{bits:x}: {wrong}");
    }
}

/// Elsewhere the rules are not known, or the work is not what makes a block.
#[test]
fn work_on_other_networks_is_said_to_prove_little() {
    let report = good(&Block::new(4, 500).settled(1));
    let note = report.notes.iter().find(|note| note.code == NoteCode::BlockNotAnchored).expect("said");
    assert!(note.said.contains("proves little"), "{report}");
    let report = good(&old_settled());
    assert!(report.to_string().contains(", work 2^32"), "{report}");
    assert!(report.notes.iter().any(|note| note.said.contains("its work alone")), "{report}");
}

#[test]
fn coin_of_a_coinbase_matures() {
    let block = Block::new(4, 500);
    let on_top = |count: usize| with(&block.settled(0), "/proofs/0/headers", json!(block.headers(count)));
    assert_eq!(left(&good(&on_top(98))), [NoteCode::MaturityUnproven]);
    assert_eq!(left(&good(&on_top(99))), []);
}

#[test]
fn the_header_is_the_blocks_and_was_worked_for() {
    let block = Block::new(4, 500);
    let settled = block.settled(1);
    let header_is =
        |header: &bitcoin::block::Header| with(&settled, "/proofs/0/header", json!(hex::encode(serialize(header))));
    let other = mined(block.header.block_hash(), block.header.merkle_root.to_raw_hash());
    refused(&header_is(&other), Code::ProofHeader);
    let lazy = unmined(block.header);
    refused(&header_is(&lazy), Code::ProofWork);
    let mut easier = block.header;
    for bits in [0x2100_ffff, 0x2080_0000, 0, 0xff7f_ffff, 0x2300_0001, 0x01fe_dcba] {
        easier.bits = CompactTarget::from_consensus(bits);
        refused(&header_is(&easier), Code::ProofWork);
    }
    for bytes in [&serialize(&block.header)[..79], &[serialize(&block.header), vec![0]].concat()] {
        refused(&with(&settled, "/proofs/0/header", json!(hex::encode(bytes))), Code::ProofEncoding);
    }
    // What is worked for as regtest asks is nothing on the main network.
    let main = with(&settled, "/network", json!("bip122:000000000019d6689c085ae165831e93"));
    refused(&main, Code::ProofWork);
    refused(&with(&settled, "/network", json!("bip122:12a765e31ffd4059bada1e25190f6e98")), Code::Network);
    refused(&with(&settled, "/network", json!("test:1")), Code::ProofKind);
    refused(&with(&settled, "/transfers/0/block/hash", json!(other.block_hash().to_string())), Code::ProofHeader);
}

#[test]
fn headers_stand_on_top_of_each_other() {
    let block = Block::new(4, 500);
    let settled = with(&block.settled(1), "/terms/depth", json!(6));
    assert_eq!(left(&good(&settled)), [NoteCode::DepthUnproven], "without headers it is said that there are none");
    let on_top = |headers: &[String]| with(&settled, "/proofs/0/headers", json!(headers));
    let headers = block.headers(6);
    for count in [5, 6] {
        let report = good(&on_top(&headers[..count]));
        let Inclusion::Proven { transactions } = &report.inclusion else { panic!("{report}") };
        // Two hashes each: 12 are 2^3 and some, and so are 14.
        assert_eq!((transactions[0].headers, transactions[0].work_bits), (count, Some(3)));
        assert!(report.to_string().contains(&format!(" with {count} headers on top, work 2^3,")), "{report}");
        assert_eq!(left(&report), []);
    }
    refused(&on_top(&headers[..4]), Code::Depth);
    refused(&on_top(&headers[1..]), Code::ProofHeaders);
    let mut swapped = headers.clone();
    swapped.swap(2, 3);
    refused(&on_top(&swapped), Code::ProofHeaders);
    let last: bitcoin::block::Header = deserialize(&hex::decode(&headers[4]).expect("hex")).expect("a header");
    let lazy = [headers[..4].to_vec(), vec![hex::encode(serialize(&unmined(last)))]].concat();
    refused(&on_top(&lazy), Code::ProofWork);
    refused(&on_top(&[headers[..4].to_vec(), vec!["00".into()]].concat()), Code::ProofEncoding);
}

#[test]
fn the_transaction_is_the_one_that_is_named() {
    let block = Block::new(4, 500);
    let settled = block.settled(1);
    let other = block.proof(2);
    refused(&with(&settled, "/proofs/0", other.clone()), Code::ProofTransaction);
    refused(&with(&settled, "/proofs/0", with(&other, "/tx", json!(block.tx(1)))), Code::ProofTransaction);
    let tx_is = |bytes: Vec<u8>| with(&settled, "/proofs/0/transaction", json!(hex::encode(bytes)));
    // With its witnesses: the id is that of the rest, but they are not what it is the hash of.
    refused(&tx_is(serialize(&block.txs[1])), Code::ProofEncoding);
    let mut bare = block.txs[1].clone();
    bare.input[0].witness = Witness::new();
    refused(&tx_is([serialize(&bare), vec![0]].concat()), Code::ProofEncoding);
    refused(&tx_is(Vec::new()), Code::ProofEncoding);
    bare.lock_time = LockTime::from_consensus(1);
    refused(&tx_is(serialize(&bare)), Code::ProofTransaction);
}

#[test]
fn what_the_transaction_did_not_do_is_refused() {
    let block = Block::new(4, 500);
    let settled = block.settled(2);
    let mut more = settled.clone();
    for pointer in ["/transfers/0/amount", "/received", "/terms/amount"] {
        more = with(&more, pointer, json!("1003"));
    }
    refused(&more, Code::Transfer);
    for index in [0, 2, 1_u64 << 31] {
        refused(&with(&settled, "/transfers/0/index", json!(index)), Code::Transfer);
    }
    refused(&with(&settled, "/transfers/0/via", json!("log")), Code::Transfer);
    refused(&with(&settled, "/transfers/0/from", json!("bcrt1qother")), Code::Transfer);
    let other = "bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202";
    let elsewhere = with(&with(&settled, "/transfers/0/to", json!(other)), "/terms/payTo", json!(other));
    refused(&elsewhere, Code::Transfer);
    let upper = json!(shop().to_uppercase());
    refused(&with(&with(&settled, "/transfers/0/to", upper.clone()), "/terms/payTo", upper), Code::Transfer);
    refused(&with(&with(&settled, "/transfers/0/asset", json!("x")), "/terms/asset", json!("x")), Code::Transfer);
}

/// What has no address is spelled as its script.
#[test]
fn scripts_without_an_address_are_paid_too() {
    let mut txs = Block::new(3, 500).txs;
    txs[1].output[1].script_pubkey = ScriptBuf::from_bytes(vec![0x51]);
    let block = Block::of(txs, 500);
    let settled = with(&block.settled(1), "/transfers/0/to", json!("script:51"));
    good(&with(&settled, "/terms/payTo", json!("script:51")));
    let spelled = format!("script:{:x}", shop_script());
    let settled = with(&block.settled(2), "/transfers/0/to", json!(spelled));
    refused(&with(&settled, "/terms/payTo", json!(spelled)), Code::Transfer);
}

const XPUB: &str =
    "tpubDD7tXK8KeQ3YY83yWq755fHY2JW8Ha8Q765tknUM5rSvjPcGWfUppDFMpQ1ScziKfW3ZNtZvAD7M3u7bSs7HofjTD3KP3YxPK7X6hwV8Rk2";

#[test]
fn addresses_of_a_descriptor_are_derived() {
    use bitcoin::Address;
    use miniscript::Descriptor;
    use miniscript::descriptor::DescriptorPublicKey;
    let text = format!("wpkh({XPUB}/<0;1>/*)");
    let branches: Vec<_> = text
        .parse::<Descriptor<DescriptorPublicKey>>()
        .expect("a descriptor")
        .into_single_descriptors()
        .expect("two branches");
    let secp = bitcoin::secp256k1::Secp256k1::verification_only();
    let script =
        |branch: usize, index: u32| branches[branch].derived_descriptor(&secp, index).expect("derived").script_pubkey();
    let paid_to = |branch: usize, index: u32| {
        let mut txs = Block::new(3, 500).txs;
        txs[1].output[1].script_pubkey = script(branch, index);
        let block = Block::of(txs, 500);
        let address = Address::from_script(&script(branch, index), bitcoin::Network::Regtest).expect("an address");
        let subject = json!({"kind": "descriptor", "descriptor": text, "gapLimit": 20});
        let mut settled = with(&block.settled(1), "/subject", subject);
        settled = with(&settled, "/terms/payTo", json!(text));
        settled = with(&settled, "/transfers/0/to", json!(address.to_string()));
        with(&settled, "/transfers/0/path", json!(format!("{branch}/{index}")))
    };
    for index in [0, 1, 77] {
        assert_eq!(left(&good(&paid_to(0, index))), [NoteCode::CreationUnproven]);
        refused(&with(&paid_to(0, index), "/transfers/0/path", json!(format!("0/{}", index + 1))), Code::Recipient);
        refused(&paid_to(1, index), Code::Recipient);
        refused(&with(&paid_to(1, index), "/transfers/0/path", json!(format!("0/{index}"))), Code::Recipient);
    }
    let good_one = paid_to(0, 3);
    refused(&crate::support::without(&good_one, "/transfers/0/path"), Code::Recipient);
    for path in ["0/03", "0", "0/", "/3", "0/-3", "0/3/3", "0/4294967296"] {
        refused(&with(&good_one, "/transfers/0/path", json!(path)), Code::Shape);
    }
    refused(&with(&good_one, "/transfers/0/path", json!("0/2147483651")), Code::Recipient);
    let other = with(&good_one, "/terms/payTo", json!("wpkh(x)"));
    refused(&other, Code::Inconsistent);
    refused(&with(&other, "/subject/descriptor", json!("wpkh(x)")), Code::Recipient);
    // A path where nothing is derived.
    refused(&with(&Block::new(3, 500).settled(1), "/transfers/0/path", json!("0/3")), Code::Recipient);
    assert_eq!(good_one["network"], NETWORK);
}
