//! What the chart and the kustomize base render, and which values are refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};

use rstest::rstest;
use serde_json::{Value, json};

use super::{RELEASE, chart, helm, objects, rendered, root, said, template};
use crate::support::control_plane::ControlPlane;

/// The namespace that the kustomize base installs into.
const SYSTEM: &str = "retention-operator-system";

#[test]
fn helm_lint_finds_nothing_to_warn_of() {
    let output = helm().args(["lint", "--strict"]).arg(chart()).output();

    let output = output.unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}");
    assert!(report.contains("0 chart(s) failed"), "{report}");
}

#[rstest]
#[case::the_defaults(&[])]
#[case::everything_optional(&[
    "replicas=3", "admissionPolicy.enabled=true", "networkPolicy.enabled=true", "readOnly=true", "allowLocalPath=true",
    "allowHosts={db.example,10.0.0.7}", "allowAmbientArchive.shop={s3://archive/shop/,gs://b/shop/}",
    "imagePullSecrets[0].name=pull", "commonLabels.team=data", "podLabels.tier=ops", "podAnnotations.note=x",
    "nodeSelector.disk=ssd", "tolerations[0].operator=Exists", "priorityClassName=system-cluster-critical",
    "extraEnv[0].name=AWS_REGION", "extraEnv[0].value=eu-central-1", "serviceAccount.annotations.role=archive",
    "topologySpreadConstraints[0].maxSkew=1", "topologySpreadConstraints[0].topologyKey=zone",
    "topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
    "topologySpreadConstraints[0].labelSelector.matchLabels.tier=ops",
])]
#[case::one_replica_without_a_lease(&["leaderElection.enabled=false", "crds.keep=false", "rbac.aggregateClusterRoles=false"])]
#[case::chosen_namespaces(&["watchNamespaces={default,kube-system}", "secrets.namespaces={default}"])]
fn the_api_server_accepts_the_chart_with(#[case] values: &[&str]) {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("install");
    let yaml = rendered(&namespace, &set(values));

    let output = dry_run(plane, &yaml);

    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(answers(&output), objects(&yaml).len());
    assert!(said(&output).is_empty(), "warnings: {}", said(&output));
}

#[test]
fn the_api_server_accepts_the_kustomize_base() {
    let plane = ControlPlane::shared();
    let yaml = kustomized(plane);
    let namespace = objects(&yaml)
        .into_iter()
        .find(|object| object["kind"] == "Namespace")
        .unwrap();
    super::apply_ok(plane, &namespace.to_string());

    let output = dry_run(plane, &yaml);

    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(answers(&output), objects(&yaml).len());
}

#[test]
fn the_kustomize_base_renders_what_the_chart_renders() {
    let mut base = by_identity(&kustomized(ControlPlane::shared()));
    let from_chart = by_identity(&rendered(SYSTEM, &[]));

    let namespace = base.remove(&format!("Namespace//{SYSTEM}"));

    assert!(
        namespace.is_some(),
        "the base brings its namespace, which Helm makes by an option"
    );
    assert_eq!(
        base.keys().collect::<Vec<_>>(),
        from_chart.keys().collect::<Vec<_>>()
    );
    for (identity, object) in &from_chart {
        assert_eq!(&base[identity], object, "{identity}");
    }
}

#[test]
fn the_chart_carries_the_generated_definition_unchanged_and_keeps_it() {
    let generated = fs::read_to_string(
        root()
            .join("crds")
            .join("retentionpolicies.retention-operator.io.yaml"),
    );
    let generated = objects(&generated.unwrap()).remove(0);

    let kept = definition(&[]).unwrap();
    let free = definition(&["crds.keep=false"]).unwrap();

    assert!(
        with_plain_numbers(&kept["spec"]) == with_plain_numbers(&generated["spec"]),
        "charts/retention-operator/files/crd.yaml is not what crds/ holds: run `make generate`"
    );
    assert_eq!(
        kept["metadata"]["annotations"]["helm.sh/resource-policy"],
        "keep"
    );
    assert_eq!(
        free["metadata"]["annotations"].get("helm.sh/resource-policy"),
        None
    );
    assert_eq!(definition(&["crds.enabled=false"]), None);
}

