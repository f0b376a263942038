//! Texts: what is done to them, and patterns.

use super::{
    Printed, Printer,
    doubt::FOLD_TO_ASCII,
    folds_case,
    kinds::{Affinity, Kind, Share, chooses, chosen, declared, kind},
    refuse,
    words::{checked, glob, is_whole},
};
use crate::{
    engine::{EngineError, sqlite::sql::literal},
    policy::predicate::{Expr, Function},
};

impl Printer<'_> {
    /// What a text is needed for. `digits`: of a whole number they do as well.
    pub(super) fn text_of(&self, expr: &Expr, digits: bool) -> Printed {
        self.has_letters(expr, digits)?;
        self.expr(expr)
    }

    #[recursive::recursive]
    fn has_letters(&self, expr: &Expr, digits: bool) -> Result<(), EngineError> {
        match expr {
            Expr::Null => Ok(()),
            Expr::Column(name) => {
                let c = self.raw(name)?;
                let whole = digits
                    && self.share(expr) == Share::Whole
                    && self
                        .column(name)
                        .is_some_and(|column| declared(column) == Kind::Number);
                match self.affinity(expr) {
                    Some(Affinity::Number) if whole => {
                        self.doubts
                            .add(format!("({c} NOTNULL AND typeof({c}) <> 'integer')"));
                    }
                    Some(Affinity::Number) => {
                        return refuse(format!(
                            "column `{name}` keeps a text of digits as a number, of which nobody knows how it was written: only a column declared as a text, or of no type, is taken for one"
                        ));
                    }
                    // Most functions end at a NUL, which no text holds elsewhere.
                    Some(Affinity::Text) => self.doubts.add(format!("instr({c}, char(0)) > 0")),
                    Some(Affinity::None) | None => self.doubts.add(format!(
                        "({c} NOTNULL AND (typeof({c}) <> 'text' OR instr({c}, char(0)) > 0))"
                    )),
                }
                Ok(())
            }
            Expr::Call(function, values) if chooses(*function) && kind(expr) != Kind::Truth => {
                chosen(*function, values)
                    .iter()
                    .try_for_each(|value| self.has_letters(value, digits))
            }
            _ if kind(expr) == Kind::Text => Ok(()),
            _ if digits && kind(expr) == Kind::Number && self.share(expr) == Share::Whole => Ok(()),
            _ => refuse(
                "a number or a truth value is no text, and its letters differ: compare it as what it is"
                    .to_owned(),
            ),
        }
    }

    pub(super) fn like(
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
        let mut tested = self.text_of(expr, false)?;
        if case_insensitive || folds_case(expr) {
            self.letters_in_doubt(&[expr], FOLD_TO_ASCII)?;
        }
        if case_insensitive {
            glob = glob.to_ascii_lowercase();
            tested = format!("lower({tested})");
        }
        let word = if negated { "NOT GLOB" } else { "GLOB" };
        Ok(format!("({tested} {word} {})", literal(&glob)))
    }

    pub(super) fn of_text(&self, function: Function, arguments: &[Expr]) -> Printed {
        let taken = match function {
            Function::Left | Function::Right => arguments.get(..1).unwrap_or(arguments),
            _ => arguments,
        };
        let printed: Vec<String> = taken
            .iter()
            .map(|argument| self.text_of(argument, false))
            .collect::<Result<_, _>>()?;
        let all = printed.join(", ");
        Ok(match function {
            Function::Lower => format!("lower({all})"),
            Function::Upper => format!("upper({all})"),
            Function::Length => format!("length({all})"),
            Function::Trim => format!("trim({all})"),
            _ => match arguments.get(1) {
                Some(Expr::Number(digits)) if is_whole(digits) => {
                    // Of 0 characters both give the empty text, where `substr(x, -0)` would give all.
                    if function == Function::Left || digits.bytes().all(|digit| digit == b'0') {
                        format!("substr({all}, 1, {digits})")
                    } else {
                        format!("substr({all}, -{digits})")
                    }
                }
                _ => {
                    return refuse(
                        "left and right take a number of characters, 0 or more".to_owned(),
                    );
                }
            },
        })
    }
}
