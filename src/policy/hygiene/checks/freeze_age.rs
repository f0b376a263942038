//! `freeze-age`: transaction ids, or multixact ids, are used up faster than old rows are frozen. At the end the server takes no
//! more writes, in any of its databases.
//!
//! A table that autovacuum will freeze soon is no finding: only one that is well past the age at which that begins, or near the
//! end. A TOAST table counts as its owner. Catalogs and temporary tables are named by the finding of their database.

use crate::policy::hygiene::{
    Advice, Check, Context, Facts, Finding, Severity,
    facts::{Aged, Freeze, Table},
    figures, object, sql_name,
    tree::Trees,
};

/// Past the age at which autovacuum freezes by itself, this much more (in percent) is what a vacuum of a large table may take.
const GRACE_PERCENT: u64 = 25;
/// At this age a table is a finding even where autovacuum was told to wait longer: two thirds of the way.
const LATE: u64 = 1_400_000_000;
/// At this age the server's own vacuums drop everything else to make it (`vacuum_failsafe_age`): three quarters of the way.
const FAILSAFE: u64 = 1_600_000_000;
/// Three million before the ids would mean the future, the server refuses to give out more.
const END: u64 = (1 << 31) - 3_000_000;

pub(super) fn check(facts: &Facts, _: &Context, findings: &mut Vec<Finding>) {
    let Some(freeze) = &facts.freeze else {
        return;
    };
    let trees = Trees::of(facts);
    let before = findings.len();
    // Partitions of one table are one finding, by the oldest: they come in that order.
    let mut found: Vec<(&Table, Vec<&Aged>, Old)> = Vec::new();
    for aged in &freeze.tables {
        let table = aged.table.and_then(|id| facts.tables.get(&id));
        let (Some(table), Some(old)) = (table, Old::new(freeze, aged)) else {
            continue;
        };
        let head = trees.head(table);
        match found.iter_mut().find(|(other, ..)| other.id == head.id) {
            Some((_, members, worst)) => {
                members.push(aged);
                worst.severity = worst.severity.max(old.severity);
            }
            None => found.push((head, vec![aged], old)),
        }
    }
    findings.extend(
        found
            .iter()
            .map(|(head, members, old)| of_table(head, members, old)),
    );
    let explained = findings.len() > before;
    for database in &freeze.databases {
        let Some(old) = Old::new(freeze, database) else {
            continue;
        };
        // Another database stops this one too, at the end; until then it is its own owner's business.
        let concerns = if database.own {
            !explained
        } else {
            old.severity == Severity::Critical
        };
        if concerns {
            findings.push(of_database(freeze, database, &old));
        }
    }
}

/// An age that is a finding.
struct Old {
    severity: Severity,
    what: &'static str,
    age: u64,
    max: u64,
    setting: &'static str,
}

impl Old {
    /// The worse of the two ages, if it is one.
    fn new(freeze: &Freeze, aged: &Aged) -> Option<Self> {
        let old = |what, age, max, setting| {
            severity(age, max).map(|severity| Self {
                severity,
                what,
                age,
                max,
                setting,
            })
        };
        let transactions = old(
            "transaction id",
            aged.age,
            freeze.max_age,
            "autovacuum_freeze_max_age",
        );
        let multixacts = old(
            "multixact id",
            aged.multixact_age,
            freeze.multixact_max_age,
            "autovacuum_multixact_freeze_max_age",
        );
        match (transactions, multixacts) {
            (Some(one), Some(other)) if other.severity > one.severity => Some(other),
            (one, other) => one.or(other),
        }
    }

    fn evidence(&self, whose: &str) -> String {
        format!(
            "the oldest {} {whose} is about {} old: autovacuum freezes from {} on ({}), at {} the server takes no more writes ({} % of the way)",
            self.what,
            figures::about(self.age),
            figures::about(self.max),
            self.setting,
            figures::about(END),
            self.age * 100 / END,
        )
    }
}

