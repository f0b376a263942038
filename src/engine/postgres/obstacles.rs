//! Foreign keys as conditions: which rows cannot go, because a row that refers to them has to stay.
//!
//! The rule's own table is `k0`, a table that refers to it `k1`, and so on down the keys that cascade.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt::Write as _,
};

use sqlx::Row;

use super::{
    catalog::{oid, oids},
    catalog_sql as q, predicate,
    reach::{Reach, gone, oid_array, parts, shape},
    session::Session,
    sql::{self, Sql, constant, identifier, table},
};
use crate::{
    engine::EngineError,
    policy::{
        dependents::{Dependents, HeldTable, goes_too_far, must_be_locked, reached},
        plan::RulePlan,
        table::{IncomingKey, LeafFacts, OnDelete, TableKind},
    },
};

/// How two columns of a key are compared.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    referred: String,
    referring: String,
    operator_schema: String,
    operator: String,
    /// Schema and name of the types that the operator takes, where the column's own is another one.
    left: Option<(String, String)>,
    right: Option<(String, String)>,
    /// Schema and name of the collation, where the columns have two.
    collation: Option<(String, String)>,
}

/// Reads how the columns of `keys` are compared.
pub(super) async fn pairs(
    session: &mut Session,
    keys: &[&IncomingKey],
) -> Result<HashMap<u32, Vec<Pair>>, sqlx::Error> {
    let ids: BTreeSet<u32> = keys.iter().map(|key| key.id).collect();
    let mut pairs: HashMap<u32, Vec<Pair>> = HashMap::new();
    if ids.is_empty() {
        return Ok(pairs);
    }
    let rows = session
        .rows(constant(q::KEY_COLUMNS).bind(oids(&ids)))
        .await?;
    for row in &rows {
        let named = |schema: &str, name: &str| -> Result<Option<(String, String)>, sqlx::Error> {
            let schema: Option<String> = row.try_get(schema)?;
            let name: Option<String> = row.try_get(name)?;
            Ok(schema.zip(name))
        };
        pairs.entry(oid(row, "id")?).or_default().push(Pair {
            referred: row.try_get("referred")?,
            referring: row.try_get("referring")?,
            operator_schema: row.try_get("operator_schema")?,
            operator: row.try_get("operator")?,
            left: named("left_schema", "left_type")?,
            right: named("right_schema", "right_type")?,
            collation: named("collation_schema", "collation")?,
        });
    }
    Ok(pairs)
}

/// Everything that refers to a plan's table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Obstacles<'a> {
    pub(super) plan: &'a RulePlan,
    /// As the catalog says now.
    pub(super) keys: &'a [IncomingKey],
    pub(super) pairs: &'a HashMap<u32, Vec<Pair>>,
    /// A key with SET NULL or SET DEFAULT keeps the row that it refers to: it turned out that the server cannot set it.
    pub(super) sets: bool,
}

/// When something is true of a row.
enum When {
    Never,
    Always,
    If(String),
}

impl When {
    fn any(all: impl IntoIterator<Item = Self>) -> Self {
        let mut parts = Vec::new();
        for one in all {
            match one {
                Self::Never => {}
                Self::Always => return Self::Always,
                Self::If(condition) => parts.push(condition),
            }
        }
        if parts.is_empty() {
            Self::Never
        } else {
            Self::If(parts.join(" OR "))
        }
    }
}

