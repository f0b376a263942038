//! How much one sweep may take, and what is held.

use crate::conformance::case::Case;

/// Rows 1 to 4 have expired, 5 has not.
const FIVE: &str = "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, customer int);
    INSERT INTO t VALUES (1, {old}, 1), (2, {old}, 2), (3, {old}, 0), (4, {old}, 1), (5, {new}, 2)";

/// So many rows, of which so many have expired.
fn big(rows: u32, expired: u32) -> Case {
    Case::of(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz);
         INSERT INTO t WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows})
           SELECT n, CASE WHEN n <= {expired} THEN {{old}} ELSE {{new}} END FROM s"
    ))
    .rows("SELECT CAST(count(*) AS text) FROM t")
}

/// Its hold stops every rule, also this one.
fn unresolved(hold: &str, words: &'static str) -> Case {
    Case::of(FIVE).hold(hold).refused("HoldUnresolved", words)
}

cases_everywhere! {
    exactly_as_many_rows_as_allowed: Case::of(FIVE).rule("{limits: {maxRows: 4}}").stays("5");
    one_row_too_many: Case::of(FIVE).rule("{limits: {maxRows: 3}}").limited("maxRows");
    exactly_the_percentage: Case::of(FIVE).rule("{limits: {maxPercent: 80}}").stays("5");
    a_percentage_too_many: Case::of(FIVE).rule("{limits: {maxPercent: 79}}").limited("maxPercent");
    both_limits_hold: Case::of(FIVE).rule("{limits: {maxRows: 100, maxPercent: 20}}").limited("maxPercent");
    all_rows_of_a_small_table: big(10_000, 10_000).reported(10_000, 0, 0).stays("0");
    half_of_a_big_table: big(10_002, 5_001).reported(5_001, 0, 0).stays("5001");
    more_than_half_of_a_big_table: big(10_002, 5_002).limited("50 %");
    more_than_half_where_it_is_allowed: big(10_002, 10_002).rule("{limits: {maxPercent: 100}}").reported(10_002, 0, 0).stays("0");
    a_percentage_of_rows_that_were_deleted_since_the_statistics: big(24_000, 6_000).setup_then("ANALYZE t; DELETE FROM t WHERE id > 9000")
        .rule("{limits: {maxPercent: 50}}").limited("66 % of 9000");
    a_percentage_of_rows_that_came_since_the_statistics: big(5, 4)
        .setup_then("ANALYZE t; INSERT INTO t SELECT t.id + 10 * s.id, {new} FROM t, t AS s").rule("{limits: {maxPercent: 50}}")
        .reported(4, 0, 0).stays("26");
    the_default_percentage_of_a_table_that_was_small: big(60, 50)
        .setup_then("ANALYZE t; INSERT INTO t SELECT 1000 * t.id + 60 * u.id + v.id, t.at FROM t, t AS u, t AS v WHERE u.id <= 16 AND v.id <= 12")
        .limited("maxPercent: 50, the default").rows("SELECT CASE WHEN count(*) >= 5790 THEN 'half' ELSE 'less' END FROM t").stays("half");
    a_percentage_of_a_table_whose_statistics_are_of_dead_rows: big(24_000, 6_000).setup_then("DELETE FROM t WHERE id > 9000; ANALYZE t")
        .rule("{limits: {maxPercent: 50}}").limited("66 % of 9000");
    rows_that_are_held_do_not_count: Case::of(FIVE).rule("{limits: {maxRows: 3}}").hold("{where: id = 1}").stays("1 5");
    rows_that_appear_after_the_count: Case::of(FIVE).rule("{limits: {maxRows: 4}}")
        .meanwhile("INSERT INTO t (id, at) VALUES (6, {old})").limited("maxRows").stays("1 2 3 4 5 6");
    one_rule_at_its_limit_does_not_stop_the_next: Case::of(FIVE)
        .setup_then("CREATE TABLE u AS SELECT * FROM t").rows("SELECT 't' || id FROM t UNION ALL SELECT 'u' || id FROM u")
        .rule("{limits: {maxRows: 1}}").limited("maxRows").rule("{table: u}").stays("t1 t2 t3 t4 t5 u5")
        .reported(4, 0, 0);

    held_rows_stay: Case::of(FIVE).hold("{where: customer = 1}").stays("1 4 5");
    rows_under_any_of_two_holds_stay: Case::of(FIVE).hold("{where: id = 1}").hold("{where: id = 2}").stays("1 2 5");
    a_hold_that_is_unknown_holds_nothing: Case::of(FIVE).hold("{where: customer = NULL}").stays("5");
    a_hold_and_a_where: Case::of(FIVE).rule("{where: id <> 3}").hold("{where: id = 2}").stays("2 3 5");
    a_whole_table_that_is_held: Case::of(FIVE).hold("{reason: litigation}").untouched();
    a_hold_on_another_table: Case::of(FIVE).setup_then("CREATE TABLE u (id int)").hold("{table: u}").stays("5");
    a_hold_on_a_table_that_is_not_there: unresolved("{table: nowhere}", "table");
    a_hold_on_a_column_that_is_not_there: unresolved("{where: nothing = 1}", "no column `nothing`");
    a_hold_that_cannot_be_read: unresolved("{where: id =}", "hold h1");
    a_hold_on_a_view: Case::of(FIVE).setup_then("CREATE VIEW v AS SELECT * FROM t").hold("{table: v}").refused("HoldUnresolved", "is no table");

    a_rule_that_only_reports: Case::of(FIVE).rule("{mode: Audit}").untouched();
    two_rules_on_one_table: Case::of(FIVE).rule("{where: id = 1}").reported(1, 0, 0).rule("{where: id = 2}").reported(1, 0, 0)
        .stays("3 4 5");
    rows_of_a_crowd_in_many_chunks: big(9_000, 4_000).policy("{pace: {chunkDuration: 1ms, maxRowsPerSecond: 500}}")
        .reported(4_000, 0, 0).stays("5000");
}

cases! {
    statistics_that_know_too_few_rows: big(3, 3).setup_then("ANALYZE t; INSERT INTO t SELECT n, {old} FROM generate_series(4, 400) n")
        .rule("{limits: {maxRows: 100}}").limited("maxRows");
    statistics_that_know_too_many_rows: big(400, 400).setup_then("ANALYZE t; DELETE FROM t WHERE id > 90")
        .rule("{limits: {maxRows: 100}}").reported(90, 0, 0).stays("0");
    a_hold_that_does_not_fit_its_table: unresolved("{where: id = 'x'}", "the where of hold 1");
}
