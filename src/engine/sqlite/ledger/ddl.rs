//! The ledger's tables, and whether what is there is what this file makes.
//!
//! They have no defaults, checks, triggers, foreign keys, or expressions in indexes: nothing in them runs code. SQLite keeps the
//! text of every statement that made a table; a table with another text is not the ledger's.

/// The version of the tables below.
pub(super) const VERSION: i64 = 2;

/// Prefix of their names.
pub(super) const PREFIX: &str = "retention_operator_";

/// Every table with what makes it, as SQLite keeps it. Times are texts in UTC. No table is STRICT: an older program of the service
/// could not open the file any more.
pub(super) const TABLES: [(&str, &str); 9] = [
    (
        "retention_operator_meta",
        "CREATE TABLE retention_operator_meta (one INTEGER PRIMARY KEY, version INTEGER NOT NULL, identity TEXT, created_at TEXT NOT NULL)",
    ),
    (
        "retention_operator_control",
        "CREATE TABLE retention_operator_control (one INTEGER PRIMARY KEY, paused INTEGER NOT NULL, reason TEXT, revision INTEGER NOT NULL)",
    ),
    (
        "retention_operator_lease",
        "CREATE TABLE retention_operator_lease (table_id INTEGER PRIMARY KEY, table_name TEXT NOT NULL, token TEXT NOT NULL, \
         owner TEXT NOT NULL, policy TEXT NOT NULL, beat TEXT NOT NULL, lapse_seconds INTEGER NOT NULL)",
    ),
    (
        "retention_operator_claim",
        "CREATE TABLE retention_operator_claim (table_id INTEGER PRIMARY KEY, table_name TEXT NOT NULL, policy TEXT NOT NULL, \
         rule TEXT NOT NULL, cluster TEXT, since TEXT NOT NULL)",
    ),
    (
        "retention_operator_hold",
        "CREATE TABLE retention_operator_hold (id INTEGER PRIMARY KEY, policy TEXT NOT NULL, name TEXT NOT NULL, \
         table_name TEXT NOT NULL, predicate TEXT, reason TEXT, cluster TEXT, since TEXT NOT NULL, removed_at TEXT, asked_at TEXT, asked_by TEXT)",
    ),
    (
        "retention_operator_sweep",
        "CREATE TABLE retention_operator_sweep (id TEXT NOT NULL PRIMARY KEY, policy TEXT NOT NULL, cluster TEXT, \
         set_off_by TEXT NOT NULL, spec TEXT NOT NULL, started_at TEXT NOT NULL, database_time TEXT, begun_at TEXT NOT NULL, \
         ended_at TEXT, outcome TEXT, message TEXT)",
    ),
    (
        "retention_operator_sweep_rule",
        "CREATE TABLE retention_operator_sweep_rule (sweep_id TEXT NOT NULL, rule TEXT NOT NULL, table_id INTEGER NOT NULL, \
         table_name TEXT NOT NULL, cutoff TEXT NOT NULL, rows_at_start INTEGER, rows_total INTEGER, rows_approved INTEGER, \
         rows_deleted INTEGER NOT NULL, rows_archived INTEGER NOT NULL, done INTEGER NOT NULL, \
         PRIMARY KEY (sweep_id, rule, table_id))",
    ),
    (
        "retention_operator_total",
        "CREATE TABLE retention_operator_total (policy TEXT NOT NULL PRIMARY KEY, rows_deleted INTEGER NOT NULL, \
         rows_archived INTEGER NOT NULL)",
    ),
    (
        "retention_operator_approval",
        "CREATE TABLE retention_operator_approval (plan_hash TEXT NOT NULL, policy TEXT NOT NULL, sweep_id TEXT NOT NULL, \
         at TEXT NOT NULL, rules TEXT NOT NULL, PRIMARY KEY (plan_hash, policy, sweep_id))",
    ),
];

/// A column that came after its table: the table as it was before, and what adds it. SQLite then keeps the very text that makes the
/// table anew.
pub(super) const ADDED: [(&str, &str, &str); 1] = [(
    "retention_operator_hold",
    "CREATE TABLE retention_operator_hold (id INTEGER PRIMARY KEY, policy TEXT NOT NULL, name TEXT NOT NULL, \
     table_name TEXT NOT NULL, predicate TEXT, reason TEXT, cluster TEXT, since TEXT NOT NULL, removed_at TEXT, asked_at TEXT)",
    "ALTER TABLE retention_operator_hold ADD COLUMN asked_by TEXT",
)];

/// `?1`: the version that the ledger is of now.
pub(super) const UPGRADED: &str =
    "UPDATE retention_operator_meta SET version = ?1 WHERE one = 1 AND version < ?1";

