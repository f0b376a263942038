//! What the service does while a sweep runs.

use crate::conformance::case::Case;

/// Rows 1 to 4 have expired, 5 has not.
const FIVE: &str = "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, note text);
    INSERT INTO t (id, at) VALUES (1, {old}), (2, {old}), (3, {old}), (4, {old}), (5, {new})";

/// 4000 rows on a hundred pages, the even ones expired: many chunks.
const MANY: &str = "CREATE TABLE t (id int, at timestamptz, pad text);
    INSERT INTO t SELECT n, CASE n % 2 WHEN 0 THEN {old} ELSE {new} END, repeat('x', 150) FROM generate_series(1, 4000) n";

/// A partition with the expired row 1, and a table beside it with the expired rows 2 and 3.
const BESIDE: &str = "CREATE TABLE t (id int, at timestamptz) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF t FOR VALUES IN (1);
    INSERT INTO t VALUES (1, {old}); CREATE TABLE l (id int, at timestamptz); INSERT INTO l VALUES (2, {old}), (3, {old})";
const ATTACH: &str = "ALTER TABLE t ATTACH PARTITION l FOR VALUES IN (2, 3)";

/// Another policy has a rule on `l`.
fn owned() -> Case {
    Case::of(BESIDE).own_database().policy("{database: {secretRef: {name: db}, ledger: Auto}}").with_ledger(
        "INSERT INTO {ledger}claim (table_id, table_name, policy, rule, since) SELECT oid, 'public.l', 'shop/other', 'logs', {now} FROM pg_class WHERE relname = 'l'",
    )
}

/// [`MANY`], and a table beside them that refers to row 3900 as those of a referring table do.
fn referred_to(key: &str) -> Case {
    Case::of(&format!(
        "{MANY}; ALTER TABLE t ADD PRIMARY KEY (id);
         CREATE TABLE child (t_id int REFERENCES t {key}, kind int) PARTITION BY LIST (kind); CREATE TABLE c1 PARTITION OF child FOR VALUES IN (1);
         INSERT INTO child VALUES (2, 1); CREATE TABLE l (t_id int, kind int); INSERT INTO l VALUES (3900, 2)"
    ))
    .rule("{dependents: Cascade}")
    .rows("SELECT count(*)::text FROM t UNION ALL SELECT 'l' || coalesce(t_id, 0) FROM l")
    .policy("{pace: {maxRowsPerSecond: 200}}")
    .after_first_chunk("ALTER TABLE child ATTACH PARTITION l FOR VALUES IN (2)")
}

fn many() -> Case {
    Case::of(MANY)
        .rows("SELECT count(*)::text FROM t")
        .policy("{pace: {maxRowsPerSecond: 200}}")
}

cases_everywhere! {
    a_row_that_becomes_younger: Case::of(FIVE).meanwhile("UPDATE t SET at = {new} WHERE id = 1").stays("1 5");
    a_row_that_no_longer_fits_the_where: Case::of(FIVE).rule("{where: note IS NULL}").meanwhile("UPDATE t SET note = 'keep' WHERE id = 1").stays("1 5");
    a_row_that_comes_under_a_hold: Case::of(FIVE).hold("{where: \"note = 'case'\"}").meanwhile("UPDATE t SET note = 'case' WHERE id = 1").stays("1 5");
    a_row_that_changes_and_stays_expired: Case::of(FIVE).meanwhile("UPDATE t SET note = 'moved' WHERE id = 1").stays("5");
    a_row_that_the_service_deletes: Case::of(FIVE).meanwhile("DELETE FROM t WHERE id = 1").reported(3, 0, 0).stays("5");
    an_expired_row_that_arrives: Case::of(FIVE).meanwhile("INSERT INTO t (id, at) VALUES (6, {old})").reported(5, 0, 0).stays("5");
}

