//! One URL of a network: requests with a time limit, a size limit and a rate, and what they say of its health.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task;
use std::time::Duration;

use alloy_json_rpc::{RequestPacket, ResponsePacket, RpcError};
use alloy_rpc_client::RpcClient;
use alloy_transport::{TransportError, TransportErrorKind, TransportFut};
use h402_watch_engine::id::BlockRef;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::chain::standing::{QUARANTINE, REST_MAX, Standing};
use crate::chain::{EndpointHealth, EndpointSettings};

/// How long one request may take.
const TIME_LIMIT: Duration = Duration::from_secs(15);
/// The largest answer: the receipts of a block of 10,000 transactions take 17 MB (research: 1,671 bytes each).
const BODY_MAX: usize = 128 * 1024 * 1024;
/// Calls that are sent in one request.
pub const BATCH_MAX: usize = 100;
/// The largest parameters of a request: Agave refuses bodies of more than 50 KiB (`MAX_REQUEST_BODY_SIZE`).
const PARAMS_MAX: usize = 40 * 1024;

/// Why a call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The endpoint can't be reached, is too slow, over its limits, or answers nonsense. Another one may do.
    #[error("{0}")]
    Endpoint(String),
    /// The endpoint does not offer the method.
    #[error("method not offered: {0}")]
    Unsupported(String),
    /// The node answered with an error.
    #[error("node error {code}: {message}")]
    Node {
        /// Its JSON-RPC code.
        code: i64,
        /// Its message.
        message: String,
    },
}

/// What a call is made of.
pub type Call = (&'static str, Value);

/// One URL.
pub struct Endpoint {
    settings: EndpointSettings,
    optional: &'static [&'static str],
    client: RpcClient,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    standing: Standing,
    /// Whether its chain id was checked since it last failed.
    checked: bool,
    /// What may be sent at once, and when it was counted.
    tokens: f64,
    counted: Option<Instant>,
    unsupported: Vec<&'static str>,
}

