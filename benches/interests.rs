//! What open interests cost a source, by family, kind and number: memory, opening one, the longest that a source waits while
//! 4,096 are taken in, and matching 1,000 transfers, of which none or all pay somebody who is watched. Each line is a process of
//! its own, so that memory is its own. `cargo bench --bench interests`

use std::hint::black_box;
use std::io::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::{Address as EvmAddress, B256};
use bitcoin::hashes::Hash as _;
use bitcoin::{Network, ScriptBuf, Txid, WPubkeyHash};
use h402_watch::chain::{End, Family, Interests, Mailbox, bitcoin as btc, evm, solana};
use h402_watch_engine::changes::{Ask, Interest, LookUp};
use h402_watch_engine::id::{AssetId, Timestamp};
use h402_watch_engine::request::{Expiry, Subject};
use sha2::Digest as _;
use solana_pubkey::Pubkey;
use solana_signature::Signature;

const TOKEN: [u8; 20] = [0x83; 20];
const MINT: [u8; 32] = [0x84; 32];
const TRANSFERS: u64 = 1_000;
/// As many as a large commit of the driver asks for.
const POSTED: u64 = 4_096;
const ROUNDS: usize = 21;

const KINDS: [&str; 11] = [
    "evm tx",
    "evm address",
    "evm two assets",
    "evm spend",
    "bitcoin tx",
    "bitcoin p2wpkh",
    "bitcoin p2tr",
    "bitcoin spend",
    "solana tx",
    "solana address",
    "solana expiry",
];

fn main() -> std::io::Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, kind, count] = &arguments[..]
        && let Ok(count) = count.parse()
    {
        return if kind == "look-ups" { measure_look_ups(count) } else { measure(kind, count) };
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:>16} {:>9} {:>10} {:>10} {:>12} {:>12} {:>12}",
        "kind", "open", "bytes each", "open one", "longest wait", "1,000 miss", "1,000 match"
    )?;
    for kind in KINDS.into_iter().chain(["look-ups"]) {
        for count in [1_000, 10_000, 100_000, 1_000_000] {
            let ended = Command::new(std::env::current_exe()?).args([kind, &count.to_string()]).output()?;
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
            out.write_all(&ended.stdout)?;
            out.flush()?;
        }
    }
    Ok(())
}

fn measure(kind: &str, count: u64) -> std::io::Result<()> {
    let mailbox = Mailbox::new(&family(kind));
    // What the first use of the code takes is not counted.
    mailbox.post(asks(kind, count..count + 1));
    let before = resident()?;
    let mut opening = Duration::ZERO;
    let mut longest = Duration::ZERO;
    for from in (0..count).step_by(usize::try_from(POSTED).expect("fits")) {
        let asks: Vec<_> = asks(kind, from..count.min(from + POSTED)).collect();
        let (took, waited) = post(&mailbox, asks);
        opening += took;
        longest = longest.max(waited);
    }
    let each = resident()?.saturating_sub(before) / count;
    let opened = opening / u32::try_from(count).expect("fits");
    let step = usize::try_from((count / TRANSFERS).max(1)).expect("fits");
    let watched: Vec<_> = (0..count).step_by(step).collect();
    let strangers: Vec<_> = watched.iter().map(|n| n + 2 * count).collect();
    let (miss, matched) = (time(&mailbox, kind, &strangers, 0), time(&mailbox, kind, &watched, watched.len()));
    writeln!(
        std::io::stdout(),
        "{kind:>16} {count:>9} {each:>10} {opened:>10.1?} {longest:>12.1?} {miss:>12.1?} {matched:>12.1?}"
    )
}

/// Look-ups that wait, as after a restart.
fn measure_look_ups(count: u64) -> std::io::Result<()> {
    let mailbox = Mailbox::new(&evm::FAMILY);
    let before = resident()?;
    let started = Instant::now();
    for n in 0..count {
        mailbox.post([Ask::LookUp(look_up(n))]);
    }
    let opened = started.elapsed() / u32::try_from(count).expect("fits");
    let each = resident()?.saturating_sub(before) / count;
    let started = Instant::now();
    let mut taken = 0;
    while taken < count {
        taken += black_box(mailbox.take_look_ups(1000)).len() as u64;
    }
    let took = started.elapsed() * 1000 / u32::try_from(count).expect("fits");
    writeln!(std::io::stdout(), "{:>16} {count:>9} {each:>10} {opened:>10.1?} taking 1,000: {took:.1?}", "look-ups")
}

/// Posts asks, while somebody reads as a source does. How long it took, and the longest that the reader waited.
fn post(mailbox: &Mailbox, asks: Vec<Ask>) -> (Duration, Duration) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::Acquire) {
                let started = Instant::now();
                black_box(mailbox.interests().interests.proofs);
                longest = longest.max(started.elapsed());
                std::thread::sleep(Duration::from_micros(50));
            }
            longest
        });
        let started = Instant::now();
        mailbox.post(asks);
        let took = started.elapsed();
        done.store(true, Ordering::Release);
        (took, reader.join().expect("it reads"))
    })
}

fn time(mailbox: &Mailbox, kind: &str, of: &[u64], expected: usize) -> Duration {
    let of: Vec<_> = of.iter().map(|n| Seen::of(kind, *n)).collect();
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            let wants = mailbox.interests();
            let found = of.iter().filter(|seen| seen.is_watched(&wants.interests)).count();
            assert_eq!(black_box(found), expected);
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}

