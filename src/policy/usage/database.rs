//! All tables and indexes of a database at one sample.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::{
    Break, Counters, Observation, State, Usage, Window, Windows, glance,
    window::{Advanced, Sample},
};
use crate::policy::hygiene::{
    Facts,
    facts::{Index, Kind, Table},
};

/// Samples closer together than this are not written down.
const SHORTEST_GAP: SignedDuration = SignedDuration::from_mins(5);
/// What a sweep read reaches the server's counters a little later, and what it looked at before it began counts for it, too.
const SWEEP_SLACK: SignedDuration = SignedDuration::from_mins(10);
/// A session hands its counts over to the server within a minute.
const COUNT_SLACK: SignedDuration = SignedDuration::from_mins(2);

/// What a ledger remembers of the use of a database's tables and indexes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// The server at the last sample; `None`: no sample was taken yet.
    pub state: Option<State>,
    /// Windows by the keys of their things.
    pub windows: Windows,
    /// The tables that the operator's own sweeps went to, by the numbers that their rules found.
    pub swept: HashMap<u32, Swept>,
    /// What the operator's own transactions added to the counters of tables and indexes, by their numbers.
    pub own: HashMap<u32, OwnUse>,
}

/// Sweeps of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// When the last one ended; now, while one is at it.
    pub until: Timestamp,
    /// When the last one ended that does not know what it added to the counters.
    pub unclear_until: Option<Timestamp>,
}

/// What the operator's own transactions added to the counters of a table or an index, ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnUse {
    /// Scans.
    pub reads: i64,
    /// Rows inserted, updated or deleted.
    pub writes: i64,
    /// When the sums grew last.
    pub at: Option<Timestamp>,
}

/// What a sample changes in that memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// When the sample was taken on which it rests: another one in between makes it void.
    pub previous: Option<Timestamp>,
    /// The server now.
    pub state: State,
    /// New and changed windows, with their keys.
    pub windows: Vec<(i64, Window)>,
    /// Keys of things that are gone.
    pub gone: Vec<i64>,
    /// Indexes that have another number now, the old one first: what was our own use of them goes along.
    pub renumbered: Vec<(u32, u32)>,
}

/// What is known of the use of a database's tables and indexes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// By the tables' numbers.
    pub tables: BTreeMap<u32, Observation>,
    /// By the indexes' numbers.
    pub indexes: BTreeMap<u32, Usage>,
    /// What to write down; `None`: nothing, or not yet.
    pub change: Option<Change>,
    /// What holds for all of them, in sentences.
    pub notes: Vec<String>,
}

impl Observed {
    /// Enters what is known into the facts that the checks look at.
    pub fn enter(&self, facts: &mut Facts) {
        for (id, table) in &mut facts.tables {
            if let Some(observation) = self.tables.get(id) {
                table.usage = observation.usage.clone();
            }
        }
        for index in &mut facts.indexes {
            if let Some(usage) = self.indexes.get(&index.id) {
                index.usage = usage.clone();
            }
        }
    }
}

const OF: &str = "the use of tables and indexes";
/// On one node only: said where others read, too.
const THIS_NODE: &str = "this node only: standbys count their own reads";
const NOT_COUNTED: &str = "not everybody's use is counted: track_counts is off";
const A_STANDBY: &str = "this node only: a standby counts its own reads, and keeps no samples";

