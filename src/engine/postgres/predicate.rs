//! Prints a predicate from its tree: every part in parentheses, every function from the system catalog.

use super::sql::{identifier, literal};
use crate::{
    engine::EngineError,
    policy::predicate::{BinaryOp, Expr, Function, LiteralType, Predicate, Test},
};

/// The predicate as SQL. Operators are left bare: the transaction's `search_path` holds the system catalog alone.
pub(super) fn print(predicate: &Predicate) -> Result<String, EngineError> {
    let mut out = String::new();
    print_expr(predicate.root(), &mut out)?;
    Ok(match predicate.root() {
        // A bare boolean column could be looked up in an index instead of the range of tids.
        Expr::Column(_) => format!("({out} IS TRUE)"),
        _ => out,
    })
}

/// The names of the columns that a predicate reads.
pub(super) fn columns(predicate: &Predicate, into: &mut Vec<String>) {
    collect(predicate.root(), into);
}

#[recursive::recursive]
fn collect(expr: &Expr, into: &mut Vec<String>) {
    match expr {
        Expr::Column(name) => into.push(name.clone()),
        Expr::Text(_) | Expr::Number(_) | Expr::Bool(_) | Expr::Null | Expr::Typed(..) => {}
        Expr::Not(inner) | Expr::Negate(inner) | Expr::Is { expr: inner, .. } => {
            collect(inner, into);
        }
        Expr::Binary(left, _, right)
        | Expr::DistinctFrom { left, right, .. }
        | Expr::Like {
            expr: left,
            pattern: right,
            ..
        } => {
            collect(left, into);
            collect(right, into);
        }
        Expr::Between {
            expr, low, high, ..
        } => {
            for part in [expr, low, high] {
                collect(part, into);
            }
        }
        Expr::In { expr, list, .. } => {
            collect(expr, into);
            for part in list {
                collect(part, into);
            }
        }
        Expr::Call(_, arguments) => {
            for part in arguments {
                collect(part, into);
            }
        }
    }
}

#[recursive::recursive]
fn print_expr(expr: &Expr, out: &mut String) -> Result<(), EngineError> {
    match expr {
        Expr::Column(name) => out.push_str(&identifier(checked(name)?)),
        Expr::Text(text) => out.push_str(&literal(checked(text)?)),
        Expr::Number(digits) => out.push_str(number(digits)?),
        Expr::Bool(true) => out.push_str("TRUE"),
        Expr::Bool(false) => out.push_str("FALSE"),
        Expr::Null => out.push_str("NULL"),
        Expr::Typed(kind, text) => {
            let kind = type_name(*kind);
            out.push_str(&format!(
                "CAST({} AS pg_catalog.{kind})",
                literal(checked(text)?)
            ));
        }
        Expr::Not(inner) => parts(out, &["(NOT ", ")"], &[inner])?,
        Expr::Negate(inner) => parts(out, &["(- ", ")"], &[inner])?,
        Expr::Binary(left, op, right) => {
            let op = format!(" {} ", operator(*op));
            parts(out, &["(", &op, ")"], &[left, right])?;
        }
        Expr::Is {
            expr,
            test,
            negated,
        } => {
            let test = format!(
                " IS {}{})",
                if *negated { "NOT " } else { "" },
                test_word(*test)
            );
            parts(out, &["(", &test], &[expr])?;
        }
        Expr::DistinctFrom {
            left,
            right,
            negated,
        } => {
            let word = if *negated {
                " IS NOT DISTINCT FROM "
            } else {
                " IS DISTINCT FROM "
            };
            parts(out, &["(", word, ")"], &[left, right])?;
        }
        Expr::Between {
            expr,
            low,
            high,
            negated,
        } => {
            let word = if *negated {
                " NOT BETWEEN "
            } else {
                " BETWEEN "
            };
            parts(out, &["(", word, " AND ", ")"], &[expr, low, high])?;
        }
        Expr::In {
            expr,
            list,
            negated,
        } => print_in(expr, list, *negated, out)?,
        Expr::Like {
            expr,
            pattern,
            case_insensitive,
            negated,
            escape,
        } => {
            let word = format!(
                " {}{} ",
                if *negated { "NOT " } else { "" },
                if *case_insensitive { "ILIKE" } else { "LIKE" }
            );
            let escape = match escape {
                Some(c) => format!(" ESCAPE {})", literal(checked(&c.to_string())?)),
                None => ")".to_owned(),
            };
            parts(out, &["(", &word, &escape], &[expr, pattern])?;
        }
        Expr::Call(function, arguments) => {
            out.push_str(function_name(*function));
            print_list(arguments, out)?;
        }
    }
    Ok(())
}

