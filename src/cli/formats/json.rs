//! JSON: the status in the resource's own schema, and all findings.

use serde_json::{Value, json};

use super::{super::output, Audited};
use crate::{api::whole_seconds, cli::gate::Judged, engine::ledger::TrendPoint, report::Change};

pub(in crate::cli) fn report(audited: &Audited<'_>) -> Value {
    let mut report = output::report(audited.policy, audited.status);
    report["findings"] = audited
        .findings
        .iter()
        .map(|judged| finding(audited, judged))
        .collect();
    if !audited.changes.is_empty() {
        let lines = audited.changes.iter().map(Change::in_words);
        report["changes"] = lines.collect();
    }
    if !audited.trend.is_empty() {
        report["trend"] = audited.trend.iter().map(point).collect();
    }
    if !audited.notes.is_empty() {
        report["notes"] = json!(audited.notes);
    }
    report
}

fn point(point: &TrendPoint) -> Value {
    let [critical, warning, info] = point.day.findings;
    json!({
        "time": whole_seconds(point.taken),
        "sizeBytes": point.day.size_bytes,
        "expiredRows": point.day.expired_rows,
        "deadRows": point.day.dead_rows,
        "findings": {"critical": critical, "warning": warning, "info": info},
    })
}

fn finding(audited: &Audited<'_>, judged: &Judged) -> Value {
    let finding = &judged.finding;
    let first_seen = audited.first_seen.get(&finding.id);
    let mut value = json!({
        "id": finding.id,
        "check": finding.check.as_str(),
        "severity": finding.severity.as_str(),
        "object": finding.object,
        "evidence": finding.evidence,
        "advice": finding.advice.text,
        "suppressed": judged.suppressed,
    });
    let optional = [
        (
            "estimatedBytes",
            finding.estimated_bytes.map(|bytes| json!(bytes)),
        ),
        ("firstSeen", first_seen.map(|time| json!(time))),
        ("apply", finding.advice.apply.as_ref().map(|sql| json!(sql))),
        ("undo", finding.advice.undo.as_ref().map(|sql| json!(sql))),
        ("new", judged.known.map(|known| json!(!known))),
    ];
    for (name, optional) in optional {
        if let Some(optional) = optional {
            value[name] = optional;
        }
    }
    value
}
