//! What a `where` may not hold: nothing of it ever reaches the database, or only to be named.

use serde_json::json;

use super::table::{By, Input, filter, hold, input, spec};

/// What a `where` may not hold: nothing of it ever reaches the database, or only to be named.
pub fn expressions() -> Vec<Input> {
    vec![
        filter(
            "where-syntax",
            "note = = 'x'",
            "where: the expression cannot be read: Expected: an expression, found: =",
        ),
        filter(
            "where-column",
            "nosuch = 1",
            "where: public.logs has no column `nosuch`; its columns: note, n, at, id",
        ),
        filter(
            "where-of-another-table",
            "parent = 1",
            "where: public.logs has no column `parent`; its columns: at, n, note, id",
        ),
        filter(
            "where-by-another-table",
            "parent.id = 1",
            "where: `parent.id`: write the column's name alone",
        ),
        filter(
            "where-type",
            "n = 'abc'",
            r#"where does not fit table public.logs: invalid input syntax for type integer: "abc""#,
        ),
        filter(
            "where-not-boolean",
            "n + 1",
            "where: a calculated value is neither true nor false: compare it with something",
        ),
        filter(
            "where-everything",
            "true",
            "where: the expression uses no column, so it holds for every row or for none: leave `where` out",
        ),
        filter(
            "where-subquery",
            "id IN (SELECT id FROM parent)",
            "where: `id IN (SELECT id FROM parent)`: subqueries are not allowed: a rule sees the columns of its own table only",
        ),
        filter(
            "where-exists",
            "EXISTS (SELECT 1 FROM logs_view)",
            "where: `EXISTS (SELECT 1 FROM logs_view)`: subqueries are not allowed: a rule sees the columns of its own table only",
        ),
        filter(
            "where-scalar-subquery",
            "id = (SELECT max(oid)::int FROM pg_class)",
            "where: `(SELECT max(oid)::INT FROM pg_class)`: subqueries are not allowed: a rule sees the columns of its own table only",
        ),
        filter(
            "where-statement",
            "true; DROP TABLE logs",
            "where: `;` is not allowed: write one expression",
        ),
        filter(
            "where-closing",
            "n = 1) OR (true",
            "where: the expression should end before `)`: join parts with AND or OR",
        ),
        filter(
            "where-line-comment",
            "n = 1 -- AND note = 'x'",
            "where: comments are not allowed in an expression",
        ),
        filter(
            "where-block-comment",
            "n = 1 /* OR true */",
            "where: comments are not allowed in an expression",
        ),
        filter(
            "where-volatile-function",
            "pg_sleep(10) IS NULL",
            "where: the function `pg_sleep` is not allowed; allowed are lower, upper, length, trim, left, right, abs, coalesce, nullif, greatest, least",
        ),
        filter(
            "where-random",
            "random() < 0.5",
            "where: `random()` is not allowed: its value changes; use `expireAfter` for ages",
        ),
        filter(
            "where-sequence",
            "nextval('numbers') > 0",
            "where: `nextval()` is not allowed: its value changes; use `expireAfter` for ages",
        ),
        filter(
            "where-stable-function",
            "at < now()",
            "where: `now()` is not allowed: its value changes; use `expireAfter` for ages",
        ),
        filter(
            "where-clock",
            "at < current_timestamp",
            r#"where: `current_timestamp` is not allowed: its value changes; use `expireAfter` for ages (a column of that name is written "current_timestamp")"#,
        ),
        filter(
            "where-word-for-now",
            "at < 'now'",
            "where: the text 'now' beside a date or time can mean the current time (`now`): write the date itself, and use `expireAfter` for ages",
        ),
        filter(
            "where-unknown-function",
            "nosuch(n)",
            "where: the function `nosuch` is not allowed; allowed are lower, upper, length, trim, left, right, abs, coalesce, nullif, greatest, least",
        ),
        filter(
            "where-own-function",
            "touch(n)",
            "where: the function `touch` is not allowed; allowed are lower, upper, length, trim, left, right, abs, coalesce, nullif, greatest, least",
        ),
        filter(
            "where-qualified-function",
            "public.touch(n)",
            "where: `public.touch`: functions are written without a schema; allowed are lower, upper, length, trim, left, right, abs, coalesce, nullif, greatest, least",
        ),
        filter(
            "where-catalog-function",
            "pg_catalog.pg_cancel_backend(n)",
            "where: `pg_catalog.pg_cancel_backend`: functions are written without a schema; allowed are lower, upper, length, trim, left, right, abs, coalesce, nullif, greatest, least",
        ),
        filter(
            "where-aggregate",
            "count(*) > 1",
            "where: the function `count` is not allowed; allowed are lower, upper, length, trim, left, right, abs, coalesce, nullif, greatest, least",
        ),
        filter(
            "where-user",
            "note = current_user",
            r#"where: `current_user` is not allowed: its value changes; use `expireAfter` for ages (a column of that name is written "current_user")"#,
        ),
        filter(
            "where-system-column",
            "xmin = 1",
            "where: `xmin` is a column of the database system: only the table's own columns are allowed",
        ),
        filter(
            "where-cast",
            "note::regclass = 'logs'",
            "where: the cast of `note` to REGCLASS is not allowed: only a text literal may be cast, such as '2024-01-31'::date",
        ),
        filter(
            "where-parameter",
            "n = $1",
            "where: `$1`: placeholders are not allowed, write the value itself",
        ),
        filter(
            "where-dollar-quotes",
            "note = $$x$$",
            "where: dollar quotes are not allowed: write the text in single quotes, a quote inside it doubled",
        ),
        filter(
            "where-escapes",
            "note = E'\\x27'",
            "where: escapes (E'…', U&'…') are not allowed: write the text in plain single quotes, with the characters themselves",
        ),
        filter(
            "where-operator",
            "note OPERATOR(pg_catalog.~) 'x'",
            "where: the operator `~` is not allowed; allowed are = <> < <= > >= + - * / % || -> ->> (separate operators with blanks)",
        ),
        filter(
            "where-regular-expression",
            "note ~ '(a+)+$'",
            "where: the operator `~` is not allowed; allowed are = <> < <= > >= + - * / % || -> ->> (separate operators with blanks)",
        ),
        filter(
            "where-collation",
            "note COLLATE \"C\" = 'x'",
            r#"where: `note COLLATE "C"`: COLLATE is not allowed: the column's own collation applies"#,
        ),
        filter(
            "where-case",
            "CASE WHEN n = 1 THEN true END",
            "where: `CASE WHEN n = 1 THEN true END`: CASE is not allowed: write it with AND and OR",
        ),
        filter(
            "where-array",
            "n = ANY (ARRAY[1, 2])",
            "where: arrays and brackets are not allowed; use `IN (a, b)` for several values",
        ),
        filter(
            "where-deep",
            &format!("{}n = 1{}", "(".repeat(40), ")".repeat(40)),
            "where: the expression is nested deeper than 32 levels",
        ),
        hold(
            "hold-table",
            json!({"table": "logz"}),
            "hold case-1: table logz does not exist; until the hold can be resolved no rule is swept",
        ),
        hold(
            "hold-on-a-view",
            json!({"table": "logs_view"}),
            "hold case-1: logs_view is no table: name the table whose rows must stay; until then no rule is swept",
        ),
        hold(
            "hold-column",
            json!({"where": "nosuch = 1"}),
            "hold case-1: where: public.logs has no column `nosuch`; its columns: note, n, at, id",
        ),
        // A hold binds every policy on its database: one that only the server can judge is alone on another one.
        input(
            By::Address("apart"),
            "hold-type",
            spec(
                json!({}),
                json!({
                    "database": {"secretRef": {"name": "apart"}},
                    "holds": [{"name": "case-1", "table": "logs", "where": "n = 'abc'"}],
                }),
            ),
            r#"the where of hold 1 does not fit table public.logs: invalid input syntax for type integer: "abc""#,
        ),
        hold(
            "hold-subquery",
            json!({"where": "id IN (SELECT id FROM parent)"}),
            "hold case-1: where: `id IN (SELECT id FROM parent)`: subqueries are not allowed: a rule sees the columns of its own table only; until it can be read no rule is swept",
        ),
        hold(
            "hold-statement",
            json!({"where": "true; DELETE FROM logs"}),
            "hold case-1: where: `;` is not allowed: write one expression; until it can be read no rule is swept",
        ),
    ]
}
