//! The CRD as it is installed: what the types generate, and what no attribute on a type can say.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::RetentionPolicy;

/// Why the CRD cannot be generated. Neither case depends on anything but the program itself.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// The generated CRD is no JSON, or what was made of it is no CRD.
    #[error("the generated CRD is malformed: {0}")]
    Json(#[from] serde_json::Error),
    /// The CRD cannot be written as YAML.
    #[error("the CRD cannot be written as YAML: {0}")]
    Yaml(#[from] serde_saphyr::ser::Error),
}

/// First lines of the CRD file.
const HEADER: &str =
    "# Generated from src/api by `make generate`. Change the types, not this file.\n";

/// The CRD of `RetentionPolicy`.
///
/// # Errors
/// When the generated schema is malformed, which the tests rule out.
pub fn crd() -> Result<CustomResourceDefinition, CrdError> {
    let mut crd = serde_json::to_value(RetentionPolicy::crd())?;
    polish(&mut crd);
    // An unseen policy would look settled to kstatus, were there no status at all.
    for version in crd
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(status) = version
            .pointer_mut("/schema/openAPIV3Schema/properties/status")
            .and_then(Value::as_object_mut)
        {
            status.insert("default".into(), json!({"observedGeneration": -1}));
        }
    }
    Ok(serde_json::from_value(crd)?)
}

/// The CRD as a YAML document.
///
/// # Errors
/// When the generated schema is malformed, which the tests rule out.
pub fn crd_yaml() -> Result<String, CrdError> {
    // One line per text: a rule that a fold breaks at a space is hard to read and to compare.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    Ok(format!(
        "{HEADER}{}",
        serde_saphyr::to_string_with_options(&crd()?, options)?
    ))
}

/// The OpenAPI schema of the whole object, as the CRD holds it.
///
/// # Errors
/// When the generated schema is malformed, which the tests rule out.
pub fn schema() -> Result<Value, CrdError> {
    let crd = serde_json::to_value(crd()?)?;
    Ok(crd
        .pointer("/spec/versions/0/schema/openAPIV3Schema")
        .cloned()
        .unwrap_or_default())
}

/// Walks through the whole document and makes each schema in it what the API server should serve.
fn polish(node: &mut Value) {
    match node {
        Value::Object(schema) => {
            polish_schema(schema);
            schema.values_mut().for_each(polish);
        }
        Value::Array(items) => items.iter_mut().for_each(polish),
        _ => {}
    }
}

