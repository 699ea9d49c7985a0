//! Proofs of EVM chains.

use alloy_consensus::Header;
use alloy_primitives::{B256, keccak256};
use h402_watch_verify::{Code, Inclusion, NoteCode};
use serde_json::{Value, json};

use crate::support::ethereum::{Block, CHAIN, HEIGHT, payer, receipt, shop, spelled, token, transfer_log, trie, tx};
use crate::support::{good, left, refused, with, without};

const TX_PROOF: &str = "/proofs/0/transactionProof";
const RECEIPT_PROOF: &str = "/proofs/0/receiptProof";

fn nodes(value: &Value, pointer: &str) -> Vec<String> {
    serde_json::from_value(value.pointer(pointer).expect("a list").clone()).expect("texts")
}

/// Numbers on both sides of where RLP changes how it spells them, and all shapes of the trie.
#[test]
fn every_place_in_a_block_is_proven() {
    for count in [1, 2, 3, 127, 128, 129, 200] {
        let block = Block::new(count);
        let mut places = vec![0, 1, 2, 126, 127, 128, count - 1];
        places.retain(|place| *place < count);
        for place in places {
            for settled in [block.settled(place), block.settled_by_value(place)] {
                let report = good(&settled);
                let Inclusion::Proven { transactions } = &report.inclusion else { panic!("{report}") };
                assert_eq!(transactions.len(), 1);
                assert_eq!((transactions[0].height, &transactions[0].hash), (HEIGHT, &block.hash()));
                assert_eq!(left(&report), [], "{count}, {place}");
                assert!(report.is_fully_shown(), "{report}");
            }
        }
    }
}

#[test]
fn another_place_is_refused() {
    for count in [2, 3, 129, 200] {
        let block = Block::new(count);
        for (place, other) in [(0, 1), (1, 0), (count - 1, 0), (0, count - 1), (1, count), (1, 1 << 40)] {
            let settled = block.settled(place);
            refused(&with(&settled, "/proofs/0/index", json!(other)), Code::ProofTrie);
            if other < count {
                let theirs = block.proof(other);
                refused(&with(&settled, RECEIPT_PROOF, theirs["receiptProof"].clone()), Code::ProofTrie);
                refused(&with(&settled, TX_PROOF, theirs["transactionProof"].clone()), Code::ProofTrie);
                let renamed = with(&theirs, "/tx", settled["proofs"][0]["tx"].clone());
                refused(&with(&settled, "/proofs/0", renamed), Code::ProofTransaction);
                refused(&with(&settled, "/proofs/0", theirs), Code::ProofTransaction);
            }
        }
    }
}

#[test]
fn nodes_are_all_there_and_all_of_use() {
    let block = Block::new(200);
    let settled = block.settled(150);
    for pointer in [TX_PROOF, RECEIPT_PROOF] {
        let all = nodes(&settled, pointer);
        assert!(all.len() > 2, "a path with nodes between");
        for n in 0..all.len() {
            let mut fewer = all.clone();
            fewer.remove(n);
            refused(&with(&settled, pointer, json!(fewer)), Code::ProofTrie);
            let mut twice = all.clone();
            twice.insert(n, all[n].clone());
            refused(&with(&settled, pointer, json!(twice)), Code::ProofTrie);
            let mut swapped = all.clone();
            swapped.swap(n, (n + 1) % all.len());
            refused(&with(&settled, pointer, json!(swapped)), Code::ProofTrie);
            let mut longer = all.clone();
            longer[n].push_str("00");
            refused(&with(&settled, pointer, json!(longer)), Code::ProofTrie);
        }
        for more in ["", "80", "c0", all[0].as_str(), all[all.len() - 1].as_str()] {
            let mut extended = all.clone();
            extended.push(more.into());
            refused(&with(&settled, pointer, json!(extended)), Code::ProofTrie);
        }
        refused(&with(&settled, pointer, json!([])), Code::ProofTrie);
        refused(&with(&settled, pointer, json!([all[0].to_uppercase()])), Code::Shape);
    }
}

