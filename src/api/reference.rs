//! `docs/api.md`: every field of the custom resource, written from its schema.
//!
//! `UPDATE_GENERATED=1 cargo test --lib api::reference` writes the file; without the variable the test compares.

use std::{fmt::Write as _, fs, path::Path};

use serde_json::Value;

use super::crd;

const INTRODUCTION: &str = "\
# API reference

<!-- Generated from the schema by `make generate`: do not edit. The texts come from src/api/. -->

`RetentionPolicy`, group `retention-operator.io`, version `v1alpha1`, namespaced, short name `rp`. The words are explained in
[concepts.md](concepts.md), with examples in [examples/](../examples/).

A dotted path leads to a field; `[]` stands for the entries of a list. Fields marked **required** must be written where their parent is.
`mode` and `suspend` are the only fields whose default is written into the stored object; every other default counts as of the operator's version
that reads the policy, and `retention-operator plan` shows it. Unknown fields are refused.

**In this version** marks what the schema already knows and the operator cannot do yet. A policy that uses such a field is not carried
out halfway: the rule (or, for a field outside of a rule, every rule) is refused with reason `NotSupported`, and the message names the
field. Writing a default is not a use.
";

const ANNOTATIONS: &str = "\
## Annotations

| Annotation | Value | Meaning |
|---|---|---|
| `retention-operator.io/sweep-requested-at` | an RFC 3339 instant | Sweep at once, also outside of the window. Acted on once. |
| `retention-operator.io/audit-requested-at` | an RFC 3339 instant | Audit at once. Acted on once. |
| `retention-operator.io/approved-plan` | the hash in `status.pendingApproval.planHash` | Let the blocked rules take the planned rows and a tenth more. |

An instant that is more than 24 hours old, more than 5 minutes ahead, or no instant at all is not acted on (event `StaleRequest`). A request that the
policy or the operator forbids is refused with an event (`RequestRefused`). Both are recorded as handled.
";

/// What the schema knows and this version does not do, by path below `spec`.
const NOT_YET: [(&str, &str); 7] = [
    ("database.maintenanceUrlFrom", "refused."),
    (
        "database.urlFrom",
        "`mysql://` and `mariadb://` are refused; `sqlite://` is for the offline verbs.",
    ),
    ("pace.workers", "more than 1 is refused."),
    (
        "optimize.vacuum",
        "`Full` is refused; `Auto` leaves the table to the database's autovacuum.",
    ),
    ("optimize.reindex", "`Auto` is refused."),
    ("rules[].archive.objectStore", "refused."),
    ("rules[].partitions", "`Drop` and `Detach` are refused."),
];

/// One line of a table.
struct Field {
    path: String,
    kind: String,
    text: String,
}

fn reference() -> String {
    let schema = crd::schema().expect("the schema");
    let mut page = INTRODUCTION.to_owned();
    let mut marked = 0;
    for part in ["spec", "status"] {
        let root = &schema["properties"][part];
        let _ = writeln!(page, "\n## `{part}`\n\n{}", text(root));
        let direct: Vec<_> = children(root, "");
        let (groups, leaves): (Vec<_>, Vec<_>) = direct
            .into_iter()
            .partition(|(_, child, _)| !fields(child, "").is_empty());
        let mut sections = vec![(part.to_owned(), rows(leaves, part == "spec", &mut marked))];
        for group in groups {
            let (path, child, _) = &group;
            let title = format!("{part}.{path}");
            let mut all = vec![group.clone()];
            all.extend(fields(child, path));
            sections.push((title, rows(all, part == "spec", &mut marked)));
        }
        for (title, fields) in sections {
            if title != part {
                let _ = writeln!(page, "\n### `{title}`");
            }
            page.push_str("\n| Field | Type | Meaning |\n|---|---|---|\n");
            for field in fields {
                let _ = writeln!(
                    page,
                    "| `{}` | {} | {} |",
                    field.path, field.kind, field.text
                );
            }
        }
    }
    assert_eq!(
        marked,
        NOT_YET.len(),
        "every path in NOT_YET is one of the schema"
    );
    page.push('\n');
    page.push_str(ANNOTATIONS);
    page
}

type Node<'a> = (String, &'a Value, bool);

/// The properties of an object, or of a list's entries: path, schema, required.
fn children<'a>(schema: &'a Value, path: &str) -> Vec<Node<'a>> {
    let (object, prefix) = match schema.get("items") {
        Some(items) => (items, format!("{path}[].")),
        None if path.is_empty() => (schema, String::new()),
        None => (schema, format!("{path}.")),
    };
    let required = |name: &str| {
        object["required"]
            .as_array()
            .is_some_and(|names| names.iter().any(|required| required == name))
    };
    let properties = object.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, child)| (format!("{prefix}{name}"), child, required(name)))
        .collect()
}

/// All that is below `schema`, depth first.
fn fields<'a>(schema: &'a Value, path: &str) -> Vec<Node<'a>> {
    let mut all = Vec::new();
    for (path, child, required) in children(schema, path) {
        all.push((path.clone(), child, required));
        all.extend(fields(child, &path));
    }
    all
}

fn rows(nodes: Vec<Node<'_>>, spec: bool, marked: &mut usize) -> Vec<Field> {
    nodes
        .into_iter()
        .map(|(path, schema, required)| {
            let mut text = text(schema);
            let not_yet = NOT_YET.iter().find(|(field, _)| spec && *field == path);
            if let Some((_, note)) = not_yet {
                *marked += 1;
                let _ = write!(text, " **In this version** {note}");
            }
            if required {
                text.insert_str(0, "**required** ");
            }
            Field {
                kind: kind(schema),
                path,
                text,
            }
        })
        .collect()
}

fn text(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.replace('\n', " ")
        .replace('|', "\\|")
        .replace('<', "&lt;")
}

/// The type with its bounds, in words.
fn kind(schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values
            .iter()
            .filter_map(Value::as_str)
            .map(|value| format!("`{value}`"))
            .collect();
        return values.join(", ");
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return "quantity".to_owned();
    }
    match schema["type"].as_str() {
        Some("array") => {
            let items = kind(&schema["items"]);
            match schema["maxItems"].as_u64() {
                Some(most) => format!("list of at most {most}: {items}"),
                None => format!("list: {items}"),
            }
        }
        Some("string") if schema["format"] == "date-time" => "time".to_owned(),
        Some("string") => match schema["maxLength"].as_u64() {
            Some(most) => format!("string of at most {most} characters"),
            None => "string".to_owned(),
        },
        Some("integer") => match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
            (Some(least), Some(most)) => format!("integer, {least} to {most}"),
            (Some(least), None) => format!("integer, from {least}"),
            _ => "integer".to_owned(),
        },
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    }
}

#[test]
fn the_api_reference_is_what_the_schema_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let fresh = reference();
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&file, fresh).expect("docs/api.md can be written");
        return;
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == fresh,
        "docs/api.md is not what the schema says: run `make generate` and commit the result"
    );
}

#[test]
fn the_examples_are_accepted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut policies = 0;
    for entry in fs::read_dir(folder).expect("the examples") {
        let path = entry.expect("an example").path();
        let text = fs::read_to_string(&path).expect("a text");
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
        for document in documents
            .iter()
            .filter(|document| document["kind"] == super::KIND)
        {
            policies += 1;
            if let Err(errors) = super::validate::check_document(document) {
                panic!("{}: {errors:?}", path.display());
            }
        }
    }
    assert_eq!(policies, 4, "every example but the Secrets is a policy");
}
