//! An audit's result as status.

use jiff::Timestamp;

use super::findings::findings;
use crate::{
    api::{
        CountedRows, DatabaseStatus, LastUsed, MeasuredRows, MeasuredTime, RetentionPolicyStatus,
        RuleStatus, Totals, TrendPoint,
        conditions::{MAX_MESSAGE_BYTES, shorten},
        whole_seconds,
    },
    audit::{AuditReport, Measured, MeasuredInstant, Method, RuleAudit, RuleFindings},
    engine::DatabaseFacts,
    policy::usage::{Observation, Usage},
};

/// Points of the trend that status keeps.
const TREND_POINTS: usize = 12;

/// Writes an audit's result into `status`. What sweeps counted exactly stays until statistics are newer.
pub fn apply_audit(status: &mut RetentionPolicyStatus, report: &AuditReport, now: Timestamp) {
    let rules = rule_statuses(&status.rules, report);
    status.rules = rules;
    status.database = Some(database(&report.facts));
    status.last_audit_time = Some(whole_seconds(now));
    if let Some(totals) = report.totals {
        let signed = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
        status.totals = Some(Totals {
            rows_deleted: Some(signed(totals.rows_deleted)),
            rows_archived: Some(signed(totals.rows_archived)),
        });
    }
    status.expired_rows = expired_rows(&status.rules);
    if let Some(found) = &report.findings {
        let previous = status.findings.as_ref();
        let shown = findings(previous, found, &report.suppress, &report.first_seen, now);
        status.findings = Some(shown);
    }
    add_trend_point(status, report, now);
}

/// The rules' entries, in the audit's order; `previous` are the entries published last.
#[must_use]
pub fn rule_statuses(previous: &[RuleStatus], report: &AuditReport) -> Vec<RuleStatus> {
    report
        .rules
        .iter()
        .map(|rule| {
            rule_status(
                previous.iter().find(|status| status.name == rule.name),
                rule,
            )
        })
        .collect()
}

/// Rows past their age over all rules that could be measured; `None`: none could.
pub(super) fn expired_rows(rules: &[RuleStatus]) -> Option<i64> {
    let measured: Vec<i64> = rules
        .iter()
        .filter_map(|rule| rule.expired_rows.as_ref())
        .map(|rows| rows.value)
        .collect();
    if measured.is_empty() && !rules.is_empty() {
        return None;
    }
    Some(measured.iter().sum())
}

fn rule_status(previous: Option<&RuleStatus>, rule: &RuleAudit) -> RuleStatus {
    let kept = |status: &RuleStatus| RuleStatus {
        name: rule.name.clone(),
        table: status.table.clone(),
        table_id: status.table_id,
        watermark: status.watermark.clone(),
        last_count: status.last_count.clone(),
        rows_deleted: status.rows_deleted,
        rows_archived: status.rows_archived,
        ..RuleStatus::default()
    };
    let fresh = || RuleStatus {
        name: rule.name.clone(),
        ..RuleStatus::default()
    };
    match &rule.result {
        Err(refusal) => RuleStatus {
            reason: Some(refusal.reason.to_owned()),
            message: Some(shorten(&refusal.message, MAX_MESSAGE_BYTES)),
            ..previous.map_or_else(fresh, kept)
        },
        Ok(findings) => {
            // What was counted of another table says nothing of this one.
            let table = &findings.plan.table;
            let previous = previous.filter(|status| {
                status.table == Some(table.qualified())
                    && status.table_id.is_none_or(|id| id == i64::from(table.id))
            });
            let counted = previous.and_then(|status| newer_count(status, findings));
            RuleStatus {
                table: Some(findings.plan.table.qualified()),
                table_id: Some(i64::from(findings.plan.table.id)),
                rows: findings.rows.map(measured_rows),
                blocked_rows: counted.and_then(|status| status.blocked_rows.clone()),
                expired_rows: match counted.and_then(|status| status.last_count.as_ref()) {
                    Some(count) => Some(with_what_expired_since(count, findings)),
                    None => findings.expired.map(measured_rows),
                },
                unreadable_rows: match counted {
                    Some(status) => status.unreadable_rows.clone(),
                    None => findings.unreadable.map(measured_rows),
                },
                oldest: findings.oldest.as_ref().map(measured_time),
                newest: findings.newest.as_ref().map(measured_time),
                last_used: Some(last_used(&findings.usage)),
                size_bytes: findings.size_bytes,
                cutoff: Some(findings.plan.cutoff.to_string()),
                message: findings
                    .doubt
                    .as_ref()
                    .map(|doubt| shorten(doubt, MAX_MESSAGE_BYTES)),
                ..previous.map_or_else(fresh, kept)
            }
        }
    }
}

