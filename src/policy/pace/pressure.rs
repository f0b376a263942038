//! May a sweep go on, and how wide may it open up: judged from what the database says of itself between chunks.
//!
//! A chain of small verdicts: the first that says no gives the reason.

use std::time::Duration;

use super::Pace;

/// What a database says of itself, as far as the role may see it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pressure {
    /// The server became a standby.
    pub in_recovery: bool,
    /// Transactions that ended in this database since its counters began, ours among them; `None`: not counted.
    pub transactions: Option<u64>,
    /// Other sessions of this database that are running a statement right now; `None`: hidden from the role.
    pub active_sessions: Option<u32>,
    /// VACUUM, ANALYZE or a concurrent change of an index works on the table.
    pub table_is_maintained: bool,
    /// A VACUUM that prevents transaction numbers from running out works somewhere in this database; `None`: hidden from the role.
    pub freeze_vacuum: Option<bool>,
    /// Age of the oldest transaction whose snapshot keeps deleted rows from being removed; `None`: there is none, or it is
    /// hidden from the role.
    pub oldest_snapshot: Option<Duration>,
    /// How far the slowest replica is behind.
    pub replica_lag: ReplicaLag,
    /// How far the archiving of the write-ahead log is.
    pub archiver: Archiver,
    /// What replication slots keep of the write-ahead log.
    pub slots: Slots,
    /// There is a ledger in this database.
    pub has_ledger: bool,
}

/// How far the archiving of the write-ahead log is: what is not archived is kept, until the disk is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Archiver {
    /// The last attempt failed.
    pub failing: bool,
    /// Bytes of complete log files that wait for it; `None`: nothing is archived, or nobody knows.
    pub waiting_bytes: Option<u64>,
}

/// What replication slots keep of the write-ahead log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// Bytes that the slot keeps of which nobody reads; of several the most. 0 also where the role may not see slots.
    pub idle_bytes: u64,
    /// A slot has come to its bound (`max_slot_wal_keep_size`): with a little more log it is lost.
    pub nearly_lost: bool,
}

/// How far the slowest replica is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplicaLag {
    /// No replica is connected.
    #[default]
    NoReplica,
    /// So far.
    Behind(Duration),
    /// There are replicas, but the role may not see how far they are.
    Hidden,
}

/// Why a sweep waits, as `status.currentSweep.throttledBy` spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Veto {
    /// The server can no longer be written to.
    NotPrimary,
    /// What the sweep writes to the log would wait for an archiver that fails or does not keep up.
    ArchiverBehind,
    /// A replication slot of which nobody reads keeps much of the log, or one is about to be lost.
    SlotLag,
    /// A VACUUM that prevents transaction numbers from running out is more urgent than any sweep.
    FreezeVacuumRunning,
    /// The table is being vacuumed, analysed or indexed.
    AutovacuumOnTable,
    /// An old snapshot keeps what is deleted from being removed: the table would only grow slower.
    SnapshotHeld,
    /// A replica is further behind than `pace.maxReplicaLag`, or nobody may see how far.
    ReplicaLag,
    /// Another session waits for a lock that a chunk holds.
    WaitersBehindUs,
}

impl Veto {
    /// As status spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotPrimary => "NotPrimary",
            Self::ArchiverBehind => "ArchiverBehind",
            Self::SlotLag => "SlotLag",
            Self::FreezeVacuumRunning => "FreezeVacuumRunning",
            Self::AutovacuumOnTable => "AutovacuumOnTable",
            Self::SnapshotHeld => "SnapshotHeld",
            Self::ReplicaLag => "ReplicaLag",
            Self::WaitersBehindUs => "WaitersBehindUs",
        }
    }
}

/// A snapshot older than this makes a sweep wait: what it deletes could not be cleaned away.
pub const OLDEST_SNAPSHOT: Duration = Duration::from_secs(15 * 60);

/// An archiver for which more than this waits does not keep up: a burst of the service's own leaves less.
pub const MOST_UNARCHIVED: u64 = 1 << 30;

/// A slot of which nobody reads may keep so much: a replica that restarts, or is built anew, needs less.
pub const MOST_KEPT_BY_SLOT: u64 = 4 << 30;

