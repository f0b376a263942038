//! What a predicate must be besides well-formed: boolean, independent of the clock, and about columns that the table has.

use crate::policy::{near::near, table::TableFacts};

use super::{
    PredicateError,
    ast::{BinaryOp, Expr, Function, LiteralType, Test},
    literal::moving_word,
    refuse,
};

/// Refuses what can never be boolean where a truth value is needed.
pub(super) fn expect_boolean(expr: &Expr) -> Result<(), PredicateError> {
    let what = match expr {
        Expr::Not(inner) => return expect_boolean(inner),
        Expr::Binary(left, BinaryOp::And | BinaryOp::Or, right) => {
            expect_boolean(left)?;
            return expect_boolean(right);
        }
        Expr::Binary(
            _,
            BinaryOp::Eq
            | BinaryOp::NotEq
            | BinaryOp::Lt
            | BinaryOp::LtEq
            | BinaryOp::Gt
            | BinaryOp::GtEq,
            _,
        )
        | Expr::Column(_)
        | Expr::Bool(_)
        | Expr::Null
        | Expr::Is { .. }
        | Expr::DistinctFrom { .. }
        | Expr::Between { .. }
        | Expr::In { .. }
        | Expr::Like { .. }
        | Expr::Call(
            Function::Coalesce | Function::NullIf | Function::Greatest | Function::Least,
            _,
        ) => return Ok(()),
        Expr::Text(text) => format!("the text '{text}'"),
        Expr::Number(number) => format!("the number {number}"),
        Expr::Typed(_, text) => format!("the literal '{text}'"),
        Expr::Negate(_) | Expr::Binary(..) => "a calculated value".to_owned(),
        Expr::Call(function, _) => format!("the value of the function {function:?}").to_lowercase(),
    };
    refuse(format!(
        "{what} is neither true nor false: compare it with something"
    ))
}

/// Refuses words such as `now` in plain texts beside a literal of a date or time type: that type may become theirs.
pub(super) fn refuse_moving_words_beside_times(root: &Expr) -> Result<(), PredicateError> {
    let parts = parts(root);
    let time = parts.iter().any(|part| {
        matches!(
            part,
            Expr::Typed(
                LiteralType::Date | LiteralType::Timestamp | LiteralType::TimestampTz,
                _
            )
        )
    });
    if time {
        refuse_moving_words(&parts)?;
    }
    Ok(())
}

/// Checks the columns that `root` uses against the catalog.
pub(super) fn against(root: &Expr, table: &TableFacts) -> Result<(), PredicateError> {
    let parts = parts(root);
    // Whether a value is NULL is no operator of its type.
    let asked_for_null: Vec<&Expr> = parts
        .iter()
        .filter_map(|part| match part {
            Expr::Is {
                expr,
                test: Test::Null,
                ..
            } => Some(expr.as_ref()),
            _ => None,
        })
        .collect();
    let mut uses_column = false;
    let mut uses_time = false;
    for part in &parts {
        let Expr::Column(name) = part else { continue };
        let Some(column) = table.column(name) else {
            return refuse(no_column(name, table));
        };
        if column.has_fields {
            return refuse(format!(
                "column `{name}` of {} has the type {}, whose values have fields and are not allowed: IS NOT NULL asks for each field, \
                 and is not true of a value of which one is NULL",
                table.qualified(),
                column.type_name
            ));
        }
        let only_asked_for_null = asked_for_null
            .iter()
            .any(|asked| std::ptr::eq(*asked, *part));
        if !column.safe_in_predicates && !only_asked_for_null {
            return refuse(format!(
                "column `{name}` of {} has the type {}, of which only IS NULL and IS NOT NULL are allowed: what its operators do is not known",
                table.qualified(),
                column.type_name
            ));
        }
        uses_column = true;
        uses_time |= column.is_temporal;
    }
    if !uses_column {
        return refuse(
            "the expression uses no column, so it holds for every row or for none: leave `where` out",
        );
    }
    if uses_time {
        refuse_moving_words(&parts)?;
    }
    Ok(())
}

fn refuse_moving_words(parts: &[&Expr]) -> Result<(), PredicateError> {
    for part in parts {
        if let Expr::Text(text) = part
            && let Some(word) = moving_word(text)
        {
            return refuse(format!(
                "the text '{text}' beside a date or time can mean the current time (`{word}`): write the date itself, \
                 and use `expireAfter` for ages"
            ));
        }
    }
    Ok(())
}

fn no_column(name: &str, table: &TableFacts) -> String {
    let names = table.columns.iter().map(|column| column.name.as_str());
    let nearest = near(name, names, 10, usize::MAX);
    let other_case = table
        .columns
        .iter()
        .any(|column| column.name.to_lowercase() == name.to_lowercase());
    let advice = if other_case {
        " (case counts: without double quotes a name is read in lower case)"
    } else {
        ""
    };
    format!(
        "{} has no column `{name}`{advice}; its columns: {}",
        table.qualified(),
        nearest.join(", ")
    )
}

/// Every node of the tree, `root` first.
fn parts(root: &Expr) -> Vec<&Expr> {
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(expr) = open.pop() {
        found.push(expr);
        match expr {
            Expr::Column(_)
            | Expr::Text(_)
            | Expr::Number(_)
            | Expr::Bool(_)
            | Expr::Null
            | Expr::Typed(..) => {}
            Expr::Not(inner) | Expr::Negate(inner) | Expr::Is { expr: inner, .. } => {
                open.push(inner);
            }
            Expr::Binary(left, _, right) | Expr::DistinctFrom { left, right, .. } => {
                open.extend([right.as_ref(), left]);
            }
            Expr::Between {
                expr, low, high, ..
            } => open.extend([high.as_ref(), low, expr]),
            Expr::In { expr, list, .. } => {
                open.extend(list.iter().rev());
                open.push(expr);
            }
            Expr::Like { expr, pattern, .. } => open.extend([pattern.as_ref(), expr]),
            Expr::Call(_, arguments) => open.extend(arguments.iter().rev()),
        }
    }
    found
}