/// What the counters in `facts` say together with what is remembered; `None`: nothing is. `after_days`: from how many days without
/// use on a thing is called unused.
#[must_use]
pub fn observe(facts: &Facts, memory: Option<&Memory>, after_days: u32) -> Observed {
    let Some(node) = &facts.node else {
        return Observed::default();
    };
    // A standby's counters are its own, and what is remembered are those of its primary.
    let Some(memory) = memory.filter(|_| !node.standby) else {
        let own = HashMap::new();
        let counted = Counted::of(facts, &own);
        let note = node.standby.then(|| A_STANDBY.to_owned());
        let look = |counters: Option<&Counters>| Observation {
            note: note.clone(),
            ..glance(counters, node.reset)
        };
        let mut observed = Observed {
            tables: leaves(facts)
                .map(|table| (table.id, look(counted.tables.get(&table.id))))
                .collect(),
            indexes: facts
                .indexes
                .iter()
                .map(|index| {
                    let counters = counted.of_others(index.id);
                    (index.id, glance(counters.as_ref(), node.reset).usage)
                })
                .collect(),
            change: None,
            notes: note.iter().map(|note| format!("{OF}: {note}")).collect(),
        };
        fold(facts, &mut observed);
        return observed;
    };
    let (state, broken) = match &memory.state {
        None => (State::first(node), Some(Break::FirstSeen)),
        Some(before) => before.next(node),
    };
    let previous = memory.state.as_ref().map(|state| state.node.at);
    // Somebody else was faster: the sample is older than what is remembered.
    let late = broken.is_none() && previous.is_some_and(|previous| node.at <= previous);
    let reach = Reach::of(facts, memory, node.at, previous);
    let (own, renumbered) = own_use(facts, memory);
    let counted = Counted::of(facts, &own);
    let mut sampler = Sampler {
        memory,
        state: &state,
        previous,
        broken,
        late,
        after_days,
        note: node.has_standbys.then(|| THIS_NODE.to_owned()),
        seen: HashSet::with_capacity(memory.windows.len()),
        windows: Vec::new(),
    };
    let of_table = |table: &Table| {
        let sample = Sample {
            id: table.id,
            counters: *counted.tables.get(&table.id)?,
            by_number: true,
            swept: reach.swept.contains(&table.id),
            moving: reach.moving.contains(&table.id),
            unclear: reach.unclear.contains(&table.id),
        };
        Some((table.id, sampler.sample(table_key(table), &sample)))
    };
    let tables = leaves(facts).filter_map(of_table).collect();
    let of_index = |index: &Index| {
        let sample = Sample {
            id: index.id,
            counters: counted.of_others(index.id)?,
            by_number: false,
            swept: reach.swept.contains(&index.table),
            moving: reach.moving.contains(&index.table),
            unclear: reach.unclear.contains(&index.table),
        };
        Some((index.id, sampler.sample(index_key(index), &sample).usage))
    };
    let indexes = facts.indexes.iter().filter_map(of_index).collect();
    let mut observed = Observed {
        tables,
        indexes,
        ..Observed::default()
    };
    let Sampler { seen, windows, .. } = sampler;
    let due = previous.is_none_or(|previous| node.at.duration_since(previous) >= SHORTEST_GAP);
    if !late && (broken.is_some() || due) {
        observed.change = Some(Change {
            previous,
            windows,
            gone: memory
                .windows
                .iter()
                .map(|(key, _)| key)
                .filter(|key| !seen.contains(key))
                .collect(),
            renumbered,
            state,
        });
    }
    if node.has_standbys {
        observed.notes.push(format!("{OF}: {THIS_NODE}"));
    }
    fold(facts, &mut observed);
    observed
}

struct Sampler<'a> {
    memory: &'a Memory,
    state: &'a State,
    previous: Option<Timestamp>,
    broken: Option<Break>,
    late: bool,
    after_days: u32,
    note: Option<String>,
    seen: HashSet<i64>,
    windows: Vec<(i64, Window)>,
}

impl Sampler<'_> {
    fn sample(&mut self, key: i64, sample: &Sample) -> Observation {
        if !self.seen.insert(key) {
            // Two things with one key cannot be told apart.
            return Observation::default();
        }
        let before = self.memory.windows.get(key);
        if self.late {
            return match before {
                Some(window) => self.judge(window),
                None => Observation::unknown(Break::FirstSeen.reason()),
            };
        }
        let now = self.state.node.at;
        let Advanced { window, changed } =
            Window::advance(before, sample, now, self.previous, self.broken);
        let observation = self.judge(&window);
        if changed {
            self.windows.push((key, window));
        }
        observation
    }

    fn judge(&self, window: &Window) -> Observation {
        let mut observation = window.judge(self.state, self.after_days);
        if !self.state.node.counting && !matches!(observation.usage, Usage::Used { .. }) {
            observation = Observation::unknown(NOT_COUNTED);
        }
        observation.note.clone_from(&self.note);
        observation
    }
}

/// Tables that hold rows themselves.
fn leaves(facts: &Facts) -> impl Iterator<Item = &Table> {
    facts
        .tables
        .values()
        .filter(|table| table.kind != Kind::Partitioned)
}

/// The counters without the operator's own part.
struct Counted<'a> {
    facts: &'a Facts,
    own: &'a HashMap<u32, OwnUse>,
    /// Those of tables, the scans of their indexes among them.
    tables: BTreeMap<u32, Counters>,
}