/// The sweeps of one policy are looked up by it.
pub(super) const INDEX: &str =
    "CREATE INDEX retention_operator_sweep_policy ON retention_operator_sweep (policy, begun_at)";

/// `?1`: the version, `?2`: the file.
pub(super) const META: &str = "\
INSERT INTO retention_operator_meta (one, version, identity, created_at) \
VALUES (1, ?1, ?2, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))";

pub(super) const CONTROL: &str = "\
INSERT INTO retention_operator_control (one, paused, reason, revision) VALUES (1, 0, NULL, 0)";

/// Everything in the schema that has to do with tables of the prefix.
pub(super) const SHAPE: &str = "\
SELECT type, name, tbl_name, sql FROM main.sqlite_schema \
WHERE substr(lower(name), 1, 19) = 'retention_operator_' OR substr(lower(tbl_name), 1, 19) = 'retention_operator_'";

/// What an entry of the schema is to the ledger.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// One of its tables.
    Table,
    /// One of its tables, as an earlier version made it, and what brings it up to date.
    Older(&'static str),
    /// What belongs to them, or has nothing to do with it.
    Other,
    /// What its tables do not have: the name of the table, and what is wrong with it.
    Foreign(String),
}

/// Judges one entry of the schema: its kind, its name, the table that it belongs to, and the text that made it.
pub(super) fn judge(kind: &str, name: &str, table: &str, text: Option<&str>) -> Entry {
    let known = |name: &str| {
        TABLES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    if let Some((_, made)) = known(name).filter(|_| kind == "table") {
        let earlier = ADDED
            .iter()
            .find(|(table, earlier, _)| table.eq_ignore_ascii_case(name) && text == Some(*earlier));
        return match earlier {
            _ if text == Some(made) => Entry::Table,
            Some((_, _, statement)) => Entry::Older(statement),
            None => Entry::Foreign(format!("{name} is not the table that the operator makes")),
        };
    }
    if known(name).is_some() {
        return Entry::Foreign(format!("{name} is a {kind}"));
    }
    match (known(table), kind, text) {
        (None, ..) | (Some(_), "index", None) => Entry::Other,
        (Some(_), "index", Some(text)) if text == INDEX => Entry::Other,
        _ => Entry::Foreign(format!(
            "{table} has {kind} {name}, which the operator did not make"
        )),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn no_table_holds_anything_that_runs() {
        for (name, statement) in TABLES {
            assert!(name.starts_with(PREFIX));
            assert!(statement.starts_with(&format!("CREATE TABLE {name} (")));
            for word in ["DEFAULT", "CHECK", "REFERENCES", "TRIGGER", "STRICT"] {
                assert!(!statement.contains(word), "{name}: {word}");
            }
        }
    }

    #[rstest]
    #[case::own("table", TABLES[1].0, TABLES[1].0, Some(TABLES[1].1), Entry::Table)]
    #[case::of_an_earlier_version("table", ADDED[0].0, ADDED[0].0, Some(ADDED[0].1), Entry::Older(ADDED[0].2))]
    #[case::its_key(
        "index",
        "sqlite_autoindex_retention_operator_total_1",
        "retention_operator_total",
        None,
        Entry::Other
    )]
    #[case::its_index(
        "index",
        "retention_operator_sweep_policy",
        "retention_operator_sweep",
        Some(INDEX),
        Entry::Other
    )]
    #[case::somebody_elses(
        "table",
        "retention_operator_notes",
        "retention_operator_notes",
        Some("CREATE TABLE …"),
        Entry::Other
    )]
    fn what_belongs_to_the_ledger_is_known(
        #[case] kind: &str,
        #[case] name: &str,
        #[case] table: &str,
        #[case] text: Option<&str>,
        #[case] expected: Entry,
    ) {
        assert_eq!(judge(kind, name, table, text), expected);
    }

    #[rstest]
    #[case::changed("table", TABLES[1].0, TABLES[1].0, Some("CREATE TABLE retention_operator_control (one DEFAULT 1)"))]
    #[case::in_another_case(
        "table",
        "Retention_Operator_Control",
        "Retention_Operator_Control",
        Some("CREATE TABLE …")
    )]
    #[case::a_view("view", TABLES[1].0, TABLES[1].0, Some("CREATE VIEW …"))]
    #[case::a_trigger("trigger", "x", TABLES[2].0, Some("CREATE TRIGGER …"))]
    #[case::an_index("index", "x", TABLES[2].0, Some("CREATE INDEX x ON …"))]
    fn what_the_operator_did_not_make_is_seen(
        #[case] kind: &str,
        #[case] name: &str,
        #[case] table: &str,
        #[case] text: Option<&str>,
    ) {
        assert!(matches!(judge(kind, name, table, text), Entry::Foreign(_)));
    }
}
