//! Calculating. Whole numbers are exact, or real where they do not fit; everything else is calculated with floating point.

use super::{
    Printed, Printer,
    kinds::{Affinity, Kind, Share, chooses, chosen, kind},
    refuse,
};
use crate::policy::predicate::{BinaryOp, Expr, Function};

/// Far more than what floating point loses in an expression of the largest depth, in relation to what it calculates with.
const NEAR: &str = "1e-9";

impl Printer<'_> {
    /// What one calculates with: a text is no 0.
    pub(super) fn number_of(&self, expr: &Expr) -> Printed {
        if kind(expr) == Kind::Text || self.affinity(expr) == Some(Affinity::Text) {
            return refuse(
                "a text cannot be calculated with: take a column that is declared to hold numbers, and write numbers without quotes"
                    .to_owned(),
            );
        }
        if self.meant(expr) == Kind::Truth {
            return refuse("a truth value cannot be calculated with".to_owned());
        }
        self.calculable(expr)?;
        self.expr(expr)
    }

    pub(super) fn calculate(&self, left: &Expr, op: BinaryOp, right: &Expr) -> Printed {
        let one = self.number_of(left)?;
        let other = self.number_of(right)?;
        let shares = (self.share(left), self.share(right));
        let sign = match op {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Mod if shares == (Share::Whole, Share::Whole) => "%",
            BinaryOp::Mod => {
                return refuse(
                    "`%` takes whole numbers only: columns declared as INTEGER or the like, and numbers without a fraction".to_owned(),
                );
            }
            _ => "/",
        };
        if matches!(op, BinaryOp::Div | BinaryOp::Mod) {
            self.doubts.add(format!("{other} = 0"));
        }
        let printed = match (op, shares) {
            // What is kept as a whole number may be of a type that has fractions: 90.00 is kept as 90, and 90 / 100 would be 0.
            (BinaryOp::Div, (Share::Fraction, _) | (_, Share::Fraction)) => {
                format!("(1.0 * {one} / {other})")
            }
            (BinaryOp::Div, (Share::Unknown, _) | (_, Share::Unknown)) => {
                return refuse(
                    "whether a division has a fraction is not known from a type that is neither INTEGER nor one with fractions, such as REAL or NUMERIC: write `1.0 * … / …` for one that has"
                        .to_owned(),
                );
            }
            _ => format!("({one} {sign} {other})"),
        };
        if shares == (Share::Whole, Share::Whole) {
            self.overflows(&printed);
        } else {
            // Infinite ones make NULL of some calculations.
            self.doubts
                .add(format!("{printed} NOT BETWEEN -9e300 AND 9e300"));
        }
        Ok(printed)
    }

    pub(super) fn negate(&self, inner: &Expr) -> Printed {
        let printed = format!("(- {})", self.number_of(inner)?);
        if self.share(inner) == Share::Whole {
            self.overflows(&printed);
        }
        Ok(printed)
    }

    /// The smallest whole number has no counterpart: abs() fails on it. What is more than a column is printed once: calls in calls
    /// would double with every level.
    pub(super) fn abs(&self, inner: &Expr) -> Printed {
        let value = self.number_of(inner)?;
        let of = |value: &str| format!("(CASE WHEN {value} < 0 THEN - {value} ELSE {value} END)");
        Ok(match inner {
            Expr::Column(_) => of(&value),
            _ => format!("(SELECT {} FROM (SELECT {value} AS v))", of("v")),
        })
    }

    /// Elsewhere it fails; here it goes on with a fraction.
    fn overflows(&self, whole: &str) {
        self.doubts.add(format!("typeof({whole}) = 'real'"));
    }

    /// Calculated with fractions, a value is only near the one that it is elsewhere: what is near to what it is compared with is in
    /// doubt. `printed` are both sides.
    pub(super) fn not_near(
        &self,
        sides: [&Expr; 2],
        printed: [&str; 2],
    ) -> Result<(), crate::engine::EngineError> {
        if !sides.into_iter().any(|side| self.is_inexact(side)) {
            return Ok(());
        }
        let [left, right] = sides;
        let [one, other] = printed;
        let scale = format!("{} + {}", self.scale(left)?, self.scale(right)?);
        let exact = if sides.into_iter().any(|side| self.is_chosen(side)) {
            String::new()
        } else {
            // Where no fraction came about nothing was lost.
            format!("(typeof({one}) = 'real' OR typeof({other}) = 'real') AND ")
        };
        self.doubts.add(format!(
            "({exact}max({one} - {other}, {other} - {one}) <= {NEAR} * ({scale}))"
        ));
        Ok(())
    }

    /// It was calculated with what may have a fraction.
    #[recursive::recursive]
    pub(super) fn is_inexact(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Binary(
                _,
                BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod,
                _,
            ) => self.share(expr) != Share::Whole,
            Expr::Negate(inner) => self.is_inexact(inner),
            Expr::Call(function, values) if *function == Function::Abs || chooses(*function) => {
                values.iter().any(|value| self.is_inexact(value))
            }
            _ => false,
        }
    }

    /// How large the numbers are that a value was calculated with: its error is small in relation to them only.
    #[recursive::recursive]
    fn scale(&self, expr: &Expr) -> Printed {
        Ok(match expr {
            _ if !self.is_inexact(expr) => match kind(expr) {
                Kind::Text | Kind::Truth => "0".to_owned(),
                Kind::Number | Kind::Any => size(&self.expr(expr)?),
            },
            Expr::Binary(left, BinaryOp::Add | BinaryOp::Sub, right) => {
                format!("({} + {})", self.scale(left)?, self.scale(right)?)
            }
            Expr::Binary(left, BinaryOp::Mul, right) => {
                format!("({} * {})", self.scale(left)?, self.scale(right)?)
            }
            Expr::Binary(left, BinaryOp::Div, right) if self.is_factor(right) => {
                format!("({} / {})", self.scale(left)?, size(&self.expr(right)?))
            }
            Expr::Binary(..) => {
                return refuse(
                    "a sum of fractions is calculated with floating point, and how far off a division by it is nobody knows: divide by a column or a product"
                        .to_owned(),
                );
            }
            Expr::Negate(inner) => self.scale(inner)?,
            Expr::Call(Function::Abs, values) => match values.as_slice() {
                [inner] => self.scale(inner)?,
                _ => return refuse("abs takes one value".to_owned()),
            },
            Expr::Call(function, values) => {
                let all: Vec<String> = chosen(*function, values)
                    .iter()
                    .map(|value| Ok(format!("coalesce({}, 0)", self.scale(value)?)))
                    .collect::<Result<_, crate::engine::EngineError>>()?;
                format!("({})", all.join(" + "))
            }
            _ => "0".to_owned(),
        })
    }

    /// Which value it is was decided by values that are not exact.
    #[recursive::recursive]
    fn is_chosen(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Call(function, _) if chooses(*function) && self.is_inexact(expr) => true,
            _ => super::parts(expr)
                .into_iter()
                .any(|part| self.is_chosen(part)),
        }
    }

    /// A value without an error, or with one that is small in relation to itself.
    fn is_factor(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Binary(left, BinaryOp::Mul, right) => {
                self.is_factor(left) && self.is_factor(right)
            }
            Expr::Negate(inner) => self.is_factor(inner),
            Expr::Call(Function::Abs, values) => values.iter().all(|value| self.is_factor(value)),
            _ => !self.is_inexact(expr),
        }
    }
}

/// Without its sign, as a fraction: of whole numbers the smallest has no counterpart.
fn size(value: &str) -> String {
    format!("max(1.0 * {value}, -1.0 * {value})")
}
