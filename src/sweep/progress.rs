//! What a sweep must remember to go on after a stop: its id, its cutoffs, and how much it has taken.

use jiff::Timestamp;

use crate::{
    engine::ledger::{RuleRecord, SweepRecord},
    policy::cutoff::Cutoff,
};

/// What set a sweep off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A tick of the schedule.
    Schedule,
    /// The `sweep-requested-at` annotation, or the offline verb.
    Request,
    /// An approved plan.
    Approval,
}

impl Trigger {
    /// As status spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "Schedule",
            Self::Request => "Request",
            Self::Approval => "Approval",
        }
    }

    /// Reads what [`as_str`](Self::as_str) wrote; anything else is a tick's, the one that waits for its window.
    #[must_use]
    pub fn from_status(text: &str) -> Self {
        match text {
            "Request" => Self::Request,
            "Approval" => Self::Approval,
            _ => Self::Schedule,
        }
    }
}

/// How far one rule of a sweep has come.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleProgress {
    /// The rule's name.
    pub name: String,
    /// Fixed when the sweep began.
    pub cutoff: Cutoff,
    /// The database's number of the table; `None`: not begun.
    pub table_id: Option<u32>,
    /// The table's rows when the sweep began; `None`: not begun.
    pub rows_at_start: Option<u64>,
    /// Rows deleted and committed, as far as was seen; those that went along through foreign keys, too.
    pub rows_done: u64,
    /// Rows of `rows_done` that were stored in an archive.
    pub rows_archived: u64,
    /// Rows that a killed process may have deleted beyond `rows_done` without recording it. Counts against the limits.
    pub rows_unknown: u64,
    /// What `rows_done` and `rows_unknown` may come to at most before the next record.
    pub rows_reserved: u64,
    /// Rows that the sweep takes in all, if they were ever counted: what has been taken is then this less what is left.
    pub rows_total: Option<u64>,
    /// Rows of `rows_done` that totals have in them already.
    pub rows_counted: u64,
    /// Rows of `rows_archived` that totals have in them already.
    pub archived_counted: u64,
    /// Rows that an approval allows, in place of the policy's limits.
    pub rows_approved: Option<u64>,
    /// The walk is over.
    pub done: bool,
}

impl RuleProgress {
    /// It took rows, or may have, or somebody approved that it does: there is something to go on with.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.rows_done > 0 || self.rows_unknown > 0 || self.rows_approved.is_some()
    }

    /// A rule that has not begun.
    #[must_use]
    pub fn new(name: impl Into<String>, cutoff: Cutoff) -> Self {
        Self {
            name: name.into(),
            cutoff,
            table_id: None,
            rows_at_start: None,
            rows_done: 0,
            rows_archived: 0,
            rows_unknown: 0,
            rows_reserved: 0,
            rows_total: None,
            rows_counted: 0,
            archived_counted: 0,
            rows_approved: None,
            done: false,
        }
    }

    /// What counts against the limits.
    #[must_use]
    pub fn spent(&self) -> u64 {
        self.rows_done.saturating_add(self.rows_unknown)
    }

    /// The process ended without writing down how much it had done.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.rows_reserved > self.spent()
    }

    /// Settles what a killed process left open, now that `left` expired rows were counted.
    ///
    /// Had the sweep's total ever been counted, what is missing from it is the most that was taken. Otherwise the whole
    /// reservation counts against the limits, and the total is known from now on. None of it is reported as done: the
    /// service may have deleted or renewed rows itself.
    pub fn settle(&mut self, left: u64) {
        match self.rows_total {
            Some(total) => {
                let spent = total
                    .saturating_sub(left)
                    .clamp(self.spent(), self.rows_reserved);
                self.rows_unknown = spent.saturating_sub(self.rows_done);
            }
            None => {
                self.rows_unknown = self.rows_reserved.saturating_sub(self.rows_done);
                self.rows_total = Some(self.rows_reserved.saturating_add(left));
            }
        }
        self.release();
    }

    /// Gives back what was reserved and not used: the process knows what it has done.
    pub fn release(&mut self) {
        self.rows_reserved = self.spent();
    }
}

/// A sweep that has begun and not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepState {
    /// Unique over time: begin and a random part.
    pub id: String,
    /// What set it off.
    pub trigger: Trigger,
    /// When it began (the operator's clock).
    pub started: Timestamp,
    /// The database's clock when its cutoffs were fixed; `None`: not yet.
    pub database_time: Option<Timestamp>,
    /// The policy's generation whose cutoffs it uses.
    pub generation: i64,
    /// Identity of the database that it sweeps, or that its approval is for; `None`: not begun.
    pub database: Option<String>,
    /// Its rules in the policy's order.
    pub rules: Vec<RuleProgress>,
}