impl<'a> Counted<'a> {
    fn of(facts: &'a Facts, own: &'a HashMap<u32, OwnUse>) -> Self {
        let mut counted = Self {
            facts,
            own,
            tables: BTreeMap::new(),
        };
        let mut tables: BTreeMap<u32, Counters> = leaves(facts)
            .filter_map(|table| Some((table.id, counted.of_others(table.id)?)))
            .collect();
        for index in &facts.indexes {
            let counters = counted.of_others(index.id);
            if let (Some(counters), Some(table)) = (counters, tables.get_mut(&index.table)) {
                table.reads = table.reads.saturating_add(counters.reads);
                table.last_read = table.last_read.max(counters.last_read);
            }
        }
        counted.tables = tables;
        counted
    }

    /// Those of a table, without its indexes, or of an index.
    fn of_others(&self, id: u32) -> Option<Counters> {
        let counters = self.facts.counters.get(&id)?;
        let own = self.own.get(&id).copied().unwrap_or_default();
        Some(Counters {
            reads: counters.reads.saturating_sub(own.reads),
            writes: counters.writes.saturating_sub(own.writes),
            ..*counters
        })
    }
}

/// What is our own, by today's numbers, and the numbers of indexes that changed: an index that was rebuilt concurrently keeps
/// its counters, and with them our part.
fn own_use(facts: &Facts, memory: &Memory) -> (HashMap<u32, OwnUse>, Vec<(u32, u32)>) {
    let mut own = memory.own.clone();
    let mut renumbered = Vec::new();
    if own.is_empty() {
        return (own, renumbered);
    }
    for index in &facts.indexes {
        let before = memory.windows.get(index_key(index)).map(|window| window.id);
        let Some(before) = before.filter(|before| *before != index.id) else {
            continue;
        };
        if let Some(part) = own.remove(&before) {
            let sum = own.entry(index.id).or_default();
            sum.reads = sum.reads.saturating_add(part.reads);
            sum.writes = sum.writes.saturating_add(part.writes);
            sum.at = sum.at.max(part.at);
            renumbered.push((before, index.id));
        }
    }
    (own, renumbered)
}

/// The tables whose counters the operator's own sweeps move.
struct Reach {
    /// Ever.
    swept: HashSet<u32>,
    /// Just now.
    moving: HashSet<u32>,
    /// Since the last sample, and nobody knows by how much.
    unclear: HashSet<u32>,
}

impl Reach {
    fn of(facts: &Facts, memory: &Memory, now: Timestamp, previous: Option<Timestamp>) -> Self {
        let reached = |select: &dyn Fn(&Swept) -> bool| {
            let chosen = memory.swept.iter().filter(|(_, swept)| select(swept));
            closure(facts, chosen.map(|(id, _)| *id).collect())
        };
        let within = |until: Timestamp, slack: SignedDuration, at: Timestamp| {
            until.saturating_add(slack).is_ok_and(|until| until >= at)
        };
        let lasts = |until, at| within(until, SWEEP_SLACK, at);
        let mut moving = reached(&|swept| lasts(swept.until, now));
        let counted = |id: &u32| {
            let at = memory.own.get(id).and_then(|own| own.at);
            at.is_some_and(|at| within(at, COUNT_SLACK, now))
        };
        moving.extend(facts.tables.keys().filter(|id| counted(id)));
        let of_indexes = facts.indexes.iter().filter(|index| counted(&index.id));
        moving.extend(of_indexes.map(|index| index.table));
        Self {
            swept: reached(&|_| true),
            moving,
            unclear: reached(&|swept| {
                swept
                    .unclear_until
                    .is_some_and(|until| previous.is_none_or(|previous| lasts(until, previous)))
            }),
        }
    }
}

/// With what a sweep goes to beside its own table: the parts, and the tables that refer to them.
fn closure(facts: &Facts, roots: HashSet<u32>) -> HashSet<u32> {
    if roots.is_empty() {
        return roots;
    }
    let mut next: HashMap<u32, Vec<u32>> = HashMap::new();
    for table in facts.tables.values() {
        for parent in table.partition_of.into_iter().chain(table.inherits) {
            next.entry(parent).or_default().push(table.id);
        }
    }
    for key in &facts.foreign_keys {
        next.entry(key.referred).or_default().push(key.table);
    }
    // Rows of a partition are referred to through the tables above it.
    let mut reached = roots.clone();
    for root in &roots {
        let mut id = *root;
        while let Some(parent) = facts.tables.get(&id).and_then(|table| table.partition_of) {
            if !reached.insert(parent) {
                break;
            }
            id = parent;
        }
    }
    let mut open: Vec<u32> = reached.iter().copied().collect();
    while let Some(id) = open.pop() {
        for id in next.get(&id).into_iter().flatten() {
            if reached.insert(*id) {
                open.push(*id);
            }
        }
    }
    reached
}

