//! Clocks: the database's alone says what has expired, and an operator whose own is far from it sweeps nothing.

use jiff::{SignedDuration, Timestamp};
use retention_operator::audit::AuditReport;
use retention_operator::policy::check::reason;
use retention_operator::sweep::{RuleEnd, SweepError};
use rstest::rstest;

use super::run::{Service, Unhindered, policy, sweep_by};
use super::target::{Place, Target};

const AFTER_30_DAYS: &str = "{expireAfter: 30d}";
const DAY: i64 = 24 * 60 * 60;

/// The machine's clock, which is the database's too in these tests, put forward or back.
fn off_by(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

/// Rows whose ages are so many days and minutes by the database's clock.
async fn with_ages(target: Target, rows: &[(i32, i32)]) -> Option<(Place, Service)> {
    let place = target.place(false, false, 0).await?;
    let mut service = Service::begin(&place).await;
    let sqlite = target == Target::Sqlite;
    let kind = if sqlite { "text" } else { "timestamptz" };
    service
        .run(&format!("CREATE TABLE t (id int PRIMARY KEY, at {kind})"))
        .await;
    for (id, (days, minutes)) in (1..).zip(rows) {
        let at = if sqlite {
            format!(
                "strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-{days} days', '{} minutes')",
                -minutes
            )
        } else {
            format!("now() - interval '{days} days' - interval '{minutes} minutes'")
        };
        service
            .run(&format!("INSERT INTO t VALUES ({id}, {at})"))
            .await;
    }
    Some((place, service))
}

async fn left(service: &mut Service) -> Vec<String> {
    service.rows("SELECT CAST(id AS text) FROM t").await
}

fn refused(audited: &AuditReport) -> bool {
    audited.rules.iter().any(|rule| rule.result.is_err())
}

#[rstest]
#[case::ahead(|| off_by(40 * DAY))]
#[case::behind(|| off_by(-40 * DAY))]
#[case::six_minutes_ahead(|| off_by(360))]
#[tokio::test]
async fn an_operator_whose_clock_is_far_from_the_databases_deletes_nothing(
    #[case] clock: fn() -> Timestamp,
    #[values(Target::Postgres, Target::PgBouncer, Target::Newest, Target::Sqlite)] target: Target,
) {
    // Expired by any clock; by a clock that is 40 days ahead; by none.
    let ages = [(400, 0), (10, 0), (-50, 0)];
    let Some((place, mut service)) = with_ages(target, &ages).await else {
        return;
    };
    let policy = policy(&place, &[AFTER_30_DAYS], "{}");

    let (audited, swept) = sweep_by(&place.url, &policy, &Unhindered, clock).await;

    assert!(!refused(&audited), "the rule itself is good: {audited:?}");
    let SweepError::Refused(refusal) = swept.unwrap_err() else {
        panic!("failed, and was not refused");
    };
    assert_eq!(refusal.reason, reason::CLOCK_SKEW, "{refusal}");
    assert!(refusal.message.contains("differ by"), "{refusal}");
    assert_eq!(left(&mut service).await, ["1", "2", "3"]);
}

#[rstest]
#[case::right(Timestamp::now)]
#[case::ahead(|| off_by(240))]
#[case::behind(|| off_by(-240))]
#[tokio::test]
async fn what_has_expired_is_told_by_the_databases_clock_alone(
    #[case] clock: fn() -> Timestamp,
    #[values(Target::Postgres, Target::PgBouncer, Target::Newest, Target::Sqlite)] target: Target,
) {
    // The first expired two minutes ago, the second will in two minutes; a clock that is four minutes off sees the other's.
    let ages = [(30, 2), (30, -2)];
    let Some((place, mut service)) = with_ages(target, &ages).await else {
        return;
    };
    let policy = policy(&place, &[AFTER_30_DAYS], "{}");

    let (_, swept) = sweep_by(&place.url, &policy, &Unhindered, clock).await;

    let report = swept.unwrap();
    let end = &report.rules[0].end;
    assert!(
        matches!(end, RuleEnd::Complete { remaining: 0 }),
        "{report:?}"
    );
    assert_eq!(left(&mut service).await, ["2"]);
}
