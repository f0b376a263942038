//! retention-operator
pub mod api;
