//! What the installed service account may do: enough for the operator's work, and nothing besides.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use super::{RELEASE, apply_ok, rendered};
use crate::support::control_plane::ControlPlane;
use crate::support::wait::eventually_blocking;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn the_default_rights_reach_all_namespaces_and_are_exactly_these() {
    let plane = ControlPlane::shared();
    let (home, service) = (plane.namespace("install"), plane.namespace("service"));
    install(plane, &home, "wide", &[]);

    expect_rights(
        plane,
        &home,
        "wide",
        &home,
        &[DEFINITION, POLICIES, EVENTS, SECRETS, &lease("wide")],
    );
    expect_rights(
        plane,
        &home,
        "wide",
        &service,
        &[DEFINITION, POLICIES, EVENTS, SECRETS],
    );
}

#[test]
fn with_watched_namespaces_the_rights_end_at_their_borders() {
    let plane = ControlPlane::shared();
    let home = plane.namespace("install");
    let (watched, secretless, other) = (
        plane.namespace("service"),
        plane.namespace("service"),
        plane.namespace("service"),
    );
    install(
        plane,
        &home,
        "narrow",
        &[
            "--set",
            &format!("watchNamespaces={{{watched},{secretless}}}"),
            "--set",
            &format!("secrets.namespaces={{{watched}}}"),
        ],
    );

    expect_rights(
        plane,
        &home,
        "narrow",
        &watched,
        &[DEFINITION, POLICIES, EVENTS, SECRETS],
    );
    expect_rights(
        plane,
        &home,
        "narrow",
        &secretless,
        &[DEFINITION, POLICIES, EVENTS],
    );
    expect_rights(
        plane,
        &home,
        "narrow",
        &home,
        &[DEFINITION, &lease("narrow")],
    );
    expect_rights(plane, &home, "narrow", &other, &[DEFINITION]);
}

#[test]
fn kubectl_confirms_what_the_operator_may_and_may_not() {
    let plane = ControlPlane::shared();
    let (home, service) = (plane.namespace("install"), plane.namespace("service"));
    install(plane, &home, "asked", &[]);
    let account = format!("system:serviceaccount:{home}:asked");
    let may = |request: &str, namespace: &str| {
        let mut arguments = vec!["auth", "can-i", "--as", &account, "--namespace", namespace];
        arguments.extend(request.split(' '));
        let answer = plane.kubectl(&arguments);
        String::from_utf8_lossy(&answer.stdout).trim() == "yes"
    };
    eventually_blocking(SOON, "the bindings to take effect", || {
        may("get secrets", &service).then_some(()).ok_or("no")
    });

    for allowed in [
        "list retentionpolicies.retention-operator.io",
        "watch retentionpolicies.retention-operator.io",
        "patch retentionpolicies.retention-operator.io --subresource=status",
        "get secrets/orders-db",
        "create events.events.k8s.io",
        "patch events.events.k8s.io",
        "get customresourcedefinitions/retentionpolicies.retention-operator.io",
    ] {
        assert!(may(allowed, &service), "{allowed}");
    }
    for refused in [
        "list secrets",
        "watch secrets",
        "create secrets",
        "update secrets",
        "create retentionpolicies.retention-operator.io",
        "patch retentionpolicies.retention-operator.io",
        "delete retentionpolicies.retention-operator.io",
        "approve retentionpolicies.retention-operator.io",
        "enforce retentionpolicies.retention-operator.io",
        "get customresourcedefinitions/other.example.com",
        "patch customresourcedefinitions/retentionpolicies.retention-operator.io",
        "create leases.coordination.k8s.io",
        "get configmaps",
        "get pods",
        "create pods",
        "impersonate users",
        "escalate clusterroles",
    ] {
        assert!(!may(refused, &service), "{refused}");
    }
    assert!(may("update leases.coordination.k8s.io/asked", &home));
    assert!(!may("update leases.coordination.k8s.io/other", &home));
    assert!(!may("delete leases.coordination.k8s.io/asked", &home));
}

type Right<'a> = &'a str;