impl SweepState {
    /// A new sweep.
    #[must_use]
    pub fn begin(trigger: Trigger, now: Timestamp, generation: i64) -> Self {
        let stamp = now.strftime("%Y%m%dT%H%M%SZ");
        Self {
            id: format!("{stamp}-{:08x}", fastrand::u32(..)),
            trigger,
            started: now,
            database_time: None,
            generation,
            database: None,
            rules: Vec::new(),
        }
    }

    /// A sweep that another process began, as the ledger of the database has it; `None`: it cannot be read.
    #[must_use]
    pub fn recorded(record: &SweepRecord, generation: i64, database: &str) -> Option<Self> {
        let rules = record
            .rules
            .iter()
            .map(|rule| {
                let cutoff = rule.cutoff.parse().ok()?;
                Some(RuleProgress {
                    table_id: Some(rule.table_id),
                    rows_at_start: rule.rows_at_start,
                    rows_done: rule.rows_deleted,
                    rows_reserved: rule.rows_deleted,
                    rows_archived: rule.rows_archived,
                    rows_total: rule.rows_total,
                    rows_approved: rule.rows_approved,
                    done: rule.done,
                    ..RuleProgress::new(rule.rule.clone(), cutoff)
                })
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            id: record.id.clone(),
            trigger: Trigger::from_status(&record.trigger),
            started: record.started,
            database_time: record.database_time,
            generation,
            database: Some(database.to_owned()),
            rules,
        })
    }

    /// Takes in what the ledger has of the sweep: it is exact, whatever was reserved or seen.
    pub fn settle_by(&mut self, records: &[RuleRecord]) {
        for rule in &mut self.rules {
            let record = records
                .iter()
                .find(|record| record.rule == rule.name && Some(record.table_id) == rule.table_id);
            if let Some(record) = record {
                rule.rows_done = rule.rows_done.max(record.rows_deleted);
                rule.rows_archived = rule.rows_archived.max(record.rows_archived);
                rule.release();
            }
        }
    }

    /// The progress of a rule, if the sweep knows it.
    #[must_use]
    pub fn rule(&self, name: &str) -> Option<&RuleProgress> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// Puts a rule's progress in its place.
    pub fn put(&mut self, progress: RuleProgress) {
        match self
            .rules
            .iter_mut()
            .find(|rule| rule.name == progress.name)
        {
            Some(rule) => *rule = progress,
            None => self.rules.push(progress),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(done: u64, reserved: u64, total: Option<u64>) -> RuleProgress {
        RuleProgress {
            rows_done: done,
            rows_reserved: reserved,
            rows_total: total,
            ..RuleProgress::new("logs", Cutoff::Instant(Timestamp::UNIX_EPOCH))
        }
    }

    #[test]
    fn a_first_kill_counts_the_whole_reservation_and_learns_the_total() {
        let mut rule = progress(100, 150, None);
        rule.settle(900);
        assert_eq!(
            (rule.rows_done, rule.spent(), rule.rows_total),
            (100, 150, Some(1050))
        );
        assert!(!rule.was_killed());
    }

    #[test]
    fn a_later_kill_is_settled_by_what_is_left() {
        let mut rule = progress(100, 500, Some(1050));
        rule.settle(800);
        assert_eq!(
            (rule.rows_done, rule.spent(), rule.rows_reserved),
            (100, 250, 250)
        );
    }

    #[test]
    fn settling_never_leaves_what_was_recorded() {
        let mut shrunk = progress(100, 500, Some(1050));
        shrunk.settle(0);
        assert_eq!((shrunk.rows_done, shrunk.spent()), (100, 500));
        let mut grown = progress(100, 500, Some(1050));
        grown.settle(5000);
        assert_eq!((grown.rows_done, grown.spent()), (100, 100));
    }

    #[test]
    fn what_the_ledger_has_counts_and_nothing_is_unknown() {
        let mut sweep = SweepState::begin(Trigger::Request, Timestamp::UNIX_EPOCH, 1);
        sweep.put(RuleProgress {
            table_id: Some(7),
            ..progress(100, 5_000, None)
        });
        let record = RuleRecord {
            rule: "logs".into(),
            table_id: 7,
            table: "public.logs".into(),
            cutoff: String::new(),
            rows_at_start: None,
            rows_total: None,
            rows_approved: None,
            rows_deleted: 180,
            rows_archived: 0,
            done: false,
        };

        sweep.settle_by(&[RuleRecord {
            table_id: 8,
            ..record.clone()
        }]);
        assert!(sweep.rules[0].was_killed(), "it is another table's");
        sweep.settle_by(&[record]);

        assert_eq!(
            (sweep.rules[0].rows_done, sweep.rules[0].spent()),
            (180, 180)
        );
        assert!(!sweep.rules[0].was_killed());
    }

    #[test]
    fn ids_differ_within_a_second() {
        let now = Timestamp::UNIX_EPOCH;
        let first = SweepState::begin(Trigger::Request, now, 1);
        assert_ne!(first.id, SweepState::begin(Trigger::Request, now, 1).id);
        assert!(first.id.starts_with("19700101T000000Z-"), "{}", first.id);
    }
}
