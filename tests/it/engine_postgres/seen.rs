//! A control that lets a sweep run, and sees how far it is.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use retention_operator::engine::Chunk;
use retention_operator::sweep::{Control, ControlError, RuleProgress, StopReason, SweepState};

use crate::support::wait::eventually;

const PATIENCE: Duration = Duration::from_secs(60);

/// Sees how far a sweep is and what it waits for.
pub(super) struct Seen {
    /// The longest rest.
    rest: Duration,
    taken: Mutex<u64>,
    waited: Mutex<Vec<String>>,
}

impl Seen {
    pub(super) fn with_rests_of(rest: Duration) -> Self {
        Self {
            rest,
            taken: Mutex::default(),
            waited: Mutex::default(),
        }
    }

    pub(super) async fn has_taken(&self, rows: u64) {
        let what = "the sweep to take rows";
        eventually(PATIENCE, what, async || match *self.taken.lock().unwrap() {
            taken if taken >= rows => Ok(()),
            taken => Err(taken),
        })
        .await;
    }

    pub(super) async fn has_waited_for(&self, reason: &str) {
        eventually(PATIENCE, "the sweep to wait", async || {
            let waited = self.waited.lock().unwrap();
            match waited.iter().any(|why| why == reason) {
                true => Ok(()),
                false => Err(waited.clone()),
            }
        })
        .await;
    }
}

#[async_trait]
impl Control for Seen {
    fn stop(&self) -> Option<StopReason> {
        None
    }

    async fn rest(&self, rest: Duration) {
        tokio::time::sleep(rest.min(self.rest).max(Duration::from_millis(5))).await;
    }

    async fn begun(&self, _: &SweepState) -> Result<(), ControlError> {
        Ok(())
    }

    async fn record(&self, _: &RuleProgress) -> Result<(), ControlError> {
        Ok(())
    }

    fn advanced(&self, progress: &RuleProgress, _: Chunk, _: Duration) {
        *self.taken.lock().unwrap() = progress.rows_done;
    }

    fn waits(&self, _: &RuleProgress, reason: &str) {
        self.waited.lock().unwrap().push(reason.to_owned());
    }
}