const DEFINITION: Right = "apiextensions.k8s.io customresourcedefinitions \
                           [retentionpolicies.retention-operator.io] get";
const POLICIES: Right = "retention-operator.io retentionpolicies [] get,list,watch\n\
                         retention-operator.io retentionpolicies/status [] get,patch,update";
const EVENTS: Right = "events.k8s.io events [] create,patch";
const SECRETS: Right = " secrets [] get";

fn lease(name: &str) -> String {
    format!(
        "coordination.k8s.io leases [] create\ncoordination.k8s.io leases [{name}] get,patch,update"
    )
}

/// Applies the chart for real under a name of its own (cluster roles are shared by all tests), without the definition, which
/// other tests install, and the aggregated roles, which nobody would aggregate here.
fn install(plane: &ControlPlane, namespace: &str, name: &str, arguments: &[&str]) {
    let name = format!("fullnameOverride={name}");
    let mut values = vec![
        "--set",
        &name,
        "--set",
        "crds.enabled=false,rbac.aggregateClusterRoles=false",
    ];
    values.extend(arguments);
    apply_ok(plane, &rendered(namespace, &values));
}

/// Waits until the rights of the release's service account in `namespace`, less those that every service account has, are
/// exactly `expected`.
fn expect_rights(
    plane: &ControlPlane,
    home: &str,
    account: &str,
    namespace: &str,
    expected: &[Right],
) {
    let expected: BTreeSet<String> = expected
        .iter()
        .flat_map(|lines| lines.lines().map(str::to_owned))
        .collect();
    let everybody = rights(plane, home, "nobody-in-particular", namespace);
    let what = format!("the rights of {account} in {namespace} to be {expected:#?}");
    eventually_blocking(SOON, &what, || {
        let own: BTreeSet<String> = &rights(plane, home, account, namespace) - &everybody;
        if own == expected { Ok(()) } else { Err(own) }
    });
}

/// What the API server says a service account may do in a namespace: one line per group, resource and names, with the verbs.
fn rights(plane: &ControlPlane, home: &str, account: &str, namespace: &str) -> BTreeSet<String> {
    let mut review = plane
        .kubectl_command()
        .args([
            "create",
            "--validate=false",
            "--filename",
            "-",
            "--output",
            "json",
        ])
        .args(["--as", &format!("system:serviceaccount:{home}:{account}")])
        .args(["--as-group", "system:serviceaccounts"])
        .args(["--as-group", "system:authenticated"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let request = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    });
    let mut stdin = review.stdin.take().unwrap();
    stdin.write_all(request.to_string().as_bytes()).unwrap();
    drop(stdin);
    let answer = review.wait_with_output().unwrap();
    assert!(answer.status.success());
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let status = &answer["status"];
    assert_eq!(status["incomplete"], json!(false));
    // Nothing beyond what everybody may ask (health, discovery) is granted outside of resources.
    let rules = status["resourceRules"].as_array().unwrap();
    rules.iter().flat_map(lines).collect()
}

/// A rule as lines of `group resource [names] verbs`.
fn lines(rule: &Value) -> Vec<String> {
    let words = |field: &str| -> Vec<String> {
        let mut words: Vec<String> =
            serde_json::from_value(rule.get(field).cloned().unwrap_or(json!([]))).unwrap();
        words.sort();
        words
    };
    let (names, verbs) = (words("resourceNames").join(","), words("verbs").join(","));
    let resources = words("resources");
    words("apiGroups")
        .iter()
        .flat_map(|group| {
            resources
                .iter()
                .map(|resource| format!("{group} {resource} [{names}] {verbs}"))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn the_release_name_of_the_base_is_the_account_that_it_binds() {
    let yaml = rendered("somewhere", &[]);
    let subjects: Vec<Value> = super::objects(&yaml)
        .into_iter()
        .filter_map(|object| object.get("subjects").cloned())
        .collect();

    assert_eq!(subjects.len(), 2);
    for subject in subjects {
        assert_eq!(
            subject,
            json!([{"kind": "ServiceAccount", "name": RELEASE, "namespace": "somewhere"}])
        );
    }
}
