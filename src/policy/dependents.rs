//! Rows of other tables that refer to a rule's table, and what the rule does about them.

use super::{
    check::{Refusal, reason},
    plan::RulePlan,
    predicate::Predicate,
};

/// What a rule does about rows that refer to expired ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dependents {
    /// Nothing is deleted while a table that refers to the rule's table holds rows.
    #[default]
    Refuse,
    /// A row that is referred to stays, whatever the foreign key says.
    Skip,
    /// The foreign keys decide: `ON DELETE CASCADE` takes rows along, others keep the row that they refer to.
    Cascade,
}

impl Dependents {
    /// As the policy spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "Refuse",
            Self::Skip => "Skip",
            Self::Cascade => "Cascade",
        }
    }
}

/// What happens to rows that refer to a deleted row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDelete {
    /// `NO ACTION` or `RESTRICT`: the delete fails.
    #[default]
    Restrict,
    /// `CASCADE`: they are deleted too.
    Cascade,
    /// `SET NULL` or `SET DEFAULT`: they are changed.
    Set,
}

/// A table that holds rows, by number and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The database's own number of the table.
    pub id: u32,
    /// Schema, unquoted.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
}

/// A foreign key of another (or the same) table that refers to a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IncomingKey {
    /// The database's own number of the constraint.
    pub id: u32,
    /// Constraint name.
    pub name: String,
    /// The referring table, `schema.table`, for messages.
    pub table: String,
    /// The referring table's number.
    pub table_id: u32,
    /// The referring table's schema, unquoted.
    pub schema: String,
    /// The referring table's name, unquoted.
    pub relation: String,
    /// The referring table is partitioned: its rows are in `parts`.
    pub partitioned: bool,
    /// The tables that hold the referring rows.
    pub parts: Vec<Part>,
    /// The tables, the referred one or parts of it, whose rows the key refers to.
    pub referred: Vec<u32>,
    /// The referring rows may be rows of the rule's own table.
    pub own: bool,
    /// What a delete does there.
    pub on_delete: OnDelete,
    /// The referring table has no page at all.
    pub empty: bool,
    /// Its rows, estimated; `None`: it was never analysed.
    pub rows: Option<f64>,
    /// The role may read it.
    pub may_select: bool,
    /// The role may lock its rows.
    pub may_lock: bool,
    /// Row-level security hides rows of it from this role.
    pub row_security: bool,
    /// `below` is everything that refers to the referring table. Otherwise that was not looked up: a circle, too deep, or too much.
    pub followed: bool,
    /// What a delete would do to its rows, and to rows below them, is not known: not followed as it is too deep or too much, or
    /// changed further on by another key's `ON UPDATE`, or not enforced. Its rows keep those that they refer to. (What lies on a circle
    /// was looked up elsewhere on it.)
    pub too_far: bool,
    /// The server does not enforce it: no delete fails because of it, or changes its rows.
    pub not_enforced: bool,
    /// Rows that refer by it can be seen by nobody, the server's own checks included: why, and what to do.
    pub unseen: Option<String>,
    /// The server does not do what the key says: why, and what to do.
    pub switched_off: Option<String>,
    /// Foreign keys that refer to the referring table; looked up where a delete cascades.
    pub below: Vec<IncomingKey>,
}

impl IncomingKey {
    /// The key itself and every key below it.
    pub fn with_below(&self) -> impl Iterator<Item = &Self> {
        let mut stack = vec![self];
        std::iter::from_fn(move || {
            let key = stack.pop()?;
            stack.extend(&key.below);
            Some(key)
        })
    }

    /// Why rows that refer by the key cannot be seen to, and what to do.
    #[must_use]
    pub fn hindrance(&self, dependents: Dependents) -> Option<&str> {
        let switched_off = self.switched_off.as_deref();
        let hindrance = self.unseen.as_deref();
        hindrance.or(switched_off.filter(|_| dependents == Dependents::Cascade))
    }

    /// Rows that refer by the key go along, or are changed.
    #[must_use]
    pub fn changes_rows(&self, dependents: Dependents) -> bool {
        dependents == Dependents::Cascade && self.on_delete != OnDelete::Restrict
    }

    /// A hold binds rows of the referring table.
    #[must_use]
    pub fn is_held_by(&self, hold: &HeldTable) -> bool {
        hold.ids.contains(&self.table_id)
            || self.parts.iter().any(|part| hold.ids.contains(&part.id))
    }
}

/// A hold on a table whose rows might go along, or be changed, when rows of the rule's table go.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldTable {
    /// The hold's name.
    pub hold: String,
    /// Schema of the hold's table, unquoted.
    pub schema: String,
    /// Name of the hold's table, unquoted.
    pub name: String,
    /// The hold's table and every part of it.
    pub ids: Vec<u32>,
    /// Which rows; `None`: all.
    pub filter: Option<Predicate>,
}

/// Every key whose rows a delete may reach, or that may keep a row: all that is looked at under `dependents`.
pub fn reached(keys: &[IncomingKey], dependents: Dependents) -> Vec<&IncomingKey> {
    match dependents {
        Dependents::Refuse => Vec::new(),
        Dependents::Skip => keys.iter().collect(),
        Dependents::Cascade => keys.iter().flat_map(IncomingKey::with_below).collect(),
    }
}

