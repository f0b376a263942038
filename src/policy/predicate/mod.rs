//! A rule's `where` and a hold's `where`: parsed, allow-listed, and kept as a tree that engines print.

pub mod ast;
mod call;
mod check;
mod literal;
mod parse;
mod tokens;

pub use ast::{BinaryOp, Expr, Function, LiteralType, Test};

use super::table::TableFacts;

/// A boolean expression over one table's own columns, made of allow-listed parts only.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicate {
    root: Expr,
}

/// Why an expression is refused; the message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PredicateError(pub String);

impl Predicate {
    /// Parses `source`; refuses everything that is not on the allow-list.
    ///
    /// # Errors
    /// Names the part that is not allowed.
    pub fn parse(source: &str) -> Result<Self, PredicateError> {
        let root = parse::parse(source)?;
        check::expect_boolean(&root)?;
        check::refuse_moving_words_beside_times(&root)?;
        Ok(Self { root })
    }

    /// Checks that every column exists in `table` and may be used in a predicate, that there is one at all, and that no text
    /// means the current time to one of them.
    ///
    /// # Errors
    /// Names the first column that may not.
    pub fn check(&self, table: &TableFacts) -> Result<(), PredicateError> {
        check::against(&self.root, table)
    }

    /// The tree, for engines to print.
    #[must_use]
    pub fn root(&self) -> &Expr {
        &self.root
    }
}

/// Shorthand for a refusal.
fn refuse<T>(message: impl Into<String>) -> Result<T, PredicateError> {
    Err(PredicateError(message.into()))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod texts;
