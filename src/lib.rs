//! Placeholder until the service is composed.