cases! {
    a_row_that_expires_meanwhile: Case::of(FIVE).meanwhile("INSERT INTO t VALUES (6, now() - interval '365 days')").reported(4, 0, 0).stays("5 6");
    rows_that_become_younger_between_chunks: many().after_first_chunk("UPDATE t SET at = {new} WHERE id > 2000").reported(1000, 0, 0).stays("3000");
    rows_that_arrive_between_chunks: many().after_first_chunk("INSERT INTO t SELECT n, {old}, repeat('x', 150) FROM generate_series(1, 500) n")
        .reported(2500, 0, 0).stays("2000");
    rows_that_change_places_between_chunks: many().after_first_chunk("UPDATE t SET pad = 'y' WHERE id > 1000").reported(2000, 0, 0).stays("2000");

    a_row_that_somebody_holds: Case::of(FIVE).while_open("SELECT FROM t WHERE id = 2 FOR UPDATE").reported(3, 1, 1).stays("2 5").then_stays("5");
    a_row_that_somebody_shares: Case::of(FIVE).while_open("SELECT FROM t WHERE id = 2 FOR KEY SHARE").reported(3, 1, 1).stays("2 5").then_stays("5");
    a_row_that_somebody_is_changing: Case::of(FIVE).while_open("UPDATE t SET at = {new} WHERE id = 2").reported(3, 1, 1).stays("2 5").then_stays("2 5");
    a_row_that_somebody_is_deleting: Case::of(FIVE).while_open("DELETE FROM t WHERE id = 2").reported(3, 1, 1).stays("2 5").then_stays("5");
    a_row_that_somebody_holds_from_one_who_may_not_lock: Case::of(FIVE).with_rights("GRANT SELECT, DELETE ON t TO {role}")
        .while_open("SELECT FROM t WHERE id = 2 FOR UPDATE").reported(0, 4, 4).stays("1 2 3 4 5").then_stays("5");
    every_row_held: Case::of(FIVE).while_open("SELECT FROM t FOR UPDATE").reported(0, 4, 4).stays("1 2 3 4 5").then_stays("5");
    rows_that_somebody_only_reads: Case::of(FIVE).while_open("SELECT * FROM t; DECLARE c CURSOR FOR TABLE t; FETCH 1 FROM c").stays("5");
    an_old_snapshot: Case::of(FIVE).while_open("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1").stays("5");
    a_table_that_somebody_locks: Case::of(FIVE).while_open("LOCK TABLE t IN SHARE MODE").failed("lock_timeout", "locked by another session")
        .then_stays("5");
    a_locked_table_does_not_stop_the_next_rule: Case::of(FIVE).setup_then("CREATE TABLE u AS TABLE t")
        .rows("SELECT 't' || id FROM t UNION ALL SELECT 'u' || id FROM u")
        .rule("{}").failed("lock_timeout", "").rule("{table: u}").reported(4, 0, 0)
        .while_open("LOCK TABLE t IN SHARE MODE").stays("t1 t2 t3 t4 t5 u5");
    an_expired_row_that_is_not_committed_yet: Case::of(FIVE).while_open("INSERT INTO t VALUES (7, {old})").stays("5").then_stays("5");

    a_foreign_key_to_the_table_appears_between_chunks: many().setup_then("ALTER TABLE t ADD PRIMARY KEY (id)")
        .after_first_chunk("CREATE TABLE u (t_id int REFERENCES t); INSERT INTO u VALUES (3998)").failed("table_changed", "").rows("SELECT id::text FROM t WHERE id = 3998")
        .stays("3998");
    the_column_is_renamed: Case::of(FIVE).meanwhile("ALTER TABLE t RENAME at TO was").failed("table_changed", "");
    the_column_gets_another_type: Case::of(FIVE).meanwhile("ALTER TABLE t ALTER at TYPE date").failed("table_changed", "");
    the_column_is_renamed_between_chunks: many().after_first_chunk("ALTER TABLE t RENAME at TO was; ALTER TABLE t RENAME pad TO at")
        .rows("SELECT count(*)::text FROM t WHERE id % 2 = 1").failed("table_changed", "").stays("2000");
    the_table_is_dropped: Case::of(FIVE).setup_then("CREATE TABLE u AS TABLE t").rows("SELECT id::text FROM u").meanwhile("DROP TABLE t")
        .failed("table_changed", "no such table");
    the_table_is_dropped_between_chunks: many().after_first_chunk("DROP TABLE t; CREATE TABLE t AS SELECT 1 AS id, {old} AS at, '' AS pad")
        .failed("table_changed", "").stays("1");
    the_table_is_renamed: Case::of(FIVE).meanwhile("ALTER TABLE t RENAME TO u; CREATE TABLE t AS TABLE u").failed("table_changed", "another table");
    the_table_is_rewritten_between_chunks: many().after_first_chunk("VACUUM FULL t").reported(2000, 0, 0).stays("2000");
    the_table_is_rewritten_in_another_order: many().after_first_chunk("CREATE INDEX i ON t (at DESC, id); CLUSTER t USING i").reported(2000, 0, 0).stays("2000");
    the_table_is_vacuumed_between_chunks: many().after_first_chunk("VACUUM t").reported(2000, 0, 0).stays("2000");
    the_table_is_emptied_between_chunks: many().after_first_chunk("TRUNCATE t").ended().stays("0");
    the_table_becomes_logged_no_more: many().after_first_chunk("ALTER TABLE t SET UNLOGGED").reported(2000, 0, 0).stays("2000");
    an_index_appears: many().after_first_chunk("CREATE INDEX ON t (at)").reported(2000, 0, 0).stays("2000");
    a_column_appears: many().after_first_chunk("ALTER TABLE t ADD more int DEFAULT 7").reported(2000, 0, 0).stays("2000");
    a_trigger_appears: many().after_first_chunk("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER tr BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()").rows("SELECT count(*)::text FROM t WHERE id > 3000").ended().stays("1000");
    a_rewriting_rule_appears: many().after_first_chunk("CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING")
        .rows("SELECT count(*)::text FROM t WHERE id > 3000").failed("table_changed", "").stays("1000");
    row_security_appears: Case::of(FIVE).with_rights("GRANT SELECT, DELETE ON t TO {role}").meanwhile("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
        .failed("table_changed", "row-level security");
    row_security_appears_between_chunks: many().with_rights("GRANT SELECT, DELETE ON t TO {role}").after_first_chunk("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
        .rows("SELECT count(*)::text FROM t WHERE id > 3000").failed("table_changed", "row security").stays("1000");
    the_right_to_delete_is_taken_away: Case::of(FIVE).with_rights("GRANT SELECT, DELETE ON t TO {role}").meanwhile("REVOKE DELETE ON t FROM {role}")
        .failed("permission", "GRANT");
    a_partition_is_attached: Case::of("CREATE TABLE t (id int, at timestamptz) PARTITION BY LIST (id);
        CREATE TABLE p1 PARTITION OF t FOR VALUES IN (1); INSERT INTO t VALUES (1, {old})").meanwhile("CREATE TABLE p2 (id int, at timestamptz);
        INSERT INTO p2 VALUES (2, {old}), (3, {new}); ALTER TABLE t ATTACH PARTITION p2 FOR VALUES IN (2, 3)").reported(2, 0, 0).stays("3");
    a_partition_is_attached_between_chunks: Case::of("CREATE TABLE t (id int, at timestamptz) PARTITION BY LIST (id);
        CREATE TABLE p1 PARTITION OF t FOR VALUES IN (1); INSERT INTO t VALUES (1, {old})").after_first_chunk("CREATE TABLE p2 (id int, at timestamptz);
        INSERT INTO p2 VALUES (2, {old}), (3, {new}); ALTER TABLE t ATTACH PARTITION p2 FOR VALUES IN (2, 3)").reported(2, 0, 0).stays("3");
    a_held_table_is_attached: Case::of(BESIDE).hold("{table: l}").meanwhile(ATTACH).held_or_owned_since().stays("1 2 3");
    a_held_table_is_attached_between_chunks: Case::of(BESIDE).hold("{table: l}").after_first_chunk(ATTACH).held_or_owned_since().stays("2 3");
    a_table_with_a_held_row_is_attached: Case::of(BESIDE).hold("{table: l, where: id = 2}").meanwhile(ATTACH).reported(2, 0, 0).stays("2");
    a_table_with_a_held_row_is_attached_between_chunks: Case::of(BESIDE).hold("{table: l, where: id = 2}").after_first_chunk(ATTACH)
        .reported(2, 0, 0).stays("2");
    a_table_of_another_policy_is_attached: owned().meanwhile(ATTACH).held_or_owned_since().stays("1 2 3");
    a_table_of_another_policy_is_attached_between_chunks: owned().after_first_chunk(ATTACH).held_or_owned_since().stays("2 3");
    a_held_table_is_attached_to_one_that_cascades: referred_to("ON DELETE CASCADE").hold("{table: l}").reported(2000, 1, 1).stays("l3900 2001");
    a_held_table_is_attached_to_one_that_is_set: referred_to("ON DELETE SET NULL").hold("{table: l}").reported(1999, 1, 1).stays("l3900 2001");
    a_table_is_attached_to_one_that_cascades: referred_to("ON DELETE CASCADE").reported(2002, 0, 0).stays("2000");
    a_partition_is_detached: Case::of("CREATE TABLE t (id int, at timestamptz) PARTITION BY LIST (id);
        CREATE TABLE p1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF t FOR VALUES IN (2); INSERT INTO t VALUES (1, {old}), (2, {old})")
        .rows("SELECT id::text FROM t UNION ALL SELECT id::text FROM p2").meanwhile("ALTER TABLE t DETACH PARTITION p2").stays("2").reported(1, 0, 0);
    a_partition_is_detached_between_chunks: Case::of("CREATE TABLE t (id int, at timestamptz) PARTITION BY LIST (id);
        CREATE TABLE p1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF t FOR VALUES IN (2); INSERT INTO t VALUES (1, {old}), (2, {old})")
        .rows("SELECT id::text FROM p1 UNION ALL SELECT id::text FROM p2").after_first_chunk("ALTER TABLE t DETACH PARTITION p2")
        .stays("2").reported(1, 0, 0);
    a_partition_is_detached_and_the_next_ones_go: Case::of("CREATE TABLE t (id int, at timestamptz) PARTITION BY LIST (id);
        CREATE TABLE p1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF t FOR VALUES IN (2); CREATE TABLE p3 PARTITION OF t FOR VALUES IN (3);
        INSERT INTO t VALUES (1, {old}), (2, {old}), (3, {old})")
        .rows("SELECT id::text FROM t UNION ALL SELECT id::text FROM p2").after_first_chunk("ALTER TABLE t DETACH PARTITION p2")
        .stays("2").reported(2, 0, 0);
    a_partition_is_dropped_and_the_next_ones_go: Case::of("CREATE TABLE t (id int, at timestamptz) PARTITION BY LIST (id);
        CREATE TABLE p1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF t FOR VALUES IN (2); CREATE TABLE p3 PARTITION OF t FOR VALUES IN (3, 4);
        INSERT INTO t VALUES (1, {old}), (2, {old}), (3, {old}), (4, {new})")
        .after_first_chunk("DROP TABLE p2").stays("4").reported(2, 0, 0);
    a_partition_is_renamed_between_chunks: Case::of("CREATE TABLE t (id int, at timestamptz) PARTITION BY LIST (id);
        CREATE TABLE p1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF t FOR VALUES IN (2); INSERT INTO t VALUES (1, {old}), (2, {old})")
        .after_first_chunk("ALTER TABLE p2 RENAME TO q2").failed("table_changed", "").stays("2");
    referring_rows_appear: Case::of(FIVE).meanwhile("CREATE TABLE child (t_id int REFERENCES t ON DELETE CASCADE); INSERT INTO child VALUES (1)")
        .failed("dependents", "child");
}