/// Words and expressions by turns; one word more than expressions.
fn parts(out: &mut String, words: &[&str], exprs: &[&Expr]) -> Result<(), EngineError> {
    for (n, word) in words.iter().enumerate() {
        out.push_str(word);
        if let Some(expr) = exprs.get(n) {
            print_expr(expr, out)?;
        }
    }
    Ok(())
}

fn print_in(
    expr: &Expr,
    list: &[Expr],
    negated: bool,
    out: &mut String,
) -> Result<(), EngineError> {
    let word = if negated { " NOT IN " } else { " IN " };
    parts(out, &["(", word], &[expr])?;
    print_list(list, out)?;
    out.push(')');
    Ok(())
}

fn print_list(list: &[Expr], out: &mut String) -> Result<(), EngineError> {
    out.push('(');
    for (n, expr) in list.iter().enumerate() {
        if n > 0 {
            out.push_str(", ");
        }
        print_expr(expr, out)?;
    }
    out.push(')');
    Ok(())
}

/// The protocol ends a text at its first NUL: what follows would silently be lost.
fn checked(text: &str) -> Result<&str, EngineError> {
    if text.contains('\0') {
        return Err(EngineError::Predicate(
            "where holds a NUL character, which PostgreSQL cannot store: remove it".to_owned(),
        ));
    }
    Ok(text)
}

fn number(digits: &str) -> Result<&str, EngineError> {
    let plain = digits
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    let starts_well = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    // Two signs in a row would begin a comment.
    if plain && starts_well && !digits.contains("--") {
        Ok(digits)
    } else {
        Err(EngineError::Predicate(format!(
            "where holds {digits:?}, which is not a number"
        )))
    }
}

const fn type_name(kind: LiteralType) -> &'static str {
    match kind {
        LiteralType::Date => "date",
        LiteralType::Timestamp => "timestamp",
        LiteralType::TimestampTz => "timestamptz",
        LiteralType::Interval => "interval",
        LiteralType::Uuid => "uuid",
    }
}

const fn test_word(test: Test) -> &'static str {
    match test {
        Test::Null => "NULL",
        Test::True => "TRUE",
        Test::False => "FALSE",
        Test::Unknown => "UNKNOWN",
    }
}

const fn operator(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::And => "AND",
        BinaryOp::Or => "OR",
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
        BinaryOp::Mod => "%",
        BinaryOp::Concat => "||",
        BinaryOp::JsonText => "->>",
        BinaryOp::Json => "->",
    }
}

const fn function_name(function: Function) -> &'static str {
    match function {
        Function::Lower => "pg_catalog.lower",
        Function::Upper => "pg_catalog.upper",
        Function::Length => "pg_catalog.length",
        Function::Trim => "pg_catalog.btrim",
        Function::Left => "pg_catalog.left",
        Function::Right => "pg_catalog.right",
        Function::Abs => "pg_catalog.abs",
        // Parts of the grammar, which no schema can redefine.
        Function::Coalesce => "COALESCE",
        Function::NullIf => "NULLIF",
        Function::Greatest => "GREATEST",
        Function::Least => "LEAST",
    }
}

