use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::policy::table::{ColumnFacts, TableFacts, TableKind};

/// Prints with a parenthesis around every operation, as engines do.
fn print(expr: &Expr) -> String {
    let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let list = |list: &[Expr]| list.iter().map(print).collect::<Vec<_>>().join(", ");
    let not = |negated: bool| if negated { "NOT " } else { "" };
    match expr {
        Expr::Column(name) => format!("\"{}\"", name.replace('"', "\"\"")),
        Expr::Text(value) => text(value),
        Expr::Number(digits) => digits.clone(),
        Expr::Bool(value) => value.to_string(),
        Expr::Null => "NULL".to_owned(),
        Expr::Typed(literal_type, value) => {
            let name = match literal_type {
                LiteralType::Date => "date",
                LiteralType::Timestamp => "timestamp",
                LiteralType::TimestampTz => "timestamptz",
                LiteralType::Interval => "interval",
                LiteralType::Uuid => "uuid",
            };
            format!("{}::{name}", text(value))
        }
        Expr::Not(inner) => format!("(NOT {})", print(inner)),
        Expr::Negate(inner) => format!("(- {})", print(inner)),
        Expr::Binary(left, op, right) => {
            let sign = match op {
                BinaryOp::And => "AND",
                BinaryOp::Or => "OR",
                BinaryOp::Eq => "=",
                BinaryOp::NotEq => "<>",
                BinaryOp::Lt => "<",
                BinaryOp::LtEq => "<=",
                BinaryOp::Gt => ">",
                BinaryOp::GtEq => ">=",
                BinaryOp::Add => "+",
                BinaryOp::Sub => "-",
                BinaryOp::Mul => "*",
                BinaryOp::Div => "/",
                BinaryOp::Mod => "%",
                BinaryOp::Concat => "||",
                BinaryOp::JsonText => "->>",
                BinaryOp::Json => "->",
            };
            format!("({} {sign} {})", print(left), print(right))
        }
        Expr::Is {
            expr,
            test,
            negated,
        } => {
            format!("({} IS {}{test:?})", print(expr), not(*negated))
        }
        Expr::DistinctFrom {
            left,
            right,
            negated,
        } => format!(
            "({} IS {}DISTINCT FROM {})",
            print(left),
            not(*negated),
            print(right)
        ),
        Expr::Between {
            expr,
            low,
            high,
            negated,
        } => format!(
            "({} {}BETWEEN {} AND {})",
            print(expr),
            not(*negated),
            print(low),
            print(high)
        ),
        Expr::In {
            expr,
            list: items,
            negated,
        } => format!("({} {}IN ({}))", print(expr), not(*negated), list(items)),
        Expr::Like {
            expr,
            pattern,
            case_insensitive,
            negated,
            escape,
        } => {
            let word = if *case_insensitive { "ILIKE" } else { "LIKE" };
            let escape =
                escape.map_or_else(String::new, |c| format!(" ESCAPE {}", text(&c.to_string())));
            format!(
                "({} {}{word} {}{escape})",
                print(expr),
                not(*negated),
                print(pattern)
            )
        }
        Expr::Call(function, arguments) => {
            let name = match function {
                Function::Trim => "btrim".to_owned(),
                other => format!("{other:?}").to_lowercase(),
            };
            format!("{name}({})", list(arguments))
        }
    }
}

fn printed(source: &str) -> String {
    match Predicate::parse(source) {
        Ok(predicate) => print(predicate.root()),
        Err(error) => panic!("{source}: {error}"),
    }
}

