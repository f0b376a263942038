//! retention-operator: audits the databases of a microservice fleet and keeps them free of clutter.
#![forbid(unsafe_code)]

pub mod api;
pub mod engine;
pub mod policy;
