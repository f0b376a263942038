//! Prints a predicate from its tree, so that it means in SQLite what it means elsewhere; what cannot is refused.
//!
//! Differences that are met here: LIKE is case-sensitive (printed as GLOB), `greatest` and `least` pass over NULL, `->>` gives a
//! text, a text among numbers is not greater than all of them nor 0 where one calculates, truth values may be kept as words, and no
//! value of a row makes an operator or function fail. Differences that stay are those of the column's own affinity and collation, and
//! that letters beyond ASCII have no upper and lower case.

mod kinds;
mod words;

use self::{
    kinds::{Affinity, Kind, Share, chooses, is_bit, is_number_text, kind, spelled_truth},
    words::{absolute, checked, glob, is_fraction, is_whole, number},
};
use super::sql::{column_of, literal};
use crate::{
    engine::EngineError,
    policy::{
        plan::RulePlan,
        predicate::{BinaryOp, Expr, Function, Predicate, Test},
        table::ColumnFacts,
    },
};

const NUMBERS: &str = "('integer', 'real')";
/// Values of a call that takes any number: SQLite's own functions take 127 in some builds, and a compound SELECT 500.
const MAX_VALUES: usize = 100;

/// The predicate as SQL, in parentheses.
pub(super) fn print(predicate: &Predicate, plan: &RulePlan) -> Result<String, EngineError> {
    print_for(predicate, &plan.table.columns, "t")
}

/// The predicate over a table with those columns that a statement knows as `alias`.
pub(super) fn print_for(
    predicate: &Predicate,
    columns: &[ColumnFacts],
    alias: &str,
) -> Result<String, EngineError> {
    let root = predicate.root();
    if folds_case(root)
        && let Some(text) = foreign_letters(root)
    {
        return refuse(format!(
            "'{text}' beside lower, upper or ILIKE: SQLite folds the case of ASCII letters only; write the texts as the column holds them"
        ));
    }
    let printer = Printer { columns, alias };
    printer.truth(root)
}

fn refuse<T>(message: String) -> Result<T, EngineError> {
    Err(EngineError::Predicate(format!("on SQLite {message}")))
}

/// The parts of an expression.
fn parts(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Column(_)
        | Expr::Text(_)
        | Expr::Number(_)
        | Expr::Bool(_)
        | Expr::Null
        | Expr::Typed(..) => Vec::new(),
        Expr::Not(inner) | Expr::Negate(inner) | Expr::Is { expr: inner, .. } => vec![inner],
        Expr::Binary(left, _, right)
        | Expr::DistinctFrom { left, right, .. }
        | Expr::Like {
            expr: left,
            pattern: right,
            ..
        } => vec![left, right],
        Expr::Between {
            expr, low, high, ..
        } => vec![expr, low, high],
        Expr::In { expr, list, .. } => std::iter::once(expr.as_ref()).chain(list).collect(),
        Expr::Call(_, arguments) => arguments.iter().collect(),
    }
}

/// The names of the columns that a predicate reads.
pub(super) fn columns(predicate: &Predicate, into: &mut Vec<String>) {
    let mut open = vec![predicate.root()];
    while let Some(expr) = open.pop() {
        if let Expr::Column(name) = expr {
            into.push(name.clone());
        }
        open.extend(parts(expr));
    }
}

fn folds_case(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Call(Function::Lower | Function::Upper, _)
            | Expr::Like {
                case_insensitive: true,
                ..
            }
    ) || parts(expr).into_iter().any(folds_case)
}

fn foreign_letters(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Text(text) if !text.is_ascii() => Some(text),
        _ => parts(expr).into_iter().find_map(foreign_letters),
    }
}

struct Printer<'a> {
    columns: &'a [ColumnFacts],
    /// How the statement knows the table.
    alias: &'a str,
}

type Printed = Result<String, EngineError>;

