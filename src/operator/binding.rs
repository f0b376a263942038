//! From the contents of a Secret to a database address. Pure: the reading of Secrets is in `resolve`.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};

use crate::{api::conditions::reason, engine::target::TlsMode, policy::check::Refusal};

/// The contents of a Secret.
pub type SecretData = BTreeMap<String, Vec<u8>>;

/// Everything but what a URL may hold unescaped in any of its parts.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// An address and what the Secret says of its encryption.
#[derive(Debug)]
pub struct Binding {
    /// The whole URL, password included.
    pub url: SecretString,
    /// `sslmode` of a binding Secret.
    pub tls_mode: Option<TlsMode>,
    /// `ca.crt` of a binding Secret.
    pub tls_ca_pem: Option<String>,
}

/// The value of one key, as text.
///
/// # Errors
/// When the key is missing, empty or not UTF-8; names the Secret, the key and the keys that there are.
pub fn value(secret: &str, data: &SecretData, key: &str) -> Result<String, Refusal> {
    let Some(bytes) = data.get(key) else {
        let keys: Vec<&str> = data.keys().map(String::as_str).take(8).collect();
        return Err(invalid(format!(
            "Secret {secret} has no key {key}; its keys: {}",
            if keys.is_empty() {
                "none".to_owned()
            } else {
                keys.join(", ")
            }
        )));
    };
    let text = std::str::from_utf8(bytes)
        .map_err(|_| invalid(format!("Secret {secret}: key {key} is not UTF-8 text")))?
        .trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(invalid(format!("Secret {secret}: key {key} is empty")));
    }
    Ok(text.to_owned())
}

/// Reads a binding Secret: `uri`, or `host`, `port`, `dbname|database`, `username|user`, `password`.
///
/// # Errors
/// When neither is there in full.
pub fn from_secret(secret: &str, data: &SecretData) -> Result<Binding, Refusal> {
    let optional = |key: &str| {
        data.contains_key(key)
            .then(|| value(secret, data, key))
            .transpose()
    };
    let tls_mode = optional("sslmode")?
        .map(|mode| tls_mode(secret, &mode))
        .transpose()?;
    let tls_ca_pem = optional("ca.crt")?;
    let url = match optional("uri")? {
        Some(uri) => uri,
        None => {
            let one_of = |keys: [&str; 2]| -> Result<String, Refusal> {
                match optional(keys[0])? {
                    Some(text) => Ok(text),
                    None => match optional(keys[1])? {
                        Some(text) => Ok(text),
                        None => Err(invalid(format!(
                            "Secret {secret} has neither uri nor {} (or {}): write uri, or host, port, dbname, username and password",
                            keys[0], keys[1]
                        ))),
                    },
                }
            };
            let host = one_of(["host", "hostname"])?;
            let database = one_of(["dbname", "database"])?;
            let user = one_of(["username", "user"])?;
            let port = optional("port")?.unwrap_or_else(|| "5432".to_owned());
            if port.parse::<u16>().is_err() {
                return Err(invalid(format!(
                    "Secret {secret}: key port is not a port number: write for example 5432"
                )));
            }
            let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
            let password = optional("password")?
                .map(|password| format!(":{}", escaped(&password)))
                .unwrap_or_default();
            // An IPv6 address keeps its brackets.
            let host = if host.contains(':') && !host.starts_with('[') {
                format!("[{host}]")
            } else {
                host
            };
            format!(
                "postgres://{}{password}@{host}:{port}/{}",
                escaped(&user),
                escaped(&database)
            )
        }
    };
    Ok(Binding {
        url: SecretString::from(url),
        tls_mode,
        tls_ca_pem,
    })
}

fn tls_mode(secret: &str, mode: &str) -> Result<TlsMode, Refusal> {
    Ok(match mode {
        "disable" => TlsMode::Disable,
        "allow" | "prefer" => TlsMode::Prefer,
        "require" => TlsMode::Require,
        "verify-ca" => TlsMode::VerifyCa,
        "verify-full" => TlsMode::VerifyFull,
        _ => {
            return Err(invalid(format!(
                "Secret {secret}: key sslmode is unknown: write disable, prefer, require, verify-ca or verify-full"
            )));
        }
    })
}

