//! Rows that rows of other tables refer to.

use crate::conformance::case::Case;

/// `t` with rows 1, 2 and 3 (expired) and 4; `child` refers to it by `key`, with rows 10 → 1, 11 → 1 and 14 → 4.
fn family(key: &str, dependents: &str) -> Case {
    Case::of(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz);
         INSERT INTO t VALUES (1, {{old}}), (2, {{old}}), (3, {{old}}), (4, {{new}});
         CREATE TABLE child (id int PRIMARY KEY, t_id int REFERENCES t {key});
         INSERT INTO child VALUES (10, 1), (11, 1), (14, 4)"
    ))
    .rule(&format!("{{dependents: {dependents}}}"))
    .rows("SELECT 't' || id FROM t UNION ALL SELECT 'c' || id || '-' || coalesce(CAST(t_id AS text), 'null') FROM child")
}

/// 24,000 rows of which the first half have expired, many chunks of them on every engine, and a `child` that nothing is in.
fn childless(key: &str) -> Case {
    Case::of(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz);
         INSERT INTO t WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 24000)
           SELECT n, CASE WHEN n <= 12000 THEN {{old}} ELSE {{new}} END FROM s;
         CREATE TABLE child (t_id int REFERENCES t {key})"
    ))
    .rows("SELECT CAST(count(*) AS text) FROM t UNION ALL SELECT 'c' || CAST(t_id AS text) FROM child")
    .policy("{pace: {maxRowsPerSecond: 500}}")
}

/// The sweep goes on without the row that is referred to now.
fn a_child_comes(key: &str) -> Case {
    childless(key)
        .after_first_chunk("INSERT INTO child VALUES (11999), (13000)")
        .reported(11_999, 1, 1)
        .stays("12001 c11999 c13000")
}

const SKIPPED: &str = "t1 t4 c10-1 c11-1 c14-4";
const TAKEN_ALONG: &str = "t4 c14-4";

/// A table whose rows refer to each other: 2 → 1, 3 → 2 (all expired), 5 → 4 (4 expired, 5 not).
fn chain(key: &str, dependents: &str) -> Case {
    Case::of(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, up int REFERENCES t {key});
         INSERT INTO t VALUES (1, {{old}}, NULL), (2, {{old}}, 1), (3, {{old}}, 2), (4, {{old}}, NULL), (5, {{new}}, 4)"
    ))
    .rule(&format!("{{dependents: {dependents}}}"))
}

/// Tables that refer to each other in a row, each with what a delete cascades to: `c1` to `t`, `c2` to `c1`, and so on. Row 1 of `t` has a
/// row in each of them, row 2 in the first four, row 3 in none; row 4 has not expired.
fn generations(tables: u32) -> Case {
    let mut setup = String::from(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz); INSERT INTO t VALUES (1, {old}), (2, {old}), (3, {old}), (4, {new})",
    );
    let mut above = String::from("t");
    for n in 1..=tables {
        let rows = if n <= 4 { "(1, 1), (2, 2)" } else { "(1, 1)" };
        setup.push_str(&format!(
            "; CREATE TABLE c{n} (id int PRIMARY KEY, up int REFERENCES {above} ON DELETE CASCADE); INSERT INTO c{n} VALUES {rows}"
        ));
        above = format!("c{n}");
    }
    Case::of(&setup)
        .rule("{dependents: Cascade}")
        .rows(&format!("SELECT 't' || CAST(id AS text) FROM t UNION ALL SELECT 'c' || CAST(id AS text) FROM c{tables}"))
}

/// Ten rows, each of which refers to the one before it, in ten pages: the first chunk has eight of them at most, on a busy machine every
/// chunk has one, and each walk takes at least one row.
fn long_chain(dependents: &str) -> Case {
    let chain = "INSERT INTO t WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 10) SELECT n, {old}, nullif(n - 1, 0), {pad} FROM s";
    let world = |storage: &str, pad: &str| {
        format!(
            "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, up int REFERENCES t, pad text); {storage}; {}",
            chain.replace("{pad}", pad)
        )
    };
    Case::of(&world(
        "ALTER TABLE t ALTER pad SET STORAGE PLAIN",
        "repeat('x', 6000)",
    ))
    .on_sqlite(&world("SELECT 1", "'x'"))
    .rule(&format!("{{dependents: {dependents}}}"))
}

