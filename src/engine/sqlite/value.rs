//! Values that are bound, and keys as they are stored.

use sqlx::{
    Row, Sqlite, ValueRef,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use crate::engine::cursor::KeyPart;

/// One bound value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl Value {
    pub(super) fn bind(
        &self,
        query: Query<'static, Sqlite, SqliteArguments>,
    ) -> Query<'static, Sqlite, SqliteArguments> {
        match self {
            Self::Integer(value) => query.bind(*value),
            Self::Real(value) => query.bind(*value),
            Self::Text(value) => query.bind(value.clone()),
            Self::Blob(value) => query.bind(value.clone()),
        }
    }
}

/// The values of a key's places: with `tagged` a part and whether it is a text.
pub(super) fn bound(key: &[KeyPart], tagged: bool) -> Vec<Value> {
    let mut values = Vec::with_capacity(2 * key.len());
    for part in key {
        let (value, is_text) = match part {
            KeyPart::Integer(value) => (Value::Integer(*value), 0),
            KeyPart::Real(bits) => (Value::Real(f64::from_bits(*bits)), 0),
            // A text travels as its bytes: it need not be UTF-8, and may hold a NUL.
            KeyPart::Text(bytes) => (Value::Blob(bytes.clone()), 1),
            KeyPart::Blob(bytes) => (Value::Blob(bytes.clone()), 0),
        };
        values.push(value);
        if tagged {
            values.push(Value::Integer(is_text));
        }
    }
    values
}

/// Reads the key that [`Key::select`](super::catalog::Key::select) asked for.
pub(super) fn key(row: &SqliteRow, parts: usize) -> Result<Vec<KeyPart>, sqlx::Error> {
    (0..parts)
        .map(|n| {
            let kind: String = row.try_get(2 * n)?;
            let place = 2 * n + 1;
            if row.try_get_raw(place)?.is_null() {
                // A key holds no NULL.
                return Err(sqlx::Error::RowNotFound);
            }
            Ok(match kind.as_str() {
                "integer" => KeyPart::Integer(row.try_get(place)?),
                "real" => KeyPart::Real(row.try_get::<f64, _>(place)?.to_bits()),
                "text" => KeyPart::Text(row.try_get(place)?),
                _ => KeyPart::Blob(row.try_get(place)?),
            })
        })
        .collect()
}
