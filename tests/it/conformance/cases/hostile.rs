//! Objects and settings that others made, which a sweep must not fall for.

use crate::conformance::case::Case;

/// Rows 1 (expired, open), 2 (expired, closed) and 3 (neither), in a database of whose search path somebody put `public`,
/// with `more` in it, first.
fn world(more: &str) -> Case {
    Case::of(&format!(
        "CREATE TABLE t (id int, at timestamptz, status text, doc jsonb);
         INSERT INTO t VALUES (1, {{old}}, 'open', '{{\"a\": 1}}'), (2, {{old}}, 'closed', '{{}}'), (3, {{new}}, 'open', '{{}}');
         {more};
         DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$"
    ))
    .own_database()
}

/// An operator of the same name and types as the system's, always true.
fn operator(name: &str, left: &str, right: &str) -> String {
    format!(
        "CREATE FUNCTION public.always({left}, {right}) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
         CREATE OPERATOR public.{name} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = public.always)"
    )
}

const OPEN: &str = "{where: \"status = 'open'\"}";

/// A setting of the database.
fn setting(setting: &str) -> Case {
    world(&format!(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {setting}', current_database()); END $$"
    ))
    .rule(OPEN)
    .stays("2 3")
}

cases! {
    a_less_than_of_ones_own: world(&operator("<", "timestamptz", "timestamptz")).stays("3");
    an_equals_of_ones_own: world(&operator("=", "text", "text")).rule(OPEN).stays("2 3");
    an_arrow_of_ones_own: world("CREATE FUNCTION public.arrow(jsonb, text) RETURNS text LANGUAGE sql IMMUTABLE AS $f$ SELECT '1' $f$;
        CREATE OPERATOR public.->> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = public.arrow)").rule("{where: \"doc ->> 'a' = '1'\"}").stays("2 3");
    an_and_of_like_of_ones_own: world(&operator("~~", "text", "text")).rule("{where: \"status LIKE 'op%'\"}").stays("2 3");
    a_function_of_ones_own: world("CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS $f$ SELECT 'open' $f$")
        .rule("{where: \"lower(status) = 'open'\"}").stays("2 3");
    a_function_for_an_exact_type: world("CREATE FUNCTION public.length(text) RETURNS int LANGUAGE sql IMMUTABLE AS $f$ SELECT 4 $f$")
        .rule("{where: length(status) = 4}").stays("2 3");
    a_function_that_is_not_allowed: world("CREATE FUNCTION public.harmless(text) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN DELETE FROM t; RETURN true; END $f$")
        .rule("{where: harmless(status)}").refused("InvalidWhere", "harmless");
    a_type_of_the_systems_name: world("CREATE DOMAIN public.timestamptz AS pg_catalog.timestamptz CHECK (VALUE IS NULL); CREATE TYPE public.tid AS (a int)").stays("3");
    a_table_of_a_catalogs_name: world("CREATE TABLE public.pg_class (oid oid, relname name, relnamespace oid, relkind \"char\"); CREATE TABLE public.pg_inherits (inhrelid oid, inhparent oid)")
        .stays("3");
    a_function_of_a_catalog_functions_name: world("CREATE FUNCTION public.pg_relation_size(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint';
        CREATE FUNCTION public.pg_try_advisory_xact_lock(bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE sql AS $f$ SELECT '0' $f$").stays("3");
    a_type_with_operators_of_its_own: world("CREATE EXTENSION citext; ALTER TABLE t ADD word citext DEFAULT 'open'").rule("{where: \"word = 'open'\"}")
        .refused("InvalidWhere", "only IS NULL and IS NOT NULL are allowed");
    whether_a_value_of_such_a_type_is_null: world("CREATE EXTENSION citext; ALTER TABLE t ADD word citext, ADD list int[]; UPDATE t SET word = 'x' WHERE id = 1")
        .rule("{where: word IS NOT NULL AND list IS NULL}").hold("{where: list IS NOT NULL}").stays("2 3");
    whether_a_value_with_fields_is_null: world("CREATE TYPE address AS (street text, city text); ALTER TABLE t ADD address address; UPDATE t SET address = ('Main St', NULL)")
        .rule("{where: address IS NOT NULL}").refused("InvalidWhere", "IS NOT NULL asks for each field");
    a_hold_on_whether_a_value_with_fields_is_null: world("CREATE TYPE address AS (street text, city text); ALTER TABLE t ADD address address; UPDATE t SET address = ('Main St', NULL)")
        .hold("{where: address IS NOT NULL}").refused("HoldUnresolved", "IS NOT NULL asks for each field");
    a_hold_on_whether_a_domain_over_such_a_type_is_null: world("CREATE TYPE pair AS (a int, b int); CREATE DOMAIN inner_one AS pair; CREATE DOMAIN outer_one AS inner_one;
        ALTER TABLE t ADD home outer_one; UPDATE t SET home = (1, NULL)")
        .hold("{where: NOT (home IS NULL)}").refused("HoldUnresolved", "IS NOT NULL asks for each field").since(11);
    a_hold_on_whether_a_row_of_a_table_is_null: world("CREATE TABLE other (a int, b int); ALTER TABLE t ADD was other; UPDATE t SET was = (1, NULL)")
        .hold("{where: was IS NOT NULL}").refused("HoldUnresolved", "IS NOT NULL asks for each field");
    whether_an_array_of_such_values_is_null: world("CREATE TYPE pair AS (a int, b int); ALTER TABLE t ADD pairs pair[]; UPDATE t SET pairs = ARRAY[ROW(1, NULL)::pair] WHERE id = 1")
        .hold("{where: pairs IS NOT NULL}").stays("1 3");
    a_column_that_sounds_like_a_keyword: world("ALTER TABLE t ADD \"user\" text DEFAULT 'me'; ALTER TABLE t ADD \"current_user\" text DEFAULT 'nobody'")
        .rule("{where: '\"current_user\" = ''nobody'' AND \"user\" = ''me'' AND id = 1'}").stays("2 3");
    row_security_that_is_off: setting("row_security = off");
    backslashes_that_escape: setting("standard_conforming_strings = off");
    null_that_equals_null: world("INSERT INTO t VALUES (4, {old})").setup_then("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET transform_null_equals = on', current_database()); END $$")
        .rule("{where: status = NULL}").stays("1 2 3 4");
    tid_scans_that_are_off: setting("enable_tidscan = off");
    transactions_that_are_serializable: setting("default_transaction_isolation = serializable");
    transactions_that_are_deferrable: setting("default_transaction_deferrable = on");
    commits_that_are_asynchronous: setting("synchronous_commit = off");
    triggers_that_are_off: setting("session_replication_role = replica");
    a_database_that_is_read_only: world("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$")
        .failed("read_only", "");
}
