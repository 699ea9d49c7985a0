//! A real bitcoind on regtest, under the test's control.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

pub const USER: &str = "h402";
pub const PASSWORD: &str = "regtest";
/// Has all coins, and mines.
pub const PAYER: &str = "payer";
/// Has nothing but what tests pay it.
pub const SHOP: &str = "shop";
/// What a conflicting transaction pays: more than a payment that was bumped many times.
const DEAR_FEE: u64 = 50_000;
/// The template's height, and how many coins of how many satoshis the payer has there, apart from coinbases.
pub const TEMPLATE_HEIGHT: u64 = 121;
const COINS: usize = 200;
const COIN: u64 = 20_000_000;
/// Another name whenever the template is made in another way.
const TEMPLATE: &str = "bitcoind-template-1";

/// Stops on drop.
pub struct Bitcoind {
    child: Option<Child>,
    pub port: u16,
    pub zmq_port: u16,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
    client: reqwest::Client,
    next_id: AtomicU64,
}

impl Drop for Bitcoind {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Bitcoind {
    /// Starts one that mines when it is told to, without an index of transactions.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// One with more arguments, which win over this harness's own.
    pub async fn with(arguments: &[&str]) -> Self {
        let indexed = arguments.contains(&"-txindex=1");
        let template = template(indexed).await;
        let folder = tempfile::tempdir().expect("a temporary directory");
        copy(&template, folder.path());
        let wallets = ["-wallet=payer", "-wallet=shop"];
        let mut node = Self::in_folder(folder, wallets.into_iter().chain(arguments.iter().copied()));
        // Somebody else may have taken a port since it was free.
        for _ in 0..5 {
            match node.try_start().await {
                Ok(()) => return node,
                Err(why) => {
                    node.kill();
                    (node.port, node.zmq_port) = (super::free_port(), super::free_port());
                    assert!(why.contains("port") || why.contains("ZMQ") || why.contains("Unable to bind"), "{why}");
                }
            }
        }
        panic!("bitcoind does not get its ports:\n{}", node.log());
    }

    /// One that is not started yet.
    fn in_folder<'a>(folder: tempfile::TempDir, arguments: impl Iterator<Item = &'a str>) -> Self {
        Self {
            child: None,
            port: super::free_port(),
            zmq_port: super::free_port(),
            arguments: arguments.map(str::to_owned).collect(),
            folder,
            client: reqwest::Client::new(),
            next_id: AtomicU64::new(1),
        }
    }

    /// Starts it after a stop: same ports, same folder, same wallets.
    pub async fn start_again(&mut self) {
        self.try_start().await.expect("bitcoind starts again");
    }

