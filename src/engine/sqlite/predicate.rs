//! Prints a predicate from its tree, so that it means in SQLite what it means elsewhere; what cannot is refused.
//!
//! Differences that are met here: LIKE is case-sensitive (printed as GLOB), `greatest` and `least` pass over NULL, `->>` gives a
//! text, a text among numbers is not greater than all of them nor 0 where one calculates, truth values may be kept as words, and no
//! value of a row makes an operator or function fail. Differences that stay are those of the column's own affinity and collation, and
//! that letters beyond ASCII have no upper and lower case.

use super::{
    catalog::NO_TYPE,
    sql::{column_of, literal},
};
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

fn keeps_digits<T>(name: &str) -> Result<T, EngineError> {
    refuse(format!(
        "column `{name}` keeps a text of digits as a number, which in coalesce, nullif, greatest or least is not equal to that text: \
         compare the column itself, and say with `{name} IS NULL` what NULL means"
    ))
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

/// What an expression surely is, whatever a row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Truth,
    /// A column, or something made of columns.
    Any,
}

fn kind(expr: &Expr) -> Kind {
    match expr {
        Expr::Number(_)
        | Expr::Negate(_)
        | Expr::Call(Function::Length | Function::Abs, _)
        | Expr::Binary(
            _,
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod,
            _,
        ) => Kind::Number,
        Expr::Text(_)
        | Expr::Call(
            Function::Lower | Function::Upper | Function::Trim | Function::Left | Function::Right,
            _,
        )
        | Expr::Binary(_, BinaryOp::Concat | BinaryOp::JsonText | BinaryOp::Json, _) => Kind::Text,
        Expr::Bool(_)
        | Expr::Not(_)
        | Expr::Binary(..)
        | Expr::Is { .. }
        | Expr::DistinctFrom { .. }
        | Expr::Between { .. }
        | Expr::In { .. }
        | Expr::Like { .. } => Kind::Truth,
        Expr::Call(
            Function::Coalesce | Function::NullIf | Function::Greatest | Function::Least,
            values,
        ) => kind_of_one(values),
        Expr::Column(_) | Expr::Null | Expr::Typed(..) => Kind::Any,
    }
}

/// What a value is that is one of these. One truth value makes the others such, too.
#[recursive::recursive]
fn kind_of_one(values: &[Expr]) -> Kind {
    let mut kinds = values
        .iter()
        .filter(|value| !matches!(value, Expr::Null))
        .map(kind);
    let first = kinds.next().unwrap_or(Kind::Any);
    kinds.fold(first, |all, kind| match (all, kind) {
        (Kind::Truth, _) | (_, Kind::Truth) => Kind::Truth,
        (all, kind) if all == kind => all,
        _ => Kind::Any,
    })
}

/// Each value is one of the other operands' or arguments' and nothing is done to it.
fn chooses(function: Function) -> bool {
    matches!(
        function,
        Function::Coalesce | Function::NullIf | Function::Greatest | Function::Least
    )
}

/// How a column takes in what is written to it (<https://www.sqlite.org/datatype3.html>, 3.1), as far as comparisons depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Affinity {
    Text,
    Number,
    /// Everything is kept as it comes.
    None,
}

fn affinity(column: &ColumnFacts) -> Affinity {
    let declared = column.type_name.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    if column.type_name == NO_TYPE {
        Affinity::None
    } else if has(&["INT"]) {
        Affinity::Number
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        Affinity::Text
    } else if has(&["BLOB"]) || declared == "ANY" {
        Affinity::None
    } else {
        Affinity::Number
    }
}

/// What a column is meant to hold.
fn declared(column: &ColumnFacts) -> Kind {
    let declared = column.type_name.to_ascii_uppercase();
    match affinity(column) {
        Affinity::Text => Kind::Text,
        Affinity::None => Kind::Any,
        Affinity::Number if declared.contains("BOOL") => Kind::Truth,
        Affinity::Number
            if ["INT", "REAL", "FLOA", "DOUB", "NUM", "DEC"]
                .iter()
                .any(|word| declared.contains(word)) =>
        {
            Kind::Number
        }
        // A date, a document, and whatever somebody invented.
        Affinity::Number => Kind::Any,
    }
}

