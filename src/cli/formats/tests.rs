use rstest::rstest;
use serde_json::{Value, json};

use super::{junit_schema::Element, *};
use crate::{
    engine::ledger::DayPoint,
    policy::hygiene::{Advice, Check, Finding},
};

fn judged(check: Check, severity: Severity, suppressed: bool, fails: bool) -> Judged {
    let advice = Advice::run(
        "drop <it>",
        "DROP INDEX CONCURRENTLY \"public\".\"i\";",
        None,
    );
    Judged {
        finding: Finding::new(
            check,
            severity,
            "public.t.i&\u{1}",
            "0 scans in 91 days",
            advice,
        )
        .winning(8192),
        suppressed,
        known: Some(!fails),
        fails,
    }
}

/// What every format is made of: a refused rule, a violated one, a clean one, and three findings.
fn with_audited<T>(print: impl FnOnce(&Audited<'_>) -> T) -> T {
    let policy: RetentionPolicy = serde_json::from_value(json!({
        "apiVersion": crate::api::API_VERSION, "kind": crate::api::KIND,
        "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {"database": {"secretRef": {"name": "orders"}}},
    }))
    .expect("a policy");
    let status: RetentionPolicyStatus = serde_json::from_value(json!({
        "rules": [
            {"name": "bad", "reason": "TableNotFound", "message": "table nowhere does not exist"},
            {"name": "old", "table": "public.t", "cutoff": "2026-01-01T00:00:00Z",
             "expiredRows": {"value": 5, "method": "Histogram", "exact": false}},
            {"name": "clean", "table": "public.u", "expiredRows": {"value": 0, "method": "Count", "exact": true}},
        ],
    }))
    .expect("a status");
    let findings = [
        judged(Check::InvalidIndex, Severity::Critical, false, true),
        judged(Check::UnusedIndex, Severity::Warning, false, false),
        judged(Check::NoPrimaryKey, Severity::Info, true, false),
    ];
    print(&Audited {
        policy: &policy,
        file: "policies/orders prod.yaml",
        status: &status,
        findings: &findings,
        first_seen: &HashMap::new(),
        violated: &["old".to_owned()],
        changes: &[report::Change {
            since: "2026-10-25T03:00:00Z".parse().expect("a time"),
            before: day(1_000, [1, 5, 3]),
            now: day(880, [0, 2, 2]),
        }],
        trend: &[TrendPoint {
            taken: "2026-10-25T03:00:00Z".parse().expect("a time"),
            day: day(1_000, [1, 5, 3]),
        }],
        notes: &["not seen: statistics of columns".to_owned()],
    })
}

#[test]
fn sarif_follows_its_schema() {
    let mut schema: Value = serde_json::from_str(include_str!(
        "../../../tests/fixtures/schemas/sarif-2.1.0.json"
    ))
    .expect("the schema");
    // As published, this pattern has a bracket too many to be one. The report states no language.
    for part in ["run", "toolComponent"] {
        schema["definitions"][part]["properties"]["language"]["pattern"] = json!(".*");
    }
    let validator = jsonschema::validator_for(&schema).expect("a valid schema");

    let report = with_audited(sarif::report);

    let errors: Vec<String> = validator
        .iter_errors(&report)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn sarif_tells_new_known_and_suppressed_results_apart() {
    let report = with_audited(sarif::report);

    let results = report["runs"][0]["results"].as_array().expect("results");
    let told: Vec<(&str, &str, Option<&str>, bool)> = results
        .iter()
        .map(|result| {
            (
                result["ruleId"].as_str().expect("a rule"),
                result["level"].as_str().expect("a level"),
                result["baselineState"].as_str(),
                result.get("suppressions").is_some(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("rule-refused", "error", None, false),
            ("expired-rows", "warning", None, false),
            ("invalid-index", "error", Some("new"), false),
            ("unused-index", "warning", Some("unchanged"), false),
            ("no-primary-key", "note", Some("unchanged"), true),
        ]
    );
    let uri = &results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(uri, "policies/orders%20prod.yaml");
}

#[test]
fn junit_has_a_case_for_every_rule_and_every_check_and_fails_those_that_fail() {
    let xml = with_audited(junit::report).expect("xml");

    assert_eq!(xml.matches("<testcase ").count(), 3 + Check::ALL.len());
    assert!(xml.contains(&format!(
        "<testsuites name=\"retention-operator shop/orders\" tests=\"{}\" failures=\"2\" errors=\"1\">",
        3 + Check::ALL.len()
    )));
    assert_eq!(xml.matches("<failure ").count(), 2);
    assert_eq!(xml.matches("<error ").count(), 1);
    assert!(xml.contains("drop &lt;it&gt;") && xml.contains("public.t.i&amp;\u{fffd}"));
    assert!(xml.contains("info no-primary-key:public.t.i&amp;\u{fffd} (suppressed)"));
    assert!(xml.contains("<system-out>not seen: statistics of columns</system-out>"));
}

#[test]
fn json_tells_of_every_finding_whether_it_counts() {
    let report = with_audited(json::report);

    assert_eq!(
        report["findings"][0],
        json!({
            "id": "invalid-index:public.t.i&\u{1}", "check": "invalid-index", "severity": "critical",
            "object": "public.t.i&\u{1}", "evidence": "0 scans in 91 days", "advice": "drop <it>",
            "apply": "DROP INDEX CONCURRENTLY \"public\".\"i\";", "estimatedBytes": 8192,
            "suppressed": false, "new": true,
        })
    );
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(3));
}

fn day(size: i64, findings: [i64; 3]) -> DayPoint {
    DayPoint {
        size_bytes: size,
        expired_rows: None,
        dead_rows: Some(7),
        findings,
    }
}

#[test]
fn json_and_markdown_tell_how_the_database_changed() {
    let report = with_audited(json::report);
    let text = with_audited(markdown::report);

    let line =
        "since 2026-10-25: size −12 %, dead rows 7 as before, findings 9 → 4 (critical 1 → 0)";
    assert_eq!(report["changes"], json!([line]));
    assert_eq!(
        report["trend"],
        json!([{"time": "2026-10-25T03:00:00Z", "sizeBytes": 1_000, "expiredRows": null, "deadRows": 7,
                "findings": {"critical": 1, "warning": 5, "info": 3}}])
    );
    assert!(text.contains(line), "{text}");
}

#[test]
fn markdown_counts_what_is_open_and_names_what_is_new() {
    let text = with_audited(markdown::report);

    assert!(text.contains("### Findings: 1 critical, 1 warning, 0 info, 1 suppressed"));
    assert!(text.contains("| critical **new** | <code>invalid-index:public.t.i&amp;</code>"));
    assert!(!text.contains("no-primary-key"), "suppressed: {text}");
    assert!(text.contains("> not seen: statistics of columns"));
}

/// One rule and one finding whose names and words are `text`.
fn junit_of(text: &str) -> String {
    let policy: RetentionPolicy = serde_json::from_value(json!({
        "apiVersion": crate::api::API_VERSION, "kind": crate::api::KIND,
        "metadata": {"name": text, "namespace": "shop"},
        "spec": {"database": {"secretRef": {"name": "orders"}}},
    }))
    .expect("a policy");
    let status: RetentionPolicyStatus = serde_json::from_value(json!({
        "rules": [{"name": "bad", "reason": "TableNotFound", "message": text, "table": text}],
    }))
    .expect("a status");
    let advice = Advice::run(text, text, None);
    let finding = Finding::new(Check::NoPrimaryKey, Severity::Warning, text, text, advice);
    let judged = [false, true].map(|fails| Judged {
        finding: finding.clone(),
        suppressed: !fails,
        known: None,
        fails,
    });
    junit::report(&Audited {
        policy: &policy,
        file: "policy.yaml",
        status: &status,
        findings: &judged,
        first_seen: &HashMap::new(),
        violated: &[],
        changes: &[],
        trend: &[],
        notes: &[],
    })
    .expect("XML")
}

#[rstest]
#[case::plain("public.t")]
#[case::markup("<a href=\"x\">'&amp;</a>")]
#[case::end_of_cdata("]]> <![CDATA[ <!-- -->")]
#[case::control_characters("a\u{0}b\u{1}c\u{8}d\u{b}e\u{c}f\u{1b}g\u{1f}h\u{7f}i\u{9b}j")]
#[case::noncharacters("a\u{fffe}b\u{ffff}c\u{fdd0}d")]
#[case::lines_and_tabs("a\nb\r\nc\td")]
#[case::beyond_the_basic_plane("\u{1f5c4}\u{10ffff}")]
#[case::right_to_left("\u{202e}lanoitcnuf\u{202c}")]
#[case::empty("")]
fn junit_follows_its_schema_whatever_the_names_are(#[case] text: &str) {
    let xml = junit_of(text);

    let root = junit_schema::validate(&xml).unwrap_or_else(|error| panic!("{error}\n{xml}"));

    // What can be written at all arrives as it was.
    let readable: String = text
        .chars()
        .map(|c| {
            if junit_schema::is_char(c) {
                c
            } else {
                '\u{fffd}'
            }
        })
        .collect();
    let bodies: Vec<&str> = all(&root)
        .into_iter()
        .filter(|element| matches!(element.name.as_str(), "failure" | "error"))
        .map(|element| element.text.as_str())
        .collect();
    let unix = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n");
    assert!(
        bodies
            .iter()
            .all(|body| unix(body).contains(&unix(&readable))),
        "{bodies:?}"
    );
    assert_eq!(bodies.len(), 2);
}

fn all(element: &Element) -> Vec<&Element> {
    let below = element.children.iter().flat_map(all);
    std::iter::once(element).chain(below).collect()
}

#[test]
fn junit_of_a_whole_report_follows_its_schema() {
    let xml = with_audited(junit::report).expect("XML");

    junit_schema::validate(&xml).unwrap_or_else(|error| panic!("{error}\n{xml}"));
}

#[rstest]
#[case::no_root("<?xml version=\"1.0\"?>")]
#[case::another_root("<report/>")]
#[case::a_count_that_is_none("<testsuites name=\"a\" tests=\"x\" failures=\"0\" errors=\"0\"/>")]
#[case::a_count_that_is_wrong("<testsuites name=\"a\" tests=\"1\" failures=\"0\" errors=\"0\"/>")]
#[case::an_attribute_that_nobody_knows(
    "<testsuites name=\"a\" tests=\"0\" failures=\"0\" errors=\"0\" color=\"red\"/>"
)]
#[case::a_character_that_is_none(
    "<testsuites name=\"&#1;\" tests=\"0\" failures=\"0\" errors=\"0\"/>"
)]
#[case::text_where_none_belongs(
    "<testsuites name=\"a\" tests=\"0\" failures=\"0\" errors=\"0\">text</testsuites>"
)]
#[case::not_closed("<testsuites name=\"a\" tests=\"0\" failures=\"0\" errors=\"0\">")]
fn the_schema_refuses_what_is_no_report(#[case] xml: &str) {
    assert!(junit_schema::validate(xml).is_err());
}