#[rstest]
#[case("status <> 'open'", r#"("status" <> 'open')"#)]
#[case("Status != 'it''s'", r#"("status" <> 'it''s')"#)]
#[case(r#""Status" = 'x'"#, r#"("Status" = 'x')"#)]
#[case(r#""a""b" IS NULL"#, r#"("a""b" IS Null)"#)]
#[case("done", r#""done""#)]
#[case("NOT done", r#"(NOT "done")"#)]
#[case("((done))", r#""done""#)]
#[case(
    "a = 1 OR b = 2 AND c = 3",
    r#"(("a" = 1) OR (("b" = 2) AND ("c" = 3)))"#
)]
#[case("a OR b OR c", r#"(("a" OR "b") OR "c")"#)]
#[case("(a OR b) AND c", r#"(("a" OR "b") AND "c")"#)]
#[case("NOT a = 1 AND b", r#"((NOT ("a" = 1)) AND "b")"#)]
#[case("NOT a IS NULL", r#"(NOT ("a" IS Null))"#)]
#[case("NOT NOT a", r#"(NOT (NOT "a"))"#)]
#[case("a = b IS TRUE", r#"(("a" = "b") IS True)"#)]
#[case("a IS NOT UNKNOWN", r#"("a" IS NOT Unknown)"#)]
#[case("a IS NOT FALSE", r#"("a" IS NOT False)"#)]
#[case("a NOTNULL", r#"("a" IS NOT Null)"#)]
#[case(
    "a IS DISTINCT FROM b AND c",
    r#"(("a" IS DISTINCT FROM "b") AND "c")"#
)]
#[case("a IS NOT DISTINCT FROM 'x'", r#"("a" IS NOT DISTINCT FROM 'x')"#)]
#[case("a BETWEEN 1 AND 2 AND b", r#"(("a" BETWEEN 1 AND 2) AND "b")"#)]
#[case(
    "a NOT BETWEEN 1 + 1 AND 2 * 3",
    r#"("a" NOT BETWEEN (1 + 1) AND (2 * 3))"#
)]
#[case("a IN (1, 2, 3)", r#"("a" IN (1, 2, 3))"#)]
#[case("a + 1 NOT IN ('x')", r#"(("a" + 1) NOT IN ('x'))"#)]
#[case("a LIKE 'x%' || b", r#"("a" LIKE ('x%' || "b"))"#)]
#[case("a NOT ILIKE 'x!%' ESCAPE '!'", r#"("a" NOT ILIKE 'x!%' ESCAPE '!')"#)]
#[case("a + b * c - d > 0", r#"((("a" + ("b" * "c")) - "d") > 0)"#)]
#[case("a - b - c = 0", r#"((("a" - "b") - "c") = 0)"#)]
#[case("a % 2 = 1", r#"(("a" % 2) = 1)"#)]
#[case("-a * b < -1.5e3", r#"(((- "a") * "b") < (- 1.5e3))"#)]
#[case("a || b || 'x' = c", r#"((("a" || "b") || 'x') = "c")"#)]
#[case("data ->> 'kind' = 'log'", r#"(("data" ->> 'kind') = 'log')"#)]
#[case(
    "data -> 'a' ->> 'b' IN ('x')",
    r#"((("data" -> 'a') ->> 'b') IN ('x'))"#
)]
#[case("data->>'n' IS NULL", r#"(("data" ->> 'n') IS Null)"#)]
#[case("day < DATE '2024-01-31'", r#"("day" < '2024-01-31'::date)"#)]
#[case("day < '2024-01-31'::date", r#"("day" < '2024-01-31'::date)"#)]
#[case("day < CAST('2024-01-31' AS date)", r#"("day" < '2024-01-31'::date)"#)]
#[case(
    "day < '2024-01-31'::timestamp",
    r#"("day" < '2024-01-31'::timestamp)"#
)]
#[case(
    "at < TIMESTAMP WITH TIME ZONE '2024-01-31 10:00+01'",
    r#"("at" < '2024-01-31 10:00+01'::timestamptz)"#
)]
#[case("at < timestamptz 'infinity'", r#"("at" < 'infinity'::timestamptz)"#)]
#[case("b - a > INTERVAL '90 days'", r#"(("b" - "a") > '90 days'::interval)"#)]
#[case("b - a > '1 day'::interval", r#"(("b" - "a") > '1 day'::interval)"#)]
#[case(
    "id = uuid '0188a1e0-0000-7000-8000-000000000000'",
    r#"("id" = '0188a1e0-0000-7000-8000-000000000000'::uuid)"#
)]
#[case("lower(a) = 'x'", r#"(lower("a") = 'x')"#)]
#[case(
    "UPPER(a) = 'X' AND length(a) > 3",
    r#"((upper("a") = 'X') AND (length("a") > 3))"#
)]
#[case("trim(a) = ''", r#"(btrim("a") = '')"#)]
#[case("trim(a, 'x') = ''", r#"(btrim("a", 'x') = '')"#)]
#[case("trim(both 'x' from a) = ''", r#"(btrim("a", 'x') = '')"#)]
#[case("btrim(a) = ''", r#"(btrim("a") = '')"#)]
#[case("left(a, 2) = right(b, 2)", r#"(left("a", 2) = right("b", 2))"#)]
#[case("abs(a - 1) < 2", r#"(abs(("a" - 1)) < 2)"#)]
#[case("coalesce(a, false)", r#"coalesce("a", false)"#)]
#[case("nullif(a, 0) IS NULL", r#"(nullif("a", 0) IS Null)"#)]
#[case(
    "greatest(a, b, c) > least(a, b)",
    r#"(greatest("a", "b", "c") > least("a", "b"))"#
)]
#[case("a BETWEEN 1 AND 2 = b", r#"(("a" BETWEEN 1 AND 2) = "b")"#)]
#[case("a IN (1) = b", r#"(("a" IN (1)) = "b")"#)]
#[case("- a ->> 'x' = 'y'", r#"(((- "a") ->> 'x') = 'y')"#)]
#[case("a -> 'x' + 1 = b", r#"(("a" -> ('x' + 1)) = "b")"#)]
#[case("a\n=\t1", r#"("a" = 1)"#)]
#[case("a=-1", r#"("a" = (- 1))"#)]
#[case("ünï = 'ß€'", r#"("ünï" = 'ß€')"#)]
#[case("date = '2024-01-01'", r#"("date" = '2024-01-01')"#)]
#[case("timestamp < '2024-01-01'", r#"("timestamp" < '2024-01-01')"#)]
#[case("at < now", r#"("at" < "now")"#)]
#[case(r#""user" = 'x'"#, r#"("user" = 'x')"#)]
#[case("path = 'C:\\temp'", r#"("path" = 'C:\temp')"#)]
#[case("note = 'a -- b; /* c */ $1'", r#"("note" = 'a -- b; /* c */ $1')"#)]
fn allowed_expressions_are_read_as_postgresql_reads_them(
    #[case] source: &str,
    #[case] expected: &str,
) {
    assert_eq!(printed(source), expected);
    assert_eq!(printed(expected), expected, "what is printed is read back");
}