#[test]
fn the_header_is_the_blocks() {
    let block = Block::new(3);
    let settled = block.settled(1);
    let encode = |header: &Header| json!(hex::encode(alloy_rlp::encode(header)));
    let other = Header { number: HEIGHT + 1, ..block.header.clone() };
    refused(&with(&settled, "/proofs/0/header", encode(&other)), Code::ProofHeader);
    refused(&with(&settled, "/transfers/0/block/hash", json!(format!("{:#x}", B256::ZERO))), Code::ProofHeader);
    refused(&with(&settled, "/transfers/0/block/hash", json!(block.hash().to_uppercase())), Code::Shape);
    refused(&with(&settled, "/transfers/0/block/height", json!(HEIGHT - 1)), Code::ProofHeight);
    for bytes in ["", "80", "c0", "f8"] {
        refused(&with(&settled, "/proofs/0/header", json!(bytes)), Code::ProofEncoding);
    }
    let longer = format!("{}00", settled["proofs"][0]["header"].as_str().expect("hex"));
    refused(&with(&settled, "/proofs/0/header", json!(longer)), Code::ProofEncoding);
}

/// Forks append to headers what is not known here.
#[test]
fn headers_of_later_forks_are_read() {
    let block = Block::new(3);
    let mut items: Vec<Vec<u8>> = Vec::new();
    let bytes = alloy_rlp::encode(&block.header);
    let mut rest = &bytes[..];
    let alloy_rlp::PayloadView::List(found) = alloy_rlp::Header::decode_raw(&mut rest).expect("RLP") else {
        panic!("a list");
    };
    items.extend(found.into_iter().map(<[u8]>::to_vec));
    items.push(alloy_rlp::encode(B256::repeat_byte(9)));
    items.push(alloy_rlp::encode(7_u64));
    let payload = items.concat();
    let mut header = Vec::new();
    alloy_rlp::Header { list: true, payload_length: payload.len() }.encode(&mut header);
    header.extend(payload);
    let hash = json!(format!("{:#x}", keccak256(&header)));
    let settled = with(&block.settled(1), "/proofs/0/header", json!(hex::encode(&header)));
    refused(&settled, Code::ProofHeader);
    good(&with(&settled, "/transfers/0/block/hash", hash));
}

#[test]
fn what_the_transaction_did_not_do_is_refused() {
    let block = Block::new(3);
    let settled = block.settled(1);
    let other = json!(spelled(payer()));
    // Terms and artefact agree: the log alone contradicts.
    let more = with(&with(&settled, "/transfers/0/amount", json!("1002")), "/received", json!("1002"));
    refused(&with(&more, "/terms/amount", json!("1002")), Code::Transfer);
    let asset = with(&settled, "/transfers/0/asset", json!(spelled(shop())));
    refused(&with(&asset, "/terms/asset", json!(spelled(shop()))), Code::Transfer);
    refused(&with(&settled, "/transfers/0/from", json!(spelled(token()))), Code::Transfer);
    refused(&without(&settled, "/transfers/0/from"), Code::Transfer);
    let to = with(&settled, "/transfers/0/to", other.clone());
    refused(&with(&to, "/terms/payTo", other.clone()), Code::Transfer);
    for index in [0, 2, 3, 0x8000_0000_u64] {
        refused(&with(&settled, "/transfers/0/index", json!(index)), Code::Transfer);
    }
    refused(&with(&settled, "/transfers/0/via", json!("value")), Code::Transfer);
    let native = block.settled_by_value(1);
    refused(&with(&native, "/transfers/0/index", json!(1)), Code::Transfer);
    refused(&with(&native, "/transfers/0/via", json!("log")), Code::Transfer);
    refused(&with(&native, "/transfers/0/from", other), Code::Transfer);
    let more = with(&with(&native, "/transfers/0/amount", json!("3")), "/received", json!("3"));
    refused(&with(&more, "/terms/amount", json!("3")), Code::Transfer);
    // Addresses are spelled with their checksum.
    let lower = spelled(token()).to_lowercase();
    let asset = with(&settled, "/transfers/0/asset", json!(lower));
    refused(&with(&asset, "/terms/asset", json!(lower)), Code::Transfer);
}

