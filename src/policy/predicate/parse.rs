//! From the parser's tree to our own: what has no variant there is refused by name.
//!
//! Engines print the tree with a parenthesis around every operation, so it must be exactly the tree that PostgreSQL would
//! have read from the policy's text. The parser's own precedences are not relied upon: every operand that has no parentheses
//! of its own must bind tighter, by PostgreSQL's table of precedences, than the operator it belongs to. A tree in which that
//! holds everywhere is the only one with that property, hence PostgreSQL's; where it does not hold, parentheses are asked for.

use sqlparser::{
    ast::{self as sql, BinaryOperator, UnaryOperator},
    dialect::PostgreSqlDialect,
    parser::{Parser, ParserError},
    tokenizer::Token,
};

use super::{
    PredicateError,
    ast::{BinaryOp, Expr, Test},
    call, literal, refuse, tokens,
};

/// Parentheses, calls and operators inside each other at most.
const MAX_DEPTH: usize = 32;

/// PostgreSQL's precedences, loosest first (gram.y; the same in all versions since 9.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Or,
    And,
    Not,
    Is,
    Comparison,
    /// `BETWEEN`, `IN`, `LIKE`, `ILIKE`.
    Range,
    /// `||`, `->`, `->>`.
    Other,
    Additive,
    Multiplicative,
    Minus,
    /// Names, literals, calls, anything in parentheses.
    Closed,
}

impl Level {
    /// What an operand must at least be where equal precedence is not enough.
    const fn tighter(self) -> Self {
        match self {
            Self::Or => Self::And,
            Self::And => Self::Not,
            Self::Not => Self::Is,
            Self::Is => Self::Comparison,
            Self::Comparison => Self::Range,
            Self::Range => Self::Other,
            Self::Other => Self::Additive,
            Self::Additive => Self::Multiplicative,
            Self::Multiplicative => Self::Minus,
            Self::Minus | Self::Closed => Self::Closed,
        }
    }
}

/// Parses one expression.
pub(super) fn parse(source: &str) -> Result<Expr, PredicateError> {
    let tokens = tokens::tokens(source)?;
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(4 * MAX_DEPTH)
        .with_tokens(tokens);
    let parsed = parser.parse_expr().map_err(unreadable)?;
    match &parser.peek_token_ref().token {
        Token::EOF => convert(&parsed, 0),
        Token::Comma => refuse("several expressions: write one, joined with AND or OR"),
        other => refuse(format!(
            "the expression should end before `{}`: join parts with AND or OR",
            excerpt(other)
        )),
    }
}

fn unreadable(error: ParserError) -> PredicateError {
    match error {
        ParserError::RecursionLimitExceeded => too_deep(),
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
            PredicateError(format!("the expression cannot be read: {message}"))
        }
    }
}

fn too_deep() -> PredicateError {
    PredicateError(format!(
        "the expression is nested deeper than {MAX_DEPTH} levels"
    ))
}

/// Our tree of `expr`, wherever its precedence does not matter: at the top, in parentheses, in a list.
#[recursive::recursive]
pub(super) fn convert(expr: &sql::Expr, depth: usize) -> Result<Expr, PredicateError> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    let inside = depth + 1;
    match expr {
        sql::Expr::Nested(inner) => convert(inner, inside),
        sql::Expr::Identifier(name) => column(name),
        sql::Expr::Value(value) => literal::plain(&value.value),
        sql::Expr::TypedString(typed) => literal::typed_string(typed),
        sql::Expr::Interval(interval) => literal::interval(interval),
        sql::Expr::Cast {
            kind,
            expr: value,
            data_type,
            format,
        } => literal::cast(kind, value, data_type, format.is_some()),
        sql::Expr::Function(function) => call::function(function, inside),
        sql::Expr::Trim {
            trim_where,
            trim_what,
            expr,
            trim_characters,
        } => call::trim(
            trim_where.as_ref(),
            trim_what.as_deref(),
            expr,
            trim_characters.as_deref(),
            inside,
        ),
        sql::Expr::UnaryOp { op, expr } => unary(*op, expr, inside),
        sql::Expr::BinaryOp { .. } => binary(expr, inside),
        sql::Expr::IsNull(tested) => is(tested, Test::Null, false, inside),
        sql::Expr::IsNotNull(tested) => is(tested, Test::Null, true, inside),
        sql::Expr::IsTrue(tested) => is(tested, Test::True, false, inside),
        sql::Expr::IsNotTrue(tested) => is(tested, Test::True, true, inside),
        sql::Expr::IsFalse(tested) => is(tested, Test::False, false, inside),
        sql::Expr::IsNotFalse(tested) => is(tested, Test::False, true, inside),
        sql::Expr::IsUnknown(tested) => is(tested, Test::Unknown, false, inside),
        sql::Expr::IsNotUnknown(tested) => is(tested, Test::Unknown, true, inside),
        sql::Expr::IsDistinctFrom(left, right) => distinct(left, right, false, inside),
        sql::Expr::IsNotDistinctFrom(left, right) => distinct(left, right, true, inside),
        sql::Expr::Between {
            expr,
            negated,
            low,
            high,
        } => Ok(Expr::Between {
            expr: operand(expr, Level::Range.tighter(), inside)?,
            low: operand(low, Level::Range.tighter(), inside)?,
            high: operand(high, Level::Range.tighter(), inside)?,
            negated: *negated,
        }),
        sql::Expr::InList {
            expr,
            list,
            negated,
        } => in_list(expr, list, *negated, inside),
        sql::Expr::Like {
            negated,
            any: false,
            expr,
            pattern,
            escape_char,
        } => like(
            expr,
            pattern,
            escape_char.as_deref(),
            (*negated, false),
            inside,
        ),
        sql::Expr::ILike {
            negated,
            any: false,
            expr,
            pattern,
            escape_char,
        } => like(
            expr,
            pattern,
            escape_char.as_deref(),
            (*negated, true),
            inside,
        ),
        other => refuse(not_allowed(other)),
    }
}