#[rstest]
// Nothing but one expression.
#[case("", "empty")]
#[case(" \n ", "empty")]
#[case("a = 1; DROP TABLE t", "`;`")]
#[case("a = 1 -- b", "comments")]
#[case("a = 1 /* b */", "comments")]
#[case("a = 1, b = 2", "one")]
#[case("a = 1 b", "should end before `b`")]
#[case("a = 1 ORDER BY a", "should end before `ORDER`")]
#[case("a = 1 UNION SELECT 1", "should end before `UNION`")]
#[case("a =", "cannot be read")]
#[case("(a = 1", "cannot be read")]
#[case("a = 'x", "cannot be read")]
#[case("a = 1)", "should end before `)`")]
#[case("a = 'x' 'y'", "side by side")]
#[case("a = 'x'\n'y'", "side by side")]
#[case("a\0 = 1", "NUL")]
// Subqueries and other tables.
#[case("id IN (SELECT id FROM t)", "subqueries")]
#[case("EXISTS (SELECT 1)", "subqueries")]
#[case("NOT EXISTS (SELECT 1)", "subqueries")]
#[case("a = (SELECT 1)", "subqueries")]
#[case("t.a = 1", "name alone")]
#[case("s.t.a = 1", "name alone")]
#[case("ctid = '(0,1)'", "database system")]
#[case(r#""xmin" = 1"#, "database system")]
#[case("tableoid IS NULL", "database system")]
// Values from elsewhere.
#[case("a = $1", "placeholders")]
#[case("a = ?", "placeholders")]
#[case("a = :x", "placeholders")]
#[case("a = @x", "placeholders")]
// Functions.
#[case("at < now()", "expireAfter")]
#[case("at < current_timestamp", "expireAfter")]
#[case("at < CURRENT_DATE", "expireAfter")]
#[case("at < localtimestamp", "expireAfter")]
#[case("random() < 0.5", "expireAfter")]
#[case("age(at) > interval '1 day'", "expireAfter")]
#[case("pg_sleep(10) IS NULL", "allowed are lower")]
#[case("pg_catalog.lower(a) = 'x'", "without a schema")]
#[case(r#""lower"(a) = 'x'"#, "allowed are lower")]
#[case("count(*) > 1", "allowed are lower")]
#[case("lower(DISTINCT a) = 'x'", "DISTINCT")]
#[case("lower(a) OVER () = 'x'", "OVER")]
#[case("lower(a) FILTER (WHERE b) = 'x'", "FILTER")]
#[case("lower(a, b) = 'x'", "one argument")]
#[case("left(a) = 'x'", "2 arguments")]
#[case("coalesce() IS NULL", "at least one")]
#[case("trim(leading from a) = ''", "cannot be read")]
#[case("trim(leading 'x' from a) = ''", "trim")]
#[case("lower(x => a) = 'x'", "not allowed")]
#[case("user = 'x'", "\"user\"")]
#[case("session_user = 'x'", "session_user")]
#[case("extract(year from at) = 2020", "expireAfter")]
#[case("substring(a from 1 for 2) = 'x'", "allowed are")]
#[case("position('x' in a) = 1", "allowed are")]
#[case("ceil(a) = 1", "allowed are")]
// Casts and literals.
#[case("a::date = '2024-01-01'", "only a text literal")]
#[case("1::text = 'x'", "only a text literal")]
#[case("(a || 'x')::date = b", "only a text literal")]
#[case("a = 'x'::regclass", "the type")]
#[case("a = 'x'::text", "the type")]
#[case("a = '1'::int", "the type")]
#[case("a < '2024-01-01'::timestamp(3)", "the type")]
#[case("a = TRY_CAST('1' AS date)", "only a text literal")]
#[case("a > interval '1' day", "unit inside the text")]
#[case("a > interval 1", "with a text")]
#[case("a = E'x'", "escapes")]
#[case("a = U&'x'", "escapes")]
#[case("a = $$x$$", "dollar quotes")]
#[case("a = X'1F'", "prefix")]
#[case("a = B'1'", "")]
#[case("a = N'x'", "prefix")]
#[case("a = 0x1F", "")]
#[case("a = 1e9999", "plain number")]
#[case("a = 1_000", "")]
#[case("a < date 'today'", "current time")]
#[case("a < ' NOW '::timestamptz", "current time")]
#[case("a < timestamp 'tomorrow 12:00'", "current time")]
#[case("a < 'Yesterday'::date", "current time")]
#[case("a < CAST('now' AS timestamptz)", "current time")]
#[case("coalesce('now', date '2020-01-01') < a", "current time")]
// Operators.
#[case("a == 1", "`=`")]
#[case("a ~ 'x'", "`~`")]
#[case("a !~* 'x'", "!~*")]
#[case("a @> b", "@>")]
#[case("a ^ 2 = 4", "`^`")]
#[case("a & 1 = 1", "`&`")]
#[case("a OPERATOR(pg_catalog.=) 1", "OPERATOR")]
#[case("a SIMILAR TO 'x'", "LIKE")]
#[case("a = ANY (ARRAY[1])", "IN (a, b)")]
#[case("a = ALL (b)", "IN (a, b)")]
#[case("a LIKE ANY (b)", "allowed are")]
#[case("a[1] = 1", "brackets")]
#[case("ARRAY[1] = a", "brackets")]
#[case("(a, b) = (1, 2)", "row values")]
#[case("ROW(a, b) = 1", "")]
#[case("a COLLATE \"C\" = 'x'", "COLLATE")]
#[case("at AT TIME ZONE 'UTC' < b", "timeZone")]
#[case("CASE WHEN a THEN b ELSE c END", "AND and OR")]
#[case("a XOR b", "XOR")]
#[case("+a = 1", "leading `+`")]
#[case("a IN ()", "")]
#[case("a IS JSON", "allowed are")]
#[case("a IS NORMALIZED", "allowed are")]
#[case("a LIKE 'x' ESCAPE 'ab'", "one character")]
#[case("a LIKE 'x' ESCAPE ''", "one character")]
#[case("*", "")]
// Where precedence could be misread.
#[case("a = b = c", "chained")]
#[case("a < b < c", "chained")]
#[case("a = NOT b", "parentheses")]
#[case("a IS NULL = b", "parentheses")]
#[case("a IS NULL IS NULL", "parentheses")]
#[case("a IS DISTINCT FROM b IS NULL", "parentheses")]
// Never true nor false.
#[case("1", "neither true nor false")]
#[case("'t'", "neither true nor false")]
#[case("date '2020-01-01'", "neither true nor false")]
#[case("a + 1", "neither true nor false")]
#[case("lower(a)", "neither true nor false")]
#[case("a = 1 AND 5", "neither true nor false")]
#[case("NOT 'x'", "neither true nor false")]
#[case("data ->> 'x'", "neither true nor false")]
#[case(r#""" = 1"#, "empty")]
fn everything_else_is_refused_with_advice(#[case] source: &str, #[case] says: &str) {
    match Predicate::parse(source) {
        Ok(predicate) => panic!("{source} was read as {}", print(predicate.root())),
        Err(error) => assert!(error.to_string().contains(says), "{source}: {error}"),
    }
}