/// Refuses addresses of engines that this version does not speak, and what is no address at all. Never repeats the address.
///
/// # Errors
/// Says which schemes there are.
pub fn check_scheme(source: &str, url: &SecretString) -> Result<(), Refusal> {
    let url = url.expose_secret();
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some("postgres" | "postgresql") => Ok(()),
        Some(scheme @ ("mysql" | "mariadb" | "sqlite")) => Err(Refusal::new(
            reason::NOT_SUPPORTED,
            format!("{source} holds a {scheme}:// address; this version speaks postgres:// only"),
        )),
        _ => Err(invalid(format!(
            "{source} does not hold a database address: write postgres://user:password@host:5432/database"
        ))),
    }
}

fn invalid(message: String) -> Refusal {
    Refusal::new(reason::SECRET_INVALID, message)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn data(pairs: &[(&str, &str)]) -> SecretData {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect()
    }

    #[rstest]
    #[case::uri_wins(&[("uri", "postgres://a:b@h/d"), ("host", "other")], "postgres://a:b@h/d")]
    #[case::parts(&[("host", "h"), ("dbname", "d"), ("username", "u"), ("password", "p")], "postgres://u:p@h:5432/d")]
    #[case::other_names(&[("host", "h"), ("port", "6432"), ("database", "d"), ("user", "u"), ("password", "p")], "postgres://u:p@h:6432/d")]
    #[case::escaped(&[("host", "h"), ("dbname", "d/é"), ("username", "u@x"), ("password", "p:/?#[]@% ")],
        "postgres://u%40x:p%3A%2F%3F%23%5B%5D%40%25%20@h:5432/d%2F%C3%A9")]
    #[case::no_password(&[("host", "h"), ("dbname", "d"), ("username", "u")], "postgres://u@h:5432/d")]
    #[case::ipv6(&[("host", "::1"), ("dbname", "d"), ("username", "u")], "postgres://u@[::1]:5432/d")]
    #[case::newline(&[("uri", "postgres://a@h/d\n")], "postgres://a@h/d")]
    fn a_binding_secret_gives_an_address(#[case] pairs: &[(&str, &str)], #[case] url: &str) {
        let binding = from_secret("s", &data(pairs)).expect("a binding");
        assert_eq!(binding.url.expose_secret(), url);
    }

    #[rstest]
    #[case(&[], "Secret s has neither uri nor host")]
    #[case(&[("host", "h"), ("dbname", "d")], "username")]
    #[case(&[("host", "h"), ("dbname", "d"), ("user", "u"), ("port", "x")], "key port")]
    #[case(&[("uri", "postgres://a@h/d"), ("sslmode", "on")], "key sslmode")]
    #[case(&[("uri", "")], "key uri is empty")]
    fn what_is_missing_is_named(#[case] pairs: &[(&str, &str)], #[case] expected: &str) {
        let refusal = from_secret("s", &data(pairs)).expect_err("refused");
        assert_eq!(refusal.reason, reason::SECRET_INVALID);
        assert!(refusal.message.contains(expected), "{}", refusal.message);
    }

    #[rstest]
    #[case("mysql://u:hunter2@h/d", reason::NOT_SUPPORTED)]
    #[case("hunter2", reason::SECRET_INVALID)]
    #[case("http://u:hunter2@h/d", reason::SECRET_INVALID)]
    fn a_wrong_scheme_is_refused_without_repeating_the_address(
        #[case] url: &str,
        #[case] expected: &str,
    ) {
        let refusal =
            check_scheme("Secret s, key url,", &SecretString::from(url)).expect_err("refused");
        assert_eq!(refusal.reason, expected);
        assert!(!refusal.message.contains("hunter2"), "{}", refusal.message);
    }

    #[test]
    fn a_missing_key_lists_the_keys_that_are_there() {
        let refusal = value("s", &data(&[("uri", "x")]), "url").expect_err("refused");
        assert_eq!(refusal.message, "Secret s has no key url; its keys: uri");
    }
}
