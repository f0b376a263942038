//! What expressions are, by their form and by what columns declare: numbers, texts, truth values; and what may be compared.

use super::{
    super::catalog::{NO_TYPE, STRICT_ANY},
    Printer, refuse,
};
use crate::{
    engine::EngineError,
    policy::{
        predicate::{BinaryOp, Expr, Function},
        table::ColumnFacts,
    },
};

/// What an expression surely is, whatever a row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Text,
    Truth,
    /// A column, or something made of columns.
    Any,
}

pub(super) fn kind(expr: &Expr) -> Kind {
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
pub(super) fn kind_of_one(values: &[Expr]) -> Kind {
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
pub(super) fn chooses(function: Function) -> bool {
    matches!(
        function,
        Function::Coalesce | Function::NullIf | Function::Greatest | Function::Least
    )
}

/// How a column takes in what is written to it (<https://www.sqlite.org/datatype3.html>, 3.1), as far as comparisons depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Affinity {
    Text,
    Number,
    /// Everything is kept as it comes.
    None,
}

pub(super) fn affinity(column: &ColumnFacts) -> Affinity {
    let declared = column.type_name.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    if column.type_name == NO_TYPE || column.type_name == STRICT_ANY {
        Affinity::None
    } else if has(&["INT"]) {
        Affinity::Number
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        Affinity::Text
    } else if has(&["BLOB"]) {
        Affinity::None
    } else {
        Affinity::Number
    }
}

/// What a column is meant to hold.
pub(super) fn declared(column: &ColumnFacts) -> Kind {
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
pub(super) fn chosen(function: Function, values: &[Expr]) -> &[Expr] {
    match function {
        Function::NullIf => values.get(..1).unwrap_or(values),
        _ => values,
    }
}

/// The truth value that a text spells, as PostgreSQL reads it.
pub(super) fn spelled_truth(text: &str) -> Option<bool> {
    let space = [' ', '\t', '\n', '\u{b}', '\u{c}', '\r'];
    match text.trim_matches(space).to_ascii_lowercase().as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Some(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Some(false),
        _ => None,
    }
}

pub(super) fn is_bit(expr: &Expr) -> bool {
    matches!(expr, Expr::Number(digits) if matches!(digits.as_str(), "0" | "1"))
}

/// Digits: words such as `infinity` are read by Rust, and by no affinity.
pub(super) fn is_number_text(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
        && !text
            .bytes()
            .any(|byte| byte.is_ascii_alphabetic() && !matches!(byte, b'e' | b'E'))
        && text.trim().parse::<f64>().is_ok()
}

/// Of a type such as `CHAR(8)`, whose values PostgreSQL fills up with blanks.
pub(super) fn is_padded(column: &ColumnFacts) -> bool {
    let declared = column.type_name.to_ascii_uppercase();
    let word = declared.split('(').next().unwrap_or_default().trim();
    matches!(
        word,
        "CHAR" | "CHARACTER" | "NCHAR" | "BPCHAR" | "NATIVE CHARACTER" | "NATIONAL CHARACTER"
    )
}

/// What is compared by its letters, as it has no type of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Date,
    Time,
    Stamp,
    Uuid,
}

impl Form {
    pub(super) fn of(column: &ColumnFacts) -> Option<Self> {
        if affinity(column) != Affinity::Number || declared(column) != Kind::Any {
            return None;
        }
        let declared = column.type_name.to_ascii_uppercase();
        let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
        if has(&["UUID", "GUID", "UNIQUEIDENTIFIER"]) {
            Some(Self::Uuid)
        } else if has(&["DATETIME", "TIMESTAMP"]) {
            Some(Self::Stamp)
        } else if has(&["DATE"]) {
            Some(Self::Date)
        } else if has(&["TIME"]) {
            Some(Self::Time)
        } else {
            None
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Date => "dates",
            Self::Time => "times of a day",
            Self::Stamp => "dates with times",
            Self::Uuid => "UUIDs",
        }
    }

    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Date => "a date as in '2024-01-31'",
            Self::Time => "a time as in '23:59:59'",
            Self::Stamp => "date and time as the column holds them, as in '2024-01-31 00:00:00'",
            Self::Uuid => "36 characters with hyphens, letters in lower case",
        }
    }

    /// The pattern of GLOB that a text has in common with all that are written as it is; `None`: it is not of this form.
    pub(super) fn pattern(self, text: &str) -> Option<String> {
        let shape: String = text
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        let fits = match self {
            Self::Date => shape == "0000-00-00" && text.parse::<jiff::civil::Date>().is_ok(),
            Self::Time => shape == "00:00:00" && text.parse::<jiff::civil::Time>().is_ok(),
            Self::Stamp => {
                let shape = shape.strip_suffix('Z').unwrap_or(&shape);
                let plain = text.strip_suffix('Z').unwrap_or(text);
                let (seconds, fraction) = shape.split_once('.').unwrap_or((shape, "0"));
                matches!(seconds, "0000-00-00 00:00:00" | "0000-00-00T00:00:00")
                    && (1..=9).contains(&fraction.len())
                    && fraction.bytes().all(|byte| byte == b'0')
                    && plain.parse::<jiff::civil::DateTime>().is_ok()
            }
            Self::Uuid => {
                let parts: Vec<&str> = text.split('-').collect();
                parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
                    && parts
                        .concat()
                        .bytes()
                        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            }
        };
        if !fits {
            return None;
        }
        Some(match self {
            Self::Uuid => self.usual(),
            _ => shape.replace('0', "[0-9]"),
        })
    }

    /// Of columns that are compared with each other.
    pub(super) fn usual(self) -> String {
        match self {
            Self::Date => "0000-00-00".replace('0', "[0-9]"),
            Self::Time => "00:00:00".replace('0', "[0-9]"),
            Self::Stamp => "0000-00-00 00:00:00".replace('0', "[0-9]"),
            Self::Uuid => "00000000-0000-0000-0000-000000000000".replace('0', "[0-9a-f]"),
        }
    }
}