#[test]
fn long_and_deep_expressions_are_refused() {
    let long = format!("a = '{}'", "x".repeat(4090));
    assert_eq!(long.chars().count(), 4096);
    assert!(Predicate::parse(&long).is_ok());
    let error = Predicate::parse(&format!("{long} "))
        .unwrap_err()
        .to_string();
    assert!(error.contains("4097 characters"), "{error}");

    for (open, close) in [("(", ")"), ("NOT ", ""), ("lower(", ")"), ("- ", "")] {
        let nested =
            |times: usize| format!("{}a{} IS NULL", open.repeat(times), close.repeat(times));
        assert!(Predicate::parse(&nested(20)).is_ok(), "{}", nested(20));
        let error = Predicate::parse(&nested(40)).unwrap_err().to_string();
        assert!(error.contains("deeper than 32"), "{open}: {error}");
    }
    let error = Predicate::parse(&"(".repeat(4096)).unwrap_err().to_string();
    assert!(error.contains("deeper than 32"), "{error}");
}

#[test]
fn long_chains_are_not_deep() {
    let chain = vec!["a"; 200].join(" OR ");
    assert!(Predicate::parse(&chain).is_ok());
    let sum = |parts| format!("{} = 1", vec!["a"; parts].join("+"));
    assert!(Predicate::parse(&sum(500)).is_ok());
    for parts in [501, 2045] {
        let error = Predicate::parse(&sum(parts)).unwrap_err().to_string();
        assert!(error.contains("more than 500 operators"), "{error}");
    }
    let conditions = |n| vec!["a = 1"; n].join(" AND ");
    assert!(Predicate::parse(&conditions(250)).is_ok());
    assert!(Predicate::parse(&conditions(251)).is_err());
    let list = format!("a IN ({})", vec!["1"; 2040].join(","));
    assert!(Predicate::parse(&list).is_ok());
}