impl Endpoint {
    pub fn new(settings: EndpointSettings, optional: &'static [&'static str]) -> Self {
        let transport = BoundedHttp {
            client: reqwest::Client::new(),
            url: settings.access.url().to_owned().into(),
            cookie_file: settings.cookie_file.clone(),
        };
        Self { client: RpcClient::new(transport, false), settings, optional, state: Mutex::default() }
    }

    pub fn name(&self) -> &str {
        &self.settings.name
    }

    pub fn ws_url(&self) -> Option<&str> {
        self.settings.ws_url.as_deref()
    }

    /// Whether it may be asked now.
    pub fn is_up(&self) -> bool {
        self.state().standing.is_up()
    }

    /// Whether its chain id was checked since it last failed.
    pub fn is_checked(&self) -> bool {
        self.state().checked
    }

    pub fn set_checked(&self) {
        self.state().checked = true;
    }

    /// Whether it was not found out to lack a method.
    pub fn offers(&self, method: &'static str) -> bool {
        !self.state().unsupported.contains(&method)
    }

    pub fn set_tip(&self, tip: BlockRef) {
        self.state().standing.tip = Some(tip);
    }

    pub fn tip(&self) -> Option<BlockRef> {
        self.state().standing.tip.clone()
    }

    pub fn health(&self) -> EndpointHealth {
        self.state().standing.health(&self.settings.name)
    }

    /// It answered what can't be: it rests as after a failure.
    pub fn blame(&self, what: &str) {
        self.fail(what.to_owned(), None);
    }

    /// It is of another chain: nothing it says is used.
    pub fn quarantine(&self, what: String) {
        self.fail(what, Some(QUARANTINE));
    }

    /// One call.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: impl Serialize,
    ) -> Result<T, CallError> {
        let params = serde_json::to_value(params).map_err(|error| CallError::Endpoint(error.to_string()))?;
        let mut answers = self.batch(&[(method, params)]).await?;
        let raw = answers.pop().ok_or_else(|| self.failed("no answer".into()))??;
        self.read(&raw)
    }

    /// Reads an answer; one that can't be read is the endpoint's failure.
    pub fn read<T: DeserializeOwned>(&self, raw: &RawValue) -> Result<T, CallError> {
        serde_json::from_str(raw.get()).map_err(|error| self.failed(format!("an answer that can't be read: {error}")))
    }

    /// Any number of calls, in as many requests as it takes; their answers in the same order.
    pub async fn batches(&self, calls: &[Call]) -> Result<Vec<Result<Box<RawValue>, CallError>>, CallError> {
        let mut answers = Vec::with_capacity(calls.len());
        let mut rest = calls;
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(one_request(rest));
            answers.extend(self.batch(batch).await?);
            rest = later;
        }
        Ok(answers)
    }

    /// Several calls in one request; their answers in the same order.
    pub async fn batch(&self, calls: &[Call]) -> Result<Vec<Result<Box<RawValue>, CallError>>, CallError> {
        self.wait_for_rate().await;
        self.state().standing.requests += 1;
        let answers = tokio::time::timeout(TIME_LIMIT, self.send(calls)).await;
        let answers = answers.map_err(|_| self.failed(format!("no answer within {} s", TIME_LIMIT.as_secs())))?;
        if let ([Err(RpcError::Transport(TransportErrorKind::HttpError(error)))], [_, _, ..]) = (&answers[..], calls)
            && matches!(error.status, 403 | 405)
        {
            // One of the calls is forbidden; which, shows when they are sent one by one.
            return Err(CallError::Unsupported(format!("HTTP {} for several calls at once", error.status)));
        }
        let mut read = Vec::with_capacity(answers.len());
        for (answer, (method, _)) in answers.into_iter().zip(calls) {
            match answer.map_err(|error| self.classify(error, method)) {
                Err(CallError::Endpoint(detail)) => return Err(CallError::Endpoint(detail)),
                answer => read.push(answer),
            }
        }
        self.state().standing.succeed();
        Ok(read)
    }

    async fn send(&self, calls: &[Call]) -> Vec<Result<Box<RawValue>, TransportError>> {
        if let [(method, params)] = calls {
            return vec![self.client.request(Cow::Borrowed(*method), params.clone()).await];
        }
        let mut batch = self.client.new_batch();
        let mut waiters = Vec::with_capacity(calls.len());
        for (method, params) in calls {
            match batch.add_call::<_, Box<RawValue>>(*method, params) {
                Ok(waiter) => waiters.push(waiter),
                Err(error) => return vec![Err(error)],
            }
        }
        if let Err(error) = batch.send().await {
            return vec![Err(error)];
        }
        let mut answers = Vec::with_capacity(waiters.len());
        for waiter in waiters {
            answers.push(waiter.await);
        }
        answers
    }

    /// What an error means for the endpoint (research/evm.md §2.3).
    fn classify(&self, error: TransportError, method: &'static str) -> CallError {
        match error {
            RpcError::ErrorResp(payload) => {
                let (code, message) = (payload.code, payload.message.into_owned());
                let lowered = message.to_ascii_lowercase();
                // -32601 is JSON-RPC's "method not found"; others say it in words.
                let words = ["not supported", "not available", "not enabled", "disabled", "does not exist"];
                let said = lowered.contains("method") && words.iter().any(|words| lowered.contains(words));
                if (code == -32601 || said) && self.optional.contains(&method) {
                    self.refuse(method);
                    return CallError::Unsupported(message);
                }
                // -28 is Bitcoin Core's "in warm-up" (RPC_IN_WARMUP).
                if code == -28 {
                    return self.failed(format!("starting: {message}"));
                }
                // -32005 is EIP-1474's "limit exceeded".
                if code == -32005 || code == 429 || lowered.contains("rate limit") {
                    return self.failed(format!("over its rate limit: {message}"));
                }
                CallError::Node { code, message }
            }
            RpcError::NullResp => CallError::Node { code: 0, message: "null".into() },
            RpcError::Transport(TransportErrorKind::HttpErrorWithRetryAfter { error, retry_after }) => {
                let what = format!("HTTP {}", error.status);
                self.fail(what.clone(), Some(retry_after.min(10 * REST_MAX)));
                CallError::Endpoint(what)
            }
            RpcError::Transport(TransportErrorKind::HttpError(error))
                if self.optional.contains(&method) && (error.status == 403 || error.status == 405) =>
            {
                // Public endpoints forbid single methods so; the others go on working.
                self.refuse(method);
                CallError::Unsupported(format!("HTTP {}", error.status))
            }
            RpcError::Transport(TransportErrorKind::HttpError(error)) => self.failed(format!("HTTP {}", error.status)),
            other => self.failed(other.to_string()),
        }
    }

    /// It does not offer a method, now or as far as can be told.
    pub fn refuse(&self, method: &'static str) {
        let mut state = self.state();
        if !state.unsupported.contains(&method) {
            tracing::info!(endpoint = self.settings.name, method, "endpoint does not offer a method");
            state.unsupported.push(method);
        }
    }

    fn failed(&self, what: String) -> CallError {
        self.fail(what.clone(), None);
        CallError::Endpoint(what)
    }

    fn fail(&self, what: String, rest: Option<Duration>) {
        let mut state = self.state();
        state.checked = false;
        state.standing.fail(&self.settings.name, what, rest);
    }

    /// A token bucket that holds one second's worth.
    async fn wait_for_rate(&self) {
        let rate = f64::from(self.settings.requests_per_second);
        loop {
            let wait = {
                let mut state = self.state();
                let now = Instant::now();
                let since = state.counted.map_or(1.0, |at| now.duration_since(at).as_secs_f64());
                state.tokens = (state.tokens + since * rate).min(rate.max(1.0));
                state.counted = Some(now);
                if state.tokens >= 1.0 {
                    state.tokens -= 1.0;
                    return;
                }
                Duration::from_secs_f64((1.0 - state.tokens) / rate)
            };
            tokio::time::sleep(wait).await;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of these calls fit into one request; at least one.
fn one_request(calls: &[Call]) -> usize {
    let mut bytes = 0;
    let fits = |(_, params): &&Call| {
        bytes += params.to_string().len();
        bytes <= PARAMS_MAX
    };
    calls.iter().take(BATCH_MAX).take_while(fits).count().max(1).min(calls.len())
}

/// alloy's HTTP transport reads bodies without a bound, and its errors repeat the URL, which may hold a secret.
#[derive(Clone)]
struct BoundedHttp {
    client: reqwest::Client,
    url: std::sync::Arc<str>,
    cookie_file: Option<PathBuf>,
}

impl BoundedHttp {
    async fn exchange(self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let custom = |error: reqwest::Error| TransportErrorKind::custom(error.without_url());
        let body = request.serialize().map_err(TransportError::ser_err)?;
        let post = self.client.post(&*self.url).header("content-type", "application/json");
        let post = match &self.cookie_file {
            None => post,
            Some(path) => {
                let cookie = tokio::fs::read_to_string(path).await;
                let cookie = cookie.map_err(|_| TransportErrorKind::custom_str("its cookie_file can't be read"))?;
                let (user, password) = cookie.trim().split_once(':').unwrap_or((cookie.trim(), ""));
                post.basic_auth(user, Some(password))
            }
        };
        let mut response = post.body(body.get().to_owned()).send().await.map_err(custom)?;
        let status = response.status();
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
        let mut received = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(custom)? {
            if received.len() + chunk.len() > BODY_MAX {
                return Err(TransportErrorKind::custom_str("the answer is too large"));
            }
            received.extend_from_slice(&chunk);
        }
        let parsed = serde_json::from_slice(&received);
        match parsed {
            Ok(packet) if status.is_success() => Ok(packet),
            _ if !status.is_success() => {
                let code = status.as_u16();
                Err(TransportErrorKind::http_error_with_retry_after(code, String::new(), retry_after))
            }
            Ok(packet) => Ok(packet),
            Err(_) => Err(TransportErrorKind::custom_str("the answer is no JSON-RPC")),
        }
    }
}

impl tower::Service<RequestPacket> for BoundedHttp {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _context: &mut task::Context<'_>) -> task::Poll<Result<(), TransportError>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        Box::pin(self.clone().exchange(request))
    }
}
