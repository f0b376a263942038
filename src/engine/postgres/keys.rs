//! Foreign keys that refer to a table, and those that refer to the tables from which a delete cascades on.

use std::collections::{BTreeSet, HashMap, HashSet};

use sqlx::Row;

use super::{
    catalog::{self, Member, Size, oid, oids, scaled_rows},
    catalog_sql as q,
    session::Session,
    sql::{constant, identifier, table},
};
use crate::policy::table::{IncomingKey, OnDelete, Part};

/// Keys are followed so many tables far from the rule's own, and one more where that is the last; what lies beyond keeps rows.
const MAX_DEPTH: usize = 15;
/// So many keys are followed for one table: a web of tables that all refer to each other has too many ways through it.
const MAX_FOLLOWED: usize = 100;

/// One row of the catalog of constraints.
struct Key {
    id: u32,
    parent: u32,
    name: String,
    referred: u32,
    referrer: u32,
    schema: String,
    relation: String,
    partitioned: bool,
    on_delete: OnDelete,
    enforced: bool,
    /// What it sets to NULL or to a default is set further on by another key's `ON UPDATE`, or should be.
    spreads: bool,
    /// Schema and name of the referred table, and the trigger on it, that should do what the key says and is switched off.
    off: Option<(String, String, String)>,
}

/// All keys that matter to some tables.
pub(super) struct Keys {
    keys: Vec<Key>,
    /// The referring tables with everything below them.
    referrers: HashMap<u32, Vec<Member>>,
}

impl Keys {
    /// Reads the keys that refer to `tables`, and further down what refers to the tables that cascade.
    pub(super) async fn read(
        session: &mut Session,
        tables: BTreeSet<u32>,
    ) -> Result<Self, sqlx::Error> {
        let mut keys: Vec<Key> = Vec::new();
        let mut referrers: HashMap<u32, Vec<Member>> = HashMap::new();
        let mut asked = tables.clone();
        let mut next = tables;
        // One round more tells whether the last table is referred to.
        for _ in 0..=MAX_DEPTH + 1 {
            if next.is_empty() {
                break;
            }
            let found = constraints(session, &next).await?;
            let unknown: Vec<u32> = found
                .iter()
                .map(|key| key.referrer)
                .filter(|id| !referrers.contains_key(id))
                .collect();
            if !unknown.is_empty() {
                referrers.extend(catalog::tree(session, &unknown).await?);
            }
            next = found
                .iter()
                .filter(|key| key.on_delete == OnDelete::Cascade)
                .flat_map(|key| holders(&referrers, key))
                .filter(|id| !asked.contains(id))
                .collect();
            asked.extend(&next);
            keys.extend(found);
        }
        let sets: BTreeSet<u32> = keys
            .iter()
            .filter(|key| key.on_delete == OnDelete::Set)
            .map(|key| key.id)
            .collect();
        if !sets.is_empty() {
            let found = session
                .rows(constant(q::SPREADING).bind(oids(&sets)))
                .await?;
            let spreading = found
                .iter()
                .map(|row| oid(row, "id"))
                .collect::<Result<HashSet<u32>, _>>()?;
            for key in &mut keys {
                key.spreads = spreading.contains(&key.id);
            }
        }
        Ok(Self { keys, referrers })
    }

    /// The referring tables with everything below them.
    pub(super) fn referrers(&self) -> &HashMap<u32, Vec<Member>> {
        &self.referrers
    }

    /// Keys that refer to the table with these members or a part of it.
    pub(super) fn incoming(
        &self,
        members: &[Member],
        sizes: &HashMap<u32, Size>,
    ) -> Vec<IncomingKey> {
        let own: HashSet<u32> = members.iter().map(|member| member.id).collect();
        let mut walk = Walk {
            keys: self,
            sizes,
            own: &own,
            left: MAX_FOLLOWED,
        };
        walk.referring_to(&own, &mut Vec::new())
    }

    /// Surely without a page, with all its children.
    fn is_empty(&self, table: u32, sizes: &HashMap<u32, Size>) -> bool {
        self.holders_of(table).all(|member| {
            member.kind == "r"
                && sizes
                    .get(&member.id)
                    .is_some_and(|size| size.exact && size.pages == 0)
        })
    }

    fn holders_of(&self, table: u32) -> impl Iterator<Item = &Member> {
        self.referrers
            .get(&table)
            .into_iter()
            .flatten()
            .filter(|member| member.holds_rows())
    }
}

/// The referring table of a key and, when it is partitioned, all its parts: whatever a key may refer to in turn.
fn holders<'a>(
    referrers: &'a HashMap<u32, Vec<Member>>,
    key: &'a Key,
) -> impl Iterator<Item = u32> + 'a {
    let parts = referrers.get(&key.referrer).into_iter().flatten();
    std::iter::once(key.referrer).chain(
        parts
            .filter(|_| key.partitioned)
            .map(|member: &Member| member.id),
    )
}

/// One walk down the keys of one table.
struct Walk<'a> {
    keys: &'a Keys,
    sizes: &'a HashMap<u32, Size>,
    /// The rule's table and all its parts.
    own: &'a HashSet<u32>,
    /// Keys that may still be followed.
    left: usize,
}

