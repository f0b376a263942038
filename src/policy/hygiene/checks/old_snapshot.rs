//! `old-snapshot`: somebody keeps dead rows of the whole database from being removed: a transaction left open, a prepared one
//! that was forgotten, a standby that feeds its snapshots back, a replication slot that nobody reads.
//!
//! Vacuums keep nothing, and a session that is idle in a transaction without having read or written anything keeps nothing
//! either: the engine leaves both out. A dump holds one snapshot on purpose, and gets longer.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::policy::hygiene::{
    Advice, Check, Context, Facts, Finding, Severity,
    facts::{HolderKind, SnapshotHolder},
    figures, object,
};

/// What a service and its reports do is over by then.
const LONG_SECONDS: i64 = 3_600;
/// A backup of a large database may take that long.
const DUMP_SECONDS: i64 = 12 * 3_600;
/// So many transactions leave enough dead rows behind to be felt, however long they took.
const MANY: u64 = 10_000_000;
/// Below this an age says nothing.
const FEW: u64 = 1_000_000;
/// What freezing begins at, where the server did not say.
const DEFAULT_FREEZE_MAX_AGE: u64 = 200_000_000;

pub(super) fn check(facts: &Facts, _: &Context, findings: &mut Vec<Finding>) {
    let max_age = facts
        .freeze
        .as_ref()
        .map_or(DEFAULT_FREEZE_MAX_AGE, |freeze| freeze.max_age);
    // All sessions of a role are one finding, by the oldest: what a client calls itself is its own word, and changes.
    let mut holders: BTreeMap<String, (&SnapshotHolder, Severity, usize)> = BTreeMap::new();
    for holder in &facts.snapshots {
        let Some(severity) = severity(facts.now, holder, max_age) else {
            continue;
        };
        let entry = holders
            .entry(name(&holder.kind))
            .or_insert((holder, severity, 0));
        entry.2 += 1;
        if (severity, holder.age) > (entry.1, entry.0.age) {
            (entry.0, entry.1) = (holder, severity);
        }
    }
    for (name, (holder, severity, number)) in holders {
        findings.push(Finding::new(
            Check::OldSnapshot,
            severity,
            name,
            evidence(holder, number),
            advice(&holder.kind),
        ));
    }
}

fn severity(now: Option<Timestamp>, holder: &SnapshotHolder, max_age: u64) -> Option<Severity> {
    let seconds = match (now, holder.since) {
        (Some(now), Some(since)) => now.duration_since(since).as_secs(),
        _ => 0,
    };
    let is_long = seconds
        >= match &holder.kind {
            HolderKind::Session { dump: true, .. } => DUMP_SECONDS,
            _ => LONG_SECONDS,
        };
    let stops_freezing = holder.age >= max_age;
    match &holder.kind {
        // Another database's slot keeps our rows too, but is its owner's business until it endangers the server.
        HolderKind::Slot { foreign: true, .. } if !stops_freezing => None,
        _ if stops_freezing => Some(Severity::Critical),
        _ if is_long || holder.age >= MANY => Some(Severity::Warning),
        _ => None,
    }
}

/// By names that administrators gave: process ids are given out anew, and `application_name` and the identifiers of prepared
/// transactions are free text of any client, of which there is no end and in which anything may stand.
fn name(kind: &HolderKind) -> String {
    match kind {
        HolderKind::Session { role, .. } => object("session", role),
        HolderKind::Prepared { owner, .. } => object("prepared", owner),
        HolderKind::Standby { role } => object("standby", role),
        HolderKind::Slot { name, .. } => object("slot", name),
    }
}

fn evidence(holder: &SnapshotHolder, number: usize) -> String {
    let mut text = match &holder.kind {
        HolderKind::Session { idle: true, .. } => "a transaction is open and idle",
        HolderKind::Session { .. } => "a transaction is open",
        HolderKind::Prepared { .. } => {
            "a prepared transaction is neither committed nor rolled back"
        }
        HolderKind::Standby { .. } => "a standby feeds an old snapshot back",
        HolderKind::Slot {
            catalog_only: true, ..
        } => "the slot keeps old rows of the catalogs",
        HolderKind::Slot { .. } => "the slot keeps old rows",
    }
    .to_owned();
    if let HolderKind::Slot { active: false, .. } = holder.kind {
        text.push_str(", and nobody reads from it");
    }
    if let Some(since) = holder.since {
        text.push_str(&format!(", since {}", figures::day(since)));
    }
    text.push_str(&if holder.age < FEW {
        "; less than a million transactions began meanwhile".to_owned()
    } else {
        format!(
            "; about {} transactions began meanwhile",
            figures::about(holder.age)
        )
    });
    if number > 1 {
        text.push_str(match holder.kind {
            HolderKind::Session { .. } => "; the oldest of several such sessions of the role",
            HolderKind::Prepared { .. } => "; the oldest of several of the role",
            HolderKind::Standby { .. } => "; the oldest of several standbys of the role",
            HolderKind::Slot { .. } => "",
        });
    }
    text.push_str("; what they left dead cannot be vacuumed");
    text
}

