//! A real Kubernetes API server with its etcd. There are no controllers: namespaces are not emptied, owner references are not
//! followed, default service accounts are not created, and the aggregated cluster roles (view, edit, admin) grant nothing.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use kube::config::{KubeConfigOptions, Kubeconfig};

use super::process::{Process, found_by, free_port, run_dir, serve, unique};

/// The API server that all tests of this process share; tests keep apart by [`ControlPlane::namespace`].
pub struct ControlPlane {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    _etcd: Process,
    _apiserver: Process,
}

impl ControlPlane {
    /// The shared server, started by the first call, which returns when it is ready (about 5 s).
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<ControlPlane> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let bin = found_by("control-plane.sh", &["kube-apiserver", "etcd", "kubectl"]);
        let (etcd_port, port) = (free_port(), free_port());
        let etcd = serve("etcd", &run_dir().join("etcd"), etcd_port);
        let etcd = Process::start("etcd", etcd, "TERM");
        let dir = run_dir().join("kube-apiserver");
        let mut command = serve("kube-apiserver", &dir, port);
        command.arg(etcd_port.to_string());
        let mut apiserver = Process::start("kube-apiserver", command, "TERM");
        let (kubectl, kubeconfig) = (bin.join("kubectl"), dir.join("kubeconfig"));
        apiserver.wait_ready(|_| {
            let readyz = kubectl_command(&kubectl, &kubeconfig)
                .args(["get", "--raw", "/readyz"])
                .output()
                .unwrap();
            if readyz.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&readyz.stderr).into_owned())
            }
        });
        Self {
            kubectl,
            kubeconfig,
            _etcd: etcd,
            _apiserver: apiserver,
        }
    }

    /// A kubeconfig of an administrator (`system:masters`).
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// An administrator's client. Each test makes its own: a client ends with the runtime that it was made in.
    pub async fn client(&self) -> kube::Client {
        client(&self.kubeconfig).await
    }

    /// A command for the real kubectl as administrator, without the settings and caches of the person who runs the tests.
    pub fn kubectl_command(&self) -> Command {
        kubectl_command(&self.kubectl, &self.kubeconfig)
    }

    /// Runs kubectl as administrator and returns whatever it answered.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_command().args(arguments).output().unwrap()
    }

    /// Runs kubectl as administrator and returns its standard output.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub fn kubectl_ok(&self, arguments: &[&str]) -> String {
        succeed(self.kubectl(arguments), arguments)
    }

    /// `kubectl apply` of manifests given as YAML or JSON text; returns its answer, refusals included.
    pub fn apply(&self, manifests: &str) -> Output {
        let mut apply = self
            .kubectl_command()
            .args(["apply", "--server-side", "--filename", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = apply.stdin.take().unwrap();
        stdin.write_all(manifests.as_bytes()).unwrap();
        drop(stdin);
        apply.wait_with_output().unwrap()
    }

    /// Creates a namespace of its own for a test and returns its name.
    pub fn namespace(&self, prefix: &str) -> String {
        let name = unique(prefix, '-');
        self.kubectl_ok(&["create", "namespace", &name]);
        name
    }

    /// Applies the CustomResourceDefinitions of a file and waits until the API server serves them.
    pub fn apply_crd(&self, path: &Path) {
        let path = path.to_str().unwrap();
        self.kubectl_ok(&["apply", "--server-side", "--filename", path]);
        self.kubectl_ok(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "--filename",
            path,
        ]);
    }

    /// Creates the service account `name` in `namespace`, and a kubeconfig with a real token of it, valid for an hour. It may do
    /// what role bindings grant it, as an operator in a pod may.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> PathBuf {
        self.kubectl_ok(&["--namespace", namespace, "create", "serviceaccount", name]);
        let token = self.kubectl_ok(&["--namespace", namespace, "create", "token", name]);
        let kubeconfig = run_dir().join(format!("{namespace}-{name}.kubeconfig"));
        fs::copy(self.kubeconfig_path(), &kubeconfig).unwrap();
        let set = [
            "config",
            "set-credentials",
            "admin",
            "--token",
            token.trim(),
        ];
        let output = kubectl_command(&self.kubectl, &kubeconfig)
            .args(set)
            .output();
        succeed(output.unwrap(), &set[..3]);
        kubeconfig
    }
}

/// A client with the credentials of a kubeconfig file.
pub async fn client(kubeconfig: &Path) -> kube::Client {
    let options = KubeConfigOptions::default();
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
    kube::Client::try_from(config.unwrap()).unwrap()
}

fn kubectl_command(kubectl: &Path, kubeconfig: &Path) -> Command {
    let mut command = Command::new(kubectl);
    command
        .env("KUBECONFIG", kubeconfig)
        .env("KUBECACHEDIR", run_dir().join("kube-cache"))
        .env("KUBERC", "off");
    command
}

fn succeed(output: Output, arguments: &[&str]) -> String {
    assert!(
        output.status.success(),
        "kubectl {} failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
