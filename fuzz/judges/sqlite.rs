// Judges what is printed of a predicate for SQLite, without knowing how it was printed: included by the fuzz target and by the unit
// tests.
//
// A printed predicate may hold columns as `"t"."name"`, quoted texts, numbers, parentheses, commas and the words, functions and
// operators below, and nothing else. A SELECT reads nothing but another one in parentheses, so that no table can be named.

/// Words that a printed predicate may hold outside of quotes, besides SELECT and FROM.
const WORDS: &[&str] = &[
    "AND", "OR", "NOT", "IS", "IN", "NULL", "ISNULL", "NOTNULL", "GLOB", "BETWEEN", "CASE", "WHEN",
    "THEN", "ELSE", "END", "UNION", "ALL", "AS", // The one column of a SELECT.
    "v",
];
/// Functions that a printed predicate may call: none of them reads anything but its arguments.
const FUNCTIONS: &[&str] = &[
    "typeof",
    "lower",
    "upper",
    "trim",
    "length",
    "substr",
    "coalesce",
    "nullif",
    "max",
    "min",
    "json_valid",
    "json_type",
    "json_remove",
    "instr",
    "char",
];
const OPERATORS: &[&str] = &[
    "<>", "<=", ">=", "||", "->>", "->", "=", "<", ">", "+", "-", "*", "/", "%",
];

/// What a printed predicate reads: the names of its columns, each as often as it stands there. `Err`: it holds what it must not hold.
pub fn columns(printed: &str) -> Result<Vec<String>, String> {
    let mut rest = printed;
    let mut depth = 0_i64;
    let mut columns = Vec::new();
    // What stands before, as far as it decides on what may follow.
    let mut before = "";
    while let Some(c) = rest.chars().next() {
        if c == ' ' {
            rest = &rest[1..];
            continue;
        }
        let from = rest;
        if before == "FROM" && !rest.starts_with("(SELECT ") {
            return Err("FROM a table".to_owned());
        }
        if c == '"' {
            let name = rest
                .strip_prefix("\"t\".\"")
                // SQLite takes a lone name in double quotes that is no column for a text.
                .ok_or("a name that is no column's of the table")?;
            let (name, after) = quoted(name, '"')?;
            columns.push(name);
            rest = after;
        } else if c == '\'' {
            rest = quoted(&rest[1..], '\'')?.1;
        } else if c.is_ascii_alphabetic() {
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let word = &rest[..end];
            rest = &rest[end..];
            let called = rest.starts_with('(');
            let fits = match word {
                "SELECT" => ["(", "ALL"].contains(&before),
                "FROM" => true,
                "ALL" => before == "UNION",
                "v" | "w" => !called,
                _ if WORDS.contains(&word) => true,
                _ => called && FUNCTIONS.contains(&word),
            };
            if !fits {
                return Err(format!("the word {word} after {before:?}"));
            }
        } else if c.is_ascii_digit() {
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
            if rest.starts_with(|c| "<>=|+-*/%~!&".contains(c)) {
                return Err(format!("{operator} and more"));
            }
        } else {
            return Err(format!("{c:?}"));
        }
        before = &from[..from.len() - rest.len()];
    }
    if depth == 0 && !printed.trim().is_empty() {
        Ok(columns)
    } else {
        Err("a parenthesis that is not closed, or nothing".to_owned())
    }
}

/// The text up to the closing quote, and what follows it. There is no escape but the doubled quote.
fn quoted(from: &str, quote: char) -> Result<(String, &str), String> {
    let mut text = String::new();
    let mut chars = from.char_indices().peekable();
    while let Some((_, c)) = chars.next() {
        if c == '\0' {
            return Err("a NUL".to_owned());
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

/// What follows a number.
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
