//! The real parts that the tests run against. Every server listens on 127.0.0.1 only, on a free port, with its files in
//! [`process::run_dir`], and ends with the test process, however that ends.

pub mod control_plane;
#[allow(
    dead_code,
    reason = "the smoke test runs no verb that lasts; the tests of the verbs use the rest"
)]
pub mod operator;
pub mod pgbouncer;
pub mod postgres;
pub mod process;
pub mod wait;
