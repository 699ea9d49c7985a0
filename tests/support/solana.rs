//! A real Solana node, under the test's control: its slots are sealed by the clock or by the test, and it can fork.
//!
//! What it was measured to do, where that matters to a watcher (deploy/devnet/solana; surfpool 1.6.1):
//!
//! - `processed` is the open slot P, `confirmed` is P-1, `finalized` P-31, in both modes. There is a finalized block from the
//!   start, at slot 33. No slot is ever skipped, and empty ones have a block, too: heights are slots less 10.
//! - A transaction is executed when it is sent, and in a block when its slot is sealed. Statuses say nothing of it until
//!   then, so none is ever "processed"; but getTransaction, getSignaturesForAddress and balances show it at once, at every
//!   commitment. A status needs no `searchTransactionHistory`.
//! - A block is the same at confirmed and at finalized, in height, hash, parent and time. Above the commitment's slot
//!   getBlock answers null, and below slot 31 with -32602: codes of missing slots (-32004, -32007, -32009) have to be faked.
//! - The time of a block is the start's plus the slot time for each slot, not the clock's: sealed slots may be in the future.
//! - A blockhash is good for 150 blocks: the last is that below `lastValidBlockHeight`.
//! - The genesis hash is made of the start's second.
//! - What was sent twice is refused, even past the preflight. What nothing holds (an old blockhash) is answered with its
//!   signature past the preflight and never lands; the node lists it under the signature of 64 ones, with an error.
//! - Token balances from before a transaction are cut to as many as there are after it, and have the decimals of those: where
//!   a token account is closed, they are wrong.
//! - A version above the ceiling is -32603, not -32015. JSON-RPC batches work. slotSubscribe tells each slot when it opens;
//!   rootSubscribe and blockSubscribe are not there; a late signatureSubscribe is notified before it is acknowledged.

pub mod draft;

use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use draft::{Draft, Mint, TOKEN, TOKEN_2022};
use serde_json::{Value, json};
use solana_address::Address;
use solana_hash::Hash;
use solana_keypair::Keypair;
use solana_message::AddressLookupTableAccount;
use solana_signer::Signer;
use tokio::sync::{Mutex, mpsc};

/// A SOL.
pub const SOL: u64 = 1_000_000_000;
/// What a signature costs.
pub const FEE: u64 = 5_000;
/// After so many slots, what was sent is finalized.
pub const FINAL_SLOTS: u64 = 31;

/// An address that nobody else uses, of a shop that signs nothing.
pub fn shop() -> Address {
    Keypair::new().pubkey()
}

/// A transaction that is signed: to be sent now, later, twice or never.
#[derive(Clone, Debug)]
pub struct Signed {
    pub signature: String,
    /// As base64.
    pub bytes: String,
    /// None where a nonce keeps it good for ever.
    pub last_valid_block_height: Option<u64>,
}

/// Stops on drop.
pub struct Solnode {
    child: Child,
    pub port: u16,
    pub ws_port: u16,
    /// Seals slots when it is told to.
    manual: bool,
    genesis: String,
    /// Has plenty, and pays.
    pub payer: Keypair,
    commands: Mutex<(ChildStdin, mpsc::Receiver<String>)>,
    client: reqwest::Client,
    next_id: AtomicU64,
}

impl Drop for Solnode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Solnode {
    /// One that seals a slot each 100 ms.
    pub async fn start() -> Self {
        Self::clock(100).await
    }

    /// One that seals slots by the clock.
    pub async fn clock(slot_ms: u64) -> Self {
        Self::launch(slot_ms, false).await
    }

    /// One that seals slots when it is told to; each takes 400 ms of the chain's time.
    pub async fn manual() -> Self {
        Self::launch(400, true).await
    }

    /// The same with another slot time.
    pub async fn manual_of(slot_ms: u64) -> Self {
        Self::launch(slot_ms, true).await
    }

    async fn launch(slot_ms: u64, manual: bool) -> Self {
        // Somebody else may have taken a port since it was free.
        for _ in 0..5 {
            match Self::try_launch(slot_ms, manual).await {
                Ok(mut node) => {
                    let genesis = node.call("getGenesisHash", json!([])).await;
                    genesis.as_str().expect("a hash").clone_into(&mut node.genesis);
                    node.airdrop(&node.payer.pubkey(), 100_000 * SOL).await;
                    node.slot(1).await;
                    return node;
                }
                Err(why) => assert!(why.contains("in use"), "solnode ended: {why}"),
            }
        }
        panic!("solnode does not get its ports");
    }

