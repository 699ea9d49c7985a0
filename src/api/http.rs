//! Plain HTTP: probes and metrics at `/healthz`, `/readyz`, `/metrics`; the public keys at `/.well-known/jwks.json`, and the
//! artefacts' JSON Schemas at `/schemas/`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::clock::Clock;
use crate::driver::Handle;
use crate::metrics::Metrics;

const RECEIPT_SCHEMA: &str = include_str!("../../proto/artefacts/receipt.schema.json");
const SETTLED_SCHEMA: &str = include_str!("../../proto/artefacts/settled.schema.json");

#[derive(Clone)]
struct Probes {
    driver: Handle,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    key_set: Arc<str>,
}

/// The routes. `key_set`: the public keys, as a JWK set.
pub fn http_router(driver: Handle, metrics: Arc<Metrics>, clock: Arc<dyn Clock>, key_set: &str) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .route("/.well-known/jwks.json", get(keys))
        .route("/schemas/receipt.v1.json", get(async || published("application/schema+json", RECEIPT_SCHEMA)))
        .route("/schemas/settled.v1.json", get(async || published("application/schema+json", SETTLED_SCHEMA)))
        .with_state(Probes { driver, metrics, clock, key_set: key_set.into() })
}

/// Ready once each network has a head: before that, watches on addresses are refused.
async fn ready(State(probes): State<Probes>) -> impl IntoResponse {
    let networks = probes.driver.networks();
    let waiting: Vec<_> = networks.iter().filter(|net| net.head.is_none()).map(|net| net.network.as_str()).collect();
    if waiting.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("no head yet: {}\n", waiting.join(", ")))
}

async fn render(State(probes): State<Probes>) -> impl IntoResponse {
    let text = probes.metrics.render(&probes.driver.networks(), probes.clock.now().0);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}

async fn keys(State(probes): State<Probes>) -> impl IntoResponse {
    published("application/jwk-set+json", probes.key_set.to_string())
}

/// What does not change while the service runs; caches learn of a new key within minutes of a restart.
fn published(kind: &'static str, text: impl IntoResponse) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")], text)
}
