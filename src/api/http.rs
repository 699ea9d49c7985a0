//! Plain HTTP for probes and metrics: `/healthz`, `/readyz`, `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::clock::Clock;
use crate::driver::Handle;
use crate::metrics::Metrics;

#[derive(Clone)]
struct Probes {
    driver: Handle,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

/// The routes.
pub fn http_router(driver: Handle, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(Probes { driver, metrics, clock })
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
