//! The tables that real services have: keys or none, odd names, odd columns, rows in odd places.

use crate::conformance::case::Case;

/// Two rows that have expired and one that has not, in a table with more columns; the numbers are not unique.
fn table(columns: &str) -> Case {
    Case::of(&format!(
        "CREATE TABLE t (id int, at timestamptz{columns});
         INSERT INTO t (id, at) VALUES (1, {{old}}), (2, {{old}}), (3, {{new}})"
    ))
    .stays("3")
}

/// The same in a table of another name, with the column `at` under another name.
fn named(name: &str, column: &str) -> Case {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let rule = serde_json::json!({"table": quoted(name), "column": column});
    // Stated, for the system's own schema would come first.
    let (name, column) = (format!("{{schema}}.{}", quoted(name)), quoted(column));
    Case::of(&format!(
        "CREATE TABLE {name} (id int, {column} timestamptz);
         INSERT INTO {name} VALUES (1, {{old}}), (2, {{old}}), (3, {{new}})"
    ))
    .rule(&rule.to_string())
    .rows(&format!("SELECT CAST(id AS text) FROM {name}"))
    .stays("3")
}

cases_everywhere! {
    no_key: table("");
    a_primary_key: table(", PRIMARY KEY (id)");
    a_primary_key_of_two_columns_that_holds_the_time: table(", PRIMARY KEY (at, id)");
    a_unique_key_with_nulls: table(", code text UNIQUE");
    a_partial_unique_key: table("").setup_then("CREATE UNIQUE INDEX other ON t (id) WHERE id > 1");
    a_unique_key_on_an_expression: table("").setup_then("CREATE UNIQUE INDEX other ON t ((id * 2))");

    a_stored_generated_column: table(", twice int GENERATED ALWAYS AS (id * 2) STORED").rule("{where: twice <> 2}").stays("1 3");
    many_columns: table(&(0..400).map(|n| format!(", c{n} int")).collect::<String>());
    one_column_only: Case::of("CREATE TABLE t (at timestamptz); INSERT INTO t VALUES ({old}), ({new})")
        .rows("SELECT CAST(count(*) AS text) FROM t").stays("1").reported(1, 0, 0);

    expired_rows_behind_many_live_ones: Case::of("CREATE TABLE t (id int, at timestamptz, pad text);
        INSERT INTO t WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 22000)
            SELECT n, CASE WHEN n <= 20000 THEN {new} ELSE {old} END, 'fifty letters, or almost as many, are what this is' FROM s")
        .rows("SELECT CAST(count(*) AS text) FROM t").stays("20000").reported(2000, 0, 0);
    an_empty_table: Case::of("CREATE TABLE t (id int, at timestamptz)").stays("");
    a_table_emptied_by_the_sweep: Case::of("CREATE TABLE t (id int, at timestamptz); INSERT INTO t VALUES (1, {old})").stays("");
    nothing_has_expired: Case::of("CREATE TABLE t (id int, at timestamptz); INSERT INTO t VALUES (3, {new})").stays("3").reported(0, 0, 0);
    two_tables: table("").setup_then("CREATE TABLE u AS SELECT * FROM t").rows("SELECT 't' || id FROM t UNION ALL SELECT 'u' || id FROM u")
        .rule("{}").reported(2, 0, 0).rule("{table: u, where: id = 1}").reported(1, 0, 0).stays("t3 u2 u3");

    a_name_with_capitals: named("Orders", "At");
    a_name_that_is_a_keyword: named("select", "from");
    a_name_with_quotes_and_blanks: named("odd \"name\" of a 'table'", "the \"time\"");
    a_name_with_a_dot: named("a.b", "c.d");
    a_name_in_another_script: named("Größe_表_🐘", "время");
    a_name_that_looks_like_sql: named("t; DROP TABLE t; --", "at\") < now() OR (1=1) --");
    a_name_with_a_backslash: named(r"back\slash", r"at\'");
    a_name_with_percent_and_dollar_signs: named("100% $1 $$ %I", "$1");
    a_name_of_sixty_three_bytes: named(&"x".repeat(63), &"y".repeat(63));
    a_name_like_a_catalogs: named("pg_class", "relname");
    a_name_with_a_line_break: named("two\nlines", "at\tab");
    a_name_of_one_blank: named(" ", "at");
}

