//! The integration tests: the real Kubernetes API server, real databases and the built operator, one binary with shared servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are nobody's library"
)]

mod api_server;
mod conformance;
mod engine_postgres;
mod engine_sqlite;
mod hygiene;
mod install;
mod kills;
mod mistakes;
mod offline;
mod offline_archive;
mod offline_gate;
mod offline_ledger;
mod offline_meanwhile;
mod offline_output;
mod offline_plan;
mod operator;
mod smoke;
mod support;
