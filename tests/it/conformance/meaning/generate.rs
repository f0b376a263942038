//! Random rows, and conditions that mean something to both engines.

use fastrand::Rng;

/// A column: its types on PostgreSQL and on SQLite, and values for it as SQL, each for PostgreSQL and for SQLite.
struct Column {
    name: &'static str,
    on_postgres: &'static str,
    /// One of these is taken.
    on_sqlite: &'static [&'static str],
    values: &'static [(&'static str, &'static str)],
}

const NULL: (&str, &str) = ("NULL", "NULL");

const fn same(value: &'static str) -> (&'static str, &'static str) {
    (value, value)
}

/// Texts that some parser might stumble over.
const WORDS: &[(&str, &str)] = &[
    NULL,
    same("''"),
    same("'open'"),
    same("'Open'"),
    same("'OPEN'"),
    same("'a%b'"),
    same("'a_b'"),
    same("'it''s'"),
    same(r"'a\b'"),
    same(r"'\'"),
    same("'\"'"),
    same("'é'"),
    same("'É'"),
    same("'☃☃'"),
    same("' x '"),
    same("'5'"),
    same("'-1'"),
    same("'*'"),
    same("'?'"),
    same("'[a]'"),
    same("'a]b'"),
    same("'^a'"),
    same("'true'"),
    same("'; -- /*'"),
];

