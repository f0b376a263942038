//! retention-operator: audits the databases of a microservice fleet and keeps them free of clutter.
//!
//! Data goes one way, and the modules lie along it:
//! `watch → resolve → validate → audit → decide → sweep → publish`. See `docs/architecture.md`.

pub mod api;
pub mod audit;
pub mod cli;
pub mod engine;
pub mod operator;
pub mod policy;
pub mod report;
pub mod sweep;
pub mod telemetry;
