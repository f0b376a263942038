//! What is refused of a rule, and with which words.

use rstest::rstest;

use super::*;

fn column(time_domain: Option<TimeDomain>, storage: Option<Storage>) -> ColumnFacts {
    ColumnFacts {
        name: "at".into(),
        type_name: "the type".into(),
        time_domain,
        storage,
        safe_in_predicates: true,
        has_fields: false,
        is_temporal: time_domain.is_some(),
    }
}

fn planned(
    column: ColumnFacts,
    encoding: Option<Encoding>,
    zone: Option<&str>,
) -> Result<RulePlan, Refusal> {
    planned_by("at", vec![column], encoding, zone)
}

fn planned_by(
    name: &str,
    columns: Vec<ColumnFacts>,
    encoding: Option<Encoding>,
    zone: Option<&str>,
) -> Result<RulePlan, Refusal> {
    let rule = CheckedRule {
        archive: None,
        usage: None,
        dependents: Dependents::default(),
        enforced: true,
        table: "logs".parse().unwrap(),
        column: name.into(),
        age: "0s".parse().unwrap(),
        encoding,
        column_zone: zone.map(|zone| TimeZone::get(zone).unwrap()),
        filter: None,
        limits: Limits::default(),
    };
    let table = TableFacts {
        id: 1,
        schema: "public".into(),
        name: "logs".into(),
        kind: TableKind::Ordinary,
        system: false,
        columns,
        leaves: Vec::new(),
        incoming: Vec::new(),
        row_security_active: false,
        published_without_identity: None,
        delete_rule: None,
        delete_triggers: Vec::new(),
        delete_fails: None,
        may_select: true,
        may_delete: true,
        hindered_part: None,
        leading_index_columns: Vec::new(),
        leading_indexes: Vec::new(),
        total_bytes: 0,
    };
    let now = "2026-11-22T08:30:00Z".parse().unwrap();
    resolve("logs", &rule, Some(&table), &[], &TimeZone::UTC, now, None)
}

#[rstest]
#[case(Storage::Integer, Encoding::EpochMillis, None)]
#[case(Storage::Integer, Encoding::Compact14, Some("Europe/Berlin"))]
#[case(Storage::Decimal, Encoding::EpochSeconds, None)]
#[case(Storage::Text, Encoding::Iso8601, Some("Europe/Berlin"))]
#[case(Storage::Uuid, Encoding::UuidV7, None)]
fn the_cutoff_of_an_encoded_column_is_an_instant(
    #[case] storage: Storage,
    #[case] encoding: Encoding,
    #[case] zone: Option<&str>,
) {
    let plan = planned(column(None, Some(storage)), Some(encoding), zone).unwrap();

    assert_eq!(plan.encoding, Some(encoding));
    assert_eq!(plan.cutoff.to_string(), "2026-11-22T08:30:00Z");
    assert_eq!(
        plan.column_zone.iana_name(),
        Some(zone.unwrap_or("UTC")),
        "for values without a zone"
    );
}

fn named(name: &str, time_domain: Option<TimeDomain>) -> ColumnFacts {
    ColumnFacts {
        name: name.into(),
        ..column(time_domain, Some(Storage::Text))
    }
}

#[rstest]
#[case::other_case("CREATED_AT", None, "no column CREATED_AT: did you mean created_at?")]
#[case::near("create_at", None, "no column create_at: did you mean created_at?")]
#[case::far(
    "happened",
    None,
    "no column happened: its columns are created_at, note"
)]
#[case::near_a_time(
    "created",
    Some(TimeDomain::Local),
    "no column created: its date and time columns are created_at"
)]
#[case::case_of_a_time(
    "Created_At",
    Some(TimeDomain::Local),
    "did you mean created_at? Its date and time columns are created_at"
)]
fn a_column_that_is_not_there_is_refused_with_those_that_are(
    #[case] name: &str,
    #[case] domain: Option<TimeDomain>,
    #[case] says: &str,
) {
    let columns = vec![named("created_at", domain), named("note", None)];

    let refusal = planned_by(name, columns, None, None).unwrap_err();

    assert_eq!(refusal.reason, reason::COLUMN_NOT_FOUND);
    assert!(refusal.message.ends_with(says), "{}", refusal.message);
}

#[test]
fn another_column_is_advised_only_where_there_is_one() {
    let alone = planned_by("a", vec![named("a", None)], None, None).unwrap_err();
    let beside = vec![named("a", None), named("at", Some(TimeDomain::Local))];
    let beside = planned_by("a", beside, None, None).unwrap_err();

    assert!(!alone.message.contains("or name"), "{}", alone.message);
    let advice = "; or name one of its date and time columns: at";
    assert!(beside.message.ends_with(advice), "{}", beside.message);
}

#[rstest]
#[case::number_without(
    None,
    Some(Storage::Integer),
    None,
    None,
    "state encoding: EpochSeconds, EpochMillis, EpochMicros or Compact14"
)]
#[case::decimal_without(
    None,
    Some(Storage::Decimal),
    None,
    None,
    "state encoding: EpochSeconds, EpochMillis or EpochMicros"
)]
#[case::text_without(
    None,
    Some(Storage::Text),
    None,
    None,
    "UuidV7, Ulid, Iso8601 or Compact14"
)]
#[case::uuid_without(None, Some(Storage::Uuid), None, None, "state encoding: UuidV7")]
#[case::nothing_fits(
    None,
    Some(Storage::Bytes),
    Some(Encoding::Ulid),
    None,
    "name a timestamp, timestamptz or date column"
)]
#[case::no_storage(
    None,
    None,
    Some(Encoding::Ulid),
    None,
    "name a timestamp, timestamptz or date column"
)]
#[case::no_storage_without(None, None, None, None, "name a timestamp, timestamptz or date column")]
#[case::misfit(
    None,
    Some(Storage::Uuid),
    Some(Encoding::Ulid),
    None,
    "cannot hold encoding Ulid: write UuidV7"
)]
#[case::times(
    Some(TimeDomain::Local),
    None,
    Some(Encoding::Iso8601),
    None,
    "remove encoding"
)]
#[case::zone_of_instants(
    Some(TimeDomain::Instant),
    None,
    None,
    Some("Europe/Berlin"),
    "remove columnTimeZone"
)]
#[case::zone_of_epochs(
    None,
    Some(Storage::Text),
    Some(Encoding::EpochMillis),
    Some("Europe/Berlin"),
    "remove columnTimeZone"
)]
fn a_column_that_does_not_fit_is_refused_with_what_to_write(
    #[case] time_domain: Option<TimeDomain>,
    #[case] storage: Option<Storage>,
    #[case] encoding: Option<Encoding>,
    #[case] zone: Option<&str>,
    #[case] says: &str,
) {
    let refusal = planned(column(time_domain, storage), encoding, zone).unwrap_err();

    assert!(refusal.message.contains(says), "{}", refusal.message);
    assert!(refusal.message.contains("at"), "{}", refusal.message);
    assert!(refusal.message.len() <= 256, "{}", refusal.message);
}
