//! Times that numbers and texts hold.

use crate::conformance::case::Case;

/// Rows `old` and `new`, as `encode` writes the time `at`, one without a value, and `odd` ones that are not of the encoding.
fn encoded(encoding: &str, kind: &str, encode: &str, odd: &[&str]) -> Case {
    let rows = |encode: &str| {
        let value = |at: &str| encode.replace("at", at);
        vec![
            format!("('old', {})", value("{old}")),
            format!("('new', {})", value("{new}")),
            "('null', NULL)".to_owned(),
        ]
    };
    let (mut rows, mut rows_of_sqlite) = (rows(encode), rows(&of_sqlite(encode)));
    let mut stays = String::from("new null");
    for (n, odd) in odd.iter().enumerate() {
        for rows in [&mut rows, &mut rows_of_sqlite] {
            rows.push(format!("('odd{n}', {odd})"));
        }
        stays.push_str(&format!(" odd{n}"));
    }
    Case::of(&format!(
        "{ULID}; CREATE TABLE t (id text, at {kind}); INSERT INTO t VALUES {}",
        rows.join(", ")
    ))
    .on_sqlite(&format!(
        "CREATE TABLE t (id text, at {kind}); INSERT INTO t VALUES {}",
        rows_of_sqlite.join(", ")
    ))
    .rule(&format!("{{encoding: {encoding}}}"))
    .stays(&stays)
    .unreadable(odd.len().try_into().unwrap())
}

/// How SQLite encodes the time `at`, which is a text of ISO 8601 there. (The word stands for the time and is in no function's name.)
fn of_sqlite(encode: &str) -> String {
    match encode {
        SECONDS => "CAST(strftime('%s', at) AS integer)",
        SECONDS_AS_TEXT => "strftime('%s', at)",
        MILLIS => "CAST(strftime('%s', at) AS integer) * 1000",
        MICROS => "CAST(strftime('%s', at) AS integer) * 1000000",
        COMPACT => "strftime('%Y%m%d%H%M%S', at)",
        COMPACT_AS_NUMBER => "CAST(strftime('%Y%m%d%H%M%S', at) AS integer)",
        _ => "at",
    }
    .to_owned()
}

const ULID: &str = "CREATE FUNCTION ulid(moment timestamptz) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((floor(extract(epoch FROM moment) * 1000)::bigint >> (5 * place)) & 31)::int + 1, 1), ''
        ORDER BY place DESC) || '0000000000000000' FROM generate_series(0, 9) AS place $$";

const SECONDS: &str = "floor(extract(epoch FROM at))::bigint";
const SECONDS_AS_TEXT: &str = "floor(extract(epoch FROM at))::text";
const MILLIS: &str = "floor(extract(epoch FROM at) * 1000)::bigint";
const MICROS: &str = "floor(extract(epoch FROM at) * 1000000)::bigint";
const UUID: &str = "(lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7abc8def0123456789ab')::uuid";
const ISO: &str = "to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";
const COMPACT: &str = "to_char(at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS')";
const COMPACT_AS_NUMBER: &str = "to_char(at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS')::bigint";

/// Numbers one below, at and one above the cutoff that the sweep took.
fn at_the_cutoff(encoding: &str, units: &str) -> Case {
    Case::of("CREATE TABLE t (id text, at bigint)")
        .rule(&format!("{{encoding: {encoding}}}"))
        .meanwhile(&format!(
            "INSERT INTO t SELECT name, ceil(extract(epoch FROM '{{cutoff}}'::timestamptz) * {units})::bigint + step
             FROM (VALUES ('before', -1), ('at', 0), ('after', 1)) v(name, step)"
        ))
        .reported(1, 0, 0)
        .stays("after at")
}

