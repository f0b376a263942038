//! Rows that go into a table of the same database instead of away.

use crate::conformance::case::Case;

/// `t` with rows 1 and 2 (expired), and 3, archived into `attic`; `more` happens first.
fn table(more: &str) -> Case {
    Case::of(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, n int); INSERT INTO t VALUES (1, {{old}}, 7), (2, {{old}}, NULL), (3, {{new}}, 9); {more}"
    ))
    .rule("{action: Archive, archive: {table: {name: attic}}}")
}

/// The rows of both tables.
const BOTH: &str =
    "SELECT 't' || CAST(id AS text) FROM t UNION ALL SELECT 'a' || CAST(id AS text) FROM attic";
const MOVED: &str = "a1 a2 t3";
const ATTIC: &str = "CREATE TABLE attic (n int, at timestamptz, id int)";

/// Nothing of it is moved: only the source can be asked.
fn refused(more: &str, words: &'static str) -> Case {
    table(more).refused("ArchiveMismatch", words)
}

/// The archive table is there, and does `what` after each row that comes.
fn with_trigger(more: &str, what: &str) -> Case {
    let world = |trigger: &str| format!("{ATTIC}; {more}; {trigger}");
    let on_sqlite = format!("CREATE TRIGGER after AFTER INSERT ON attic BEGIN {what}; END");
    table(&world(&format!(
        "CREATE FUNCTION after() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {what}; RETURN NULL; END$$;
         CREATE TRIGGER after AFTER INSERT ON attic FOR EACH ROW EXECUTE FUNCTION after()"
    )))
    .on_sqlite(&table(&world(&on_sqlite)).setup)
    .rows(BOTH)
}

/// Rows would be in neither table, or not as they were.
fn loses(what: &str) -> Case {
    with_trigger("SELECT 1", what)
        .failed("archive", "a trigger")
        .stays("t1 t2 t3")
}

/// A trigger of PostgreSQL does `what` with each row before it is in the archive table.
fn changed_on_its_way(what: &str) -> Case {
    table(&format!(
        "{ATTIC}; CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {what}; RETURN new; END$$;
         CREATE TRIGGER before BEFORE INSERT ON attic FOR EACH ROW EXECUTE FUNCTION before()"
    ))
    .rows(BOTH)
}

cases! {
    one_whose_trigger_changes_rows_on_their_way: changed_on_its_way("new.n := 1").failed("archive", "a trigger").stays("t1 t2 t3");
    one_whose_trigger_fills_a_column_of_its_own: changed_on_its_way("new.who := 'x'").setup_then("ALTER TABLE attic ADD who text").reported(2, 0, 0).stays(MOVED);
    one_whose_trigger_removes_rows_at_the_commit: table(&format!(
        "{ATTIC}; CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN DELETE FROM {{schema}}.attic WHERE id = new.id; RETURN NULL; END$$;
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON attic DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()"
    )).rows(BOTH).failed("archive", "a trigger").stays("t1 t2 t3");
    a_part_whose_trigger_removes_rows: table(
        "CREATE TABLE attic (n int, at timestamptz, id int) PARTITION BY LIST (id); CREATE TABLE attic_1 PARTITION OF attic FOR VALUES IN (1);
         CREATE TABLE attic_more (id int, n int, at timestamptz); ALTER TABLE attic ATTACH PARTITION attic_more DEFAULT;
         CREATE FUNCTION after() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN DELETE FROM {schema}.attic WHERE id = 2; RETURN NULL; END$$;
         CREATE TRIGGER after AFTER INSERT ON attic_more FOR EACH ROW EXECUTE FUNCTION after()"
    ).rows(BOTH).failed("archive", "a trigger").stays("t1 t2 t3");
    parts_whose_triggers_remove_nothing: table(
        "CREATE TABLE attic (n int, at timestamptz, id int) PARTITION BY LIST (id); CREATE TABLE attic_1 PARTITION OF attic FOR VALUES IN (1);
         CREATE TABLE attic_more (id int, n int, at timestamptz); ALTER TABLE attic ATTACH PARTITION attic_more DEFAULT;
         CREATE FUNCTION after() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
         CREATE TRIGGER after AFTER INSERT ON attic FOR EACH ROW EXECUTE FUNCTION after()"
    ).rows(BOTH).reported(2, 0, 0).stays(MOVED);
}

