//! Where a sweep stands: leaf by leaf, each range of blocks once, then once the blocks that appeared meanwhile.

use crate::engine::cursor::{BlockCursor, Cursor};

/// A place in the walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Index of the leaf.
    pub(super) leaf: usize,
    /// The leaf's physical file; 0: not looked at yet.
    pub(super) filenode: u32,
    /// The next block to take.
    pub(super) next: u64,
    /// The block to stop before, fixed when the pass began.
    pub(super) end: u64,
    /// The second pass.
    pub(super) last_pass: bool,
}

/// Blocks from `start` up to and without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Range {
    pub(super) fn pages(self) -> u64 {
        self.end - self.start
    }

    /// The very beginning of its first block, as a tid's text: no row has the line number 0.
    pub(super) fn first(self) -> String {
        format!("({},0)", self.start)
    }

    /// The very beginning of the block after it.
    pub(super) fn beyond(self) -> String {
        format!("({},0)", self.end)
    }
}

impl Position {
    /// At the beginning of a leaf.
    pub(super) fn start_of(leaf: usize) -> Self {
        Self {
            leaf,
            filenode: 0,
            next: 0,
            end: 0,
            last_pass: false,
        }
    }

    /// Where `cursor` stood, among leaves with these ids in ascending order. A leaf that is gone is passed over.
    pub(super) fn resume(cursor: &Cursor, ids: &[u32]) -> Self {
        let Cursor::Blocks(cursor) = cursor else {
            return Self::start_of(0);
        };
        let leaf = ids.partition_point(|id| *id < cursor.leaf);
        if ids.get(leaf) != Some(&cursor.leaf) {
            return Self::start_of(leaf);
        }
        Self {
            leaf,
            filenode: cursor.filenode,
            next: cursor.next_block,
            end: cursor.end_block,
            last_pass: cursor.last_pass,
        }
    }

    pub(super) fn cursor(&self, id: u32) -> Cursor {
        Cursor::Blocks(BlockCursor {
            leaf: id,
            filenode: self.filenode,
            next_block: self.next,
            end_block: self.end,
            last_pass: self.last_pass,
        })
    }

    /// Takes in what the leaf looks like now, and moves on to the last pass when the first is over. A file that is not the one
    /// of before (rewritten, truncated) is walked from its beginning.
    pub(super) fn look(&mut self, filenode: u32, blocks: u64) {
        if self.filenode != filenode {
            self.filenode = filenode;
            self.next = 0;
            self.end = blocks;
            self.last_pass = false;
        }
        // VACUUM gives back empty blocks at the end; should they come again, they are new ones.
        self.end = self.end.min(blocks);
        self.next = self.next.min(self.end);
        if self.next == self.end && !self.last_pass {
            self.last_pass = true;
            self.end = blocks;
        }
    }

    /// The next range of at most `pages` blocks; `None`: the leaf is done.
    pub(super) fn range(&self, pages: u32) -> Option<Range> {
        (self.next < self.end).then(|| Range {
            start: self.next,
            end: self.end.min(self.next + u64::from(pages.max(1))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(position: &mut Position, pages: u32, blocks: &[u64]) -> Vec<(u64, u64)> {
        let mut ranges = Vec::new();
        for blocks in blocks {
            position.look(1, *blocks);
            if let Some(range) = position.range(pages) {
                ranges.push((range.start, range.end));
                position.next = range.end;
            }
        }
        ranges
    }

    #[test]
    fn blocks_that_appear_are_walked_once_more_and_not_for_ever() {
        let mut position = Position::start_of(0);

        let ranges = walked(&mut position, 4, &[6, 8, 9, 12, 14, 99]);

        assert_eq!(ranges, [(0, 4), (4, 6), (6, 9)]);
    }

    #[test]
    fn a_leaf_without_blocks_is_done_at_once() {
        let mut position = Position::start_of(0);

        position.look(1, 0);

        assert_eq!(position.range(10), None);
    }

    #[test]
    fn a_new_file_is_walked_from_its_beginning() {
        let mut position = Position {
            leaf: 0,
            filenode: 1,
            next: 5,
            end: 8,
            last_pass: true,
        };

        position.look(2, 3);

        assert_eq!(position.range(10), Some(Range { start: 0, end: 3 }));
        assert!(!position.last_pass);
    }

    #[test]
    fn a_table_that_shrank_and_grew_again_is_walked_where_it_grew() {
        let mut position = Position {
            leaf: 0,
            filenode: 1,
            next: 6,
            end: 8,
            last_pass: false,
        };

        position.look(1, 4);
        assert_eq!(position.range(10), None);
        let mut position = Position {
            leaf: 0,
            filenode: 1,
            next: 2,
            end: 8,
            last_pass: false,
        };
        position.look(1, 4);
        assert_eq!(position.range(10), Some(Range { start: 2, end: 4 }));
        position.next = 4;
        position.look(1, 7);

        assert_eq!(position.range(10), Some(Range { start: 4, end: 7 }));
    }

    #[test]
    fn a_cursor_finds_its_leaf_again_or_the_one_after_it() {
        let position = Position {
            leaf: 1,
            filenode: 9,
            next: 3,
            end: 7,
            last_pass: true,
        };
        let cursor = position.cursor(20);

        assert_eq!(Position::resume(&cursor, &[10, 20, 30]), position);
        assert_eq!(Position::resume(&cursor, &[10, 30]), Position::start_of(1));
        assert_eq!(Position::resume(&cursor, &[10]), Position::start_of(1));
    }
}
