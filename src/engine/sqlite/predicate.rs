//! Prints a predicate from its tree, so that it means in SQLite what it means elsewhere; what cannot is refused.
//!
//! Differences that are met here: LIKE is case-sensitive (printed as GLOB), `greatest` and `least` pass over NULL, `->>` gives a
//! text, truth values may be kept as words, and no value of a row makes an operator or function fail. What a row's values leave
//! undecided is collected as a [doubt](doubt): such a row stays. Differences that stay are those of the column's own affinity and
//! collation, and that letters beyond ASCII have no upper and lower case.

mod doubt;
mod json;
mod kinds;
mod numbers;
mod texts;
mod words;

use self::{
    doubt::Doubts,
    kinds::{Kind, chooses, is_bit, kind, spelled_truth},
    words::{checked, number},
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

/// A predicate as SQL over the rows of a table.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    text: String,
    /// Of a row of which this is true, nobody knows.
    doubt: Option<String>,
}

impl Condition {
    /// There may be rows of which nobody knows whether it is true.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubt.is_some()
    }

    /// 1 for a row of which it is true, without doubt; else 0.
    pub(super) fn surely(&self) -> String {
        // `IS TRUE` would mean a column of that name, if there were one.
        let text = &self.text;
        match &self.doubt {
            Some(doubt) => format!("(CASE WHEN {doubt} THEN 0 WHEN {text} THEN 1 ELSE 0 END)"),
            None => format!("(CASE WHEN {text} THEN 1 ELSE 0 END)"),
        }
    }

    /// 1 for a row of which it is true, or may be; else 0.
    pub(super) fn perhaps(&self) -> String {
        let text = &self.text;
        match &self.doubt {
            Some(doubt) => format!("(CASE WHEN {text} THEN 1 WHEN {doubt} THEN 1 ELSE 0 END)"),
            None => format!("(CASE WHEN {text} THEN 1 ELSE 0 END)"),
        }
    }

    /// 1 for a row of which it is not true, nor may be; else 0.
    pub(super) fn surely_not(&self) -> String {
        let text = &self.text;
        match &self.doubt {
            Some(doubt) => format!("(CASE WHEN {text} THEN 0 WHEN {doubt} THEN 0 ELSE 1 END)"),
            None => format!("(CASE WHEN {text} THEN 0 ELSE 1 END)"),
        }
    }
}

/// The predicate over the rule's table.
pub(super) fn print(predicate: &Predicate, plan: &RulePlan) -> Result<Condition, EngineError> {
    print_for(predicate, &plan.table.columns, "t")
}

/// The predicate over a table with those columns that a statement knows as `alias`.
pub(super) fn print_for(
    predicate: &Predicate,
    columns: &[ColumnFacts],
    alias: &str,
) -> Result<Condition, EngineError> {
    let root = predicate.root();
    if folds_case(root)
        && let Some(text) = foreign_letters(root)
    {
        return refuse(format!(
            "'{text}' beside lower, upper or ILIKE: SQLite folds the case of ASCII letters only; write the texts as the column holds them"
        ));
    }
    let printer = Printer {
        columns,
        alias,
        doubts: Doubts::default(),
    };
    let text = printer.truth(root)?;
    Ok(Condition {
        text,
        doubt: printer.doubts.any(),
    })
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
    doubts: Doubts,
}

type Printed = Result<String, EngineError>;

