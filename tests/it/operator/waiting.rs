//! What has to wait begins nothing, loses nothing and writes nothing: for lists, for a session, for the end of a pause.

use std::time::Duration;

use serde_json::json;

use super::rig::{LATER, Rig, SOON, condition, is, policies};
use super::tables::{fill, held_logs, rule, slow};
use crate::support::wait::eventually;

async fn rows(rig: &Rig, table: &str) -> i64 {
    rig.database
        .scalar(&format!("SELECT count(*) FROM {table}"))
        .await
}

/// A binding of the operator's rights to its account of `home`, in `namespace`.
fn binding(namespace: &str, home: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: operator, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {home}}}
subjects: [{{kind: ServiceAccount, name: operator, namespace: {home}}}]
"
    )
}

fn role(home: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: {home}}}
rules:
- {{apiGroups: [retention-operator.io], resources: [retentionpolicies, retentionpolicies/status], verbs: [get, list, watch, patch, update]}}
- {{apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}}
- {{apiGroups: [\"\"], resources: [secrets], verbs: [get]}}
"
    )
}

#[tokio::test]
async fn nothing_is_swept_before_the_holds_of_every_watched_namespace_are_known() {
    let mut rig = Rig::start("listed").await;
    fill(&rig.database, "logs", 2_000).await;
    rig.operator.terminate();
    rig.operator.wait(SOON);
    let legal = rig.plane.namespace("legal");
    let holder = json!({
        "apiVersion": "retention-operator.io/v1alpha1", "kind": "RetentionPolicy",
        "metadata": {"name": "holder", "namespace": legal},
        "spec": {
            "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}}, "rules": [],
            "holds": [{"name": "case", "table": "logs", "where": "id % 10 = 3"}],
        },
    });
    policies(rig.plane.client().await, &legal)
        .create(
            &kube::api::PostParams::default(),
            &serde_json::from_value(holder).unwrap(),
        )
        .await
        .unwrap();
    rig.apply(
        "logs",
        json!({"mode": "Enforce", "rules": [rule("logs", "logs")]}),
    )
    .await;
    let home = rig.namespace.clone();
    let account = rig.plane.service_account_kubeconfig(&home, "operator");
    rig.plane
        .apply(&format!("{}---\n{}", role(&home), binding(&home, &home)));
    rig.replace_by(&[&home, &legal], &account);
    rig.request_sweep("logs").await;

    let status = rig
        .status("logs", LATER, "to say what it waits for", |it| {
            condition(it, "Ready").is_some_and(|it| it.1 == "NotListed")
        })
        .await;
    let (_, _, why) = condition(&status, "Ready").unwrap();
    assert!(why.contains(&legal), "{why}");
    assert!(status["lastHandledSweepRequest"].is_null(), "{status}");
    assert!(rig.http("/readyz").await.unwrap().contains("503"));
    assert_eq!(rows(&rig, "logs").await, 2_000);
    rig.operator.terminate();
    let ended = rig.operator.wait(Duration::from_secs(10));
    assert_eq!(ended.code(), Some(0), "{}", rig.logs());

    rig.replace_by(&[&home, &legal], &account);
    rig.plane.apply(&binding(&legal, &home));
    let swept = rig.swept("logs", None).await;

    let held = held_logs(&rig.database).await;
    assert_eq!(rows(&rig, "logs").await, 1_160 + held, "{swept}");
}

#[tokio::test]
async fn a_spec_that_is_over_when_its_turn_comes_enters_nothing_into_the_ledger() {
    let rig = Rig::start("turn").await;
    for table in ["logs", "mails"] {
        fill(&rig.database, table, 20_000).await;
    }
    let spec = |table: &str, suspended: bool| {
        json!({
            "mode": "Enforce", "suspend": suspended, "pace": slow(1_000), "rules": [rule(table, table)],
            "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}, "ledger": "Auto", "maxConnections": 1},
        })
    };
    rig.apply("logs", spec("logs", false)).await;
    rig.status("logs", SOON, "to be audited", |it| is(it, "Ready", "True"))
        .await;
    rig.request_sweep("logs").await;
    eventually(SOON, "some rows to go", async || {
        let rows = rows(&rig, "logs").await;
        if rows < 19_500 { Ok(()) } else { Err(rows) }
    })
    .await;

    // Its audit and its sweep wait for the session that the other one has.
    rig.apply("mails", spec("mails", false)).await;
    rig.request_sweep("mails").await;
    rig.event("mails SweepStarted").await;
    rig.apply("mails", spec("mails", true)).await;
    rig.status("mails", SOON, "to be suspended", |it| {
        condition(it, "Ready").is_some_and(|it| it.1 == "Suspended")
    })
    .await;
    rig.apply("logs", spec("logs", true)).await;

    let status = rig
        .status("mails", SOON, "to give its turn back", |it| {
            it["lastSweep"]["outcome"] == "Cancelled"
        })
        .await;
    let why = status["lastSweep"]["message"].as_str().unwrap();
    assert!(
        why.contains("before it began: the policy was suspended"),
        "{why}"
    );
    rig.disconnected().await;
    let claims: i64 = rig
        .database
        .scalar("SELECT count(*) FROM retention_operator.claim WHERE policy LIKE '%/mails'")
        .await;
    assert_eq!(claims, 0);
    assert_eq!(rows(&rig, "mails").await, 20_000);
}

#[tokio::test]
async fn a_sweep_that_a_pause_keeps_from_beginning_says_so_once() {
    let rig = Rig::start("pause").await;
    fill(&rig.database, "logs", 2_000).await;
    rig.apply(
        "logs",
        json!({
            "mode": "Enforce", "rules": [rule("logs", "logs")], "audit": {"interval": "1h"},
            "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}, "ledger": "Auto"},
        }),
    )
    .await;
    rig.status("logs", SOON, "to be audited", |it| is(it, "Ready", "True"))
        .await;
    rig.database
        .execute("UPDATE retention_operator.control SET paused = true, reason = 'black friday'")
        .await;
    rig.request_sweep("logs").await;
    rig.event("SweepSkipped").await;
    let tries = async || {
        rig.metric("retention_operator_sweeps_total", "Skipped")
            .await
    };
    let seen = || {
        let versions = "jsonpath={.items[*].metadata.resourceVersion}";
        let get = |what| {
            rig.plane.kubectl_ok(&[
                "--namespace",
                &rig.namespace,
                "get",
                what,
                "--output",
                versions,
            ])
        };
        (get("retentionpolicies"), get("events.events.k8s.io"))
    };
    let (before, first) = (seen(), tries().await);

    eventually(LATER, "two more tries", async || {
        let tries = tries().await;
        if tries >= first + 2.0 {
            Ok(())
        } else {
            Err(tries)
        }
    })
    .await;

    assert_eq!(seen(), before, "{:?}", rig.events().await);
    rig.database
        .execute("UPDATE retention_operator.control SET paused = false")
        .await;
    let swept = rig
        .status("logs", LATER, "to be swept", |it| {
            it["lastSweep"]["outcome"] == "Succeeded"
        })
        .await;
    assert_eq!(rows(&rig, "logs").await, 1_160, "{swept}");
    rig.event("SweepResumed").await;
}
