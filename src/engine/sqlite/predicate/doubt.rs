//! Rows of which nobody knows what a condition means: a value that the column's type would not have elsewhere, or one on which the
//! condition fails there. Their conditions are collected beside what is printed; such a row stays, whatever is printed says of it.

use std::{cell::RefCell, collections::BTreeSet};

use super::{
    NUMBERS, Printer, folds_case,
    kinds::{
        Affinity, Form, Kind, Share, chooses, chosen, declared, is_number_text, is_padded, kind,
    },
    parts, refuse,
};
use crate::{engine::EngineError, policy::predicate::Expr};

/// White space around a truth value, as PostgreSQL passes over it.
pub(super) const SPACE: &str = "' \t\n\u{b}\u{c}\r'";
const TRUE_WORDS: &str = "('t', 'tr', 'tru', 'true', 'y', 'ye', 'yes', 'on', '1')";
const FALSE_WORDS: &str = "('f', 'fa', 'fal', 'fals', 'false', 'n', 'no', 'of', 'off', '0')";
/// Letters beyond ASCII of which lower() or upper() make ASCII ones elsewhere.
pub(super) const FOLD_TO_ASCII: &str =
    "\u{130}\u{131}\u{17f}\u{212a}\u{df}\u{1e9e}\u{149}\u{1f0}\u{1e96}-\u{1e9a}\u{fb00}-\u{fb06}";
/// Columns that a comparison may choose among where their types say nothing: each is compared with each.
const MAX_UNTYPED: usize = 8;

/// What is collected while a predicate is printed; each condition once.
#[derive(Debug, Default)]
pub(super) struct Doubts(RefCell<BTreeSet<String>>);

impl Doubts {
    pub(super) fn add(&self, condition: impl Into<String>) {
        self.0.borrow_mut().insert(condition.into());
    }

    /// Any of them. As a tree, as SQLite allows for no deep ones.
    pub(super) fn any(self) -> Option<String> {
        let mut all: Vec<String> = self.0.into_inner().into_iter().collect();
        while all.len() > 1 {
            all = all
                .chunks(2)
                .map(|pair| match pair {
                    [one, other] => format!("({one} OR {other})"),
                    rest => rest.concat(),
                })
                .collect();
        }
        all.pop()
    }
}

