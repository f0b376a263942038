//! The ledger's tables, and whether what is there is what this file makes.
//!
//! They have no defaults, checks, triggers, foreign keys, or expressions in indexes: nothing in them runs code. So whoever
//! made the schema, writing to it executes nothing of theirs, and [`SHAPE`] can tell.

/// The schema.
pub(super) const SCHEMA: &str = "retention_operator";

/// The version of the tables below.
pub(super) const VERSION: i32 = 2;

/// What makes the ledger; each statement is repeatable. Lease and progress are written by every chunk: room in their pages
/// keeps those writes off the indexes.
pub(super) const TABLES: [(&str, &str); 9] = [
    (
        "meta",
        "CREATE TABLE IF NOT EXISTS retention_operator.meta (one boolean PRIMARY KEY, version integer NOT NULL, \
         system_identifier text, database_oid bigint NOT NULL, created_at timestamptz NOT NULL)",
    ),
    (
        "control",
        "CREATE TABLE IF NOT EXISTS retention_operator.control (one boolean PRIMARY KEY, paused boolean NOT NULL, reason text, \
         revision bigint NOT NULL)",
    ),
    (
        "lease",
        "CREATE TABLE IF NOT EXISTS retention_operator.lease (table_id bigint PRIMARY KEY, table_name text NOT NULL, \
         token text NOT NULL, owner text NOT NULL, policy text NOT NULL, life text, beat timestamptz NOT NULL, \
         lapse_seconds integer NOT NULL) WITH (fillfactor = 20)",
    ),
    (
        "claim",
        "CREATE TABLE IF NOT EXISTS retention_operator.claim (table_id bigint PRIMARY KEY, table_name text NOT NULL, \
         policy text NOT NULL, rule text NOT NULL, cluster text, since timestamptz NOT NULL)",
    ),
    (
        "hold",
        "CREATE TABLE IF NOT EXISTS retention_operator.hold (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
         policy text NOT NULL, name text NOT NULL, table_name text NOT NULL, predicate text, reason text, cluster text, \
         since timestamptz NOT NULL, removed_at timestamptz, asked_at timestamptz, asked_by text[])",
    ),
    (
        "sweep",
        "CREATE TABLE IF NOT EXISTS retention_operator.sweep (id text PRIMARY KEY, policy text NOT NULL, cluster text, \
         trigger text NOT NULL, spec text NOT NULL, started_at timestamptz NOT NULL, database_time timestamptz, \
         begun_at timestamptz NOT NULL, ended_at timestamptz, outcome text, message text)",
    ),
    (
        "sweep_rule",
        "CREATE TABLE IF NOT EXISTS retention_operator.sweep_rule (sweep_id text NOT NULL, rule text NOT NULL, \
         table_id bigint NOT NULL, table_name text NOT NULL, cutoff text NOT NULL, rows_at_start bigint, rows_total bigint, \
         rows_approved bigint, rows_deleted bigint NOT NULL, rows_archived bigint NOT NULL, done boolean NOT NULL, \
         PRIMARY KEY (sweep_id, rule, table_id)) WITH (fillfactor = 50)",
    ),
    (
        "total",
        "CREATE TABLE IF NOT EXISTS retention_operator.total (policy text PRIMARY KEY, rows_deleted bigint NOT NULL, \
         rows_archived bigint NOT NULL)",
    ),
    (
        "approval",
        "CREATE TABLE IF NOT EXISTS retention_operator.approval (plan_hash text NOT NULL, policy text NOT NULL, \
         sweep_id text NOT NULL, at timestamptz NOT NULL, rules jsonb NOT NULL, PRIMARY KEY (plan_hash, policy, sweep_id))",
    ),
];

/// Tables that came after version 1, with the version that brought them: a ledger of an earlier version gets them. A table that
/// its version should have was dropped by somebody, and is never made anew: what it knew of holds would be forgotten.
pub(super) const LATER: [(&str, i32); 0] = [];

/// A column that came after its table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Added {
    /// The version that brought it.
    pub(super) version: i32,
    pub(super) table: &'static str,
    pub(super) column: &'static str,
    /// Repeatable, and for the table's owner alone.
    pub(super) statement: &'static str,
}

/// Columns that came after version 1, in order: what is approved of a removed hold is approved by each policy for itself.
pub(super) const ADDED: [Added; 1] = [Added {
    version: 2,
    table: "hold",
    column: "asked_by",
    statement: "ALTER TABLE retention_operator.hold ADD COLUMN IF NOT EXISTS asked_by text[]",
}];

