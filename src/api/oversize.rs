//! A message that is too large is the caller's mistake: INVALID_ARGUMENT, where tonic says OUT_OF_RANGE.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::errors::invalid;

/// What tonic's decoder says of a message beyond the limit.
const TOO_LARGE: &str = "decoded message length too large";

/// The status that a caller gets for it.
pub(super) fn translate(status: Status, max_bytes: usize) -> Status {
    if status.code() == Code::OutOfRange && status.message().contains(TOO_LARGE) {
        return invalid("message", &format!("at most {max_bytes} bytes"));
    }
    status
}

/// Translates the status of each response.
#[derive(Clone, Copy)]
pub(super) struct OversizeLayer {
    pub(super) max_bytes: usize,
}

impl<S> Layer<S> for OversizeLayer {
    type Service = Oversize<S>;

    fn layer(&self, inner: S) -> Oversize<S> {
        Oversize { inner, max_bytes: self.max_bytes }
    }
}

#[derive(Clone)]
pub(super) struct Oversize<S> {
    inner: S,
    max_bytes: usize,
}

impl<S> Service<Request<Body>> for Oversize<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (response, max_bytes) = (self.inner.call(request), self.max_bytes);
        Box::pin(async move {
            let response = response.await?;
            match Status::from_header_map(response.headers()) {
                Some(status) if status.code() == Code::OutOfRange && status.message().contains(TOO_LARGE) => {
                    Ok(translate(status, max_bytes).into_http())
                }
                _ => Ok(response),
            }
        })
    }
}
