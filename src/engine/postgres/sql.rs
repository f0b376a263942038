//! The one place that puts text together to SQL.
//!
//! Whatever comes from a policy or a catalog goes in as a quoted identifier, as a quoted literal, or as a number that was
//! checked here; nothing else reaches a statement. Quoting does not depend on the session's settings, because the first
//! message of a transaction is read before its `SET LOCAL` holds.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, Postgres, RawSql, postgres::PgArguments, query::Query};

pub(super) use plan::{
    LeafStatements, RANGE, checks, count_expired, count_rows, expired, expired_by, has_later,
    taking,
};

use super::{archive_table::ArchiveTable, reach::Reach};

mod plan;

/// A statement, or several, made by this engine from quoted names, quoted literals and checked numbers only.
#[derive(Clone, Debug)]
pub(super) struct Sql(Arc<str>);

impl Sql {
    /// From text in which everything that comes from a policy or a catalog is quoted.
    pub(super) fn made(text: String) -> Self {
        Self(text.into())
    }

    /// For one statement with bound values. Never a named one: behind a pooler it would be another client's.
    pub(super) fn query(&self) -> Query<'static, Postgres, PgArguments> {
        sqlx::query(AssertSqlSafe(self.0.clone())).persistent(false)
    }

    /// For several statements in one round trip, without bound values.
    pub(super) fn raw(&self) -> RawSql {
        sqlx::raw_sql(AssertSqlSafe(self.0.clone()))
    }

    /// The same message with more statements behind it, made of constants, [`literal`]s and numbers.
    pub(super) fn followed_by(&self, statements: &str) -> Self {
        Self(format!("{}; {statements}", self.0).into())
    }

    /// The same message with one more column in its last statement, which is a SELECT without FROM.
    pub(super) fn with_column(&self, expression: &str, name: &'static str) -> Self {
        Self(format!("{}, {expression} AS {name}", self.0).into())
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// For a constant statement with bound values; see [`Sql::query`].
pub(super) fn constant(text: &'static str) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(text).persistent(false)
}

/// A constant that takes no values, for [`Sql::raw`].
pub(super) fn fixed(text: &'static str) -> Sql {
    Sql(Arc::from(text))
}

/// `"name"`, quotes doubled.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `"schema"."name"`.
pub(super) fn table(schema: &str, name: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

/// `'text'`; with a backslash `E'text'`, which means the same whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// How a transaction begins.
#[derive(Clone, Debug)]
pub(super) struct Begin {
    /// Nothing can be written. Otherwise the server's own default decides: a database that was set read-only stays so.
    pub(super) read_only: bool,
    /// One snapshot for all its statements.
    pub(super) one_snapshot: bool,
    /// Reads tables from end to end and not by an index.
    pub(super) sequential: bool,
    /// Where row-level security would hide rows, a statement fails instead.
    pub(super) sees_all: bool,
    /// For table and row locks.
    pub(super) lock_timeout: Duration,
    /// For every statement.
    pub(super) statement_timeout: Duration,
    /// Ends the session when the transaction is left open that long.
    pub(super) idle_timeout: Duration,
    /// Harmless letters only (see `connect::application_name`).
    pub(super) application_name: String,
}

impl Begin {
    /// Settings hold for this transaction alone, so that a pooler's next client sees none of them.
    fn print(&self, out: &mut String) {
        let isolation = if self.one_snapshot {
            "REPEATABLE READ"
        } else {
            "READ COMMITTED"
        };
        let access = if self.read_only { " READ ONLY" } else { "" };
        // Catalog names alone are looked up, literals are read the same everywhere, and what an administrator tuned for
        // other work (plans, JIT) does not turn a short chunk into a long one.
        let _ = write!(
            out,
            "BEGIN ISOLATION LEVEL {isolation}{access}; \
             SET LOCAL search_path = pg_catalog, pg_temp; \
             SET LOCAL lock_timeout = {}; SET LOCAL statement_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {}; SET LOCAL tcp_user_timeout = 30000; \
             SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; \
             SET LOCAL standard_conforming_strings = on; SET LOCAL transform_null_equals = off; \
             SET LOCAL quote_all_identifiers = off; \
             SET LOCAL row_security = {}; SET LOCAL extra_float_digits = 1; \
             SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL application_name = {}",
            millis(self.lock_timeout),
            millis(self.statement_timeout),
            millis(self.idle_timeout),
            if self.sees_all { "off" } else { "on" },
            literal(&self.application_name),
        );
        if self.sequential {
            out.push_str(
                "; SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off; \
                 SET LOCAL enable_tidscan = on",
            );
        }
    }

    /// The transaction's first message.
    pub(super) fn sql(&self) -> Sql {
        let mut out = String::new();
        self.print(&mut out);
        Sql(out.into())
    }
}

/// Whole milliseconds, at least 1 (0 would mean: no limit) and at most what the server takes.
fn millis(limit: Duration) -> i32 {
    i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1)
}

/// What must not change while a leaf is walked: an expression over `pg_class c`, as text.
fn fingerprint(columns: Option<&[String]>) -> String {
    let named = match columns {
        Some(columns) => {
            let names: Vec<String> = columns.iter().map(|name| literal(name)).collect();
            format!(
                " AND a.attname::text = ANY (ARRAY[{}]::text[])",
                names.join(", ")
            )
        }
        None => String::new(),
    };
    format!(
        "pg_catalog.concat_ws('|', {}, c.relrowsecurity, c.relforcerowsecurity, pg_catalog.row_security_active(c.oid), \
         (WITH RECURSIVE up(id, pending) AS (SELECT i.inhparent, i.inhdetachpending FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid \
          UNION SELECT i.inhparent, i.inhdetachpending FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.id) \
          SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', up.id, up.pending), ',' ORDER BY up.id) FROM up), \
         (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', a.attnum, a.attname, a.atttypid, a.atttypmod), ',' ORDER BY a.attnum) \
          FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped{named}), \
         (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', t.tgconstraint, t.tgconstrrelid, t.tgenabled), ',' ORDER BY t.tgconstraint) \
          FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgconstrrelid <> 0 AND (t.tgtype & 8) <> 0))",
        rules("c")
    )
}

/// The rewrite rules of a `pg_class` called `class`, an expression.
pub(super) fn rules(class: &str) -> String {
    format!(
        "CASE WHEN {class}.relhasrules THEN (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', w.oid, w.ev_type, w.ev_enabled), ',' ORDER BY w.oid) \
         FROM pg_catalog.pg_rewrite w WHERE w.ev_class = {class}.oid) END"
    )
}

/// An expression of texts, or the text that is none.
pub(super) fn or_null(expression: Option<&str>) -> &str {
    expression.unwrap_or("NULL::text")
}

/// Reads the fingerprints of many leaves at once; binds their oids.
pub(super) fn fingerprints(columns: Option<&[String]>) -> Sql {
    Sql(format!(
        "SELECT c.oid AS id, {} AS fingerprint, pg_catalog.has_any_column_privilege(c.oid, 'UPDATE') AS may_lock \
         FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1)",
        fingerprint(columns)
    )
    .into())
}

/// What a chunk's first message is made of.
pub(super) struct ChunkBegin<'a> {
    pub(super) begin: &'a Begin,
    pub(super) schema: &'a str,
    pub(super) name: &'a str,
    pub(super) id: u32,
    /// Columns whose meaning must not change; `None`: all.
    pub(super) columns: Option<&'a [String]>,
    /// Advisory locks that fence other sweeps off.
    pub(super) fences: &'a [i64],
    /// More to look at, as columns of the one row: constant text that ends with a comma, or nothing.
    pub(super) watch: &'static str,
    /// An expression that counts rows deleted from other tables.
    pub(super) gone: Option<&'a str>,
    /// Where the rows go.
    pub(super) archive: Option<&'a ArchiveTable>,
    /// An expression for what the session's counters say.
    pub(super) own: Option<&'a str>,
}

