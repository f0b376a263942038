//! What the operator's own transactions added to the server's counters, in the ledger: sums by table and index, and which
//! sweeps know all of theirs.
//!
//! A sweep enters itself when it begins, and its end when it knows what it added. One that was killed never does, and one of an
//! older operator is not there at all: what these added stays unknown.

use sqlx::Row;

use super::memory;
use crate::engine::{
    ledger::SweepRecord,
    postgres::{own_use::OwnCounts, session::Session, sql::constant},
};

/// Before PostgreSQL 15 the server could lose counts on their way.
const SURE: &str = "SELECT current_setting('server_version_num')::int4 >= 150000 AS sure";
/// `$1`: a token, `$2`: the sweep.
const BEGIN: &str = "\
INSERT INTO retention_operator.own_run (token, sweep_id, begun_at, ended_at, exact) \
VALUES ($1::text, $2::text, clock_timestamp(), NULL, false)";
/// `$1`: the token, `$2`: whether all is known, `$3`: the sweep, whose own end tells that no older operator ended it.
const END: &str = "\
UPDATE retention_operator.own_run SET exact = $2::boolean, ended_at = coalesce( \
  (SELECT s.ended_at FROM retention_operator.sweep s WHERE s.id = $3::text), clock_timestamp()) WHERE token = $1::text";
/// `$1`: numbers of tables and indexes, `$2`: scans, `$3`: rows written.
const ADD: &str = "\
INSERT INTO retention_operator.own_use AS o (object_id, reads, writes, at) \
SELECT u.id, u.reads, u.writes, clock_timestamp() FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS u(id, reads, writes) \
ON CONFLICT (object_id) DO UPDATE SET reads = o.reads + excluded.reads, writes = o.writes + excluded.writes, at = excluded.at";

/// Its counters lose nothing.
pub(super) async fn are_sure(session: &mut Session) -> Result<bool, sqlx::Error> {
    session.row(constant(SURE)).await?.try_get("sure")
}

/// There are tables for it, as the operator makes them.
pub(super) async fn may_keep(session: &mut Session, role: &str) -> Result<bool, sqlx::Error> {
    let there = memory::look(session, role).await?;
    let writable = matches!(there, memory::There::All { may_write: true });
    Ok(writable && are_sure(session).await?)
}

/// The book is locked.
pub(super) async fn begin(
    session: &mut Session,
    sweep: &SweepRecord,
    own: &OwnCounts,
) -> Result<(), sqlx::Error> {
    own.keep();
    let begun = constant(BEGIN).bind(own.begin()).bind(sweep.id.clone());
    session.execute(begun).await.map(drop)
}

/// The book is locked.
pub(super) async fn end(
    session: &mut Session,
    sweep: &str,
    own: &OwnCounts,
) -> Result<(), sqlx::Error> {
    let Some((token, exact)) = own.end() else {
        return Ok(());
    };
    add(session, own).await?;
    let ended = constant(END).bind(token).bind(exact).bind(sweep.to_owned());
    session.execute(ended).await.map(drop)
}

/// Adds what was counted since the last time. The book is locked. When the transaction fails, its counts are lost, and the sums
/// too small.
pub(super) async fn add(session: &mut Session, own: &OwnCounts) -> Result<(), sqlx::Error> {
    if !own.are_kept() {
        return Ok(());
    }
    let sums = own.take();
    if sums.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = sums.keys().map(|id| i64::from(*id)).collect();
    let reads: Vec<i64> = sums.values().map(|sum| sum.reads).collect();
    let writes: Vec<i64> = sums.values().map(|sum| sum.writes).collect();
    let added = constant(ADD).bind(ids).bind(reads).bind(writes);
    session.execute(added).await.map(drop)
}
