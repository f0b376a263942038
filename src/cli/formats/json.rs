//! JSON: the status in the resource's own schema, and all findings.

use serde_json::{Value, json};

use super::{super::output, Audited};
use crate::cli::gate::Judged;

pub(in crate::cli) fn report(audited: &Audited<'_>) -> Value {
    let mut report = output::report(audited.policy, audited.status);
    report["findings"] = audited
        .findings
        .iter()
        .map(|judged| finding(audited, judged))
        .collect();
    if !audited.notes.is_empty() {
        report["notes"] = json!(audited.notes);
    }
    report
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
