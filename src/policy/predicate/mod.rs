//! A rule's `where` and a hold's `where`: parsed, allow-listed, and kept as a tree that engines print.

pub mod ast;

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
        let _ = source;
        todo!()
    }

    /// Checks that every column exists in `table` and may be used in a predicate.
    ///
    /// # Errors
    /// Names the first column that may not.
    pub fn check(&self, table: &TableFacts) -> Result<(), PredicateError> {
        let _ = table;
        todo!()
    }

    /// The tree, for engines to print.
    #[must_use]
    pub fn root(&self) -> &Expr {
        &self.root
    }
}
