//! Whether the CRD that the API server serves is the one that this operator was built with.

use std::sync::{PoisonError, RwLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::api::crd;

/// What the served CRD lacks of the one that this operator was built with. The API server drops such fields of a spec and
/// refuses a status that has them.
#[derive(Debug, Default)]
pub struct ServedCrd {
    missing: RwLock<Vec<String>>,
    uid: RwLock<Option<String>>,
}

impl ServedCrd {
    /// Compares the served CRD with the operator's own.
    pub async fn look(&self, client: &Client) {
        let Ok(own) = crd::crd() else { return };
        let served: Api<CustomResourceDefinition> = Api::all(client.clone());
        match served.get(&own.name_any()).await {
            Ok(served) => {
                *self.uid.write().unwrap_or_else(PoisonError::into_inner) = served.uid();
                let missing = missing_fields(&schema(&own), &schema(&served));
                let mut known = self.missing.write().unwrap_or_else(PoisonError::into_inner);
                if !missing.is_empty() && *known != missing {
                    tracing::error!(
                        fields = missing.join(", "),
                        "the CRD in the cluster is older than this operator: apply the one that retention-operator crd prints"
                    );
                }
                *known = missing;
            }
            Err(error) => tracing::warn!(
                error = api_message(&error),
                "the CRD in the cluster could not be compared with the operator's"
            ),
        }
    }

    /// Looks again while fields are missing: somebody may have applied the CRD. Whether somebody has.
    pub async fn look_again_if_outdated(&self, client: &Client) -> bool {
        if self.outdated().is_none() {
            return false;
        }
        self.look(client).await;
        self.outdated().is_none()
    }

    /// Tells this cluster from others: its CRD's uid, which stays while there are policies. `None`: it could not be read.
    #[must_use]
    pub fn cluster(&self) -> Option<String> {
        let uid = self.uid.read().unwrap_or_else(PoisonError::into_inner);
        uid.clone()
    }

    /// What to say when the served CRD is too old: a sweep could not be recorded in it.
    #[must_use]
    pub fn outdated(&self) -> Option<String> {
        let missing = self.missing.read().unwrap_or_else(PoisonError::into_inner);
        let first = missing.first()?;
        Some(format!(
            "the CRD in the cluster is older than the operator and lacks {first}{}: apply the operator's CRD; until then no sweep is begun",
            if missing.len() > 1 {
                format!(" and {} more fields", missing.len() - 1)
            } else {
                String::new()
            }
        ))
    }

    /// Removes from a status what the served CRD would refuse.
    pub fn prune(&self, status: &mut Value) {
        let missing = self.missing.read().unwrap_or_else(PoisonError::into_inner);
        for path in missing
            .iter()
            .filter_map(|path| path.strip_prefix(".status."))
        {
            remove(status, path);
        }
    }
}

/// Removes `path` (`a.b[].c`) wherever it is.
fn remove(value: &mut Value, path: &str) {
    let (head, rest) = path
        .split_once('.')
        .map_or((path, None), |(head, rest)| (head, Some(rest)));
    let (name, list) = head
        .strip_suffix("[]")
        .map_or((head, false), |name| (name, true));
    let Some(rest) = rest else {
        if let Some(fields) = value.as_object_mut() {
            fields.remove(name);
        }
        return;
    };
    match value.get_mut(name) {
        Some(Value::Array(items)) if list => items.iter_mut().for_each(|item| remove(item, rest)),
        Some(inner) => remove(inner, rest),
        None => {}
    }
}

/// What the API server said, without the structure around it.
#[must_use]
pub fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
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

    #[test]
    fn what_an_older_crd_would_refuse_is_left_out_of_the_status() {
        let served = ServedCrd {
            missing: RwLock::new(vec![
                ".status.rules[].watermark".into(),
                ".status.trend".into(),
                ".spec.holds".into(),
            ]),
            ..ServedCrd::default()
        };
        let mut status = serde_json::json!({"rules": [{"name": "a", "watermark": "x"}], "trend": [], "holds": 1});
        served.prune(&mut status);
        assert_eq!(
            status,
            serde_json::json!({"rules": [{"name": "a"}], "holds": 1})
        );
        assert!(
            served
                .outdated()
                .is_some_and(|message| message.contains("and 2 more fields"))
        );
    }
}
