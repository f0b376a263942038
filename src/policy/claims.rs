//! One policy per table: who owns a table of a database, and which claims have lapsed.
//!
//! Pure. Two tables are the same, or one is a part of the other, when they share one that holds rows; so a rule on a
//! partition and a rule on its parent conflict.

pub use crate::api::LedgerMode;

use super::check::{Refusal, reason};

/// A table that a policy's rule wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The rule's name.
    pub rule: String,
    /// `schema.table`, as a policy would spell it.
    pub table: String,
    /// The table's number, then those of the tables that hold its rows.
    pub parts: Vec<u32>,
}

/// A table that a policy has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// `namespace/name`.
    pub policy: String,
    /// The rule that it is for.
    pub rule: String,
    /// The cluster whose operator wrote it down; `None`: an offline verb, or not known.
    pub cluster: Option<String>,
    /// The table's number.
    pub table_id: u32,
    /// `schema.table` when it was claimed, as a policy would spell it.
    pub table: String,
    /// The table's number, then those of the tables that hold its rows now.
    pub parts: Vec<u32>,
}

/// The policies of one cluster that are there, as far as its operator watches: whoever it knows and does not see is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Living {
    /// The cluster.
    pub cluster: String,
    /// The namespaces that are watched; none: all.
    pub namespaces: Vec<String>,
    /// The policies in them, `namespace/name`.
    pub policies: Vec<String>,
}

impl Living {
    /// The policy was one of this cluster's and is not there any more. Of others nothing can be said: they are not gone.
    #[must_use]
    pub fn is_gone(&self, policy: &str, cluster: Option<&str>) -> bool {
        let watched = policy.split_once('/').is_some_and(|(namespace, _)| {
            self.namespaces.is_empty() || self.namespaces.iter().any(|known| known == namespace)
        });
        cluster == Some(self.cluster.as_str())
            && watched
            && !self.policies.iter().any(|known| known == policy)
    }
}

/// What becomes of the claims when a policy says what it wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Claims that end, by table: of policies that are gone, and own ones that are wanted no more.
    pub release: Vec<u32>,
    /// Positions in what is wanted: new claims of the policy.
    pub grant: Vec<usize>,
}

/// Settles what `policy` gets of what it wants.
///
/// `rules` are the names of all its rules: a rule whose table could not be looked up keeps the claim it has.
#[must_use]
pub fn settle(
    policy: &str,
    rules: &[String],
    wanted: &[Wanted],
    claimed: &[Claimed],
    living: Option<&Living>,
) -> Settlement {
    let gone = |claim: &Claimed| {
        claim.policy != policy
            && living.is_some_and(|living| living.is_gone(&claim.policy, claim.cluster.as_deref()))
    };
    let dropped = |claim: &Claimed| {
        let looked_up = wanted.iter().any(|wanted| wanted.rule == claim.rule);
        let kept = wanted.iter().any(|wanted| {
            wanted.parts.first() == Some(&claim.table_id) && wanted.table == claim.table
        });
        claim.policy == policy && !kept && (looked_up || !rules.contains(&claim.rule))
    };
    let mut settlement = Settlement::default();
    let mut standing: Vec<Claimed> = Vec::new();
    for claim in claimed {
        if gone(claim) || dropped(claim) {
            settlement.release.push(claim.table_id);
        } else {
            standing.push(claim.clone());
        }
    }
    for (n, wanted) in wanted.iter().enumerate() {
        let Some(table_id) = wanted.parts.first().copied() else {
            continue;
        };
        let has = standing
            .iter()
            .any(|claim| claim.policy == policy && claim.table_id == table_id);
        if !has && owner(policy, &wanted.parts, &standing).is_none() {
            settlement.grant.push(n);
            standing.push(Claimed {
                policy: policy.to_owned(),
                rule: wanted.rule.clone(),
                cluster: None,
                table_id,
                table: wanted.table.clone(),
                parts: wanted.parts.clone(),
            });
        }
    }
    settlement
}

/// The claim of another policy that stands against `parts`, if there is one.
#[must_use]
pub fn owner<'a>(policy: &str, parts: &[u32], claimed: &'a [Claimed]) -> Option<&'a Claimed> {
    claimed
        .iter()
        .find(|claim| claim.policy != policy && claim.parts.iter().any(|part| parts.contains(part)))
}

/// What the rule is told whose table another policy has.
#[must_use]
pub fn refusal(table: &str, claim: &Claimed) -> Refusal {
    let what = if claim.table == table {
        String::new()
    } else {
        format!(" (by its claim on {})", claim.table)
    };
    let by_hand = if claim.cluster.is_none() {
        ", or release its claim in the ledger if that policy is gone"
    } else {
        ""
    };
    Refusal::new(
        reason::TABLE_CLAIMED,
        format!(
            "{table} belongs to policy {}{what}: a table has one policy; remove the rule here or there{by_hand}",
            claim.policy
        ),
    )
}

