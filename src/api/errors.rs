//! Refusals as gRPC statuses with google.rpc details.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::driver::Refusal;
use crate::store::StoreError;

/// What the engine calls a field, and what the schema calls it.
const FIELDS: [(&str, &str); 3] = [
    ("terms.deadline", "terms.deadline_ms"),
    ("terms.not_before", "terms.not_before_ms"),
    ("subject.authorization.valid_before", "authorization.valid_before_ms"),
];

/// The status for a refusal; fields are named as in the request message, in which a watch stands under `prefix`.
pub(super) fn status(refusal: &Refusal, prefix: &str) -> Status {
    match refusal {
        Refusal::Invalid { field, expected } => invalid(&field_name(field, prefix), expected),
        Refusal::KeyTaken { first } => {
            let mut details = ErrorDetails::new();
            details.set_resource_info("h402.watch.v1.Watch", first.as_str(), "", "has the same idempotency key");
            Status::with_error_details(Code::AlreadyExists, format!("{prefix}{refusal}"), details)
        }
        Refusal::NotFound(watch) => not_found(watch.as_str()),
        Refusal::Settled(_) => Status::failed_precondition(refusal.to_string()),
        Refusal::Full { .. } | Refusal::Exhausted { .. } => {
            let subject = if let Refusal::Full { .. } = refusal { "watches" } else { "addresses" };
            let mut details = ErrorDetails::new();
            details.add_quota_failure_violation(subject, refusal.to_string());
            Status::with_error_details(Code::ResourceExhausted, refusal.to_string(), details)
        }
        Refusal::Unavailable(_) => {
            let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
            Status::with_error_details(Code::Unavailable, refusal.to_string(), details)
        }
    }
}

/// A field's path in the request message.
pub(super) fn field_name(field: &str, prefix: &str) -> String {
    let name = FIELDS.iter().find(|(engine, _)| *engine == field).map_or(field, |(_, schema)| schema);
    format!("{prefix}{name}").trim_end_matches('.').to_owned()
}

/// A field that does not hold what it must.
pub(super) fn invalid(field: &str, expected: &str) -> Status {
    let description = format!("expected {expected}");
    let message = format!("{field}: {description}");
    Status::with_error_details(
        Code::InvalidArgument,
        message,
        ErrorDetails::with_bad_request_violation(field, description),
    )
}

pub(super) fn not_found(watch: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_resource_info("h402.watch.v1.Watch", watch, "", "no such watch");
    Status::with_error_details(Code::NotFound, format!("watch_id: no watch {watch:?}"), details)
}

pub(super) fn unreadable(error: &StoreError) -> Status {
    tracing::error!(%error, "could not answer from the store");
    Status::internal("the store could not be read")
}
