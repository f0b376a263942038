//! The windows that a ledger remembers: one an object, and in a large database the most that an audit holds beside its facts.

use super::Window;

/// Windows by the keys of their things: one behind the other, so that they take no more room than they need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows(Vec<(i64, Window)>);

impl Windows {
    /// The window of a thing.
    #[must_use]
    pub fn get(&self, key: i64) -> Option<&Window> {
        let place = self.0.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        self.0.get(place).map(|(_, window)| window)
    }

    /// All of them, with their keys and in the order of these.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Window)> {
        self.0.iter().map(|(key, window)| (*key, window))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// In any order; each key once.
impl From<Vec<(i64, Window)>> for Windows {
    fn from(mut windows: Vec<(i64, Window)>) -> Self {
        windows.sort_unstable_by_key(|(key, _)| *key);
        Self(windows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::usage::Break;

    fn window(id: u32) -> Window {
        Window {
            id,
            since: jiff::Timestamp::UNIX_EPOCH,
            broken_by: Break::FirstSeen,
            reads: 0,
            writes: 0,
            counted: jiff::Timestamp::UNIX_EPOCH,
            last_use: None,
            blind_seconds: 0,
        }
    }

    #[test]
    fn each_is_found_by_its_key_whatever_their_order_was() {
        let windows = Windows::from(vec![(7, window(1)), (-3, window(2)), (5, window(3))]);

        let ids = [-3, 5, 7, 6].map(|key| windows.get(key).map(|window| window.id));
        assert_eq!(ids, [Some(2), Some(3), Some(1), None]);
        assert_eq!(
            windows.iter().map(|(key, _)| key).collect::<Vec<_>>(),
            [-3, 5, 7]
        );
    }
}
