//! Triggers and constraints that have a say when rows go.

use crate::conformance::case::Case;

/// `t` with rows 1 and 2 (expired) and 3, a table `log`, and a trigger function `f` with a body, fired as `fired` says.
fn trigger(body: &str, fired: &str) -> Case {
    Case::of(&format!(
        "CREATE TABLE t (id int, at timestamptz); INSERT INTO t VALUES (1, {{old}}), (2, {{old}}), (3, {{new}});
         CREATE TABLE log (line text);
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN {body} END $f$;
         CREATE {fired} EXECUTE FUNCTION f()"
    ))
}

/// Sixty expired rows and five others on one page, and for each of the former a row of `child`, which refers to it. A row of `slow` takes so
/// long to go that the statement timeout does not allow for half of them.
fn slow(slow: &str, body: &str) -> Case {
    Case::of(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz);
         INSERT INTO t SELECT n, CASE WHEN n <= 60 THEN {{old}} ELSE {{new}} END FROM generate_series(1, 65) n;
         CREATE TABLE child (t_id int REFERENCES t ON DELETE CASCADE); INSERT INTO child SELECT n FROM generate_series(1, 60) n;
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN {body} PERFORM pg_sleep(0.03); RETURN OLD; END $f$;
         CREATE TRIGGER tr BEFORE DELETE ON {slow} FOR EACH ROW EXECUTE FUNCTION f()"
    ))
    .policy("{database: {secretRef: {name: db}, statementTimeout: 700ms}}")
    .rows("SELECT CAST(count(*) AS text) FROM t UNION ALL SELECT 'c' || CAST(count(*) AS text) FROM child")
}

const BEFORE: &str = "TRIGGER tr BEFORE DELETE ON t FOR EACH ROW";
const AFTER: &str = "TRIGGER tr AFTER DELETE ON t FOR EACH ROW";
const BOTH: &str = "SELECT 't' || id FROM t UNION ALL SELECT line FROM log";
const WITH_SCHEMA: &str = "EXECUTE format('INSERT INTO %I.log VALUES (%L)', TG_TABLE_SCHEMA, 'gone' || OLD.id); RETURN OLD;";

cases! {
    one_that_vetoes_every_row: trigger("RETURN NULL;", BEFORE).reported(0, 0, 2).stays("1 2 3");
    one_that_vetoes_one_row: trigger("IF OLD.id = 1 THEN RETURN NULL; END IF; RETURN OLD;", BEFORE).reported(1, 0, 1).stays("1 3");
    one_that_vetoes_and_writes: trigger("EXECUTE format('UPDATE %I.t SET at = now() WHERE id = %L', TG_TABLE_SCHEMA, OLD.id); RETURN NULL;", BEFORE)
        .reported(0, 0, 2).stays("1 2 3");
    one_that_takes_too_long_for_a_whole_page: slow("t", "").setup_then("DROP TABLE child; CREATE TABLE child ()").reported(60, 0, 0).stays("5 c0");
    one_that_takes_too_long_and_vetoes: slow("t", "IF OLD.id % 20 = 0 THEN RETURN NULL; END IF;").setup_then("DROP TABLE child; CREATE TABLE child ()")
        .reported(57, 0, 3).stays("8 c0");
    one_of_rows_that_go_along_and_takes_too_long: slow("child", "").rule("{dependents: Cascade}").reported(120, 0, 0).stays("5 c0");
    one_that_takes_too_long_among_rows_that_are_referred_to: slow("t", "").setup_then("DELETE FROM child WHERE t_id % 20 <> 0")
        .rule("{dependents: Skip}").reported(57, 3, 3).stays("8 c3");
    one_that_takes_too_long_while_rows_are_archived: slow("t", "").setup_then("DROP TABLE child")
        .rule("{action: Archive, archive: {table: {name: child}}}").reported(60, 0, 0).stays("5 c60")
        .rows("SELECT CAST(count(*) AS text) FROM t UNION ALL SELECT 'c' || CAST(count(*) AS text) FROM child").setup_then("CREATE TABLE child AS TABLE t WITH NO DATA");
    one_that_logs: trigger(WITH_SCHEMA, BEFORE).rows(BOTH).stays("gone1 gone2 t3").reported(2, 0, 0);
    one_that_logs_afterwards: trigger(WITH_SCHEMA, AFTER).rows(BOTH).stays("gone1 gone2 t3").reported(2, 0, 0);
    one_for_each_statement: trigger("EXECUTE format('INSERT INTO %I.log VALUES (%L)', TG_TABLE_SCHEMA, 'once'); RETURN NULL;",
        "TRIGGER tr AFTER DELETE ON t REFERENCING OLD TABLE AS gone FOR EACH STATEMENT").rows(BOTH).stays("once t3").reported(2, 0, 0);
    one_that_puts_the_row_back: trigger("EXECUTE format('INSERT INTO %I.t VALUES (%L, %L)', TG_TABLE_SCHEMA, OLD.id, OLD.at); RETURN NULL;", AFTER)
        .reported(2, 0, 2).stays("1 2 3");
    one_that_puts_a_younger_row_back: trigger("EXECUTE format('INSERT INTO %I.t VALUES (%L, now())', TG_TABLE_SCHEMA, OLD.id + 10); RETURN NULL;", AFTER)
        .reported(2, 0, 0).stays("3 11 12");
    one_that_deletes_another_expired_row: trigger("EXECUTE format('DELETE FROM %I.t WHERE id = 3 - %L', TG_TABLE_SCHEMA, OLD.id); RETURN OLD;", AFTER)
        .reported(2, 0, 0).stays("3");
    one_that_fails: trigger("RAISE EXCEPTION 'not this one'; RETURN OLD;", BEFORE).failed("database", "not this one");
    one_that_fails_afterwards: trigger("RAISE EXCEPTION 'not this one'; RETURN OLD;", AFTER).failed("database", "not this one");
    one_that_fails_at_commit: trigger("RAISE EXCEPTION 'not this one'; RETURN OLD;",
        "CONSTRAINT TRIGGER tr AFTER DELETE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW").failed("database", "not this one");
    one_that_does_not_concern_expired_rows: trigger("RAISE EXCEPTION 'not this one'; RETURN OLD;",
        "TRIGGER tr BEFORE DELETE ON t FOR EACH ROW WHEN (OLD.id = 3)").stays("3");
    one_that_is_off: trigger("RETURN NULL;", BEFORE).setup_then("ALTER TABLE t DISABLE TRIGGER tr").stays("3");
    one_for_replicas_only: trigger("RETURN NULL;", BEFORE).setup_then("ALTER TABLE t ENABLE REPLICA TRIGGER tr").stays("3");
    one_on_a_partition: Case::of("CREATE TABLE t (id int, at timestamptz) PARTITION BY LIST (id);
        CREATE TABLE p1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF t DEFAULT; INSERT INTO t VALUES (1, {old}), (2, {old}), (3, {new});
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER tr BEFORE DELETE ON p1 FOR EACH ROW EXECUTE FUNCTION f()").reported(1, 0, 1).stays("1 3");
    one_that_changes_the_search_path: trigger("SET search_path = pg_temp; RETURN OLD;", BEFORE).stays("3");
    one_that_changes_the_row: trigger("OLD.id := 99; RETURN OLD;", BEFORE).stays("3");
}
