//! What a status looks like when it is written.

use serde_json::json;

use super::*;

#[test]
fn a_time_is_cut_to_the_second_before_it() {
    let instant: Timestamp = "2026-11-22T09:30:00.999999999Z"
        .parse()
        .expect("a timestamp");
    let before_epoch: Timestamp = "1969-12-31T23:59:58.5Z".parse().expect("a timestamp");

    assert_eq!(whole_seconds(instant).0.to_string(), "2026-11-22T09:30:00Z");
    assert_eq!(
        whole_seconds(before_epoch).0.to_string(),
        "1969-12-31T23:59:58Z"
    );
}

#[test]
fn a_time_survives_the_way_through_the_api_server() {
    let written = whole_seconds("2026-11-22T09:30:00.25Z".parse().expect("a timestamp"));

    let read: Time =
        serde_json::from_value(serde_json::to_value(&written).expect("a time is JSON"))
            .expect("a time");

    assert_eq!(read, written);
}

#[test]
fn a_status_with_one_field_is_a_status() {
    let status: RetentionPolicyStatus =
        serde_json::from_value(json!({"observedGeneration": -1})).expect("a partial status");

    assert_eq!(
        status,
        RetentionPolicyStatus {
            observed_generation: Some(-1),
            ..Default::default()
        }
    );
    assert_eq!(
        serde_json::to_value(&status).expect("a status is JSON"),
        json!({"observedGeneration": -1})
    );
}

#[test]
fn every_part_of_the_status_keeps_its_name() {
    let time = "2026-11-22T09:30:00Z";
    let rows = json!({"value": 5, "method": "Catalog", "exact": false, "asOf": time});
    let written = json!({
        "observedGeneration": 3,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Reconciled", "message": "",
                        "observedGeneration": 3, "lastTransitionTime": time}],
        "expiredRows": 5,
        "totals": {"rowsDeleted": 1, "rowsArchived": 1},
        "database": {"engine": "PostgreSQL", "version": "15.18", "name": "orders", "identity": "1/2",
                     "sizeBytes": 1, "tables": 41, "auditPromise": "ReadOnlyTransaction"},
        "lastAuditTime": time,
        "nextSweepTime": time,
        "rules": [{
            "name": "activity-logs", "table": "public.activity_logs", "reason": "NotSupported", "message": "m",
            "rows": rows, "expiredRows": rows, "blockedRows": rows, "unreadableRows": rows,
            "oldest": {"value": time, "method": "Histogram", "asOf": time},
            "newest": {"value": time, "method": "Histogram"},
            "lastUsed": {"state": "Unused", "since": time, "coverageSince": time, "coveragePercent": 99,
                         "reason": "this node only"},
            "sizeBytes": 1, "cutoff": time, "watermark": time, "rowsDeleted": 1, "rowsArchived": 1,
        }],
        "lastSweep": {"id": "a", "trigger": "Schedule", "startTime": time, "completionTime": time,
                      "outcome": "Succeeded", "rowsDeleted": 1, "rowsArchived": 1, "objects": 1, "chunks": 1,
                      "longestChunkMillis": 21, "throttledSeconds": 1, "message": "m"},
        "currentSweep": {"id": "a", "startTime": time, "rule": "activity-logs", "rowsDone": 1, "rowsExpected": 2,
                         "throttledBy": "ReplicaLag"},
        "unfinishedSweep": {"id": "a", "trigger": "Request", "startTime": time, "generation": 3,
                            "rules": [{"name": "activity-logs", "cutoff": time, "rowsAtStart": 9, "rowsDone": 1,
                                       "rowsReserved": 2, "done": false}],
                            "packed": ["activity-logs - 9 1 - - 2 - - - - - 2026-01-01"]},
        "reclaimed": {"bytesDeleted": 1, "bytesReusable": 1, "bytesReturned": 1, "walBytes": 1},
        "findings": {"critical": 0, "warning": 1, "info": 0, "suppressed": 0, "truncated": 0,
                     "top": [{"id": "unused-index:a.b", "severity": "warning", "object": "a.b", "evidence": "e",
                              "estimatedBytes": 1, "firstSeen": time}]},
        "trend": [{"time": time, "sizeBytes": 1, "expiredRows": 2, "deadRows": 3}],
        "pendingApproval": {"planHash": "abc", "requestedAt": time, "expiresAt": time,
                            "rules": [{"name": "activity-logs", "rows": 1, "percent": 60, "cutoff": time,
                                       "reason": "LimitExceeded"}]},
        "lastHandledSweepRequest": time,
        "lastHandledAuditRequest": time,
        "lastApproval": {"planHash": "abc", "time": time},
    });

    let status: RetentionPolicyStatus = serde_json::from_value(written.clone()).expect("a status");

    assert_eq!(
        serde_json::to_value(&status).expect("a status is JSON"),
        written
    );
}