cases_everywhere! {
    a_table_that_is_made: table("").reported(2, 0, 0).stays("3").then_stays("3");
    a_table_that_is_there: table(ATTIC).rows(BOTH).reported(2, 0, 0).stays(MOVED).then_stays(MOVED);
    one_with_more_columns: table("CREATE TABLE attic (n int, at timestamptz, id int, more text DEFAULT 'x')").rows(BOTH).reported(2, 0, 0).stays(MOVED);
    one_that_says_by_which_sweep: table("CREATE TABLE attic (n int, at timestamptz, id int, retention_sweep_id text)")
        .rows("SELECT CAST(id AS text) FROM t UNION ALL SELECT 'a' FROM attic WHERE length(retention_sweep_id) > 10").reported(2, 0, 0).stays("a a 3");
    one_that_lacks_a_column: refused("CREATE TABLE attic (id int, at timestamptz)", "ADD COLUMN \"n\"");
    one_whose_column_is_of_another_type: refused("CREATE TABLE attic (id text, at timestamptz, n int)", "ALTER TABLE");
    one_with_a_column_that_nobody_fills: refused("CREATE TABLE attic (id int, at timestamptz, n int, who text NOT NULL)", "ALTER TABLE");
    a_view_is_none: refused("CREATE VIEW attic AS SELECT * FROM t", "is a view");
    one_that_does_not_take_a_row: table("CREATE TABLE attic (id int CHECK (id <> 2), at timestamptz, n int)").rows(BOTH)
        .failed("archive", "constraint").stays("t1 t2 t3");
    one_that_has_a_row_already: table("CREATE TABLE attic (id int PRIMARY KEY, at timestamptz, n int); INSERT INTO attic (id) VALUES (2)").rows(BOTH)
        .failed("archive", "constraint").stays("a2 t1 t2 t3");
    one_whose_trigger_removes_rows: loses("DELETE FROM {schema}.attic WHERE id = new.id");
    one_whose_trigger_removes_other_rows: loses("DELETE FROM {schema}.attic WHERE id = 1");
    one_whose_trigger_changes_rows: loses("UPDATE {schema}.attic SET n = 0 WHERE id = 1");
    one_whose_trigger_notes_what_came: with_trigger("CREATE TABLE notes (id int)", "INSERT INTO {schema}.notes VALUES (new.id)")
        .rows("SELECT 't' || CAST(id AS text) FROM t UNION ALL SELECT 'a' || CAST(id AS text) FROM attic UNION ALL SELECT 'n' || CAST(id AS text) FROM notes")
        .reported(2, 0, 0).stays("a1 a2 n1 n2 t3");
    what_a_hold_keeps_is_not_archived: table(ATTIC).rows(BOTH).hold("{where: n = 7}").reported(1, 0, 0).stays("a2 t1 t3");
    what_is_renewed_in_time_is_not_archived: table(ATTIC).rows(BOTH).meanwhile("UPDATE t SET at = {new} WHERE id = 1").reported(1, 0, 0).stays("a2 t1 t3");
    what_is_referred_to_is_not_archived: table(&format!("{ATTIC}; CREATE TABLE child (t_id int REFERENCES t); INSERT INTO child VALUES (1)")).rows(BOTH)
        .rule_is("{dependents: Skip}").reported(1, 1, 1).stays("a2 t1 t3");
    rows_that_refer_are_not_taken_along: table(&format!("{ATTIC}; CREATE TABLE child (t_id int REFERENCES t ON DELETE CASCADE); INSERT INTO child VALUES (1)"))
        .rows(BOTH).rule_is("{dependents: Skip}").reported(1, 1, 1).stays("a2 t1 t3");
    limits_count_what_is_archived: table(ATTIC).rows(BOTH).rule_is("{limits: {maxRows: 1}}").limited("maxRows").stays("t1 t2 t3");
    a_rule_in_audit_mode_makes_no_table: table("").rule_is("{mode: Audit}").untouched().stays("1 2 3");
}
