//! The real parts themselves: that they answer, and that nothing of them outlives the tests.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::ListParams;
use rstest::rstest;
use sqlx::{Connection, Row};

use crate::support::control_plane::{self, ControlPlane};
use crate::support::operator::Operator;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, SUPERUSER, connect};
use crate::support::process::{Process, run_dir, tied};
use crate::support::wait::{eventually, eventually_blocking};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_api_server_is_the_release_that_the_tests_name() {
    let plane = ControlPlane::shared();

    let version = plane.client().await.apiserver_version().await.unwrap();

    assert_eq!(version.git_version, "v1.36.3");
}

#[tokio::test]
async fn kubectl_and_the_client_see_the_same_objects() {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("smoke");

    let found = Api::<Namespace>::all(plane.client().await)
        .get(&namespace)
        .await;

    assert_eq!(
        found.unwrap().metadata.name.as_deref(),
        Some(namespace.as_str())
    );
}

#[test]
fn an_applied_crd_is_served_and_its_schema_is_enforced() {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("smoke");
    let crd = run_dir().join("widgets.yaml");
    fs::write(&crd, WIDGETS).unwrap();
    plane.apply_crd(&crd);
    let widget = |size: &str| {
        format!(
            "apiVersion: example.test/v1\nkind: Widget\nmetadata: {{name: w, namespace: {namespace}}}\nsize: {size}\n"
        )
    };

    let accepted = plane.apply(&widget("3"));
    let refused = plane.apply(&widget("large"));

    assert!(accepted.status.success(), "{accepted:?}");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("size"));
}

#[tokio::test]
async fn a_service_account_may_do_only_what_it_is_granted() {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("smoke");
    let kubeconfig = plane.service_account_kubeconfig(&namespace, "reader");
    let maps = Api::<ConfigMap>::namespaced(control_plane::client(&kubeconfig).await, &namespace);
    let list = async || maps.list(&ListParams::default()).await;

    let before = list().await;
    let role = plane.apply(&format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: reader, namespace: {namespace}}},
          rules: [{{apiGroups: [''], resources: [configmaps], verbs: [list]}}]}}\n---\n\
         {{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: reader, namespace: {namespace}}},
          roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}},
          subjects: [{{kind: ServiceAccount, name: reader, namespace: {namespace}}}]}}\n"
    ));
    assert!(role.status.success(), "{role:?}");

    assert!(
        matches!(before, Err(kube::Error::Api(ref status)) if status.code == 403),
        "{before:?}"
    );
    eventually(SOON, "the binding to take effect", list).await;
}

#[tokio::test]
async fn databases_of_one_server_are_apart() {
    let postgres = Postgres::shared();
    let (one, other) = (
        postgres.database("smoke").await,
        postgres.database("smoke").await,
    );

    one.execute("CREATE TABLE t AS SELECT generate_series(1, 3) AS n; ANALYZE t")
        .await;

    assert_eq!(one.scalar::<i64>("SELECT count(*) FROM t").await, 3);
    assert!(
        other
            .scalar::<bool>("SELECT to_regclass('t') IS NULL")
            .await
    );
}

#[tokio::test]
async fn a_role_may_do_only_what_it_is_granted() {
    let database = Postgres::shared().database("smoke").await;
    database
        .execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
        .await;
    let role = database
        .role("auditor", "s3cret", "GRANT SELECT ON t TO {role}")
        .await;
    let mut session = connect(&role.url).await;

    let read = sqlx::query("SELECT current_user::text FROM t")
        .fetch_one(&mut session)
        .await;
    let write = sqlx::query("DELETE FROM t").execute(&mut session).await;

    assert_eq!(read.unwrap().get::<String, _>(0), role.name);
    assert!(write.unwrap_err().to_string().contains("permission denied"));
}

#[tokio::test]
async fn a_crashed_server_recovers_what_was_committed() {
    let mut postgres = Postgres::start_own(&[("autovacuum", "off")]);
    let database = postgres.database("smoke").await;
    database
        .execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
        .await;
    let mut session = database.connect().await;

    postgres.crash();
    let cut_off = sqlx::query("SELECT 1").execute(&mut session).await;
    postgres.restart();

    assert!(cut_off.is_err());
    assert_eq!(database.scalar::<i64>("SELECT count(*) FROM t").await, 1000);
    assert_eq!(
        database
            .scalar::<String>("SELECT current_setting('autovacuum')")
            .await,
        "off"
    );
}