fn severity(age: u64, max_age: u64) -> Option<Severity> {
    let warning = (max_age + max_age * GRACE_PERCENT / 100).min(LATE);
    if age >= FAILSAFE {
        Some(Severity::Critical)
    } else if age >= warning {
        Some(Severity::Warning)
    } else {
        None
    }
}

fn of_table(head: &Table, members: &[&Aged], old: &Old) -> Finding {
    let first = members.first();
    let whose = match first {
        Some(first) if first.table != Some(head.id) => format!(
            "in its partition {}{}{}",
            object(&first.schema, &first.name),
            if first.by_toast {
                " (in its TOAST table)"
            } else {
                ""
            },
            match members.len() {
                1 => String::new(),
                many => format!(" (and {} more are late)", many - 1),
            }
        ),
        Some(first) if first.by_toast => "in its TOAST table".to_owned(),
        _ => "in it".to_owned(),
    };
    let statements: Vec<String> = members
        .iter()
        .map(|member| {
            format!(
                "VACUUM (FREEZE, VERBOSE) {};",
                sql_name(&member.schema, &member.name)
            )
        })
        .collect();
    let advice = Advice::run(
        "freeze it now, when the service can bear a read of the whole table; if that changes nothing, something keeps old rows: see \
         old-snapshot. If it happens again, autovacuum does not keep up: let it work faster (autovacuum_vacuum_cost_limit)",
        statements.join("\n"),
        None,
    );
    Finding::new(
        Check::FreezeAge,
        old.severity,
        head.object(),
        old.evidence(&whose),
        advice,
    )
}

