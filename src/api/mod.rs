//! The service's interfaces: gRPC `h402.watch.v1` for clients, plain HTTP for probes, metrics and public keys.

mod auth;
mod connections;
mod convert;
mod errors;
mod grpc;
mod http;
mod oversize;
mod recent;
mod subscribe;

pub use auth::Tokens;
pub use convert::request_of;
pub use grpc::{Api, GrpcLimits, Listen, serve};
pub use http::http_router;
