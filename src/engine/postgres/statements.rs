//! `pg_stat_statements`, where it is installed and may be read. Texts of statements hold secrets: none leaves the server, only
//! how many of them hold a table's name.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use sqlx::{Row, postgres::PgRow};

use super::{
    session::Session,
    sql::{self, Sql, constant},
};
use crate::policy::usage::{LookedUp, Statements};

/// Evidence is not worth more of the service's time.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);
/// Tables that are asked for at most: each is looked for in all texts.
pub(super) const TABLES: usize = 20;
/// Of a longer text only so much is looked at.
const TEXT: u32 = 16_384;

/// Whether the extension is there in this database, and where. Both views are named by the extension's own schema, and belong
/// to it. It has to be loaded by the server, too.
const WHERE: &str = "\
SELECT n.nspname::text AS schema, coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), false) AS may_read, \
  pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all, current_setting('pg_stat_statements.track', true) AS track, \
  EXISTS (SELECT FROM pg_class i JOIN pg_depend x ON x.objid = i.oid AND x.refobjid = e.oid AND x.deptype = 'e' \
    WHERE i.relnamespace = n.oid AND i.relname = 'pg_stat_statements_info') AS has_info \
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'pg_stat_statements' AND c.relkind = 'v' \
JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refobjid = e.oid AND d.deptype = 'e' \
WHERE e.extname = 'pg_stat_statements'";

/// Asks for tables, by numbers and names, in a transaction that has begun.
pub(super) async fn read(
    session: &mut Session,
    role: &str,
    tables: &[(u32, String)],
) -> Result<LookedUp, sqlx::Error> {
    let found = session.rows(constant(WHERE)).await?;
    let Some(row) = found.first() else {
        return Ok(LookedUp::Absent);
    };
    let track: Option<String> = row.try_get("track")?;
    let Some(track) = track.filter(|track| track != "none") else {
        return Ok(LookedUp::Absent);
    };
    if !row.try_get::<bool, _>("may_read")? || !row.try_get::<bool, _>("sees_all")? {
        return Ok(LookedUp::Hidden(format!(
            "the statements of other roles in pg_stat_statements: grant pg_read_all_stats to {role}"
        )));
    }
    let schema: String = row.try_get("schema")?;
    let has_info: bool = row.try_get("has_info")?;
    let asked = || tables.iter().take(TABLES);
    let names: Vec<String> = asked().map(|(_, name)| name.to_ascii_lowercase()).collect();
    let counted = session
        .row(count(&schema, has_info).query().bind(names))
        .await?;
    let (evicted, since) = if has_info {
        let evicted: i64 = counted.try_get("evicted")?;
        (evicted > 0, instant(&counted)?)
    } else {
        // Nobody knows what it forgot.
        (true, None)
    };
    let naming: Vec<i64> = counted
        .try_get::<Option<Vec<i64>>, _>("naming")?
        .unwrap_or_default();
    Ok(LookedUp::Seen(Statements {
        total: counted.try_get("total")?,
        since,
        evicted,
        nested: track == "all",
        cut: counted.try_get("cut")?,
        naming: asked()
            .map(|(id, _)| *id)
            .zip(naming)
            .collect::<HashMap<_, _>>(),
    }))
}

/// `$1`: names in small letters. Both sides have them by ASCII alone: the rules of Rust and of the database's collation differ. A
/// name is looked for anywhere in a text, so that a nought means something, and also with its quotes doubled, as an identifier in
/// quotes has them. The operator's own statements are known by their form.
fn count(schema: &str, has_info: bool) -> Sql {
    let info = if has_info {
        format!(
            "(SELECT i.dealloc FROM {info} i) AS evicted, \
             (SELECT (extract(epoch FROM i.stats_reset) * 1000000)::int8 FROM {info} i) AS since",
            info = sql::table(schema, "pg_stat_statements_info")
        )
    } else {
        "0::int8 AS evicted, NULL::int8 AS since".to_owned()
    };
    Sql::made(format!(
        "WITH told AS MATERIALIZED (SELECT lower(left(s.query, {TEXT}) COLLATE \"C\") AS text, length(s.query) > {TEXT} AS cut FROM {view} s \
           WHERE s.dbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) AND s.query !~ \
             '^(DELETE FROM ONLY .* AS k0 WHERE k0[.]ctid|SELECT pg_catalog[.]count[(][*][)]|LOCK TABLE ONLY |PREPARE retention_operator_|(SELECT|WITH .*) k0[.]ctid)') \
         SELECT (SELECT count(*) FROM told) AS total, (SELECT coalesce(bool_or(told.cut), false) FROM told) AS cut, {info}, \
           (SELECT array_agg((SELECT count(*) FROM told WHERE position(a.name IN told.text) > 0 \
             OR position(replace(a.name, '\"', '\"\"') IN told.text) > 0) ORDER BY a.n) \
            FROM unnest($1::text[]) WITH ORDINALITY AS a(name, n)) AS naming",
        view = sql::table(schema, "pg_stat_statements"),
    ))
}

fn instant(row: &PgRow) -> Result<Option<Timestamp>, sqlx::Error> {
    let micros: Option<i64> = row.try_get("since")?;
    Ok(micros.and_then(|micros| Timestamp::from_microsecond(micros).ok()))
}
