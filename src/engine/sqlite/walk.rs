//! Where a sweep stands: each range of keys once in their order, then once the keys behind the last of them that appeared meanwhile.

use crate::engine::cursor::{Cursor, KeyCursor, KeyPart};

/// A place in the walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position(KeyCursor);

impl Position {
    /// Before the first row.
    pub(super) fn start(schema: i64) -> Self {
        Self(KeyCursor {
            schema,
            after: None,
            end: None,
            last_pass: false,
            walked: 0,
        })
    }

    /// Where `cursor` stood, if the schema is still what it was: a rewritten table's rows may have new keys.
    pub(super) fn resume(cursor: Option<Cursor>, schema: i64) -> Self {
        match cursor {
            Some(Cursor::Keys(cursor)) if cursor.schema == schema => Self(cursor),
            _ => Self::start(schema),
        }
    }

    pub(super) fn cursor(&self) -> Cursor {
        Cursor::Keys(self.0.clone())
    }

    /// The state of the schema that the keys belong to.
    pub(super) fn schema(&self) -> i64 {
        self.0.schema
    }

    /// The key behind which the next range begins.
    pub(super) fn after(&self) -> Option<&[KeyPart]> {
        self.0.after.as_deref()
    }

    /// The last key of this pass; `None`: it has not begun.
    pub(super) fn end(&self) -> Option<&[KeyPart]> {
        self.0.end.as_deref()
    }

    /// Pages walked so far.
    pub(super) fn walked(&self) -> u64 {
        self.0.walked
    }

    /// Begins a pass up to the last key that there is now.
    pub(super) fn begin(&mut self, last: Vec<KeyPart>) {
        self.0.end = Some(last);
    }

    /// Everything up to `key` was walked.
    pub(super) fn advance(&mut self, key: Vec<KeyPart>, pages: u64) {
        self.0.after = Some(key);
        self.0.walked += pages;
    }

    /// A pass is over; `false`: so is the walk.
    pub(super) fn pass_over(&mut self) -> bool {
        if self.0.last_pass {
            return false;
        }
        self.0.last_pass = true;
        self.0.after = self.0.end.take();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: i64) -> Vec<KeyPart> {
        vec![KeyPart::Integer(n)]
    }

    #[test]
    fn there_are_two_passes_and_the_second_begins_behind_the_first() {
        let mut position = Position::start(7);
        position.begin(key(10));
        position.advance(key(4), 1);
        assert_eq!(
            (position.after(), position.end()),
            (Some(&key(4)[..]), Some(&key(10)[..]))
        );

        assert!(position.pass_over());
        assert_eq!(
            (position.after(), position.end()),
            (Some(&key(10)[..]), None)
        );
        position.begin(key(12));

        assert!(!position.pass_over());
        assert_eq!(position.walked(), 1);
    }

    #[test]
    fn a_cursor_is_of_use_while_the_schema_stays() {
        let mut position = Position::start(7);
        position.begin(key(10));
        position.advance(key(4), 1);

        assert_eq!(Position::resume(Some(position.cursor()), 7), position);
        assert_eq!(
            Position::resume(Some(position.cursor()), 8),
            Position::start(8)
        );
        assert_eq!(Position::resume(None, 8), Position::start(8));
    }
}
