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
    /// Where in that block; 0: at its beginning.
    pub(super) line: u16,
    /// The block to stop before, fixed when the pass began.
    pub(super) end: u64,
    /// The second pass.
    pub(super) last_pass: bool,
}

/// Blocks from `start` up to and without `end`, from a line of the first one on, and a part of one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) start_line: u16,
    pub(super) end: u64,
    /// Lines before this one of block `end` are in it, too.
    pub(super) end_line: u16,
}

impl Range {
    /// Blocks of which it has the end.
    pub(super) fn pages(self) -> u64 {
        self.end - self.start
    }

    /// Its beginning, as a tid's text: no row has the line number 0.
    pub(super) fn first(self) -> String {
        format!("({},{})", self.start, self.start_line)
    }

    /// What is no more in it.
    pub(super) fn beyond(self) -> String {
        format!("({},{})", self.end, self.end_line)
    }

    /// The part of its first block that lies before a tid, which is written as the server does.
    pub(super) fn before(self, tid: &str) -> Option<Self> {
        let inner = tid.strip_prefix('(')?.strip_suffix(')')?;
        let (block, line) = inner.split_once(',')?;
        let (end, end_line) = (block.parse().ok()?, line.parse().ok()?);
        let is_inside = end == self.start && end_line > self.start_line;
        is_inside.then_some(Self {
            end,
            end_line,
            ..self
        })
    }
}

impl Position {
    /// At the beginning of a leaf.
    pub(super) fn start_of(leaf: usize) -> Self {
        Self {
            leaf,
            filenode: 0,
            next: 0,
            line: 0,
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
            line: cursor.next_line,
            end: cursor.end_block,
            last_pass: cursor.last_pass,
        }
    }

    pub(super) fn cursor(&self, id: u32) -> Cursor {
        Cursor::Blocks(BlockCursor {
            leaf: id,
            filenode: self.filenode,
            next_block: self.next,
            next_line: self.line,
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
            self.line = 0;
            self.end = blocks;
            self.last_pass = false;
        }
        // VACUUM gives back empty blocks at the end; should they come again, they are new ones.
        self.end = self.end.min(blocks);
        if self.next >= self.end {
            self.next = self.end;
            self.line = 0;
        }
        if self.next == self.end && !self.last_pass {
            self.last_pass = true;
            self.end = blocks;
        }
    }

    /// The next range of at most `pages` blocks; `None`: the leaf is done.
    pub(super) fn range(&self, pages: u32) -> Option<Range> {
        (self.next < self.end).then(|| Range {
            start: self.next,
            start_line: self.line,
            end: self.end.min(self.next + u64::from(pages.max(1))),
            end_line: 0,
        })
    }

    /// A range is done.
    pub(super) fn advance(&mut self, range: Range) {
        self.next = range.end;
        self.line = range.end_line;
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
                position.advance(range);
            }
        }
        ranges
    }

    fn blocks(start: u64, end: u64) -> Range {
        Range {
            start,
            start_line: 0,
            end,
            end_line: 0,
        }
    }

    #[test]
    fn a_block_may_be_taken_in_parts_and_is_gone_on_with_after_a_stop() {
        let mut position = Position::start_of(0);
        position.look(1, 3);
        let block = position.range(1).unwrap();

        let part = block.before("(0,7)").unwrap();
        position.advance(part);
        let rest = position.range(1).unwrap();
        let resumed = Position::resume(&position.cursor(9), &[9]);
        position.advance(rest);

        assert_eq!(
            (part.first(), part.beyond()),
            ("(0,0)".into(), "(0,7)".into())
        );
        assert_eq!(
            (rest.first(), rest.beyond()),
            ("(0,7)".into(), "(1,0)".into())
        );
        assert_eq!((part.pages(), rest.pages()), (0, 1));
        assert_eq!(resumed.range(1), Some(rest));
        assert_eq!(position.range(1), Some(blocks(1, 2)));
        position.advance(position.range(1).unwrap().before("(1,2)").unwrap());
        position.look(2, 3);
        assert_eq!(position.range(1), Some(block), "another file");
    }

    #[test]
    fn only_a_tid_inside_of_its_first_block_parts_a_range() {
        let block = Range {
            start_line: 3,
            ..blocks(4, 6)
        };

        for tid in ["(4,3)", "(4,0)", "(5,1)", "(3,9)", "4,5", "(4;5)", ""] {
            assert_eq!(block.before(tid), None, "{tid}");
        }
        assert!(block.before("(4,4)").is_some());
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
            line: 0,
            end: 8,
            last_pass: true,
        };

        position.look(2, 3);

        assert_eq!(position.range(10), Some(blocks(0, 3)));
        assert!(!position.last_pass);
    }

    #[test]
    fn a_table_that_shrank_and_grew_again_is_walked_where_it_grew() {
        let mut position = Position {
            leaf: 0,
            filenode: 1,
            next: 6,
            line: 0,
            end: 8,
            last_pass: false,
        };

        position.look(1, 4);
        assert_eq!(position.range(10), None);
        let mut position = Position {
            leaf: 0,
            filenode: 1,
            next: 2,
            line: 0,
            end: 8,
            last_pass: false,
        };
        position.look(1, 4);
        assert_eq!(position.range(10), Some(blocks(2, 4)));
        position.next = 4;
        position.look(1, 7);

        assert_eq!(position.range(10), Some(blocks(4, 7)));
    }

    #[test]
    fn a_cursor_finds_its_leaf_again_or_the_one_after_it() {
        let position = Position {
            leaf: 1,
            filenode: 9,
            next: 3,
            line: 0,
            end: 7,
            last_pass: true,
        };
        let cursor = position.cursor(20);

        assert_eq!(Position::resume(&cursor, &[10, 20, 30]), position);
        assert_eq!(Position::resume(&cursor, &[10, 30]), Position::start_of(1));
        assert_eq!(Position::resume(&cursor, &[10]), Position::start_of(1));
    }
}