/// The first reason to wait, the most urgent first; `None`: go on.
#[must_use]
pub fn veto(pressure: &Pressure, pace: &Pace) -> Option<Veto> {
    let chain: [fn(&Pressure, &Pace) -> Option<Veto>; 7] = [
        |pressure, _| pressure.in_recovery.then_some(Veto::NotPrimary),
        |pressure, _| archiver_behind(pressure.archiver).then_some(Veto::ArchiverBehind),
        |pressure, _| {
            let Slots {
                idle_bytes,
                nearly_lost,
            } = pressure.slots;
            (nearly_lost || idle_bytes > MOST_KEPT_BY_SLOT).then_some(Veto::SlotLag)
        },
        |pressure, _| (pressure.freeze_vacuum == Some(true)).then_some(Veto::FreezeVacuumRunning),
        |pressure, _| {
            pressure
                .table_is_maintained
                .then_some(Veto::AutovacuumOnTable)
        },
        |pressure, _| {
            pressure
                .oldest_snapshot
                .is_some_and(|age| age > OLDEST_SNAPSHOT)
                .then_some(Veto::SnapshotHeld)
        },
        replica_lag,
    ];
    chain.iter().find_map(|verdict| verdict(pressure, pace))
}

/// One failed attempt is tried again within a minute; as long as no file waits for it nothing is amiss.
fn archiver_behind(archiver: Archiver) -> bool {
    let waiting = archiver.waiting_bytes.unwrap_or(0);
    waiting > MOST_UNARCHIVED || (archiver.failing && waiting > 0)
}

fn replica_lag(pressure: &Pressure, pace: &Pace) -> Option<Veto> {
    let most = pace.max_replica_lag?;
    let too_far = match pressure.replica_lag {
        ReplicaLag::NoReplica => false,
        ReplicaLag::Behind(lag) => lag > most,
        // A limit that cannot be watched is not kept by luck.
        ReplicaLag::Hidden => true,
    };
    too_far.then_some(Veto::ReplicaLag)
}

/// How wide a sweep has opened up, between the policy's pace (0) and [`OPEN_CHUNK`] at full duty (1).
///
/// It opens by steps while nobody else uses the database, and closes at once when somebody does: a service that wakes up meets
/// one open chunk at most. Others are seen by the transactions that ended besides ours, which every role may count, and where
/// the role may see them by the sessions that run a statement.
///
/// Where the policy leaves the pace to the operator, a sweep also eases off: below the pace, to [`EASED_CHUNK`] and
/// [`EASED_DUTY`], while the service is at work. It begins so, until it knows better.
#[derive(Clone, Debug)]
pub struct Openness {
    level: f64,
    /// The service is at work, as far as is known.
    busy: bool,
    /// The counter of transactions at the first look.
    base: Option<u64>,
    /// Our own since then.
    ours: u64,
    /// The most that the counter was ever ahead of our own: servers count a session's transactions up to a second late, so that
    /// the difference falls and comes back without anybody's doing.
    ahead: u64,
}

/// Length of a chunk while the database is idle. Shorter than the 100 ms that a statement of the service may at most wait for
/// a sweep's row lock.
pub const OPEN_CHUNK: Duration = Duration::from_millis(80);

/// Length of a chunk while the service is at work, where the policy states no pace: what a chunk writes to the log is then
/// written out in about the time of one commit, which is all that a commit of the service waits for.
pub const EASED_CHUNK: Duration = Duration::from_millis(4);

/// Percent of the time that a sweep works while the service does, where the policy states no pace: with twice as much, more than one in a
/// hundred of the service's statements were measured to meet a chunk and wait for its log.
pub const EASED_DUTY: u8 = 5;

/// Transactions of others per second from which on a service is at work.
const BUSY_TRANSACTIONS: f64 = 20.0;

/// Transactions of others per second up to which a database is idle: monitoring, pings and keep-alives.
const IDLE_TRANSACTIONS: f64 = 5.0;

/// Idle looks in a row until a sweep is open.
const STEPS: f64 = 4.0;

impl Default for Openness {
    fn default() -> Self {
        Self {
            level: 0.0,
            busy: true,
            base: None,
            ours: 0,
            ahead: 0,
        }
    }
}

impl Openness {
    /// Takes in a look at the database, `since` the last one; `ours` are the transactions that the sweep itself ended meanwhile.
    pub fn observe(&mut self, pressure: &Pressure, ours: u64, since: Duration) {
        let seconds = since.as_secs_f64().max(0.1);
        let others = self.others(pressure.transactions, ours).map(to_f64);
        let idle = others.is_some_and(|others| others <= IDLE_TRANSACTIONS * seconds);
        self.busy = match (pressure.transactions, others) {
            // An engine that counts none.
            (None, _) => false,
            (Some(_), None) => self.busy,
            (Some(_), Some(others)) => others > BUSY_TRANSACTIONS * seconds,
        };
        let quiet = pressure.active_sessions.unwrap_or(0) == 0;
        if idle && quiet {
            self.level = (self.level + 1.0 / STEPS).min(1.0);
        } else {
            self.close();
        }
    }

