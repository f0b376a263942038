//! The gate of a pipeline: which findings make `audit` end as violated.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::{
    api::API_VERSION,
    policy::hygiene::{Finding, Severity},
};

/// What the gate lets through.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Gate {
    /// End with code 2 when there are findings at least this grave. Suppressed ones never count.
    #[arg(long, value_enum, value_name = "SEVERITY")]
    fail_on: Option<FailOn>,

    /// A JSON report of an earlier audit: its findings are known, and only new ones, or those that became graver, count for --fail-on.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
}

/// What an earlier audit found, by id, and how grave it was.
pub(super) type Baseline = HashMap<String, Severity>;

/// Ids that a note names.
const SHOWN: usize = 5;

/// From which severity on findings fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Only what endangers the service.
    Critical,
    /// Also what costs something every day.
    Warning,
}

impl FailOn {
    fn severity(self) -> Severity {
        match self {
            Self::Critical => Severity::Critical,
            Self::Warning => Severity::Warning,
        }
    }
}

/// A finding beside what the policy and the gate make of it.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) finding: Finding,
    /// `audit.suppress` accepts it.
    pub(super) suppressed: bool,
    /// The baseline has it, no less grave; `None`: there is no baseline.
    pub(super) known: Option<bool>,
    /// It makes the audit end as violated.
    pub(super) fails: bool,
}

impl Gate {
    /// The baseline, if there is one.
    ///
    /// # Errors
    /// In words, when it cannot be read.
    pub(super) fn baseline(&self) -> Result<Option<Baseline>, String> {
        self.baseline.as_deref().map(read).transpose()
    }

    /// Judges findings; their order stays.
    pub(super) fn judge(
        &self,
        findings: Vec<Finding>,
        suppress: &[String],
        baseline: Option<&Baseline>,
    ) -> Vec<Judged> {
        let least = self.fail_on.map(FailOn::severity);
        judge(findings, suppress, baseline, least)
    }
}

fn judge(
    findings: Vec<Finding>,
    suppress: &[String],
    baseline: Option<&Baseline>,
    least: Option<Severity>,
) -> Vec<Judged> {
    findings
        .into_iter()
        .map(|finding| {
            let suppressed = suppress.contains(&finding.id);
            let known = baseline.map(|baseline| {
                let before = baseline.get(&finding.id);
                before.is_some_and(|before| finding.severity <= *before)
            });
            Judged {
                suppressed,
                known,
                fails: !suppressed
                    && known != Some(true)
                    && least.is_some_and(|least| finding.severity >= least),
                finding,
            }
        })
        .collect()
}

/// What of the policy and the baseline says nothing of this database (any more).
pub(super) fn notes(
    judged: &[Judged],
    suppress: &[String],
    baseline: Option<&Baseline>,
) -> Vec<String> {
    let found: HashSet<&str> = judged
        .iter()
        .map(|judged| judged.finding.id.as_str())
        .collect();
    let mut notes = Vec::new();
    let idle: Vec<&str> = suppress
        .iter()
        .map(String::as_str)
        .filter(|id| !found.contains(id))
        .collect();
    if !idle.is_empty() {
        notes.push(format!(
            "audit.suppress: {} of {} ids are of no finding: {}{}; what was mended can be taken out{}, what is misspelt suppresses nothing",
            idle.len(),
            suppress.len(),
            idle.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", "),
            if idle.len() > SHOWN { ", …" } else { "" },
            if idle.iter().any(|id| is_of_use(id)) {
                ", unless its use is only not known at present (unused-…)"
            } else {
                ""
            }
        ));
    }
    let gone: Vec<&str> = baseline
        .into_iter()
        .flat_map(HashMap::keys)
        .map(String::as_str)
        .filter(|id| !found.contains(id))
        .collect();
    if !gone.is_empty() {
        let of_use = gone.iter().filter(|id| is_of_use(id)).count();
        notes.push(format!(
            "baseline: {} of its findings are gone{}; written anew, it would not let them come back",
            gone.len(),
            if of_use > 0 {
                format!(", or not known at present ({of_use} of use)")
            } else {
                String::new()
            }
        ));
    }
    notes
}

/// A finding of this id also goes away while the use cannot be told, and comes back.
fn is_of_use(id: &str) -> bool {
    id.starts_with("unused-")
}

fn read(file: &Path) -> Result<Baseline, String> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("--baseline: cannot read {name}: {error}"))?;
    known(&text).map_err(|why| format!("--baseline: {name} {why}"))
}