impl Printer<'_> {
    /// An expression where a truth value is needed. Some store the words; SQLite takes a word for 0.
    fn truth(&self, expr: &Expr) -> Printed {
        match expr {
            Expr::Column(_) => {
                let name = self.expr(expr)?;
                Ok(format!(
                    "(CASE WHEN typeof({name}) IN {NUMBERS} THEN {name} WHEN typeof({name}) <> 'text' THEN NULL \
                     WHEN lower(trim({name})) IN ('t', 'true', 'y', 'yes', 'on', '1') THEN 1 \
                     WHEN lower(trim({name})) IN ('f', 'false', 'n', 'no', 'off', '0') THEN 0 END)"
                ))
            }
            Expr::Call(function, arguments) if chooses(*function) => {
                self.call(*function, arguments, true)
            }
            Expr::Text(text) => match spelled_truth(text) {
                Some(value) => Ok(i32::from(value).to_string()),
                None => refuse(format!(
                    "'{text}' is no truth value: write TRUE or FALSE"
                )),
            },
            Expr::Number(digits) if !is_bit(expr) => refuse(format!(
                "{digits} is no truth value: write TRUE or FALSE, or compare it with a number"
            )),
            Expr::Number(_) => self.expr(expr),
            _ => match kind(expr) {
                Kind::Text => refuse(
                    "a text that is calculated is no truth value: compare it with a text, as in `… = 'true'`"
                        .to_owned(),
                ),
                Kind::Number => refuse(
                    "a number that is calculated is no truth value: compare it with a number, as in `… <> 0`"
                        .to_owned(),
                ),
                Kind::Truth | Kind::Any => self.expr(expr),
            },
        }
    }

    /// What is compared among each other: all of them as truth values, if one of them is meant to be one and none to be something
    /// else.
    fn sides<const N: usize>(&self, exprs: [&Expr; N]) -> Result<[String; N], EngineError> {
        let truth = self.are_truths(&exprs);
        let mut sides = [const { String::new() }; N];
        for (side, expr) in sides.iter_mut().zip(exprs) {
            *side = if truth {
                self.truth(expr)?
            } else {
                self.expr(expr)?
            };
        }
        Ok(sides)
    }

    fn compare(&self, left: &Expr, sign: &str, right: &Expr) -> Printed {
        self.comparable(left, right)?;
        let sides = self.sides([left, right])?;
        if matches!(sign, "=" | "<>") {
            return Ok(format!("({} {sign} {})", sides[0], sides[1]));
        }
        if [left, right].into_iter().any(is_json) {
            return refuse("`->` has no order: compare it with = and <>, or take `->>`".to_owned());
        }
        // Between values of different types their types alone decide: every text is greater than every number.
        let [one, other] = [self.class(left, right), self.class(right, left)];
        let both = !self.are_truths(&[left, right])
            && [left, right]
                .into_iter()
                .all(|expr| kind(expr) == Kind::Any && !matches!(expr, Expr::Null));
        if !both && one.is_none() && other.is_none() {
            return Ok(format!("({} {sign} {})", sides[0], sides[1]));
        }
        Ok(named([left, right], sides, |left, right| {
            let compared = format!("({left} {sign} {right})");
            if both {
                return format!(
                    "(CASE WHEN (typeof({left}) IN {NUMBERS}) = (typeof({right}) IN {NUMBERS}) \
                     AND (typeof({left}) = 'blob') = (typeof({right}) = 'blob') THEN {compared} END)"
                );
            }
            let guards = [(left, one), (right, other)];
            guards
                .into_iter()
                .fold(compared, |compared, (side, class)| match class {
                    Some(class) => {
                        format!("(CASE WHEN typeof({side}) IN {class} THEN {compared} END)")
                    }
                    None => compared,
                })
        }))
    }

    /// The types among which the order of something in relation to `other` means something; `None`: it is one of them anyhow.
    fn class(&self, expr: &Expr, other: &Expr) -> Option<&'static str> {
        if kind(expr) != Kind::Any || self.are_truths(&[expr, other]) {
            return None;
        }
        match (kind(other), other) {
            (Kind::Number, _) => Some(NUMBERS),
            (Kind::Text, Expr::Text(text))
                if self.affinity(expr) == Some(Affinity::Number) && is_number_text(text) =>
            {
                Some(NUMBERS)
            }
            (Kind::Text, _) => Some("('text')"),
            (Kind::Truth | Kind::Any, _) => None,
        }
    }

    /// What one calculates with: a text is no 0.
    fn number_of(&self, expr: &Expr, types: &str) -> Printed {
        if kind(expr) == Kind::Text || self.affinity(expr) == Some(Affinity::Text) {
            return refuse(
                "a text cannot be calculated with: take a column that is declared to hold numbers, and write numbers without quotes"
                    .to_owned(),
            );
        }
        let printed = self.expr(expr)?;
        if matches!(expr, Expr::Number(_) | Expr::Null)
            || (kind(expr) == Kind::Number && types == NUMBERS)
        {
            return Ok(printed);
        }
        let null = Expr::Null;
        let sides = [printed, String::new()];
        Ok(named([expr, &null], sides, |value, _| {
            format!("(CASE WHEN typeof({value}) IN {types} THEN {value} END)")
        }))
    }

    fn column(&self, name: &str) -> Option<&ColumnFacts> {
        self.columns.iter().find(|column| column.name == name)
    }

    #[recursive::recursive]
    fn expr(&self, expr: &Expr) -> Printed {
        Ok(match expr {
            Expr::Column(name) => column_of(self.alias, checked(name)?),
            Expr::Text(text) => literal(checked(text)?),
            Expr::Number(digits) => number(digits)?.to_owned(),
            // Without words: a column may be called `true`.
            Expr::Bool(value) => i32::from(*value).to_string(),
            Expr::Null => "NULL".to_owned(),
            Expr::Typed(_, text) => {
                return refuse(format!(
                    "a literal has no type of its own: write '{text}' as the column holds it, as a text or a number"
                ));
            }
            Expr::Not(inner) => format!("(NOT {})", self.truth(inner)?),
            Expr::Negate(inner) => format!("(- {})", self.number_of(inner, NUMBERS)?),
            Expr::Binary(left, op, right) => self.binary(left, *op, right)?,
            Expr::Is {
                expr,
                test,
                negated,
            } => self.is(expr, *test, *negated)?,
            Expr::DistinctFrom {
                left,
                right,
                negated,
            } => {
                self.comparable(left, right)?;
                let word = if *negated { "IS" } else { "IS NOT" };
                let [left, right] = self.sides([left, right])?;
                format!("({left} {word} {right})")
            }
            Expr::Between {
                expr,
                low,
                high,
                negated,
            } => {
                let not = if *negated { "NOT " } else { "" };
                format!(
                    "({not}({} AND {}))",
                    self.compare(expr, ">=", low)?,
                    self.compare(expr, "<=", high)?
                )
            }
            Expr::In {
                expr,
                list,
                negated,
            } => self.is_in(expr, list, *negated)?,
            Expr::Like {
                expr,
                pattern,
                case_insensitive,
                negated,
                escape,
            } => self.like(expr, pattern, *case_insensitive, *negated, *escape)?,
            Expr::Call(function, arguments) => {
                self.call(*function, arguments, self.meant(expr) == Kind::Truth)?
            }
        })
    }

    fn binary(&self, left: &Expr, op: BinaryOp, right: &Expr) -> Printed {
        let sign = match op {
            BinaryOp::And | BinaryOp::Or => {
                let word = if op == BinaryOp::And { "AND" } else { "OR" };
                return Ok(format!(
                    "({} {word} {})",
                    self.truth(left)?,
                    self.truth(right)?
                ));
            }
            BinaryOp::Eq => "=",
            BinaryOp::NotEq => "<>",
            BinaryOp::Lt => "<",
            BinaryOp::LtEq => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::GtEq => ">=",
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => return self.divide(left, right),
            BinaryOp::Mod => {
                if [left, right].into_iter().any(is_fraction) {
                    return refuse("`%` takes whole numbers only".to_owned());
                }
                "%"
            }
            BinaryOp::Concat => "||",
            BinaryOp::Json => return self.json(left, right),
            BinaryOp::JsonText => {
                let found = self.json(left, right)?;
                // Numbers and truth values as the document spells them.
                return Ok(format!(
                    "(CASE json_type({found}) WHEN 'null' THEN NULL WHEN 'text' THEN {found} ->> '$' ELSE {found} END)"
                ));
            }
        };
        let [left, right] = match sign {
            "=" | "<>" | "<" | "<=" | ">" | ">=" => return self.compare(left, sign, right),
            "||" => [self.expr(left)?, self.expr(right)?],
            // It would cut off what is behind the point.
            "%" => [
                self.number_of(left, "('integer')")?,
                self.number_of(right, "('integer')")?,
            ],
            _ => [
                self.number_of(left, NUMBERS)?,
                self.number_of(right, NUMBERS)?,
            ],
        };
        Ok(format!("({left} {sign} {right})"))
    }

    /// What is kept as a whole number may be of a type that has fractions: 90.00 is kept as 90, and 90 / 100 would be 0.
    fn divide(&self, dividend: &Expr, divisor: &Expr) -> Printed {
        let left = self.number_of(dividend, NUMBERS)?;
        let right = self.number_of(divisor, NUMBERS)?;
        match (self.share(dividend), self.share(divisor)) {
            (Share::Whole, Share::Whole) => Ok(format!("({left} / {right})")),
            (Share::Fraction, _) | (_, Share::Fraction) => {
                Ok(format!("(1.0 * {left} / {right})"))
            }
            _ => refuse(
                "whether a division has a fraction is not known from a type that is neither INTEGER nor one with fractions, such as REAL or NUMERIC: write `1.0 * … / …` for one that has"
                    .to_owned(),
            ),
        }
    }

    fn is(&self, expr: &Expr, test: Test, negated: bool) -> Printed {
        let yes = i32::from(!negated);
        let no = i32::from(negated);
        Ok(match test {
            Test::Null => {
                let word = if negated { "NOTNULL" } else { "ISNULL" };
                format!("({} {word})", self.expr(expr)?)
            }
            Test::Unknown => {
                let word = if negated { "NOTNULL" } else { "ISNULL" };
                format!("({} {word})", self.truth(expr)?)
            }
            Test::True => format!("(CASE WHEN {} THEN {yes} ELSE {no} END)", self.truth(expr)?),
            Test::False => format!(
                "(CASE WHEN NOT {} THEN {yes} ELSE {no} END)",
                self.truth(expr)?
            ),
        })
    }

    fn is_in(&self, expr: &Expr, list: &[Expr], negated: bool) -> Printed {
        let all: Vec<&Expr> = list.iter().chain([expr]).collect();
        let truth = self.are_truths(&all);
        let print = |expr| {
            if truth {
                self.truth(expr)
            } else {
                self.expr(expr)
            }
        };
        let mut items = Vec::with_capacity(list.len());
        let mut columns = Vec::new();
        for item in list {
            self.comparable(expr, item)?;
            // Of the columns in the list IN does not apply the affinity, where `=` does.
            if truth || !matches!(item, Expr::Column(_)) {
                items.push(print(item)?);
            } else {
                columns.push(print(item)?);
            }
        }
        if columns.len() > MAX_VALUES {
            return refuse(format!("IN takes at most {MAX_VALUES} columns"));
        }
        let tested = print(expr)?;
        let items = items.join(", ");
        if columns.is_empty() {
            let word = if negated { "NOT IN" } else { "IN" };
            return Ok(format!("({tested} {word} ({items}))"));
        }
        let not = if negated { "NOT " } else { "" };
        Ok(named(
            [expr, &Expr::Null],
            [tested, String::new()],
            |tested, _| {
                let mut any: Vec<String> = columns
                    .iter()
                    .map(|column| format!("{tested} = {column}"))
                    .collect();
                if !items.is_empty() {
                    any.push(format!("{tested} IN ({items})"));
                }
                format!("({not}({}))", any.join(" OR "))
            },
        ))
    }

    fn like(
        &self,
        expr: &Expr,
        pattern: &Expr,
        case_insensitive: bool,
        negated: bool,
        escape: Option<char>,
    ) -> Printed {
        let Expr::Text(pattern) = pattern else {
            return refuse("the pattern of LIKE is a text in single quotes".to_owned());
        };
        let mut glob = glob(checked(pattern)?, escape.unwrap_or('\\'))?;
        let mut tested = self.expr(expr)?;
        if case_insensitive {
            glob = glob.to_ascii_lowercase();
            tested = format!("lower({tested})");
        }
        let word = if negated { "NOT GLOB" } else { "GLOB" };
        Ok(format!("({tested} {word} {})", literal(&glob)))
    }

    /// Looks into a document; what is none has no members.
    fn json(&self, document: &Expr, member: &Expr) -> Printed {
        let document = match document {
            Expr::Column(_) => {
                let name = self.expr(document)?;
                format!("CASE WHEN json_valid({name}) THEN {name} END")
            }
            Expr::Binary(inner, BinaryOp::Json, name) => self.json(inner, name)?,
            _ => return refuse("`->` and `->>` begin at a column".to_owned()),
        };
        let member = match member {
            Expr::Text(name)
                if name.is_empty()
                    || name.starts_with(['$', '['])
                    || name.contains(['"', '\\']) =>
            {
                return refuse(format!("'{name}' would be a path and not a member's name"));
            }
            Expr::Text(name) => literal(checked(name)?),
            Expr::Number(digits) if is_whole(digits) => digits.clone(),
            _ => {
                return refuse(
                    "`->` and `->>` take a member's name in single quotes or the number of an element"
                        .to_owned(),
                );
            }
        };
        Ok(format!("(({document}) -> {member})"))
    }

    /// `truth`: what it chooses among are truth values.
    fn call(&self, function: Function, arguments: &[Expr], truth: bool) -> Printed {
        if !truth
            && matches!(
                function,
                Function::Coalesce | Function::Greatest | Function::Least
            )
        {
            self.alike(function, arguments)?;
        }
        let printed: Vec<String> = arguments
            .iter()
            .map(|argument| {
                if truth {
                    self.truth(argument)
                } else {
                    self.expr(argument)
                }
            })
            .collect::<Result<_, _>>()?;
        let first = printed.first().map_or("NULL", String::as_str);
        let all = printed.join(", ");
        Ok(match function {
            Function::Lower => format!("lower({all})"),
            Function::Upper => format!("upper({all})"),
            Function::Length => format!("length({all})"),
            Function::Trim => format!("trim({all})"),
            Function::Left | Function::Right => match arguments.get(1) {
                Some(Expr::Number(digits)) if is_whole(digits) => {
                    // Of 0 characters both give the empty text, where `substr(x, -0)` would give all.
                    if function == Function::Left || digits.bytes().all(|digit| digit == b'0') {
                        format!("substr({first}, 1, {digits})")
                    } else {
                        format!("substr({first}, -{digits})")
                    }
                }
                _ => {
                    return refuse(
                        "left and right take a number of characters, 0 or more".to_owned(),
                    );
                }
            },
            // The smallest whole number has no counterpart: abs() fails on it. What is more than a column is printed once: calls in
            // calls would double with every level.
            Function::Abs => match arguments.first() {
                Some(Expr::Column(_)) => absolute(first),
                _ => format!("(SELECT {} FROM (SELECT {first} AS v))", absolute("v")),
            },
            Function::Coalesce | Function::Greatest | Function::Least
                if printed.len() > MAX_VALUES =>
            {
                return refuse(format!(
                    "coalesce, greatest and least take at most {MAX_VALUES} values"
                ));
            }
            Function::Coalesce if printed.len() == 1 => format!("({first})"),
            Function::Coalesce => format!("coalesce({all})"),
            Function::NullIf => {
                let ([left, right], [one, other]) = (arguments, printed.as_slice()) else {
                    return refuse("nullif takes two values".to_owned());
                };
                self.comparable(left, right)?;
                let columns = [left, right]
                    .iter()
                    .any(|side| matches!(side, Expr::Column(_)));
                if truth || !columns {
                    return Ok(format!("nullif({all})"));
                }
                // It does not apply a column's affinity, where `=` does.
                named([left, right], [one.clone(), other.clone()], |one, other| {
                    format!("(CASE WHEN {one} = {other} THEN NULL ELSE {one} END)")
                })
            }
            Function::Greatest | Function::Least => {
                let word = if function == Function::Greatest {
                    "max"
                } else {
                    "min"
                };
                // As an aggregate it passes over NULL.
                let rows: Vec<String> = printed
                    .iter()
                    .map(|value| format!("SELECT {value} AS v"))
                    .collect();
                format!("(SELECT {word}(v) FROM ({}))", rows.join(" UNION ALL "))
            }
        })
    }
}

/// What `print` makes of two sides, each of which it may mention as often as it likes: what is more than a column or a literal is
/// evaluated once, and mentioned by a name.
fn named(exprs: [&Expr; 2], sides: [String; 2], print: impl Fn(&str, &str) -> String) -> String {
    let [left, right] = exprs.map(|expr| {
        !matches!(
            expr,
            Expr::Column(_) | Expr::Number(_) | Expr::Text(_) | Expr::Bool(_) | Expr::Null
        )
    });
    let [first, second] = &sides;
    let printed = print(
        if left { "v" } else { first },
        if right { "w" } else { second },
    );
    match (left, right) {
        (false, false) => printed,
        (true, false) => format!("(SELECT {printed} FROM (SELECT {first} AS v))"),
        (false, true) => format!("(SELECT {printed} FROM (SELECT {second} AS w))"),
        (true, true) => {
            format!("(SELECT {printed} FROM (SELECT {first} AS v, {second} AS w))")
        }
    }
}

fn is_json(expr: &Expr) -> bool {
    matches!(expr, Expr::Binary(_, BinaryOp::Json, _))
}