impl Walk<'_> {
    /// The keys that refer to one of `tables`. Partitioning clones a key for every part on both sides; of a family only the
    /// head is listed, with all that it refers to. `path`: the tables from which the walk came.
    fn referring_to(&mut self, tables: &HashSet<u32>, path: &mut Vec<u32>) -> Vec<IncomingKey> {
        let keys = self.keys;
        let family: HashMap<u32, &Key> = keys
            .keys
            .iter()
            .filter(|key| tables.contains(&key.referred))
            .map(|key| (key.id, key))
            .collect();
        let mut heads: Vec<(&Key, Vec<&Key>)> = keys
            .keys
            .iter()
            .filter(|key| family.contains_key(&key.id) && !family.contains_key(&key.parent))
            .map(|key| (key, Vec::new()))
            .collect();
        for key in family.values() {
            let mut head = *key;
            while let Some(above) = family.get(&head.parent) {
                head = above;
            }
            if let Some((_, all)) = heads.iter_mut().find(|(known, _)| known.id == head.id) {
                all.push(key);
            }
        }
        heads
            .into_iter()
            .map(|(key, family)| self.incoming(key, &family, path))
            .collect()
    }

    /// `family`: the key itself and its clones.
    fn incoming(&mut self, key: &Key, family: &[&Key], path: &mut Vec<u32>) -> IncomingKey {
        let keys = self.keys;
        let referred: BTreeSet<u32> = family.iter().map(|key| key.referred).collect();
        let enforced = family.iter().all(|key| key.enforced);
        let spreads = family.iter().any(|key| key.spreads);
        let off = family.iter().find_map(|key| key.off.as_ref());
        // Rows of inheritance children are none of the key's business.
        let parts: Vec<&Member> = keys
            .holders_of(key.referrer)
            .filter(|member| key.partitioned || member.id == key.referrer)
            .collect();
        let members: HashSet<u32> = holders(&keys.referrers, key).collect();
        let circle = path.contains(&key.referrer) || members.iter().any(|id| self.own.contains(id));
        let cascades = key.on_delete == OnDelete::Cascade;
        let is_last = || !keys.keys.iter().any(|key| members.contains(&key.referred));
        let too_far =
            cascades && !circle && (path.len() >= MAX_DEPTH || self.left == 0) && !is_last();
        let followed = !(too_far || cascades && circle);
        let mut below = Vec::new();
        if followed && cascades {
            self.left = self.left.saturating_sub(1);
            path.push(key.referrer);
            below = self.referring_to(&members, path);
            path.pop();
        }
        let head = keys
            .referrers
            .get(&key.referrer)
            .into_iter()
            .flatten()
            .find(|member| member.id == key.referrer);
        IncomingKey {
            id: key.id,
            name: key.name.clone(),
            table: format!("{}.{}", key.schema, key.relation),
            table_id: key.referrer,
            schema: key.schema.clone(),
            relation: key.relation.clone(),
            partitioned: key.partitioned,
            referred: referred.into_iter().collect(),
            own: members.iter().any(|id| self.own.contains(id)),
            on_delete: key.on_delete,
            empty: keys.is_empty(key.referrer, self.sizes),
            rows: parts
                .iter()
                .map(|member| {
                    let pages = self.sizes.get(&member.id).map_or(0, |size| size.pages);
                    scaled_rows(member.rows, member.rows_of_pages, pages)
                })
                .sum(),
            may_select: head.is_some_and(|member| member.may_select),
            may_lock: head.is_some_and(|member| member.may_lock),
            row_security: head.is_none_or(|member| member.row_security),
            parts: parts
                .iter()
                .map(|member| Part {
                    id: member.id,
                    schema: member.schema.clone(),
                    name: member.name.clone(),
                })
                .collect(),
            followed,
            too_far: too_far || spreads || !enforced,
            not_enforced: !enforced,
            unseen: keys
                .referrers
                .get(&key.referrer)
                .into_iter()
                .flatten()
                .find(|member| member.pending && key.partitioned)
                .map(|part| unseen(key, part)),
            switched_off: off.map(|off| switched_off(key, off)),
            below,
        }
    }
}

fn unseen(key: &Key, part: &Member) -> String {
    format!(
        "{}.{} is being detached from {}.{}, so that nobody sees those of its rows which refer to others by {}: wait, or run: \
         ALTER TABLE … DETACH PARTITION {} FINALIZE",
        part.schema,
        part.name,
        key.schema,
        key.relation,
        key.name,
        table(&part.schema, &part.name)
    )
}

fn switched_off(key: &Key, (schema, referred, trigger): &(String, String, String)) -> String {
    format!(
        "trigger {trigger} of {schema}.{referred} is disabled, so that rows of {}.{} would still refer by {} to rows that are gone; run: \
         ALTER TABLE {} ENABLE TRIGGER {}",
        key.schema,
        key.relation,
        key.name,
        table(schema, referred),
        identifier(trigger)
    )
}

async fn constraints(session: &mut Session, ids: &BTreeSet<u32>) -> Result<Vec<Key>, sqlx::Error> {
    let rows = session.rows(constant(q::INCOMING).bind(oids(ids))).await?;
    rows.iter()
        .map(|row| {
            let on_delete: String = row.try_get("on_delete")?;
            let enforced: bool = row.try_get("enforced")?;
            let off_schema: Option<String> = row.try_get("off_schema")?;
            let off: Option<String> = row.try_get("off")?;
            let referred_name: String = row.try_get("referred_name")?;
            Ok(Key {
                id: oid(row, "id")?,
                parent: oid(row, "parent")?,
                name: row.try_get("name")?,
                referred: oid(row, "referred")?,
                referrer: oid(row, "referrer")?,
                schema: row.try_get("schema")?,
                relation: row.try_get("table_name")?,
                partitioned: row.try_get("partitioned")?,
                on_delete: match on_delete.as_str() {
                    "c" if enforced => OnDelete::Cascade,
                    "n" | "d" if enforced => OnDelete::Set,
                    _ => OnDelete::Restrict,
                },
                enforced,
                spreads: false,
                off: off_schema
                    .zip(off)
                    .map(|(schema, trigger)| (schema, referred_name, trigger)),
            })
        })
        .collect()
}