#[rstest]
#[case::an_unknown_key(&["replica=2"], "replica")]
#[case::an_unknown_nested_key(&["crds.kep=true"], "kep")]
#[case::a_number_as_text(&["maxSweeps=many"], "/maxSweeps")]
#[case::no_sweeps(&["maxSweeps=0"], "/maxSweeps")]
#[case::a_log_format(&["log.format=xml"], "'text', 'json'")]
#[case::a_switch_as_text(&["readOnly=enabled"], "/readOnly")]
#[case::a_namespace_list_as_text(&["watchNamespaces=shop"], "/watchNamespaces")]
#[case::a_namespace_that_is_no_name(&["watchNamespaces={Shop}"], "/watchNamespaces/0")]
#[case::a_host_with_a_port(&["allowHosts={db/orders}"], "/allowHosts/0")]
#[case::ambient_writing_to_the_own_disk(&["allowAmbientArchive.shop={file:///archive}"], "/allowAmbientArchive/shop/0")]
#[case::a_truncated_digest(&["image.digest=sha256:abc"], "/image/digest")]
#[case::replacing_the_namespace_variable(&["extraEnv[0].name=POD_NAMESPACE"], "/extraEnv/0/name")]
#[case::no_time_to_stop(&["terminationGracePeriodSeconds=0"], "/terminationGracePeriodSeconds")]
#[case::replicas_without_a_lease(&["replicas=2", "leaderElection.enabled=false"], "replicas: 2 needs leaderElection.enabled: true")]
#[case::no_account(&["serviceAccount.create=false"], "needs serviceAccount.name")]
#[case::ambient_namespace_not_watched(&["watchNamespaces={shop}", "allowAmbientArchive.crm={s3://archive/crm/}"], "namespace crm is not one of watchNamespaces")]
#[case::secrets_not_watched(&["watchNamespaces={shop}", "secrets.namespaces={crm}"], "namespace crm is not one of watchNamespaces")]
#[case::monitor_without_its_api(&["metrics.serviceMonitor.enabled=true"], "skipIfMissing or alwaysRender")]
#[case::monitor_without_a_service(&["metrics.service.enabled=false", "metrics.serviceMonitor.enabled=true", "metrics.serviceMonitor.renderMode=alwaysRender"], "needs metrics.service.enabled: true")]
#[case::the_selectors_name_as_pod_label(&["podLabels.app\\.kubernetes\\.io/name=x"], "/podLabels")]
#[case::the_selectors_instance_as_pod_label(&["podLabels.app\\.kubernetes\\.io/instance=x"], "/podLabels")]
#[case::the_selectors_name_as_common_label(&["commonLabels.app\\.kubernetes\\.io/name=x"], "/commonLabels")]
#[case::the_charts_version_as_common_label(&["commonLabels.helm\\.sh/chart=x"], "/commonLabels")]
#[case::the_selectors_instance_as_monitor_label(&["metrics.serviceMonitor.labels.app\\.kubernetes\\.io/instance=x"], "/metrics/serviceMonitor/labels")]
fn wrong_values_are_refused_by_name(#[case] values: &[&str], #[case] reason: &str) {
    let output = template("default", &set(values));

    assert!(!output.status.success());
    assert!(said(&output).contains(reason), "{}", said(&output));
}

#[test]
fn a_service_monitor_is_rendered_only_where_it_is_served() {
    let enabled = ["metrics.serviceMonitor.enabled=true"];
    let skip = [
        enabled[0],
        "metrics.serviceMonitor.renderMode=skipIfMissing",
    ];
    let mut served = set(&enabled);
    served.extend(["--api-versions", "monitoring.coreos.com/v1/ServiceMonitor"]);

    assert!(kinds(&rendered("default", &served)).contains(&"ServiceMonitor".to_owned()));
    assert!(!kinds(&rendered("default", &set(&skip))).contains(&"ServiceMonitor".to_owned()));
}

#[test]
fn optional_objects_stay_away_until_they_are_asked_for() {
    let defaults = kinds(&rendered("default", &[]));
    let more = kinds(&rendered(
        "default",
        &set(&[
            "replicas=2",
            "networkPolicy.enabled=true",
            "admissionPolicy.enabled=true",
        ]),
    ));

    for kind in [
        "PodDisruptionBudget",
        "NetworkPolicy",
        "ValidatingAdmissionPolicy",
    ] {
        assert!(!defaults.contains(&kind.to_owned()), "{kind}");
        assert!(more.contains(&kind.to_owned()), "{kind}");
    }
}