/// What a division by it or of it gives elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Whole,
    Fraction,
    /// The declared type does not say.
    Unknown,
}

pub(super) fn share_of(column: &ColumnFacts) -> Share {
    let declared = column.type_name.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    let fraction = has(&["REAL", "FLOA", "DOUB", "NUM", "DEC"]);
    match (affinity(column), has(&["INT"])) {
        (Affinity::Number, true) if !fraction && !declared.contains("POINT") => Share::Whole,
        (Affinity::Number, false) if fraction => Share::Fraction,
        _ => Share::Unknown,
    }
}

pub(super) fn keeps_digits<T>(name: &str) -> Result<T, EngineError> {
    refuse(format!(
        "column `{name}` keeps a text of digits as a number, which in coalesce, nullif, greatest or least is not equal to that text: \
         compare the column itself, and say with `{name} IS NULL` what NULL means"
    ))
}

impl Printer<'_> {
    pub(super) fn are_truths(&self, exprs: &[&Expr]) -> bool {
        exprs.iter().any(|expr| self.meant(expr) == Kind::Truth)
            && exprs
                .iter()
                .all(|expr| matches!(kind(expr), Kind::Truth | Kind::Any) || is_bit(expr))
    }

    pub(super) fn affinity(&self, expr: &Expr) -> Option<Affinity> {
        match expr {
            Expr::Column(name) => self.column(name).map(affinity),
            _ => None,
        }
    }

    /// What an expression is meant to be, going by what columns declare.
    #[recursive::recursive]
    pub(super) fn meant(&self, expr: &Expr) -> Kind {
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
    pub(super) fn numbering<'e>(&self, expr: &'e Expr) -> Option<&'e str> {
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
    pub(super) fn spells_digits(&self, expr: &Expr) -> bool {
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
    pub(super) fn alike(&self, function: Function, values: &[Expr]) -> Result<(), EngineError> {
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
    pub(super) fn share(&self, expr: &Expr) -> Share {
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
    pub(super) fn comparable(&self, left: &Expr, right: &Expr) -> Result<(), EngineError> {
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
                (Kind::Truth, Kind::Number, ..) if !truths => {
                    return refuse(
                        "a truth value is not compared with a number: write it alone, with NOT, or compare it with TRUE or FALSE"
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
}