/// ERC-721 logs the same event with four topics, and tokens of old with one.
#[test]
fn only_transfers_of_erc_20_count() {
    let mut four = transfer_log(token(), payer(), shop(), 9);
    let mut topics = four.topics().to_vec();
    topics.push(B256::with_last_byte(9));
    four.data = alloy_primitives::LogData::new_unchecked(topics, four.data.data.clone());
    let mut short = transfer_log(token(), payer(), shop(), 9);
    short.data.data = short.data.data.slice(1..);
    let mut event = transfer_log(token(), payer(), shop(), 9);
    let topics = [B256::ZERO, event.topics()[1], event.topics()[2]];
    event.data = alloy_primitives::LogData::new_unchecked(topics.to_vec(), event.data.data.clone());
    let real = transfer_log(token(), payer(), shop(), 9);
    let block = Block::of(vec![tx(0, CHAIN)], vec![receipt(0, true, &[four, short, event, real])]);
    let mut settled = with(&block.settled(0), "/transfers/0/amount", json!("9"));
    settled = with(&with(&settled, "/received", json!("9")), "/terms/amount", json!("9"));
    for index in [3, 4, 5] {
        refused(&with(&settled, "/transfers/0/index", json!(index)), Code::Transfer);
    }
    good(&with(&settled, "/transfers/0/index", json!(6)));
}

#[test]
fn a_reverted_transaction_paid_nothing() {
    let block = Block::of(vec![tx(0, CHAIN), tx(1, CHAIN)], vec![receipt(0, true, &[]), receipt(1, false, &[])]);
    refused(&block.settled(1), Code::Execution);
    refused(&block.settled_by_value(1), Code::Execution);
}

#[test]
fn a_transaction_of_another_chain_is_refused() {
    for nonce in [0, 1] {
        let block = Block::of(vec![tx(nonce, CHAIN + 1)], vec![receipt(nonce, true, &[])]);
        let settled = block.settled(0);
        let amount = json!((nonce + 1000).to_string());
        let settled = if nonce == 0 {
            settled
        } else {
            let paid = with(&with(&settled, "/transfers/0/amount", amount.clone()), "/received", amount.clone());
            with(&paid, "/terms/amount", amount)
        };
        refused(&settled, Code::Network);
        good(&with(&settled, "/network", json!(format!("eip155:{}", CHAIN + 1))));
        refused(&with(&settled, "/network", json!("bip122:0f9188f13cb7b2c71f2a335e3a4fc328")), Code::Shape);
        refused(&with(&settled, "/network", json!("test:1")), Code::ProofKind);
    }
}

#[test]
fn what_calls_did_is_not_proven() {
    let block = Block::new(3);
    let native = block.settled_by_value(1);
    for (via, index, why) in [("trace", 0x8000_0000_u64, "call"), ("balance", 0, "balances")] {
        let unproven = with(&native, "/transfers/0/via", json!(via));
        let unproven = if index == 0 { unproven } else { with(&unproven, "/transfers/0/index", json!(index)) };
        let report = good(&unproven);
        let Inclusion::Partly { transactions, unproven } = &report.inclusion else { panic!("{report}") };
        assert_eq!((transactions.len(), unproven.len(), unproven[0].index.map(u64::from)), (1, 1, Some(index)));
        assert!(unproven[0].why.contains(why), "{report}");
        assert!(report.to_string().contains("partly proven"), "{report}");
    }
}

