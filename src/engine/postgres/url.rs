//! A PostgreSQL connection URL, read by hand: the driver's own reader takes gaps from the environment and prints values of parameters
//! that it does not know.

use std::time::Duration;

/// The parts of a URL that are used.
#[derive(Clone, Default)]
pub(super) struct PostgresUrl {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) host: String,
    /// A folder of a Unix socket, instead of `host`.
    pub(super) socket: Option<String>,
    pub(super) port: u16,
    pub(super) database: Option<String>,
    pub(super) sslmode: Option<String>,
    pub(super) root_cert: Option<String>,
    pub(super) client_cert: Option<String>,
    pub(super) client_key: Option<String>,
    pub(super) connect_timeout: Option<Duration>,
}

/// Reads `postgres://[user[:password]@]host[:port][/database][?parameter=value…]`.
///
/// # Errors
/// Says what to write instead; shows nothing of the URL but its scheme and its parameters' names.
pub(super) fn parse(text: &str) -> Result<PostgresUrl, String> {
    let rest = after_scheme(text.trim())?;
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains('@') || fragment.contains('@') || query.split('&').any(may_hold_the_host) {
        return Err(
            "the database URL has an `@` behind where its host ends: write special characters of the password percent-encoded (`@` as \
             %40, `/` as %2F, `?` as %3F, `#` as %23), and likewise an `@` of the database's name"
                .to_owned(),
        );
    }
    let mut url = PostgresUrl {
        port: 5432,
        ..PostgresUrl::default()
    };
    // The last @ ends the login: some tools leave one in a password unescaped.
    let address = match authority.rsplit_once('@') {
        Some((login, address)) => {
            let (user, password) = login
                .split_once(':')
                .map_or((login, None), |(u, p)| (u, Some(p)));
            url.user = non_empty(decode(user)?);
            url.password = password.map(decode).transpose()?;
            address
        }
        None => authority,
    };
    read_address(&mut url, address)?;
    url.database = non_empty(decode(path)?);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        read_parameter(&mut url, &decode(key)?, decode(value)?)?;
    }
    if url.host.is_empty() && url.socket.is_none() {
        return Err(
            "the database URL names no host: write postgres://user:password@host:5432/database"
                .to_owned(),
        );
    }
    Ok(url)
}

/// Whether a parameter may be the end of a password that holds an unescaped `?`, with the real host behind it.
fn may_hold_the_host(pair: &str) -> bool {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    key.contains('@') || (value.contains('@') && !HOLD_AN_AT.contains(&key))
}

/// Parameters in whose values an `@` is nothing strange.
const HOLD_AN_AT: &[&str] = &[
    "user",
    "password",
    "dbname",
    "host",
    "application_name",
    "ApplicationName",
    "fallback_application_name",
    "options",
    "passfile",
    "service",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslcrl",
    "krbsrvname",
    "schema",
    "currentSchema",
    "search_path",
];

fn after_scheme(text: &str) -> Result<&str, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(
            "the database URL has no scheme: write postgres://user:password@host:5432/database"
                .to_owned(),
        );
    };
    match scheme.to_ascii_lowercase().as_str() {
        "postgres" | "postgresql" => Ok(rest),
        known @ ("mysql" | "mariadb" | "sqlite") => Err(format!(
            "databases of the scheme {known}:// are not supported yet: this version speaks postgres:// only"
        )),
        _ => Err("the database URL's scheme is unknown: write postgres://user:password@host:5432/database".to_owned()),
    }
}

fn read_address(url: &mut PostgresUrl, address: &str) -> Result<(), String> {
    if address.contains(',') {
        return Err(several_hosts());
    }
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, after) = rest
            .split_once(']')
            .ok_or("the database URL's IPv6 address lacks its closing bracket")?;
        (host, after.strip_prefix(':'))
    } else {
        match address.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        }
    };
    if let Some(port) = port.filter(|port| !port.is_empty()) {
        url.port = read_port(port)?;
    }
    set_host(url, decode(host)?)
}

fn set_host(url: &mut PostgresUrl, host: String) -> Result<(), String> {
    if host.contains(',') {
        return Err(several_hosts());
    }
    if host.starts_with('/') {
        url.socket = Some(host);
    } else {
        url.socket = None;
        url.host = host;
    }
    Ok(())
}

fn several_hosts() -> String {
    "the database URL names several hosts: write one, the address of the primary (a service or DNS name that follows it)".to_owned()
}

fn read_port(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| "the database URL's port is not a number from 1 to 65535".to_owned())
}

