//! The operator as a process of its own, on the real API server and real databases.

mod audit;
mod crash;
mod mistakes;
mod neighbours;
mod quiet;
pub mod rig;
mod stop;
mod successor;
mod sweep;
pub mod tables;