/// Makes one schema what the API server should serve.
fn polish_schema(schema: &mut Map<String, Value>) {
    // An optional field may be left out; writing null says nothing more.
    if schema.get("nullable") == Some(&Value::Bool(true)) {
        schema.remove("nullable");
    }
    if schema
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|format| format.starts_with("uint"))
    {
        schema.remove("format");
    }
    // Doc comments are wrapped for the source; `kubectl explain` wraps for the terminal.
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    // Entries that are owned one by one would multiply managedFields.
    if schema.get("type").and_then(Value::as_str) == Some("array") && schema.contains_key("items") {
        schema
            .entry("x-kubernetes-list-type")
            .or_insert_with(|| "atomic".into());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::*;

    /// Every schema in the CRD, with the path to it.
    fn schemas(path: &str, node: &Value, found: &mut Vec<(String, Map<String, Value>)>) {
        let Value::Object(schema) = node else { return };
        found.push((path.to_owned(), schema.clone()));
        for (field, child) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            schemas(&format!("{path}.{field}"), child, found);
        }
        if let Some(items) = schema.get("items") {
            schemas(&format!("{path}[]"), items, found);
        }
    }

    fn all_schemas() -> Vec<(String, Map<String, Value>)> {
        let mut found = Vec::new();
        schemas("", &schema().expect("the schema is generated"), &mut found);
        assert!(found.len() > 200, "only {} schemas were found", found.len());
        found
    }

    #[test]
    fn crds_file_matches_types() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("crds/retentionpolicies.retention-operator.io.yaml");
        let generated = crd_yaml().expect("the CRD is generated");
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(&file, &generated).expect("the CRD file is written");
        }

        let stored = std::fs::read_to_string(&file).expect("the CRD file is read");

        assert!(
            stored == generated,
            "{} does not match the types: run `make generate`",
            file.display()
        );
    }

    #[test]
    fn the_yaml_reads_back_as_the_same_crd() {
        let yaml = crd_yaml().expect("the CRD is generated");

        let read: Value = serde_saphyr::from_str(&yaml).expect("the YAML is read");

        assert_eq!(
            read,
            serde_json::to_value(crd().expect("the CRD is generated")).expect("the CRD is JSON")
        );
    }

    #[test]
    fn no_field_is_nullable_or_unsigned_or_a_fraction() {
        for (path, schema) in all_schemas() {
            assert!(!schema.contains_key("nullable"), "{path} is nullable");
            assert_ne!(
                schema.get("type"),
                Some(&json!("number")),
                "{path} is a fraction"
            );
            let format = schema
                .get("format")
                .and_then(Value::as_str)
                .unwrap_or_default();
            assert!(
                ["", "int32", "int64", "date-time"].contains(&format),
                "{path} has the format {format}"
            );
            assert!(
                !schema
                    .get("enum")
                    .and_then(Value::as_array)
                    .is_some_and(|values| values.contains(&Value::Null)),
                "{path} allows null"
            );
        }
    }

    #[test]
    fn conditions_are_a_map_by_type_and_other_lists_are_atomic() {
        let lists: Vec<_> = all_schemas()
            .into_iter()
            .filter(|(_, s)| s.get("type") == Some(&json!("array")))
            .collect();

        assert_eq!(
            lists.len(),
            10,
            "{:?}",
            lists.iter().map(|(path, _)| path).collect::<Vec<_>>()
        );
        for (path, schema) in lists {
            let (kind, keys) = if path == ".status.conditions" {
                ("map", Some(json!(["type"])))
            } else {
                ("atomic", None)
            };
            assert_eq!(
                schema.get("x-kubernetes-list-type"),
                Some(&json!(kind)),
                "{path}"
            );
            assert_eq!(
                schema.get("x-kubernetes-list-map-keys"),
                keys.as_ref(),
                "{path}"
            );
        }
    }

    #[test]
    fn only_mode_suspend_and_status_have_defaults() {
        let mut defaults: Vec<_> = all_schemas()
            .into_iter()
            .filter_map(|(path, s)| Some((path, s.get("default")?.clone())))
            .collect();
        defaults.sort_by(|a, b| a.0.cmp(&b.0));

        assert_eq!(
            defaults,
            [
                (".spec.mode".to_owned(), json!("Audit")),
                (".spec.suspend".to_owned(), json!(false)),
                (".status".to_owned(), json!({"observedGeneration": -1})),
            ]
        );
    }

    #[test]
    fn every_field_is_explained() {
        for (path, schema) in all_schemas() {
            let is_item = path.is_empty() || path.ends_with("[]");
            assert!(
                is_item || schema.contains_key("description"),
                "{path} has no description"
            );
        }
    }

    #[test]
    fn optional_enums_keep_the_description_of_their_field() {
        let found = all_schemas();
        for (path, start) in [
            (".spec.rules[].mode", "Audit: this rule only reports"),
            (".spec.rules[].encoding", "How a number or a text"),
            (".spec.database.ledger", "The operator's own schema"),
            (".spec.mode", "Audit: report only, change nothing; Enforce"),
        ] {
            let description = found
                .iter()
                .find(|(p, _)| p == path)
                .and_then(|(_, s)| s.get("description"));
            let text = description.and_then(Value::as_str).unwrap_or_default();
            assert!(text.starts_with(start), "{path}: {text}");
        }
    }

    #[test]
    fn every_rule_says_what_to_write() {
        let mut rules = 0;
        for (path, schema) in all_schemas() {
            for rule in schema
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let text = |key| rule.get(key).and_then(Value::as_str).unwrap_or_default();
                let message = format!("{}{}", text("message"), text("messageExpression"));
                let advice = message
                    .rsplit_once(": ")
                    .map(|(_, advice)| advice)
                    .unwrap_or_default();
                assert!(
                    ["write ", "add ", "remove "].iter().any(|verb| message.contains(&format!(": {verb}")) || advice.contains(verb)),
                    "{path}: the message does not say what to write: {message}"
                );
                rules += 1;
            }
        }
        assert!(rules >= 40, "only {rules} rules were found");
    }

    #[test]
    fn every_text_that_a_rule_reads_is_bounded() {
        for (path, schema) in all_schemas() {
            let is_text = schema.get("type") == Some(&json!("string"));
            if is_text && path.starts_with(".spec") && !schema.contains_key("enum") {
                assert!(schema.contains_key("maxLength"), "{path} has no maxLength");
            }
            if schema.get("type") == Some(&json!("array")) && path.starts_with(".spec") {
                assert!(schema.contains_key("maxItems"), "{path} has no maxItems");
            }
        }
    }

    #[test]
    fn the_columns_are_those_of_the_design() {
        let crd = crd().expect("the CRD is generated");
        let columns = crd.spec.versions[0]
            .additional_printer_columns
            .clone()
            .unwrap_or_default();

        let named = |priority: Option<i32>| -> Vec<String> {
            columns
                .iter()
                .filter(|c| c.priority == priority)
                .map(|c| c.name.to_uppercase())
                .collect()
        };

        assert_eq!(
            named(None),
            [
                "MODE",
                "READY",
                "COMPLIANT",
                "EXPIRED",
                "LAST SWEEP",
                "NEXT SWEEP",
                "AGE"
            ]
        );
        assert_eq!(named(Some(1)), ["ENGINE", "DELETED", "ARCHIVED", "REASON"]);
    }

    #[rstest]
    #[case("90d", true)]
    #[case("1y 6mo", true)]
    #[case("6mo 1y", true)]
    #[case("0s", true)]
    #[case("0d", false)]
    #[case("6m", false)]
    #[case("-90d", false)]
    #[case("90d ago", false)]
    #[case("90 d", false)]
    #[case("1y6mo", false)]
    #[case("99999y", false)]
    fn the_age_pattern_takes_ages_only(#[case] text: &str, #[case] is_age: bool) {
        let schema = json!({"type": "object", "properties": {"age": {"type": "string", "pattern": crate::api::AGE_PATTERN}}});

        assert_eq!(jsonschema::is_valid(&schema, &json!({"age": text})), is_age);
    }
}
