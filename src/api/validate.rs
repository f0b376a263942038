//! Checks a policy document as the API server would, without one: for the offline verbs.
//!
//! The checks are the CRD's own: its OpenAPI schema, its CEL rules and its defaults. Added are what the API server does
//! for every object: unknown fields are refused, and so are names that are no names. The sentences follow those of the API
//! server, so that one document is refused with the same words here and there.

use std::fmt;
use std::sync::LazyLock;

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use kube::core::cel::{Validator, apply_defaults};
use serde_json::{Map, Value};

use super::{API_VERSION, KIND, RetentionPolicy, crd};

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field, for example `spec.rules[0].expireAfter`. Empty for the document as a whole.
    pub path: String,
    /// What is wrong with it, and what to write instead.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

impl std::error::Error for FieldError {}

impl FieldError {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

/// The fields of `metadata` that the API server knows.
const METADATA_FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Checks one document (YAML or JSON, parsed) and decodes it. A `status` in it is ignored, as the API server ignores it.
///
/// # Errors
/// Everything that the API server would refuse, in the document's order within each kind of check. CEL rules are not
/// looked at while a field has the wrong type or is missing: they could not be evaluated.
pub fn check_document(document: &Value) -> Result<RetentionPolicy, Vec<FieldError>> {
    let Value::Object(document) = document else {
        return Err(vec![FieldError::new(
            "",
            "the document is no object: write a RetentionPolicy",
        )]);
    };
    let mut errors = check_type(document);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut document = document.clone();
    document.remove("status");
    let is_named = check_metadata(&document, &mut errors);

    let schema = SCHEMA
        .as_ref()
        .map_err(|error| vec![FieldError::new("", error.to_string())])?;
    let mut document = Value::Object(document);
    normalize(&mut document, schema, "", &mut errors);
    let document = apply_defaults(schema, &document);

    let rules_apply = check_schema(&document, schema, &mut errors);
    check_numbers(&document["spec"], "spec", &mut errors);
    if rules_apply
        && is_named
        && let Err(broken) = Validator::new().validate(schema, &document, None)
    {
        errors.extend(
            broken
                .into_iter()
                .map(|rule| FieldError::new(rule.field_path, rule.message)),
        );
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    serde_json::from_value(document).map_err(|error| vec![FieldError::new("", error.to_string())])
}

/// The CRD's schema with the fields that every object has, which a CRD does not state, and without the status, which no author writes.
static SCHEMA: LazyLock<Result<Value, crd::CrdError>> = LazyLock::new(|| {
    let mut schema = crd::schema()?;
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("status");
        for (field, kind) in [
            ("apiVersion", "string"),
            ("kind", "string"),
            ("metadata", "object"),
        ] {
            properties
                .entry(field)
                .or_insert_with(|| serde_json::json!({"type": kind}));
        }
    }
    Ok(schema)
});

/// The schema takes numbers for whole ones that no field can hold: they have a fraction of zero, or too many digits.
fn check_numbers(value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Number(number)
            if number.as_i64().is_none()
                && number.as_f64().is_none_or(|number| number.fract() == 0.0) =>
        {
            errors.push(FieldError::new(
                path,
                format!(
                    "{number}: write a whole number of at most {}, with its digits alone",
                    i64::MAX
                ),
            ));
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                check_numbers(item, &format!("{path}[{n}]"), errors);
            }
        }
        Value::Object(fields) => {
            for (field, value) in fields {
                check_numbers(value, &format!("{path}.{field}"), errors);
            }
        }
        _ => {}
    }
}

/// Whether the document is a `RetentionPolicy` at all.
fn check_type(document: &Map<String, Value>) -> Vec<FieldError> {
    [("apiVersion", API_VERSION), ("kind", KIND)]
        .into_iter()
        .filter(|(field, expected)| document.get(*field).and_then(Value::as_str) != Some(expected))
        .map(|(field, expected)| {
            let found = document
                .get(field)
                .map_or_else(|| "missing".to_owned(), |v| format!("{v}"));
            FieldError::new(field, format!("{found}: write {field}: {expected}"))
        })
        .collect()
}

