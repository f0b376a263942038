//! An operator of its own for a test: a namespace that only it watches, a database, and what there is to see of it.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::control_plane::ControlPlane;
use crate::support::operator::Operator;
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::process::free_port;
use crate::support::wait::eventually;

/// For what takes a moment.
pub const SOON: Duration = Duration::from_secs(30);
/// For what takes a while on a busy machine.
pub const LATER: Duration = Duration::from_secs(100);

/// An operator, the namespace that it watches, and a database whose address is in Secret `db`, key `url`.
pub struct Rig {
    /// The API server.
    pub plane: &'static ControlPlane,
    /// The watched namespace.
    pub namespace: String,
    /// The database.
    pub database: TestDatabase,
    /// The process.
    pub operator: Operator,
    client: kube::Client,
    port: u16,
    /// Output of the processes that were replaced.
    earlier_logs: String,
}

impl Rig {
    /// Starts an operator that watches a namespace of its own.
    pub async fn start(prefix: &str) -> Self {
        let database = Postgres::shared().database(prefix).await;
        Self::start_on(prefix, database).await
    }

    /// [`Rig::start`] with a database on a server that the caller may break.
    pub async fn start_on(prefix: &str, database: TestDatabase) -> Self {
        let plane = ControlPlane::shared();
        apply_crd_once(plane);
        let namespace = plane.namespace(prefix);
        let port = free_port();
        let rig = Self {
            client: plane.client().await,
            operator: run(plane, &namespace, port),
            plane,
            namespace,
            database,
            port,
            earlier_logs: String::new(),
        };
        rig.secret("db", &[("url", &rig.database.url)]).await;
        rig
    }

    /// SIGKILL, and a new process.
    pub fn kill_and_restart(&mut self) {
        self.operator.kill9();
        self.replace();
    }

    /// Starts a new process after the old one has ended.
    pub fn replace(&mut self) {
        self.earlier_logs.push_str(&self.operator.stderr());
        self.operator = run(self.plane, &self.namespace, self.port);
    }

    /// Starts a new process, after the old one has ended, that watches several namespaces with the rights of a kubeconfig.
    pub fn replace_by(&mut self, namespaces: &[&str], kubeconfig: &Path) {
        self.earlier_logs.push_str(&self.operator.stderr());
        self.operator = run_as(kubeconfig, &namespaces.join(","), self.port);
    }

    /// Another operator beside the first, which knows nothing of it.
    pub fn another(&self) -> Operator {
        run(self.plane, &self.namespace, free_port())
    }

    /// All that the operator has written, by all its processes.
    pub fn logs(&self) -> String {
        format!(
            "{}{}{}",
            self.earlier_logs,
            self.operator.stdout(),
            self.operator.stderr()
        )
    }