impl Printer<'_> {
    /// An expression where a truth value is needed. Some store the words; SQLite takes a word for 0.
    fn truth(&self, expr: &Expr) -> Printed {
        match expr {
            Expr::Column(name) => self.truth_of(name),
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

    /// Two sides as they are compared, and no truth values: what stands in the way of it is refused, or a doubt. `ordered`: not only
    /// whether they are equal.
    fn pair(
        &self,
        left: &Expr,
        right: &Expr,
        printed: [&str; 2],
        ordered: bool,
    ) -> Result<(), EngineError> {
        self.comparable(left, right)?;
        if self.are_truths(&[left, right]) {
            return refuse(
                "truth values and numbers or texts cannot stand beside each other: write truth values as TRUE and FALSE".to_owned(),
            );
        }
        self.of_one_kind(&[left, right], ordered)?;
        self.foldable(left, right)?;
        self.not_near([left, right], printed)
    }

    fn compare(&self, left: &Expr, sign: &str, right: &Expr) -> Printed {
        self.comparable(left, right)?;
        let [one, other] = self.sides([left, right])?;
        if !self.are_truths(&[left, right]) {
            let ordered = !matches!(sign, "=" | "<>" | "IS" | "IS NOT");
            self.pair(left, right, [&one, &other], ordered)?;
        }
        Ok(format!("({one} {sign} {other})"))
    }

    fn between(&self, expr: &Expr, low: &Expr, high: &Expr, negated: bool) -> Printed {
        self.comparable(expr, low)?;
        self.comparable(expr, high)?;
        let [tested, from, to] = self.sides([expr, low, high])?;
        if !self.are_truths(&[expr, low, high]) {
            self.pair(expr, low, [&tested, &from], true)?;
            self.pair(expr, high, [&tested, &to], true)?;
        }
        let not = if negated { "NOT " } else { "" };
        Ok(format!("({not}({tested} BETWEEN {from} AND {to}))"))
    }

    fn column(&self, name: &str) -> Option<&ColumnFacts> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// A column as it is.
    fn raw(&self, name: &str) -> Printed {
        Ok(column_of(self.alias, checked(name)?))
    }

    #[recursive::recursive]
    fn expr(&self, expr: &Expr) -> Printed {
        Ok(match expr {
            Expr::Column(name) => self.read(name)?,
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
            Expr::Negate(inner) => self.negate(inner)?,
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
            } => self.compare(left, if *negated { "IS" } else { "IS NOT" }, right)?,
            Expr::Between {
                expr,
                low,
                high,
                negated,
            } => self.between(expr, low, high, *negated)?,
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
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => {
                return self.calculate(left, op, right);
            }
            BinaryOp::Concat => {
                return Ok(format!(
                    "({} || {})",
                    self.text_of(left, true)?,
                    self.text_of(right, true)?
                ));
            }
            BinaryOp::Json => {
                return refuse(
                    "`->` gives a document, which has no order and more than one spelling: take `->>`, or ask whether it IS NULL"
                        .to_owned(),
                );
            }
            BinaryOp::JsonText => return self.json_text(left, right),
        };
        self.compare(left, sign, right)
    }

    fn is(&self, expr: &Expr, test: Test, negated: bool) -> Printed {
        let yes = i32::from(!negated);
        let no = i32::from(negated);
        Ok(match test {
            Test::Null => {
                let word = if negated { "NOTNULL" } else { "ISNULL" };
                let tested = match expr {
                    Expr::Column(name) => self.raw(name)?,
                    _ => match self.json_is_null(expr) {
                        Some(found) => found?,
                        None => self.expr(expr)?,
                    },
                };
                format!("({tested} {word})")
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
        for item in list {
            self.comparable(expr, item)?;
        }
        let tested = print(expr)?;
        let mut items = Vec::with_capacity(list.len());
        let mut columns = Vec::new();
        for item in list {
            let printed = print(item)?;
            if !truth {
                self.pair(expr, item, [&tested, &printed], false)?;
            }
            // Of the columns in the list IN does not apply the affinity, where `=` does.
            if truth || !matches!(item, Expr::Column(_)) {
                items.push(printed);
            } else {
                columns.push(printed);
            }
        }
        if columns.len() > MAX_VALUES {
            return refuse(format!("IN takes at most {MAX_VALUES} columns"));
        }
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

    /// `truth`: what it chooses among are truth values.
    fn call(&self, function: Function, arguments: &[Expr], truth: bool) -> Printed {
        match function {
            Function::Abs => {
                return match arguments {
                    [value] => self.abs(value),
                    _ => refuse("abs takes one value".to_owned()),
                };
            }
            _ if !chooses(function) => return self.of_text(function, arguments),
            _ => {}
        }
        if !truth && function != Function::NullIf {
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
                if truth {
                    self.comparable(left, right)?;
                } else {
                    self.pair(left, right, [one, other], false)?;
                }
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
            _ => {
                if !truth {
                    let all: Vec<&Expr> = arguments.iter().collect();
                    self.of_one_kind(&all, true)?;
                }
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