/// Checks what the CRD's schema leaves to the API server: the metadata. Answers whether there is a name for the rules to
/// look at.
fn check_metadata(document: &Map<String, Value>, errors: &mut Vec<FieldError>) -> bool {
    let metadata = document.get("metadata").and_then(Value::as_object);
    for field in metadata.into_iter().flat_map(Map::keys) {
        if !METADATA_FIELDS.contains(&field.as_str()) {
            errors.push(unknown_field(
                "metadata",
                field,
                METADATA_FIELDS.into_iter(),
            ));
        }
    }
    for map in ["annotations", "labels"] {
        let entries = metadata
            .and_then(|metadata| metadata.get(map))
            .and_then(Value::as_object);
        for (key, value) in entries.into_iter().flatten() {
            if !value.is_string() {
                errors.push(FieldError::new(
                    format!("metadata.{map}.{key}"),
                    format!("Invalid value: {value}: must be of type string: write it in quotes"),
                ));
            }
        }
    }
    let name = metadata
        .and_then(|metadata| metadata.get("name"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    if name.is_empty() {
        errors.push(FieldError::new(
            "metadata.name",
            "Required value: write a name for the policy",
        ));
    } else if !is_subdomain(name) {
        errors.push(FieldError::new(
            "metadata.name",
            format!(
                "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                 characters, '-' or '.', and must start and end with an alphanumeric character: write for example orders"
            ),
        ));
    }
    !name.is_empty()
}

/// Whether `name` is a DNS subdomain (RFC 1123).
fn is_subdomain(name: &str) -> bool {
    let lower_or_digit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|label| {
            label.starts_with(lower_or_digit)
                && label.ends_with(lower_or_digit)
                && label.chars().all(|c| lower_or_digit(c) || c == '-')
        })
}

/// Drops fields that are null, which the API server takes as left out, and reports those that the schema does not know.
fn normalize(node: &mut Value, schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match node {
        Value::Object(fields) => {
            let Some(known) = schema.get("properties").and_then(Value::as_object) else {
                return;
            };
            for field in fields.keys().filter(|field| !known.contains_key(*field)) {
                errors.push(unknown_field(path, field, known.keys().map(String::as_str)));
            }
            fields.retain(|field, value| known.contains_key(field) && !value.is_null());
            for (field, value) in fields {
                if let Some(schema) = known.get(field) {
                    normalize(value, schema, &join(path, field), errors);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.get("items") else {
                return;
            };
            for (index, item) in items.iter_mut().enumerate() {
                normalize(item, schema, &format!("{path}[{index}]"), errors);
            }
        }
        _ => {}
    }
}

fn unknown_field<'a>(path: &str, field: &str, known: impl Iterator<Item = &'a str>) -> FieldError {
    let nearest = known
        .map(|candidate| {
            (
                edit_distance(&field.to_lowercase(), &candidate.to_lowercase()),
                candidate,
            )
        })
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4);
    let advice = match nearest {
        Some((_, candidate)) => format!("did you mean {candidate}?"),
        None => "remove it".to_owned(),
    };
    FieldError::new(join(path, field), format!("unknown field: {advice}"))
}

/// How many characters must be changed, added or removed to make `b` of `a` (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((to, above), diagonal) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or(i + 1);
            next.push(
                (diagonal + usize::from(from != *to))
                    .min(above + 1)
                    .min(left + 1),
            );
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// Checks the document against the schema without its rules. Answers whether the rules can be evaluated on it.
fn check_schema(document: &Value, schema: &Value, errors: &mut Vec<FieldError>) -> bool {
    let mut plain = schema.clone();
    to_json_schema(&mut plain);
    let validator = match jsonschema::validator_for(&plain) {
        Ok(validator) => validator,
        Err(error) => {
            errors.push(FieldError::new(
                "",
                format!("the CRD's schema is malformed: {error}"),
            ));
            return false;
        }
    };
    let mut rules_apply = true;
    for error in validator.iter_errors(document) {
        rules_apply &= matches!(
            error.kind(),
            ValidationErrorKind::Minimum { .. } | ValidationErrorKind::Maximum { .. }
        );
        errors.push(schema_error(&error, schema));
    }
    rules_apply
}

/// Turns Kubernetes' extensions of JSON Schema into JSON Schema.
fn to_json_schema(node: &mut Value) {
    match node {
        Value::Object(schema) => {
            if schema.remove("x-kubernetes-int-or-string") == Some(Value::Bool(true)) {
                schema.insert("type".into(), serde_json::json!(["integer", "string"]));
            }
            schema.retain(|keyword, _| !keyword.starts_with("x-kubernetes-"));
            schema.values_mut().for_each(to_json_schema);
        }
        Value::Array(items) => items.iter_mut().for_each(to_json_schema),
        _ => {}
    }
}

/// Says what the API server would say.
fn schema_error(error: &ValidationError<'_>, schema: &Value) -> FieldError {
    let path = field_path(error.instance_path());
    let found = error.instance();
    let message = match error.kind() {
        ValidationErrorKind::Required { property } => {
            let property = property.as_str().unwrap_or_default();
            let field = node(schema, error.instance_path())
                .and_then(|object| object.get("properties")?.get(property));
            return FieldError::new(
                join(&path, property),
                format!("Required value{}", advice(field)),
            );
        }
        ValidationErrorKind::Enum { options } => {
            let options: Vec<String> = options
                .as_array()
                .into_iter()
                .flatten()
                .map(Value::to_string)
                .collect();
            format!(
                "Unsupported value: {found}: supported values: {}",
                options.join(", ")
            )
        }
        ValidationErrorKind::Type { kind } => {
            let expected = match kind {
                TypeKind::Single(expected) => expected.to_string(),
                TypeKind::Multiple(_) => "integer,string".to_owned(),
            };
            let quotes = if found.is_boolean() && expected == "string" {
                ": YAML may read Off, On, No and Yes as booleans: write it in quotes, such as \"Off\""
            } else {
                ""
            };
            let advice = advice(node(schema, error.instance_path()));
            format!("Invalid value: {found}: must be of type {expected}{quotes}{advice}")
        }
        ValidationErrorKind::Minimum { limit } => {
            format!("Invalid value: {found}: should be greater than or equal to {limit}")
        }
        ValidationErrorKind::Maximum { limit } => {
            format!("Invalid value: {found}: should be less than or equal to {limit}")
        }
        ValidationErrorKind::MaxLength { limit } => {
            format!("Too long: may not be more than {limit} bytes")
        }
        ValidationErrorKind::MaxItems { limit } => {
            let count = found.as_array().map_or(0, Vec::len);
            format!("Too many: {count}: must have at most {limit} items")
        }
        _ => format!("Invalid value: {error}"),
    };
    FieldError::new(path, message)
}

/// The part of the schema that describes the value at `location`.
fn node<'a>(schema: &'a Value, location: &Location) -> Option<&'a Value> {
    location
        .into_iter()
        .try_fold(schema, |node, segment| match segment {
            LocationSegment::Property(name) => node.get("properties")?.get(name.as_ref()),
            LocationSegment::Index(_) => node.get("items"),
        })
}

/// What the field's description says, to be put after a message.
fn advice(field: Option<&Value>) -> String {
    field
        .and_then(|field| field.get("description")?.as_str())
        .map_or_else(String::new, |text| format!(": {text}"))
}

/// `location` as Kubernetes writes it: `spec.rules[0].name`.
fn field_path(location: &Location) -> String {
    location
        .into_iter()
        .fold(String::new(), |path, segment| match segment {
            LocationSegment::Property(name) => join(&path, &name),
            LocationSegment::Index(index) => format!("{path}[{index}]"),
        })
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() {
        field.to_owned()
    } else {
        format!("{path}.{field}")
    }
}

#[cfg(test)]
mod tests;
