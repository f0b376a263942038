//! What the operator's own transactions add to the server's counters, so that audits can take it off them again.
//!
//! A session's counts that it has not handed over to the server yet are those of several transactions, and through a pooler of
//! several clients: so they are read at the beginning of a transaction and before its end, and the difference is ours. Nothing
//! hands them over in between. What a transaction did counts whether it is committed or not.
//!
//! Counted are the tables that a statement names, those that refer to them, and their indexes. What a service's triggers read and
//! write is the service's use. Before PostgreSQL 15 counts were sent to a collector that could lose them: there nothing is
//! taken off.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use sqlx::{Row, postgres::PgRow};

use super::{session::Session, sql::Sql};
use crate::policy::usage::OwnUse;

/// Counts by the numbers of tables and indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally(HashMap<u32, OwnUse>);

impl Tally {
    /// From the column that [`expression`] makes.
    pub(super) fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        let text: Option<String> = row.try_get("own")?;
        Ok(Self::parse(text.as_deref().unwrap_or_default()))
    }

    fn parse(text: &str) -> Self {
        let one = |entry: &str| {
            let mut numbers = entry.split(':');
            let id = numbers.next()?.parse().ok()?;
            let reads = numbers.next()?.parse().ok()?;
            let writes = numbers.next()?.parse().ok()?;
            Some((
                id,
                OwnUse {
                    reads,
                    writes,
                    at: None,
                },
            ))
        };
        Self(text.split(',').filter_map(one).collect())
    }

    /// What was added since `before`.
    fn since(self, before: &Self) -> Self {
        let mut added = self.0;
        for (id, before) in &before.0 {
            if let Some(after) = added.get_mut(id) {
                after.reads = after.reads.saturating_sub(before.reads);
                after.writes = after.writes.saturating_sub(before.writes);
            }
        }
        Self(added)
    }
}

/// The session's counts of tables and their indexes that it has not handed over yet, as a text: an expression.
pub(super) fn expression(tables: &BTreeSet<u32>) -> String {
    let ids: Vec<String> = tables.iter().map(u32::to_string).collect();
    let ids = format!("ARRAY[{}]::oid[]", ids.join(", "));
    format!(
        "(SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', x.id::int8, x.reads, x.writes), ',') FROM (\
         SELECT t.id, pg_catalog.pg_stat_get_xact_numscans(t.id) AS reads, pg_catalog.pg_stat_get_xact_tuples_inserted(t.id) \
         + pg_catalog.pg_stat_get_xact_tuples_updated(t.id) + pg_catalog.pg_stat_get_xact_tuples_deleted(t.id) AS writes \
         FROM pg_catalog.unnest({ids}) AS t(id) UNION ALL \
         SELECT i.indexrelid, pg_catalog.pg_stat_get_xact_numscans(i.indexrelid), 0 FROM pg_catalog.pg_index i \
         WHERE i.indrelid = ANY ({ids})) x WHERE x.reads > 0 OR x.writes > 0)"
    )
}

/// What an engine has added and not written down yet.
#[derive(Debug, Default)]
pub(super) struct OwnCounts(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// A ledger that keeps them is in use.
    kept: bool,
    /// The sweep that is at it.
    run: Option<Run>,
    sums: HashMap<u32, OwnUse>,
}

#[derive(Debug)]
struct Run {
    token: String,
    exact: bool,
}

impl OwnCounts {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on counts are kept.
    pub(super) fn keep(&self) {
        self.state().kept = true;
    }

    pub(super) fn are_kept(&self) -> bool {
        self.state().kept
    }

    /// A sweep begins: its token.
    pub(super) fn begin(&self) -> String {
        let token = format!("{:032x}", fastrand::u128(..));
        self.state().run = Some(Run {
            token: token.clone(),
            exact: true,
        });
        token
    }

    /// A sweep ends: its token, and whether all that it added is known.
    pub(super) fn end(&self) -> Option<(String, bool)> {
        self.state().run.take().map(|run| (run.token, run.exact))
    }

    /// What was added since the last time. Whoever cannot write it down lets it go: a sum that is too small makes a thing look
    /// used, one that is too large would hide a use.
    pub(super) fn take(&self) -> HashMap<u32, OwnUse> {
        std::mem::take(&mut self.state().sums)
    }

    /// Adds what a transaction that ends now counted beyond `before`.
    pub(super) fn add(&self, before: &Tally, after: Tally) {
        let mut state = self.state();
        for (id, added) in after.since(before).0 {
            let sum = state.sums.entry(id).or_default();
            sum.reads = sum.reads.saturating_add(added.reads);
            sum.writes = sum.writes.saturating_add(added.writes);
        }
    }

    /// Something was added of which nobody knows how much.
    pub(super) fn blur(&self) {
        if let Some(run) = &mut self.state().run {
            run.exact = false;
        }
    }
}

/// Watches one reading transaction. Dropped without [`end`](Self::end), what it added is not known.
#[derive(Debug)]
pub(super) struct Watch {
    counts: std::sync::Arc<super::session::Sessions>,
    expression: Sql,
    before: Tally,
    done: bool,
}

impl Watch {
    /// For a transaction that has begun, and has read none of the tables yet; `None`: nobody keeps the counts.
    pub(super) async fn begin<'a>(
        session: &mut Session,
        tables: impl IntoIterator<Item = &'a u32>,
    ) -> Result<Option<Self>, sqlx::Error> {
        if !session.sessions().own.are_kept() {
            return Ok(None);
        }
        let tables = tables.into_iter().copied().collect();
        let expression = Sql::made(format!("SELECT {} AS own", expression(&tables)));
        // The counts of other processes that help to scan are not seen here, and fewer of them suit a service better.
        let alone = super::sql::fixed("SET LOCAL max_parallel_workers_per_gather = 0");
        session.raw(&alone).await?;
        let before = Tally::of(&session.row(expression.query()).await?)?;
        Ok(Some(Self {
            counts: std::sync::Arc::clone(session.sessions()),
            expression,
            before,
            done: false,
        }))
    }

    /// Before the transaction ends.
    pub(super) async fn end(mut self, session: &mut Session) -> Result<(), sqlx::Error> {
        let after = Tally::of(&session.row(self.expression.query()).await?)?;
        self.counts.own.add(&self.before, after);
        self.done = true;
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.done {
            self.counts.own.blur();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(entries: &[(u32, i64, i64)]) -> Tally {
        let entries = entries.iter().map(|&(id, reads, writes)| {
            let counts = OwnUse {
                reads,
                writes,
                at: None,
            };
            (id, counts)
        });
        Tally(entries.collect())
    }

    #[test]
    fn only_what_was_added_since_the_transaction_began_is_ours() {
        let counts = OwnCounts::default();

        counts.add(&Tally::parse("7:3:1"), Tally::parse("7:5:11,9:2:0"));
        counts.add(&Tally::parse(""), Tally::parse("7:1:0"));

        assert_eq!(Tally(counts.take()), tally(&[(7, 3, 10), (9, 2, 0)]));
        assert_eq!(Tally(counts.take()), tally(&[]));
    }

    #[test]
    fn a_sweep_in_which_something_is_not_known_says_so_and_the_next_one_begins_anew() {
        let counts = OwnCounts::default();
        let first = counts.begin();
        counts.blur();

        assert_eq!(counts.end(), Some((first, false)));
        assert_eq!(counts.end(), None);

        let second = counts.begin();
        assert_eq!(counts.end(), Some((second, true)));
    }
}