/// What fits into the characters that the schema allows takes no time and no stack worth mentioning.
#[rstest]
#[case::words("NOT ")]
#[case::signs("- ")]
#[case::casts("a::int ")]
#[case::chained_casts("::int")]
#[case::tests("a IS NULL ")]
#[case::chained_tests(" IS NULL")]
#[case::comparisons("a=")]
#[case::ranges("a BETWEEN ")]
#[case::cases("CASE WHEN ")]
#[case::calls("abs(")]
#[case::arrows("a->")]
#[case::lists("a IN (")]
#[case::levels("a*a+a||a<a AND ")]
#[case::subqueries("(SELECT ")]
#[case::quotes("''")]
fn long_nonsense_is_answered_at_once(#[case] part: &str) {
    let began = std::time::Instant::now();
    let source = format!("a{}", part.repeat(4095 / part.len()));

    // A stack as small as a runtime's worker may have.
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    let parsed = thread.spawn(move || Predicate::parse(&source).is_ok());

    parsed.unwrap().join().expect("no overflow");
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn the_deepest_tree_that_is_accepted_fits_into_a_workers_stack() {
    // A chain at each level, in as many parentheses as there may be.
    let chain = |first: &str, op: &str, n: usize| format!("{first}{}", format!("{op}a").repeat(n));
    let product = chain("a", "*", 150);
    let sum = chain(&product, "+", 150);
    let text = chain(&sum, "||", 99);
    let source = chain(&format!("({text}=a)"), " OR ", 100);
    let source = format!("{}{source}{}", "(".repeat(22), ")".repeat(22));

    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let printed = thread.spawn(move || {
        let predicate = Predicate::parse(&source).expect("it is within every limit");
        predicate.clone() == predicate
            && crate::engine::postgres::print_predicate(&predicate).is_ok()
    });

    assert!(printed.unwrap().join().expect("no overflow"));
}

fn column(name: &str, type_name: &str) -> ColumnFacts {
    ColumnFacts {
        storage: None,
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        time_domain: None,
        safe_in_predicates: !matches!(type_name, "citext" | "address"),
        has_fields: type_name == "address",
        is_temporal: type_name.starts_with("timestamp"),
    }
}

fn table() -> TableFacts {
    TableFacts {
        id: 1,
        schema: "public".to_owned(),
        name: "orders".to_owned(),
        kind: TableKind::Ordinary,
        system: false,
        columns: vec![
            column("id", "bigint"),
            column("status", "text"),
            column("Total", "numeric"),
            column("created", "timestamp with time zone"),
            column("email", "citext"),
            column("home", "address"),
        ],
        leaves: vec![],
        incoming: vec![],
        row_security_active: false,
        published_without_identity: None,
        delete_rule: None,
        delete_triggers: vec![],
        delete_fails: None,
        may_select: true,
        may_delete: true,
        hindered_part: None,
        leading_index_columns: vec![],
        leading_indexes: Vec::new(),
        total_bytes: 0,
    }
}

#[rstest]
#[case("status <> 'open' AND \"Total\" > 5")]
#[case("status = 'now'")]
#[case("status IN ('known', 'unknown') AND created < '2024-01-01'")]
#[case("created = 'infinity'")]
#[case("email IS NULL OR NOT (email IS NOT NULL)")]
fn predicates_on_the_tables_own_columns_pass(#[case] source: &str) {
    assert_eq!(Predicate::parse(source).unwrap().check(&table()), Ok(()));
}

#[rstest]
#[case(
    "stauts = 'open'",
    "public.orders has no column `stauts`; its columns: status,"
)]
#[case("Total = 1", "case counts")]
#[case("email = 'a@b'", "has the type citext")]
#[case("email IS NULL AND lower(email) = 'a'", "has the type citext")]
#[case("email IS TRUE", "has the type citext")]
#[case("home IS NULL", "IS NOT NULL asks for each field")]
#[case(
    "status = 'open' AND NOT (home IS NOT NULL)",
    "IS NOT NULL asks for each field"
)]
#[case("home IS DISTINCT FROM NULL", "has the type address")]
#[case("coalesce(home, NULL) IS NULL", "has the type address")]
#[case("true", "leave `where` out")]
#[case("1 = 1", "leave `where` out")]
#[case("NULL", "leave `where` out")]
#[case("created < 'now'", "current time")]
#[case("created < 'TODAY 12:00'", "current time")]
#[case("created IN ('2024-01-01', ' yesterday ')", "current time")]
#[case("coalesce(created, 'tomorrow') < '2024-01-01'", "current time")]
#[case("created BETWEEN '-infinity' AND 'today'", "current time")]
fn predicates_that_do_not_fit_the_table_are_refused(#[case] source: &str, #[case] says: &str) {
    let error = Predicate::parse(source)
        .unwrap()
        .check(&table())
        .unwrap_err()
        .to_string();
    assert!(error.contains(says), "{error}");
}