impl Printer<'_> {
    /// A column as a truth value. Some store the words; SQLite takes a word for 0, and every number but 0 for true.
    pub(super) fn truth_of(&self, name: &str) -> super::Printed {
        let c = self.raw(name)?;
        let word = format!("lower(trim({c}, {SPACE}))");
        self.doubts.add(format!(
            "(CASE WHEN typeof({c}) IN {NUMBERS} THEN {c} NOT IN (0, 1) \
             WHEN typeof({c}) = 'text' THEN {word} NOT IN {TRUE_WORDS} AND {word} NOT IN {FALSE_WORDS} ELSE {c} NOTNULL END)"
        ));
        Ok(format!(
            "(CASE WHEN typeof({c}) IN {NUMBERS} THEN {c} <> 0 WHEN typeof({c}) <> 'text' THEN NULL \
             WHEN {word} IN {TRUE_WORDS} THEN 1 WHEN {word} IN {FALSE_WORDS} THEN 0 END)"
        ))
    }

    /// The columns and literals that the value of `expr` may be.
    #[recursive::recursive]
    pub(super) fn leaves<'e>(&self, expr: &'e Expr, into: &mut Vec<&'e Expr>) {
        match expr {
            Expr::Null => {}
            Expr::Call(function, values) if chooses(*function) => {
                for value in chosen(*function, values) {
                    self.leaves(value, into);
                }
            }
            _ => into.push(expr),
        }
    }

    /// What is compared must be of one kind: it is refused where types and literals tell that it is not, and in doubt where a row's
    /// value does. `ordered`: not only whether it is equal.
    pub(super) fn of_one_kind(&self, exprs: &[&Expr], ordered: bool) -> Result<(), EngineError> {
        let mut leaves = Vec::new();
        for expr in exprs {
            self.leaves(expr, &mut leaves);
        }
        self.of_one_form(&leaves)?;
        self.of_one_length(&leaves)?;
        let meant = |wanted| leaves.iter().any(|leaf| self.meant(leaf) == wanted);
        let (numbers, texts) = (meant(Kind::Number), meant(Kind::Text));
        if numbers && texts {
            self.texts_among_numbers(&leaves, ordered)?;
        }
        let digits = leaves
            .iter()
            .any(|leaf| matches!(leaf, Expr::Text(text) if is_number_text(text)));
        let mut untyped = Vec::new();
        for leaf in &leaves {
            let Expr::Column(name) = leaf else { continue };
            let c = self.raw(name)?;
            let keeps_numbers = self.affinity(leaf) == Some(Affinity::Number);
            let doubt = match self.meant(leaf) {
                Kind::Number => format!("({c} NOTNULL AND typeof({c}) NOT IN {NUMBERS})"),
                // See `read`.
                Kind::Text => continue,
                Kind::Truth | Kind::Any if numbers => {
                    format!("({c} NOTNULL AND typeof({c}) NOT IN {NUMBERS})")
                }
                _ if texts && keeps_numbers && !ordered => format!("typeof({c}) = 'blob'"),
                _ if texts && keeps_numbers && digits => {
                    format!("({c} NOTNULL AND typeof({c}) NOT IN {NUMBERS})")
                }
                _ if texts => format!("({c} NOTNULL AND typeof({c}) <> 'text')"),
                _ => {
                    untyped.push(c);
                    continue;
                }
            };
            self.doubts.add(doubt);
        }
        self.alike_in_a_row(&untyped)
    }

    /// Blanks at the end do not count elsewhere where a column is padded with them.
    fn of_one_length(&self, leaves: &[&Expr]) -> Result<(), EngineError> {
        let padded = leaves.iter().any(|leaf| match leaf {
            Expr::Column(name) => self.column(name).is_some_and(is_padded),
            _ => false,
        });
        let blank = leaves
            .iter()
            .find(|leaf| matches!(leaf, Expr::Text(text) if text.ends_with(' ')));
        match blank {
            Some(Expr::Text(text)) if padded => refuse(format!(
                "'{text}' ends with a blank, which does not count beside a column that is declared as CHAR: write it without"
            )),
            _ => Ok(()),
        }
    }

    /// A text beside numbers is a number in quotes.
    fn texts_among_numbers(&self, leaves: &[&Expr], ordered: bool) -> Result<(), EngineError> {
        for leaf in leaves {
            match leaf {
                Expr::Text(text) if !is_number_text(text) => {
                    return refuse(format!(
                        "'{text}' is no number: a column that is declared to hold numbers is compared with numbers"
                    ));
                }
                Expr::Text(_) => {}
                _ if self.meant(leaf) == Kind::Text => {
                    return refuse(
                        if ordered {
                            "numbers and texts have no order among each other: write numbers without quotes and texts in single quotes"
                        } else {
                            "a number and a text that a row holds are never equal elsewhere: compare numbers with numbers and texts with texts"
                        }
                        .to_owned(),
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Columns whose types say nothing: the values of a row must be of one type.
    fn alike_in_a_row(&self, columns: &[String]) -> Result<(), EngineError> {
        if columns.len() > MAX_UNTYPED {
            return refuse(format!(
                "more than {MAX_UNTYPED} columns without a type that says what they hold cannot be compared with each other"
            ));
        }
        for (n, one) in columns.iter().enumerate() {
            for other in columns.iter().skip(n + 1).filter(|other| *other != one) {
                self.doubts.add(format!(
                    "({one} NOTNULL AND {other} NOTNULL AND (typeof({one}) = 'blob' OR typeof({other}) = 'blob' \
                     OR (typeof({one}) IN {NUMBERS}) <> (typeof({other}) IN {NUMBERS})))"
                ));
            }
        }
        Ok(())
    }

    /// Dates, times and UUIDs are compared by their letters, which is right within one form of writing them only.
    fn of_one_form(&self, leaves: &[&Expr]) -> Result<(), EngineError> {
        let form = |leaf: &&Expr| match leaf {
            Expr::Column(name) => self.column(name).and_then(Form::of),
            _ => None,
        };
        let Some(wanted) = leaves.iter().find_map(form) else {
            return Ok(());
        };
        // An epoch: see `of_one_kind`.
        if leaves
            .iter()
            .all(|leaf| form(leaf).is_some() || kind(leaf) == Kind::Number)
            && leaves.iter().any(|leaf| kind(leaf) == Kind::Number)
        {
            return Ok(());
        }
        let mut pattern: Option<String> = None;
        for leaf in leaves {
            let Expr::Text(text) = leaf else {
                if form(leaf) == Some(wanted) {
                    continue;
                }
                return refuse(format!(
                    "a column that holds {} is compared with a literal in single quotes, or with a column of the same declared type",
                    wanted.name()
                ));
            };
            let Some(written) = wanted.pattern(text) else {
                return refuse(format!(
                    "'{text}' beside a column that holds {}, which is compared by its letters: write {}",
                    wanted.name(),
                    wanted.advice()
                ));
            };
            if pattern.get_or_insert_with(|| written.clone()) != &written {
                return refuse(format!(
                    "'{text}' is written in another form than a literal beside it: {} are compared by their letters",
                    wanted.name()
                ));
            }
        }
        let pattern = pattern.unwrap_or_else(|| wanted.usual());
        for leaf in leaves {
            if let Expr::Column(name) = leaf {
                let c = self.raw(name)?;
                let spelled = if wanted == Form::Uuid {
                    format!("lower({c})")
                } else {
                    c.clone()
                };
                self.doubts.add(format!(
                    "({c} NOTNULL AND NOT (typeof({c}) = 'text' AND {spelled} GLOB '{pattern}'))"
                ));
            }
        }
        Ok(())
    }

    /// Of letters beyond ASCII SQLite knows no case: they are in doubt where two values are compared, one of which was folded. Equal to
    /// an ASCII literal are only few of them.
    pub(super) fn foldable(&self, left: &Expr, right: &Expr) -> Result<(), EngineError> {
        let literals = |expr: &Expr| {
            let mut leaves = Vec::new();
            self.leaves(expr, &mut leaves);
            leaves.iter().all(|leaf| matches!(leaf, Expr::Text(_)))
        };
        if !(folds_case(left) || folds_case(right)) {
            return Ok(());
        }
        let letters = if literals(left) || literals(right) {
            FOLD_TO_ASCII
        } else {
            "^\u{1}-\u{7f}"
        };
        self.letters_in_doubt(&[left, right], letters)
    }

    /// Rows are in doubt in which a column holds one of `letters`, a class of GLOB, or one that a JSON document may spell as an escape.
    pub(super) fn letters_in_doubt(
        &self,
        exprs: &[&Expr],
        letters: &str,
    ) -> Result<(), EngineError> {
        let mut open = exprs.to_vec();
        while let Some(expr) = open.pop() {
            if let Expr::Column(name) = expr {
                let c = self.raw(name)?;
                self.doubts.add(format!(
                    "({c} GLOB '*[{letters}]*' OR instr({c}, '\\u') > 0)"
                ));
            }
            open.extend(parts(expr));
        }
        Ok(())
    }

    /// What reading a column as more than NULL or not NULL brings with it.
    pub(super) fn read(&self, name: &str) -> super::Printed {
        let c = self.raw(name)?;
        let Some(column) = self.column(name) else {
            return Ok(c);
        };
        if declared(column) == Kind::Text {
            self.doubts.add(format!("typeof({c}) = 'blob'"));
            if is_padded(column) {
                // Blanks at the end do not count elsewhere.
                self.doubts.add(format!("{c} GLOB '* '"));
            }
        }
        Ok(if Form::of(column) == Some(Form::Uuid) {
            format!("lower({c})")
        } else {
            c
        })
    }

    /// Whatever a row holds, `expr` is calculated with as a number, or the row is in doubt.
    #[recursive::recursive]
    pub(super) fn calculable(&self, expr: &Expr) -> Result<(), EngineError> {
        let mut leaves = Vec::new();
        self.leaves(expr, &mut leaves);
        for leaf in leaves {
            let Expr::Column(name) = leaf else { continue };
            let c = self.raw(name)?;
            self.doubts.add(if self.share(leaf) == Share::Whole {
                format!("({c} NOTNULL AND typeof({c}) <> 'integer')")
            } else {
                // Infinite ones make NULL of some calculations.
                format!(
                    "({c} NOTNULL AND (typeof({c}) NOT IN {NUMBERS} OR {c} < -9e300 OR {c} > 9e300))"
                )
            });
        }
        Ok(())
    }
}