fn family(kind: &str) -> Family {
    match kind.split_once(' ') {
        Some(("evm", _)) => evm::FAMILY,
        Some(("solana", _)) => solana::FAMILY,
        _ => btc::family(Network::Bitcoin),
    }
}

/// 64 bytes that nobody foresees.
fn digest(kind: &str, n: u64) -> [u8; 64] {
    sha2::Sha512::digest(format!("{kind} {n}")).into()
}

fn word(kind: &str, n: u64) -> [u8; 32] {
    *digest(kind, n).first_chunk().expect("long enough")
}

fn evm_address(n: u64) -> EvmAddress {
    EvmAddress::from_word(word("evm", n).into())
}

fn script(kind: &str, n: u64) -> ScriptBuf {
    match kind {
        "bitcoin p2wpkh" => ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(&n.to_le_bytes())),
        _ => ScriptBuf::from_bytes([&[0x51, 0x20][..], &word(kind, n)].concat()),
    }
}

fn asks(kind: &str, range: std::ops::Range<u64>) -> impl Iterator<Item = Ask> {
    range.flat_map(move |n| interests(kind, n)).map(Ask::Open)
}

fn interests(kind: &str, n: u64) -> Vec<Interest> {
    let recipient =
        |asset: String, address: String| Interest::Recipient { asset: asset.into(), address: address.into() };
    let checksum = |address: EvmAddress| address.to_checksum(None);
    let token = || checksum(TOKEN.into());
    let signature = || Signature::from(digest(kind, n)).to_string();
    let txid = || Txid::from_byte_array(word(kind, n)).to_string();
    vec![match kind {
        "evm tx" => Interest::Tx(format!("{:#x}", B256::from(word(kind, n))).into()),
        "evm address" => recipient(token(), checksum(evm_address(n))),
        "evm two assets" => {
            let of = |asset| recipient(asset, checksum(evm_address(n)));
            return vec![of(token()), of(AssetId::NATIVE.to_owned())];
        }
        "evm spend" => Interest::Spend(format!("{}/{n}", checksum(evm_address(n))).into()),
        "bitcoin tx" => Interest::Tx(txid().into()),
        "bitcoin spend" => Interest::Spend(format!("{}:0", txid()).into()),
        "solana tx" => Interest::Tx(signature().into()),
        "solana address" => recipient(Pubkey::from(MINT).to_string(), Pubkey::from(word(kind, n)).to_string()),
        "solana expiry" => Interest::Expiry { tx: signature().into(), expiry: Expiry::Height(n % 1000) },
        _ => {
            let address = bitcoin::Address::from_script(&script(kind, n), Network::Bitcoin).expect("it has one");
            recipient(AssetId::NATIVE.to_owned(), address.to_string())
        }
    }]
}

fn look_up(n: u64) -> LookUp {
    LookUp {
        watch: format!("w{}", hex::encode(&word("watch", n)[..16])).into(),
        subject: Subject::Transaction { tx: format!("{:#x}", B256::from(word("evm tx", n))).into(), expiry: None },
        pay_to: vec![evm_address(n).to_checksum(None).into()],
        asset: EvmAddress::from(TOKEN).to_checksum(None).into(),
        since: Some(Timestamp(1_700_000_000_000 + n)),
        from_height: None,
    }
}

/// What a block holds of one transfer, as the source reads it.
enum Seen {
    Evm(EvmAddress),
    Tx(Vec<u8>),
    Spend(Vec<u8>),
    Script(ScriptBuf),
    /// In base58, as nodes answer.
    Account(String),
    Signature(String),
    Expiry(u64, Vec<u8>),
}

impl Seen {
    fn of(kind: &str, n: u64) -> Self {
        match kind {
            "evm tx" | "bitcoin tx" => Self::Tx(word(kind, n).to_vec()),
            "evm address" | "evm two assets" => Self::Evm(evm_address(n)),
            "evm spend" => Self::Spend([evm_address(n).as_slice(), &n.to_be_bytes()].concat()),
            "bitcoin spend" => Self::Spend([&word(kind, n)[..], &[0; 4]].concat()),
            "solana tx" => Self::Signature(Signature::from(digest(kind, n)).to_string()),
            "solana address" => Self::Account(Pubkey::from(word(kind, n)).to_string()),
            "solana expiry" => Self::Expiry(n % 1000, digest(kind, n).to_vec()),
            _ => Self::Script(script(kind, n)),
        }
    }
}

impl Seen {
    fn is_watched(&self, open: &Interests) -> bool {
        match self {
            Self::Evm(to) => open.recipients.wants(to.as_slice(), &TOKEN),
            Self::Tx(tx) => open.txs.contains(tx),
            Self::Spend(key) => open.spends.contains(key),
            Self::Script(script) => open.recipients.contains(script.as_bytes()),
            Self::Account(text) => {
                text.parse::<Pubkey>().is_ok_and(|owner| open.recipients.wants(owner.as_array(), &MINT))
            }
            Self::Signature(text) => {
                text.parse::<Signature>().is_ok_and(|signature| open.txs.contains(signature.as_array()))
            }
            Self::Expiry(height, tx) => open.expiries.contains(tx, &End::Height(*height)),
        }
    }
}

/// What the process holds in memory, bytes.
fn resident() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says so");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
    Ok(kib * 1024)
}
