//! Foreign keys that refer to a table, and those that refer to the tables from which a delete cascades on.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
};

use sqlx::Row;

use super::{
    catalog::{self, SCHEMA, number},
    catalog_sql as q,
    session::Session,
    sql,
};
use crate::policy::table::{IncomingKey, OnDelete, Part};

/// Keys are followed so many tables far from the rule's own, and one more where that is the last; what lies beyond keeps rows.
const MAX_DEPTH: usize = 15;
/// So many keys are followed for one table: a web of tables that all refer to each other has too many ways through it.
const MAX_FOLLOWED: usize = 100;
/// Up to so many rows a referring table is counted.
const MOST_COUNTED: i64 = 1000;

/// Two columns of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) referred: String,
    pub(super) referring: String,
}

/// How the columns of each key are paired, by the key's number.
pub(super) type Pairs = HashMap<u32, Vec<Pair>>;

/// One key as the schema has it.
struct Key {
    child: String,
    /// In the words of the child.
    parent: String,
    on_delete: OnDelete,
    /// What changes of the referred columns changes rows of the child, too.
    follows_updates: bool,
    /// The referring columns, for messages.
    columns: Vec<String>,
    /// The referred columns; `None`: the parent has no such key.
    referred: Vec<Option<String>>,
    /// One of them is generated: it may change with any other column.
    refers_to_generated: bool,
}

/// What is known of a referring table.
#[derive(Clone, Copy, Debug)]
struct Size {
    empty: bool,
    rows: Option<f64>,
}

/// The keys that refer to `table`, with everything below them, and how their columns are paired.
pub(super) async fn read(
    session: &mut Session,
    table: &str,
) -> Result<(Vec<IncomingKey>, Pairs), sqlx::Error> {
    let mut keys: Vec<Key> = Vec::new();
    let mut last = None;
    for row in session.rows(sql::constant(q::FOREIGN_KEYS)).await? {
        let child: String = row.try_get("child")?;
        let id = (child.clone(), row.try_get::<i64, _>("id")?);
        if last.as_ref() != Some(&id) {
            let on_delete: String = row.try_get("on_delete")?;
            let on_update: String = row.try_get("on_update")?;
            keys.push(Key {
                child,
                parent: row.try_get("parent")?,
                on_delete: match on_delete.as_str() {
                    "CASCADE" => OnDelete::Cascade,
                    "SET NULL" | "SET DEFAULT" => OnDelete::Set,
                    _ => OnDelete::Restrict,
                },
                follows_updates: matches!(
                    on_update.as_str(),
                    "CASCADE" | "SET NULL" | "SET DEFAULT"
                ),
                columns: Vec::new(),
                referred: Vec::new(),
                refers_to_generated: false,
            });
            last = Some(id);
        }
        if let Some(key) = keys.last_mut() {
            key.columns.push(row.try_get("referring")?);
            key.referred.push(row.try_get("referred")?);
            key.refers_to_generated |= row.try_get::<i64, _>("generated")? != 0;
        }
    }
    let mut sizes = HashMap::new();
    for child in reachable(&keys, table) {
        sizes.insert(child.to_owned(), size(session, child).await?);
    }
    let mut walk = Walk {
        keys: &keys,
        sizes: &sizes,
        own: table,
        left: MAX_FOLLOWED,
        last: 0,
        pairs: HashMap::new(),
    };
    let incoming = walk.referring_to(table, &mut Vec::new());
    Ok((incoming, walk.pairs))
}

/// All tables that refer to one, and to those that do.
fn reachable<'k>(keys: &'k [Key], table: &'k str) -> BTreeSet<&'k str> {
    let mut found = BTreeSet::new();
    let mut open = vec![table];
    while let Some(parent) = open.pop() {
        for key in keys.iter().filter(|key| key.refers_to(parent)) {
            if found.insert(key.child.as_str()) {
                open.push(&key.child);
            }
        }
    }
    found
}

async fn size(session: &mut Session, table: &str) -> Result<Size, sqlx::Error> {
    let row = session
        .row(sql::count_some(table, MOST_COUNTED + 1).query([]))
        .await?;
    let counted: i64 = row.try_get("n")?;
    let rows = if counted <= MOST_COUNTED {
        u64::try_from(counted).ok()
    } else {
        catalog::analyzed_rows(session, table).await?
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "an estimate needs no more than 53 bits"
    )]
    let rows = rows.map(|rows| rows as f64);
    Ok(Size {
        empty: counted == 0,
        rows,
    })
}