/// `expr` as an operand: without parentheses of its own it must be at least of `least`.
fn operand(expr: &sql::Expr, least: Level, depth: usize) -> Result<Box<Expr>, PredicateError> {
    let converted = convert(expr, depth)?;
    if level(expr) < least {
        return refuse(format!(
            "put parentheses around `{}`: without them it can be read in two ways",
            excerpt(expr)
        ));
    }
    Ok(Box::new(converted))
}

/// The precedence of the outermost operation.
fn level(expr: &sql::Expr) -> Level {
    match expr {
        sql::Expr::BinaryOp { op, .. } => operator(op).map_or(Level::Or, |(_, level)| level),
        sql::Expr::UnaryOp {
            op: UnaryOperator::Not,
            ..
        } => Level::Not,
        sql::Expr::UnaryOp { .. } => Level::Minus,
        sql::Expr::IsNull(_)
        | sql::Expr::IsNotNull(_)
        | sql::Expr::IsTrue(_)
        | sql::Expr::IsNotTrue(_)
        | sql::Expr::IsFalse(_)
        | sql::Expr::IsNotFalse(_)
        | sql::Expr::IsUnknown(_)
        | sql::Expr::IsNotUnknown(_)
        | sql::Expr::IsDistinctFrom(..)
        | sql::Expr::IsNotDistinctFrom(..) => Level::Is,
        sql::Expr::Between { .. }
        | sql::Expr::InList { .. }
        | sql::Expr::Like { .. }
        | sql::Expr::ILike { .. } => Level::Range,
        _ => Level::Closed,
    }
}

fn operator(op: &BinaryOperator) -> Option<(BinaryOp, Level)> {
    Some(match op {
        BinaryOperator::Or => (BinaryOp::Or, Level::Or),
        BinaryOperator::And => (BinaryOp::And, Level::And),
        BinaryOperator::Eq => (BinaryOp::Eq, Level::Comparison),
        BinaryOperator::NotEq => (BinaryOp::NotEq, Level::Comparison),
        BinaryOperator::Lt => (BinaryOp::Lt, Level::Comparison),
        BinaryOperator::LtEq => (BinaryOp::LtEq, Level::Comparison),
        BinaryOperator::Gt => (BinaryOp::Gt, Level::Comparison),
        BinaryOperator::GtEq => (BinaryOp::GtEq, Level::Comparison),
        BinaryOperator::StringConcat => (BinaryOp::Concat, Level::Other),
        BinaryOperator::Arrow => (BinaryOp::Json, Level::Other),
        BinaryOperator::LongArrow => (BinaryOp::JsonText, Level::Other),
        BinaryOperator::Plus => (BinaryOp::Add, Level::Additive),
        BinaryOperator::Minus => (BinaryOp::Sub, Level::Additive),
        BinaryOperator::Multiply => (BinaryOp::Mul, Level::Multiplicative),
        BinaryOperator::Divide => (BinaryOp::Div, Level::Multiplicative),
        BinaryOperator::Modulo => (BinaryOp::Mod, Level::Multiplicative),
        _ => return None,
    })
}

/// A chain such as `a OR b OR c` is one level deep, however long it is: its left side is walked, not recursed into.
fn binary(expr: &sql::Expr, depth: usize) -> Result<Expr, PredicateError> {
    let chain_level = level(expr);
    let mut rest = expr;
    let mut steps = Vec::new();
    while let sql::Expr::BinaryOp { left, op, right } = rest {
        let Some((op, level)) = operator(op) else {
            return refuse(format!(
                "the operator `{op}` is not allowed; allowed are AND OR = <> < <= > >= + - * / % || -> ->>"
            ));
        };
        if level != chain_level {
            break;
        }
        // Comparisons do not chain in PostgreSQL: `a = b = c` is an error there.
        if level == Level::Comparison && !steps.is_empty() {
            return refuse(format!(
                "put parentheses around `{}`: comparisons cannot be chained",
                excerpt(rest)
            ));
        }
        steps.push((op, operand(right, level.tighter(), depth)?));
        rest = left;
    }
    let first = operand(rest, chain_level.tighter(), depth)?;
    let tree = steps.into_iter().rev().fold(first, |left, (op, right)| {
        Box::new(Expr::Binary(left, op, right))
    });
    Ok(*tree)
}

