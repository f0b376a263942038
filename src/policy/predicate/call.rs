//! Calls of allow-listed functions.

use sqlparser::ast::{
    self as sql, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectNamePart, TrimWhereField,
};

use super::{
    PredicateError,
    ast::{Expr, Function},
    parse::{convert, excerpt},
    refuse,
};

const ALLOWED: &str =
    "lower, upper, length, trim, left, right, abs, coalesce, nullif, greatest, least";

/// A function by its name with the fewest and most arguments it takes.
fn allowed(name: &str) -> Option<(Function, usize, usize)> {
    Some(match name {
        "lower" => (Function::Lower, 1, 1),
        "upper" => (Function::Upper, 1, 1),
        "length" => (Function::Length, 1, 1),
        "btrim" => (Function::Trim, 1, 2),
        "left" => (Function::Left, 2, 2),
        "right" => (Function::Right, 2, 2),
        "abs" => (Function::Abs, 1, 1),
        "coalesce" => (Function::Coalesce, 1, usize::MAX),
        "nullif" => (Function::NullIf, 2, 2),
        "greatest" => (Function::Greatest, 1, usize::MAX),
        "least" => (Function::Least, 1, usize::MAX),
        _ => return None,
    })
}

/// Functions whose value changes from call to call or from day to day.
fn changes(name: &str) -> bool {
    matches!(
        name,
        "now"
            | "age"
            | "clock_timestamp"
            | "statement_timestamp"
            | "transaction_timestamp"
            | "timeofday"
            | "random"
            | "gen_random_uuid"
            | "uuidv7"
            | "nextval"
    )
}

/// A call without anything but plain arguments.
pub(super) fn function(call: &sql::Function, depth: usize) -> Result<Expr, PredicateError> {
    // Taken apart in full: a clause that a newer parser knows must not slip through.
    let sql::Function {
        name,
        uses_odbc_syntax,
        parameters,
        args,
        within_group,
        filter,
        null_treatment,
        over,
    } = call;
    let [ObjectNamePart::Identifier(word)] = name.0.as_slice() else {
        return refuse(format!(
            "`{}`: functions are written without a schema; allowed are {ALLOWED}",
            excerpt(name)
        ));
    };
    let lower = word.value.to_ascii_lowercase();
    if changes(&lower) {
        return refuse(format!(
            "`{lower}()` is not allowed: its value changes; use `expireAfter` for ages"
        ));
    }
    // A quoted name is always a function of somebody's own, also where it is spelled as one of the language's.
    let function = allowed(&lower).filter(|_| word.quote_style.is_none());
    let Some((function, fewest, most)) = function else {
        return refuse(format!(
            "the function `{}` is not allowed; allowed are {ALLOWED}",
            excerpt(word)
        ));
    };
    let plain = !uses_odbc_syntax
        && matches!(parameters, FunctionArguments::None)
        && within_group.is_empty()
        && filter.is_none()
        && null_treatment.is_none()
        && over.is_none();
    let FunctionArguments::List(list) = args else {
        return refuse(format!("`{lower}` needs its arguments in parentheses"));
    };
    if !plain || list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return refuse(format!(
            "`{}`: DISTINCT, FILTER, OVER and other clauses are not allowed in a call",
            excerpt(call)
        ));
    }
    let mut arguments = Vec::with_capacity(list.args.len());
    for argument in &list.args {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else {
            return refuse(format!(
                "the argument `{}` is not allowed: write a plain expression",
                excerpt(argument)
            ));
        };
        arguments.push(convert(expr, depth)?);
    }
    if !(fewest..=most).contains(&arguments.len()) {
        let expected = match (fewest, most) {
            (1, 1) => "one argument".to_owned(),
            (1, usize::MAX) => "at least one argument".to_owned(),
            (least, most) if least == most => format!("{least} arguments"),
            (least, most) => format!("{least} or {most} arguments"),
        };
        return refuse(format!("`{lower}` takes {expected}"));
    }
    Ok(Expr::Call(function, arguments))
}

/// `trim(x)`, `trim(x, chars)`, `trim([BOTH] chars FROM x)`: both ends only.
pub(super) fn trim(
    side: Option<&TrimWhereField>,
    what: Option<&sql::Expr>,
    expr: &sql::Expr,
    characters: Option<&[sql::Expr]>,
    depth: usize,
) -> Result<Expr, PredicateError> {
    let what = match (side, what, characters) {
        (None | Some(TrimWhereField::Both), what, None) => what,
        (None, None, Some([what])) => Some(what),
        _ => return refuse("only `trim(text)` and `trim(text, characters)` are allowed"),
    };
    let mut arguments = vec![convert(expr, depth)?];
    if let Some(what) = what {
        arguments.push(convert(what, depth)?);
    }
    Ok(Expr::Call(Function::Trim, arguments))
}
