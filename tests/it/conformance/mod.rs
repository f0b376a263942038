//! One suite of cases that holds for every engine and every way to reach it.
//!
//! A case is a world in SQL, a policy, and what must be left of it: [`case::Case`]. There is a test of it for each
//! [`target::Target`], so that a failure names both: `conformance::cases::triggers::one_that_fails::through_pgbouncer`.
//! Cases go the whole way of a policy: its document is checked as the API server checks it, then read, audited and swept.

mod case;
mod cases;
mod clock;
mod concurrency;
mod meaning;
mod pooled;
mod property;
mod run;
mod target;