#[cfg(test)]
#[path = "../../../fuzz/judges/postgres.rs"]
mod judge;

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn column(name: &str) -> Box<Expr> {
        Box::new(Expr::Column(name.to_owned()))
    }

    fn text(text: &str) -> Box<Expr> {
        Box::new(Expr::Text(text.to_owned()))
    }

    fn printed(expr: &Expr) -> String {
        let mut out = String::new();
        print_expr(expr, &mut out).unwrap();
        out
    }

    #[rstest]
    #[case(
        Expr::Binary(column("a\"b"), BinaryOp::NotEq, text("x' OR 1=1 --")),
        r#"("a""b" <> 'x'' OR 1=1 --')"#
    )]
    #[case(
        Expr::Negate(Box::new(Expr::Negate(Box::new(Expr::Number("1".to_owned()))))),
        "(- (- 1))"
    )]
    #[case(
        Expr::Like { expr: column("a"), pattern: text(r"5\%"), case_insensitive: true, negated: true, escape: Some('\\') },
        r#"("a" NOT ILIKE E'5\\%' ESCAPE E'\\')"#
    )]
    #[case(
        Expr::Between { expr: column("a"), low: text("1"), high: text("2"), negated: true },
        r#"("a" NOT BETWEEN '1' AND '2')"#
    )]
    #[case(
        Expr::In { expr: column("a"), list: vec![*text("1"), Expr::Null], negated: false },
        r#"("a" IN ('1', NULL))"#
    )]
    #[case(
        Expr::Is { expr: column("a"), test: Test::Unknown, negated: true },
        r#"("a" IS NOT UNKNOWN)"#
    )]
    #[case(
        Expr::Call(Function::Coalesce, vec![*column("a"), Expr::Typed(LiteralType::Date, "2024-01-01".to_owned())]),
        r#"COALESCE("a", CAST('2024-01-01' AS pg_catalog.date))"#
    )]
    #[case(
        Expr::Binary(
            Box::new(Expr::Not(column("a"))),
            BinaryOp::And,
            Box::new(Expr::DistinctFrom { left: column("b"), right: Box::new(Expr::Bool(true)), negated: false }),
        ),
        r#"((NOT "a") AND ("b" IS DISTINCT FROM TRUE))"#
    )]
    fn a_tree_is_printed_in_parentheses(#[case] expr: Expr, #[case] expected: &str) {
        assert_eq!(printed(&expr), expected);
    }

    #[rstest]
    #[case(Expr::Number("1--1".to_owned()))]
    #[case(Expr::Number("1; DROP".to_owned()))]
    #[case(Expr::Number("-1".to_owned()))]
    #[case(Expr::Text("a\0b".to_owned()))]
    #[case(Expr::Column("a\0b".to_owned()))]
    fn what_a_statement_cannot_hold_is_refused(#[case] expr: Expr) {
        let mut out = String::new();

        assert!(print_expr(&expr, &mut out).is_err());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_000))]

        /// The fuzz target's property, over texts made of the grammar's own words and of what must never come through.
        #[test]
        fn whatever_is_accepted_is_printed_as_one_expression_over_quoted_columns(
            source in crate::policy::predicate::texts::of_the_grammars_words()
        ) {
            if let Ok(predicate) = Predicate::parse(&source)
                && let Ok(printed) = print(&predicate)
            {
                let mut expected = Vec::new();
                columns(&predicate, &mut expected);
                proptest::prop_assert_eq!(judge::columns(&printed), Ok(expected), "{} printed as {}", source, printed);
            }
        }
    }

    #[rstest]
    #[case("1; DROP TABLE t")]
    #[case("(\"a\" = 1) -- x")]
    #[case("(\"a\" = 1) /* x */")]
    #[case("(\"a\" = $1)")]
    #[case("(SELECT 1)")]
    #[case("pg_sleep(1)")]
    #[case("pg_catalog.pg_sleep(1)")]
    #[case("(\"a\" = 'x\\')")]
    #[case("(\"a\" = E'x\\' OR 1=1)")]
    #[case("(\"a\" = 1")]
    #[case("\"a\" = 1)")]
    #[case("(1x)")]
    #[case("(a)")]
    fn the_judge_sees_what_must_not_come_through(#[case] printed: &str) {
        assert!(judge::columns(printed).is_err());
    }

    #[test]
    fn every_column_of_a_predicate_is_named() {
        let expr = Expr::In {
            expr: Box::new(Expr::Call(Function::Lower, vec![*column("a")])),
            list: vec![Expr::Binary(column("b"), BinaryOp::Concat, column("c"))],
            negated: false,
        };
        let mut names = Vec::new();

        collect(&expr, &mut names);

        assert_eq!(names, ["a", "b", "c"]);
    }
}
