//! The tree of an allowed predicate. What has no variant here cannot reach a database.

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A column of the rule's table, unquoted.
    Column(String),
    /// A string literal, unescaped.
    Text(String),
    /// A number, digits as written (`12`, `1.5`, `1e3`).
    Number(String),
    /// `TRUE`, `FALSE`.
    Bool(bool),
    /// `NULL`.
    Null,
    /// `DATE '2024-01-31'` and its like.
    Typed(LiteralType, String),
    /// `NOT x`.
    Not(Box<Expr>),
    /// `-x`.
    Negate(Box<Expr>),
    /// `left op right`.
    Binary(Box<Expr>, BinaryOp, Box<Expr>),
    /// `x IS [NOT] NULL|TRUE|FALSE|UNKNOWN`.
    Is {
        /// What is tested.
        expr: Box<Expr>,
        /// For what.
        test: Test,
        /// `IS NOT`.
        negated: bool,
    },
    /// `left IS [NOT] DISTINCT FROM right`.
    DistinctFrom {
        /// Left side.
        left: Box<Expr>,
        /// Right side.
        right: Box<Expr>,
        /// `IS NOT DISTINCT FROM`.
        negated: bool,
    },
    /// `x [NOT] BETWEEN low AND high`.
    Between {
        /// What is compared.
        expr: Box<Expr>,
        /// Lower bound, included.
        low: Box<Expr>,
        /// Upper bound, included.
        high: Box<Expr>,
        /// `NOT BETWEEN`.
        negated: bool,
    },
    /// `x [NOT] IN (a, b, …)`; the list is never empty.
    In {
        /// What is looked for.
        expr: Box<Expr>,
        /// Where.
        list: Vec<Expr>,
        /// `NOT IN`.
        negated: bool,
    },
    /// `x [NOT] LIKE|ILIKE pattern [ESCAPE c]`.
    Like {
        /// What is matched.
        expr: Box<Expr>,
        /// The pattern.
        pattern: Box<Expr>,
        /// `ILIKE`.
        case_insensitive: bool,
        /// `NOT LIKE`.
        negated: bool,
        /// The escape character, if stated.
        escape: Option<char>,
    },
    /// An allow-listed function.
    Call(Function, Vec<Expr>),
}

/// The types that a literal may state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteralType {
    /// `DATE '…'`.
    Date,
    /// `TIMESTAMP '…'`.
    Timestamp,
    /// `TIMESTAMPTZ '…'`, `TIMESTAMP WITH TIME ZONE '…'`.
    TimestampTz,
    /// `INTERVAL '…'`.
    Interval,
    /// `UUID '…'`.
    Uuid,
}

/// What `IS` tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// `NULL`
    Null,
    /// `TRUE`
    True,
    /// `FALSE`
    False,
    /// `UNKNOWN`
    Unknown,
}

/// Operators between two expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// `AND`
    And,
    /// `OR`
    Or,
    /// `=`
    Eq,
    /// `<>`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `||`
    Concat,
    /// `->>`: a JSON member as text.
    JsonText,
    /// `->`: a JSON member as JSON.
    Json,
}

/// Immutable functions of the system catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `lower(text)`
    Lower,
    /// `upper(text)`
    Upper,
    /// `length(text)`
    Length,
    /// `btrim(text[, chars])`, also written `trim`.
    Trim,
    /// `left(text, n)`
    Left,
    /// `right(text, n)`
    Right,
    /// `abs(number)`
    Abs,
    /// `coalesce(a, b, …)`
    Coalesce,
    /// `nullif(a, b)`
    NullIf,
    /// `greatest(a, b, …)`
    Greatest,
    /// `least(a, b, …)`
    Least,
}