fn unary(op: UnaryOperator, expr: &sql::Expr, depth: usize) -> Result<Expr, PredicateError> {
    match op {
        UnaryOperator::Not => Ok(Expr::Not(operand(expr, Level::Not, depth)?)),
        UnaryOperator::Minus => Ok(Expr::Negate(operand(expr, Level::Minus, depth)?)),
        UnaryOperator::Plus => refuse(format!(
            "a leading `+` is not needed: write `{}`",
            excerpt(expr)
        )),
        other => refuse(format!("the operator `{other}` is not allowed")),
    }
}

fn is(tested: &sql::Expr, test: Test, negated: bool, depth: usize) -> Result<Expr, PredicateError> {
    Ok(Expr::Is {
        expr: operand(tested, Level::Is.tighter(), depth)?,
        test,
        negated,
    })
}

fn distinct(
    left: &sql::Expr,
    right: &sql::Expr,
    negated: bool,
    depth: usize,
) -> Result<Expr, PredicateError> {
    Ok(Expr::DistinctFrom {
        left: operand(left, Level::Is.tighter(), depth)?,
        right: operand(right, Level::Is.tighter(), depth)?,
        negated,
    })
}

fn in_list(
    expr: &sql::Expr,
    list: &[sql::Expr],
    negated: bool,
    depth: usize,
) -> Result<Expr, PredicateError> {
    if list.is_empty() {
        return refuse("`IN ()` has no values: write at least one");
    }
    let list = list
        .iter()
        .map(|item| convert(item, depth))
        .collect::<Result<_, _>>()?;
    Ok(Expr::In {
        expr: operand(expr, Level::Range.tighter(), depth)?,
        list,
        negated,
    })
}

fn like(
    expr: &sql::Expr,
    pattern: &sql::Expr,
    escape: Option<&sql::Expr>,
    (negated, case_insensitive): (bool, bool),
    depth: usize,
) -> Result<Expr, PredicateError> {
    Ok(Expr::Like {
        expr: operand(expr, Level::Range.tighter(), depth)?,
        pattern: operand(pattern, Level::Range.tighter(), depth)?,
        case_insensitive,
        negated,
        escape: escape.map(literal::escape).transpose()?,
    })
}

/// A column. Unquoted names are in lower case, as PostgreSQL folds them (ASCII letters only).
fn column(name: &sql::Ident) -> Result<Expr, PredicateError> {
    let value = match name.quote_style {
        None => name.value.to_ascii_lowercase(),
        Some(_) => name.value.clone(),
    };
    if ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"].contains(&value.as_str()) {
        return refuse(format!(
            "`{value}` is a column of the database system: only the table's own columns are allowed"
        ));
    }
    Ok(Expr::Column(value))
}

/// Names what has no variant, and says what is allowed in its place.
fn not_allowed(expr: &sql::Expr) -> String {
    let advice = match expr {
        sql::Expr::CompoundIdentifier(_)
        | sql::Expr::CompoundFieldAccess { .. }
        | sql::Expr::QualifiedWildcard(..) => "write the column's name alone",
        sql::Expr::Subquery(_) | sql::Expr::Exists { .. } | sql::Expr::InSubquery { .. } => {
            "subqueries are not allowed: a rule sees the columns of its own table only"
        }
        sql::Expr::Tuple(_) => "row values are not allowed: compare the columns one by one",
        sql::Expr::Collate { .. } => "COLLATE is not allowed: the column's own collation applies",
        sql::Expr::AtTimeZone { .. } => {
            "AT TIME ZONE is not allowed: `timeZone` and `columnTimeZone` say how times are read"
        }
        sql::Expr::Extract { .. } => "EXTRACT is not allowed: use `expireAfter` for ages",
        sql::Expr::Case { .. } => "CASE is not allowed: write it with AND and OR",
        sql::Expr::AnyOp { .. } | sql::Expr::AllOp { .. } | sql::Expr::Array(_) => {
            "ANY, ALL and arrays are not allowed: use `IN (a, b)`"
        }
        sql::Expr::SimilarTo { .. } | sql::Expr::RLike { .. } => {
            "regular expressions are not allowed: use LIKE or ILIKE"
        }
        _ => {
            "allowed are columns, literals, AND OR NOT, comparisons, IS, IN, BETWEEN, LIKE, arithmetic, ||, ->, ->> \
             and the functions lower, upper, length, trim, left, right, abs, coalesce, nullif, greatest, least"
        }
    };
    format!("`{}`: {advice}", excerpt(expr))
}

/// The beginning of a part, for a message.
pub(super) fn excerpt(part: &impl std::fmt::Display) -> String {
    let text = part.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
