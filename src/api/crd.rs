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
    Ok(format!("{HEADER}{}", serde_saphyr::to_string(&crd()?)?))
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
    // Entries that are owned one by one would multiply managedFields.
    if schema.get("type").and_then(Value::as_str) == Some("array") && schema.contains_key("items") {
        schema
            .entry("x-kubernetes-list-type")
            .or_insert_with(|| "atomic".into());
    }
}