    async fn try_launch(slot_ms: u64, manual: bool) -> Result<Self, String> {
        let binary = super::devnet().join("solana/solnode");
        assert!(binary.exists(), "no solnode in {}: run `make devnet` first", binary.display());
        let (port, ws_port) = (super::free_port(), super::free_port());
        let mut errors = tempfile::tempfile().expect("a temporary file");
        let mut child = Command::new(binary)
            .args(["--rpc-port", &port.to_string(), "--ws-port", &ws_port.to_string()])
            .args(["--slot-ms", &slot_ms.to_string()])
            .args(manual.then_some("--manual"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone().expect("the same file"))
            .spawn()
            .expect("solnode starts");
        let (said, mut lines) = mpsc::channel(16);
        let output = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| said.blocking_send(line).ok());
        });
        let commands = child.stdin.take().expect("piped");
        let ready = tokio::time::timeout(Duration::from_secs(60), lines.recv()).await;
        let node = Self {
            child,
            port,
            ws_port,
            manual,
            genesis: String::new(),
            payer: Keypair::new(),
            commands: Mutex::new((commands, lines)),
            client: reqwest::Client::new(),
            next_id: AtomicU64::new(1),
        };
        if ready.expect("solnode gets ready or ends").is_some() {
            return Ok(node);
        }
        let mut why = String::new();
        errors.rewind().and_then(|()| errors.read_to_string(&mut why)).expect("it can be read");
        Err(why)
    }

    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn ws(&self) -> String {
        format!("ws://127.0.0.1:{}", self.ws_port)
    }

    /// CAIP-2.
    pub fn network(&self) -> String {
        format!("solana:{}", &self.genesis[..32])
    }

    pub async fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    pub async fn try_call(&self, method: &str, params: Value) -> Result<Value, String> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        let post = self.client.post(self.http()).header("content-type", "application/json").body(body);
        let text = post.send().await.map_err(|e| e.to_string())?.text().await.map_err(|e| e.to_string())?;
        let mut answer: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
        if answer["error"].is_null() { Ok(answer["result"].take()) } else { Err(answer["error"].to_string()) }
    }

    async fn tell(&self, command: &str) {
        let (input, lines) = &mut *self.commands.lock().await;
        writeln!(input, "{command}").expect("solnode listens");
        lines.recv().await.unwrap_or_else(|| panic!("solnode ended at {command}"));
    }

    /// Seals n slots, or waits for as many where the clock does; returns when calls show them.
    pub async fn slot(&self, n: u64) {
        let open = self.open_slot().await;
        if self.manual {
            self.tell(&format!("slot {n}")).await;
        }
        while self.open_slot().await < open + n {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Until all that was sent is finalized.
    pub async fn finalize(&self) {
        self.slot(FINAL_SLOTS).await;
    }

    /// Remembers the state of the chain, for `back`.
    pub async fn mark(&self) {
        self.tell("mark").await;
    }

    /// Returns to the mark: what was sent since is gone, and the slots that follow are of another branch.
    pub async fn back(&self) {
        self.tell("back").await;
    }

    /// Stops the clock: no slot is sealed.
    pub async fn pause(&self) {
        self.call("surfnet_pauseClock", json!([])).await;
    }

    pub async fn resume(&self) {
        self.call("surfnet_resumeClock", json!([])).await;
    }

    async fn number(&self, method: &str, commitment: &str) -> u64 {
        self.call(method, json!([{ "commitment": commitment }])).await.as_u64().expect("a number")
    }

    /// Where transactions go that are sent now.
    pub async fn open_slot(&self) -> u64 {
        self.number("getSlot", "processed").await
    }

    /// The confirmed slot: the last that was sealed.
    pub async fn tip(&self) -> u64 {
        self.number("getSlot", "confirmed").await
    }

    pub async fn finalized(&self) -> u64 {
        self.number("getSlot", "finalized").await
    }

    /// The height of the confirmed block.
    pub async fn height(&self) -> u64 {
        self.number("getBlockHeight", "confirmed").await
    }

    /// A sealed block, with what a watcher needs of its transactions.
    pub async fn block(&self, slot: u64) -> Value {
        let config = json!({
            "encoding": "json", "transactionDetails": "accounts", "rewards": false, "maxSupportedTransactionVersion": 255,
            "commitment": "confirmed",
        });
        self.call("getBlock", json!([slot, config])).await
    }

    /// Null while it is in no sealed slot.
    pub async fn status(&self, signature: &str) -> Value {
        self.call("getSignatureStatuses", json!([[signature]])).await["value"][0].take()
    }

    /// Null if there is none.
    pub async fn transaction(&self, signature: &str) -> Value {
        let config = json!({ "encoding": "json", "commitment": "confirmed", "maxSupportedTransactionVersion": 255 });
        self.call("getTransaction", json!([signature, config])).await
    }

    /// What an account has, in lamports.
    pub async fn balance(&self, address: &Address) -> u64 {
        self.call("getBalance", json!([address.to_string()])).await["value"].as_u64().expect("lamports")
    }

    /// Lamports out of nothing.
    pub async fn airdrop(&self, to: &Address, lamports: u64) -> String {
        let signature = self.call("requestAirdrop", json!([to.to_string(), lamports])).await;
        signature.as_str().expect("a signature").to_owned()
    }

    /// An empty transaction, which the payer signs.
    pub fn draft(&self) -> Draft {
        Draft::by(&self.payer)
    }

    /// Signs, and does not send.
    pub async fn sign(&self, draft: &Draft) -> Signed {
        let salt = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (hash, last_valid_block_height) = match draft.nonce() {
            Some(nonce) => (self.nonce(nonce).await, None),
            None => {
                let latest = &self.call("getLatestBlockhash", json!([{ "commitment": "confirmed" }])).await["value"];
                let hash = latest["blockhash"].as_str().expect("a hash").parse().expect("a hash");
                (hash, latest["lastValidBlockHeight"].as_u64())
            }
        };
        let transaction = draft.sign(hash, u32::try_from(salt).expect("few calls"));
        let bytes = BASE64_STANDARD.encode(wincode::serialize(&transaction).expect("it can be written"));
        Signed { signature: transaction.signatures[0].to_string(), bytes, last_valid_block_height }
    }

    /// Signs and sends; the signature.
    pub async fn send(&self, draft: Draft) -> String {
        let signed = self.sign(&draft).await;
        self.send_raw(&signed).await.unwrap_or_else(|error| panic!("sendTransaction: {error}"))
    }

    /// Sends what may fail: it lands all the same.
    pub async fn send_unchecked(&self, draft: Draft) -> String {
        let signed = self.sign(&draft).await;
        self.send_raw_unchecked(&signed).await.unwrap_or_else(|error| panic!("sendTransaction: {error}"))
    }

    pub async fn send_raw(&self, signed: &Signed) -> Result<String, String> {
        self.post_transaction(signed, false).await
    }

    /// Past the preflight.
    pub async fn send_raw_unchecked(&self, signed: &Signed) -> Result<String, String> {
        self.post_transaction(signed, true).await
    }

    async fn post_transaction(&self, signed: &Signed, unchecked: bool) -> Result<String, String> {
        let config = json!({ "encoding": "base64", "skipPreflight": unchecked, "preflightCommitment": "processed" });
        let signature = self.try_call("sendTransaction", json!([signed.bytes, config])).await?;
        Ok(signature.as_str().expect("a signature").to_owned())
    }

    /// Lamports from the payer; the signature.
    pub async fn pay(&self, to: &Address, lamports: u64) -> String {
        self.send(self.draft().sol(to, lamports)).await
    }

    /// Tokens from the payer to the owner's associated account, which is made if it is missing; the signature.
    pub async fn pay_token(&self, mint: &Mint, owner: &Address, amount: u64) -> String {
        self.send(self.draft().token(mint, owner, amount)).await
    }

    /// An SPL token of which the payer has plenty.
    pub async fn mint(&self, decimals: u8) -> Mint {
        self.new_mint(TOKEN, decimals, None).await
    }

    /// A token of Token-2022 of which the payer has plenty.
    pub async fn mint_2022(&self, decimals: u8) -> Mint {
        self.new_mint(TOKEN_2022, decimals, None).await
    }

    /// One that withholds a part of each transfer, in hundredths of a percent.
    pub async fn fee_mint(&self, decimals: u8, basis_points: u16) -> Mint {
        self.new_mint(TOKEN_2022, decimals, Some(basis_points)).await
    }

    async fn new_mint(&self, program: Address, decimals: u8, basis_points: Option<u16>) -> Mint {
        let key = Keypair::new();
        let mint = Mint { address: key.pubkey(), program, decimals };
        self.send(self.draft().new_mint(&key, &mint, basis_points)).await;
        mint
    }

    /// A token account of the owner that is not the associated one.
    pub async fn other_account(&self, mint: &Mint, owner: &Address) -> Address {
        let key = Keypair::new();
        self.send(self.draft().new_account(&key, mint, owner)).await;
        key.pubkey()
    }

    /// What a token account has, in the smallest unit.
    pub async fn token_balance(&self, account: &Address) -> u64 {
        let answer = self.call("getTokenAccountBalance", json!([account.to_string()])).await;
        answer["value"]["amount"].as_str().expect("an amount").parse().expect("a number")
    }

    /// A nonce account of the payer.
    pub async fn nonce_account(&self) -> Address {
        let key = Keypair::new();
        self.send(self.draft().new_nonce(&key)).await;
        key.pubkey()
    }

    /// Uses a nonce up: whatever was signed with it can't land any more.
    pub async fn advance_nonce(&self, nonce: &Address) -> String {
        self.send(self.draft().advance(nonce)).await
    }

    /// The value of a nonce account.
    pub async fn nonce(&self, account: &Address) -> Hash {
        let config = json!({ "encoding": "base64", "commitment": "processed" });
        let answer = self.call("getAccountInfo", json!([account.to_string(), config])).await;
        let data = BASE64_STANDARD.decode(answer["value"]["data"][0].as_str().expect("data")).expect("base64");
        // Version, state and authority come first: 4, 4 and 32 bytes.
        Hash::new_from_array(data[40..72].try_into().expect("a hash"))
    }

    /// A look-up table of these addresses, which can be used at once: a slot is sealed.
    pub async fn table(&self, addresses: &[Address]) -> AddressLookupTableAccount {
        let (draft, key) = self.draft().new_table(self.tip().await, addresses);
        self.send(draft).await;
        self.slot(1).await;
        AddressLookupTableAccount { key, addresses: addresses.to_vec() }
    }
}
