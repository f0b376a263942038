//! What a sweep goes on with, in as few bytes as a line of text can be: the names of fields, 32 times over, are most of it.

use crate::api::{UnfinishedRule, UnfinishedSweep};

/// Nothing, in a line.
const NONE: &str = "-";

/// Writes the rules of an unfinished sweep as lines.
pub(super) fn pack(unfinished: &mut UnfinishedSweep) {
    let lines = unfinished.rules.drain(..).map(|rule| line(&rule));
    unfinished.packed.extend(lines);
}

/// The rules of an unfinished sweep, in whichever form; `None`: somebody else wrote something else.
pub(super) fn rules(unfinished: &UnfinishedSweep) -> Option<Vec<UnfinishedRule>> {
    let packed = unfinished.packed.iter().map(|line| read(line));
    let written = unfinished.rules.iter().cloned().map(Some);
    written.chain(packed).collect()
}

/// The name, ten numbers, whether the rule is done, and the cutoff, in which there may be blanks.
fn line(rule: &UnfinishedRule) -> String {
    let numbers = [
        rule.table_id,
        rule.rows_at_start,
        rule.rows_done,
        rule.rows_archived,
        rule.rows_unknown,
        rule.rows_reserved,
        rule.rows_total,
        rule.rows_counted,
        rule.archived_counted,
        rule.rows_approved,
        rule.done.map(i64::from),
    ];
    let mut parts = vec![rule.name.clone()];
    parts.extend(numbers.map(|number| number.map_or_else(|| NONE.to_owned(), numeral)));
    parts.push(rule.cutoff.clone().unwrap_or_else(|| NONE.to_owned()));
    parts.join(" ")
}

/// Counts have up to thirteen decimal digits.
const RADIX: u32 = 36;

/// A count; it is never negative.
fn numeral(number: i64) -> String {
    let mut rest = u64::try_from(number).unwrap_or(0);
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(rest % u64::from(RADIX)).unwrap_or(0);
        digits.extend(char::from_digit(digit, RADIX));
        rest /= u64::from(RADIX);
        if rest == 0 {
            return digits.iter().rev().collect();
        }
    }
}

fn read(line: &str) -> Option<UnfinishedRule> {
    let mut parts = line.splitn(13, ' ');
    let name = parts.next()?.to_owned();
    let mut number = || -> Option<Option<i64>> {
        match parts.next()? {
            NONE => Some(None),
            number => {
                let number = i64::from_str_radix(number, RADIX).ok();
                number.filter(|number| *number >= 0).map(Some)
            }
        }
    };
    Some(UnfinishedRule {
        name,
        table_id: number()?,
        rows_at_start: number()?,
        rows_done: number()?,
        rows_archived: number()?,
        rows_unknown: number()?,
        rows_reserved: number()?,
        rows_total: number()?,
        rows_counted: number()?,
        archived_counted: number()?,
        rows_approved: number()?,
        done: match number()? {
            None => None,
            Some(0) => Some(false),
            Some(1) => Some(true),
            Some(_) => return None,
        },
        cutoff: match parts.next()? {
            NONE => None,
            cutoff => Some(cutoff.to_owned()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfinished() -> UnfinishedSweep {
        let whole = UnfinishedRule {
            name: "logs".into(),
            cutoff: Some("2026-11-22T09:30:00Z or so".into()),
            table_id: Some(1),
            rows_at_start: Some(2),
            rows_done: Some(3),
            rows_archived: Some(4),
            rows_unknown: Some(5),
            rows_reserved: Some(6),
            rows_total: Some(7),
            rows_counted: Some(8),
            archived_counted: Some(9),
            rows_approved: Some(i64::MAX),
            done: Some(true),
        };
        let begun = UnfinishedRule {
            name: "mails".into(),
            cutoff: Some("2026-11-22".into()),
            done: Some(false),
            ..UnfinishedRule::default()
        };
        UnfinishedSweep {
            rules: vec![whole, begun],
            ..UnfinishedSweep::default()
        }
    }

    #[test]
    fn what_is_packed_is_read_as_it_was() {
        let mut packed = unfinished();

        pack(&mut packed);

        assert!(packed.rules.is_empty());
        assert_eq!(
            packed.packed[0],
            "logs 1 2 3 4 5 6 7 8 9 1y2p0ij32e8e7 1 2026-11-22T09:30:00Z or so"
        );
        assert_eq!(rules(&packed), Some(unfinished().rules));
    }

    #[test]
    fn a_line_that_is_not_whole_is_not_read_as_something_else() {
        for line in [
            "",
            "logs",
            "logs 1 2 3",
            "logs 1 2 3 4 5 6 7 8 9 -5 1 2026-11-22",
            "logs - - - - - - - - - - 2 -",
        ] {
            let odd = UnfinishedSweep {
                packed: vec![line.into()],
                ..UnfinishedSweep::default()
            };
            assert_eq!(rules(&odd), None, "{line}");
        }
    }
}
