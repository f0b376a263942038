//! The least rights that a role needs for a policy, as SQL for people to run: every statement may be run again.

use super::{
    ledger,
    sql::{identifier, literal, table},
};
use crate::policy::claims::LedgerMode;

/// A table of a rule, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedTable {
    /// Schema, unquoted.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
    /// What a rule does with it.
    pub rights: Rights,
}

/// What a rule does with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Looks at it.
    Audit,
    /// Deletes from it.
    Sweep,
    /// Deletes rows of it that it has locked first, which takes a right to change one column: this one.
    SweepLocked(String),
    /// Looks at rows of it that refer to others, and locks them.
    Lock,
    /// Writes archived rows into it.
    Fill,
    /// Makes it in its schema, and writes archived rows into it.
    Make,
}

/// For whom, and for what.
#[derive(Clone, Debug)]
pub struct GrantRequest {
    /// The role, unquoted.
    pub role: String,
    /// The database, unquoted; `None`: the one in which the statements are run.
    pub database: Option<String>,
    /// The tables; several entries for one are joined.
    pub tables: Vec<GrantedTable>,
    /// What the policy says of the ledger.
    pub ledger: LedgerMode,
}

/// The statements that give a role what a policy needs.
#[must_use]
pub fn grants(request: &GrantRequest) -> Vec<String> {
    let role = identifier(&request.role);
    let mut out = vec![connect(request, "GRANT CONNECT ON DATABASE", "TO")];
    for schema in schemas(&request.tables, |rights| *rights == Rights::Make) {
        out.push(format!("CREATE SCHEMA IF NOT EXISTS {schema}"));
    }
    for schema in schemas(&request.tables, |_| true) {
        out.push(format!("GRANT USAGE ON SCHEMA {schema} TO {role}"));
    }
    for schema in schemas(&request.tables, |rights| *rights == Rights::Make) {
        out.push(format!("GRANT CREATE ON SCHEMA {schema} TO {role}"));
    }
    for (name, rights) in tables(&request.tables) {
        out.push(format!("GRANT {rights} ON {name} TO {role}"));
    }
    match request.ledger {
        LedgerMode::Off => {}
        LedgerMode::Existing => {
            out.push(where_it_is(&[
                ledger::grant_schema(&request.role),
                ledger::grant_tables(&request.role),
            ]));
        }
        LedgerMode::Auto => {
            out.extend(ledger::creation());
            out.push(ledger::grant_schema(&request.role));
            out.push(ledger::grant_tables(&request.role));
        }
    }
    out
}

/// The statements that take it away again. The ledger itself stays.
#[must_use]
pub fn revokes(request: &GrantRequest) -> Revokes {
    let role = identifier(&request.role);
    let mut own = Vec::new();
    for (name, rights) in tables(&request.tables) {
        own.push(format!("REVOKE {rights} ON {name} FROM {role}"));
    }
    let mut shared = Vec::new();
    if request.ledger != LedgerMode::Off {
        shared.push(where_it_is(&[
            format!("REVOKE ALL ON ALL TABLES IN SCHEMA retention_operator FROM {role}"),
            format!("REVOKE ALL ON SCHEMA retention_operator FROM {role}"),
        ]));
    }
    for schema in schemas(&request.tables, |rights| *rights == Rights::Make) {
        shared.push(format!("REVOKE CREATE ON SCHEMA {schema} FROM {role}"));
    }
    for schema in schemas(&request.tables, |_| true) {
        shared.push(format!("REVOKE USAGE ON SCHEMA {schema} FROM {role}"));
    }
    shared.push(connect(request, "REVOKE CONNECT ON DATABASE", "FROM"));
    Revokes { own, shared }
}

/// What takes a role's rights away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revokes {
    /// Rights on the policy's tables, and on those that refer to them.
    pub own: Vec<String>,
    /// Rights that other policies of the database need as well, if they use the same role.
    pub shared: Vec<String>,
}

/// The statement that lets a role see what other sessions and replicas do, or does not any more.
#[must_use]
pub fn reads_all_stats(role: &str, revoke: bool) -> String {
    let role = identifier(role);
    if revoke {
        format!("REVOKE pg_read_all_stats FROM {role}")
    } else {
        format!("GRANT pg_read_all_stats TO {role}")
    }
}

/// Statements that are run where there is a ledger.
fn where_it_is(statements: &[String]) -> String {
    let statements: Vec<String> = statements
        .iter()
        .map(|statement| format!("EXECUTE {};", literal(statement)))
        .collect();
    let block = format!(
        "BEGIN IF EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'retention_operator') THEN {} END IF; END",
        statements.join(" ")
    );
    format!("DO {}", literal(&block))
}