fn advice(kind: &HolderKind) -> Advice {
    match kind {
        HolderKind::Session {
            pid,
            began: Some(began),
            ..
        } => Advice::run(
            "let the application end its transaction, and look why it stays open; idle_in_transaction_session_timeout bounds it. To end the \
             session:",
            format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {pid} AND xact_start = '{began}';"
            ),
            None,
        ),
        HolderKind::Session { .. } => Advice::words(
            "let the application end its transaction, and look why it stays open; idle_in_transaction_session_timeout bounds it",
        ),
        HolderKind::Prepared { .. } => Advice::words(
            "ask whoever coordinates it, then COMMIT PREPARED or ROLLBACK PREPARED it by its name: which of the two is for them to say",
        ),
        HolderKind::Standby { .. } => Advice::words(
            "end the long query on the standby, or set hot_standby_feedback = off there: such queries are then cancelled instead",
        ),
        HolderKind::Slot {
            active: false,
            name,
            ..
        } => Advice::run(
            "if whoever read from it is gone for good, drop it; whoever still needs it has to be built anew afterwards",
            format!(
                "SELECT pg_drop_replication_slot('{}');",
                name.replace('\'', "''")
            ),
            None,
        ),
        HolderKind::Slot { .. } => Advice::words(
            "see why whoever reads from it does not get on: a long query on the standby, a transaction that a subscriber has not confirmed",
        ),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::policy::hygiene::facts::Freeze;

    const NOW: &str = "2026-11-24T12:00:00Z";

    fn session(application: &str, since: Option<&str>, age: u64) -> SnapshotHolder {
        SnapshotHolder {
            kind: HolderKind::Session {
                role: "shop".to_owned(),
                dump: application == "pg_dump",
                pid: 4711,
                idle: true,
                began: since.map(ToOwned::to_owned),
            },
            since: since.map(|since| since.parse().unwrap()),
            age,
        }
    }

    fn of(kind: HolderKind, age: u64) -> SnapshotHolder {
        SnapshotHolder {
            kind,
            since: None,
            age,
        }
    }

    fn slot(catalog_only: bool, active: bool, foreign: bool) -> HolderKind {
        HolderKind::Slot {
            name: "replica".to_owned(),
            catalog_only,
            active,
            foreign,
        }
    }

    fn found(snapshots: Vec<SnapshotHolder>) -> Vec<Finding> {
        let facts = Facts {
            now: Some(NOW.parse().unwrap()),
            snapshots,
            freeze: Some(Freeze {
                max_age: 200_000_000,
                ..Freeze::default()
            }),
            ..Facts::default()
        };
        let mut findings = Vec::new();
        check(&facts, &Context::default(), &mut findings);
        findings
    }

    #[rstest]
    #[case("worker", Some("2026-11-24T11:30:00Z"), 500, None)]
    #[case("worker", Some("2026-11-24T10:30:00Z"), 500, Some(Severity::Warning))]
    #[case("worker", Some("2026-11-24T11:59:00Z"), MANY, Some(Severity::Warning))]
    #[case("worker", None, 500, None)]
    #[case("worker", None, 300_000_000, Some(Severity::Critical))]
    #[case("pg_dump", Some("2026-11-24T04:00:00Z"), 500, None)]
    #[case("pg_dump", Some("2026-11-23T22:00:00Z"), 500, Some(Severity::Warning))]
    fn a_session_is_a_finding_by_time_or_by_transactions(
        #[case] application: &str,
        #[case] since: Option<&str>,
        #[case] age: u64,
        #[case] severity: Option<Severity>,
    ) {
        let findings = found(vec![session(application, since, age)]);

        let severities: Vec<Severity> = findings.iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, Vec::from_iter(severity));
    }

    #[test]
    fn sessions_of_one_role_are_one_finding_by_the_oldest_whatever_they_call_themselves() {
        let findings = found(vec![
            session("worker", Some("2026-11-24T10:30:00Z"), 500),
            session("worker", Some("2026-11-22T10:30:00Z"), 20_000_000),
            session(
                "password=hunter2 attempt 4711",
                Some("2026-11-24T09:59:00Z"),
                1,
            ),
        ]);

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].id, "old-snapshot:session.shop");
        assert_eq!(
            findings[0].evidence,
            "a transaction is open and idle, since 2026-11-22; about 20 million transactions began meanwhile; the oldest of several such \
             sessions of the role; what they left dead cannot be vacuumed"
        );
    }

    #[test]
    fn the_evidence_stays_the_same_while_nothing_changes_but_the_clock() {
        let early = found(vec![session(
            "worker",
            Some("2026-11-24T01:00:00Z"),
            12_000_000,
        )]);
        let later = found(vec![session(
            "worker",
            Some("2026-11-24T01:00:00Z"),
            12_900_000,
        )]);

        assert_eq!(early[0], later[0]);
    }

    #[test]
    fn a_forgotten_prepared_transaction_is_found_under_its_owner() {
        let kind = HolderKind::Prepared {
            owner: "shop".to_owned(),
        };
        let forgotten = SnapshotHolder {
            since: Some("2026-11-20T00:00:00Z".parse().unwrap()),
            ..of(kind, 10)
        };

        assert_eq!(found(vec![forgotten])[0].id, "old-snapshot:prepared.shop");
    }

    #[rstest]
    #[case(slot(false, false, false), 5_000_000, None)]
    #[case(
        slot(false, false, false),
        50_000_000,
        Some("old-snapshot:slot.replica")
    )]
    #[case(slot(true, true, false), 50_000_000, Some("old-snapshot:slot.replica"))]
    #[case(slot(true, true, true), 50_000_000, None)]
    #[case(slot(true, true, true), 500_000_000, Some("old-snapshot:slot.replica"))]
    #[case(HolderKind::Standby { role: "replica".to_owned() }, 50_000_000, Some("old-snapshot:standby.replica"))]
    fn a_slot_or_a_standby_is_a_finding_by_transactions(
        #[case] kind: HolderKind,
        #[case] age: u64,
        #[case] id: Option<&str>,
    ) {
        let findings = found(vec![of(kind, age)]);

        let ids: Vec<&str> = findings.iter().map(|finding| finding.id.as_str()).collect();
        assert_eq!(ids, Vec::from_iter(id));
    }
}