fn known(text: &str) -> Result<Baseline, String> {
    const WANTED: &str =
        "is no report of an audit: write the output of `audit --output json` to it";
    // Some shells begin what they write to a file with a byte order mark.
    let report: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| format!("is not JSON: {error}"))?;
    if report.get("kind").and_then(Value::as_str) != Some("Report") {
        return Err(WANTED.to_owned());
    }
    let version = report.get("apiVersion").and_then(Value::as_str);
    if let Some(version) = version.filter(|version| *version != API_VERSION) {
        return Err(format!(
            "is a report of {version}, and this is {API_VERSION}: write it anew with `audit --output json`"
        ));
    }
    let findings = report.get("findings").and_then(Value::as_array);
    findings
        .ok_or(WANTED)?
        .iter()
        .map(|finding| {
            let text = |name| finding.get(name).and_then(Value::as_str);
            let severity = text("severity").and_then(Severity::of_name);
            let (id, severity) = text("id").zip(severity).ok_or(WANTED)?;
            Ok((id.to_owned(), severity))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::policy::hygiene::{Advice, Check};

    fn finding(severity: Severity) -> Finding {
        let advice = Advice::words("drop it");
        Finding::new(Check::UnusedIndex, severity, "public.t.i", "e", advice)
    }

    const ID: &str = "unused-index:public.t.i";

    fn baseline_of<const N: usize>(ids: [&str; N]) -> Baseline {
        ids.map(|id| (id.to_owned(), Severity::Warning)).into()
    }

    #[rstest]
    #[case::no_gate(None, Severity::Critical, false)]
    #[case::graver(Some(Severity::Warning), Severity::Critical, true)]
    #[case::as_grave(Some(Severity::Warning), Severity::Warning, true)]
    #[case::less_grave(Some(Severity::Critical), Severity::Warning, false)]
    fn findings_fail_from_the_given_severity_on(
        #[case] least: Option<Severity>,
        #[case] severity: Severity,
        #[case] fails: bool,
    ) {
        let judged = judge(vec![finding(severity)], &[], None, least);

        assert_eq!(judged[0].fails, fails);
    }

    #[test]
    fn what_is_suppressed_never_fails() {
        let judged = judge(
            vec![finding(Severity::Critical)],
            &[ID.to_owned()],
            None,
            Some(Severity::Warning),
        );

        assert!(judged[0].suppressed && !judged[0].fails);
    }

    #[rstest]
    #[case::known(ID, Severity::Warning, false)]
    #[case::graver_then(ID, Severity::Critical, false)]
    #[case::graver_now(ID, Severity::Info, true)]
    #[case::new("unused-index:public.t.other", Severity::Warning, true)]
    fn only_what_the_baseline_does_not_have_or_what_became_graver_fails(
        #[case] in_baseline: &str,
        #[case] then: Severity,
        #[case] fails: bool,
    ) {
        let baseline = Baseline::from([(in_baseline.to_owned(), then)]);

        let judged = judge(
            vec![finding(Severity::Warning)],
            &[],
            Some(&baseline),
            Some(Severity::Warning),
        );

        assert_eq!(judged[0].fails, fails);
        assert_eq!(judged[0].known, Some(!fails));
    }

    #[test]
    fn a_report_is_a_baseline() {
        let text = format!(
            "\u{feff}{}",
            json!({"kind": "Report", "findings": [{"id": ID, "severity": "warning"}]})
        );

        let expected = Baseline::from([(ID.to_owned(), Severity::Warning)]);
        assert_eq!(known(&text), Ok(expected));
    }

    #[test]
    fn ids_of_no_finding_are_said() {
        let judged = judge(vec![finding(Severity::Warning)], &[], None, None);
        let gone = baseline_of([ID, "unused-index:public.t.gone"]);
        let suppress = [ID.to_owned(), "unused-index:public.t.misspelt".to_owned()];

        let notes = notes(&judged, &suppress, Some(&gone));

        assert!(
            notes[0].starts_with(
                "audit.suppress: 1 of 2 ids are of no finding: unused-index:public.t.misspelt;"
            ),
            "{notes:?}"
        );
        assert!(
            notes[1].starts_with("baseline: 1 of its findings are gone"),
            "{notes:?}"
        );
        let known = baseline_of([ID]);
        assert_eq!(super::notes(&judged, &[], Some(&known)), [""; 0]);
    }

    #[test]
    fn what_may_only_be_unknown_at_present_is_never_called_mended() {
        let unused = "unused-index:public.t.i".to_owned();
        let bloated = "bloated-table:public.t".to_owned();
        let suppress = [unused.clone(), bloated.clone()];
        let baseline = baseline_of([&*unused, &*bloated]);

        let notes = notes(&[], &suppress, Some(&baseline));

        assert!(
            notes[0].contains("what was mended can be taken out, unless its use is only not known at present (unused-…)"),
            "{notes:?}"
        );
        assert!(
            notes[1].starts_with(
                "baseline: 2 of its findings are gone, or not known at present (1 of use);"
            ),
            "{notes:?}"
        );
    }

    #[rstest]
    #[case::not_json("findings: []", "is not JSON")]
    #[case::empty("", "is not JSON")]
    #[case::another_kind(r#"{"kind": "Plan"}"#, "audit --output json")]
    #[case::another_version(
        r#"{"apiVersion": "retention-operator.io/v9", "kind": "Report", "findings": []}"#,
        "is a report of retention-operator.io/v9"
    )]
    #[case::without_ids(r#"{"kind": "Report", "findings": [{}]}"#, "audit --output json")]
    fn anything_else_is_refused_with_what_to_write(#[case] text: &str, #[case] says: &str) {
        assert!(known(text).is_err_and(|why| why.contains(says)));
    }
}
