//! What the operator's administrator decides: flags of `run`, each also an environment variable.

use std::net::SocketAddr;

use clap::Args;

/// Settings of the controller.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Namespaces whose policies are carried out; none: all namespaces.
    #[arg(
        long,
        env = "RETENTION_OPERATOR_WATCH_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAMESPACE"
    )]
    pub watch_namespaces: Vec<String>,

    /// Sweeps that may run at once, over all databases.
    #[arg(long, env = "RETENTION_OPERATOR_MAX_SWEEPS", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_sweeps: u32,

    /// Kill switch: audit only, sweep nothing.
    #[arg(long, env = "RETENTION_OPERATOR_READ_ONLY", num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub read_only: bool,

    /// Allow policies to name files of the operator's own disk (sqlite:// databases, file:// archives).
    #[arg(long, env = "RETENTION_OPERATOR_ALLOW_LOCAL_PATH", num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub allow_local_path: bool,

    /// Archive URL prefixes that may use the operator's own cloud identity, as NAMESPACE=PREFIX.
    #[arg(
        long,
        env = "RETENTION_OPERATOR_ALLOW_AMBIENT_ARCHIVE",
        value_delimiter = ',',
        value_name = "NAMESPACE=PREFIX"
    )]
    pub allow_ambient_archive: Vec<String>,

    /// Database hosts that policies may name: a host, or *.suffix; none: any host.
    #[arg(
        long,
        env = "RETENTION_OPERATOR_ALLOW_HOSTS",
        value_delimiter = ',',
        value_name = "HOST"
    )]
    pub allow_hosts: Vec<String>,

    /// Where /healthz, /readyz and /metrics are served.
    #[arg(
        long,
        env = "RETENTION_OPERATOR_LISTEN",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS:PORT"
    )]
    pub listen: SocketAddr,

    /// Work only while holding the lease, so that several replicas can stand by.
    #[arg(long, env = "RETENTION_OPERATOR_LEADER_ELECT", num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: bool,

    /// Name of the lease.
    #[arg(
        long,
        env = "RETENTION_OPERATOR_LEASE_NAME",
        default_value = "retention-operator"
    )]
    pub lease_name: String,

    /// Namespace of the lease; default: the operator's own.
    #[arg(
        long,
        env = "RETENTION_OPERATOR_LEASE_NAMESPACE",
        value_name = "NAMESPACE"
    )]
    pub lease_namespace: Option<String>,
}

impl Settings {
    /// May policies name that database host?
    #[must_use]
    pub fn allows_host(&self, host: &str) -> bool {
        self.allow_hosts.is_empty()
            || self
                .allow_hosts
                .iter()
                .any(|allowed| match allowed.strip_prefix('*') {
                    Some(suffix) => {
                        suffix.starts_with('.')
                            && host.len() > suffix.len()
                            && host.ends_with(suffix)
                    }
                    None => allowed == host,
                })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rstest::rstest;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        settings: Settings,
    }

    fn settings(arguments: &[&str]) -> Settings {
        Command::parse_from(std::iter::once(&"run").chain(arguments)).settings
    }

    #[test]
    fn switches_work_bare_and_with_a_value() {
        assert!(settings(&["--read-only"]).read_only);
        assert!(settings(&["--read-only=true"]).read_only);
        assert!(!settings(&["--read-only=false"]).read_only);
        assert!(!settings(&[]).read_only);
    }

    #[rstest]
    #[case(&[], "anything.example", true)]
    #[case(&["--allow-hosts", "db.shop"], "db.shop", true)]
    #[case(&["--allow-hosts", "db.shop"], "evil.db.shop", false)]
    #[case(&["--allow-hosts", "a,*.svc"], "db.shop.svc", true)]
    #[case(&["--allow-hosts", "a,*.svc"], "svc", false)]
    #[case(&["--allow-hosts", "*svc"], "evilsvc", false)]
    fn hosts_are_allowed_by_name_or_suffix(
        #[case] arguments: &[&str],
        #[case] host: &str,
        #[case] allowed: bool,
    ) {
        assert_eq!(settings(arguments).allows_host(host), allowed);
    }
}