/// Forgets what a sweep counted: the rule means other rows now.
pub fn forget_count(rule: &mut RuleStatus) {
    if rule.last_count.take().is_some() {
        rule.expired_rows = None;
        rule.blocked_rows = None;
        rule.unreadable_rows = None;
    }
}

/// The previous entry, if a sweep counted its expired rows after the statistics were taken.
fn newer_count<'a>(status: &'a RuleStatus, findings: &RuleFindings) -> Option<&'a RuleStatus> {
    let counted_at = status.last_count.as_ref()?.as_of.as_ref()?.0;
    let statistics_newer = findings
        .expired
        .and_then(|expired| expired.as_of)
        .is_some_and(|as_of| as_of > counted_at);
    (!statistics_newer).then_some(status)
}

/// What a sweep counted, and what has expired since by statistics that are older than the count: an estimate then.
fn with_what_expired_since(count: &CountedRows, findings: &RuleFindings) -> MeasuredRows {
    let since = count
        .cutoff
        .as_deref()
        .and_then(|cutoff| cutoff.parse().ok())
        .and_then(|cutoff| findings.counted_since(count.value, cutoff));
    match since {
        Some(since) => measured_rows(since),
        None => MeasuredRows {
            value: count.value,
            method: Method::Count.as_str().to_owned(),
            exact: true,
            as_of: count.as_of.clone(),
        },
    }
}

pub(super) fn measured_rows(measured: Measured) -> MeasuredRows {
    MeasuredRows {
        value: measured.value,
        method: measured.method.as_str().to_owned(),
        exact: measured.exact,
        as_of: measured.as_of.map(whole_seconds),
    }
}

fn measured_time(measured: &MeasuredInstant) -> MeasuredTime {
    MeasuredTime {
        value: measured.value.clone(),
        method: measured.method.as_str().to_owned(),
        as_of: measured.as_of.map(whole_seconds),
    }
}

/// A use to the day: what is in use would else make a new status of every audit.
fn last_used(observation: &Observation) -> LastUsed {
    let (state, since, why) = match observation.usage {
        Usage::Used { last } => ("Used", last.map(whole_days), None),
        Usage::Unused { since, .. } => ("Unused", Some(since), None),
        Usage::Unknown(why) => ("Unknown", None, Some(why)),
    };
    let reason = match (why, observation.note.as_deref()) {
        (Some(why), Some(note)) => Some(format!("{why}; {note}")),
        (why, note) => why.or(note).map(str::to_owned),
    };
    LastUsed {
        state: state.to_owned(),
        since: since.map(whole_seconds),
        coverage_since: observation.coverage_since.map(whole_seconds),
        coverage_percent: observation.coverage_percent.map(i32::from),
        reason: reason.map(|reason| shorten(&reason, MAX_MESSAGE_BYTES)),
    }
}

fn whole_days(instant: Timestamp) -> Timestamp {
    let seconds = instant.as_second();
    Timestamp::from_second(seconds - seconds.rem_euclid(86_400)).unwrap_or(instant)
}

fn database(facts: &DatabaseFacts) -> DatabaseStatus {
    DatabaseStatus {
        engine: Some(facts.engine.to_owned()),
        version: Some(facts.version.clone()),
        name: Some(facts.name.clone()),
        identity: Some(facts.identity.clone()),
        size_bytes: Some(facts.size_bytes),
        tables: Some(facts.tables),
        audit_promise: Some(facts.read_only_by.to_owned()),
    }
}