    /// Creates or replaces a Secret.
    pub async fn secret(&self, name: &str, data: &[(&str, &str)]) {
        let data: serde_json::Map<String, Value> = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data,
        });
        Api::<Secret>::namespaced(self.client.clone(), &self.namespace)
            .patch(name, &manager(), &Patch::Apply(secret))
            .await
            .unwrap();
    }

    fn policies(&self) -> Api<DynamicObject> {
        policies(self.client.clone(), &self.namespace)
    }

    /// Creates or replaces a policy's spec. `database` is filled in where it is missing.
    pub async fn apply(&self, name: &str, spec: Value) {
        self.apply_annotated(name, spec, json!({})).await;
    }

    /// [`Rig::apply`] with annotations, in the same write.
    pub async fn apply_annotated(&self, name: &str, mut spec: Value, annotations: Value) {
        if spec.get("database").is_none() {
            spec["database"] = json!({"urlFrom": {"secretKeyRef": {"name": "db", "key": "url"}}});
        }
        let policy = json!({
            "apiVersion": "retention-operator.io/v1alpha1", "kind": "RetentionPolicy",
            "metadata": {"name": name, "annotations": annotations}, "spec": spec,
        });
        let applied = self
            .policies()
            .patch(name, &manager(), &Patch::Apply(policy))
            .await;
        if let Err(error) = applied {
            panic!("policy {name} is refused: {error}");
        }
    }

    /// Merges a patch into a policy.
    pub async fn patch(&self, name: &str, patch: Value) {
        self.policies()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// Sets one of the operator's annotations.
    pub async fn annotate(&self, name: &str, annotation: &str, value: &str) {
        let annotation = format!("retention-operator.io/{annotation}");
        self.patch(
            name,
            json!({"metadata": {"annotations": {annotation: value}}}),
        )
        .await;
    }

    /// Asks for a sweep, and returns the request's value.
    pub async fn request_sweep(&self, name: &str) -> String {
        let now = Timestamp::now().to_string();
        self.annotate(name, "sweep-requested-at", &now).await;
        now
    }

    /// Deletes a policy.
    pub async fn delete(&self, name: &str) {
        self.policies()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// A policy as the API server has it.
    pub async fn get(&self, name: &str) -> Value {
        serde_json::to_value(self.policies().get(name).await.unwrap()).unwrap()
    }

    /// Waits until a policy's status is as `wanted` says, and returns it.
    pub async fn status(
        &self,
        name: &str,
        timeout: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(timeout, &format!("policy {name}: {what}"), async || {
            let status = self.get(name).await["status"].take();
            if wanted(&status) {
                Ok(status)
            } else {
                Err(status)
            }
        })
        .await
    }

    /// Waits until a sweep has ended and its result, with the audit after it, is published. `id` is the sweep before it.
    pub async fn swept(&self, name: &str, before: Option<&str>) -> Value {
        self.status(name, LATER, "a sweep to end", |status| {
            let id = status["lastSweep"]["id"].as_str();
            id.is_some() && id != before && status["currentSweep"].is_null()
        })
        .await
    }

    /// Events of the namespace as `reason: note`.
    pub async fn events(&self) -> Vec<String> {
        Api::<Event>::namespaced(self.client.clone(), &self.namespace)
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .into_iter()
            .map(|event| {
                format!(
                    "{} {}: {}",
                    event.regarding.and_then(|it| it.name).unwrap_or_default(),
                    event.reason.unwrap_or_default(),
                    event.note.unwrap_or_default()
                )
            })
            .collect()
    }

    /// Waits for an event that holds `text`.
    pub async fn event(&self, text: &str) {
        eventually(SOON, &format!("an event with {text:?}"), async || {
            let events = self.events().await;
            if events.iter().any(|event| event.contains(text)) {
                Ok(())
            } else {
                Err(events)
            }
        })
        .await;
    }

    /// The page that Prometheus reads; an error while nobody listens.
    pub async fn http(&self, path: &str) -> Result<String, std::io::Error> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// The sum of a metric's series whose labels hold `label`; 0 while the operator does not listen yet.
    pub async fn metric(&self, name: &str, label: &str) -> f64 {
        let page = self.http("/metrics").await.unwrap_or_default();
        page.lines()
            .filter(|line| line.starts_with(name) && line.contains(label))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Waits until no session of this rig's operator is open in its database.
    pub async fn disconnected(&self) {
        no_operator_session(&self.database).await;
    }
}

/// Waits until no session of an operator is open in a database: then its counters are flushed, too.
pub async fn no_operator_session(database: &TestDatabase) {
    eventually(SOON, "the operator's sessions to end", async || {
        let open = database.foreign_sessions().await;
        if open == 0 { Ok(()) } else { Err(open) }
    })
    .await;
}

/// Installs the definition, once for all tests of this process.
pub fn apply_crd_once(plane: &ControlPlane) {
    static APPLIED: OnceLock<()> = OnceLock::new();
    APPLIED.get_or_init(|| {
        let crd = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/crds/retentionpolicies.retention-operator.io.yaml"
        );
        plane.apply_crd(crd.as_ref());
    });
}

/// Policies of a namespace, untyped: what a user of the API sees.
pub fn policies(client: kube::Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("retention-operator.io", "v1alpha1", "RetentionPolicy");
    let resource = ApiResource::from_gvk_with_plural(&kind, "retentionpolicies");
    Api::namespaced_with(client, namespace, &resource)
}

/// A condition's `status`, `reason` and `message`; `None` where it does not exist.
pub fn condition<'a>(status: &'a Value, type_: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let condition = status["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == type_)?;
    let text = |field: &str| condition[field].as_str().unwrap_or_default();
    Some((text("status"), text("reason"), text("message")))
}

/// Whether a condition is there with that status.
pub fn is(status: &Value, type_: &str, wanted: &str) -> bool {
    condition(status, type_).is_some_and(|(status, ..)| status == wanted)
}

fn manager() -> PatchParams {
    PatchParams::apply("tests").force()
}

fn run(plane: &ControlPlane, namespace: &str, port: u16) -> Operator {
    run_as(plane.kubeconfig_path(), namespace, port)
}

fn run_as(kubeconfig: &Path, namespaces: &str, port: u16) -> Operator {
    Operator::start(
        &[
            "run",
            "--watch-namespaces",
            namespaces,
            "--listen",
            &format!("127.0.0.1:{port}"),
        ],
        &[("KUBECONFIG", kubeconfig.to_str().unwrap())],
    )
}
