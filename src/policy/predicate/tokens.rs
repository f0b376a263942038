//! The words and signs of an expression: those that no allowed expression has are refused before it is parsed.

use sqlparser::{
    dialect::PostgreSqlDialect,
    tokenizer::{Token, Tokenizer, Whitespace},
};

use super::{PredicateError, refuse};

/// Characters that an expression may have; the schema says the same.
const MAX_CHARACTERS: usize = 4096;
/// Operators that an expression may have, AND and OR among them. A tree is at most that deep where they stand in a row: our own
/// stack and that of SQLite, which takes 1,000 levels, have room for it.
const MAX_OPERATORS: usize = 500;

/// Words that PostgreSQL takes for a function where a column is not quoted.
const FUNCTION_WORDS: [&str; 12] = [
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "system_user",
    "user",
];

/// The tokens of `source`, blanks left out.
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, PredicateError> {
    if source.trim().is_empty() {
        return refuse("the expression is empty: leave `where` out to take every row");
    }
    let characters = source.chars().count();
    if characters > MAX_CHARACTERS {
        return refuse(format!(
            "the expression has {characters} characters: at most {MAX_CHARACTERS} are allowed"
        ));
    }
    if source.contains('\0') {
        return refuse("the expression holds a NUL character");
    }
    let found = Tokenizer::new(&PostgreSqlDialect {}, source)
        .tokenize()
        .map_err(|error| PredicateError(format!("the expression cannot be read: {error}")))?;
    let mut kept = Vec::with_capacity(found.len());
    for token in found {
        match &token {
            Token::Whitespace(Whitespace::Space | Whitespace::Newline | Whitespace::Tab) => {
                continue;
            }
            Token::SingleQuotedString(_)
                if matches!(kept.last(), Some(Token::SingleQuotedString(_))) =>
            {
                return refuse("two texts stand side by side: write one, or join them with `||`");
            }
            _ => screen(&token)?,
        }
        kept.push(token);
    }
    if kept.iter().filter(|token| is_operator(token)).count() > MAX_OPERATORS {
        return refuse(format!(
            "the expression has more than {MAX_OPERATORS} operators: write `IN (a, b)` for several values, or several rules"
        ));
    }
    Ok(kept)
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => {
            word.quote_style.is_none()
                && ["and", "or"].contains(&word.value.to_ascii_lowercase().as_str())
        }
        Token::Eq
        | Token::Neq
        | Token::Lt
        | Token::Gt
        | Token::LtEq
        | Token::GtEq
        | Token::Plus
        | Token::Minus
        | Token::Mul
        | Token::Div
        | Token::Mod
        | Token::StringConcat
        | Token::Arrow
        | Token::LongArrow => true,
        _ => false,
    }
}

/// Refuses a token that no allowed expression has.
fn screen(token: &Token) -> Result<(), PredicateError> {
    match token {
        Token::Word(word) => match word.quote_style {
            None => {
                let lower = word.value.to_ascii_lowercase();
                if FUNCTION_WORDS.contains(&lower.as_str()) {
                    return refuse(format!(
                        "`{lower}` is not allowed: its value changes; use `expireAfter` for ages (a column of that name is written \"{lower}\")"
                    ));
                }
                Ok(())
            }
            Some('"') if word.value.is_empty() => refuse("`\"\"` is not a name: it is empty"),
            Some('"') => Ok(()),
            Some(_) => refuse(format!(
                "`{token}`: names are quoted with double quotes only"
            )),
        },
        Token::SingleQuotedString(_)
        | Token::Comma
        | Token::Eq
        | Token::Neq
        | Token::Lt
        | Token::Gt
        | Token::LtEq
        | Token::GtEq
        | Token::Plus
        | Token::Minus
        | Token::Mul
        | Token::Div
        | Token::Mod
        | Token::StringConcat
        | Token::LParen
        | Token::RParen
        | Token::Period
        | Token::DoubleColon
        | Token::Arrow
        | Token::LongArrow => Ok(()),
        Token::Number(digits, false) if is_plain_number(digits) => Ok(()),
        Token::Number(..) => refuse(format!(
            "`{token}` is not a plain number: write digits such as `12`, `1.5` or `1e3`"
        )),
        Token::Whitespace(_) => refuse("comments are not allowed in an expression"),
        Token::SemiColon => refuse("`;` is not allowed: write one expression"),
        Token::DoubleEq => refuse("`==` is not an operator: write `=`"),
        Token::Placeholder(_) | Token::Question | Token::AtSign | Token::Colon => refuse(format!(
            "`{token}`: placeholders are not allowed, write the value itself"
        )),
        Token::DollarQuotedString(_) => refuse(
            "dollar quotes are not allowed: write the text in single quotes, a quote inside it doubled",
        ),
        Token::EscapedStringLiteral(_) | Token::UnicodeStringLiteral(_) => refuse(
            "escapes (E'…', U&'…') are not allowed: write the text in plain single quotes, with the characters themselves",
        ),
        Token::NationalStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::SingleQuotedByteStringLiteral(_)
        | Token::SingleQuotedRawStringLiteral(_) => refuse(format!(
            "`{token}`: texts with a prefix are not allowed, write plain single quotes"
        )),
        Token::LBracket | Token::RBracket | Token::LBrace | Token::RBrace => {
            refuse("arrays and brackets are not allowed; use `IN (a, b)` for several values")
        }
        other => refuse(format!(
            "the operator `{other}` is not allowed; allowed are = <> < <= > >= + - * / % || -> ->> (separate operators with blanks)"
        )),
    }
}

/// Digits, perhaps a fraction, perhaps an exponent. Other notations mean different things to different servers.
fn is_plain_number(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.is_none_or(|exponent| {
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        // A greater exponent is beyond every number type and would fail in the database.
        (1..=3).contains(&unsigned.len()) && digits(unsigned)
    });
    !whole.is_empty() && digits(whole) && digits(fraction) && exponent
}