/// Local texts west of Greenwich, as in the cases of local times.
fn local(encoding: &str, format: &str) -> Case {
    let text = |hours: u32, zone: &str| {
        format!("to_char((now() - interval '{hours} hours') AT TIME ZONE '{zone}', '{format}')")
    };
    Case::of(&format!(
        "CREATE TABLE t (id text, at text); INSERT INTO t VALUES ('older', {}), ('younger', {}), ('younger_if_it_were_utc', {})",
        text(367, "America/Los_Angeles"),
        text(353, "America/Los_Angeles"),
        text(361, "UTC")
    ))
    .rule(&format!("{{encoding: {encoding}, expireAfter: 360h, columnTimeZone: America/Los_Angeles}}"))
    .stays("younger younger_if_it_were_utc")
}

/// Rows `old` and `new` whose unit is another one than is stated.
fn misread(encoding: &str, encode: &str) -> Case {
    let rows = |encode: &str| {
        let (old, new) = (encode.replace("at", "{old}"), encode.replace("at", "{new}"));
        format!(
            "CREATE TABLE t (id text, at bigint); INSERT INTO t VALUES ('old', {old}), ('new', {new}), ('zero', 0)"
        )
    };
    Case::of(&rows(encode))
        .on_sqlite(&rows(&of_sqlite(encode)))
        .rule(&format!("{{encoding: {encoding}}}"))
        .stays("new old zero")
}

/// All of them would have expired.
fn wrong_unit(encoding: &str, encode: &str) -> Case {
    misread(encoding, encode).limited("is a time before 1980")
}

/// None of them ever expires.
fn too_late(encoding: &str, encode: &str) -> Case {
    misread(encoding, encode).reported(0, 0, 0)
}

fn refused(kind: &str, encoding: &str, reason: &'static str, words: &'static str) -> Case {
    Case::of(&format!(
        "CREATE TABLE t (id int, at {kind}); INSERT INTO t (id) VALUES (1)"
    ))
    .rule(&format!("{{encoding: {encoding}}}"))
    .refused(reason, words)
}

cases_everywhere! {
    seconds: encoded("EpochSeconds", "bigint", SECONDS, &["0", "-1", "-9223372036854775808"]);
    seconds_in_few_bits: encoded("EpochSeconds", "int", SECONDS, &["0", "-1"]);
    seconds_as_text: encoded("EpochSeconds", "text", SECONDS_AS_TEXT, &["''", "'soon'", "'-1'", "'12 34'"]);
    milliseconds: encoded("EpochMillis", "bigint", MILLIS, &["0", "-1"]);
    microseconds: encoded("EpochMicros", "bigint", MICROS, &["0", "-1"]);
    seconds_are_not_taken_for_milliseconds: encoded("EpochMillis", "bigint", MILLIS, &[])
        .setup_then("INSERT INTO t VALUES ('seconds', 1700000000)").stays("new old null seconds").limited("the first weeks of 1970");
    milliseconds_are_not_taken_for_microseconds: encoded("EpochMicros", "bigint", MICROS, &[])
        .setup_then("INSERT INTO t VALUES ('milliseconds', 1700000000000)").stays("new old null milliseconds").limited("the first weeks of 1970");
    seconds_are_not_taken_for_microseconds: encoded("EpochMicros", "bigint", MICROS, &[])
        .setup_then("INSERT INTO t VALUES ('seconds', 1700000000)").stays("new old null seconds").limited("the first weeks of 1970");
    a_hold_on_seconds_leaves_nothing_to_doubt: encoded("EpochMillis", "bigint", MILLIS, &[])
        .setup_then("INSERT INTO t VALUES ('seconds', 1700000000)").hold("{where: \"id = 'seconds'\"}").stays("new null seconds");

    seconds_that_are_stated_as_milliseconds: wrong_unit("EpochMillis", SECONDS);
    milliseconds_that_are_stated_as_microseconds: wrong_unit("EpochMicros", MILLIS);
    milliseconds_that_are_stated_as_seconds: too_late("EpochSeconds", MILLIS);
    times_of_long_ago_beside_others: encoded("EpochSeconds", "bigint", SECONDS, &[]).setup_then("INSERT INTO t VALUES ('ancient', 1)").stays("new null");

    iso_texts_in_utc: encoded("Iso8601", "text", ISO, &["''", "'yesterday'", "'20200101T000000Z'"]);
    fourteen_digits: encoded("Compact14", "text", COMPACT, &["''", "'2020'", "'2020010100000x'", "'202001010000000'"]);
    fourteen_digits_in_a_number: encoded("Compact14", "bigint", COMPACT_AS_NUMBER, &["0", "2020", "-20200101000000"]);

    a_where_and_a_hold_on_encoded_rows: encoded("EpochSeconds", "bigint", SECONDS, &[])
        .setup_then("INSERT INTO t VALUES ('held', 1), ('kept', 1)").rule_is("{where: \"id <> 'kept'\"}")
        .hold("{where: \"id = 'held'\"}").stays("new null held kept");
}

