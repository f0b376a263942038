//! The cases, by subject.

/// `name: case;` for each case, an expression of type [`Case`](super::case::Case): one test for each target of PostgreSQL.
macro_rules! cases {
    ($($name:ident: $case:expr;)*) => {$(
        mod $name {
            #[allow(unused_imports, reason = "not every case needs the helpers of its subject")]
            use super::*;
            use crate::conformance::{run::check, target::Target};

            pub(super) fn case() -> Case {
                $case
            }

            #[test]
            fn on_postgres() {
                check(Target::Postgres, stringify!($name), case());
            }

            #[test]
            fn through_pgbouncer() {
                check(Target::PgBouncer, stringify!($name), case());
            }

            #[test]
            fn on_the_newest_postgres() {
                check(Target::Newest, stringify!($name), case());
            }
        }
    )*};
}

/// [`cases!`] that hold on every engine: one more test for each.
macro_rules! cases_everywhere {
    ($($name:ident: $case:expr;)*) => {
        cases! { $($name: $case;)* }

        mod on_sqlite {
            use crate::conformance::{run::check, target::Target};
            $(
                #[test]
                fn $name() {
                    check(Target::Sqlite, stringify!($name), super::$name::case());
                }
            )*
        }
    };
}

mod archives;
mod claims;
mod dependents;
mod encodings;
mod hostile;
mod ledger;
mod limits;
mod meanwhile;
mod partitions;
mod predicates;
mod refusals;
mod shapes;
mod times;
mod triggers;