/// What it may be as it stands: `nullif` chooses its first value only.
fn chosen(function: Function, values: &[Expr]) -> &[Expr] {
    match function {
        Function::NullIf => values.get(..1).unwrap_or(values),
        _ => values,
    }
}

/// The truth value that a text spells, as PostgreSQL reads it.
fn spelled_truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Some(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn is_bit(expr: &Expr) -> bool {
    matches!(expr, Expr::Number(digits) if matches!(digits.as_str(), "0" | "1"))
}

fn is_number_text(text: &str) -> bool {
    text.trim().parse::<f64>().is_ok()
}

/// What a division by it or of it gives elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    Whole,
    Fraction,
    /// The declared type does not say.
    Unknown,
}

fn share_of(column: &ColumnFacts) -> Share {
    let declared = column.type_name.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    let fraction = has(&["REAL", "FLOA", "DOUB", "NUM", "DEC"]);
    match (affinity(column), has(&["INT"])) {
        (Affinity::Number, true) if !fraction && !declared.contains("POINT") => Share::Whole,
        (Affinity::Number, false) if fraction => Share::Fraction,
        _ => Share::Unknown,
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

    fn are_truths(&self, exprs: &[&Expr]) -> bool {
        exprs.iter().any(|expr| self.meant(expr) == Kind::Truth)
            && exprs
                .iter()
                .all(|expr| matches!(kind(expr), Kind::Truth | Kind::Any) || is_bit(expr))
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

    fn affinity(&self, expr: &Expr) -> Option<Affinity> {
        match expr {
            Expr::Column(name) => self.column(name).map(affinity),
            _ => None,
        }
    }

    /// What an expression is meant to be, going by what columns declare.
    #[recursive::recursive]
    fn meant(&self, expr: &Expr) -> Kind {
        match (kind(expr), expr) {
            (Kind::Any, Expr::Column(name)) => self.column(name).map_or(Kind::Any, declared),
            (Kind::Any, Expr::Call(_, values)) => {
                let meant: Vec<Kind> = values.iter().map(|value| self.meant(value)).collect();
                let first = meant.iter().find(|kind| **kind != Kind::Any);
                if meant.contains(&Kind::Truth) {
                    Kind::Truth
                } else {
                    first.copied().unwrap_or(Kind::Any)
                }
            }
            (kind, _) => kind,
        }
    }

    /// A column that this may be the value of and that keeps texts of digits as numbers.
    #[recursive::recursive]
    fn numbering<'e>(&self, expr: &'e Expr) -> Option<&'e str> {
        match expr {
            Expr::Column(name) if self.affinity(expr) == Some(Affinity::Number) => Some(name),
            Expr::Call(function, values) if chooses(*function) => chosen(*function, values)
                .iter()
                .find_map(|value| self.numbering(value)),
            _ => None,
        }
    }

    /// It may be a text of digits.
    #[recursive::recursive]
    fn spells_digits(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Text(text) => is_number_text(text),
            Expr::Column(_) => self.affinity(expr) == Some(Affinity::Text),
            Expr::Call(function, values) if chooses(*function) => chosen(*function, values)
                .iter()
                .any(|value| self.spells_digits(value)),
            _ => kind(expr) == Kind::Text,
        }
    }

    /// What a function chooses among is compared as it is kept: no column's affinity is applied to it or to what is beside it.
    fn alike(&self, function: Function, values: &[Expr]) -> Result<(), EngineError> {
        let meant = |kind| values.iter().any(|value| self.meant(value) == kind);
        let texts = meant(Kind::Text);
        if texts && meant(Kind::Number) {
            return refuse(
                "numbers and texts cannot stand beside each other in coalesce, greatest or least: write numbers without quotes and texts in single quotes"
                    .to_owned(),
            );
        }
        let ordered = matches!(function, Function::Greatest | Function::Least);
        match values.iter().find_map(|value| self.numbering(value)) {
            Some(name)
                if ordered && texts || values.iter().any(|value| self.spells_digits(value)) =>
            {
                keeps_digits(name)
            }
            _ => Ok(()),
        }
    }

    /// What a division gives elsewhere: a whole number where both sides are such by their types.
    #[recursive::recursive]
    fn share(&self, expr: &Expr) -> Share {
        let of = |shares: &mut dyn Iterator<Item = Share>| {
            shares.fold(Share::Whole, |all, share| match (all, share) {
                (Share::Fraction, _) | (_, Share::Fraction) => Share::Fraction,
                (Share::Unknown, _) | (_, Share::Unknown) => Share::Unknown,
                _ => Share::Whole,
            })
        };
        match expr {
            Expr::Column(name) => self.column(name).map_or(Share::Unknown, share_of),
            Expr::Number(digits) if digits.parse::<i64>().is_ok() => Share::Whole,
            Expr::Number(_) => Share::Fraction,
            Expr::Null | Expr::Call(Function::Length, _) => Share::Whole,
            Expr::Negate(inner) => self.share(inner),
            Expr::Binary(
                left,
                BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod,
                right,
            ) => of(&mut [left, right].into_iter().map(|side| self.share(side))),
            Expr::Call(
                Function::Abs
                | Function::Coalesce
                | Function::NullIf
                | Function::Greatest
                | Function::Least,
                values,
            ) => of(&mut values.iter().map(|value| self.share(value))),
            _ => Share::Unknown,
        }
    }

    /// A number is never equal to a text, whatever their digits: such a comparison is a mistake. Nor is a truth value.
    fn comparable(&self, left: &Expr, right: &Expr) -> Result<(), EngineError> {
        let truths = self.are_truths(&[left, right]);
        for (expr, other) in [(left, right), (right, left)] {
            if let (Expr::Call(..), Some(name)) = (expr, self.numbering(expr))
                && !truths
                && !matches!(other, Expr::Column(_))
                && self.spells_digits(other)
                && self.meant(expr) != Kind::Number
            {
                return keeps_digits(name);
            }
            match (self.meant(expr), self.meant(other), expr, other) {
                // The column's affinity makes texts of digits numbers.
                (Kind::Number, Kind::Text, Expr::Column(_), _)
                | (Kind::Text, Kind::Number, Expr::Column(_), Expr::Column(_)) => {}
                (Kind::Text, Kind::Number, Expr::Column(name), _) => {
                    return refuse(format!(
                        "column `{name}` holds texts: compare it with a text, the number in single quotes"
                    ));
                }
                (Kind::Truth, Kind::Text, Expr::Column(name), _) => {
                    return refuse(format!(
                        "column `{name}` holds truth values: write {name}, NOT {name} or {name} IS NULL"
                    ));
                }
                (Kind::Truth, Kind::Text, _, _) => {
                    return refuse(
                        "a truth value is not compared with a text: write it alone, with NOT, or compare it with TRUE or FALSE"
                            .to_owned(),
                    );
                }
                (Kind::Text, Kind::Number, _, other) if !matches!(other, Expr::Column(_)) => {
                    return refuse(
                        "a number and a text are never equal: write numbers without quotes and texts in single quotes"
                            .to_owned(),
                    );
                }
                _ => {}
            }
        }
        Ok(())
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

fn absolute(value: &str) -> String {
    format!(
        "(CASE WHEN typeof({value}) NOT IN {NUMBERS} THEN NULL WHEN {value} < 0 THEN - {value} ELSE {value} END)"
    )
}

/// A pattern of LIKE as one of GLOB.
fn glob(pattern: &str, escape: char) -> Printed {
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

fn is_whole(digits: &str) -> bool {
    !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|digit| digit.is_ascii_digit())
}

fn is_fraction(expr: &Expr) -> bool {
    matches!(expr, Expr::Number(digits) if !digits.bytes().all(|digit| digit.is_ascii_digit()))
}

/// The driver ends a statement at its first NUL: what follows would silently be lost.
fn checked(text: &str) -> Result<&str, EngineError> {
    if text.contains('\0') {
        return refuse("a NUL character cannot be part of an expression".to_owned());
    }
    Ok(text)
}

fn number(digits: &str) -> Result<&str, EngineError> {
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