cases! {
    seconds_with_a_fraction: encoded("EpochSeconds", "numeric", "extract(epoch FROM at)", &["0", "-0.5", "'NaN'"]);
    seconds_in_floating_point: encoded("EpochSeconds", "float8", "extract(epoch FROM at)", &["0", "'NaN'", "'-Infinity'"]);
    a_second_before_the_cutoff: at_the_cutoff("EpochSeconds", "1");
    a_millisecond_before_the_cutoff: at_the_cutoff("EpochMillis", "1000");
    a_microsecond_before_the_cutoff: at_the_cutoff("EpochMicros", "1000000");

    uuids_of_version_7: encoded("UuidV7", "uuid", UUID, &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'00000000-0000-0000-0000-000000000000'"]);
    uuids_of_version_7_as_text: encoded("UuidV7", "text", &format!("{UUID}::text"), &["''", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'no uuid'"]);
    a_key_that_is_its_own_time: Case::of(&format!("CREATE TABLE t (id text, at uuid PRIMARY KEY); INSERT INTO t VALUES ('old', {}), ('new', {})",
        UUID.replace("at", "{old}"), UUID.replace("at", "{new}"))).rule("{encoding: UuidV7}").stays("new").unreadable(0);
    ulids: encoded("Ulid", "text", "ulid(at)", &["''", "'no ulid'", "'01ARZ3NDEKTSV4RRFFQ69G5FAVX'", "'8ZZZZZZZZZZZZZZZZZZZZZZZZZ'"]);
    ulids_in_fixed_width: encoded("Ulid", "char(26)", "ulid(at)", &["''"]);

    iso_texts_with_an_offset: encoded("Iso8601", "text",
        "to_char(at AT TIME ZONE 'UTC' + interval '5 hours 30 minutes', 'YYYY-MM-DD\"T\"HH24:MI:SS\"+05:30\"')", &["'2020-01-01T00:00:00+99:00'"]);
    iso_texts_with_a_blank_and_a_fraction: encoded("Iso8601", "varchar(40)", "to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS')", &[]);
    iso_texts_without_a_zone: local("Iso8601", "YYYY-MM-DD\"T\"HH24:MI:SS");
    fourteen_digits_without_a_zone: local("Compact14", "YYYYMMDDHH24MISS");
    a_collation_of_ones_own: encoded("Compact14", "text COLLATE \"pg_unicode_fast\"", COMPACT, &["'2020'"]).since(18);

    partitions_by_an_encoded_time: Case::of(&format!("CREATE TABLE t (id text, at bigint) PARTITION BY RANGE (at);
        CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (MINVALUE) TO (1000000); CREATE TABLE t_rest PARTITION OF t DEFAULT;
        INSERT INTO t VALUES ('zero', 0), ('ancient', 999999), ('old', {}), ('new', {}), ('null', NULL)", SECONDS.replace("at", "{old}"), SECONDS.replace("at", "{new}")))
        .rule("{encoding: EpochSeconds}").stays("new null zero").unreadable(1);

    an_encoding_of_a_column_with_a_time_type: refused("timestamptz", "EpochSeconds", "ColumnType", "encoding");
    an_encoding_of_a_boolean: refused("boolean", "EpochSeconds", "ColumnType", "boolean");
    an_encoding_of_texts_for_a_number: refused("bigint", "Iso8601", "ColumnType", "Iso8601");
    an_encoding_of_uuids_for_a_number: refused("bigint", "UuidV7", "ColumnType", "UuidV7");
}