fn connect(request: &GrantRequest, verb: &str, preposition: &str) -> String {
    let role = identifier(&request.role);
    match &request.database {
        Some(database) => format!("{verb} {} {preposition} {role}", identifier(database)),
        None => {
            let block = format!(
                "BEGIN EXECUTE pg_catalog.format({}, pg_catalog.current_database(), {}); END",
                literal(&format!("{verb} %I {preposition} %I")),
                literal(&request.role)
            );
            format!("DO {}", literal(&block))
        }
    }
}

/// Quoted, each once, in their order.
fn schemas(tables: &[GrantedTable], select: impl Fn(&Rights) -> bool) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for table in tables.iter().filter(|table| select(&table.rights)) {
        let schema = identifier(&table.schema);
        if !out.contains(&schema) {
            out.push(schema);
        }
    }
    out
}

/// Quoted names with their rights, each once, in their order; a table that is still to be made has none.
fn tables(tables: &[GrantedTable]) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    for granted in tables {
        let rights = match &granted.rights {
            Rights::Audit => "SELECT".to_owned(),
            Rights::Sweep => "SELECT, DELETE".to_owned(),
            Rights::SweepLocked(column) => {
                format!("SELECT, DELETE, UPDATE ({})", identifier(column))
            }
            Rights::Lock => "SELECT, UPDATE".to_owned(),
            Rights::Fill => "SELECT, INSERT".to_owned(),
            Rights::Make => continue,
        };
        let entry = (table(&granted.schema, &granted.name), rights);
        if !out.contains(&entry) {
            out.push(entry);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(revokes: &Revokes) -> Vec<String> {
        [revokes.own.clone(), revokes.shared.clone()].concat()
    }

    fn request(role: &str, ledger: LedgerMode) -> GrantRequest {
        let table = |name: &str, rights| GrantedTable {
            schema: "public".into(),
            name: name.into(),
            rights,
        };
        GrantRequest {
            role: role.into(),
            database: Some("shop".into()),
            tables: vec![
                table("logs", Rights::Sweep),
                table("logs", Rights::Sweep),
                table("seen", Rights::Audit),
            ],
            ledger,
        }
    }

    #[test]
    fn a_rule_that_only_audits_gets_no_right_to_delete() {
        let statements = grants(&request("r", LedgerMode::Off)).join(";\n");

        assert_eq!(
            statements,
            "GRANT CONNECT ON DATABASE \"shop\" TO \"r\";\n\
             GRANT USAGE ON SCHEMA \"public\" TO \"r\";\n\
             GRANT SELECT, DELETE ON \"public\".\"logs\" TO \"r\";\n\
             GRANT SELECT ON \"public\".\"seen\" TO \"r\""
        );
    }

    #[test]
    fn a_table_that_the_role_makes_gets_its_schema_and_no_rights_of_its_own() {
        let mut request = request("r", LedgerMode::Off);
        request.tables = vec![GrantedTable {
            schema: "old".into(),
            name: "logs".into(),
            rights: Rights::Make,
        }];

        assert_eq!(
            grants(&request)[1..],
            [
                "CREATE SCHEMA IF NOT EXISTS \"old\"",
                "GRANT USAGE ON SCHEMA \"old\" TO \"r\"",
                "GRANT CREATE ON SCHEMA \"old\" TO \"r\"",
            ]
        );
    }

    #[test]
    fn a_role_cannot_break_out_of_its_quotes() {
        for ledger in [LedgerMode::Existing, LedgerMode::Auto] {
            let odd = "r\"'; DROP TABLE logs; --\\";
            let mut request = request(odd, ledger);
            request.database = None;
            for statement in grants(&request).iter().chain(&all(&revokes(&request))) {
                let outside = without_quoted(statement);
                assert!(!outside.contains("DROP"), "{statement}");
                assert!(!outside.contains("--"), "{statement}");
            }
        }
    }

    /// What PostgreSQL does not read as a quoted name or a literal.
    fn without_quoted(statement: &str) -> String {
        let mut out = String::new();
        let mut rest = statement.chars().peekable();
        while let Some(c) = rest.next() {
            if c != '"' && c != '\'' {
                out.push(c);
                continue;
            }
            let escapes = c == '\'' && out.ends_with('E');
            while let Some(inside) = rest.next() {
                if inside == '\\' && escapes {
                    rest.next();
                } else if inside == c && rest.next_if_eq(&c).is_none() {
                    break;
                }
            }
        }
        out
    }

    #[test]
    fn what_is_granted_is_what_is_revoked() {
        let request = request("r", LedgerMode::Existing);
        let (given, taken) = (grants(&request), all(&revokes(&request)));

        for statement in given.iter().filter(|it| it.starts_with("GRANT")) {
            let revoke = statement
                .replace("GRANT", "REVOKE")
                .replace(" TO ", " FROM ");
            assert!(taken.contains(&revoke), "{revoke}");
        }
    }
}