    /// Transactions of others since the last look; `None`: nothing is known yet.
    fn others(&mut self, transactions: Option<u64>, ours: u64) -> Option<u64> {
        self.ours = self.ours.saturating_add(ours);
        match (self.base, transactions) {
            (Some(base), Some(now)) if now >= base => {
                let ahead = (now - base).saturating_sub(self.ours);
                let others = ahead.saturating_sub(self.ahead);
                self.ahead = self.ahead.max(ahead);
                Some(others)
            }
            // The first look, or the counters began anew.
            _ => {
                *self = Self {
                    level: self.level,
                    busy: self.busy,
                    base: transactions,
                    ..Self::default()
                };
                None
            }
        }
    }

    /// Back to the policy's pace.
    fn close(&mut self) {
        self.level = 0.0;
    }

    /// Somebody suffers: back to the policy's pace, and below it where the policy states none.
    pub fn yield_to_waiters(&mut self) {
        self.close();
        self.busy = true;
    }

    fn is_eased(&self, pace: &Pace) -> bool {
        pace.eases && self.busy && self.level <= 0.0
    }

    /// The target length of the next chunk: never less than what the policy states.
    #[must_use]
    pub fn chunk_duration(&self, pace: &Pace) -> Duration {
        if self.is_eased(pace) {
            return EASED_CHUNK.min(pace.chunk_duration);
        }
        let room = OPEN_CHUNK.saturating_sub(pace.chunk_duration);
        pace.chunk_duration + room.mul_f64(self.level)
    }

