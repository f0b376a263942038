//! Random tables, rows, conditions.

use fastrand::Rng;

/// A table with rows, and a rule on it.
pub struct World {
    /// Makes `t` and fills it, statement by statement.
    pub setup: Vec<String>,
    /// `expireAfter`.
    pub age: String,
    /// The rule's `where`.
    pub condition: Option<String>,
    /// The holds' `where`.
    pub holds: Vec<String>,
    /// The most rows that a chunk may take.
    pub chunk_rows: u64,
    /// `timestamptz`, `timestamp` or `date`.
    kind: &'static str,
}

/// Columns that conditions read, besides the time: name, type, and an expression over `n` that fills it.
const COLUMNS: &[(&str, &str, &str)] = &[
    ("n", "int", "nullif(n % 7, 3) - 2"),
    (
        "word",
        "text",
        "(ARRAY['open', 'Closed', '', NULL, 'a%b', 'é', ' x ', 'it''s'])[n % 8 + 1]",
    ),
    ("flag", "boolean", "(ARRAY[true, false, NULL])[n % 3 + 1]"),
    ("price", "numeric(8,2)", "nullif((n % 11) * 1.25, 2.5)"),
    (
        "day",
        "date",
        "CASE WHEN n % 5 = 0 THEN NULL ELSE DATE '2024-01-01' + n % 60 END",
    ),
    (
        "ratio",
        "float8",
        "(ARRAY[0, -0.5, 'NaN', 'Infinity', NULL, 2.5])[n % 6 + 1]::float8",
    ),
    (
        "doc",
        "jsonb",
        "(ARRAY['{\"a\": 1}', '{\"a\": \"x\"}', '{}', NULL, '[1]', '{\"a\": null}'])[n % 6 + 1]::jsonb",
    ),
    (
        "code",
        "char(3)",
        "(ARRAY['a', 'ab', 'abc', NULL])[n % 4 + 1]",
    ),
];

impl World {
    pub fn random(rng: &mut Rng) -> Self {
        let kind = *pick(rng, &["timestamptz", "timestamp", "date"]);
        let columns = columns(rng, kind);
        let mut setup = Vec::new();
        let partitioned = rng.u8(0..4) == 0;
        let keyed = !partitioned && rng.bool();
        let definition = columns.join(", ");
        if partitioned {
            partitions(rng, &definition, &mut setup);
        } else {
            let key = if keyed { ", PRIMARY KEY (id)" } else { "" };
            let storage = pick(rng, &["", " WITH (fillfactor = 40)"]);
            setup.push(format!("CREATE TABLE t ({definition}{key}){storage}"));
        }
        setup.push(fill(rng, kind));
        if !keyed {
            let again = "INSERT INTO t SELECT * FROM t WHERE id % 5 = 0";
            setup.extend(rng.bool().then(|| again.to_owned()));
        }
        for more in [
            "CREATE INDEX ON t (at)",
            "CREATE INDEX ON t (n, at)",
            "CREATE INDEX ON t (flag)",
            "ANALYZE t",
            "UPDATE t SET pad = 'moved' WHERE id % 3 = 1",
            "DELETE FROM t WHERE id % 9 = 4",
            "VACUUM t",
            "ALTER TABLE t ADD late int DEFAULT 5",
        ] {
            setup.extend((rng.u8(0..3) == 0).then(|| more.to_owned()));
        }
        Self {
            setup,
            age: pick(rng, &["365d", "1y", "3mo 2d", "36h", "0s"]).to_string(),
            condition: (rng.u8(0..4) > 0).then(|| predicate(rng, 3)),
            holds: (0..rng.u8(0..3)).map(|_| predicate(rng, 2)).collect(),
            chunk_rows: rng.u64(20..2000),
            kind,
        }
    }

    pub fn describe(&self) -> String {
        format!(
            "{};\n  expireAfter: {}\n  where: {:?}\n  holds: {:?}",
            self.setup.join(";\n"),
            self.age,
            self.condition,
            self.holds
        )
    }

