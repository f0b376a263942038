//! Every operator and function that a `where` may use, with the three truth values of SQL.
//!
//! A condition says which of the expired rows go; one that is unknown for a row keeps it.

use crate::conformance::case::Case;

/// Seven expired rows and one that is not, number 9, which reads as number 1. In number 3 everything is NULL.
const WORLD: &str = r#"
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE TABLE t (id int PRIMARY KEY, at timestamptz, status text, n int, price numeric, flag boolean, mood mood, day date,
        seen timestamptz, local timestamp, wait interval, doc jsonb, raw json, key uuid, "Odd ""Name" varchar(20), code char(4),
        ratio float8, big bigint, amount positive, bytes bytea, tags text[]);
    INSERT INTO t VALUES
        (1, {old}, 'open', 1, 1.50, true, 'sad', '2024-01-31', '2024-01-31 12:00+00', '2024-01-31 12:00', '1 day',
            '{"a": "x", "n": 1}', '{"a": "x"}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'x', 'ab', 0.5, 9007199254740993, 1, '\x00', '{a}'),
        (2, {old}, 'closed', 2, 10.00, false, 'ok', '2024-02-01', '2024-01-31 13:00+01', '2024-02-01', '2 days',
            '{"a": null}', '{"a": null}', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12', 'X', 'cd', 'NaN', 9007199254740992, 2, '\x01', '{}'),
        (4, {old}, 'Open', -3, 0.1, true, 'happy', '1999-12-31', 'infinity', '-infinity', '-1 day',
            '{"a": {"b": [1]}}', '{"b": 1}', '00000000-0000-0000-0000-000000000000', '', '', 'Infinity', -1, 3, '', NULL),
        (5, {old}, 'it''s 5% \ done_', 0, 0, false, 'sad', 'infinity', '2024-01-31 12:00+00', NULL, '24:00:00',
            '[]', '[]', NULL, 'it''s', '%', 0, 0, 4, NULL, NULL),
        (6, {old}, ' closed ', 7, 7, NULL, NULL, NULL, NULL, NULL, '1 month', 'null', 'null', NULL, ' x ', 'a', -0.0, 1, 5, NULL, NULL),
        (7, {old}, 'ÄÖÜ ☃', 100, 1e20, true, 'ok', '2024-01-30', NULL, NULL, NULL, '{"a": "☃"}', '{"a": "☃"}', NULL, 'É', 'é',
            1e300, 9223372036854775807, 6, NULL, NULL);
    INSERT INTO t (id, at) VALUES (3, {old});
    INSERT INTO t SELECT 9, {new}, status, n, price, flag, mood, day, seen, local, wait, doc, raw, key, "Odd ""Name", code, ratio, big,
        amount, bytes, tags FROM t WHERE id = 1;
"#;

/// The same on SQLite, as far as it has such types.
const ON_SQLITE: &str = r#"
    CREATE TABLE t (id int PRIMARY KEY, at text, status text, n int, flag boolean, "Odd ""Name" varchar(20), code char(4), amount int);
    INSERT INTO t VALUES
        (1, {old}, 'open', 1, true, 'x', 'ab', 1), (2, {old}, 'closed', 2, false, 'X', 'cd', 2), (4, {old}, 'Open', -3, true, '', '', 3),
        (5, {old}, 'it''s 5% \ done_', 0, false, 'it''s', '%', 4), (6, {old}, ' closed ', 7, NULL, ' x ', 'a', 5),
        (7, {old}, 'ÄÖÜ ☃', 100, true, 'É', 'é', 6), (9, {new}, 'open', 1, true, 'x', 'ab', 1);
    INSERT INTO t (id, at) VALUES (3, {old});
"#;

/// Of the expired rows those go whose numbers `takes` lists.
fn condition(condition: &str, takes: &str) -> Case {
    let mut stays: Vec<&str> = vec!["1", "2", "3", "4", "5", "6", "7", "9"];
    for taken in takes.split_whitespace() {
        assert_ne!(taken, "9");
        stays.retain(|row| *row != taken);
    }
    Case::of(WORLD)
        .on_sqlite(ON_SQLITE)
        .rule(&rule(condition))
        .stays(&stays.join(" "))
}

fn rule(condition: &str) -> String {
    serde_json::json!({ "where": condition }).to_string()
}

fn refused(condition: &str, words: &'static str) -> Case {
    Case::of(WORLD)
        .on_sqlite(ON_SQLITE)
        .rule(&rule(condition))
        .refused("InvalidWhere", words)
}

cases_everywhere! {
    equal: condition("status = 'open'", "1");
    not_equal_is_unknown_for_null: condition("status <> 'open'", "2 4 5 6 7");
    also_written_with_an_exclamation_mark: condition("status != 'open'", "2 4 5 6 7");
    less: condition("n < 1", "4 5");
    less_or_equal: condition("n <= 1", "1 4 5");
    greater: condition("n > 2", "6 7");
    greater_or_equal: condition("n >= 2", "2 6 7");
    texts_are_ordered_by_the_columns_collation: condition("status > 'a'", "1 2 5 7");

    and: condition("n > 0 AND status = 'open'", "1");
    and_with_unknown: condition("flag AND n > 0", "1 7");
    or: condition("n = 1 OR status = 'closed'", "1 2");
    or_with_unknown: condition("flag OR n > 0", "1 2 4 6 7");
    and_binds_tighter_than_or: condition("n = 2 OR n = 1 AND status = 'closed'", "2");
    parentheses: condition("(n = 2 OR n = 1) AND status = 'closed'", "2");
    not: condition("NOT (n > 0)", "4 5");
    not_binds_tighter_than_and: condition("NOT flag AND n = 2", "2");
    not_of_unknown_is_unknown: condition("NOT (status = 'open')", "2 4 5 6 7");
    a_boolean_column_alone: condition("flag", "1 4 7");
    a_quoted_column: condition(r#""Odd ""Name" = 'x'"#, "1");
    an_unquoted_name_is_lower_case: condition("STATUS = 'open'", "1");

    is_null: condition("status IS NULL", "3");
    is_true: condition("flag IS TRUE", "1 4 7");
    is_not_true: condition("flag IS NOT TRUE", "2 3 5 6");
    is_false: condition("flag IS FALSE", "2 5");
    is_not_false: condition("flag IS NOT FALSE", "1 3 4 6 7");
    is_unknown: condition("flag IS UNKNOWN", "3 6");
    is_not_unknown: condition("flag IS NOT UNKNOWN", "1 2 4 5 7");
    is_distinct_from: condition("status IS DISTINCT FROM 'open'", "2 3 4 5 6 7");
    is_not_distinct_from_null: condition("status IS NOT DISTINCT FROM NULL", "3");
    equal_to_null_is_never_true: condition("status = NULL", "");

    between: condition("n BETWEEN 0 AND 2", "1 2 5");
    not_between: condition("n NOT BETWEEN 0 AND 2", "4 6 7");
    between_the_wrong_way_round: condition("n BETWEEN 2 AND 0", "");
    one_of: condition("status IN ('open', 'closed')", "1 2");
    one_of_with_null: condition("n IN (1, NULL)", "1");
    none_of: condition("n NOT IN (1, 2)", "4 5 6 7");
    none_of_with_null_is_never_true: condition("n NOT IN (1, NULL)", "");
    one_of_another_columns_value: condition("n IN (amount, 7)", "1 2 6");
    like: condition("status LIKE '%open%'", "1");
    like_one_character: condition("status LIKE '_pen'", "1 4");
    like_with_the_usual_escape: condition(r"status LIKE '%5\%%'", "5");
    like_with_an_escape_of_ones_own: condition("status LIKE '%5!%%' ESCAPE '!'", "5");
    like_a_backslash: condition(r"status LIKE '%\\%'", "5");
    not_like: condition("status NOT LIKE '%open%'", "2 4 5 6 7");
    like_in_any_case: condition("status ILIKE 'OPEN'", "1 4");
    not_like_in_any_case: condition("status NOT ILIKE '%open%'", "2 5 6 7");

    addition: condition("n + 1 = 3", "2");
    subtraction: condition("n - 1 = 0", "1");
    subtraction_is_done_from_the_left: condition("10 - n - 1 = 7", "2");
    multiplication_before_addition: condition("1 + n * 2 = 5", "2");
    division_of_whole_numbers: condition("n / 2 = 1", "2");
    the_rest_of_a_division: condition("n % 2 = 1", "1 6");
    a_negative_number: condition("n = -3", "4");
    a_negated_column: condition("- n = 3", "4");
    joined_texts: condition("status || '!' = 'open!'", "1");
    joined_with_null_is_null: condition("status || code IS NULL", "3");

    lower: condition("lower(status) = 'open'", "1 4");
    upper: condition("upper(status) = 'CLOSED'", "2");
    length_in_characters: condition("length(status) = 5", "7");
    trim: condition("trim(status) = 'closed'", "2 6");
    trim_of_characters: condition("btrim(status, 'on') = 'pe'", "1");
    trim_written_out: condition("trim(both 'o' FROM status) = 'pen'", "1");
    left: condition("left(status, 2) = 'op'", "1");
    right: condition("right(status, 2) = 'en'", "1 4");
    abs: condition("abs(n) = 3", "4");
    coalesce: condition("coalesce(flag, true)", "1 3 4 6 7");
    coalesce_of_columns: condition("coalesce(n, amount, 0) = 0", "3 5");
    nullif: condition("nullif(status, 'open') IS NULL", "1 3");
    greatest: condition("greatest(n, 2) = 2", "1 2 3 4 5");
    least: condition("least(n, 2) = 1", "1");

    quotes_and_backslashes: condition(r"status = 'it''s 5% \ done_'", "5");
    other_scripts: condition("status = 'ÄÖÜ ☃'", "7");
    a_text_that_looks_like_sql: condition("status <> '''; DROP TABLE t; --'", "1 2 4 5 6 7");
    a_long_chain: condition(&vec!["n = 1"; 100].join(" OR "), "1");
    many_values: condition(
        &format!("n IN ({})", (1..150).map(|n| n.to_string()).collect::<Vec<_>>().join(", ")), "1 2 6 7");

    a_column_of_another_table: refused("other = 1", "no column `other`");
    no_column_at_all: refused("1 = 1", "uses no column");
}

cases! {
    left_without_the_last: condition("left(status, -1) = 'ope'", "1");
    numbers_with_decimals: condition("price = 10", "2");
    a_number_in_the_form_of_an_exponent: condition("price >= 1e20", "7");
    a_bigint_is_exact: condition("big = 9007199254740993", "1");
    not_a_number_equals_itself_and_is_the_greatest: condition("ratio > 1e300", "2 4");
    zero_equals_minus_zero: condition("ratio = 0", "5 6");
    a_domain_is_compared_as_what_it_is_made_of: condition("amount > 4", "6 7");
    an_enum_by_its_label: condition("mood = 'sad'", "1 5");
    an_enum_by_its_order: condition("mood > 'sad'", "2 4 7");
    a_uuid_in_any_spelling: condition("key = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12'", "2");
    a_uuid_literal: condition("key = UUID 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "1");
    bytes: condition("bytes = '\\x00'", "1");
    characters_are_padded: condition("code = 'ab  '", "1");

    a_name_in_another_case: refused(r#""Status" = 'open'"#, "case counts");

    is_not_null: condition("day IS NOT NULL", "1 2 4 5 7");
    json_null_is_not_null: condition("doc IS NULL", "3");

    a_member_of_json_as_text: condition("doc ->> 'a' = 'x'", "1");
    a_member_of_json_that_is_null: condition("doc ->> 'a' IS NULL", "2 3 5 6");
    a_member_of_json_as_json: condition("doc -> 'a' = '\"x\"'", "1");
    a_member_in_a_member: condition("doc -> 'a' -> 'b' ->> 0 = '1'", "4");
    a_member_of_unparsed_json: condition("raw ->> 'b' = '1'", "4");

    a_date: condition("day < DATE '2024-02-01'", "1 4 7");
    a_date_in_a_plain_text: condition("day = '2024-01-31'", "1");
    a_date_by_a_cast: condition("day = '2024-01-31'::date", "1");
    a_date_plus_days: condition("day + 1 = DATE '2024-02-01'", "1");
    an_instant: condition("seen = TIMESTAMPTZ '2024-01-31 14:00+02'", "1 2 5");
    a_local_time: condition("local >= TIMESTAMP '2024-01-31 12:00'", "1 2");
    an_interval: condition("wait = INTERVAL '1 day'", "1 5");
    an_instant_less_an_interval: condition("seen - INTERVAL '1 day' < TIMESTAMPTZ '2024-01-31 00:00+00'", "1 2 5");
    the_rules_own_column: condition("at < TIMESTAMPTZ '1999-01-01 00:00+00'", "");

    an_array_column: refused("tags = '{a}'", "only IS NULL and IS NOT NULL are allowed");
    whether_an_array_is_null: condition("tags IS NULL", "3 4 5 6 7");
    a_type_that_does_not_fit: refused("n = 'one'", "where does not fit table");
    two_types_that_do_not_fit: refused("status = 1", "operator does not exist");
    a_text_that_means_the_current_time: refused("seen < 'now'", "current time");
    division_by_zero_in_the_rows: Case::of(WORLD).rule(&rule("1 / n = 1")).failed("database", "division by zero");
}