/// One point a day: as the last audit of the day saw the database, so that it shows what the day's sweep did.
fn add_trend_point(status: &mut RetentionPolicyStatus, report: &AuditReport, now: Timestamp) {
    let day = |instant: Timestamp| instant.as_second().div_euclid(86_400);
    // Of some rules only: no figure that another day's could be compared with.
    let all_known = status.rules.iter().all(|rule| rule.expired_rows.is_some());
    let dead_rows = report
        .rules
        .iter()
        .map(|rule| Some(rule.result.as_ref().ok()?.dead_rows))
        .sum();
    let point = TrendPoint {
        time: Some(whole_seconds(now)),
        size_bytes: Some(report.facts.size_bytes),
        expired_rows: status.expired_rows.filter(|_| all_known),
        dead_rows,
    };
    let today = status.trend.last_mut().filter(|last| {
        let time = last.time.as_ref();
        time.is_some_and(|time| day(time.0) == day(now))
    });
    match today {
        Some(today) => {
            let same = TrendPoint {
                time: today.time.clone(),
                ..point.clone()
            };
            // The time of what has not changed stays, or every audit would make a new status.
            if *today != same {
                *today = point;
            }
        }
        None => status.trend.push(point),
    }
    let surplus = status.trend.len().saturating_sub(TREND_POINTS);
    status.trend.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{
        audit::findings,
        engine::{LeafStatistics, TableStatistics},
        policy::{
            cutoff::Cutoff,
            dependents::Dependents,
            estimate::ColumnStatistics,
            limits::Limits,
            plan::RulePlan,
            predicate::Predicate,
            table::{TableFacts, TableKind},
        },
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("an instant")
    }

    /// The rule as it is at an audit; `cutoff` in seconds.
    fn plan(cutoff: i64, filter: Option<&str>) -> RulePlan {
        RulePlan {
            rule: "logs".into(),
            table: TableFacts {
                id: 1,
                schema: "public".into(),
                name: "logs".into(),
                kind: TableKind::Ordinary,
                system: false,
                columns: Vec::new(),
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
            },
            column: "at".into(),
            encoding: None,
            column_zone: jiff::tz::TimeZone::UTC,
            cutoff: Cutoff::Instant(at(cutoff)),
            overdue: Cutoff::Instant(at(cutoff)),
            filter: filter.map(|filter| Predicate::parse(filter).expect("a predicate")),
            holds: Vec::new(),
            held_by: None,
            limits: Limits::default(),
            dependents: Dependents::default(),
            held_tables: Vec::new(),
            archive: None,
        }
    }

    /// A row every second from 0 to 1000, as they were at `analyzed`.
    fn statistics(analyzed: i64) -> TableStatistics {
        TableStatistics {
            leaves: vec![LeafStatistics {
                rows: Some(1000.0),
                column: Some(ColumnStatistics {
                    histogram: vec![0.0, 500.0, 1000.0],
                    ..ColumnStatistics::default()
                }),
                analyzed_at: Some(at(analyzed)),
            }],
            last_read: None,
            scans: 0,
            writes: 0,
            counting_since: None,
            dead_rows: 0,
        }
    }

    /// The rule's entry after an audit with `cutoff` by statistics of `analyzed`, where a sweep with the cutoff 100 has counted
    /// `left` rows at 2000.
    fn audited(left: i64, cutoff: i64, analyzed: i64, filter: Option<&str>) -> MeasuredRows {
        let counted = RuleStatus {
            name: "logs".into(),
            table: Some("public.logs".into()),
            last_count: Some(CountedRows {
                value: left,
                cutoff: Some(Cutoff::Instant(at(100)).to_string()),
                as_of: Some(whole_seconds(at(2000))),
            }),
            ..RuleStatus::default()
        };
        let rule = RuleAudit {
            name: "logs".into(),
            enforced: true,
            result: Ok(findings(
                &plan(cutoff, filter),
                &statistics(analyzed),
                at(9000),
            )),
        };
        rule_status(Some(&counted), &rule)
            .expired_rows
            .expect("a measure")
    }

    #[rstest]
    #[case::nothing_expired_since(0, 100, 1500, None, (0, "Count", true))]
    #[case::less_than_a_row_is_none(3, 100, 1500, None, (3, "Count", true))]
    #[case::what_expired_since_is_added(0, 350, 1500, None, (250, "CountAndHistogram", false))]
    #[case::to_what_the_sweep_left(7, 350, 1500, None, (257, "CountAndHistogram", false))]
    #[case::at_most_so_many_are_of_the_rule(0, 350, 1500, Some("id > 5"), (250, "CountAndUpperBound", false))]
    #[case::a_shorter_age_of_late_takes_nothing_off(7, 50, 1500, None, (7, "Count", true))]
    #[case::newer_statistics_say_it_alone(7, 350, 2500, None, (350, "Histogram", false))]
    fn a_count_ages_with_the_cutoff(
        #[case] left: i64,
        #[case] cutoff: i64,
        #[case] analyzed: i64,
        #[case] filter: Option<&str>,
        #[case] expected: (i64, &str, bool),
    ) {
        let rows = audited(left, cutoff, analyzed, filter);

        assert_eq!((rows.value, rows.method.as_str(), rows.exact), expected);
    }

    fn report(size_bytes: i64) -> AuditReport {
        AuditReport {
            facts: DatabaseFacts {
                engine: "PostgreSQL",
                version: "15.18".to_owned(),
                name: "orders".to_owned(),
                identity: "7000-5".to_owned(),
                size_bytes,
                tables: 1,
                now: Timestamp::UNIX_EPOCH,
                in_recovery: false,
                read_only_by: "ReadOnlyTransaction",
            },
            rules: Vec::new(),
            findings: None,
            suppress: Vec::new(),
            unseen: Vec::new(),
            first_seen: std::collections::HashMap::new(),
            today: crate::engine::ledger::DayPoint::default(),
            trend: Vec::new(),
            totals: None,
            unfinished: None,
            note: None,
            paused: None,
        }
    }

    fn hour(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3600).expect("an instant")
    }

    #[test]
    fn a_day_has_one_point_that_shows_its_last_audit() {
        let mut status = RetentionPolicyStatus::default();

        for (at, bytes) in [(0, 5), (9, 5), (14, 3), (23, 3), (24, 4)] {
            apply_audit(&mut status, &report(bytes), hour(at));
        }

        let points: Vec<_> = status
            .trend
            .iter()
            .map(|point| (point.time.clone(), point.size_bytes))
            .collect();
        // Nothing changed after 14 o'clock: no reason to write a new status.
        assert_eq!(
            points,
            [
                (Some(whole_seconds(hour(14))), Some(3)),
                (Some(whole_seconds(hour(24))), Some(4)),
            ]
        );
    }

    #[test]
    fn the_figures_of_some_rules_are_no_point_of_the_trend() {
        let known = || RuleAudit {
            name: "logs".into(),
            enforced: true,
            result: Ok(findings(&plan(100, None), &statistics(1500), at(9000))),
        };
        let refused = || RuleAudit {
            name: "gone".into(),
            enforced: true,
            result: Err(crate::policy::check::Refusal::new(
                crate::policy::check::reason::NOT_SUPPORTED,
                "a view",
            )),
        };
        let point = |rules| {
            let mut status = RetentionPolicyStatus::default();
            let mut report = report(5);
            report.rules = rules;
            apply_audit(&mut status, &report, hour(0));
            let point = status.trend.pop().expect("a point");
            (point.expired_rows, point.dead_rows)
        };

        assert_eq!(point(vec![known()]), (Some(100), Some(0)));
        assert_eq!(point(vec![known(), refused()]), (None, None));
    }

    #[test]
    fn a_finding_keeps_its_first_day_by_the_status_and_by_the_ledger() {
        use crate::policy::hygiene::{Advice, Check, Finding, Severity};
        let seen = |status: &mut RetentionPolicyStatus, remembered: Option<Timestamp>, now| {
            let finding = Finding::new(
                Check::InvalidIndex,
                Severity::Warning,
                "public.t.i",
                "evidence",
                Advice::words("drop it"),
            );
            let mut report = report(5);
            let id = finding.id.clone();
            report
                .first_seen
                .extend(remembered.map(|remembered| (id, remembered)));
            report.findings = Some(vec![finding]);
            apply_audit(status, &report, now);
            let findings = status.findings.as_ref().expect("findings");
            findings.top[0].first_seen.clone()
        };
        let mut status = RetentionPolicyStatus::default();

        assert_eq!(
            seen(&mut status, None, hour(30)),
            Some(whole_seconds(hour(30)))
        );
        assert_eq!(
            seen(&mut status, None, hour(40)),
            Some(whole_seconds(hour(30)))
        );
        // A status that was lost, and a ledger that remembers.
        status = RetentionPolicyStatus::default();
        assert_eq!(
            seen(&mut status, Some(hour(20)), hour(50)),
            Some(whole_seconds(hour(20)))
        );
    }

    #[test]
    fn twelve_points_are_kept() {
        let mut status = RetentionPolicyStatus::default();

        for day in 0..20 {
            apply_audit(&mut status, &report(day), hour(24 * day));
        }

        assert_eq!(status.trend.len(), TREND_POINTS);
        assert_eq!(status.trend.first().and_then(|it| it.size_bytes), Some(8));
    }

    #[test]
    fn a_use_is_told_to_the_day_so_that_the_status_stays_as_it_is() {
        let used = |at| {
            last_used(&Observation {
                usage: Usage::Used {
                    last: Some(hour(at)),
                },
                ..Observation::default()
            })
        };

        assert_eq!(used(25), used(30));
        assert_eq!(used(25).since, Some(whole_seconds(hour(24))));
        assert_ne!(used(25), used(50));
    }

    #[test]
    fn what_is_unused_says_since_when_and_on_which_nodes() {
        let unused = last_used(&Observation {
            usage: Usage::Unused {
                since: hour(7),
                days: 90,
            },
            coverage_since: Some(hour(5)),
            coverage_percent: Some(100),
            note: Some("this node only".to_owned()),
        });

        assert_eq!(unused.state, "Unused");
        assert_eq!(unused.since, Some(whole_seconds(hour(7))));
        assert_eq!(unused.coverage_since, Some(whole_seconds(hour(5))));
        assert_eq!(unused.coverage_percent, Some(100));
        assert_eq!(unused.reason.as_deref(), Some("this node only"));
    }
}
