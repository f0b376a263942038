//! Findings as status: counts, and the ones that matter most.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::{
    api::{Finding, Findings, whole_seconds},
    policy::hygiene::{self, Severity},
};

/// Findings that status shows.
const TOP: usize = 20;

/// The findings of an audit as status shows them. Since when they are there know `previous`, what was published last, and a ledger,
/// by their ids: `first_seen`.
pub(super) fn findings(
    previous: Option<&Findings>,
    found: &[hygiene::Finding],
    suppress: &[String],
    first_seen: &HashMap<String, Timestamp>,
    now: Timestamp,
) -> Findings {
    let (suppressed, open): (Vec<_>, Vec<_>) = found
        .iter()
        .partition(|finding| suppress.contains(&finding.id));
    let count = |severity: Severity| {
        let number = open
            .iter()
            .filter(|finding| finding.severity == severity)
            .count();
        i64::try_from(number).ok()
    };
    Findings {
        critical: count(Severity::Critical),
        warning: count(Severity::Warning),
        info: count(Severity::Info),
        suppressed: i64::try_from(suppressed.len()).ok(),
        truncated: i64::try_from(open.len().saturating_sub(TOP)).ok(),
        top: open
            .iter()
            .take(TOP)
            .map(|finding| {
                let remembered = first_seen.get(&finding.id).copied();
                shown(previous, finding, remembered, now)
            })
            .collect(),
    }
}

fn shown(
    previous: Option<&Findings>,
    finding: &hygiene::Finding,
    remembered: Option<Timestamp>,
    now: Timestamp,
) -> Finding {
    let known = previous
        .into_iter()
        .flat_map(|findings| &findings.top)
        .find(|known| known.id == finding.id)
        .and_then(|known| Some(known.first_seen.as_ref()?.0));
    let first = known.into_iter().chain(remembered).min().unwrap_or(now);
    Finding {
        id: finding.id.clone(),
        severity: Some(finding.severity.as_str().to_owned()),
        object: Some(finding.object.clone()),
        evidence: Some(finding.evidence.clone()),
        estimated_bytes: finding
            .estimated_bytes
            .and_then(|bytes| i64::try_from(bytes).ok()),
        first_seen: Some(whole_seconds(first)),
    }
}
