//! The server whose counters were read, and whether they are still the ones that were read before.

use jiff::{SignedDuration, Timestamp};

use super::Break;

/// Samples further apart than this do not belong to one window. Audits run at least once a day.
pub(super) const LONGEST_GAP: SignedDuration = SignedDuration::from_hours(72);
/// A clock that was set back by more ends every window: times of before and after cannot be compared.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(5);

/// The server, and the state of its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The database's clock after the counters were read.
    pub at: Timestamp,
    /// Server and database: system identifier and the database's number.
    pub server: String,
    /// Changes with every promotion; empty on a standby.
    pub timeline: String,
    /// When the server was started.
    pub started: Timestamp,
    /// Since when the database's counters count; `None`: never reset, or lost in a crash.
    pub reset: Option<Timestamp>,
    /// Since when the counters of the server as a whole count, as the server says it: another text after every crash. Empty: not
    /// known.
    pub epoch: String,
    /// It counts what everybody does (`track_counts`). While it does not, nothing is called unused; the epoch changes with it.
    pub counting: bool,
    /// It replays another server's writes: its own reads are all that it counts.
    pub standby: bool,
    /// Standbys read from it, which count their reads themselves.
    pub has_standbys: bool,
}

/// What is remembered of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// As it was at the last sample; its [`at`](Node::at) is the time of that.
    pub node: Node,
    /// Since when no window was broken for all things at once.
    pub since: Timestamp,
    /// By what they were then.
    pub broken_by: Break,
}

impl State {
    /// The first one.
    pub(super) fn first(node: &Node) -> Self {
        Self {
            node: node.clone(),
            since: node.at,
            broken_by: Break::FirstSeen,
        }
    }

    /// The next one, and what broke every window since the last sample.
    pub(super) fn next(&self, node: &Node) -> (Self, Option<Break>) {
        let broken = self.broken_by(node);
        let next = Self {
            node: node.clone(),
            since: broken.map_or(self.since, |_| node.at),
            broken_by: broken.unwrap_or(self.broken_by),
        };
        (next, broken)
    }

    fn broken_by(&self, node: &Node) -> Option<Break> {
        let before = &self.node;
        let gap = node.at.duration_since(before.at);
        if node.server != before.server {
            Some(Break::OtherServer)
        } else if node.timeline != before.timeline {
            Some(Break::Failover)
        } else if node.epoch != before.epoch || lost_in_restart(before, node) {
            Some(Break::Crash)
        } else if node.reset != before.reset {
            Some(Break::Reset)
        } else if gap > LONGEST_GAP || gap < -CLOCK_SLACK {
            Some(Break::Missed)
        } else {
            None
        }
    }
}

/// A clean restart keeps the counters, and a crash does not: where nothing tells one from the other it was a crash.
fn lost_in_restart(before: &Node, node: &Node) -> bool {
    node.started != before.started && node.reset.is_none() && node.epoch.is_empty()
}