#[tokio::test]
async fn a_transaction_goes_through_pgbouncer() {
    let postgres = Postgres::shared();
    let database = postgres.database("smoke").await;
    let role = database.role("pooled", "s3cret", "").await;
    let pooler = PgBouncer::start(
        postgres,
        &[(SUPERUSER, SUPERUSER), (&role.name, &role.password)],
    );
    let mut session = connect(&pooler.url(&database.name, &role.name, &role.password)).await;

    let mut transaction = session
        .begin_with("BEGIN READ ONLY; SET LOCAL statement_timeout = '5s'")
        .await
        .unwrap();
    let row = sqlx::query("SELECT current_user::text, current_setting('statement_timeout')")
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    transaction.commit().await.unwrap();

    assert_eq!(row.get::<String, _>(0), role.name);
    assert_eq!(row.get::<String, _>(1), "5s");
    // It is the pooler that answered, not the server behind it: only the pooler has this database.
    let mut console = connect(&pooler.url("pgbouncer", SUPERUSER, SUPERUSER)).await;
    let pools = sqlx::raw_sql("SHOW POOLS").fetch_all(&mut console).await;
    let pool = pools
        .unwrap()
        .into_iter()
        .find(|pool| pool.get::<String, _>("database") == database.name);
    assert_eq!(pool.unwrap().get::<String, _>("pool_mode"), "transaction");
}

#[test]
fn the_built_operator_runs_and_its_exit_status_is_seen() {
    let mut operator = Operator::start(&["--help"], &[]);

    let status = operator.wait(SOON);

    assert_eq!(status.code(), Some(0), "{}", operator.stderr());
}

#[test]
fn a_process_is_gone_when_its_handle_is_dropped() {
    let mut command = tied("sleep");
    command.arg("600");
    let process = Process::start("sleep", command, "TERM");
    let pid = process.pid();
    assert!(runs(pid));

    drop(process);

    assert!(!runs(pid));
}

#[tokio::test]
#[should_panic(expected = "in vain for the sun; last seen: \"rain\"")]
async fn a_vain_wait_says_what_it_saw() {
    eventually(Duration::ZERO, "the sun", async || Err::<(), _>("rain")).await;
}

#[test]
fn a_killed_process_reports_the_signal() {
    let mut command = tied("sleep");
    command.arg("600");
    let mut process = Process::start("sleep", command, "TERM");

    let status = process.kill9();

    assert_eq!(status.signal(), Some(9));
}

/// What another test runs in a process of its own, to see it die: it starts servers, says which, and then ends as the variable
/// says. Without the variable it is no test of anything and passes.
#[test]
fn bystander_with_servers() {
    let Ok(ending) = std::env::var(ENDING) else {
        return;
    };
    // Without background work it does not stumble over its missing files within the time that the other test waits.
    let postgres = Postgres::start_own(&[
        ("autovacuum", "off"),
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
    ]);
    let mut command = tied("sleep");
    command.arg("600");
    let sleeper = Process::start("sleep", command, "TERM");
    println!(
        "servers {} {} {}",
        run_dir().display(),
        postgres.pid(),
        sleeper.pid()
    );
    // As a shared server, which nobody drops.
    std::mem::forget(postgres);
    match ending.as_str() {
        "return" => {}
        "panic" => panic!("as the other test asked for"),
        _ => loop {
            std::thread::park();
        },
    }
}

const ENDING: &str = "BYSTANDER_ENDING";

#[rstest]
#[case::returns("return", None)]
#[case::panics("panic", None)]
#[case::terminated("signal", Some("TERM"))]
#[case::interrupted("signal", Some("INT"))]
#[case::killed("signal", Some("KILL"))]
fn nothing_outlives_a_test_process_that(#[case] ending: &str, #[case] signal: Option<&str>) {
    // A shell that runs the tests in the background makes them, and thus their children, ignore SIGINT.
    let mut command = tied("env");
    command
        .args(["--default-signal=INT,TERM", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "smoke::bystander_with_servers", "--nocapture"])
        .env(ENDING, ending);
    let mut bystander = Process::start("bystander", command, "KILL");
    let (dir, servers) = bystander.wait_ready(|bystander| {
        let output = bystander.stdout();
        servers_in(&output).ok_or(output)
    });
    assert_eq!(servers.len(), 2);

    if let Some(signal) = signal {
        assert!(servers.iter().all(|pid| runs(*pid)) && dir.exists());
        bystander.signal(signal);
    }
    bystander.wait(SOON);

    eventually_blocking(SOON, "the servers and their files to be gone", || {
        let left: Vec<u32> = servers.iter().copied().filter(|pid| runs(*pid)).collect();
        match (left.is_empty(), dir.exists()) {
            (true, false) => Ok(()),
            (_, files) => Err(format!("processes {left:?}, files: {files}")),
        }
    });
}

/// The directory and the process ids that the bystander prints, once it has.
fn servers_in(output: &str) -> Option<(PathBuf, Vec<u32>)> {
    let (_, line) = output.split_once("servers ")?;
    let (line, _) = line.split_once('\n')?;
    let (dir, pids) = line.split_once(' ')?;
    let pids = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    Some((dir.into(), pids))
}

/// Whether a process exists and is more than a zombie that its new parent has not collected yet.
fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap().starts_with('Z'))
}

const WIDGETS: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.test}
spec:
  group: example.test
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema: {type: object, properties: {size: {type: integer}}}
";
