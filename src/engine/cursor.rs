//! Where a walk stands, so that a new connection can go on.

/// A place in the walk over a table. Only the engine that made it can read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// Among physical blocks, leaf by leaf.
    Blocks(BlockCursor),
    /// Among the rows in the order of their key.
    Keys(KeyCursor),
}

/// See [`Cursor::Blocks`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockCursor {
    /// The leaf being walked: its [`LeafFacts::id`](crate::policy::table::LeafFacts::id). Leaves are walked in the order of their ids.
    pub leaf: u32,
    /// Its physical file: a rewritten table is walked anew.
    pub filenode: u32,
    /// The next block to take.
    pub next_block: u64,
    /// Where in that block; 0: at its beginning.
    pub next_line: u16,
    /// Blocks that the leaf had when its walk began; 0: not begun.
    pub end_block: u64,
    /// The second, shorter pass over blocks that appeared since then.
    pub last_pass: bool,
}

/// See [`Cursor::Keys`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCursor {
    /// The state of the schema: rows of a rewritten table may have new keys, and are walked anew.
    pub schema: i64,
    /// The last key that was walked; `None`: not begun.
    pub after: Option<Vec<KeyPart>>,
    /// The last key of this pass; `None`: not begun.
    pub end: Option<Vec<KeyPart>>,
    /// The second, shorter pass over keys that appeared since then.
    pub last_pass: bool,
    /// Pages walked so far.
    pub walked: u64,
}

/// One column of a row's key, exactly as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// A whole number.
    Integer(i64),
    /// A number, by its bits.
    Real(u64),
    /// A text, as the bytes that the database keeps.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
}