fn any_expression() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(vec![
        "a",
        "b",
        "\"C d\"",
        "1",
        "2.5",
        "'x'",
        "'it''s'",
        "true",
        "NULL",
        "date '2024-01-01'",
        "'1 day'::interval",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 3, |inner| {
        let binary = proptest::sample::select(vec![
            "AND", "OR", "=", "<>", "<", ">=", "+", "-", "*", "/", "%", "||", "->", "->>", "LIKE",
            "NOT ILIKE", "IS DISTINCT FROM", "IS NOT DISTINCT FROM",
        ]);
        let postfix =
            proptest::sample::select(vec!["IS NULL", "IS NOT TRUE", "IS UNKNOWN", "NOTNULL"]);
        prop_oneof![
            4 => (inner.clone(), binary, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            1 => inner.clone().prop_map(|a| format!("NOT {a}")),
            1 => inner.clone().prop_map(|a| format!("- {a}")),
            2 => inner.clone().prop_map(|a| format!("({a})")),
            1 => (inner.clone(), postfix).prop_map(|(a, test)| format!("{a} {test}")),
            1 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("{a} BETWEEN {b} AND {c}")),
            1 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("{a} NOT IN ({b}, {c})")),
            1 => (inner.clone(), inner).prop_map(|(a, b)| format!("coalesce({a}, {b})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_printed_is_read_back(source in any_expression()) {
        if let Ok(predicate) = Predicate::parse(&source) {
            let text = print(predicate.root());
            prop_assert_eq!(Predicate::parse(&text), Ok(predicate), "{} printed as {}", source, text);
        }
    }

    #[test]
    fn no_text_panics(source in "\\PC{0,60}|[a-b0-9 '\"()$<>=|:.,;*/%&!@~?\\[\\]{}-]{0,40}") {
        if let Ok(predicate) = Predicate::parse(&source) {
            let text = print(predicate.root());
            prop_assert_eq!(Predicate::parse(&text), Ok(predicate));
        }
    }
}
