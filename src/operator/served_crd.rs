//! Whether the CRD that the API server serves is the one that this operator was built with.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::api::crd;

/// Warns when the served CRD lacks fields that this operator reads or writes: the API server would drop the ones and refuse
/// the others.
pub async fn warn_if_outdated(client: &Client) {
    let Ok(own) = crd::crd() else { return };
    let served: Api<CustomResourceDefinition> = Api::all(client.clone());
    match served.get(&own.name_any()).await {
        Ok(served) => {
            let missing = missing_fields(&schema(&own), &schema(&served));
            if !missing.is_empty() {
                tracing::error!(
                    fields = missing.join(", "),
                    "the CRD in the cluster is older than this operator: apply the operator's CRD (retention-operator crd), then restart it"
                );
            }
        }
        Err(error) => {
            tracing::warn!(%error, "the CRD in the cluster could not be compared with the operator's")
        }
    }
}

fn schema(crd: &CustomResourceDefinition) -> Value {
    crd.spec
        .versions
        .iter()
        .find(|version| version.name == crate::api::VERSION)
        .and_then(|version| version.schema.as_ref())
        .and_then(|schema| serde_json::to_value(&schema.open_api_v3_schema).ok())
        .unwrap_or_default()
}

/// Paths of properties that `own` declares and `served` does not.
fn missing_fields(own: &Value, served: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    compare(own, served, "", &mut missing);
    missing
}

fn compare(own: &Value, served: &Value, path: &str, missing: &mut Vec<String>) {
    if let Some(properties) = own.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            let path = format!("{path}.{name}");
            match served.get("properties").and_then(|served| served.get(name)) {
                Some(served) => compare(property, served, &path, missing),
                None => missing.push(path),
            }
        }
    }
    if let (Some(own), Some(served)) = (own.get("items"), served.get("items")) {
        compare(own, served, &format!("{path}[]"), missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_the_served_crd_lacks_is_named_by_its_path() {
        let own = schema(&crd::crd().expect("the CRD"));
        let mut served = own.clone();
        served["properties"]["status"]["properties"]["rules"]["items"]["properties"]
            .as_object_mut()
            .expect("properties")
            .remove("watermark");
        assert_eq!(missing_fields(&own, &served), [".status.rules[].watermark"]);
        assert!(missing_fields(&own, &own).is_empty());
    }
}