/// `$1`: tables, `$2`: a column of each. In that order: whether it is there, and whether the role may add it.
pub(super) const COLUMNS: &str = "\
SELECT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = w.name AND NOT a.attisdropped) AS there, \
  coalesce(pg_has_role(c.relowner, 'USAGE'), false) AS may_add \
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(tab, name, n) \
LEFT JOIN (pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace AND s.nspname = 'retention_operator') ON c.relname = w.tab \
ORDER BY w.n";

/// The version that a table came with.
fn since(later: &[(&str, i32)], name: &str) -> i32 {
    later
        .iter()
        .find(|(table, _)| *table == name)
        .map_or(1, |(_, version)| *version)
}

/// How a ledger that is there stands to this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is of this version.
    Fits,
    /// It is older; `missing` tables are to be made.
    Older { missing: Vec<&'static str> },
    /// It is newer.
    Newer,
    /// Tables are missing that its version should have, or nobody knows which version that is.
    Broken,
}

/// Judges a ledger of that version in which these tables are.
pub(super) fn standing(version: Option<i32>, present: &[String]) -> Standing {
    judge(version, present, VERSION, &names(), &LATER)
}

fn judge(
    version: Option<i32>,
    present: &[String],
    current: i32,
    tables: &[&'static str],
    later: &[(&str, i32)],
) -> Standing {
    let Some(version) = version else {
        return Standing::Broken;
    };
    if version > current {
        return Standing::Newer;
    }
    let missing: Vec<&str> = tables
        .iter()
        .copied()
        .filter(|name| !present.iter().any(|present| present == name))
        .collect();
    if missing.iter().any(|name| since(later, name) <= version) {
        Standing::Broken
    } else if version < current {
        Standing::Older { missing }
    } else {
        Standing::Fits
    }
}

/// Who may do what with the claims, which is what one may do with every table of a ledger. Owners are among them.
pub(super) const GRANTED: &str = "\
SELECT DISTINCT pg_get_userbyid(a.grantee)::text AS role, a.privilege_type AS right \
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a \
WHERE n.nspname = 'retention_operator' AND c.relname = 'claim' AND a.grantee <> 0 AND pg_get_userbyid(a.grantee) <> current_user \
  AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')";

/// Says which version the ledger is of now: never an older one than it says itself.
pub(super) fn upgraded() -> String {
    format!(
        "UPDATE retention_operator.meta SET version = {VERSION} WHERE one AND version < {VERSION}"
    )
}

/// `$1`: tables' names. Those that are there.
pub(super) const PRESENT: &str = "\
SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname = 'retention_operator' AND c.relname = ANY ($1::text[])";

pub(super) const CREATE_SCHEMA: &str = "CREATE SCHEMA IF NOT EXISTS retention_operator";

/// The sweeps of one policy are looked up by it.
pub(super) const INDEX: &str =
    "CREATE INDEX IF NOT EXISTS sweep_policy ON retention_operator.sweep (policy, begun_at)";

/// `$1`: the version, `$2`: the server's system identifier, `$3`: the database's oid.
pub(super) const META: &str = "\
INSERT INTO retention_operator.meta (one, version, system_identifier, database_oid, created_at) \
VALUES (true, $1::int4, $2::text, $3::int8, clock_timestamp()) ON CONFLICT (one) DO NOTHING";

pub(super) const CONTROL: &str = "\
INSERT INTO retention_operator.control (one, paused, reason, revision) VALUES (true, false, NULL, 0) ON CONFLICT (one) DO NOTHING";

/// What the role may do, and whether there is a schema at all. Reads catalogs only.
pub(super) const SURVEY: &str = "\
SELECT s.oid IS NOT NULL AS found, coalesce(has_schema_privilege(s.oid, 'USAGE'), false) AS may_use, \
  coalesce(has_schema_privilege(s.oid, 'CREATE'), false) AS may_fill, \
  has_database_privilege(d.oid, 'CREATE') AS may_create, d.oid AS database, pg_is_in_recovery() AS in_recovery, \
  has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') AS may_identify \
FROM pg_database d LEFT JOIN pg_namespace s ON s.nspname = 'retention_operator' \
WHERE d.datname = current_database()";

/// `$1`: the tables' names. Those that are there: whether each is a plain table, and what the role may do with it.
pub(super) const SHAPE: &str = "\
SELECT c.relname::text AS name, \
  c.relkind = 'r' AND c.relpersistence = 'p' AND NOT (c.relhasrules OR c.relhastriggers OR c.relrowsecurity OR c.relispartition \
    OR c.relhassubclass) \
  AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid) \
  AND NOT EXISTS (SELECT FROM pg_attrdef a WHERE a.adrelid = c.oid) \
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype NOT IN ('p', 'n')) \
  AND NOT EXISTS (SELECT FROM pg_index x WHERE x.indrelid = c.oid AND (x.indexprs IS NOT NULL OR x.indpred IS NOT NULL)) \
  AND NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = c.oid \
    AND a.attnum > 0 AND NOT a.attisdropped AND t.typnamespace <> c11.oid) AS plain, \
  coalesce(has_table_privilege(c.oid, 'SELECT'), false) AS may_read, \
  coalesce(has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE') \
    AND has_table_privilege(c.oid, 'DELETE'), false) AS may_write \
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN pg_namespace c11 \
WHERE n.nspname = 'retention_operator' AND c11.nspname = 'pg_catalog' AND c.relname = ANY ($1::text[])";

/// The names of the first version's tables.
pub(super) fn first_names() -> impl Iterator<Item = &'static str> {
    names().into_iter().filter(|name| since(&LATER, name) == 1)
}