impl Obstacles<'_> {
    /// ` AND NOT EXISTS …` for everything that keeps a row of `leaf` (as `k0`). `own` says whether other rows of the rule's own
    /// table count.
    pub(super) fn of(&self, leaf: u32, own: bool) -> Result<String, EngineError> {
        let mut out = String::new();
        if self.plan.dependents == Dependents::Refuse {
            return Ok(out);
        }
        let keys = self
            .keys
            .iter()
            .filter(|key| key.referred.contains(&leaf) && (own || !key.own));
        for key in keys {
            // Each in a NOT of its own: so the server can read them as joins.
            if let When::If(condition) = self.key(key, 0, None)? {
                let _ = write!(out, " AND NOT {condition}");
            }
        }
        Ok(out)
    }

    /// Rows of `leaf` may refer to each other: when some are gone, others may go.
    pub(super) fn refers_to_itself(&self, leaf: u32) -> bool {
        self.plan.dependents != Dependents::Refuse
            && self
                .keys
                .iter()
                .any(|key| key.own && key.referred.contains(&leaf))
    }

    /// A key that keeps rows only once the server has failed to change theirs.
    pub(super) fn may_be_set(&self) -> bool {
        self.plan.dependents == Dependents::Cascade
            && reached(self.keys, self.plan.dependents)
                .iter()
                .any(|key| key.on_delete == OnDelete::Set)
    }

    /// The referring tables and their parts, by schema and name, as the server names them in an error.
    pub(super) fn names(&self) -> HashSet<(String, String)> {
        let keys = match self.plan.dependents {
            // They are empty, or the rule is refused; a row may come meanwhile.
            Dependents::Refuse => self.keys.iter().collect(),
            dependents => reached(self.keys, dependents),
        };
        keys.iter()
            .flat_map(|key| {
                key.parts
                    .iter()
                    .map(|part| (part.schema.clone(), part.name.clone()))
                    .chain([(key.schema.clone(), key.relation.clone())])
            })
            .collect()
    }

    /// See [`goes_too_far`].
    pub(super) fn goes_too_far(&self) -> bool {
        goes_too_far(self.keys, self.plan.dependents)
    }

    /// The tables that refer to the plan's, and those that refer to them: whose rows a delete looks at or takes along.
    pub(super) fn tables(&self) -> impl Iterator<Item = u32> {
        let keys = self.keys.iter().flat_map(IncomingKey::with_below);
        keys.flat_map(|key| {
            let parts = key.parts.iter().map(|part| part.id);
            parts.chain([key.table_id])
        })
    }

    /// A hold may keep a row that the deletes would reach.
    pub(super) fn is_held(&self) -> bool {
        reached(self.keys, self.plan.dependents)
            .iter()
            .any(|key| self.holds(key).next().is_some())
    }

    /// A row of the table at `level` has to stay because of a row that refers to it by `key`. `above`: the key by which the table
    /// at `level` was reached itself.
    fn key(
        &self,
        key: &IncomingKey,
        level: usize,
        above: Option<&IncomingKey>,
    ) -> Result<When, EngineError> {
        let stays = match (self.plan.dependents, key.on_delete) {
            (Dependents::Cascade, OnDelete::Cascade) if key.followed => {
                let mut all = vec![self.held(key, level + 1)?];
                for below in &key.below {
                    all.push(self.key(below, level + 1, Some(key))?);
                }
                When::any(all)
            }
            (Dependents::Cascade, OnDelete::Set) if !self.sets && !key.too_far => {
                self.held(key, level + 1)?
            }
            _ => When::Always,
        };
        let mut condition = match stays {
            When::Never => return Ok(When::Never),
            When::Always => String::new(),
            When::If(condition) => format!(" AND ({condition})"),
        };
        if key.own && level == 0 {
            // A row that refers to itself is no obstacle to itself.
            condition.insert_str(0, " AND (k1.tableoid, k1.ctid) <> (k0.tableoid, k0.ctid)");
        }
        if let Some(above) = above
            && !key.referred.contains(&above.table_id)
        {
            let _ = write!(
                condition,
                " AND k{level}.tableoid = ANY ({})",
                oid_array(&key.referred)
            );
        }
        Ok(When::If(format!(
            "EXISTS (SELECT FROM {} AS k{} WHERE {}{condition})",
            from(key),
            level + 1,
            self.join(key, &alias(level), &alias(level + 1))?
        )))
    }

    fn holds(&self, key: &IncomingKey) -> impl Iterator<Item = &HeldTable> {
        self.plan
            .held_tables
            .iter()
            .filter(move |hold| key.is_held_by(hold))
    }

    /// A hold protects a row of the table at `level`, which was reached by `key`.
    fn held(&self, key: &IncomingKey, level: usize) -> Result<When, EngineError> {
        let mut all = Vec::new();
        for hold in self.holds(key) {
            let filter = match &hold.filter {
                Some(filter) => Some(format!("({}) IS TRUE", predicate::print(filter)?)),
                None => None,
            };
            let part = (!hold.ids.contains(&key.table_id)).then(|| {
                let parts: Vec<u32> = key
                    .parts
                    .iter()
                    .map(|part| part.id)
                    .filter(|id| hold.ids.contains(id))
                    .collect();
                format!("k{level}.tableoid = ANY ({})", oid_array(&parts))
            });
            all.push(match (filter, part) {
                (None, None) => When::Always,
                (Some(one), None) | (None, Some(one)) => When::If(one),
                (Some(filter), Some(part)) => When::If(format!("({part} AND {filter})")),
            });
        }
        Ok(When::any(all))
    }

    /// A row of `from` refers to one of `to` by `key`.
    fn join(&self, key: &IncomingKey, to: &str, from: &str) -> Result<String, EngineError> {
        let pairs = self
            .pairs
            .get(&key.id)
            .filter(|pairs| !pairs.is_empty())
            .ok_or_else(|| unreadable(key))?;
        let mut parts = Vec::new();
        for pair in pairs {
            let operator = pair.operator.as_str();
            if operator.is_empty() || !operator.chars().all(|c| "+-*/<>=~!@#%^&|`?".contains(c)) {
                return Err(unreadable(key));
            }
            let side = |alias: &str, column: &str, cast: &Option<(String, String)>| {
                let column = format!("{alias}.{}", identifier(column));
                match cast {
                    Some((schema, name)) => format!("{column}::{}", table(schema, name)),
                    None => column,
                }
            };
            let collation = match &pair.collation {
                Some((schema, name)) => format!(" COLLATE {}", table(schema, name)),
                None => String::new(),
            };
            parts.push(format!(
                "{}{collation} OPERATOR({}.{operator}) {}",
                side(to, &pair.referred, &pair.left),
                identifier(&pair.operator_schema),
                side(from, &pair.referring, &pair.right),
            ));
        }
        Ok(parts.join(" AND "))
    }

    /// Statements that lock the rows which the deletes of the tids in `$1` would reach, from the top down, as far as a hold may
    /// keep one of them: what is not held then cannot become so before it goes.
    pub(super) fn locks(&self, leaf: &LeafFacts) -> Result<Vec<Sql>, EngineError> {
        let mut out = Vec::new();
        let from = format!("ONLY {} AS k0", table(&leaf.schema, &leaf.name));
        for key in self
            .keys
            .iter()
            .filter(|key| key.referred.contains(&leaf.id))
        {
            self.lock(key, 0, &from, &mut out)?;
        }
        Ok(out)
    }

    fn lock(
        &self,
        key: &IncomingKey,
        level: usize,
        above: &str,
        out: &mut Vec<Sql>,
    ) -> Result<(), EngineError> {
        if !must_be_locked(self.plan, key) {
            return Ok(());
        }
        let level_below = level + 1;
        let joined = format!(
            "{above} JOIN {} AS k{level_below} ON {}",
            from(key),
            self.join(key, &alias(level), &alias(level_below))?
        );
        out.push(Sql::made(format!(
            "SELECT pg_catalog.count(*) AS n FROM (SELECT FROM {joined} \
             WHERE k0.ctid = ANY ($1::text[]::tid[]) FOR UPDATE OF k{level_below}) AS locked"
        )));
        for below in &key.below {
            self.lock(below, level_below, &joined, out)?;
        }
        Ok(())
    }

    /// Counts the rows of each table that would go along with expired rows of the plan's table; `$1` is the cutoff.
    pub(super) fn counts(&self) -> Result<Vec<(String, Sql)>, EngineError> {
        let mut ways: BTreeMap<u32, (&IncomingKey, Vec<String>)> = BTreeMap::new();
        if self.plan.dependents == Dependents::Cascade {
            for key in self.keys {
                let expired = self.expired_rows(key)?;
                self.ways(key, 0, &format!("({expired}) AS k0"), &mut ways)?;
            }
        }
        ways.into_values()
            .map(|(key, ways)| {
                let besides = if key.own {
                    let expired = sql::expired_by(self.plan, "$1")?;
                    format!(" AND ({expired}) IS NOT TRUE")
                } else {
                    String::new()
                };
                let count = format!(
                    "SELECT pg_catalog.count(*) AS n FROM {} AS t WHERE ({}){besides}",
                    from(key),
                    ways.join(" OR ")
                );
                Ok((key.table.clone(), Sql::made(count)))
            })
            .collect()
    }

    /// The expired rows to which `key` refers.
    fn expired_rows(&self, key: &IncomingKey) -> Result<String, EngineError> {
        let root = &self.plan.table;
        let expired = sql::expired_by(self.plan, "$1")?;
        if root.kind == TableKind::Partitioned && key.referred.contains(&root.id) {
            return Ok(format!(
                "SELECT * FROM {} WHERE {expired}",
                table(&root.schema, &root.name)
            ));
        }
        let columns: Vec<String> = self
            .pairs
            .get(&key.id)
            .into_iter()
            .flatten()
            .map(|pair| identifier(&pair.referred))
            .collect();
        let parts: Vec<String> = root
            .leaves
            .iter()
            .filter(|leaf| key.referred.contains(&leaf.id))
            .map(|leaf| {
                format!(
                    "SELECT {} FROM ONLY {} WHERE {expired}",
                    columns.join(", "),
                    table(&leaf.schema, &leaf.name)
                )
            })
            .collect();
        if parts.is_empty() {
            return Err(unreadable(key));
        }
        Ok(parts.join(" UNION ALL "))
    }

    /// Every way by which a delete cascades from `above` through `key` and on, as a condition on a row `t` at its end.
    fn ways<'k>(
        &self,
        key: &'k IncomingKey,
        level: usize,
        above: &str,
        into: &mut BTreeMap<u32, (&'k IncomingKey, Vec<String>)>,
    ) -> Result<(), EngineError> {
        // Rows that would take along nobody knows what keep the row that they refer to.
        if key.on_delete != OnDelete::Cascade || key.too_far {
            return Ok(());
        }
        let way = format!(
            "EXISTS (SELECT FROM {above} WHERE {})",
            self.join(key, &alias(level), "t")?
        );
        into.entry(key.table_id)
            .or_insert_with(|| (key, Vec::new()))
            .1
            .push(way);
        let below = alias(level + 1);
        let joined = format!(
            "{above} JOIN {} AS {below} ON {}",
            from(key),
            self.join(key, &alias(level), &below)?
        );
        for next in &key.below {
            self.ways(next, level + 1, &joined, into)?;
        }
        Ok(())
    }

    /// The tables that the deletes may reach: what is counted, and compared before a chunk is committed.
    pub(super) fn reach(&self) -> Reach {
        let keys = reached(self.keys, self.plan.dependents);
        let mut columns: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        let mut referred: BTreeSet<u32> = BTreeSet::new();
        let mut counted: BTreeSet<u32> = BTreeSet::new();
        let mut altered: BTreeSet<u32> = BTreeSet::new();
        let mut partitioned: BTreeSet<u32> = BTreeSet::new();
        let mut changed: BTreeSet<u32> = BTreeSet::new();
        for key in &keys {
            let names = columns.entry(key.table_id).or_default();
            let pairs = self.pairs.get(&key.id).into_iter().flatten();
            names.extend(pairs.map(|pair| pair.referring.clone()));
            for below in &key.below {
                let pairs = self.pairs.get(&below.id).into_iter().flatten();
                names.extend(pairs.map(|pair| pair.referred.clone()));
            }
            for hold in self.holds(key) {
                if let Some(filter) = &hold.filter {
                    let mut read = Vec::new();
                    predicate::columns(filter, &mut read);
                    names.extend(read);
                }
            }
            let all = || key.parts.iter().map(|part| part.id).chain([key.table_id]);
            counted.extend(all());
            if key.partitioned {
                partitioned.insert(key.table_id);
            }
            if key.changes_rows(self.plan.dependents) {
                changed.insert(key.table_id);
                if key.on_delete == OnDelete::Set {
                    altered.extend(all());
                }
            }
            if self.plan.dependents == Dependents::Cascade
                && key.on_delete == OnDelete::Cascade
                && key.followed
            {
                referred.extend(all());
            }
        }
        let roots: Vec<u32> = columns.keys().copied().collect();
        Reach {
            shape: (!roots.is_empty()).then(|| shape(&columns, &referred, &altered)),
            parts: (!partitioned.is_empty()).then(|| parts(&partitioned, &changed)),
            gone: (!roots.is_empty()).then(|| gone(&roots)),
            counted,
        }
    }

    /// The columns of the rule's own table that keys refer to.
    pub(super) fn referred_columns(&self) -> Vec<String> {
        if self.plan.dependents == Dependents::Refuse {
            return Vec::new();
        }
        self.keys
            .iter()
            .filter_map(|key| self.pairs.get(&key.id))
            .flatten()
            .map(|pair| pair.referred.clone())
            .collect()
    }
}

fn unreadable(key: &IncomingKey) -> EngineError {
    EngineError::NotSupported(format!(
        "foreign key {} of {} cannot be read from the catalog",
        key.name, key.table
    ))
}

/// The referring table as it stands in FROM: a foreign key binds the rows of partitions, but not those of inheritance children.
fn from(key: &IncomingKey) -> String {
    let name = table(&key.schema, &key.relation);
    if key.partitioned {
        name
    } else {
        format!("ONLY {name}")
    }
}

fn alias(level: usize) -> String {
    format!("k{level}")
}
