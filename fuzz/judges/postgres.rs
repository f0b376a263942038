// Judges what is printed of a predicate for PostgreSQL, without knowing how it was printed: included by the fuzz target and by the
// unit tests.
//
// A printed predicate may hold quoted names, quoted texts, numbers, parentheses, commas and the words and operators below, and
// nothing else. So it can hold no second statement, no comment, no subquery, no parameter, no cast but those of the
// grammar, and no function but the listed ones.

/// Words that a printed predicate may hold outside of quotes.
const WORDS: &[&str] = &[
    "AND", "OR", "NOT", "IS", "NULL", "TRUE", "FALSE", "UNKNOWN", "DISTINCT", "FROM", "BETWEEN",
    "IN", "LIKE", "ILIKE", "ESCAPE", "CAST", "AS", "COALESCE", "NULLIF", "GREATEST", "LEAST",
];
/// Names of the system catalog that a printed predicate may hold.
const CATALOG: &[&str] = &[
    "lower",
    "upper",
    "length",
    "btrim",
    "left",
    "right",
    "abs",
    "date",
    "timestamp",
    "timestamptz",
    "interval",
    "uuid",
];
const OPERATORS: &[&str] = &[
    "<>", "<=", ">=", "||", "->>", "->", "=", "<", ">", "+", "-", "*", "/", "%",
];

/// What a printed predicate reads: the names of its columns, in order. `Err`: it holds what it must not hold.
pub fn columns(printed: &str) -> Result<Vec<String>, String> {
    let mut rest = printed;
    let mut depth = 0_i64;
    let mut columns = Vec::new();
    while let Some(c) = rest.chars().next() {
        if c == '\0' {
            return Err("a NUL".to_owned());
        }
        if c == ' ' {
            rest = &rest[1..];
        } else if c == '"' {
            let (name, after) = quoted(&rest[1..], '"', false)?;
            columns.push(name);
            rest = after;
        } else if c == '\'' {
            rest = quoted(&rest[1..], '\'', false)?.1;
        } else if let Some(text) = rest.strip_prefix("E'") {
            rest = quoted(text, '\'', true)?.1;
        } else if let Some(name) = rest.strip_prefix("pg_catalog.") {
            let end = name
                .find(|c: char| !c.is_ascii_lowercase())
                .unwrap_or(name.len());
            if !CATALOG.contains(&&name[..end]) {
                return Err(format!("pg_catalog.{}", &name[..end]));
            }
            rest = &name[end..];
        } else if c.is_ascii_alphabetic() {
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            if !WORDS.contains(&&rest[..end]) {
                return Err(format!("the word {}", &rest[..end]));
            }
            rest = &rest[end..];
        } else if c.is_ascii_digit() || c == '.' {
            rest = number(rest)?;
        } else if c == '(' || c == ')' || c == ',' {
            depth += i64::from(c == '(') - i64::from(c == ')');
            if depth < 0 {
                return Err("a parenthesis that was not opened".to_owned());
            }
            rest = &rest[1..];
        } else if rest.starts_with("--") || rest.starts_with("/*") {
            return Err("a comment".to_owned());
        } else if let Some(operator) = OPERATORS
            .iter()
            .find(|operator| rest.starts_with(**operator))
        {
            rest = &rest[operator.len()..];
            // Two operators side by side would be read as another one.
            if rest.starts_with(|c| "<>=|+-*/%~!@#&^`?".contains(c)) {
                return Err(format!("{operator} and more"));
            }
        } else {
            return Err(format!("{c:?}"));
        }
    }
    if depth == 0 {
        Ok(columns)
    } else {
        Err("a parenthesis that is not closed".to_owned())
    }
}

/// The text up to the closing quote, and what follows it.
fn quoted(from: &str, quote: char, escapes: bool) -> Result<(String, &str), String> {
    let mut text = String::new();
    let mut chars = from.char_indices().peekable();
    while let Some((_, c)) = chars.next() {
        if c == '\0' {
            return Err("a NUL".to_owned());
        } else if escapes && c == '\\' {
            match chars.next() {
                Some((_, '\\')) => text.push('\\'),
                other => return Err(format!("the escape {other:?}")),
            }
        } else if c == '\\' && quote == '\'' {
            // Its meaning would depend on a setting.
            return Err("a backslash in a plain text".to_owned());
        } else if c != quote {
            text.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == quote) {
            chars.next();
            text.push(quote);
        } else {
            let after = chars.peek().map_or(from.len(), |(at, _)| *at);
            return Ok((text, &from[after..]));
        }
    }
    Err("a quote that is not closed".to_owned())
}

/// What follows a number. A letter may not: PostgreSQL before 15 would read it as a word of its own.
fn number(from: &str) -> Result<&str, String> {
    let mut end = 0;
    let mut last = ' ';
    for c in from.chars() {
        let signed = matches!(c, '+' | '-') && matches!(last, 'e' | 'E');
        if !(c.is_ascii_digit() || c == '.' || matches!(c, 'e' | 'E') || signed) {
            break;
        }
        end += 1;
        last = c;
    }
    let (digits, after) = from.split_at(end);
    if digits.parse::<f64>().is_err() {
        return Err(format!("the number {digits}"));
    }
    if after.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
        return Err(format!("the number {digits} and more"));
    }
    Ok(after)
}
