//! Literals: plain ones, and those that state a type.

use sqlparser::ast::{self as sql, CastKind, DataType, TimezoneInfo, Value};

use super::{
    PredicateError,
    ast::{Expr, LiteralType},
    parse::excerpt,
    refuse,
};

/// A literal that states no type.
pub(super) fn plain(value: &Value) -> Result<Expr, PredicateError> {
    match value {
        Value::Number(digits, false) => Ok(Expr::Number(digits.clone())),
        Value::SingleQuotedString(text) => Ok(Expr::Text(text.clone())),
        Value::Boolean(value) => Ok(Expr::Bool(*value)),
        Value::Null => Ok(Expr::Null),
        other => refuse(format!(
            "the literal `{}` is not allowed: write a number, a text in single quotes, TRUE, FALSE or NULL",
            excerpt(other)
        )),
    }
}

/// `DATE '…'` and its like.
pub(super) fn typed_string(typed: &sql::TypedString) -> Result<Expr, PredicateError> {
    let sql::TypedString {
        data_type,
        value,
        uses_odbc_syntax,
    } = typed;
    match (&value.value, uses_odbc_syntax) {
        (Value::SingleQuotedString(text), false) => typed_literal(data_type, text),
        _ => refuse(format!(
            "`{}`: write the text in single quotes",
            excerpt(typed)
        )),
    }
}

/// `INTERVAL '…'`, the unit inside the text.
pub(super) fn interval(interval: &sql::Interval) -> Result<Expr, PredicateError> {
    let sql::Interval {
        value,
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    } = interval
    else {
        return refuse(format!(
            "`{}`: write the unit inside the text, such as INTERVAL '1 day'",
            excerpt(interval)
        ));
    };
    match value.as_ref() {
        sql::Expr::Value(sql::ValueWithSpan {
            value: Value::SingleQuotedString(text),
            ..
        }) => literal(LiteralType::Interval, text),
        _ => refuse(format!(
            "`{}`: write INTERVAL with a text, such as INTERVAL '1 day'",
            excerpt(interval)
        )),
    }
}

/// `'…'::date` or `CAST('…' AS date)`: only a literal is cast, so that nothing depends on a cast that somebody made.
pub(super) fn cast(
    kind: &CastKind,
    value: &sql::Expr,
    data_type: &DataType,
    has_extras: bool,
) -> Result<Expr, PredicateError> {
    match (kind, value) {
        (
            CastKind::Cast | CastKind::DoubleColon,
            sql::Expr::Value(sql::ValueWithSpan {
                value: Value::SingleQuotedString(text),
                ..
            }),
        ) if !has_extras => typed_literal(data_type, text),
        _ => refuse(format!(
            "the cast of `{}` to {data_type} is not allowed: only a text literal may be cast, such as '2024-01-31'::date",
            excerpt(value)
        )),
    }
}

/// The one character of `ESCAPE '…'`.
pub(super) fn escape(expr: &sql::Expr) -> Result<char, PredicateError> {
    if let sql::Expr::Value(sql::ValueWithSpan {
        value: Value::SingleQuotedString(text),
        ..
    }) = expr
    {
        let mut characters = text.chars();
        if let (Some(character), None) = (characters.next(), characters.next()) {
            return Ok(character);
        }
    }
    refuse(format!(
        "ESCAPE `{}`: write one character in single quotes",
        excerpt(expr)
    ))
}

fn typed_literal(data_type: &DataType, text: &str) -> Result<Expr, PredicateError> {
    let literal_type = match data_type {
        DataType::Date => LiteralType::Date,
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            LiteralType::Timestamp
        }
        DataType::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => {
            LiteralType::TimestampTz
        }
        DataType::Interval {
            fields: None,
            precision: None,
        } => LiteralType::Interval,
        DataType::Uuid => LiteralType::Uuid,
        other => {
            return refuse(format!(
                "the type `{}` is not allowed for a literal; allowed are date, timestamp, timestamptz, interval and uuid",
                excerpt(other)
            ));
        }
    };
    literal(literal_type, text)
}

fn literal(literal_type: LiteralType, text: &str) -> Result<Expr, PredicateError> {
    match moving_word(text) {
        Some(word) if literal_type != LiteralType::Uuid => refuse(format!(
            "'{}' means the current time (`{word}`): write the date itself, and use `expireAfter` for ages",
            excerpt(&text)
        )),
        _ => Ok(Expr::Typed(literal_type, text.to_owned())),
    }
}

/// The word in `text` by which a date or time type means the current time, if there is one.
///
/// PostgreSQL takes these words in any case and among other fields (`today 12:00`, `{now}` in an array); so any run of
/// letters that is such a word counts.
pub(super) fn moving_word(text: &str) -> Option<&'static str> {
    const WORDS: [&str; 5] = ["now", "today", "tomorrow", "yesterday", "allballs"];
    text.split(|character: char| !character.is_ascii_alphabetic())
        .find_map(|found| {
            WORDS
                .into_iter()
                .find(|word| found.eq_ignore_ascii_case(word))
        })
}