    /// Percent of the time that the sweep may work: never less than what the policy states.
    #[must_use]
    pub fn duty(&self, pace: &Pace) -> f64 {
        if self.is_eased(pace) {
            return f64::from(EASED_DUTY.min(pace.max_duty));
        }
        let duty = f64::from(pace.max_duty.clamp(1, 100));
        duty + (100.0 - duty) * self.level
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "transactions of a second are far below 2^52"
)]
fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::policy::defaults::defaults;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace() -> Pace {
        Pace {
            max_replica_lag: Some(Duration::from_secs(10)),
            ..defaults().pace
        }
    }

    fn archiving(failing: bool, waiting_bytes: Option<u64>) -> Pressure {
        Pressure {
            archiver: Archiver {
                failing,
                waiting_bytes,
            },
            ..Pressure::default()
        }
    }

    fn slots(idle_bytes: u64, nearly_lost: bool) -> Pressure {
        Pressure {
            slots: Slots {
                idle_bytes,
                nearly_lost,
            },
            ..Pressure::default()
        }
    }

    #[rstest]
    #[case::nothing(Pressure::default(), None)]
    #[case::standby(Pressure { in_recovery: true, table_is_maintained: true, ..Pressure::default() }, Some(Veto::NotPrimary))]
    #[case::archiving_fails(archiving(true, Some(1)), Some(Veto::ArchiverBehind))]
    #[case::archiving_failed_and_nothing_waits(archiving(true, Some(0)), None)]
    #[case::archiving_is_slow(archiving(false, Some(MOST_UNARCHIVED + 1)), Some(Veto::ArchiverBehind))]
    #[case::archiving_has_work(archiving(false, Some(MOST_UNARCHIVED)), None)]
    #[case::archiving_is_off(archiving(true, None), None)]
    #[case::a_slot_without_a_reader(slots(MOST_KEPT_BY_SLOT + 1, false), Some(Veto::SlotLag))]
    #[case::a_slot_whose_reader_is_away_for_a_while(slots(MOST_KEPT_BY_SLOT, false), None)]
    #[case::a_slot_at_its_bound(slots(0, true), Some(Veto::SlotLag))]
    #[case::freeze(Pressure { freeze_vacuum: Some(true), ..Pressure::default() }, Some(Veto::FreezeVacuumRunning))]
    #[case::hidden_freeze(Pressure { freeze_vacuum: None, ..Pressure::default() }, None)]
    #[case::vacuum(Pressure { table_is_maintained: true, ..Pressure::default() }, Some(Veto::AutovacuumOnTable))]
    #[case::young_snapshot(Pressure { oldest_snapshot: Some(OLDEST_SNAPSHOT), ..Pressure::default() }, None)]
    #[case::old_snapshot(Pressure { oldest_snapshot: Some(OLDEST_SNAPSHOT + SECOND), ..Pressure::default() }, Some(Veto::SnapshotHeld))]
    #[case::near(Pressure { replica_lag: ReplicaLag::Behind(10 * SECOND), ..Pressure::default() }, None)]
    #[case::behind(Pressure { replica_lag: ReplicaLag::Behind(11 * SECOND), ..Pressure::default() }, Some(Veto::ReplicaLag))]
    #[case::hidden(Pressure { replica_lag: ReplicaLag::Hidden, ..Pressure::default() }, Some(Veto::ReplicaLag))]
    fn the_most_urgent_reason_is_given(#[case] pressure: Pressure, #[case] expected: Option<Veto>) {
        assert_eq!(veto(&pressure, &pace()), expected);
    }

    #[test]
    fn without_a_limit_replicas_are_not_asked_about() {
        let pressure = Pressure {
            replica_lag: ReplicaLag::Behind(1_000 * SECOND),
            ..Pressure::default()
        };
        assert_eq!(veto(&pressure, &defaults().pace), None);
    }

    /// The default's figures, as if the policy stated them.
    fn stated() -> Pace {
        Pace {
            eases: false,
            ..defaults().pace
        }
    }

    fn look(openness: &mut Openness, transactions: u64, ours: u64, active: Option<u32>) {
        let pressure = Pressure {
            transactions: Some(transactions),
            active_sessions: active,
            ..Pressure::default()
        };
        openness.observe(&pressure, ours, SECOND);
    }

    fn opened() -> Openness {
        let mut openness = Openness::default();
        for n in 0..5 {
            look(&mut openness, 1_000 + 12 * n, 12, None);
        }
        openness
    }

    #[test]
    fn an_idle_database_opens_the_pace_by_steps() {
        let pace = stated();
        let mut openness = Openness::default();
        look(&mut openness, 1_000, 0, None);
        assert_eq!(openness.chunk_duration(&pace), pace.chunk_duration);
        assert_eq!(openness.duty(&pace), 25.0);

        look(&mut openness, 1_012, 12, None);
        assert_eq!(openness.chunk_duration(&pace), Duration::from_millis(35));

        let openness = opened();
        assert_eq!(openness.chunk_duration(&pace), OPEN_CHUNK);
        assert_eq!(openness.duty(&pace), 100.0);
    }

    #[rstest]
    #[case::transactions(1_048 + 100, None)]
    #[case::a_running_statement(1_048, Some(1))]
    #[case::counters_began_anew(3, None)]
    fn anybody_elses_work_closes_it_at_once(
        #[case] transactions: u64,
        #[case] active: Option<u32>,
    ) {
        let pace = stated();
        let mut openness = opened();
        look(&mut openness, transactions, 0, active);
        assert_eq!(openness.chunk_duration(&pace), pace.chunk_duration);
        assert_eq!(openness.duty(&pace), 25.0);
    }

    #[test]
    fn a_wider_pace_of_the_policy_stays_as_it_is() {
        let pace = Pace {
            chunk_duration: Duration::from_millis(500),
            max_duty: 100,
            ..stated()
        };
        assert_eq!(opened().chunk_duration(&pace), pace.chunk_duration);
        assert_eq!(opened().duty(&pace), 100.0);
    }

    #[test]
    fn transactions_that_the_server_counts_late_are_not_taken_for_somebody_elses() {
        let mut openness = Openness::default();
        look(&mut openness, 1_000, 0, None);
        for counted in [1_000, 1_024, 1_024, 1_048, 1_060] {
            look(&mut openness, counted, 12, None);
        }
        assert_eq!(openness.duty(&stated()), 100.0);
    }

    #[test]
    fn a_database_that_counts_nothing_is_never_idle() {
        let mut openness = Openness::default();
        for _ in 0..9 {
            openness.observe(&Pressure::default(), 0, SECOND);
        }
        assert_eq!(openness.duty(&stated()), 25.0);
    }

    #[rstest]
    #[case::at_work(25, 4, 5.0)]
    #[case::hardly_used(10, 20, 25.0)]
    fn without_a_stated_pace_a_sweep_eases_off_while_the_service_is_at_work(
        #[case] others: u64,
        #[case] millis: u64,
        #[case] duty: f64,
    ) {
        let pace = defaults().pace;
        let mut openness = Openness::default();

        look(&mut openness, 1_000, 0, None);
        let first = openness.clone();
        look(&mut openness, 1_012 + others, 12, None);

        assert_eq!(
            openness.chunk_duration(&pace),
            Duration::from_millis(millis)
        );
        assert_eq!(openness.duty(&pace), duty);
        assert_eq!(first.chunk_duration(&pace), EASED_CHUNK, "until it knows");
    }

    #[test]
    fn a_stated_pace_never_eases_off() {
        let mut openness = Openness::default();

        look(&mut openness, 1_000, 0, None);
        look(&mut openness, 9_000, 12, None);
        openness.yield_to_waiters();

        assert_eq!(openness.chunk_duration(&stated()), stated().chunk_duration);
        assert_eq!(openness.duty(&stated()), 25.0);
    }

    #[test]
    fn whoever_waits_behind_a_sweep_makes_it_ease_off() {
        let mut openness = opened();

        openness.yield_to_waiters();

        assert_eq!(openness.chunk_duration(&defaults().pace), EASED_CHUNK);
    }
}
