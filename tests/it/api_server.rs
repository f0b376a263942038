//! What the real API server makes of policies: the same verdicts, in the same words, as the offline verbs'.

use std::fs;
use std::path::{Path, PathBuf};

use kube::api::PostParams;
use kube::core::{DynamicObject, Request};
use serde_json::{Value, json};

use crate::operator::rig::{apply_crd_once, policies};
use crate::support::control_plane::ControlPlane;

/// The fixtures of `tests/fixtures/policies/<kind>`.
fn fixtures(kind: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/policies")
        .join(kind);
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    files
}

/// Creates a policy as `kubectl create --dry-run=server` does: nothing is stored, unknown fields are refused.
async fn dry_run(client: &kube::Client, namespace: &str, policy: &Value) -> Result<(), String> {
    post(client, namespace, policy, "dryRun=All&").await
}

/// Creates a policy as `kubectl create` does: unknown fields are refused.
pub async fn create(client: &kube::Client, namespace: &str, policy: &Value) -> Result<(), String> {
    post(client, namespace, policy, "").await
}

async fn post(
    client: &kube::Client,
    namespace: &str,
    policy: &Value,
    query: &str,
) -> Result<(), String> {
    let path =
        format!("/apis/retention-operator.io/v1alpha1/namespaces/{namespace}/retentionpolicies");
    let mut request = Request::new(path.clone())
        .create(&PostParams::default(), serde_json::to_vec(policy).unwrap())
        .unwrap();
    *request.uri_mut() = format!("{path}?{query}fieldValidation=Strict")
        .parse()
        .unwrap();
    match client.request::<DynamicObject>(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn every_fixture_gets_the_verdict_that_it_names() {
    let plane = ControlPlane::shared();
    apply_crd_once(plane);
    let namespace = plane.namespace("fixtures");
    let client = plane.client().await;
    let mut surprises = Vec::new();

    let (good, bad) = (fixtures("good"), fixtures("bad"));
    for file in good.iter().chain(&bad) {
        let yaml = fs::read_to_string(file).unwrap();
        let mut policy: Value = serde_saphyr::from_str(&yaml).unwrap();
        policy["metadata"]["namespace"] = json!(namespace);
        let verdict = dry_run(&client, &namespace, &policy).await;

        let expected = yaml
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# expect: "));
        let as_expected = match (&verdict, expected) {
            (Ok(()), None) => true,
            (Err(message), Some(expected)) => message.contains(expected),
            _ => false,
        };
        if !as_expected {
            surprises.push(format!(
                "{}\n   expected {}\n   got      {}",
                file.file_stem().unwrap().to_string_lossy(),
                expected.unwrap_or("acceptance"),
                verdict.err().unwrap_or_else(|| "acceptance".to_owned()),
            ));
        }
    }

    assert!(
        good.len() > 10 && bad.len() > 50,
        "{} {}",
        good.len(),
        bad.len()
    );
    assert!(
        surprises.is_empty(),
        "{} surprises:\n{}",
        surprises.len(),
        surprises.join("\n")
    );
}

#[tokio::test]
async fn a_new_policy_has_defaults_a_status_and_columns_before_any_operator_saw_it() {
    let plane = ControlPlane::shared();
    apply_crd_once(plane);
    let namespace = plane.namespace("fresh");
    let applied = plane.apply(&format!(
        "{{apiVersion: retention-operator.io/v1alpha1, kind: RetentionPolicy,
           metadata: {{name: orders, namespace: {namespace}}},
           spec: {{database: {{secretRef: {{name: db}}}}}}}}"
    ));
    assert!(applied.status.success(), "{applied:?}");

    let policy = policies(plane.client().await, &namespace)
        .get("orders")
        .await
        .unwrap();
    let columns = |wide: &[&str]| {
        let list = [&["get", "rp", "--namespace", namespace.as_str()], wide].concat();
        let table = plane.kubectl_ok(&list);
        // Two of the names hold a space; the gaps between columns are wider.
        let heading = table.lines().next().unwrap();
        let names = heading.split("  ").map(str::trim);
        names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };

    assert_eq!(policy.data["status"], json!({"observedGeneration": -1}));
    assert_eq!(policy.data["spec"]["mode"], "Audit");
    assert_eq!(policy.data["spec"]["suspend"], false);
    let narrow = [
        "NAME",
        "MODE",
        "READY",
        "COMPLIANT",
        "EXPIRED",
        "LAST SWEEP",
        "NEXT SWEEP",
        "AGE",
    ];
    assert_eq!(columns(&[]), narrow);
    let wide = [&narrow[..], &["ENGINE", "DELETED", "ARCHIVED", "REASON"]].concat();
    assert_eq!(columns(&["--output", "wide"]), wide);
    let all = plane.kubectl_ok(&["get", "all", "--namespace", &namespace, "--output", "name"]);
    assert!(
        all.contains("retentionpolicy.retention-operator.io/orders"),
        "{all}"
    );
}