/// Rows would go along of which nobody looked what they take along in turn: they keep the rows that they refer to.
#[must_use]
pub fn goes_too_far(keys: &[IncomingKey], dependents: Dependents) -> bool {
    dependents == Dependents::Cascade && reached(keys, dependents).iter().any(|key| key.too_far)
}

/// Rows that refer by `key` are locked before what they refer to goes: they go too, or are changed, and something below them is held, or
/// not known. Rows of a key that is itself too far keep what they refer to: that is locked, and no such row is ever touched.
#[must_use]
pub fn must_be_locked(plan: &RulePlan, key: &IncomingKey) -> bool {
    key.changes_rows(plan.dependents)
        && !key.too_far
        && key.with_below().any(|below| {
            below.too_far || plan.held_tables.iter().any(|hold| below.is_held_by(hold))
        })
}

/// What the tables that refer to the rule's table forbid.
///
/// # Errors
/// Names the table, its key, about how many rows it has, and the way out.
pub fn check_dependents(plan: &RulePlan) -> Result<(), Refusal> {
    if plan.dependents == Dependents::Refuse {
        return refuse_referring(plan);
    }
    for key in reached(&plan.table.incoming, plan.dependents) {
        if let Some(hindrance) = key.hindrance(plan.dependents) {
            return Err(Refusal::new(
                reason::NOT_SUPPORTED,
                format!("dependents: {}: {hindrance}", plan.dependents.as_str()),
            ));
        }
        if key.row_security {
            return Err(Refusal::new(
                reason::ROW_SECURITY,
                format!(
                    "row-level security hides rows of {}, which refers to {}, from the role: use the table's owner or a role with BYPASSRLS",
                    key.table,
                    plan.table.qualified()
                ),
            ));
        }
        if !key.may_select || (must_be_locked(plan, key) && !key.may_lock) {
            let right = if key.may_select { "UPDATE" } else { "SELECT" };
            return Err(Refusal::new(
                reason::PERMISSION_DENIED,
                format!(
                    "dependents: {}: the role may not {}: GRANT {right} ON {} TO the role, and USAGE on its schema",
                    plan.dependents.as_str(),
                    if key.may_select {
                        format!(
                            "lock rows of {}, some of which may be held or have held rows below them",
                            key.table
                        )
                    } else {
                        format!(
                            "read {}, which refers to {}",
                            key.table,
                            plan.table.qualified()
                        )
                    },
                    key.table
                ),
            ));
        }
    }
    Ok(())
}

fn refuse_referring(plan: &RulePlan) -> Result<(), Refusal> {
    let referring: Vec<String> = plan
        .table
        .incoming
        .iter()
        .filter(|key| !key.empty)
        .map(in_words)
        .collect();
    if referring.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(
        reason::DEPENDENTS,
        format!(
            "{} is referred to by {}: write dependents: Skip to keep rows that are referred to, Cascade to take the referring rows along, or sweep those first",
            plan.table.qualified(),
            referring.join(", ")
        ),
    ))
}

/// `public.items (items_order_fkey, ON DELETE CASCADE, about 120 rows)`.
#[must_use]
pub fn in_words(key: &IncomingKey) -> String {
    let effect = match key.on_delete {
        OnDelete::Restrict if key.not_enforced => ", NOT ENFORCED",
        OnDelete::Restrict => "",
        OnDelete::Cascade => ", ON DELETE CASCADE",
        OnDelete::Set => ", ON DELETE SET NULL or SET DEFAULT",
    };
    let rows = match key.rows {
        Some(rows) => format!("about {rows:.0} rows"),
        None => "an unknown number of rows".to_owned(),
    };
    format!("{} ({}{effect}, {rows})", key.table, key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(table: &str, below: Vec<IncomingKey>) -> IncomingKey {
        IncomingKey {
            name: format!("{table}_fkey"),
            table: format!("public.{table}"),
            on_delete: OnDelete::Cascade,
            rows: Some(119.6),
            below,
            ..IncomingKey::default()
        }
    }

    #[test]
    fn a_key_is_named_with_its_effect_and_its_rows() {
        assert_eq!(
            in_words(&key("items", Vec::new())),
            "public.items (items_fkey, ON DELETE CASCADE, about 120 rows)"
        );
        let unknown = IncomingKey {
            rows: None,
            ..IncomingKey::default()
        };
        assert!(in_words(&unknown).contains("unknown number of rows"));
    }

    #[test]
    fn skipping_looks_at_direct_references_and_cascading_at_all_below() {
        let keys = [
            key("a", vec![key("b", vec![key("c", Vec::new())])]),
            key("d", Vec::new()),
        ];

        assert_eq!(reached(&keys, Dependents::Refuse).len(), 0);
        assert_eq!(reached(&keys, Dependents::Skip).len(), 2);
        assert_eq!(reached(&keys, Dependents::Cascade).len(), 4);
    }

    #[test]
    fn only_a_cascade_can_go_too_far() {
        let last = IncomingKey {
            too_far: true,
            ..key("c", Vec::new())
        };
        let keys = [key("a", vec![key("b", vec![last])]), key("d", Vec::new())];

        assert!(goes_too_far(&keys, Dependents::Cascade));
        assert!(!goes_too_far(&keys, Dependents::Skip));
        assert!(!goes_too_far(&keys[1..], Dependents::Cascade));
    }
}
