//! `slot-holding-wal`: a replication slot keeps more write-ahead log than the server would keep for itself. Without
//! `max_slot_wal_keep_size` that fills the disk; with it the slot is lost, and whoever read from it has to be built anew.
//!
//! What is below `max_wal_size` costs nothing, a temporary slot goes away with its session, and another database's logical slot
//! is its owner's business until it endangers the server.

use crate::policy::hygiene::{
    Advice, Check, Context, Facts, Finding, Severity,
    facts::{Slot, WalSettings},
    figures, object,
};

/// So many times `max_wal_size`, held without a bound by a slot that nobody reads from, is on the way to a full disk.
const TIMES: u64 = 10;
/// And at least so much: disks that hold a database are larger.
const MUCH: u64 = 10 << 30;

pub(super) fn check(facts: &Facts, _: &Context, findings: &mut Vec<Finding>) {
    for slot in &facts.slots {
        let Some(severity) = severity(slot, facts.wal) else {
            continue;
        };
        if (slot.foreign || slot.temporary) && severity != Severity::Critical {
            continue;
        }
        let finding = Finding::new(
            Check::SlotHoldingWal,
            severity,
            object("slot", &slot.name),
            evidence(slot, facts.wal),
            advice(slot, facts.wal),
        );
        findings.push(match slot.held_bytes {
            // Rounded as the evidence is, so that it changes as seldom.
            Some(bytes) if bytes > 0 && !slot.active => finding.winning(1 << bytes.ilog2().min(62)),
            _ => finding,
        });
    }
}

fn severity(slot: &Slot, wal: WalSettings) -> Option<Severity> {
    match slot.wal_status.as_deref()? {
        "unreserved" => Some(Severity::Critical),
        "lost" => Some(Severity::Warning),
        "extended" => {
            let held = slot.held_bytes.unwrap_or(0);
            let is_much = held >= MUCH.max(wal.max_wal_bytes.saturating_mul(TIMES));
            Some(if is_much && !slot.active && wal.max_slot_bytes.is_none() {
                Severity::Critical
            } else {
                Severity::Warning
            })
        }
        _ => None,
    }
}

fn evidence(slot: &Slot, wal: WalSettings) -> String {
    let kind = if slot.logical { "logical" } else { "physical" };
    let reader = match (slot.active, slot.inactive_since) {
        (true, _) => "somebody reads from it".to_owned(),
        (false, Some(since)) => format!("nobody reads from it since {}", figures::day(since)),
        (false, None) => "nobody reads from it".to_owned(),
    };
    let status = slot.wal_status.as_deref().unwrap_or("unknown");
    let held = match slot.held_bytes {
        Some(bytes) => format!("it needs {} of write-ahead log", figures::more_than(bytes)),
        None => "what it needs is gone".to_owned(),
    };
    let bound = match wal.max_slot_bytes {
        Some(bytes) => format!("it may keep {}", figures::bytes(bytes)),
        None => "nothing bounds it (max_slot_wal_keep_size is -1)".to_owned(),
    };
    format!(
        "{kind} slot, {status}: {reader}; {held}, where the server keeps {} for itself; {bound}",
        figures::bytes(wal.max_wal_bytes)
    )
}

fn advice(slot: &Slot, wal: WalSettings) -> Advice {
    let drop = format!(
        "SELECT pg_drop_replication_slot('{}');",
        slot.name.replace('\'', "''")
    );
    if slot.wal_status.as_deref() == Some("lost") {
        return Advice::run(
            "whoever read from it has to be built anew; drop the slot",
            drop,
            None,
        );
    }
    if slot.active {
        return Advice::words(
            "see why whoever reads from it does not keep up: its network, its disk, or a transaction that it has not confirmed",
        );
    }
    let bound = if wal.max_slot_bytes.is_none() {
        "; max_slot_wal_keep_size would bound what the next one can do"
    } else {
        ""
    };
    Advice::run(
        format!(
            "start whoever read from it again; if that one is gone for good, drop the slot{bound}"
        ),
        drop,
        None,
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn slot(status: &str, held: u64) -> Slot {
        Slot {
            name: "replica".to_owned(),
            wal_status: Some(status.to_owned()),
            held_bytes: Some(held),
            ..Slot::default()
        }
    }

    fn found(slot: Slot, max_slot_bytes: Option<u64>) -> Vec<Finding> {
        let facts = Facts {
            slots: vec![slot],
            wal: WalSettings {
                max_wal_bytes: GIB,
                max_slot_bytes,
            },
            ..Facts::default()
        };
        let mut findings = Vec::new();
        check(&facts, &Context::default(), &mut findings);
        findings
    }

    #[rstest]
    #[case(slot("reserved", GIB / 2), None, None)]
    #[case(slot("extended", 3 * GIB), None, Some(Severity::Warning))]
    #[case(slot("extended", 30 * GIB), None, Some(Severity::Critical))]
    #[case(slot("extended", 30 * GIB), Some(100 * GIB), Some(Severity::Warning))]
    #[case(slot("unreserved", 3 * GIB), Some(2 * GIB), Some(Severity::Critical))]
    #[case(Slot { held_bytes: None, ..slot("lost", 0) }, Some(2 * GIB), Some(Severity::Warning))]
    #[case(Slot { active: true, ..slot("extended", 30 * GIB) }, None, Some(Severity::Warning))]
    #[case(Slot { temporary: true, ..slot("extended", 3 * GIB) }, None, None)]
    #[case(Slot { foreign: true, logical: true, ..slot("extended", 3 * GIB) }, None, None)]
    #[case(Slot { foreign: true, logical: true, ..slot("extended", 30 * GIB) }, None, Some(Severity::Critical))]
    #[case(Slot { wal_status: None, held_bytes: None, ..slot("", 0) }, None, None)]
    fn a_slot_is_a_finding_by_what_the_server_says_of_its_log(
        #[case] slot: Slot,
        #[case] limit: Option<u64>,
        #[case] severity: Option<Severity>,
    ) {
        let severities: Vec<Severity> = found(slot, limit)
            .iter()
            .map(|finding| finding.severity)
            .collect();
        assert_eq!(severities, Vec::from_iter(severity));
    }

    #[test]
    fn the_finding_says_who_how_much_and_what_bounds_it() {
        let idle = Slot {
            inactive_since: Some("2026-11-20T08:15:00Z".parse().unwrap()),
            ..slot("extended", 3 * GIB + 12_345)
        };

        let findings = found(idle, None);

        assert_eq!(findings[0].id, "slot-holding-wal:slot.replica");
        assert_eq!(
            findings[0].evidence,
            "physical slot, extended: nobody reads from it since 2026-11-20; it needs more than 2 GiB of write-ahead log, where the server \
             keeps 1 GiB for itself; nothing bounds it (max_slot_wal_keep_size is -1)"
        );
        assert_eq!(findings[0].estimated_bytes, Some(2 * GIB));
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some("SELECT pg_drop_replication_slot('replica');")
        );
    }
}