impl ChunkBegin<'_> {
    /// One round trip: begin, lock the leaf against changes of its shape, and look whether it is still what was planned.
    pub(super) fn sql(&self) -> Sql {
        let mut out = String::new();
        self.begin.print(&mut out);
        let fences: Vec<String> = self
            .fences
            .iter()
            .map(|key| format!("pg_catalog.pg_try_advisory_xact_lock({key})"))
            .collect();
        let _ = write!(
            out,
            "; SET LOCAL jit = off; SET LOCAL enable_tidscan = on; SET LOCAL max_parallel_workers_per_gather = 0; LOCK TABLE ONLY {} IN ROW EXCLUSIVE MODE{}; \
             SELECT {}({}) AS fenced, n.nspname::text AS schema, c.relname::text AS name, \
             pg_catalog.pg_relation_filenode(c.oid)::int8 AS filenode, \
             pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int8 AS blocks, {WAL_POSITION} AS wal, \
             {} AS fingerprint, {} AS gone, {} AS archive, {} AS own \
             FROM (VALUES (1)) one LEFT JOIN pg_catalog.pg_class c ON c.oid = {}::oid \
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace",
            table(self.schema, self.name),
            self.archive
                .map_or_else(String::new, |archive| format!("; {}", archive.lock())),
            self.watch,
            fences.join(" AND "),
            fingerprint(self.columns),
            self.gone.unwrap_or("0::int8"),
            self.archive
                .map_or_else(|| "NULL::text".to_owned(), |archive| archive.shape(self.id)),
            self.own.unwrap_or("NULL::text"),
            self.id,
        );
        Sql(out.into())
    }
}

/// The key of the advisory lock that fences sweeps of one table: this project's mark, then the table's oid, as two halves
/// that `pg_locks` shows as `classid` and `objid`.
pub(super) const fn fence_key(id: u32) -> i64 {
    const MARK: i64 = 0x7265_7465;
    (MARK << 32) | id as i64
}

/// How far the write-ahead log has come, in bytes.
const WAL_POSITION: &str =
    "pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::int8";