    async fn try_start(&mut self) -> Result<(), String> {
        assert!(self.child.is_none(), "bitcoind runs already");
        // The release stops working at a date of its own; other builds don't know the option, which a file forgives.
        std::fs::write(self.folder.path().join("bitcoin.conf"), "softwareexpiry=0\n").expect("writes");
        let zmq = format!("tcp://127.0.0.1:{}", self.zmq_port);
        let child = Command::new(binary())
            .arg(format!("-datadir={}", self.folder.path().display()))
            .args(["-regtest", "-server", "-printtoconsole=0", "-listen=0", "-dnsseed=0", "-fixedseeds=0", "-natpmp=0"])
            .args(["-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1", &format!("-rpcport={}", self.port)])
            .args([format!("-rpcuser={USER}"), format!("-rpcpassword={PASSWORD}")])
            .args(["sequence", "rawtx", "hashblock"].map(|topic| format!("-zmqpub{topic}={zmq}")))
            // A template is old: that must not look like a node that catches up.
            .args(["-maxtipage=2000000000", "-checkblocks=1", "-checklevel=0", "-dbcache=16", "-par=1"])
            // Each payment spends coins of its own, so that tests decide which transactions hang together.
            .args(["-fallbackfee=0.0001", "-spendzeroconfchange=0", "-keypool=10", "-unsafesqlitesync=1", "-txindex=0"])
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("bitcoind starts");
        self.child = Some(child);
        for _ in 0..1200 {
            // Whoever else has the port may never answer.
            if tokio::time::timeout(Duration::from_secs(1), self.ready()).await == Ok(true) {
                // It goes on without ZMQ where the port is taken.
                let announces = self.call("getzmqnotifications", json!([])).await != json!([]);
                return if announces { Ok(()) } else { Err(format!("no ZMQ:\n{}", self.log())) };
            }
            if self.child.as_mut().expect("started").try_wait().expect("a status").is_some() {
                return Err(format!("bitcoind ended:\n{}", self.log()));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Err(format!("bitcoind does not answer:\n{}", self.log()))
    }

    async fn ready(&self) -> bool {
        let Ok(rpc) = self.try_call("getrpcinfo", json!([])).await else { return false };
        if !Path::new(&text(&rpc["logpath"])).starts_with(self.folder.path()) {
            // Another test's node was faster to take the port.
            return false;
        }
        // Wallets are loaded before calls are answered; the mempool and indexes go on in the background.
        let Ok(mempool) = self.try_call("getmempoolinfo", json!([])).await else { return false };
        let Ok(indexes) = self.try_call("getindexinfo", json!([])).await else { return false };
        let synced = indexes.as_object().expect("indexes").values().all(|index| index["synced"] == true);
        synced && mempool["loaded"] == true
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let told = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
        assert!(told.is_ok_and(|status| status.success()), "bitcoind can't be told to stop");
        let ended = tokio::task::spawn_blocking(move || child.wait()).await.expect("waits");
        assert!(ended.is_ok_and(|status| status.success()), "bitcoind ended badly:\n{}", self.log());
    }

    /// SIGKILL: what was not written is lost, the mempool in any case.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("regtest/debug.log")).unwrap_or_default()
    }

    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// With the credentials, as a service is configured.
    pub fn url(&self) -> String {
        format!("http://{USER}:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// Where sequence, rawtx and hashblock are published.
    pub fn zmq(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.zmq_port)
    }

    pub async fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    pub async fn try_call(&self, method: &str, params: Value) -> Result<Value, String> {
        self.post(&self.http(), method, params).await
    }

    pub async fn wallet_call(&self, wallet: &str, method: &str, params: Value) -> Value {
        let answer = self.try_wallet_call(wallet, method, params).await;
        answer.unwrap_or_else(|error| panic!("{method} of {wallet}: {error}"))
    }

    pub async fn try_wallet_call(&self, wallet: &str, method: &str, params: Value) -> Result<Value, String> {
        self.post(&format!("{}/wallet/{wallet}", self.http()), method, params).await
    }

    async fn post(&self, url: &str, method: &str, params: Value) -> Result<Value, String> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        let post = self.client.post(url).basic_auth(USER, Some(PASSWORD)).body(body);
        let text = post.send().await.map_err(|e| e.to_string())?.text().await.map_err(|e| e.to_string())?;
        let mut answer: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
        if answer["error"].is_null() { Ok(answer["result"].take()) } else { Err(answer["error"].to_string()) }
    }

    /// Mines `n` blocks with what the mempool has; their hashes. A fresh address each time: coinbases of the same height
    /// on two branches would be one transaction otherwise.
    pub async fn mine(&self, n: u64) -> Vec<String> {
        self.mine_to(&self.payer_address().await, n).await
    }

    pub async fn mine_to(&self, address: &str, n: u64) -> Vec<String> {
        texts(&self.call("generatetoaddress", json!([n, address])).await)
    }

    /// Mines one block with these transactions and no others, hex or ids of the mempool's; its hash.
    pub async fn mine_with(&self, transactions: &[&str]) -> String {
        let block = self.call("generateblock", json!([self.payer_address().await, transactions])).await;
        text(&block["hash"])
    }

    /// Mines `n` blocks with nothing in them; their hashes.
    pub async fn mine_empty(&self, n: u64) -> Vec<String> {
        let mut hashes = Vec::new();
        for _ in 0..n {
            hashes.push(self.mine_with(&[]).await);
        }
        hashes
    }

    pub async fn height(&self) -> u64 {
        self.call("getblockcount", json!([])).await.as_u64().expect("a height")
    }

    pub async fn best(&self) -> String {
        text(&self.call("getbestblockhash", json!([])).await)
    }

    pub async fn block_hash(&self, height: u64) -> String {
        text(&self.call("getblockhash", json!([height])).await)
    }

    /// Takes a block and all above it out of the chain; the mempool gets their transactions back.
    pub async fn invalidate(&self, hash: &str) {
        self.call("invalidateblock", json!([hash])).await;
    }

    pub async fn reconsider(&self, hash: &str) {
        self.call("reconsiderblock", json!([hash])).await;
    }

    /// Ids of the mempool's transactions.
    pub async fn mempool(&self) -> Vec<String> {
        texts(&self.call("getrawmempool", json!([])).await)
    }

    /// A fresh address of the shop.
    pub async fn address(&self) -> String {
        self.address_of("bech32").await
    }

    /// A fresh address of the shop: "legacy", "p2sh-segwit", "bech32" or "bech32m".
    pub async fn address_of(&self, kind: &str) -> String {
        text(&self.wallet_call(SHOP, "getnewaddress", json!(["", kind])).await)
    }

    /// A fresh address of the payer.
    pub async fn payer_address(&self) -> String {
        text(&self.wallet_call(PAYER, "getnewaddress", json!(["", "bech32"])).await)
    }

    /// Satoshis from the payer, in a transaction that signals that it may be replaced; its id.
    pub async fn pay(&self, address: &str, sats: u64) -> String {
        let params = json!([address, coins(sats), "", "", false, true]);
        text(&self.wallet_call(PAYER, "sendtoaddress", params).await)
    }

    /// Several payments in one transaction; its id.
    pub async fn pay_many(&self, payments: &[(&str, u64)]) -> String {
        let outputs: serde_json::Map<String, Value> =
            payments.iter().map(|(address, sats)| ((*address).to_owned(), json!(coins(*sats)))).collect();
        assert_eq!(outputs.len(), payments.len(), "the node takes an address once only");
        text(&self.wallet_call(PAYER, "sendmany", json!(["", outputs, 1, "", [], true])).await)
    }

    /// Replaces a payment that is in the mempool by a dearer one of the same; its id.
    pub async fn bump(&self, txid: &str) -> String {
        text(&self.wallet_call(PAYER, "bumpfee", json!([txid])).await["txid"])
    }

    /// Signs, and does not send, a transaction that spends what a payment spends, dearer, and pays another address at
    /// output 0; its id and hex.
    pub async fn double_spend(&self, txid: &str, address: &str, sats: u64, replaceable: bool) -> (String, String) {
        let mut spent = Vec::new();
        let mut total = 0;
        for input in self.decoded(txid).await["vin"].as_array().expect("inputs") {
            let (parent, index) = (text(&input["txid"]), input["vout"].as_u64().expect("an index"));
            let parent_decoded = self.decoded(&parent).await;
            let outputs = parent_decoded["vout"].as_array().expect("outputs");
            let output = outputs.iter().find(|output| output["n"] == index).expect("an output");
            let value = satoshis(&output["value"]);
            total += value;
            // Told to the wallet, which does not look for coins that are spent.
            spent.push(json!({
                "txid": parent, "vout": index, "scriptPubKey": output["scriptPubKey"]["hex"], "amount": coins(value),
            }));
        }
        let change = total.checked_sub(sats + DEAR_FEE).expect("the inputs suffice");
        let outputs = json!([{ address: coins(sats) }, { self.payer_address().await: coins(change) }]);
        let raw = text(&self.call("createrawtransaction", json!([spent, outputs, 0, replaceable])).await);
        self.sign(&raw, &json!(spent)).await
    }

    /// Signs, and does not send, a payment by the payer at output 0; its id and hex. The coins stay reserved for it.
    pub async fn raw_payment(&self, address: &str, sats: u64, replaceable: bool) -> (String, String) {
        let raw = self.call("createrawtransaction", json!([[], [{ address: coins(sats) }], 0, replaceable])).await;
        let options = json!({ "changePosition": 1, "lockUnspents": true, "replaceable": replaceable });
        let funded = self.wallet_call(PAYER, "fundrawtransaction", json!([raw, options])).await;
        self.sign(&text(&funded["hex"]), &json!([])).await
    }

    async fn sign(&self, raw: &str, spent: &Value) -> (String, String) {
        let signed = self.wallet_call(PAYER, "signrawtransactionwithwallet", json!([raw, spent])).await;
        assert_eq!(signed["complete"], true, "not signed: {signed}");
        let decoded = self.call("decoderawtransaction", json!([signed["hex"]])).await;
        (text(&decoded["txid"]), text(&signed["hex"]))
    }

    /// One of the payer's transactions, wherever it is.
    async fn decoded(&self, txid: &str) -> Value {
        self.wallet_call(PAYER, "gettransaction", json!([txid, true, true])).await["decoded"].take()
    }

    /// Many payments in one transaction that pays 25 sat/vB, more than the others do; its id.
    pub async fn pay_many_dearly(&self, payments: &[(&str, u64)]) -> String {
        let outputs: serde_json::Map<String, Value> =
            payments.iter().map(|(address, sats)| ((*address).to_owned(), json!(coins(*sats)))).collect();
        let params = json!(["", outputs, 1, "", [], true, null, "unset", 25]);
        text(&self.wallet_call(PAYER, "sendmany", params).await)
    }

    /// The id, or the node's refusal.
    pub async fn send_raw(&self, hex: &str) -> Result<String, String> {
        self.try_call("sendrawtransaction", json!([hex])).await.map(|txid| text(&txid))
    }

    /// The signed bytes, hex, of one of the payer's transactions, wherever it is.
    pub async fn raw(&self, txid: &str) -> String {
        text(&self.wallet_call(PAYER, "gettransaction", json!([txid, true])).await["hex"])
    }
}

fn binary() -> PathBuf {
    let binary = super::devnet().join("bitcoind/bin/bitcoind");
    assert!(binary.exists(), "no bitcoind in {}: run `make devnet` first", binary.display());
    binary
}

/// A folder with a chain whose payer has coins to spend; made once a machine.
async fn template(indexed: bool) -> PathBuf {
    let name = format!("{TEMPLATE}{}", if indexed { "-txindex" } else { "" });
    let finished = super::devnet().join(&name);
    if finished.exists() {
        return finished;
    }
    // Says what is missing before a folder is.
    binary();
    // One process makes it, the others wait; the lock ends with the process.
    let lock = std::fs::File::create(super::devnet().join(format!("{name}.lock"))).expect("a lock file");
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.expect("waits").expect("locks");
    if !finished.exists() {
        let folder = tempfile::tempdir_in(super::devnet()).expect("a temporary directory");
        // In the past, so that blocks mined in quick succession don't state times to come.
        let time = format!("-mocktime={}", super::client::now_ms() / 1000 - 3600);
        let index = format!("-txindex={}", u8::from(indexed));
        let mut node = Bitcoind::in_folder(folder, [index.as_str(), time.as_str()].into_iter());
        node.start_again().await;
        for wallet in [PAYER, SHOP] {
            node.call("createwallet", json!([wallet])).await;
        }
        node.mine(TEMPLATE_HEIGHT - 1).await;
        let mut outputs = serde_json::Map::new();
        for _ in 0..COINS {
            outputs.insert(node.payer_address().await, json!(coins(COIN)));
        }
        node.wallet_call(PAYER, "sendmany", json!(["", outputs])).await;
        node.mine(1).await;
        node.stop().await;
        std::fs::remove_file(node.folder.path().join("regtest/debug.log")).expect("removes");
        std::fs::rename(node.folder.path(), &finished).expect("renames");
    }
    drop(lock);
    finished
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("reads") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

/// An address that nobody has the key of: the n-th.
pub fn anybody(n: u64) -> String {
    let mut program = [0; 20];
    program[12..].copy_from_slice(&n.to_be_bytes());
    let program = bitcoin::WitnessProgram::new(bitcoin::WitnessVersion::V0, &program).expect("20 bytes");
    bitcoin::Address::from_witness_program(program, bitcoin::KnownHrp::Regtest).to_string()
}

/// An amount as the node takes it: a decimal number of bitcoins, in a string.
pub fn coins(sats: u64) -> String {
    format!("{}.{:08}", sats / 100_000_000, sats % 100_000_000)
}

/// An amount as the node gives it: a JSON number of bitcoins, which may be written with an exponent.
pub fn satoshis(value: &Value) -> u64 {
    let number = value.as_number().expect("an amount").to_string();
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((&number, "0"));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let exponent: isize = exponent.parse().expect("an exponent");
    let shift = 8 + exponent - part.len().cast_signed();
    let mut digits = format!("{whole}{part}");
    if shift >= 0 {
        digits.extend(std::iter::repeat_n('0', shift.unsigned_abs()));
    } else {
        let rest = digits.split_off(digits.len().saturating_sub(shift.unsigned_abs()));
        assert!(rest.chars().all(|digit| digit == '0'), "less than a satoshi: {number}");
    }
    if digits.is_empty() { 0 } else { digits.parse().expect("digits") }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().expect("a list").iter().map(text).collect()
}
