//! A SQLite URL, read by hand: what the driver does not know it would ignore, and a misspelt parameter must not mean another mode.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// What a URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SqliteUrl {
    pub(super) path: PathBuf,
    /// `mode=ro`: nothing may be written.
    pub(super) read_only: bool,
    /// `immutable=1`: nobody writes to the file while it is read, so that no lock and no file beside it is needed.
    pub(super) immutable: bool,
}

/// What is to be written instead.
const EXAMPLE: &str = "write sqlite:///absolute/path/file.db, or sqlite://file.db for a file of the working directory";

/// Reads `sqlite://path[?mode=ro|rw][&immutable=1]`; a `?`, `%` or `#` in the path is percent-encoded.
///
/// # Errors
/// Says what to write instead.
pub(super) fn parse(text: &str) -> Result<SqliteUrl, String> {
    let text = text.trim();
    let rest = match text.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("sqlite") => rest,
        _ => return Err(format!("the database URL is none of SQLite: {EXAMPLE}")),
    };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if path.contains('#') {
        return Err("the database URL holds a `#`: in a file's name it is written %23".to_owned());
    }
    let path = decode(path)?;
    if path.is_empty() {
        return Err(format!("the database URL names no file: {EXAMPLE}"));
    }
    if path == ":memory:" {
        return Err(format!(
            "a database in memory holds nobody's rows: {EXAMPLE}"
        ));
    }
    let mut url = SqliteUrl {
        path: PathBuf::from(path),
        read_only: false,
        immutable: false,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match decode(pair)?.as_str() {
            "mode=ro" => url.read_only = true,
            "mode=rw" => url.read_only = false,
            "immutable=1" => url.immutable = true,
            "immutable=0" => url.immutable = false,
            other => {
                return Err(format!(
                    "the database URL's parameter `{other}` is not known: mode=ro, mode=rw and immutable=1 are; \
                     a file is never created"
                ));
            }
        }
    }
    Ok(url)
}

fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| "the database URL holds bytes that are no UTF-8".to_owned())?;
    if decoded.contains('\0') {
        return Err("the database URL holds a NUL character".to_owned());
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        "sqlite:///var/lib/shop/shop.db",
        "/var/lib/shop/shop.db",
        false,
        false
    )]
    #[case("sqlite://shop.db", "shop.db", false, false)]
    #[case("sqlite:data/shop.db", "data/shop.db", false, false)]
    #[case("SQLite://shop.db?mode=ro", "shop.db", true, false)]
    #[case("sqlite:///a%20b%3F%23%25.db?mode=rw", "/a b?#%.db", false, false)]
    #[case("sqlite:///s/é.db?mode=ro&immutable=1", "/s/é.db", true, true)]
    #[case("sqlite://file:x.db", "file:x.db", false, false)]
    fn a_url_names_a_file(
        #[case] url: &str,
        #[case] path: &str,
        #[case] read_only: bool,
        #[case] immutable: bool,
    ) {
        let expected = SqliteUrl {
            path: PathBuf::from(path),
            read_only,
            immutable,
        };

        assert_eq!(parse(url), Ok(expected));
    }

    #[rstest]
    #[case("sqlite://", "names no file")]
    #[case("sqlite::memory:", "in memory")]
    #[case("sqlite://:memory:", "in memory")]
    #[case("sqlite://x.db?mode=rwc", "never created")]
    #[case("sqlite://x.db?mode=memory", "`mode=memory`")]
    #[case("sqlite://x.db?vfs=unix-none", "`vfs=unix-none`")]
    #[case("sqlite://x.db?Mode=ro", "`Mode=ro`")]
    #[case("sqlite://x%00.db", "NUL")]
    #[case("sqlite://x%ff.db", "UTF-8")]
    #[case("sqlite://x.db#y", "%23")]
    #[case("x.db", "none of SQLite")]
    fn what_is_not_understood_is_refused(#[case] url: &str, #[case] says: &str) {
        let error = parse(url).unwrap_err();

        assert!(error.contains(says), "{error}");
    }
}