fn of_database(freeze: &Freeze, database: &Aged, old: &Old) -> Finding {
    let oldest = freeze.tables.first().filter(|_| database.own);
    let (where_, advice) = match oldest {
        Some(table) if table.temporary => (
            format!(
                ", in the temporary table {}",
                object(&table.schema, &table.name)
            ),
            Advice::words(
                "end the session that made the temporary table: no other session, and no autovacuum, can freeze it",
            ),
        ),
        Some(table) => (
            format!(", in {}", object(&table.schema, &table.name)),
            Advice::run(
                "freeze the table; if that changes nothing, something keeps old rows: see old-snapshot",
                format!(
                    "VACUUM (FREEZE, VERBOSE) {};",
                    sql_name(&table.schema, &table.name)
                ),
                None,
            ),
        ),
        None => (
            String::new(),
            Advice::words(
                "connect to that database and run VACUUM (FREEZE) there, as a superuser; look for old snapshots if that changes nothing",
            ),
        ),
    };
    Finding::new(
        Check::FreezeAge,
        old.severity,
        crate::policy::table::spelled(&database.name),
        old.evidence(&format!("of the database{where_}")),
        advice,
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const MAX: u64 = 200_000_000;

    fn aged(schema: &str, name: &str, table: Option<u32>, age: u64) -> Aged {
        Aged {
            schema: schema.to_owned(),
            name: name.to_owned(),
            table,
            own: true,
            age,
            ..Aged::default()
        }
    }

    fn found(tables: Vec<Aged>, databases: Vec<Aged>) -> Vec<Finding> {
        let known = Table {
            id: 1,
            schema: "public".to_owned(),
            name: "t".to_owned(),
            ..Table::default()
        };
        let facts = Facts {
            tables: [(1, known)].into(),
            freeze: Some(Freeze {
                max_age: MAX,
                multixact_max_age: 2 * MAX,
                databases,
                tables,
            }),
            ..Facts::default()
        };
        let mut findings = Vec::new();
        check(&facts, &Context::default(), &mut findings);
        findings
    }

    #[test]
    fn partitions_of_one_table_are_one_finding_by_the_oldest() {
        let table = |id, name: &str, partition_of| Table {
            id,
            schema: "public".to_owned(),
            name: name.to_owned(),
            partition_of,
            ..Table::default()
        };
        let facts = Facts {
            tables: [
                (1, table(1, "p", None)),
                (2, table(2, "p_1", Some(1))),
                (3, table(3, "p_2", Some(1))),
            ]
            .into(),
            freeze: Some(Freeze {
                max_age: MAX,
                multixact_max_age: 2 * MAX,
                databases: Vec::new(),
                tables: vec![
                    aged("public", "p_2", Some(3), 1_700_000_000),
                    aged("public", "p_1", Some(2), 400_000_000),
                ],
            }),
            ..Facts::default()
        };
        let mut findings = Vec::new();

        check(&facts, &Context::default(), &mut findings);

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].id, "freeze-age:public.p");
        assert_eq!(findings[0].severity, Severity::Critical);
        assert!(
            findings[0]
                .evidence
                .contains("in its partition public.p_2 (and 1 more are late)"),
            "{}",
            findings[0].evidence
        );
        assert_eq!(
            findings[0]
                .advice
                .apply
                .as_deref()
                .map(|sql| sql.lines().count()),
            Some(2)
        );
    }

    #[rstest]
    #[case(MAX, None)]
    #[case(MAX + MAX / 4 - 1, None)]
    #[case(MAX + MAX / 4, Some(Severity::Warning))]
    #[case(FAILSAFE, Some(Severity::Critical))]
    fn a_table_that_autovacuum_is_about_to_freeze_is_no_finding_and_a_late_one_is(
        #[case] age: u64,
        #[case] severity: Option<Severity>,
    ) {
        let findings = found(vec![aged("public", "t", Some(1), age)], Vec::new());

        let severities: Vec<Severity> = findings.iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, Vec::from_iter(severity));
    }

    #[test]
    fn the_finding_says_how_old_how_far_and_what_to_run() {
        let toasted = Aged {
            by_toast: true,
            ..aged("public", "t", Some(1), 263_000_000)
        };

        let findings = found(vec![toasted], vec![aged("", "shop", None, 263_000_000)]);

        assert_eq!(findings.len(), 1, "the database's age is that of the table");
        assert_eq!(findings[0].id, "freeze-age:public.t");
        assert_eq!(
            findings[0].evidence,
            "the oldest transaction id in its TOAST table is about 260 million old: autovacuum freezes from 200 million on \
             (autovacuum_freeze_max_age), at 2100 million the server takes no more writes (12 % of the way)"
        );
        assert_eq!(
            findings[0].advice.apply.as_deref(),
            Some(r#"VACUUM (FREEZE, VERBOSE) "public"."t";"#)
        );
    }

    #[test]
    fn a_server_that_was_told_to_wait_nearly_to_the_end_is_warned_all_the_same() {
        assert_eq!(severity(LATE, 2_000_000_000), Some(Severity::Warning));
        assert_eq!(severity(LATE - 1, 2_000_000_000), None);
    }

    #[test]
    fn multixacts_count_by_their_own_setting() {
        let table = Aged {
            multixact_age: 600_000_000,
            ..aged("public", "t", Some(1), 1_000)
        };

        let findings = found(vec![table], Vec::new());

        assert!(
            findings[0].evidence.contains("oldest multixact id"),
            "{}",
            findings[0].evidence
        );
    }

    #[test]
    fn a_catalog_or_a_temporary_table_is_named_by_its_database() {
        let catalog = aged("pg_catalog", "pg_class", Some(1259), 500_000_000);
        let temporary = Aged {
            temporary: true,
            ..aged("pg_temp_3", "scratch", Some(7), 500_000_000)
        };
        for (table, name) in [
            (catalog, "pg_catalog.pg_class"),
            (temporary, "pg_temp_3.scratch"),
        ] {
            let findings = found(vec![table], vec![aged("", "shop", None, 500_000_000)]);

            assert_eq!(findings[0].id, "freeze-age:shop");
            assert!(
                findings[0].evidence.contains(name),
                "{}",
                findings[0].evidence
            );
        }
    }

    #[rstest]
    #[case(1_000_000_000, 0)]
    #[case(FAILSAFE, 1)]
    fn another_database_counts_only_where_it_endangers_this_one(
        #[case] age: u64,
        #[case] number: usize,
    ) {
        let other = Aged {
            own: false,
            ..aged("", "other", None, age)
        };

        assert_eq!(found(Vec::new(), vec![other]).len(), number);
    }
}