/// Partitioned tables and indexes are used as their parts are.
fn fold(facts: &Facts, observed: &mut Observed) {
    let parents = facts
        .tables
        .values()
        .filter_map(|table| Some((table.id, table.partition_of?)))
        .collect::<HashMap<_, _>>();
    let tables = facts
        .tables
        .values()
        .filter(|table| table.kind == Kind::Partitioned)
        .map(|table| table.id);
    let whole = |parts: Vec<Option<&Observation>>| {
        // A part of which nothing is known makes the whole unknown, unless another one is used.
        let none = Observation::unknown("nothing is known of one of its partitions");
        let parts = parts.into_iter().map(|part| part.unwrap_or(&none).clone());
        let folded = Observation::of_parts(parts);
        folded.unwrap_or_else(|| Observation::unknown("it has no partitions"))
    };
    upwards(&parents, tables, &mut observed.tables, whole);
    let parents = facts
        .indexes
        .iter()
        .filter_map(|index| Some((index.id, index.attached_to?)))
        .collect::<HashMap<_, _>>();
    let indexes = facts
        .indexes
        .iter()
        .filter(|index| {
            let table = facts.tables.get(&index.table);
            table.is_some_and(|table| table.kind == Kind::Partitioned)
        })
        .map(|index| index.id);
    upwards(&parents, indexes, &mut observed.indexes, |parts| {
        let of_part = |usage: Option<&Usage>| {
            usage.cloned().map(|usage| Observation {
                usage,
                ..Observation::default()
            })
        };
        let parts: Vec<Option<Observation>> = parts.into_iter().map(of_part).collect();
        whole(parts.iter().map(Option::as_ref).collect()).usage
    });
}

/// Adds to what is `known` of parts what `fold` makes of them for their wholes.
fn upwards<T>(
    parents: &HashMap<u32, u32>,
    wholes: impl Iterator<Item = u32>,
    known: &mut BTreeMap<u32, T>,
    fold: impl Fn(Vec<Option<&T>>) -> T,
) {
    let wholes: HashSet<u32> = wholes.collect();
    if wholes.is_empty() {
        return;
    }
    let mut parts: HashMap<u32, Vec<u32>> = HashMap::new();
    for part in parents.keys().filter(|id| !wholes.contains(id)) {
        let mut id = *part;
        // No tree is deeper than the number of its members.
        for _ in 0..=parents.len() {
            let Some(parent) = parents.get(&id) else {
                break;
            };
            parts.entry(*parent).or_default().push(*part);
            id = *parent;
        }
    }
    for whole in wholes {
        let of = parts.get(&whole).into_iter().flatten();
        let folded = fold(of.map(|part| known.get(part)).collect());
        known.insert(whole, folded);
    }
}

fn table_key(table: &Table) -> i64 {
    key(&["table", &table.schema, &table.name])
}

/// The table by its number, which outlives a rename, and schema, name and definition: the index's own number changes with every
/// REINDEX CONCURRENTLY.
fn index_key(index: &Index) -> i64 {
    // Spelled out: what a ledger holds must not change with the code.
    let keys = index.keys.iter().map(|key| {
        format!(
            "{}/{}/{}/{}",
            key.column, key.operator_class, key.collation, key.options
        )
    });
    let included = index.included().iter().map(|column| format!("+{column}"));
    let columns: Vec<String> = keys.chain(included).collect();
    let definition = format!("{} {} {}", index.method, index.unique, columns.join(","));
    let parts = [index.expressions(), index.predicate.as_deref()]
        .map(|tree| without_places(tree.unwrap_or_default()));
    key(&[
        "index",
        &index.table.to_string(),
        &index.schema,
        &index.name,
        &definition,
        &parts[0],
        &parts[1],
    ])
}

fn key(parts: &[&str]) -> i64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    i64::from_be_bytes(first)
}

/// A tree as the server stores it says where in its statement each part stood; a copy of the index forgets that.
fn without_places(tree: &str) -> String {
    const PLACE: &str = ":location ";
    let mut parts = tree.split(PLACE);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(
            part.trim_start_matches(|letter: char| letter == '-' || letter.is_ascii_digit()),
        );
    }
    out
}