cases! {
    rows_that_are_alike: Case::of("CREATE TABLE t (id int, at timestamptz);
        INSERT INTO t SELECT 1, {old} FROM generate_series(1, 500); INSERT INTO t SELECT 3, {new} FROM generate_series(1, 3)")
        .stays("3 3 3").reported(500, 0, 0);
    a_deferrable_key: table(", UNIQUE (id) DEFERRABLE INITIALLY DEFERRED");
    an_exclusion_constraint: table(", during tstzrange, EXCLUDE USING gist (during WITH &&)");
    indexes_of_every_kind: table(", doc jsonb, place point, words tsvector").setup_then(
        "CREATE INDEX ON t (at); CREATE INDEX ON t USING brin (at); CREATE INDEX ON t USING hash (id); CREATE INDEX ON t USING gin (doc);
         CREATE INDEX ON t USING gist (place); CREATE INDEX ON t USING spgist (place); CREATE INDEX ON t USING gin (words)");
    an_index_that_failed_to_build: table("").setup_then("CREATE INDEX broken ON t (at);
        UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass");
    a_clustered_table: table(", PRIMARY KEY (id)").setup_then("CLUSTER t USING t_pkey");

    a_virtual_generated_column: table(", twice int GENERATED ALWAYS AS (id * 2) VIRTUAL").rule("{where: twice <> 2}").stays("1 3")
        .since(18);
    a_generated_time: Case::of("CREATE TABLE t (id int, made timestamp, at timestamp GENERATED ALWAYS AS (made + interval '1 day') STORED);
        INSERT INTO t (id, made) VALUES (1, {old}), (3, {new})").stays("3");
    an_identity_column: table(", n bigint GENERATED ALWAYS AS IDENTITY");
    a_default_that_fails: table(", n int DEFAULT (1)").setup_then("ALTER TABLE t ALTER n SET DEFAULT 1 / 0");
    dropped_and_added_columns: Case::of("CREATE TABLE t (gone int, id int, at timestamptz, also_gone text, at2 timestamptz);
        INSERT INTO t VALUES (0, 1, {old}, 'x', {new}), (0, 3, {new}, 'x', {old});
        ALTER TABLE t DROP gone, DROP also_gone, ADD later int DEFAULT 7; INSERT INTO t VALUES (2, {old}, {new}, 8)")
        .rule("{where: later = 7}").stays("2 3");
    enums_arrays_composites_and_ranges: table(", mood mood[] DEFAULT '{}', pair pair, spans int4multirange, addr inet DEFAULT '::1'")
        .setup_first("CREATE TYPE mood AS ENUM ('ok'); CREATE TYPE pair AS (a int, b text)");
    a_table_of_a_type: Case::of("CREATE TYPE shape AS (id int, at timestamptz); CREATE TABLE t OF shape;
        INSERT INTO t VALUES (1, {old}), (3, {new})").stays("3");

    large_values_out_of_line: Case::of("CREATE TABLE t (id int, at timestamptz, doc text);
        ALTER TABLE t ALTER doc SET STORAGE EXTERNAL;
        INSERT INTO t SELECT n, CASE WHEN n % 2 = 0 THEN {old} ELSE {new} END, repeat(md5(n::text), 1000) FROM generate_series(1, 60) n")
        .rows("SELECT count(*) || '-' || sum(length(doc)) FROM t WHERE id % 2 = 1").stays("30-960000").reported(30, 0, 0);
    large_objects_by_number: table(", loid oid").setup_then("UPDATE t SET loid = lo_create(0) WHERE id = 1");
    an_unlogged_table: Case::of("CREATE UNLOGGED TABLE t (id int, at timestamptz); INSERT INTO t VALUES (1, {old}), (3, {new})").stays("3");
    pages_that_are_half_empty: Case::of("CREATE TABLE t (id int, at timestamptz) WITH (fillfactor = 10);
        INSERT INTO t SELECT n, CASE WHEN n > 900 THEN {new} ELSE {old} END FROM generate_series(1, 901) n").stays("901");
    rows_moved_by_updates: Case::of("CREATE TABLE t (id int, at timestamptz, pad text);
        INSERT INTO t SELECT n, {new}, 'x' FROM generate_series(1, 400) n; UPDATE t SET pad = repeat('y', 900);
        UPDATE t SET at = {old} WHERE id <= 399").stays("400").reported(399, 0, 0);
    empty_pages_between_rows: Case::of("CREATE TABLE t (id int, at timestamptz, pad text);
        INSERT INTO t SELECT n, {old}, repeat('x', 500) FROM generate_series(1, 3000) n;
        DELETE FROM t WHERE id % 1000 <> 0").meanwhile("VACUUM t").reported(3, 0, 0).stays("");
}
