//! What is refused, with which words, and what is not.

use std::path::PathBuf;

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::api::{Mode, Quantity};

fn document(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).expect("the fixture is YAML")
}

fn refusals(document: &Value) -> Vec<String> {
    check_document(document)
        .err()
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn minimal() -> Value {
    document(include_str!(
        "../../../tests/fixtures/policies/good/minimal.yaml"
    ))
}

#[rstest]
fn a_bad_policy_is_refused_with_advice(
    #[files("tests/fixtures/policies/bad/*.yaml")] file: PathBuf,
) {
    let yaml = std::fs::read_to_string(&file).expect("the fixture is read");
    let expected = yaml
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("# expect: "))
        .expect("a first line `# expect: …`");

    let refusals = refusals(&document(&yaml));

    assert!(
        refusals.iter().any(|refusal| refusal.contains(expected)),
        "expected {expected:?}, got {refusals:#?}"
    );
    assert_eq!(
        refusals.len(),
        1,
        "a fixture has one mistake, got {refusals:#?}"
    );
}

#[rstest]
fn a_good_policy_is_accepted(#[files("tests/fixtures/policies/good/*.yaml")] file: PathBuf) {
    let yaml = std::fs::read_to_string(&file).expect("the fixture is read");

    assert_eq!(refusals(&document(&yaml)), Vec::<String>::new());
}

#[rstest]
#[case(json!({"name": "x", "annotations": {"x": 1}}), None, "metadata.annotations.x: Invalid value: 1: must be of type string: write it in quotes")]
#[case(json!({"name": "x", "labels": {"on": true}}), None, "metadata.labels.on: Invalid value: true: must be of type string: write it in quotes")]
#[case(json!({"name": "x"}), Some(false), "write it in quotes, such as \"Off\"")]
fn what_yaml_reads_as_no_text_is_to_be_quoted(
    #[case] metadata: Value,
    #[case] ledger: Option<bool>,
    #[case] says: &str,
) {
    let mut document = minimal();
    document["metadata"] = metadata;
    if let Some(ledger) = ledger {
        document["spec"]["database"]["ledger"] = json!(ledger);
    }

    let refusals = refusals(&document);

    assert!(refusals.iter().any(|it| it.contains(says)), "{refusals:#?}");
}

#[test]
fn the_whole_example_comes_through_unchanged() {
    let mut written = document(include_str!(
        "../../../tests/fixtures/policies/good/whole-example.yaml"
    ));

    let policy = check_document(&written).expect("the example is accepted");

    let read = serde_json::to_value(&policy).expect("a policy is JSON");
    assert_eq!(read["spec"], written["spec"].take());
}

#[test]
fn the_defaults_of_the_api_are_filled_in() {
    let policy = check_document(&minimal()).expect("the minimal policy is accepted");

    assert_eq!(policy.spec.mode, Mode::Audit);
    assert!(!policy.spec.suspend);
    assert!(policy.status.is_none());
}

#[test]
fn a_quantity_that_is_a_number_is_understood() {
    let policy = check_document(&document(include_str!(
        "../../../tests/fixtures/policies/good/wal-rate-as-number.yaml"
    )))
    .expect("a number is a quantity");

    let rate = policy
        .spec
        .pace
        .and_then(|pace| pace.max_wal_bytes_per_second);
    assert_eq!(rate.as_ref().and_then(Quantity::whole), Some(16 << 20));
}

#[test]
fn an_unknown_field_is_named_with_its_path_and_the_nearest_known_one() {
    let mut policy = minimal();
    policy["spec"]["holdz"] = json!([]);
    policy["spec"]["rules"] = json!([{
        "name": "a", "table": "a", "column": "at", "expireAfter": "1d", "action": "Delete",
        "expiresAfter": "1d", "colour": "red",
    }]);
    policy["metadata"]["lables"] = json!({});
    policy["extra"] = json!(1);

    assert_eq!(
        refusals(&policy),
        [
            "metadata.lables: unknown field: did you mean labels?",
            "extra: unknown field: remove it",
            "spec.holdz: unknown field: did you mean holds?",
            "spec.rules[0].colour: unknown field: remove it",
            "spec.rules[0].expiresAfter: unknown field: did you mean expireAfter?",
        ]
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mut policy = minimal();
    policy["spec"]["rules"] =
        json!([{"name": "A", "table": "", "column": "at", "expireAfter": "1", "action": "Delete"}]);
    policy["spec"]["pace"] = json!({"maxDuty": 0});

    let paths: Vec<_> = check_document(&policy)
        .expect_err("four mistakes")
        .into_iter()
        .map(|e| e.path)
        .collect();

    assert_eq!(
        paths,
        [
            "spec.pace.maxDuty",
            "spec.rules[0].expireAfter",
            "spec.rules[0].name",
            "spec.rules[0].table"
        ]
    );
}

#[rstest]
#[case(json!("orders"), "the document is no object: write a RetentionPolicy")]
#[case(json!({"kind": "RetentionPolicy"}), "apiVersion: missing: write apiVersion: retention-operator.io/v1alpha1")]
#[case(json!({"apiVersion": "v1", "kind": "RetentionPolicy"}), "apiVersion: \"v1\": write apiVersion: retention-operator.io/v1alpha1")]
#[case(json!({"apiVersion": API_VERSION, "kind": "List"}), "kind: \"List\": write kind: RetentionPolicy")]
#[case(json!({"apiVersion": API_VERSION, "kind": KIND, "spec": {"database": {"secretRef": {"name": "a"}}}}), "metadata.name: Required value: write a name for the policy")]
#[case(json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "a", "labels": 1}, "spec": {"database": {"secretRef": {"name": "a"}}}}), "invalid type")]
fn a_document_that_is_no_policy_is_refused(#[case] document: Value, #[case] expected: &str) {
    let refusals = refusals(&document);

    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(refusals[0].contains(expected), "{refusals:?}");
}

#[rstest]
#[case(json!(1e20))]
#[case(json!(18_446_744_073_709_551_615_u64))]
#[case(json!(5.0))]
fn a_number_that_is_whole_and_fits_no_field_is_named(#[case] rows: Value) {
    let mut policy = minimal();
    policy["spec"]["rules"] = json!([{"name": "a", "table": "a", "column": "at", "expireAfter": "1d", "action": "Delete", "limits": {"maxRows": rows}}]);

    let refusals = refusals(&policy);

    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(
        refusals[0].starts_with("spec.rules[0].limits.maxRows: "),
        "{refusals:?}"
    );
}

#[test]
fn a_value_of_the_wrong_type_is_told_what_the_field_holds() {
    let mut policy = minimal();
    policy["spec"]["rules"] = json!([
        {"name": "logs", "table": "logs", "column": "at", "expireAfter": 292, "action": "Delete"}
    ]);

    let refusals = refusals(&policy);

    let expected = "spec.rules[0].expireAfter: Invalid value: 292: must be of type string: Age at which a row has expired";
    assert!(refusals[0].starts_with(expected), "{refusals:#?}");
    assert!(refusals[0].contains("Example: 365d"), "{refusals:#?}");
}

#[test]
fn a_missing_field_is_explained() {
    let mut policy = minimal();
    policy["spec"]["rules"] =
        json!([{"name": "a", "table": "a", "column": "at", "expireAfter": "1d"}]);

    let refusals = refusals(&policy);

    assert_eq!(
        refusals,
        [
            "spec.rules[0].action: Required value: What happens to an expired row. Delete: it is gone; Archive: it is stored in archive first."
        ]
    );
}