    /// Puts rows around the cutoff, copies all rows, and deletes from the copy what the rule takes.
    pub fn at_the_cutoff(&self, cutoff: &str) -> Vec<String> {
        let kind = self.kind;
        let step = if kind == "date" {
            "1"
        } else {
            "interval '1 microsecond'"
        };
        let mut expired = vec![format!("at < '{cutoff}'::{kind}")];
        expired.extend(self.condition.iter().map(|it| format!("({it}) IS TRUE")));
        expired.extend(self.holds.iter().map(|it| format!("({it}) IS NOT TRUE")));
        let values: Vec<String> = COLUMNS
            .iter()
            .map(|(_, _, value)| (*value).to_owned())
            .collect();
        let names: Vec<&str> = COLUMNS.iter().map(|(name, _, _)| *name).collect();
        vec![
            format!(
                "INSERT INTO t (id, at, {}) SELECT 100000 + n, '{cutoff}'::{kind} + (n % 3 - 1) * {step}, {} FROM generate_series(1, 120) n",
                names.join(", "),
                values.join(", ")
            ),
            "CREATE TABLE reference AS TABLE t".to_owned(),
            format!("DELETE FROM reference WHERE {}", expired.join(" AND ")),
        ]
    }

    /// All rows of a table as texts.
    pub fn rows_of(&self, table: &str) -> String {
        format!("SELECT r::text FROM {table} r")
    }
}

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}

/// All columns in some order, with one that nobody reads.
fn columns(rng: &mut Rng, kind: &str) -> Vec<String> {
    let mut columns: Vec<String> = COLUMNS
        .iter()
        .map(|(name, kind, _)| format!("{name} {kind}"))
        .collect();
    columns.extend([
        "id int".to_owned(),
        format!("at {kind}"),
        "pad text".to_owned(),
    ]);
    rng.shuffle(&mut columns);
    columns
}

/// `t`, partitioned by list of `n` or by hash of `id`, some of its parts partitioned again or with other columns.
fn partitions(rng: &mut Rng, definition: &str, setup: &mut Vec<String>) {
    if rng.bool() {
        setup.push(format!(
            "CREATE TABLE t ({definition}) PARTITION BY HASH (id)"
        ));
        for part in 0..3 {
            setup.push(format!(
                "CREATE TABLE t_{part} PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER {part})"
            ));
        }
        return;
    }
    setup.push(format!(
        "CREATE TABLE t ({definition}) PARTITION BY LIST (n)"
    ));
    let mut other: Vec<&str> = definition.split(", ").collect();
    rng.shuffle(&mut other);
    setup.push(format!(
        "CREATE TABLE t_a (gone int, {}); ALTER TABLE t_a DROP gone",
        other.join(", ")
    ));
    setup.push("ALTER TABLE t ATTACH PARTITION t_a FOR VALUES IN (-2, 0, NULL)".to_owned());
    setup.push(
        "CREATE TABLE t_b PARTITION OF t FOR VALUES IN (2) PARTITION BY RANGE (id)".to_owned(),
    );
    setup.push(
        "CREATE TABLE t_b_low PARTITION OF t_b FOR VALUES FROM (MINVALUE) TO (500)".to_owned(),
    );
    setup.push("CREATE TABLE t_b_rest PARTITION OF t_b DEFAULT".to_owned());
    setup.push("CREATE TABLE t_rest PARTITION OF t DEFAULT".to_owned());
}