#[test]
fn settings_reach_the_operator_as_its_flags() {
    let arguments = operator_arguments(&[
        "watchNamespaces={shop,crm}",
        "maxSweeps=7",
        "readOnly=true",
        "allowLocalPath=true",
        "allowHosts={db.example,10.0.0.7}",
        "allowAmbientArchive.shop={s3://a/shop/,gs://b/}",
        "allowAmbientArchive.crm={s3://a/crm/}",
        "leaderElection.leaseName=elected",
        "log.format=text",
        "log.level=debug",
    ]);

    assert_eq!(
        arguments,
        [
            "run",
            "--listen=0.0.0.0:8080",
            "--log-format=text",
            "--log-level=debug",
            "--max-sweeps=7",
            "--leader-elect=true",
            "--lease-name=elected",
            "--watch-namespaces=shop,crm",
            "--read-only",
            "--allow-local-path",
            "--allow-hosts=db.example,10.0.0.7",
            "--allow-ambient-archive=crm=s3://a/crm/,shop=s3://a/shop/,shop=gs://b/",
        ]
    );
}

#[rstest]
#[case::with_a_lease(&[], "RollingUpdate")]
#[case::without_a_lease(&["leaderElection.enabled=false"], "Recreate")]
fn an_upgrade_never_runs_two_workers(#[case] values: &[&str], #[case] strategy: &str) {
    assert_eq!(
        deployment(values)["spec"]["strategy"]["type"],
        json!(strategy)
    );
}

/// `--set` for each value.
fn set<'a>(values: &[&'a str]) -> Vec<&'a str> {
    values.iter().flat_map(|value| ["--set", value]).collect()
}

/// What the API server would say to manifests: validated, defaulted and admitted, but not stored.
fn dry_run(plane: &ControlPlane, manifests: &str) -> Output {
    let mut apply = plane
        .kubectl_command()
        .args([
            "apply",
            "--server-side",
            "--dry-run=server",
            "--field-manager=install-test",
            "--force-conflicts",
            "-f",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    apply
        .stdin
        .take()
        .unwrap()
        .write_all(manifests.as_bytes())
        .unwrap();
    apply.wait_with_output().unwrap()
}

/// How many objects a dry run has accepted.
fn answers(output: &Output) -> usize {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.ends_with("serverside-applied (server dry run)"))
        .count()
}

fn kustomized(plane: &ControlPlane) -> String {
    plane.kubectl_ok(&["kustomize", root().join("deploy").to_str().unwrap()])
}

/// The objects of a YAML stream by kind, namespace and name, without the marks of the tool that rendered them.
fn by_identity(yaml: &str) -> BTreeMap<String, Value> {
    objects(yaml)
        .into_iter()
        .map(|mut object| {
            strip(
                &mut object,
                "labels",
                &["app.kubernetes.io/managed-by", "helm.sh/chart"],
            );
            strip(&mut object, "annotations", &["helm.sh/resource-policy"]);
            let text = |pointer: &str| {
                object
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let identity = format!(
                "{}/{}/{}",
                text("/kind"),
                text("/metadata/namespace"),
                text("/metadata/name")
            );
            (identity, object)
        })
        .collect()
}

/// Removes `keys` from one of the maps of an object's metadata, and the map with its last key.
fn strip(object: &mut Value, map: &str, keys: &[&str]) {
    let metadata = object["metadata"].as_object_mut().unwrap();
    if let Some(entries) = metadata.get_mut(map).and_then(Value::as_object_mut) {
        entries.retain(|key, _| !keys.contains(&key.as_str()));
        if entries.is_empty() {
            metadata.remove(map);
        }
    }
}

/// The same value with 1.0 written as 1: YAML tools differ in that, the API server does not care.
fn with_plain_numbers(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(with_plain_numbers).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| (name.clone(), with_plain_numbers(field)))
            .collect(),
        other => other.clone(),
    }
}

fn kinds(yaml: &str) -> Vec<String> {
    objects(yaml)
        .iter()
        .map(|object| object["kind"].as_str().unwrap().to_owned())
        .collect()
}

fn definition(values: &[&str]) -> Option<Value> {
    objects(&rendered("default", &set(values)))
        .into_iter()
        .find(|object| object["kind"] == "CustomResourceDefinition")
}

fn deployment(values: &[&str]) -> Value {
    let found = objects(&rendered("default", &set(values)))
        .into_iter()
        .find(|object| object["kind"] == "Deployment")
        .unwrap();
    assert_eq!(found["metadata"]["name"], RELEASE);
    found
}

fn operator_arguments(values: &[&str]) -> Vec<String> {
    let arguments = deployment(values)["spec"]["template"]["spec"]["containers"][0]["args"].clone();
    serde_json::from_value(arguments).unwrap()
}