/// The tables' names.
pub(super) fn names() -> Vec<&'static str> {
    TABLES.iter().map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_table_holds_anything_that_runs() {
        for (name, statement) in TABLES {
            assert!(statement.contains(&format!("IF NOT EXISTS {SCHEMA}.{name} (")));
            for word in ["DEFAULT", "CHECK", "REFERENCES", "TRIGGER"] {
                assert!(!statement.contains(word), "{name}: {word}");
            }
        }
    }

    #[test]
    fn what_came_later_is_listed_in_order_and_up_to_this_version() {
        let versions = LATER
            .iter()
            .map(|(_, version)| version)
            .chain(ADDED.iter().map(|added| &added.version));
        for version in versions {
            assert!(*version > 1, "the first version brought it");
            assert!(*version <= VERSION, "{version} is still to come");
        }
        assert!(LATER.iter().all(|(name, _)| names().contains(name)));
        assert!(ADDED.is_sorted_by_key(|added| added.version));
        for added in &ADDED {
            let (_, table) = TABLES
                .iter()
                .find(|(name, _)| *name == added.table)
                .expect("a table of the ledger");
            let column = added.statement.split("IF NOT EXISTS ").last();
            let column = column.expect("a column");
            assert!(column.starts_with(added.column));
            assert!(
                table.contains(column),
                "a new ledger has it, too, and alike: {column}"
            );
        }
    }

    /// `claim` is of the first version, `note` of the second and `mark` of the third.
    fn judged(version: Option<i32>, present: &[&str]) -> Standing {
        let present: Vec<String> = present.iter().map(|&name| name.to_owned()).collect();
        let later = [("note", 2), ("mark", 3)];
        judge(version, &present, 3, &["claim", "note", "mark"], &later)
    }

    #[test]
    fn an_older_ledger_gets_what_came_after_it() {
        let older = |missing: &[&'static str]| Standing::Older {
            missing: missing.to_vec(),
        };

        assert_eq!(judged(Some(1), &["claim"]), older(&["note", "mark"]));
        assert_eq!(judged(Some(2), &["claim", "note"]), older(&["mark"]));
        // Made by somebody who ran the printed statements and did not come to the end.
        assert_eq!(judged(Some(1), &["claim", "mark"]), older(&["note"]));
        assert_eq!(judged(Some(2), &["claim", "note", "mark"]), older(&[]));
        assert_eq!(judged(Some(3), &["claim", "note", "mark"]), Standing::Fits);
    }

    #[test]
    fn a_table_that_the_ledgers_version_should_have_is_never_made_anew() {
        assert_eq!(judged(Some(1), &["note", "mark"]), Standing::Broken);
        assert_eq!(judged(Some(2), &["claim"]), Standing::Broken);
        assert_eq!(judged(Some(3), &["claim", "note"]), Standing::Broken);
        assert_eq!(judged(None, &["claim", "note", "mark"]), Standing::Broken);
    }

    #[test]
    fn a_newer_ledger_is_left_alone_whatever_it_has() {
        assert_eq!(judged(Some(4), &["claim"]), Standing::Newer);
        assert_eq!(judged(Some(4), &["claim", "note", "mark"]), Standing::Newer);
    }
}
