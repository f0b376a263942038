//! The operator as a process of its own, on the real API server and real databases.

mod approval;
mod audit;
mod crash;
mod holds;
mod neighbours;
mod quiet;
mod repaired;
pub mod rig;
mod stop;
mod successor;
mod sweep;
pub mod tables;
mod waiting;