/// Numbers are sums of powers of two: SQLite calculates with floating point only.
const COLUMNS: &[Column] = &[
    Column {
        name: "n",
        on_postgres: "int",
        on_sqlite: &["INTEGER", "int", "BIGINT", ""],
        values: &[
            NULL,
            same("0"),
            same("1"),
            same("2"),
            same("-3"),
            same("7"),
            same("100"),
        ],
    },
    Column {
        name: "big",
        on_postgres: "bigint",
        on_sqlite: &["BIGINT", "INTEGER"],
        values: &[
            NULL,
            same("9223372036854775807"),
            ("'-9223372036854775808'", "-9223372036854775808"),
            same("9007199254740993"),
            same("9007199254740992"),
            same("5"),
            same("0"),
        ],
    },
    Column {
        name: "ratio",
        on_postgres: "float8",
        on_sqlite: &["REAL", "DOUBLE PRECISION", "FLOAT"],
        values: &[
            NULL,
            same("0"),
            ("'-0.0'", "-0.0"),
            same("0.5"),
            same("-2.5"),
            same("1e300"),
        ],
    },
    Column {
        name: "price",
        on_postgres: "numeric(10,2)",
        on_sqlite: &["NUMERIC", "DECIMAL(10,2)", "REAL"],
        values: &[
            NULL,
            same("0"),
            same("1.5"),
            same("2.25"),
            same("-0.75"),
            same("10"),
        ],
    },
    Column {
        name: "word",
        on_postgres: "text COLLATE \"C\"",
        on_sqlite: &["TEXT", "CLOB", "VARCHAR", ""],
        values: WORDS,
    },
    Column {
        name: "code",
        on_postgres: "varchar(20) COLLATE \"C\"",
        on_sqlite: &["VARCHAR(20)", "TEXT"],
        values: WORDS,
    },
    Column {
        name: "flag",
        on_postgres: "boolean",
        on_sqlite: &["BOOLEAN", "bool", "INTEGER", ""],
        values: &[
            NULL,
            ("true", "1"),
            ("false", "0"),
            ("true", "'true'"),
            ("false", "'no'"),
            ("true", "'T'"),
            ("false", "' off '"),
        ],
    },
    Column {
        name: "other",
        on_postgres: "boolean",
        on_sqlite: &["BOOLEAN"],
        values: &[NULL, ("true", "1"), ("false", "0"), ("false", "'false'")],
    },
    Column {
        name: "day",
        on_postgres: "date",
        on_sqlite: &["DATE", "TEXT", ""],
        values: &[
            NULL,
            same("'2024-01-31'"),
            same("'2024-02-01'"),
            same("'1999-12-31'"),
            same("'0044-03-15'"),
        ],
    },
    Column {
        name: "doc",
        on_postgres: "jsonb",
        on_sqlite: &["JSON", "TEXT", ""],
        values: &[
            NULL,
            same(r#"'{"a": "x", "b": [1, "y", null]}'"#),
            same(r#"'{"a": 1, "c\"d": true}'"#),
            same(r#"'{"a": null, "b": {"a": "deep"}}'"#),
            same(r#"'{"a": false, "it''s": 1.5}'"#),
            same("'[\"first\", 2]'"),
            same("'{}'"),
            same("'null'"),
            same(r#"'{"a": "☃ \" \\ "}'"#),
            same(r#"'{"a": 1, "a": "x"}'"#),
            same(r#"'{"a": 1e2, "b": {"a": -0.0}}'"#),
            same(r#"'{"a": {"x": 1}, "b": ["x"]}'"#),
        ],
    },
];

/// A table with some rows.
pub struct Table {
    types: Vec<&'static str>,
    /// Of each row and column the value for PostgreSQL and for SQLite.
    rows: Vec<Vec<(&'static str, &'static str)>>,
}

impl Table {
    pub fn random(rng: &mut Rng) -> Self {
        let types = COLUMNS.iter().map(|column| *pick(rng, column.on_sqlite));
        let types = types.collect();
        let mut row = |_| {
            COLUMNS
                .iter()
                .map(|column| *pick(rng, column.values))
                .collect()
        };
        let rows = (0..40).map(&mut row).collect();
        Self { types, rows }
    }

    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The columns with the types that they declare on SQLite.
    pub fn columns(&self) -> Vec<(String, String)> {
        let names = COLUMNS.iter().zip(&self.types);
        names
            .map(|(column, declared)| (column.name.to_owned(), (*declared).to_owned()))
            .collect()
    }

    pub fn on_postgres(&self) -> String {
        let columns = COLUMNS
            .iter()
            .map(|column| format!("{} {}", column.name, column.on_postgres));
        let columns: Vec<String> = columns.collect();
        format!(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (id int, {}); {}",
            columns.join(", "),
            self.insert(|value| value.0)
        )
    }

    pub fn on_sqlite(&self) -> String {
        let columns = COLUMNS
            .iter()
            .zip(&self.types)
            .map(|(column, declared)| format!("{} {declared}", column.name));
        let columns: Vec<String> = columns.collect();
        format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, {}); {}",
            columns.join(", "),
            self.insert(|value| value.1)
        )
    }

    fn insert(&self, of: impl Fn(&(&'static str, &'static str)) -> &'static str) -> String {
        let rows = self.rows.iter().enumerate().map(|(id, values)| {
            let values: Vec<&str> = values.iter().map(&of).collect();
            format!("({id}, {})", values.join(", "))
        });
        let rows: Vec<String> = rows.collect();
        format!("INSERT INTO t VALUES {}", rows.join(",\n  "))
    }
}

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}

fn one(rng: &mut Rng, from: &[&str]) -> String {
    (*pick(rng, from)).to_owned()
}

const COMPARISONS: &[&str] = &["=", "<>", "<", "<=", ">", ">="];
const NOT: &[&str] = &["", "NOT "];

/// A condition with at most `depth` of AND, OR and NOT inside each other.
pub fn condition(rng: &mut Rng, depth: u8) -> String {
    let inner = |rng: &mut Rng| condition(rng, depth.saturating_sub(1));
    match if depth == 0 { 9 } else { rng.u8(0..14) } {
        0 | 1 => format!("({}) AND ({})", inner(rng), inner(rng)),
        2 | 3 => format!("({}) OR ({})", inner(rng), inner(rng)),
        4 => format!("NOT ({})", inner(rng)),
        5 => format!(
            "({}) IS {}{}",
            inner(rng),
            one(rng, NOT),
            one(rng, &["TRUE", "FALSE", "UNKNOWN", "NULL"])
        ),
        6 => format!(
            "({}) {} ({})",
            inner(rng),
            one(rng, &["=", "<>", "<", ">="]),
            truth(rng, 1)
        ),
        _ => test(rng),
    }
}

fn test(rng: &mut Rng) -> String {
    let not = one(rng, NOT);
    match rng.u8(0..16) {
        0 | 1 => format!(
            "{} {} {}",
            number(rng, 2),
            one(rng, COMPARISONS),
            number(rng, 2)
        ),
        2 => format!(
            "{} {not}BETWEEN {} AND {}",
            number(rng, 1),
            number(rng, 1),
            number(rng, 1)
        ),
        3 => format!(
            "{} {not}IN ({}, {}, 1)",
            number(rng, 1),
            number(rng, 1),
            one(rng, &["NULL", "2", "-3"])
        ),
        4 => format!(
            "{} IS {not}DISTINCT FROM {}",
            number(rng, 1),
            one(
                rng,
                &["n", "2", "nullif(price, '10')", "coalesce(price, '2')"]
            )
        ),
        5 if rng.bool() => format!("'5' {not}IN ({}, big)", one(rng, &["price", "big", "0"])),
        5 => format!("big {} {}", one(rng, COMPARISONS), one(rng, BIG)),
        6 | 7 => format!(
            "{} {} {}",
            text(rng, 2),
            one(rng, COMPARISONS),
            text(rng, 1)
        ),
        8 => format!(
            "{} {not}{} {}",
            text(rng, 1),
            one(rng, &["LIKE", "LIKE", "ILIKE"]),
            one(rng, PATTERNS)
        ),
        9 => format!(
            "{} {not}IN ({}, {})",
            one(rng, &["word", "code", "lower(code)", "'5'"]),
            literal(rng),
            one(rng, &["'open'", "word", "code", "''"])
        ),
        10 => format!("{} IS {not}DISTINCT FROM {}", text(rng, 1), text(rng, 1)),
        11 => truth(rng, 2),
        12 => format!(
            "{} IS {not}{}",
            truth(rng, 1),
            one(
                rng,
                &[
                    "TRUE",
                    "FALSE",
                    "UNKNOWN",
                    "NULL",
                    "DISTINCT FROM other",
                    "DISTINCT FROM NULL"
                ]
            )
        ),
        13 => day(rng),
        14 => json(rng),
        _ => format!("{} IS {not}NULL", pick(rng, COLUMNS).name),
    }
}

const BIG: &[&str] = &[
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "9007199254740993",
    "9007199254740992",
    "0",
    "4.5",
    "1e3",
    "1e30",
    "n",
    "'9007199254740993'",
];

fn number(rng: &mut Rng, depth: u8) -> String {
    if depth == 0 || rng.u8(0..3) == 0 {
        return one(
            rng,
            &[
                "n", "price", "ratio", "0", "1", "-1", "2.5", "-3", "007", "1e2",
            ],
        );
    }
    let inner = |rng: &mut Rng| number(rng, depth - 1);
    match rng.u8(0..13) {
        0 => format!("({} + {})", inner(rng), inner(rng)),
        1 => format!("({} - {})", inner(rng), inner(rng)),
        2 => format!("({} * {})", inner(rng), one(rng, &["2", "-1", "0.5", "n"])),
        3 => format!(
            "({} / {})",
            one(rng, &["n", "price", "(price + n)", "coalesce(price, 10)"]),
            one(rng, &["2", "-2", "4", "0.5"])
        ),
        4 => format!("(n % {})", one(rng, &["2", "-3", "n", "7"])),
        5 => format!("(- {})", inner(rng)),
        6 => format!("abs({})", inner(rng)),
        7 => format!("coalesce({}, {})", inner(rng), inner(rng)),
        8 => format!("nullif({}, {})", inner(rng), inner(rng)),
        9 => format!(
            "greatest({}, {}, {})",
            inner(rng),
            inner(rng),
            one(rng, &["NULL", "2", "n"])
        ),
        10 => format!("least({}, {})", inner(rng), inner(rng)),
        _ => format!("length({})", text(rng, 1)),
    }
}

fn text(rng: &mut Rng, depth: u8) -> String {
    if depth == 0 || rng.u8(0..3) == 0 {
        return match rng.u8(0..4) {
            0 => literal(rng),
            _ => one(rng, &["word", "code"]),
        };
    }
    let inner = |rng: &mut Rng| text(rng, depth - 1);
    match rng.u8(0..12) {
        0 => format!("lower({})", inner(rng)),
        1 => format!("upper({})", inner(rng)),
        2 => format!("trim({})", inner(rng)),
        3 => format!(
            "btrim({}, {})",
            inner(rng),
            one(rng, &["'on'", "'aO'", "code"])
        ),
        4 => format!("left({}, {})", inner(rng), rng.u8(0..4)),
        5 => format!("right({}, {})", inner(rng), rng.u8(0..4)),
        6 => format!("({} || {})", inner(rng), inner(rng)),
        7 => format!("coalesce({}, {})", one(rng, &["word", "code"]), inner(rng)),
        8 => format!("nullif({}, {})", one(rng, &["word", "code"]), inner(rng)),
        9 => format!("greatest({}, {})", one(rng, &["word", "code"]), inner(rng)),
        10 => format!("least({}, {})", one(rng, &["word", "code"]), inner(rng)),
        _ => "(doc ->> 'a')".to_owned(),
    }
}

fn literal(rng: &mut Rng) -> String {
    match pick(rng, WORDS).0 {
        // Of no type it would be one of PostgreSQL's own choice.
        "NULL" => "'open'".to_owned(),
        text => text.to_owned(),
    }
}

const PATTERNS: &[&str] = &[
    "'%o%'",
    "'O%'",
    "'_'",
    "'__'",
    "''",
    "'%'",
    "'a!%b' ESCAPE '!'",
    "'a!_%' ESCAPE '!'",
    r"'%\%%'",
    r"'%\\%'",
    r"'a\_b'",
    "'OPEN'",
    "'[a]'",
    "'%]%'",
    "'*'",
    "'?'",
    "'^%'",
    "'%[%' ESCAPE '['",
    "'%**' ESCAPE '*'",
    "'☃_'",
    "'é'",
    "'%''%'",
];

fn truth(rng: &mut Rng, depth: u8) -> String {
    if depth == 0 || rng.u8(0..3) == 0 {
        return one(rng, &["flag", "other"]);
    }
    let inner = |rng: &mut Rng| truth(rng, depth - 1);
    match rng.u8(0..9) {
        0 => format!(
            "coalesce({}, {})",
            inner(rng),
            one(rng, &["TRUE", "FALSE", "other", "'true'", "'off'"])
        ),
        1 => format!("coalesce({}, n > 0)", inner(rng)),
        2 => format!(
            "nullif({}, {})",
            inner(rng),
            one(rng, &["TRUE", "FALSE", "other", "flag"])
        ),
        3 => format!(
            "{}({}, {})",
            one(rng, &["greatest", "least"]),
            inner(rng),
            inner(rng)
        ),
        4 => format!(
            "({} {} {})",
            inner(rng),
            one(rng, COMPARISONS),
            one(
                rng,
                &["TRUE", "FALSE", "(n > 0)", "(word IS NULL)", "other"]
            )
        ),
        5 => format!(
            "({} {}IN ({}, {}))",
            inner(rng),
            one(rng, NOT),
            one(rng, &["TRUE", "FALSE", "other"]),
            one(rng, &["NULL", "TRUE", "n = 1"])
        ),
        6 => format!("(NOT {})", inner(rng)),
        7 => format!(
            "({} {}BETWEEN {} AND TRUE)",
            inner(rng),
            one(rng, NOT),
            one(rng, &["FALSE", "other", "TRUE"])
        ),
        _ => format!(
            "({} IS {}DISTINCT FROM {})",
            inner(rng),
            one(rng, NOT),
            one(rng, &["TRUE", "NULL", "other"])
        ),
    }
}

fn day(rng: &mut Rng) -> String {
    let dates = &[
        "'2024-01-31'",
        "'2024-02-01'",
        "'1999-12-31'",
        "'2030-01-01'",
    ];
    match rng.u8(0..5) {
        0 | 1 => format!("day {} {}", one(rng, COMPARISONS), one(rng, dates)),
        2 => format!(
            "day {}BETWEEN {} AND {}",
            one(rng, NOT),
            one(rng, dates),
            one(rng, dates)
        ),
        3 => format!(
            "day {}IN ({}, {})",
            one(rng, NOT),
            one(rng, dates),
            one(rng, &["NULL", "'0044-03-15'"])
        ),
        _ => format!(
            "coalesce(day, {}) {} {}",
            one(rng, dates),
            one(rng, COMPARISONS),
            one(rng, dates)
        ),
    }
}

fn json(rng: &mut Rng) -> String {
    match rng.u8(0..6) {
        0 => format!(
            "doc ->> 'a' {} {}",
            one(rng, COMPARISONS),
            one(rng, &["'x'", "'1'", "'false'", "'☃ \" \\ '"])
        ),
        1 => format!(
            "doc ->> {} IS {}NULL",
            one(rng, &["'a'", "'b'", "'it''s'", "0", "1"]),
            one(rng, NOT)
        ),
        2 => format!(
            "doc -> 'b' ->> {} = {}",
            one(rng, &["0", "1", "2", "'a'"]),
            one(rng, &["'1'", "'y'", "'deep'"])
        ),
        3 => format!("doc -> 'a' IS {}NULL", one(rng, NOT)),
        4 => format!("doc ->> 'a' {}LIKE '%x%'", one(rng, NOT)),
        _ => format!("doc ->> 'it''s' {} '1.5'", one(rng, &["=", "<>"])),
    }
}
