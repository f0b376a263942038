//! `row-security`: row-level security is active for the role on a table of a rule. It hides rows and all statistics: a sweep would
//! take the rows that it sees and report the table clean. So a rule that enforces is refused; one that only audits counts too
//! little. Tables of no rule are none of our business.

use std::collections::BTreeMap;

use crate::policy::{
    hygiene::{
        Advice, Check, Context, Facts, Finding, Severity, facts::Table, sql_name, tree::Trees,
        words,
    },
    table::quoted,
};

pub(super) fn check(facts: &Facts, context: &Context, findings: &mut Vec<Finding>) {
    let trees = Trees::of(facts);
    let mut rules: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for ruled in &context.ruled {
        rules
            .entry(ruled.table)
            .or_default()
            .push(ruled.rule.clone());
    }
    for (id, rules) in rules {
        let Some(table) = facts.tables.get(&id) else {
            continue;
        };
        // Rows are read where they lie, so that the security of a partition counts as well.
        let hidden: Vec<&Table> = trees
            .family(table)
            .into_iter()
            .flat_map(|member| trees.parts(member))
            .filter(|part| part.detail.row_security)
            .collect();
        if !hidden.is_empty() {
            findings.push(finding(facts, table, &hidden, &rules));
        }
    }
}

fn finding(facts: &Facts, table: &Table, hidden: &[&Table], rules: &[String]) -> Finding {
    let names: Vec<String> = hidden.iter().map(|part| part.object()).collect();
    let evidence = format!(
        "row-level security is active for role {} on {} (catalog); rule {} sees only the rows that a policy of the table shows, and no statistics",
        facts.role,
        words::some(&names, 3),
        rules.join(", ")
    );
    let policy = quoted(&format!("retention {}", facts.role));
    let (mut apply, mut undo) = (Vec::new(), Vec::new());
    for part in hidden {
        let name = sql_name(&part.schema, &part.name);
        apply.push(format!(
            "CREATE POLICY {policy} ON {name} TO {} USING (true);",
            quoted(&facts.role)
        ));
        undo.push(format!("DROP POLICY {policy} ON {name};"));
    }
    Finding::new(
        Check::RowSecurity,
        Severity::Warning,
        table.object(),
        evidence,
        Advice::run(
            "the operator refuses to sweep what it cannot see whole, and statistics stay hidden as long as the security is active: give the role BYPASSRLS, or audit with the owner. Where neither may be, a policy at least shows the rows",
            apply.join("\n"),
            Some(undo.join("\n")),
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hygiene::{RuledColumn, checks::made_up::*};

    fn secured(mut table: Table) -> Table {
        table.detail.row_security = true;
        table
    }

    fn rule_on(table: u32) -> Context {
        Context {
            ruled: vec![RuledColumn {
                rule: "r".to_owned(),
                table,
                ..RuledColumn::default()
            }],
            ..Context::default()
        }
    }

    #[test]
    fn a_rule_whose_rows_are_hidden_is_warned_about() {
        let mut facts = tables([secured(table(1, "t"))]);
        facts.role = "auditor".to_owned();

        let findings = run(check, &facts, &rule_on(1));

        assert_eq!(ids(&findings), ["row-security:public.t"]);
        assert!(findings[0].evidence.contains("role auditor on public.t"));
    }

    #[test]
    fn the_security_of_a_partition_counts() {
        let facts = tables([parent(1, "p"), secured(partition(2, "p1", 1))]);

        assert_eq!(
            ids(&run(check, &facts, &rule_on(1))),
            ["row-security:public.p"]
        );
    }

    #[test]
    fn tables_of_no_rule_and_tables_without_security_are_left_alone() {
        let facts = tables([secured(table(1, "other")), table(2, "plain")]);

        assert_eq!(run(check, &facts, &rule_on(2)), []);
    }
}