/// Without a ledger the older policy owns: by its creation, then by its name.
#[must_use]
pub fn is_older(one: (i64, &str), other: (i64, &str)) -> bool {
    one < other
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn wanted(rule: &str, parts: &[u32]) -> Wanted {
        Wanted {
            rule: rule.into(),
            table: format!("public.t{}", parts[0]),
            parts: parts.to_vec(),
        }
    }

    fn claimed(policy: &str, rule: &str, parts: &[u32]) -> Claimed {
        Claimed {
            policy: policy.into(),
            rule: rule.into(),
            cluster: Some("here".into()),
            table_id: parts[0],
            table: format!("public.t{}", parts[0]),
            parts: parts.to_vec(),
        }
    }

    fn names(rules: &[&str]) -> Vec<String> {
        rules.iter().map(|rule| (*rule).to_owned()).collect()
    }

    #[rstest]
    #[case::the_same_table(&[1, 1], &[1, 1])]
    #[case::a_part_of_it(&[1, 2, 3], &[3, 3])]
    #[case::the_whole_of_which_it_is_a_part(&[3, 3], &[1, 2, 3])]
    #[case::two_wholes_that_share_a_part(&[1, 2, 3], &[9, 3, 4])]
    fn who_comes_second_gets_nothing(#[case] first: &[u32], #[case] second: &[u32]) {
        let claims = [claimed("a/a", "logs", first)];

        let settled = settle(
            "b/b",
            &names(&["mine"]),
            &[wanted("mine", second)],
            &claims,
            None,
        );

        assert_eq!(settled, Settlement::default());
        assert_eq!(
            owner("b/b", second, &claims).map(|claim| claim.policy.as_str()),
            Some("a/a")
        );
        assert_eq!(owner("a/a", second, &claims), None);
    }

    #[test]
    fn tables_beside_each_other_have_an_owner_each() {
        let claims = [claimed("a/a", "logs", &[1, 2])];

        let settled = settle(
            "b/b",
            &names(&["mine"]),
            &[wanted("mine", &[3, 4])],
            &claims,
            None,
        );

        assert_eq!(settled.grant, [0]);
        assert!(settled.release.is_empty());
    }

    #[test]
    fn one_policy_may_have_rules_on_a_table_and_on_its_part() {
        let settled = settle(
            "a/a",
            &names(&["all", "part"]),
            &[wanted("all", &[1, 2]), wanted("part", &[2, 2])],
            &[],
            None,
        );

        assert_eq!(settled.grant, [0, 1]);
    }

    #[test]
    fn a_rule_that_is_removed_or_means_another_table_gives_its_table_back() {
        let claims = [
            claimed("a/a", "removed", &[1, 1]),
            claimed("a/a", "moved", &[2, 2]),
            claimed("a/a", "not-looked-up", &[3, 3]),
        ];

        let settled = settle(
            "a/a",
            &names(&["moved", "not-looked-up"]),
            &[wanted("moved", &[4, 4])],
            &claims,
            None,
        );

        assert_eq!(settled.release, [1, 2]);
        assert_eq!(settled.grant, [0]);
    }

    #[test]
    fn a_table_that_was_renamed_is_claimed_by_its_new_name() {
        let old = claimed("a/a", "logs", &[1, 1]);
        let renamed = Wanted {
            table: "public.new".into(),
            ..wanted("logs", &[1, 1])
        };

        let settled = settle("a/a", &names(&["logs"]), &[renamed], &[old], None);

        assert_eq!((settled.release, settled.grant), (vec![1], vec![0]));
    }

    #[rstest]
    #[case::gone("shop/old", Some("here"), true)]
    #[case::there("shop/orders", Some("here"), false)]
    #[case::of_another_cluster("shop/old", Some("elsewhere"), false)]
    #[case::of_nobody_known("shop/old", None, false)]
    #[case::not_watched("other/old", Some("here"), false)]
    fn only_who_is_known_and_watched_can_be_seen_to_be_gone(
        #[case] policy: &str,
        #[case] cluster: Option<&str>,
        #[case] gone: bool,
    ) {
        let living = Living {
            cluster: "here".into(),
            namespaces: vec!["shop".into()],
            policies: vec!["shop/orders".into()],
        };

        assert_eq!(living.is_gone(policy, cluster), gone);
    }

    #[test]
    fn the_table_of_a_policy_that_is_gone_is_free() {
        let living = Living {
            cluster: "here".into(),
            namespaces: Vec::new(),
            policies: vec!["shop/new".into()],
        };
        let claims = [claimed("shop/old", "logs", &[1, 1])];

        let settled = settle(
            "shop/new",
            &names(&["logs"]),
            &[wanted("logs", &[1, 1])],
            &claims,
            Some(&living),
        );

        assert_eq!((settled.release, settled.grant), (vec![1], vec![0]));
    }

    #[test]
    fn the_owner_is_named() {
        let refusal = refusal("public.t3", &claimed("shop/orders", "orders", &[1, 2, 3]));

        assert_eq!(refusal.reason, "TableClaimed");
        assert!(
            refusal
                .message
                .contains("policy shop/orders (by its claim on public.t1)")
        );
    }

    #[test]
    fn without_a_ledger_the_older_policy_owns_and_of_two_of_a_second_the_first_by_name() {
        assert!(is_older((1, "z/z"), (2, "a/a")));
        assert!(is_older((1, "a/a"), (1, "b/b")));
        assert!(!is_older((1, "a/a"), (1, "a/a")));
    }
}
