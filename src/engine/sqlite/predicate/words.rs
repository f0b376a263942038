//! Literals, patterns and other words of a statement.

use super::{Printed, refuse};
use crate::engine::EngineError;

/// A pattern of LIKE as one of GLOB.
pub(super) fn glob(pattern: &str, escape: char) -> Printed {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        let plain = if letter == escape {
            match letters.next() {
                Some(next) => next,
                None => return refuse(format!("the pattern '{pattern}' ends with its escape")),
            }
        } else {
            match letter {
                '%' => {
                    out.push('*');
                    continue;
                }
                '_' => {
                    out.push('?');
                    continue;
                }
                plain => plain,
            }
        };
        if matches!(plain, '*' | '?' | '[') {
            out.push('[');
            out.push(plain);
            out.push(']');
        } else {
            out.push(plain);
        }
    }
    Ok(out)
}

pub(super) fn is_whole(digits: &str) -> bool {
    !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// The driver ends a statement at its first NUL: what follows would silently be lost.
pub(super) fn checked(text: &str) -> Result<&str, EngineError> {
    if text.contains('\0') {
        return refuse("a NUL character cannot be part of an expression".to_owned());
    }
    Ok(text)
}

pub(super) fn number(digits: &str) -> Result<&str, EngineError> {
    let plain = digits
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    let starts_well = digits.starts_with(|c: char| c.is_ascii_digit());
    // Two signs in a row would begin a comment.
    if plain && starts_well && !digits.contains("--") {
        Ok(digits)
    } else {
        refuse(format!("{digits:?} is not a number"))
    }
}
