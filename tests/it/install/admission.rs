//! The chart's admission policy: who may edit a policy, but not let it delete, is refused with a message that says why.

use std::cell::Cell;
use std::io::Write;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{apply_ok, rendered, root, said};
use crate::support::control_plane::ControlPlane;
use crate::support::wait::eventually_blocking;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn enforcing_and_approving_need_rights_of_their_own() {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("install");
    let crd = root().join("crds/retentionpolicies.retention-operator.io.yaml");
    plane.apply_crd(&crd);
    let policy_only = [
        "--set",
        "fullnameOverride=gate,admissionPolicy.enabled=true",
        "--show-only",
        "templates/admission-policy.yaml",
    ];
    apply_ok(plane, &rendered(&namespace, &policy_only));
    apply_ok(
        plane,
        &editor(&namespace, "tenant", &["get", "create", "patch", "update"]),
    );
    apply_ok(
        plane,
        &editor(
            &namespace,
            "owner",
            &["get", "create", "patch", "update", "approve", "enforce"],
        ),
    );
    let enforce = json!({"mode": "Enforce"});
    let as_user = |user: &str, name: &str, spec: &Value, hash: Option<&str>| {
        apply_as(plane, user, &policy(&namespace, name, spec, hash))
    };
    let tenant = |name: &str, spec: &Value, hash| as_user("tenant", name, spec, hash);
    let owner = |name: &str, spec: &Value, hash| as_user("owner", name, spec, hash);
    eventually_blocking(SOON, "the owner's rights to take effect", || {
        accepted(owner("enforced", &enforce, None))
    });
    // What was accepted once, before the policy took effect, is no change the next time: each try is another object.
    let tries = Cell::new(0);
    eventually_blocking(SOON, "the admission policy to take effect", || {
        tries.set(tries.get() + 1);
        refused(
            tenant(&format!("probe-{}", tries.get()), &enforce, None),
            "needs the verb \"enforce\"",
        )
    });

    // A tenant reports, drafts and stops, but sets nothing going.
    assert_eq!(accepted(tenant("audited", &json!({}), None)), Ok(()));
    assert_eq!(
        refused(tenant("audited", &enforce, None), "\"enforce\""),
        Ok(())
    );
    assert_eq!(
        accepted(tenant(
            "draft",
            &json!({"mode": "Enforce", "suspend": true}),
            None
        )),
        Ok(())
    );
    assert_eq!(
        refused(tenant("draft", &enforce, None), "\"enforce\""),
        Ok(())
    );
    let changed = json!({"mode": "Enforce", "timeZone": "Europe/Berlin"});
    assert_eq!(
        refused(tenant("enforced", &changed, None), "\"enforce\""),
        Ok(())
    );
    assert_eq!(
        refused(tenant("enforced", &enforce, Some("4f2a")), "\"approve\""),
        Ok(())
    );
    // The owner does all of it; what stays as it is, is no new approval.
    assert_eq!(accepted(owner("enforced", &changed, Some("4f2a"))), Ok(()));
    assert_eq!(accepted(tenant("enforced", &changed, Some("4f2a"))), Ok(()));
    assert_eq!(
        accepted(tenant(
            "enforced",
            &json!({"mode": "Enforce", "suspend": true}),
            None
        )),
        Ok(())
    );
}

/// A role with `verbs` on policies, bound to a user of that name.
fn editor(namespace: &str, user: &str, verbs: &[&str]) -> String {
    let metadata = json!({"name": user, "namespace": namespace});
    let group = "rbac.authorization.k8s.io";
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
         "rules": [{"apiGroups": ["retention-operator.io"], "resources": ["retentionpolicies"], "verbs": verbs}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
         "roleRef": {"apiGroup": group, "kind": "Role", "name": user},
         "subjects": [{"apiGroup": group, "kind": "User", "name": user}]},
    ]})
    .to_string()
}

/// A valid policy with `spec` merged over the least that one needs.
fn policy(namespace: &str, name: &str, spec: &Value, approved: Option<&str>) -> String {
    let mut whole = json!({
        "apiVersion": "retention-operator.io/v1alpha1",
        "kind": "RetentionPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "mode": "Audit",
            "suspend": false,
            "database": {"urlFrom": {"secretKeyRef": {"name": "orders-db", "key": "url"}}},
            "rules": [{"name": "logs", "table": "logs", "column": "at", "expireAfter": "90d", "action": "Delete"}],
        },
    });
    for (field, value) in spec.as_object().unwrap() {
        whole["spec"][field] = value.clone();
    }
    if let Some(hash) = approved {
        whole["metadata"]["annotations"] = json!({"retention-operator.io/approved-plan": hash});
    }
    whole.to_string()
}

/// Server-side apply as another user. All users act under one field manager: what one of them leaves out, the other removes.
fn apply_as(plane: &ControlPlane, user: &str, manifest: &str) -> Output {
    let mut apply = plane
        .kubectl_command()
        .args(["apply", "--server-side", "--filename", "-"])
        .args(["--as", user, "--as-group", "system:authenticated"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = apply.stdin.take().unwrap();
    stdin.write_all(manifest.as_bytes()).unwrap();
    drop(stdin);
    apply.wait_with_output().unwrap()
}

fn accepted(output: Output) -> Result<(), String> {
    if output.status.success() {
        Ok(())
    } else {
        Err(said(&output))
    }
}

/// That the request was refused, and that the answer says `why`.
fn refused(output: Output, why: &str) -> Result<(), String> {
    match (output.status.success(), said(&output)) {
        (false, message) if message.contains(why) => Ok(()),
        (false, message) => Err(message),
        (true, _) => Err("it was accepted".to_owned()),
    }
}
