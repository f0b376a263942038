//! Documents. PostgreSQL's `jsonb` keeps what a document means, SQLite how it is written.

use super::{
    Printed, Printer,
    kinds::{Form, Kind},
    refuse,
    words::{checked, is_whole},
};
use crate::{
    engine::sqlite::sql::literal,
    policy::predicate::{BinaryOp, Expr},
};

impl Printer<'_> {
    /// Looks into a document: what it finds, as JSON.
    #[recursive::recursive]
    pub(super) fn json(&self, document: &Expr, member: &Expr) -> Printed {
        let document = match document {
            Expr::Column(name) => {
                let c = self.raw(name)?;
                let is_time = self
                    .column(name)
                    .is_some_and(|column| Form::of(column).is_some());
                if is_time || !matches!(self.meant(document), Kind::Text | Kind::Any) {
                    return refuse(format!("column `{name}` holds no documents"));
                }
                self.doubts.add(format!(
                    "(CASE WHEN {c} ISNULL THEN 0 WHEN typeof({c}) = 'blob' THEN 1 ELSE NOT json_valid({c}) END)"
                ));
                format!("CASE WHEN json_valid({c}) THEN {c} END")
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
            Expr::Text(name) => {
                let member = literal(checked(name)?);
                // Of members of the same name the last one counts elsewhere, and here the first.
                let path = literal(&format!("$.\"{name}\""));
                self.doubts.add(format!(
                    "(json_remove(({document}), {path}) -> {member}) NOTNULL"
                ));
                member
            }
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

    /// Numbers and truth values as the document spells them.
    pub(super) fn json_text(&self, document: &Expr, member: &Expr) -> Printed {
        let found = self.json(document, member)?;
        self.doubts.add(format!(
            "(CASE json_type({found}) WHEN 'object' THEN 1 WHEN 'array' THEN 1 WHEN 'integer' THEN {found} = '-0' \
             WHEN 'real' THEN {found} GLOB '*[eE]*' OR {found} GLOB '-*' AND {found} NOT GLOB '*[1-9]*' ELSE 0 END)"
        ));
        Ok(format!(
            "(CASE json_type({found}) WHEN 'null' THEN NULL WHEN 'text' THEN {found} ->> '$' ELSE {found} END)"
        ))
    }

    /// Whether `->` or `->>` finds anything; `None`: `expr` is neither.
    pub(super) fn json_is_null(&self, expr: &Expr) -> Option<Printed> {
        match expr {
            Expr::Binary(document, BinaryOp::Json, member) => Some(self.json(document, member)),
            Expr::Binary(document, BinaryOp::JsonText, member) => {
                Some(self.json(document, member).map(|found| {
                    format!("(CASE json_type({found}) WHEN 'null' THEN NULL ELSE {found} END)")
                }))
            }
            _ => None,
        }
    }
}