cases_everywhere! {
    skip_within_the_table_over_many_chunks: long_chain("Skip").reported(10, 0, 0).stays("");
    cascade_within_the_table_over_many_chunks: long_chain("Cascade").reported(10, 0, 0).stays("");
    skip_over_many_chunks_below_a_row_that_stays: long_chain("Skip").setup_then("UPDATE t SET at = NULL WHERE id = 5")
        .reported(5, 4, 4).stays("1 2 3 4 5");
    cascade_over_as_many_tables_as_are_followed: generations(16).reported(23, 0, 0).stays("t4");
    cascade_keeps_what_reaches_farther_than_that: generations(17).reported(6, 1, 1).stays("c1 t1 t4");
    cascade_counts_no_more_than_that_into_the_limits: generations(17).rule_is("{limits: {maxRows: 5}}").limited("maxRows");
    a_hold_on_the_last_table_that_is_followed: generations(16).hold("{table: c16, where: id = 1}").reported(6, 1, 1).stays("c1 t1 t4");
    a_hold_beyond_the_tables_that_are_followed: generations(18).hold("{table: c18, where: id = 1}").reported(6, 1, 1).stays("c1 t1 t4");

    skip_keeps_what_is_referred_to: family("", "Skip").reported(2, 1, 1).stays(SKIPPED);
    skip_keeps_it_where_the_key_would_cascade: family("ON DELETE CASCADE", "Skip").reported(2, 1, 1).stays(SKIPPED);
    skip_keeps_it_where_the_key_would_set_null: family("ON DELETE SET NULL", "Skip").reported(2, 1, 1).stays(SKIPPED);
    skip_keeps_it_where_the_key_is_deferred: family("DEFERRABLE INITIALLY DEFERRED", "Skip").reported(2, 1, 1).stays(SKIPPED);
    skip_without_an_index_on_the_referring_column: family("", "Skip").setup_then("INSERT INTO child WITH RECURSIVE s(n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM s WHERE n < 2000) SELECT n, 4 FROM s; DELETE FROM child WHERE id >= 100")
        .reported(2, 1, 1).stays(SKIPPED);
    refuse_keeps_a_row_that_comes_to_be_referred_to: a_child_comes("");
    refuse_keeps_a_row_that_would_take_its_child_along: a_child_comes("ON DELETE CASCADE");
    refuse_keeps_a_row_whose_child_would_be_changed: a_child_comes("ON DELETE SET NULL");
    refuse_keeps_a_row_whose_child_is_looked_at_in_the_end: a_child_comes("DEFERRABLE INITIALLY DEFERRED");
    refuse_goes_on_once_the_child_is_gone_again: childless("").after_first_chunk("INSERT INTO child VALUES (11999); DELETE FROM child")
        .reported(12_000, 0, 0).stays("12000");
    refuse_before_the_first_row: childless("").meanwhile("INSERT INTO child VALUES (11999)").failed("dependents", "child").stays("24000 c11999");
    skip_ends_with_the_reference: family("", "Skip").meanwhile("DELETE FROM child WHERE t_id = 1").reported(3, 0, 0).stays(TAKEN_ALONG);
    skip_sees_a_reference_that_comes: family("", "Skip").meanwhile("INSERT INTO child VALUES (12, 2)").reported(1, 2, 2).stays("t1 t2 t4 c10-1 c11-1 c12-2 c14-4");
    skip_within_the_table: chain("", "Skip").reported(3, 1, 1).stays("4 5");

    cascade_takes_along: family("ON DELETE CASCADE", "Cascade").reported(5, 0, 0).stays(TAKEN_ALONG);
    cascade_sets_null: family("ON DELETE SET NULL", "Cascade").reported(3, 0, 0).stays("t4 c10-null c11-null c14-4");
    cascade_keeps_what_may_not_go: family("", "Cascade").reported(2, 1, 1).stays(SKIPPED);
    cascade_keeps_what_is_restricted: family("ON DELETE RESTRICT", "Cascade").reported(2, 1, 1).stays(SKIPPED);
    cascade_keeps_what_a_deferred_key_refers_to: family("DEFERRABLE INITIALLY DEFERRED", "Cascade").reported(2, 1, 1).stays(SKIPPED);
    cascade_keeps_what_cannot_be_null: family("ON DELETE SET NULL NOT NULL", "Cascade")
        .reported(2, 1, 1).stays(SKIPPED);
    cascade_is_bound_by_holds_on_what_goes_along: family("ON DELETE CASCADE", "Cascade").hold("{table: child, where: id = 11}").reported(2, 1, 1).stays(SKIPPED);
    cascade_counts_into_the_limits: family("ON DELETE CASCADE", "Cascade").rule_is("{limits: {maxRows: 4}}").limited("maxRows");
    cascade_within_the_limits: family("ON DELETE CASCADE", "Cascade").rule_is("{limits: {maxRows: 5}}").reported(5, 0, 0).stays(TAKEN_ALONG);
    cascade_on_two_levels: family("ON DELETE CASCADE", "Cascade").setup_then("CREATE TABLE grand (child_id int REFERENCES child ON DELETE CASCADE);
        INSERT INTO grand VALUES (10), (10), (14)").reported(7, 0, 0).stays(TAKEN_ALONG);
    cascade_that_ends_in_a_restriction: family("ON DELETE CASCADE", "Cascade").setup_then("CREATE TABLE grand (child_id int REFERENCES child);
        INSERT INTO grand VALUES (10)").reported(2, 1, 1).stays(SKIPPED);
    cascade_within_the_table: chain("ON DELETE CASCADE", "Cascade").reported(5, 0, 0).stays("");
}

cases! {
    cascade_keeps_what_a_key_further_on_keeps_from_being_set: Case::of("CREATE TABLE t (id int PRIMARY KEY, at timestamptz);
        INSERT INTO t VALUES (1, {old}), (2, {old}), (3, {old}), (4, {new}); CREATE TABLE child (t_id int UNIQUE REFERENCES t ON DELETE SET NULL);
        INSERT INTO child VALUES (1), (2), (3); CREATE TABLE grand (up int REFERENCES child (t_id) ON UPDATE RESTRICT); INSERT INTO grand VALUES (2)")
        .rule("{dependents: Cascade}").reported(2, 1, 1).stays("2 4");
}
