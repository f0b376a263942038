//! Whoever lets a sweep run: the operator, or a person at a terminal.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use super::{RuleProgress, SweepState};
use crate::engine::Chunk;

/// Why a running sweep has to stop at its next chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// `suspend: true` was written.
    Suspended,
    /// The policy changed; the sweep goes on under the new spec while its window is open.
    PolicyChanged,
    /// The policy is gone.
    PolicyDeleted,
    /// The window closed.
    WindowClosed,
    /// The process ends.
    Shutdown,
    /// Another instance leads now.
    LeadershipLost,
    /// Sweeps of the database are paused in its ledger, and for long.
    Paused,
    /// Holds on the database changed: the sweep is planned anew.
    HoldsChanged,
    /// Somebody made a ledger in the database, and what it says binds: the sweep is planned anew.
    LedgerMade,
    /// Partitions came or went, on which holds and claims may be: the sweep is planned anew.
    PartsChanged,
    /// The database can only be read: it is a standby now, or somebody set it read-only.
    NotPrimary,
}

impl StopReason {
    /// Whether to go on is to be asked at once; else it is worth asking only after a while.
    #[must_use]
    pub fn is_of_the_moment(self) -> bool {
        self != Self::NotPrimary
    }

    /// The sweep itself may go on, by what holds now.
    #[must_use]
    pub fn is_planned_anew(self) -> bool {
        matches!(
            self,
            Self::HoldsChanged | Self::LedgerMade | Self::PartsChanged
        )
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Suspended => "the policy was suspended",
            Self::PolicyChanged => "the policy changed",
            Self::PolicyDeleted => "the policy was deleted",
            Self::WindowClosed => "the window closed",
            Self::Shutdown => "the process was asked to end",
            Self::LeadershipLost => "another instance took over",
            Self::Paused => "sweeps are paused in the database's ledger",
            Self::HoldsChanged => "holds on the database changed",
            Self::LedgerMade => "a ledger was made in the database",
            Self::PartsChanged => {
                "partitions of the table, or of one that refers to it, came or went"
            }
            Self::NotPrimary => {
                "the database can only be read: it is a standby now, or was set read-only"
            }
        })
    }
}

/// The progress could not be made durable; nothing more may be deleted.
#[derive(Debug, thiserror::Error)]
#[error("cannot record the sweep's progress: {0}")]
pub struct ControlError(pub String);

/// A sweep's view of the one that controls it.
#[async_trait]
pub trait Control: Send + Sync {
    /// Asked before every chunk: must the sweep stop?
    fn stop(&self) -> Option<StopReason>;

    /// Waits for `rest`, or less when the sweep has to stop.
    async fn rest(&self, rest: Duration);

    /// Makes the sweep's begin, with its cutoffs, durable.
    ///
    /// # Errors
    /// When it could not be recorded: nothing is deleted.
    async fn begun(&self, state: &SweepState) -> Result<(), ControlError>;

    /// Makes `progress` durable. Called before rows beyond [`RuleProgress::rows_reserved`] are deleted.
    ///
    /// # Errors
    /// When it could not be recorded: the sweep stops before it deletes more.
    async fn record(&self, progress: &RuleProgress) -> Result<(), ControlError>;

    /// Told after every committed chunk, which took `took`; must not wait.
    fn advanced(&self, progress: &RuleProgress, chunk: Chunk, took: Duration);

    /// Told that the sweep waits, and for what; must not wait itself.
    fn waits(&self, progress: &RuleProgress, reason: &str);
}
