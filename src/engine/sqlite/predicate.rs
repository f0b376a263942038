//! Prints a predicate from its tree, so that it means in SQLite what it means elsewhere; what cannot is refused.
//!
//! Differences that are met here: LIKE is case-sensitive (printed as GLOB), `greatest` and `least` pass over NULL, `->>` gives a
//! text, a text among numbers is not greater than all of them, and no value of a row makes an operator or function fail. Differences
//! that stay are those of the column's own affinity and collation, and that letters beyond ASCII have no upper and lower case.

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

/// What an expression surely is, whatever a row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
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
        | Expr::Binary(_, BinaryOp::Concat | BinaryOp::JsonText, _) => Kind::Text,
        _ => Kind::Any,
    }
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

struct Printer<'a> {
    columns: &'a [ColumnFacts],
    /// How the statement knows the table.
    alias: &'a str,
}

type Printed = Result<String, EngineError>;

impl Printer<'_> {
    /// An expression where a truth value is needed. Some store the words; SQLite takes a word for 0.
    fn truth(&self, expr: &Expr) -> Printed {
        let printed = self.expr(expr)?;
        Ok(match expr {
            Expr::Column(_) => format!(
                "(CASE WHEN typeof({printed}) <> 'text' THEN {printed} \
                 WHEN lower(trim({printed})) IN ('t', 'true', 'y', 'yes', 'on', '1') THEN 1 \
                 WHEN lower(trim({printed})) IN ('f', 'false', 'n', 'no', 'off', '0') THEN 0 END)"
            ),
            _ => printed,
        })
    }

    /// One side of a comparison with `other`.
    fn side(&self, expr: &Expr, other: &Expr) -> Printed {
        match other {
            Expr::Bool(_) => self.truth(expr),
            _ => self.expr(expr),
        }
    }

    fn compare(&self, left: &Expr, sign: &str, right: &Expr) -> Printed {
        self.comparable(left, right)?;
        let compared = format!(
            "({} {sign} {})",
            self.side(left, right)?,
            self.side(right, left)?
        );
        if matches!(sign, "=" | "<>") {
            return Ok(compared);
        }
        // Between values of different types their types alone decide: every text is greater than every number.
        let guards = [(left, right), (right, left)]
            .into_iter()
            .filter_map(|(expr, other)| self.class(expr, other).map(|class| (expr, class)));
        let mut guarded = compared;
        for (expr, class) in guards {
            guarded = format!(
                "(CASE WHEN typeof({}) IN ({class}) THEN {guarded} END)",
                self.expr(expr)?
            );
        }
        Ok(guarded)
    }

    /// The types among which a column's order in relation to `other` means something.
    fn class(&self, expr: &Expr, other: &Expr) -> Option<&'static str> {
        let affinity = self.affinity(expr)?;
        match (kind(other), other) {
            (Kind::Number, _) => Some("'integer', 'real'"),
            (Kind::Text, Expr::Text(text))
                if affinity == Affinity::Number && text.trim().parse::<f64>().is_ok() =>
            {
                Some("'integer', 'real'")
            }
            (Kind::Text, _) => Some("'text'"),
            (Kind::Any, _) => None,
        }
    }

    fn affinity(&self, expr: &Expr) -> Option<Affinity> {
        let Expr::Column(name) = expr else {
            return None;
        };
        self.columns
            .iter()
            .find(|column| column.name == *name)
            .map(affinity)
    }

    /// A number is never equal to a text, whatever their digits: such a comparison is a mistake.
    fn comparable(&self, left: &Expr, right: &Expr) -> Result<(), EngineError> {
        match (kind(left), kind(right)) {
            (Kind::Number, Kind::Text) | (Kind::Text, Kind::Number) => refuse(
                "a number and a text are never equal: write numbers without quotes and texts in single quotes"
                    .to_owned(),
            ),
            (Kind::Number, Kind::Any) => self.no_text_column(right),
            (Kind::Any, Kind::Number) => self.no_text_column(left),
            _ => Ok(()),
        }
    }

    fn no_text_column(&self, expr: &Expr) -> Result<(), EngineError> {
        match (self.affinity(expr), expr) {
            (Some(Affinity::Text), Expr::Column(name)) => refuse(format!(
                "column `{name}` holds texts: compare it with a text, the number in single quotes"
            )),
            _ => Ok(()),
        }
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
            Expr::Negate(inner) => format!("(- {})", self.expr(inner)?),
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
                format!(
                    "({} {word} {})",
                    self.side(left, right)?,
                    self.side(right, left)?
                )
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
            Expr::Call(function, arguments) => self.call(*function, arguments)?,
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
            BinaryOp::Div => "/",
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
        if matches!(sign, "=" | "<>" | "<" | "<=" | ">" | ">=") {
            self.compare(left, sign, right)
        } else {
            Ok(format!(
                "({} {sign} {})",
                self.expr(left)?,
                self.expr(right)?
            ))
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
        let mut items = Vec::with_capacity(list.len());
        for item in list {
            self.comparable(expr, item)?;
            items.push(self.expr(item)?);
        }
        let tested = if list.iter().any(|item| matches!(item, Expr::Bool(_))) {
            self.truth(expr)?
        } else {
            self.expr(expr)?
        };
        let word = if negated { "NOT IN" } else { "IN" };
        Ok(format!("({tested} {word} ({}))", items.join(", ")))
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
            Expr::Text(name) if name.starts_with(['$', '[']) || name.contains('"') => {
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

    fn call(&self, function: Function, arguments: &[Expr]) -> Printed {
        let printed: Vec<String> = arguments
            .iter()
            .map(|argument| self.expr(argument))
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
                if let [left, right] = arguments {
                    self.comparable(left, right)?;
                }
                format!("nullif({all})")
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

fn absolute(value: &str) -> String {
    format!(
        "(CASE WHEN typeof({value}) NOT IN ('integer', 'real') THEN NULL WHEN {value} < 0 THEN - {value} ELSE {value} END)"
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
