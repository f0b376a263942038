//! On which event a trigger fires: the schema keeps its text only.

/// What a `CREATE TRIGGER` says before its table.
struct Head {
    /// Without a word for it a trigger fires before.
    before: bool,
    /// It names another event than DELETE.
    other_event: bool,
}

/// Whether the trigger of that `CREATE TRIGGER` fires on DELETE. In doubt it does.
pub(super) fn fires_on_delete(text: &str) -> bool {
    head(text).is_none_or(|head| !head.other_event)
}

/// Whether it fires before its row is deleted. Views alone have triggers that fire instead.
pub(super) fn fires_before(text: &str) -> bool {
    head(text).is_some_and(|head| head.before)
}

fn head(text: &str) -> Option<Head> {
    let mut words = Words(text);
    words.next().filter(|word| word.is("CREATE"))?;
    let mut word = words.next();
    if word
        .as_ref()
        .is_some_and(|word| word.is("TEMP") || word.is("TEMPORARY"))
    {
        word = words.next();
    }
    word.filter(|word| word.is("TRIGGER"))?;
    let mut name = words.next();
    if name.as_ref().is_some_and(|word| word.is("IF")) {
        // IF NOT EXISTS name; a trigger may be called `if`, too.
        let mut ahead = Words(words.0);
        if ahead.next().is_some_and(|word| word.is("NOT"))
            && ahead.next().is_some_and(|word| word.is("EXISTS"))
        {
            words = ahead;
            name = words.next();
        }
    }
    name?;
    let mut word = words.next();
    if word == Some(Word::Sign('.')) {
        words.next();
        word = words.next();
    }
    let mut before = true;
    if word
        .as_ref()
        .is_some_and(|word| word.is("BEFORE") || word.is("AFTER"))
    {
        before = word.is_some_and(|word| word.is("BEFORE"));
        word = words.next();
    } else if word.as_ref().is_some_and(|word| word.is("INSTEAD")) {
        before = false;
        words.next();
        word = words.next();
    }
    Some(Head {
        before,
        other_event: word.is_some_and(|word| word.is("INSERT") || word.is("UPDATE")),
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Word<'a> {
    Bare(&'a str),
    Quoted,
    Sign(char),
}

impl Word<'_> {
    fn is(&self, keyword: &str) -> bool {
        matches!(self, Word::Bare(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// The rest of a statement, word by word; comments are passed over.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<Word<'a>> {
        loop {
            let text = self.0.trim_start();
            if let Some(comment) = text.strip_prefix("--") {
                self.0 = comment.split_once('\n').map_or("", |(_, rest)| rest);
            } else if let Some(comment) = text.strip_prefix("/*") {
                self.0 = comment.split_once("*/").map_or("", |(_, rest)| rest);
            } else {
                self.0 = text;
                break;
            }
        }
        let first = self.0.chars().next()?;
        let close = match first {
            '"' | '\'' | '`' => Some(first),
            '[' => Some(']'),
            _ => None,
        };
        if let Some(close) = close {
            self.pass_quoted(first, close);
            return Some(Word::Quoted);
        }
        let end = self
            .0
            .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()))
            .unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end.max(first.len_utf8()));
        self.0 = rest;
        Some(if end == 0 {
            Word::Sign(first)
        } else {
            Word::Bare(word)
        })
    }

    /// A doubled quote stands for itself.
    fn pass_quoted(&mut self, open: char, close: char) {
        let mut rest = self.0.get(open.len_utf8()..).unwrap_or("");
        while let Some((_, after)) = rest.split_once(close) {
            rest = after;
            match rest.strip_prefix(close) {
                Some(after) if close != ']' => rest = after,
                _ => {
                    self.0 = rest;
                    return;
                }
            }
        }
        self.0 = "";
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("CREATE TRIGGER a AFTER DELETE ON t BEGIN SELECT 1; END", true)]
    #[case("CREATE TRIGGER a BEFORE DELETE ON t BEGIN SELECT 1; END", true)]
    #[case(
        "create trigger if not exists main.a delete on t begin select 1; end",
        true
    )]
    #[case("CREATE TRIGGER a AFTER INSERT ON t BEGIN DELETE FROM t; END", false)]
    #[case("CREATE TRIGGER a UPDATE OF x ON t BEGIN SELECT 1; END", false)]
    #[case(
        "CREATE TRIGGER \"delete\" AFTER INSERT ON t BEGIN SELECT 1; END",
        false
    )]
    #[case(
        "CREATE TRIGGER 'x insert' -- INSERT\n AFTER /* UPDATE */ DELETE ON t BEGIN SELECT 1; END",
        true
    )]
    #[case(
        "CREATE TRIGGER [a b].\"c \"\" d\" AFTER DELETE ON t BEGIN SELECT 1; END",
        true
    )]
    #[case("CREATE TRIGGER `x`INSERT ON t BEGIN SELECT 1; END", false)]
    #[case("CREATE TRIGGER if AFTER INSERT ON t BEGIN SELECT 1; END", false)]
    #[case("CREATE TRIGGER überprüft AFTER DELETE ON t BEGIN SELECT 1; END", true)]
    #[case("something else", true)]
    #[case("", true)]
    fn a_triggers_event_is_read_from_its_text(#[case] text: &str, #[case] on_delete: bool) {
        assert_eq!(fires_on_delete(text), on_delete, "{text}");
    }

    #[rstest]
    #[case("CREATE TRIGGER a AFTER DELETE ON t BEGIN SELECT 1; END", false)]
    #[case("CREATE TRIGGER a BEFORE DELETE ON t BEGIN SELECT 1; END", true)]
    #[case(
        "create trigger if not exists main.a before delete on t begin select 1; end",
        true
    )]
    #[case("CREATE TRIGGER a DELETE ON t BEGIN SELECT 1; END", true)]
    #[case("CREATE TRIGGER \"after\"DELETE ON t BEGIN SELECT 1; END", true)]
    #[case(
        "CREATE TRIGGER before /* BEFORE */ AFTER DELETE ON t BEGIN SELECT 1; END",
        false
    )]
    #[case("CREATE TRIGGER a INSTEAD OF DELETE ON v BEGIN SELECT 1; END", false)]
    fn a_triggers_time_is_read_from_its_text(#[case] text: &str, #[case] before: bool) {
        assert_eq!(fires_before(text), before, "{text}");
    }
}
