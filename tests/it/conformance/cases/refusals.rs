//! What is refused before a row is touched, and what is not although it looks like it.

use crate::conformance::case::Case;

/// `t` with rows 1 (expired) and 3, after which `more` happens.
fn table(more: &str) -> Case {
    Case::of(&format!(
        "CREATE TABLE t (id int, at timestamptz); INSERT INTO t VALUES (1, {{old}}), (3, {{new}}); {more}"
    ))
}

/// A rule on something else than `t`.
fn other(more: &str, name: &str, reason: &'static str, words: &'static str) -> Case {
    table(more)
        .rule(&serde_json::json!({ "table": name }).to_string())
        .refused(reason, words)
}

/// `t` with a key, to which `more` makes a table `child` refer.
fn referred(more: &str) -> Case {
    table("").setup_then(&format!("ALTER TABLE t ADD PRIMARY KEY (id); {more}"))
}

const SECURED: &str =
    "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON t USING (id > 1)";
const ALL_RIGHTS: &str = "GRANT SELECT, DELETE ON t TO {role}";

cases! {
    a_table_that_is_not_there: other("", "nowhere", "TableNotFound", "does not exist");
    a_table_in_another_case: other("", "T", "TableNotFound", "exactly as the database spells it");
    a_table_in_a_schema_that_is_not_there: other("", "nowhere.t", "TableNotFound", "nowhere.t");
    a_view: other("CREATE VIEW v AS TABLE t", "v", "NotSupported", "is a view");
    a_materialized_view: other("CREATE MATERIALIZED VIEW v AS TABLE t", "v", "NotSupported", "materialized view");
    a_sequence: other("CREATE SEQUENCE s", "s", "NotSupported", "sequence");
    an_index: other("CREATE INDEX i ON t (at)", "i", "NotSupported", "index");
    a_composite_type: other("CREATE TYPE c AS (at timestamptz)", "c", "NotSupported", "composite type");
    a_foreign_table: Case::of("CREATE TABLE t (id int); CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
        CREATE FOREIGN TABLE f (id int, at timestamptz) SERVER files OPTIONS (filename '/dev/null')").own_database()
        .rule("{table: f}").refused("NotSupported", "foreign table");
    a_catalog_table: other("", "pg_catalog.pg_class", "NotSupported", "belongs to the database system");
    a_catalog_view: other("", "pg_catalog.pg_stat_activity", "NotSupported", "view");
    a_table_of_the_information_schema: other("", "information_schema.sql_features", "NotSupported", "belongs to the database system");
    a_toast_table: other("", "pg_toast.pg_toast_1255", "NotSupported", "TOAST table");
    a_table_of_an_extension: table("CREATE TABLE member (at timestamptz); CREATE EXTENSION citext; ALTER EXTENSION citext ADD TABLE member").own_database()
        .rule("{table: member}").refused("NotSupported", "to an extension");

    row_level_security_that_hides_rows: table(SECURED).with_rights(ALL_RIGHTS).refused("RowSecurity", "row-level security");
    row_level_security_that_binds_others: table(SECURED).stays("3");
    row_level_security_of_a_partition: Case::of("CREATE TABLE t (id int, at timestamptz) PARTITION BY LIST (id);
        CREATE TABLE p1 PARTITION OF t DEFAULT; INSERT INTO t VALUES (1, {old}); ALTER TABLE p1 ENABLE ROW LEVEL SECURITY")
        .with_rights("GRANT SELECT, DELETE ON t, p1 TO {role}").refused("RowSecurity", "row-level security");
    a_published_table_without_identity: table("CREATE PUBLICATION news FOR ALL TABLES").own_database()
        .refused("ReplicaIdentity", "publication news");
    published_by_a_column_outside_of_its_replica_identity: Case::of("CREATE TABLE t (id int PRIMARY KEY, at timestamptz); INSERT INTO t VALUES (1, {old});
        CREATE PUBLICATION news FOR TABLE t WHERE (at > '2000-01-01')").own_database()
        .failed("database", "WHERE expression is not part of the replica identity");
    a_published_table_with_identity: table("ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION news FOR ALL TABLES").own_database().stays("3");
    a_published_table_whose_deletes_are_not: table("CREATE PUBLICATION news FOR ALL TABLES WITH (publish = 'insert, update')")
        .own_database().stays("3");
    a_rule_that_rewrites_deletes: table("CREATE RULE keep AS ON DELETE TO t DO INSTEAD NOTHING").refused("NotSupported", "rule keep");
    a_rule_that_adds_to_deletes: table("CREATE TABLE log (n int); CREATE RULE note AS ON DELETE TO t DO ALSO INSERT INTO log VALUES (1)")
        .refused("NotSupported", "rule note");
    a_rule_that_is_off: table("CREATE RULE keep AS ON DELETE TO t DO INSTEAD NOTHING; ALTER TABLE t DISABLE RULE keep").stays("3");
    a_rule_that_rewrites_updates: table("CREATE RULE keep AS ON UPDATE TO t DO INSTEAD NOTHING").stays("3");

    no_right_to_read: table("").with_rights("GRANT DELETE ON t TO {role}").refused("PermissionDenied", "GRANT SELECT");
    no_right_to_delete: table("").with_rights("GRANT SELECT ON t TO {role}").refused("PermissionDenied", "GRANT DELETE");
    no_right_on_the_schema: table("").with_rights("GRANT SELECT, DELETE ON t TO {role}; REVOKE ALL ON SCHEMA {schema} FROM {role}")
        .refused("PermissionDenied", "SELECT");
    a_right_to_read_some_columns: table("").with_rights("GRANT SELECT (at), DELETE ON t TO {role}").refused("PermissionDenied", "SELECT");
    the_least_rights: table("").with_rights(ALL_RIGHTS).stays("3");
    rights_by_membership: table("").with_rights("GRANT USAGE ON SCHEMA {schema} TO janitors; GRANT SELECT, DELETE ON t TO janitors").stays("3");
    one_of_three_tables_without_rights: table("CREATE TABLE u AS TABLE t; CREATE TABLE v AS TABLE t")
        .rows("SELECT 't' || id FROM t UNION ALL SELECT 'u' || id FROM u UNION ALL SELECT 'v' || id FROM v")
        .with_rights("GRANT SELECT, DELETE ON t, v TO {role}; GRANT SELECT ON u TO {role}")
        .rule("{}").reported(1, 0, 0).rule("{table: u}").refused("PermissionDenied", "DELETE").rule("{table: v}").reported(1, 0, 0)
        .stays("t3 u1 u3 v3");
    one_of_three_tables_that_is_not_there: table("CREATE TABLE v AS TABLE t")
        .rows("SELECT 't' || id FROM t UNION ALL SELECT 'v' || id FROM v")
        .rule("{}").reported(1, 0, 0).rule("{table: u}").refused("TableNotFound", "").rule("{table: v}").reported(1, 0, 0).stays("t3 v3");

    referred_by_rows: referred("CREATE TABLE child (t_id int REFERENCES t); INSERT INTO child VALUES (3)").refused("Dependents", "child");
    referred_by_rows_that_would_go_along: referred("CREATE TABLE child (t_id int REFERENCES t ON DELETE CASCADE); INSERT INTO child VALUES (3)")
        .refused("Dependents", "ON DELETE CASCADE");
    referred_by_rows_that_would_be_changed: referred("CREATE TABLE child (t_id int REFERENCES t ON DELETE SET NULL); INSERT INTO child VALUES (3)")
        .refused("Dependents", "ON DELETE SET");
    referred_by_a_deferred_key: referred("CREATE TABLE child (t_id int REFERENCES t DEFERRABLE INITIALLY DEFERRED); INSERT INTO child VALUES (3)")
        .refused("Dependents", "child");
    referred_by_itself: referred("ALTER TABLE t ADD up int REFERENCES t").refused("Dependents", "t_up_fkey");
    referred_by_a_partitioned_table: referred("CREATE TABLE child (t_id int REFERENCES t) PARTITION BY LIST (t_id);
        CREATE TABLE child_rest PARTITION OF child DEFAULT; INSERT INTO child VALUES (3)").refused("Dependents", "child");
    referred_by_an_empty_table: referred("CREATE TABLE child (t_id int REFERENCES t ON DELETE CASCADE)").stays("3");
    a_partition_that_is_referred_to: Case::of("CREATE TABLE t (id int PRIMARY KEY, at timestamptz) PARTITION BY LIST (id);
        CREATE TABLE p1 PARTITION OF t DEFAULT; INSERT INTO t VALUES (1, {old});
        CREATE TABLE child (p_id int REFERENCES p1); INSERT INTO child VALUES (1)").refused("Dependents", "child");
    a_key_that_refers_elsewhere: table("CREATE TABLE customer (id int PRIMARY KEY); INSERT INTO customer VALUES (1);
        ALTER TABLE t ADD customer int DEFAULT 1 REFERENCES customer").stays("3");
}
