//! Tables, columns and archive tables that are not what a policy takes them for.

use serde_json::json;

use super::table::{By, Input, archived, in_rule};

/// Tables and columns that are not what the policy takes them for.
pub fn tables() -> Vec<Input> {
    use By::Status;
    vec![
        in_rule(
            Status,
            "table",
            json!({"table": "logz"}),
            "table logz does not exist: write [schema.]table exactly as the database spells it",
        ),
        in_rule(
            Status,
            "table-case",
            json!({"table": "Logs"}),
            "table Logs does not exist: write [schema.]table exactly as the database spells it",
        ),
        in_rule(
            Status,
            "table-quotes",
            json!({"table": "\"logs"}),
            r#"table: `"logs` opens a quote that is never closed: write `"a part"`, a quote inside it doubled"#,
        ),
        in_rule(
            Status,
            "table-and-more",
            json!({"table": "logs; DROP TABLE logs"}),
            "table logs; DROP TABLE logs does not exist: write [schema.]table exactly as the database spells it",
        ),
        in_rule(
            Status,
            "table-of-another-database",
            json!({"table": "postgres.public.logs"}),
            r#"table: `postgres.public.logs` has more than two parts: write `schema.table`, without the database; a part that holds a dot is quoted: `"postgres.public.logs"`"#,
        ),
        in_rule(
            Status,
            "schema",
            json!({"table": "shop.logs"}),
            "table shop.logs does not exist: write [schema.]table exactly as the database spells it",
        ),
        in_rule(
            Status,
            "view",
            json!({"table": "logs_view"}),
            "public.logs_view is a view: name a table",
        ),
        in_rule(
            Status,
            "materialized-view",
            json!({"table": "logs_copy"}),
            "public.logs_copy is a materialized view: name a table",
        ),
        in_rule(
            Status,
            "sequence",
            json!({"table": "numbers"}),
            "public.numbers is a sequence: name a table",
        ),
        in_rule(
            Status,
            "catalog-table",
            json!({"table": "pg_catalog.pg_class", "column": "relname"}),
            "pg_catalog.pg_class belongs to the database system, to an extension or to the operator: name a table of the service",
        ),
        in_rule(
            Status,
            "catalog-view",
            json!({"table": "pg_catalog.pg_stat_activity", "column": "query_start"}),
            "pg_catalog.pg_stat_activity is a view: name a table",
        ),
        in_rule(
            Status,
            "column",
            json!({"column": "happened"}),
            "public.logs has no column happened: its date and time columns are at",
        ),
        in_rule(
            Status,
            "column-expression",
            json!({"column": "at::date"}),
            "public.logs has no column at::date: its date and time columns are at",
        ),
        in_rule(
            Status,
            "column-of-the-system",
            json!({"column": "xmin"}),
            "public.logs has no column xmin: its date and time columns are at",
        ),
        in_rule(
            Status,
            "column-type",
            json!({"column": "note"}),
            "column note of public.logs is text: its unit or format is never guessed: state encoding: EpochSeconds, EpochMillis, EpochMicros, UuidV7, Ulid, Iso8601 or Compact14; or name one of its date and time columns: at",
        ),
        in_rule(
            Status,
            "encoding-missing",
            json!({"column": "n"}),
            "column n of public.logs is integer: its unit or format is never guessed: state encoding: EpochSeconds, EpochMillis, EpochMicros or Compact14; or name one of its date and time columns: at",
        ),
        in_rule(
            Status,
            "encoding-misfit",
            json!({"column": "n", "encoding": "Ulid"}),
            "column n of public.logs is integer: it cannot hold encoding Ulid: write EpochSeconds, EpochMillis, EpochMicros or Compact14",
        ),
        in_rule(
            Status,
            "encoding-of-times",
            json!({"encoding": "Iso8601"}),
            "column at of public.logs is timestamp with time zone: its values are times in themselves: remove encoding",
        ),
        in_rule(
            Status,
            "column-zone",
            json!({"columnTimeZone": "Europe/Berlin"}),
            "columnTimeZone does not apply: the values of at (timestamp with time zone) carry their instant; remove columnTimeZone",
        ),
        in_rule(
            Status,
            "column-zone-unknown",
            json!({"columnTimeZone": "Mars/Base"}),
            "columnTimeZone: there is no time zone `Mars/Base`: write an IANA name such as `Europe/Berlin` or `UTC`",
        ),
        in_rule(
            Status,
            "referred-to",
            json!({"table": "parent"}),
            "public.parent is referred to by public.child (child_parent_fkey, ON DELETE CASCADE, about 100 rows): write dependents: Skip to keep rows that are referred to, Cascade to take the referring rows along, or sweep those first",
        ),
        in_rule(
            Status,
            "may-not-read",
            json!({"table": "private"}),
            "the role may not SELECT on public.private: GRANT SELECT ON public.private TO the role, and USAGE on its schema",
        ),
        in_rule(
            Status,
            "may-not-delete",
            json!({"table": "readable"}),
            "the role may not DELETE on public.readable: GRANT DELETE ON public.readable TO the role, and USAGE on its schema",
        ),
        in_rule(
            Status,
            "secured",
            json!({"table": "secured"}),
            "row-level security hides rows of public.secured from the role: use the table's owner or a role with BYPASSRLS",
        ),
        in_rule(
            Status,
            "rewritten",
            json!({"table": "rewritten"}),
            "rule keep changes what a DELETE on public.rewritten does",
        ),
        archived(
            "archive-cannot-be-made",
            "old_logs",
            r#"archive table public.old_logs does not exist, and role "{role}" may not create it; run: GRANT USAGE, CREATE ON SCHEMA "public" TO "{role}""#,
        ),
        archived(
            "archive-in-no-schema",
            "nowhere.old_logs",
            r#"archive table nowhere.old_logs does not exist, and role "{role}" may not create it; run: CREATE SCHEMA "nowhere"; GRANT USAGE, CREATE ON SCHEMA "nowhere" TO "{role}""#,
        ),
        archived(
            "archive-of-the-system",
            "pg_catalog.old_logs",
            "archive table pg_catalog.old_logs is in a schema of the server or of the operator: name another one",
        ),
        archived(
            "archive-is-a-view",
            "logs_view",
            "archive table public.logs_view is a view: name a table",
        ),
        archived(
            "archive-lacks-columns",
            "narrow",
            r#"archive table public.narrow does not have the columns of public.logs; run: ALTER TABLE "public"."narrow" ADD COLUMN "note" text, ADD COLUMN "n" integer"#,
        ),
    ]
}
