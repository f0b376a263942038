//! The integration tests: the real Kubernetes API server, real databases and the built operator, one binary with shared servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod engine_postgres;
mod smoke;
mod support;