/// Sessions that wait for a lock of this one.
const WAITERS: &str = "(SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks w WHERE NOT w.granted \
     AND pg_catalog.pg_backend_pid() = ANY (pg_catalog.pg_blocking_pids(w.pid)))";

/// Fires deferred constraints now, and proves that the transaction lives: exactly one row, with its xid. `filled`
/// names a table of `referrers` (oids of tables that must have no page, with all their children) that is not empty any more;
/// `shape`, `parts` and `gone` are what the three expressions of `reach` say then.
pub(super) fn finish(referrers: &[u32], reach: &Reach) -> Sql {
    let filled = if referrers.is_empty() {
        "NULL::text".to_owned()
    } else {
        let ids: Vec<String> = referrers.iter().map(u32::to_string).collect();
        format!(
            "(WITH RECURSIVE tree(id) AS (SELECT pg_catalog.unnest(ARRAY[{}]::oid[]) \
             UNION SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.id) \
             SELECT pg_catalog.min(n.nspname::text || '.' || c.relname::text) FROM tree \
             JOIN pg_catalog.pg_class c ON c.oid = tree.id JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind <> 'p' AND pg_catalog.pg_relation_size(c.oid) > 0)",
            ids.join(", ")
        )
    };
    Sql(format!(
        "SET CONSTRAINTS ALL IMMEDIATE; \
         SELECT pg_catalog.pg_current_xact_id_if_assigned()::text AS xid, {filled} AS filled, {} AS shape, {} AS parts, {} AS gone, \
         {WAL_POSITION} AS wal, {WAITERS} AS waiters",
        or_null(reach.shape.as_deref()),
        or_null(reach.parts.as_deref()),
        reach.gone.as_deref().unwrap_or("0::int8"),
    )
    .into())
}

/// What to run so that `role` may sweep a leaf.
pub(super) fn grant(schema: &str, name: &str, role: &str) -> String {
    grant_rights("SELECT, DELETE", schema, name, role)
}

/// What to run so that `role` has `rights` on a table.
pub(super) fn grant_rights(rights: &str, schema: &str, name: &str, role: &str) -> String {
    format!(
        "GRANT USAGE ON SCHEMA {} TO {role}; GRANT {rights} ON {} TO {role}",
        identifier(schema),
        table(schema, name),
        role = identifier(role)
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn begin() -> Begin {
        Begin {
            read_only: true,
            one_snapshot: false,
            lock_timeout: Duration::from_millis(100),
            statement_timeout: Duration::from_secs(30),
            sequential: false,
            sees_all: false,
            idle_timeout: Duration::ZERO,
            application_name: "retention-operator/a/b".to_owned(),
        }
    }

    #[test]
    fn a_quote_in_a_name_cannot_end_it() {
        assert_eq!(
            table("odd.schema", "Odd \"Table\"; DROP"),
            r#""odd.schema"."Odd ""Table""; DROP""#
        );
    }

    #[test]
    fn literals_mean_the_same_under_every_setting() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
    }

    proptest! {
        #[test]
        fn an_identifier_holds_no_single_quote_character_inside(name in any::<String>()) {
            let quoted = identifier(&name);
            let inner = &quoted[1..quoted.len() - 1];

            prop_assert_eq!(inner.replace("\"\"", "").matches('"').count(), 0);
            prop_assert_eq!(inner.replace("\"\"", "\""), name);
        }
    }

    #[test]
    fn a_transaction_sets_nothing_beyond_itself() {
        let sql = begin().sql();

        assert!(
            sql.text()
                .starts_with("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; ")
        );
        for statement in sql.text().split("; ").skip(1) {
            assert!(statement.starts_with("SET LOCAL "), "{statement}");
        }
    }

    #[test]
    fn a_limit_of_nothing_is_not_a_limit_of_for_ever() {
        assert!(
            begin()
                .sql()
                .text()
                .contains("idle_in_transaction_session_timeout = 1;")
        );
        assert_eq!(millis(Duration::from_secs(u64::MAX / 2_000)), i32::MAX);
    }

    #[test]
    fn a_fence_shows_the_table_in_pg_locks() {
        let key = fence_key(4_294_967_295);

        assert_eq!(key & 0xFFFF_FFFF, 4_294_967_295);
        assert_eq!(key >> 32, fence_key(1) >> 32);
        assert_ne!(fence_key(1), fence_key(2));
    }

    #[test]
    fn a_chunk_locks_the_leaf_itself_and_not_its_children() {
        let sql = ChunkBegin {
            begin: &begin(),
            schema: "s",
            name: "t",
            id: 7,
            columns: Some(&["a'b".to_owned()]),
            fences: &[1, 2],
            watch: "",
            gone: None,
            archive: None,
            own: None,
        }
        .sql();

        assert!(
            sql.text()
                .contains(r#"LOCK TABLE ONLY "s"."t" IN ROW EXCLUSIVE MODE"#)
        );
        assert!(sql.text().contains("pg_try_advisory_xact_lock(1) AND"));
        assert!(sql.text().contains("ARRAY['a''b']"));
    }
}
