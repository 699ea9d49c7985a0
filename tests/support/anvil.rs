//! A real anvil, under the test's control.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, sol};
use serde_json::{Value, json};

sol! {
    function mint(address to, uint256 v) external;
    function transfer(address to, uint256 v) external;
    function transferWithAuthorization(address f, address to, uint256 v, uint256 va, uint256 vb, bytes32 n, bytes s) external;
    function spray(uint256 n, uint256 seed) external;
    function setRate(uint256 r) external;
    function fake(address f, address to, uint256 v) external;
    function a(address f, address t, uint256 v) external;
    function b(address f, address t, uint256 id) external;
    function pay(address a, address b) external payable;
    function boom(address t) external payable;
    function tryPay(address t) external payable;
}

/// anvil's own accounts, funded and unlocked.
pub const PAYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
pub const OTHER: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
pub const THIRD: &str = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";
/// Addresses that nobody else uses: the n-th shop.
pub fn shop(n: u64) -> String {
    let word = U256::from(0x5000_0000_0000_0000_u64) + U256::from(n);
    Address::from_word(B256::from(word)).to_checksum(None)
}

pub struct Anvil {
    child: Child,
    pub port: u16,
    client: reqwest::Client,
    next_id: AtomicU64,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Anvil {
    /// Starts one that mines when it is told to.
    pub async fn manual() -> Self {
        Self::start(&["--no-mining"]).await
    }

    pub async fn start(arguments: &[&str]) -> Self {
        // In the past, so that blocks mined in quick succession don't state times to come.
        Self::start_at(unix_time() - 600, arguments).await
    }

    /// One whose first block states a time, seconds.
    pub async fn start_at(time: u64, arguments: &[&str]) -> Self {
        let binary = super::devnet().join("anvil/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
        assert!(binary.exists(), "no anvil in {}: run `make devnet` first", binary.display());
        let port = super::free_port();
        let child = Command::new(binary)
            .args(["--silent", "--port", &port.to_string(), "--timestamp", &time.to_string()])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("anvil starts");
        let anvil = Self { child, port, client: reqwest::Client::new(), next_id: AtomicU64::new(1) };
        for _ in 0..200 {
            if anvil.try_call("eth_chainId", json!([])).await.is_ok() {
                return anvil;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("anvil does not answer");
    }

    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn ws(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    pub async fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    pub async fn try_call(&self, method: &str, params: Value) -> Result<Value, String> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        let post = self.client.post(self.http()).header("content-type", "application/json").body(body);
        let text = post.send().await.map_err(|e| e.to_string())?.text().await.map_err(|e| e.to_string())?;
        let mut answer: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        if answer["error"].is_null() { Ok(answer["result"].take()) } else { Err(answer["error"].to_string()) }
    }

    /// Mines `n` blocks, each one second after the one before.
    pub async fn mine(&self, n: u64) {
        for _ in 0..n {
            self.call("evm_mine", json!([])).await;
        }
    }

    pub async fn height(&self) -> u64 {
        quantity(&self.call("eth_blockNumber", json!([])).await)
    }

    pub async fn block(&self, tag: &str) -> Value {
        self.call("eth_getBlockByNumber", json!([tag, false])).await
    }

    /// Sends a transaction from an unlocked account; its hash.
    pub async fn send(&self, tx: Value) -> String {
        self.call("eth_sendTransaction", json!([tx])).await.as_str().expect("a hash").to_owned()
    }

    /// Native coin from the payer.
    pub async fn pay(&self, to: &str, wei: u64) -> String {
        self.send(json!({ "from": PAYER, "to": to, "value": format!("{wei:#x}"), "gas": "0x5208" })).await
    }

    /// Sends a pending transaction's nonce again, dearer, with another payment.
    pub async fn replace(&self, hash: &str, to: &str, wei: u64) -> String {
        let first = self.call("eth_getTransactionByHash", json!([hash])).await;
        let price = format!("{:#x}", quantity(&first["maxFeePerGas"]) * 3);
        let dearer = json!({
            "from": first["from"], "to": to, "value": format!("{wei:#x}"), "gas": "0x5208", "nonce": first["nonce"],
            "maxFeePerGas": price, "maxPriorityFeePerGas": price,
        });
        self.send(dearer).await
    }

    /// A call of a contract by the payer.
    pub async fn invoke(&self, contract: &str, call: impl SolCall, wei: u64) -> String {
        let data = Bytes::from(call.abi_encode());
        let tx =
            json!({ "from": PAYER, "to": contract, "data": data, "value": format!("{wei:#x}"), "gas": "0x7a1200" });
        self.send(tx).await
    }

    /// The signed bytes of a transaction that is in the pool or the chain, to broadcast it again.
    pub async fn raw(&self, hash: &str) -> String {
        self.call("eth_getRawTransactionByHash", json!([hash])).await.as_str().expect("bytes").to_owned()
    }

    /// Deploys one of the contracts in deploy/devnet/contracts and mines it; its address.
    pub async fn deploy(&self, name: &str) -> String {
        const CONTRACTS: &str = include_str!("../../deploy/devnet/contracts/T.json");
        let contracts: Value = serde_json::from_str(CONTRACTS).expect("JSON");
        let bytecode = contracts[name]["bytecode"].as_str().expect("a contract");
        let bytecode = format!("0x{}", bytecode.trim_start_matches("0x"));
        let hash = self.send(json!({ "from": PAYER, "data": bytecode, "gas": "0x7a1200" })).await;
        self.mine(1).await;
        let receipt = self.call("eth_getTransactionReceipt", json!([hash])).await;
        let address: Address = receipt["contractAddress"].as_str().expect("deployed").parse().expect("an address");
        address.to_checksum(None)
    }

    /// A token of which the payer holds plenty.
    pub async fn token(&self, name: &str) -> String {
        let token = self.deploy(name).await;
        let call = mintCall { to: PAYER.parse().expect("an address"), v: U256::from(1_000_000_000_u64) };
        self.invoke(&token, call, 0).await;
        self.mine(1).await;
        token
    }

    /// A token transfer by the payer.
    pub async fn pay_token(&self, token: &str, to: &str, amount: u64) -> String {
        self.invoke(token, transferCall { to: to.parse().expect("an address"), v: U256::from(amount) }, 0).await
    }
}

pub fn quantity(value: &Value) -> u64 {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x")).expect("a quantity");
    u64::from_str_radix(digits, 16).expect("hex")
}

pub fn unix_time() -> u64 {
    super::client::now_ms() / 1000
}