/// Some hundred rows with times on both sides of every age, and the odd ones.
fn fill(rng: &mut Rng, kind: &str) -> String {
    let rows = rng.u32(0..3000);
    let days = pick(rng, &[2, 40, 800]);
    let values: Vec<&str> = COLUMNS.iter().map(|(_, _, value)| *value).collect();
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _, _)| *name).collect();
    format!(
        "INSERT INTO t (id, at, pad, {}) SELECT n, CASE n % 13 WHEN 0 THEN NULL WHEN 1 THEN 'infinity' WHEN 2 THEN '-infinity'
           WHEN 3 THEN now() + interval '1 hour' WHEN 4 THEN '0044-03-15 BC' ELSE now() - {days} * interval '1 day' * (n % 997) / 500.0 END::{kind},
           repeat('x', (n * 7919) % {}), {} FROM generate_series(1, {rows}) n",
        names.join(", "),
        rng.u32(1..300),
        values.join(", ")
    )
}

/// A condition that reads a column at least: others are refused.
fn predicate(rng: &mut Rng, depth: u8) -> String {
    loop {
        let condition = condition(rng, depth);
        let outside_quotes: String = condition.split('\'').step_by(2).collect();
        let mut words = outside_quotes.split(|c: char| !c.is_ascii_alphanumeric());
        if words.any(|word| word == "at" || COLUMNS.iter().any(|(name, _, _)| *name == word)) {
            return condition;
        }
    }
}

/// A condition as a person would write it. `depth` operators inside each other at most.
fn condition(rng: &mut Rng, depth: u8) -> String {
    let inner = depth.saturating_sub(1);
    match if depth == 0 { 9 } else { rng.u8(0..14) } {
        0 | 1 => format!("{} AND {}", conjunct(rng, inner), conjunct(rng, inner)),
        2 | 3 => format!(
            "{} OR {}",
            condition_of_ands(rng, inner),
            condition_of_ands(rng, inner)
        ),
        4 => format!("NOT ({})", condition(rng, inner)),
        5 => format!(
            "({}) IS {}{}",
            condition(rng, inner),
            pick(rng, &["", "NOT "]),
            pick(rng, &["TRUE", "FALSE", "UNKNOWN"])
        ),
        _ => test(rng),
    }
}

/// What may stand beside AND without parentheses.
fn conjunct(rng: &mut Rng, depth: u8) -> String {
    match rng.u8(0..3) {
        0 => format!("NOT {}", test(rng)),
        1 => test(rng),
        _ => format!("({})", condition(rng, depth)),
    }
}

/// What may stand beside OR without parentheses: AND binds tighter.
fn condition_of_ands(rng: &mut Rng, depth: u8) -> String {
    match rng.u8(0..3) {
        0 => format!("{} AND {}", conjunct(rng, depth), conjunct(rng, depth)),
        _ => conjunct(rng, depth),
    }
}

const COMPARISONS: &[&str] = &["=", "<>", "<", "<=", ">", ">="];