impl Key {
    fn refers_to(&self, table: &str) -> bool {
        self.parent.eq_ignore_ascii_case(table)
    }

    /// A change of the columns of `other` changes rows that refer to them by this key.
    fn follows(&self, other: &Self) -> bool {
        self.follows_updates
            && self.refers_to(&other.child)
            && (self.refers_to_generated
                || self.referred.iter().any(|referred| match referred {
                    Some(referred) => other
                        .columns
                        .iter()
                        .any(|column| column.eq_ignore_ascii_case(referred)),
                    None => true,
                }))
    }
}

/// One walk down the keys of one table.
struct Walk<'a> {
    keys: &'a [Key],
    sizes: &'a HashMap<String, Size>,
    /// The rule's table.
    own: &'a str,
    /// Keys that may still be followed.
    left: usize,
    /// The last number that was given to a key.
    last: u32,
    pairs: Pairs,
}

impl<'a> Walk<'a> {
    /// `path`: the tables from which the walk came.
    fn referring_to(&mut self, table: &str, path: &mut Vec<&'a str>) -> Vec<IncomingKey> {
        let keys = self.keys;
        let mut found = Vec::new();
        for key in keys.iter().filter(|key| key.refers_to(table)) {
            found.push(self.incoming(key, table, path));
        }
        found
    }

    fn incoming(&mut self, key: &'a Key, table: &str, path: &mut Vec<&'a str>) -> IncomingKey {
        self.last += 1;
        let id = self.last;
        let pairs: Vec<Pair> = key
            .columns
            .iter()
            .zip(&key.referred)
            .filter_map(|(referring, referred)| {
                Some(Pair {
                    referred: referred.clone()?,
                    referring: referring.clone(),
                })
            })
            .collect();
        if pairs.len() == key.columns.len() {
            self.pairs.insert(id, pairs);
        }
        let own = key.child == self.own;
        let circle = own || path.contains(&key.child.as_str());
        let cascades = key.on_delete == OnDelete::Cascade;
        let is_last = || !self.keys.iter().any(|other| other.refers_to(&key.child));
        // Set to NULL, its rows would change others in turn, below which nobody looks.
        let changes_others =
            key.on_delete == OnDelete::Set && self.keys.iter().any(|other| other.follows(key));
        let too_far = changes_others
            || cascades && !circle && (path.len() >= MAX_DEPTH || self.left == 0) && !is_last();
        let followed = !(too_far || cascades && circle);
        let mut below = Vec::new();
        if followed && cascades {
            self.left = self.left.saturating_sub(1);
            path.push(&key.child);
            below = self.referring_to(&key.child, path);
            path.pop();
        }
        let size = self.sizes.get(&key.child);
        let child = number(&key.child);
        IncomingKey {
            id,
            // SQLite forgets the names of constraints.
            name: key.columns.join(", "),
            table: format!("{SCHEMA}.{}", key.child),
            table_id: child,
            schema: SCHEMA.to_owned(),
            relation: key.child.clone(),
            partitioned: false,
            parts: vec![Part {
                id: child,
                schema: SCHEMA.to_owned(),
                name: key.child.clone(),
            }],
            referred: vec![number(table)],
            own,
            on_delete: key.on_delete,
            empty: size.is_some_and(|size| size.empty),
            rows: size.and_then(|size| size.rows),
            may_select: true,
            may_lock: true,
            row_security: false,
            followed,
            too_far,
            not_enforced: false,
            unseen: None,
            switched_off: None,
            below,
        }
    }
}

/// What of the keys must not change while rows are deleted.
pub(super) fn told(keys: &[IncomingKey], pairs: &Pairs) -> String {
    let mut out = String::new();
    for key in keys {
        let _ = write!(
            out,
            "({:?} {:?} {:?} {} {} {:?} {})",
            key.table,
            key.name,
            key.on_delete,
            key.followed,
            key.too_far,
            pairs.get(&key.id),
            told(&key.below, pairs)
        );
    }
    out
}
