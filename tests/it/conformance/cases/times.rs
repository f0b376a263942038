//! What has expired: types of time, ages, zones, and the values at the edges.

use crate::conformance::case::Case;

/// Rows by name with an `at` of a type.
fn rows(kind: &str, rows: &[(&str, &str)]) -> String {
    let values: Vec<String> = rows
        .iter()
        .map(|(name, at)| format!("('{name}', {at})"))
        .collect();
    let values = values.join(", ");
    format!("{}; INSERT INTO t VALUES {values}", empty(kind))
}

fn empty(kind: &str) -> String {
    format!("CREATE TABLE t (id text, at {kind})")
}

/// Values that every type of time has.
fn edges(kind: &str) -> Case {
    Case::of(&rows(
        kind,
        &[
            ("old", "{old}"),
            ("new", "{new}"),
            ("null", "NULL"),
            ("never", "'infinity'"),
            ("always", "'-infinity'"),
            ("ancient", "'4000-01-01 BC'"),
            ("far", "'5000-01-01'"),
        ],
    ))
    .stays("far new null never")
}

/// Rows around the cutoff that the sweep itself took.
fn around_the_cutoff(kind: &str, step: &str) -> Case {
    Case::of(&empty(kind))
        .meanwhile(&format!(
            "INSERT INTO t VALUES ('before', '{{cutoff}}'::{kind} - {step}), ('at', '{{cutoff}}'::{kind}), ('after', '{{cutoff}}'::{kind} + {step})"
        ))
        .stays("after at")
        .reported(1, 0, 0)
}

cases! {
    timestamptz: edges("timestamptz");
    timestamp: edges("timestamp");
    date: edges("date");
    timestamptz_that_keeps_seconds: edges("timestamptz(0)");
    domain: edges("instant").setup_first("CREATE DOMAIN instant AS timestamptz");
    domain_of_a_domain_with_a_check: edges("later")
        .setup_first("CREATE DOMAIN instant AS timestamp; CREATE DOMAIN later AS instant CHECK (VALUE <> '1970-01-01')");

    the_cutoff_itself_is_not_before_it: around_the_cutoff("timestamptz", "interval '1 microsecond'");
    a_local_time_is_compared_with_a_local_cutoff: around_the_cutoff("timestamp", "interval '1 microsecond'");
    the_day_of_the_cutoff_is_not_over: around_the_cutoff("date", "1");

    an_age_in_years_and_months: Case::of(&rows("timestamptz", &[
            ("older", "now() - interval '1 year 6 months 3 days'"), ("younger", "now() - interval '1 year 6 months' + interval '3 days'")]))
        .rule("{expireAfter: 1y 6mo}").stays("younger");
    an_age_in_weeks_and_days: Case::of(&rows("timestamptz", &[
            ("older", "now() - interval '16 days'"), ("younger", "now() - interval '14 days'")]))
        .rule("{expireAfter: 2w 1d}").stays("younger");
    an_age_in_hours: Case::of(&rows("timestamptz", &[
            ("older", "now() - interval '13 hours'"), ("younger", "now() - interval '11 hours'")]))
        .rule("{expireAfter: 12h}").stays("younger");
    the_instant_of_expiry_itself: Case::of(&rows("timestamptz", &[
            ("over", "now() - interval '1 hour'"), ("ahead", "now() + interval '1 hour'"), ("null", "NULL"), ("never", "'infinity'")]))
        .rule("{expireAfter: 0s}").stays("ahead null never");
    an_age_that_reaches_before_every_row: Case::of(&rows("timestamptz", &[("old", "{old}"), ("new", "{new}")]))
        .rule("{expireAfter: 100y}").stays("new old");
    an_age_that_reaches_before_the_calendar: Case::of(&rows("timestamptz", &[("old", "{old}")]))
        .rule("{expireAfter: 999y 9999mo 9999w 99999d}").refused("InvalidSpec", "expireAfter");

    local_times_west_of_greenwich: Case::of(&rows("timestamp", &[
            ("older", "(now() - interval '367 hours') AT TIME ZONE 'America/Los_Angeles'"),
            ("younger", "(now() - interval '353 hours') AT TIME ZONE 'America/Los_Angeles'"),
            ("younger_if_it_were_utc", "(now() - interval '361 hours') AT TIME ZONE 'UTC'")]))
        .rule("{expireAfter: 360h, columnTimeZone: America/Los_Angeles}").stays("younger younger_if_it_were_utc");
    local_times_east_of_greenwich: Case::of(&rows("timestamp", &[
            ("older", "(now() - interval '367 hours') AT TIME ZONE 'Asia/Tokyo'"),
            ("younger", "(now() - interval '353 hours') AT TIME ZONE 'Asia/Tokyo'"),
            ("older_than_it_looks", "(now() - interval '352 hours') AT TIME ZONE 'UTC'")]))
        .rule("{expireAfter: 360h, columnTimeZone: Asia/Tokyo}").stays("younger");
    dates_are_days_of_the_columns_zone: Case::of(&empty("date"))
        .rule("{expireAfter: 30d, columnTimeZone: Pacific/Kiritimati}")
        .meanwhile("INSERT INTO t VALUES
            ('over', ((now() - interval '720 hours') AT TIME ZONE 'Pacific/Kiritimati')::date - 1),
            ('cutoff', '{cutoff}'), ('tomorrow', '{cutoff}'::date + 1)")
        .reported(1, 0, 0).stays("cutoff tomorrow");
    a_zone_for_values_that_carry_their_instant: Case::of(&rows("timestamptz", &[("old", "{old}")]))
        .rule("{columnTimeZone: Europe/Berlin}").refused("InvalidSpec", "remove columnTimeZone");

    settings_of_the_database_change_nothing: edges("timestamptz").own_database()
        .setup_first("DO $$ BEGIN
            EXECUTE format('ALTER DATABASE %I SET timezone = ''Pacific/Apia''', current_database());
            EXECUTE format('ALTER DATABASE %I SET datestyle = ''German, DMY''', current_database());
            EXECUTE format('ALTER DATABASE %I SET intervalstyle = ''sql_standard''', current_database());
        END $$");

    a_text_is_no_time: Case::of(&rows("text", &[("old", "'2020-01-01'")]))
        .refused("ColumnType", "state encoding: ");
    a_time_of_day_is_no_time: Case::of(&rows("time", &[("old", "'10:00'")])).refused("ColumnType", "time without time zone");
    an_interval_is_no_time: Case::of(&rows("interval", &[("old", "'1 day'")])).refused("ColumnType", "interval");
    a_range_is_no_time: Case::of(&rows("tstzrange", &[("old", "'empty'")])).refused("ColumnType", "tstzrange");
    an_array_of_times_is_no_time: Case::of(&rows("timestamptz[]", &[("old", "'{}'")])).refused("ColumnType", "[]");
    a_column_that_is_not_there: Case::of(&rows("timestamptz", &[("old", "{old}")]))
        .rule("{column: At}").refused("ColumnNotFound", "date and time columns are at");
    a_column_of_the_system: Case::of(&rows("timestamptz", &[("old", "{old}")]))
        .rule("{column: ctid}").refused("ColumnNotFound", "no column ctid");
}
