//! The operator's own schema in the database: where it is, and where it must not be.

use crate::conformance::case::Case;

/// Rows 1 (expired) and 3, with the ledger as `database.ledger` says.
fn table(ledger: &str) -> Case {
    Case::of("CREATE TABLE t (id int, at timestamptz); INSERT INTO t VALUES (1, {old}), (3, {new})")
        .own_database()
        .policy(&format!("{{database: {{secretRef: {{name: db}}, ledger: {ledger}}}}}"))
        .rows("SELECT id::text FROM t UNION ALL SELECT nspname::text FROM pg_namespace WHERE nspname = 'retention_operator'")
        .reported(1, 0, 0)
}

cases! {
    one_that_is_asked_for: table("Auto").stays("3 retention_operator").then_stays("3 retention_operator");
    none_where_none_was: table("Existing").stays("3");
    none_where_none_is_wanted: table("\"Off\"").stays("3");
    none_where_the_role_may_not_make_it: table("Auto").with_rights("GRANT SELECT, DELETE ON t TO {role}").stays("3");
}
