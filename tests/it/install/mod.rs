//! The first install: the chart and the kustomize base, judged by Helm and by the real API server.

mod admission;
mod render;
mod rights;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

use crate::support::control_plane::ControlPlane;
use crate::support::process::{found_by, run_dir};

/// The name of the release in these tests, and of the kustomize base's objects.
const RELEASE: &str = "retention-operator";

/// The root of the repository.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn chart() -> PathBuf {
    root().join("charts").join("retention-operator")
}

/// A command for the real Helm, without the settings and caches of the person who runs the tests.
fn helm() -> Command {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    let bin = BIN.get_or_init(|| found_by("control-plane.sh", &["helm"]));
    let mut command = Command::new(bin.join("helm"));
    for kind in ["CACHE", "CONFIG", "DATA"] {
        command.env(format!("HELM_{kind}_HOME"), run_dir().join("helm"));
    }
    command.env("KUBECONFIG", "/dev/null");
    command
}

/// `helm template` of the chart with `--set` values and other arguments; whatever it answered.
fn template(namespace: &str, arguments: &[&str]) -> Output {
    helm()
        .args(["template", RELEASE])
        .arg(chart())
        .args(["--namespace", namespace])
        .args(arguments)
        .output()
        .unwrap()
}

/// The chart rendered as YAML.
///
/// # Panics
/// When Helm refuses, with what it said.
fn rendered(namespace: &str, arguments: &[&str]) -> String {
    let output = template(namespace, arguments);
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command said on standard error.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The objects of a YAML stream.
fn objects(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    documents.into_iter().filter(Value::is_object).collect()
}

/// Applies manifests as administrator.
///
/// # Panics
/// When the API server refuses, with what it said.
fn apply_ok(plane: &ControlPlane, manifests: &str) {
    let output = plane.apply(manifests);
    assert!(output.status.success(), "{}", said(&output));
}