fn read_parameter(url: &mut PostgresUrl, key: &str, value: String) -> Result<(), String> {
    match key {
        "sslmode" | "ssl-mode" => url.sslmode = Some(value),
        "sslrootcert" => url.root_cert = Some(value),
        "sslcert" => url.client_cert = Some(value),
        "sslkey" => url.client_key = Some(value),
        "host" | "hostaddr" => set_host(url, value)?,
        "port" => url.port = read_port(&value)?,
        "user" => url.user = non_empty(value),
        "password" => url.password = Some(value),
        "dbname" => url.database = non_empty(value),
        "connect_timeout" => {
            url.connect_timeout = value
                .parse()
                .ok()
                .filter(|s| *s > 0)
                .map(Duration::from_secs);
        }
        "options" => {
            return Err("the database URL's options= would change the session, and poolers refuse it: remove it".to_owned());
        }
        "channel_binding" | "gssencmode" if value == "require" => {
            return Err(format!(
                "the database URL demands {key}=require, which this client cannot do: remove it and use sslmode=verify-full"
            ));
        }
        "service" | "passfile" => {
            return Err(format!(
                "the database URL's {key}= is not supported: write the values themselves"
            ));
        }
        // Whatever other drivers take from the same URL (pool sizes, keep-alives, schema) does not concern ours.
        _ => {}
    }
    Ok(())
}

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn decode(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escape = (byte == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        // A lone percent sign stands for itself, as generated passwords are often pasted unescaped.
        let (value, width) = escape.map_or((byte, 1), |value| (value, 3));
        out.push(value);
        at += width;
    }
    let text = String::from_utf8(out)
        .map_err(|_| "the database URL holds an escape that is not UTF-8".to_owned())?;
    if text.contains('\0') {
        return Err("the database URL holds a NUL byte".to_owned());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn every_part_is_found() {
        let url =
            parse("postgres://me:s%3Acret@h.example:1234/db?sslmode=require&connect_timeout=3")
                .unwrap();

        assert_eq!(url.user.as_deref(), Some("me"));
        assert_eq!(url.password.as_deref(), Some("s:cret"));
        assert_eq!((url.host.as_str(), url.port), ("h.example", 1234));
        assert_eq!(url.database.as_deref(), Some("db"));
        assert_eq!(url.sslmode.as_deref(), Some("require"));
        assert_eq!(url.connect_timeout, Some(Duration::from_secs(3)));
    }

    #[rstest]
    #[case("postgres://u:a@b%@h/d", "a@b%")]
    #[case("postgres://u:50%25@h/d", "50%")]
    #[case("postgres://u:%C3%A9%zz@h/d", "é%zz")]
    fn passwords_are_read_as_they_were_meant(#[case] url: &str, #[case] password: &str) {
        assert_eq!(parse(url).unwrap().password.as_deref(), Some(password));
    }

    #[rstest]
    #[case::in_the_password("postgres://u:S3@cret?pw@127.0.0.1:5432/shop")]
    #[case::question_mark("postgres://u:S3?cret@127.0.0.1:5432/shop")]
    #[case::like_a_parameter("postgres://u:S3@c?cret=pw@127.0.0.1:5432/shop")]
    #[case::slash("postgres://u:S3@c/cret@127.0.0.1/shop")]
    #[case::slash_alone("postgres://u:S3/cret@127.0.0.1/shop")]
    #[case::hash("postgres://u:S3@c#cret@127.0.0.1/shop")]
    #[case::all("postgres://u:S3@c/cret?a#b@127.0.0.1/shop?sslmode=require")]
    #[case::in_the_database("postgres://u:S3@c/cret@home")]
    fn an_at_sign_behind_the_host_is_refused_and_nothing_of_the_url_is_shown(#[case] url: &str) {
        let error = parse(url).err().unwrap();

        assert!(error.contains("%40, `/` as %2F, `?` as %3F"), "{error}");
        for secret in ["S3", "cret", "127.0.0.1", "shop"] {
            assert!(!error.contains(secret), "{error}");
        }
    }

    #[rstest]
    #[case("postgres://u:p@h/d?user=me@corp&sslmode=require", "me@corp")]
    #[case("postgres://h/d?user=me%40corp&password=a@b", "me@corp")]
    #[case("postgres://me%40corp:p@h/d?application_name=team@shop", "me@corp")]
    #[case("postgres://me%40corp:p%3Fq%2F@h/d%40e?pool=a%40b#x", "me@corp")]
    #[case("postgres://me@corp:p@q@h/d", "me@corp")]
    fn an_at_sign_that_is_plainly_meant_is_read(#[case] url: &str, #[case] user: &str) {
        let url = parse(url).unwrap();

        assert_eq!(url.user.as_deref(), Some(user));
        assert_eq!(url.host, "h");
    }

    #[test]
    fn ipv6_sockets_and_parameters_give_the_host() {
        assert_eq!(parse("postgres://u@[::1]:5/d").unwrap().host, "::1");
        assert_eq!(parse("postgres://u@[::1]:5/d").unwrap().port, 5);
        assert_eq!(
            parse("postgres://u@/d?host=/run/pg")
                .unwrap()
                .socket
                .as_deref(),
            Some("/run/pg")
        );
        assert_eq!(parse("postgres://u@/d?host=h&port=7").unwrap().port, 7);
    }

    #[rstest]
    #[case("postgres://u:p@a:1,b:2/d", "several hosts")]
    #[case("postgres://u:p@/d?host=a,b", "several hosts")]
    #[case("postgres://u:p@h:0/d", "port")]
    #[case("postgres:///d", "no host")]
    #[case("mysql://u:p@h/d", "postgres://")]
    #[case("h/d", "no scheme")]
    #[case("postgres://u:p@h/d?channel_binding=require", "channel_binding")]
    fn what_cannot_be_used_says_what_to_write(#[case] url: &str, #[case] part: &str) {
        let error = parse(url).err().unwrap();

        assert!(error.contains(part), "{error}");
    }
}