#[test]
fn headers_stand_on_top_of_each_other() {
    let block = Block::new(3);
    let settled = with(&block.settled(1), "/terms/depth", json!(4));
    assert_eq!(left(&good(&settled)), [NoteCode::DepthUnproven], "without headers it is said that there are none");
    let on_top = |headers: &[String]| with(&settled, "/proofs/0/headers", json!(headers));
    let headers = block.headers(5);
    for count in [3, 4, 5] {
        let report = good(&on_top(&headers[..count]));
        assert_eq!(left(&report), []);
        assert!(report.to_string().contains(&format!("with {count} headers on top")), "{report}");
    }
    refused(&on_top(&headers[..2]), Code::Depth);
    refused(&on_top(&headers[1..]), Code::ProofHeaders);
    let mut swapped = headers.clone();
    swapped.swap(1, 2);
    refused(&on_top(&swapped), Code::ProofHeaders);
    let other = Header { parent_hash: block.header.hash_slow(), number: HEIGHT + 2, ..Header::default() };
    let skips = [vec![hex::encode(alloy_rlp::encode(&other))], headers[1..].to_vec()].concat();
    refused(&on_top(&skips), Code::ProofHeaders);
    refused(&on_top(&[headers.clone(), vec!["c0".into()]].concat()), Code::ProofEncoding);
}

/// Whoever makes a proof chooses its header, and so the root: what nodes hold must not hurt.
#[test]
fn nodes_that_no_chain_makes_are_refused() {
    let long_path = {
        let path = [vec![0x00], vec![0x11; 400]].concat();
        alloy_rlp::encode(vec![alloy_primitives::Bytes::from(path), alloy_primitives::Bytes::from(vec![7; 32])])
    };
    let mut nested = vec![0xc0];
    for _ in 0..20 {
        nested = [vec![0xc0 + u8::try_from(nested.len() + 1).expect("small"), 0x80], nested].concat();
    }
    let bytes = |parts: Vec<Vec<u8>>| {
        alloy_rlp::encode(parts.into_iter().map(alloy_primitives::Bytes::from).collect::<Vec<_>>())
    };
    let hostile = [
        long_path,
        nested,
        bytes(vec![vec![0x20], vec![0xc0; 40]]),
        bytes(vec![vec![], vec![1; 32]]),
        bytes(vec![vec![0x00], vec![1; 32]]),
        bytes(vec![vec![0x40], vec![1; 32]]),
        bytes(vec![vec![0x20; 40], vec![1; 32]]),
        bytes(vec![vec![]; 17]),
        bytes(vec![vec![1; 31]; 17]),
        bytes(vec![vec![1; 33]; 17]),
        bytes(vec![vec![1; 32]; 16]),
        vec![0xff; 40],
        vec![0xf8],
        vec![0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        Vec::new(),
    ];
    for node in hostile {
        let mut block = Block::new(3);
        block.header.transactions_root = keccak256(&node);
        let settled = with(&block.settled(1), TX_PROOF, json!([hex::encode(&node)]));
        refused(&settled, Code::ProofTrie);
    }
    // A leaf that is no transaction, by its right name, and one that is no receipt.
    let odd = vec![vec![0x7f; 60]];
    let mut block = Block::new(1);
    let (root, path) = trie(&odd, 0);
    let hexes: Vec<_> = path.iter().map(hex::encode).collect();
    block.header.receipts_root = root;
    refused(&with(&block.settled(0), RECEIPT_PROOF, json!(hexes)), Code::ProofEncoding);
    block = Block::new(1);
    block.header.transactions_root = root;
    let name = json!(format!("{:#x}", keccak256(&odd[0])));
    let mut unknown = with(&block.settled(0), TX_PROOF, json!(hexes));
    for pointer in ["/transfers/0/tx", "/proofs/0/tx", "/subject/tx"] {
        unknown = with(&unknown, pointer, name.clone());
    }
    // Chains have types of transactions of their own. What those logged is proven; what they carry is not.
    assert!(matches!(good(&unknown).inclusion, Inclusion::Proven { .. }));
    let mut value = block.settled_by_value(0);
    for pointer in ["/transfers/0/tx", "/proofs/0/tx", "/subject/tx"] {
        value = with(&value, pointer, name.clone());
    }
    let report = good(&with(&value, TX_PROOF, json!(hexes)));
    assert!(matches!(report.inclusion, Inclusion::Partly { .. }), "{report}");
}
