//! SARIF 2.1.0, for code scanning: one result a finding, and one a rule of the policy that is refused or violated.
//!
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use serde_json::{Value, json};

use super::{super::gate::Judged, Audited};
use crate::{
    api::RuleStatus,
    policy::hygiene::{Check, Severity},
};

/// A rule of the policy that is refused, and one that holds rows past their age: results beside the findings.
const REFUSED: &str = "rule-refused";
const EXPIRED: &str = "expired-rows";

pub(in crate::cli) fn report(audited: &Audited<'_>) -> Value {
    let mut results: Vec<Value> = audited
        .status
        .rules
        .iter()
        .filter_map(|rule| of_rule(audited, rule))
        .collect();
    results.extend(
        audited
            .findings
            .iter()
            .map(|judged| of_finding(audited, judged)),
    );
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "retention-operator",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules(),
            }},
            "automationDetails": {"id": format!("retention-operator/{}/", crate::cli::output::full_name(audited.policy))},
            "invocations": [{
                "executionSuccessful": true,
                "toolExecutionNotifications": audited.notes.iter().map(|note| json!({
                    "level": "note", "message": {"text": note},
                })).collect::<Vec<_>>(),
            }],
            "results": results,
        }],
    })
}

fn rules() -> Vec<Value> {
    let own = [
        (REFUSED, "A rule of the policy cannot be carried out."),
        (EXPIRED, "A rule's table holds rows past their age."),
    ];
    let own = own
        .iter()
        .map(|(id, text)| json!({"id": id, "shortDescription": {"text": text}}));
    let checks = Check::ALL.iter().map(|check| {
        json!({
            "id": check.as_str(),
            "shortDescription": {"text": check.about()},
            "help": {"text": format!("docs/findings/{check}.md of retention-operator explains evidence, false positives, and what to do.")},
        })
    });
    own.chain(checks).collect()
}

fn of_rule(audited: &Audited<'_>, rule: &RuleStatus) -> Option<Value> {
    let (id, level, text) = if let Some(reason) = &rule.reason {
        let message = rule.message.as_deref().unwrap_or_default();
        (
            REFUSED,
            "error",
            format!("rule {}: {reason}: {message}", rule.name),
        )
    } else {
        let expired = rule.expired_rows.as_ref();
        let expired = expired.filter(|_| audited.is_violated(rule))?;
        let rows = crate::cli::output::rows(Some(expired));
        let table = rule.table.as_deref().unwrap_or_default();
        let text = format!(
            "rule {}: {table} holds {rows} rows past their age",
            rule.name
        );
        (EXPIRED, "warning", text)
    };
    Some(json!({
        "ruleId": id,
        "level": level,
        "message": {"text": text},
        "locations": [location(audited, rule.table.as_deref().unwrap_or(&rule.name))],
        "partialFingerprints": {"retentionOperatorId/v1": format!("{id}:{}", rule.name)},
    }))
}

fn of_finding(audited: &Audited<'_>, judged: &Judged) -> Value {
    let finding = &judged.finding;
    let level = match finding.severity {
        Severity::Critical => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    };
    let mut text = format!(
        "{}: {}. {}",
        finding.object, finding.evidence, finding.advice.text
    );
    if let Some(apply) = &finding.advice.apply {
        text.push('\n');
        text.push_str(apply);
    }
    let mut result = json!({
        "ruleId": finding.check.as_str(),
        "level": level,
        "message": {"text": text},
        "locations": [location(audited, &finding.object)],
        "partialFingerprints": {"retentionOperatorId/v1": finding.id},
    });
    if judged.suppressed {
        let why = "accepted by audit.suppress of the policy";
        result["suppressions"] = json!([{"kind": "external", "justification": why}]);
    }
    if let Some(known) = judged.known {
        result["baselineState"] = json!(if known { "unchanged" } else { "new" });
    }
    result
}

/// The policy's file stands for the database: code scanning shows only what lies in a file.
fn location(audited: &Audited<'_>, object: &str) -> Value {
    json!({
        "physicalLocation": {
            "artifactLocation": {"uri": percent_encoding::utf8_percent_encode(audited.file, PATH).to_string()},
            "region": {"startLine": 1},
        },
        "logicalLocations": [{"fullyQualifiedName": object, "kind": "resource"}],
    })
}

/// What a path may hold in a URI as it is.
const PATH: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b'~');