/// A test of one or two columns, without AND, OR and NOT.
fn test(rng: &mut Rng) -> String {
    match rng.u8(0..14) {
        0 => format!(
            "{} {} {}",
            number(rng, 2),
            pick(rng, COMPARISONS),
            number(rng, 2)
        ),
        1 => format!(
            "{} {} {}",
            text(rng),
            pick(rng, COMPARISONS),
            text_literal(rng)
        ),
        2 => (*pick(
            rng,
            &[
                "flag",
                "coalesce(flag, false)",
                "flag = true",
                "flag <> (n > 0)",
            ],
        ))
        .to_owned(),
        3 => format!("{} IS {}NULL", column(rng), pick(rng, &["", "NOT "])),
        4 => format!(
            "flag IS {}{}",
            pick(rng, &["", "NOT "]),
            pick(rng, &["TRUE", "FALSE", "UNKNOWN"])
        ),
        5 => format!(
            "{} {}IN ({}, {}, 1)",
            number(rng, 1),
            pick(rng, &["", "NOT "]),
            number(rng, 0),
            pick(rng, &["NULL", "2", "-1"])
        ),
        6 => format!(
            "word {}IN ('open', {})",
            pick(rng, &["", "NOT "]),
            text_literal(rng)
        ),
        7 => format!(
            "{} {}BETWEEN {} AND {}",
            number(rng, 1),
            pick(rng, &["", "NOT "]),
            number(rng, 0),
            number(rng, 1)
        ),
        8 => format!(
            "{} {}{} {}",
            text(rng),
            pick(rng, &["", "NOT "]),
            pick(rng, &["LIKE", "ILIKE"]),
            pick(
                rng,
                &[
                    "'%o%'",
                    "'_'",
                    "'a!%%' ESCAPE '!'",
                    "''",
                    "'%\\%%'",
                    "'OPEN'",
                    "'é%'"
                ]
            )
        ),
        9 => format!(
            "{} IS {}DISTINCT FROM {}",
            number(rng, 1),
            pick(rng, &["", "NOT "]),
            pick(rng, &["NULL", "0", "n", "price"])
        ),
        10 => format!(
            "day {} DATE '2024-01-{:02}'",
            pick(rng, COMPARISONS),
            rng.u8(1..30)
        ),
        11 => format!(
            "doc {} 'a' {}",
            pick(rng, &["->>", "->"]),
            pick(rng, &["= '1'", "IS NULL", "IS NOT NULL", "= '\"x\"'"])
        )
        .replace("->> 'a' = '\"x\"'", "->> 'a' = 'x'"),
        12 => format!(
            "ratio {} {}",
            pick(rng, COMPARISONS),
            pick(rng, &["0", "2.5", "-1e300", "n"])
        ),
        _ => format!(
            "at {} TIMESTAMP '2023-06-0{} 12:00'",
            pick(rng, COMPARISONS),
            rng.u8(1..10)
        ),
    }
}

fn column(rng: &mut Rng) -> &'static str {
    pick(rng, COLUMNS).0
}

/// A number, with operators of every precedence.
fn number(rng: &mut Rng, depth: u8) -> String {
    if depth == 0 {
        return pick(rng, &["n", "price", "0", "1", "2.5", "- n", "-1"]).to_string();
    }
    let inner = depth - 1;
    match rng.u8(0..9) {
        0 => format!("{} + {} * 2", atom(rng, inner), atom(rng, inner)),
        1 => format!("{} - {} - 1", atom(rng, inner), atom(rng, inner)),
        2 => format!("{} / 2 % 3", atom(rng, inner)),
        3 => format!("abs({})", number(rng, inner)),
        4 => format!(
            "coalesce({}, {}, 0)",
            number(rng, inner),
            number(rng, inner)
        ),
        5 => format!(
            "{}({}, {})",
            pick(rng, &["greatest", "least"]),
            number(rng, inner),
            number(rng, inner)
        ),
        6 => format!("nullif({}, {})", number(rng, inner), number(rng, inner)),
        7 => format!("length({})", text(rng)),
        _ => atom(rng, inner),
    }
}

/// A number that may stand beside any operator.
fn atom(rng: &mut Rng, depth: u8) -> String {
    if depth > 0 && rng.bool() {
        format!("({})", number(rng, depth))
    } else {
        pick(rng, &["n", "price", "3", "0.5"]).to_string()
    }
}

fn text(rng: &mut Rng) -> String {
    match rng.u8(0..9) {
        0 => "lower(word)".to_owned(),
        1 => "upper(word)".to_owned(),
        2 => "trim(word)".to_owned(),
        3 => "btrim(word, 'on')".to_owned(),
        4 => format!("left(word, {})", rng.i8(-2..4)),
        5 => format!("right(word, {})", rng.i8(-2..4)),
        6 => "word || code".to_owned(),
        7 => "coalesce(word, code, 'none')".to_owned(),
        _ => "word".to_owned(),
    }
}

fn text_literal(rng: &mut Rng) -> &'static str {
    pick::<&str>(
        rng,
        &[
            "'open'", "''", "'it''s'", "'a%b'", "'é'", "'x'", "NULL", "'closed'", "'\\'",
        ],
    )
}
