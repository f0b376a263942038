//! The part of a plan that says what the deletes set off: for people and as JSON.

use serde_json::{Value, json};

use crate::{
    cli::output,
    policy::side_effects::{Enabled, Publication, SideEffects, Trigger},
};

/// Tables of a publication that are named; more are counted.
const NAMED: usize = 3;

pub(super) fn print(effects: &SideEffects) {
    for trigger in effects.triggers.iter().filter(|trigger| trigger.fires()) {
        output::say!("  triggers   {}", one_line(&trigger_in_words(trigger)));
    }
    let resting: Vec<&str> = effects
        .triggers
        .iter()
        .filter(|trigger| !trigger.fires())
        .map(|trigger| trigger.name.as_str())
        .collect();
    if !resting.is_empty() {
        output::say!(
            "             switched off for sweeps: {}",
            one_line(&resting.join(", "))
        );
    }
    for publication in &effects.publications {
        output::say!(
            "  published  {}",
            one_line(&published_in_words(publication))
        );
    }
    for index in effects.missing_indexes.iter().take(NAMED) {
        output::say!(
            "  no index   on {} for {}, so that it is read again and again while rows are locked; run first: {}",
            one_line(&index.table),
            one_line(&index.key),
            one_line(&index.statement)
        );
    }
    let more = effects.missing_indexes.len().saturating_sub(NAMED);
    if more > 0 {
        output::say!("             nor on {more} more");
    }
}

pub(super) fn missing_indexes(effects: &SideEffects) -> Value {
    let indexes = effects
        .missing_indexes
        .iter()
        .map(|index| json!({"table": index.table, "key": index.key, "statement": index.statement}));
    indexes.collect()
}

fn trigger_in_words(trigger: &Trigger) -> String {
    let time = if trigger.before { "before" } else { "after" };
    let each = if trigger.each_row {
        "each row"
    } else {
        "each statement"
    };
    let condition = if trigger.conditional {
        ", on a condition of its own"
    } else {
        ""
    };
    let function = trigger
        .function
        .as_ref()
        .map_or_else(String::new, |function| format!(", calls {function}"));
    let always = if trigger.enabled == Enabled::Always {
        ", also where changes are replayed"
    } else {
        ""
    };
    format!(
        "{} {time} {} of {each} of {}{function}{condition}{always}",
        trigger.name,
        trigger.event.as_str(),
        trigger.table
    )
}

fn published_in_words(publication: &Publication) -> String {
    let named: Vec<&str> = publication
        .tables
        .iter()
        .take(NAMED)
        .map(String::as_str)
        .collect();
    let more = match publication.tables.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let effect = if publication.deletes {
        "each delete goes to its subscribers, too"
    } else {
        "it carries no deletes: its subscribers keep the rows"
    };
    let root = if publication.via_root {
        ", as one of the table above the partitions"
    } else {
        ""
    };
    let filter = publication
        .filter
        .as_ref()
        .map_or_else(String::new, |filter| format!(", of rows where {filter}"));
    format!(
        "{} ({}) has {}{more}{filter}: {effect}{root}",
        publication.name,
        publication.reach.as_str(),
        named.join(", ")
    )
}

/// Names come from a database that others write to.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

pub(super) fn triggers(effects: &SideEffects) -> Value {
    let triggers = effects.triggers.iter().map(|trigger| {
        json!({
            "table": trigger.table,
            "name": trigger.name,
            "function": trigger.function,
            "event": trigger.event.as_str(),
            "timing": if trigger.before { "BEFORE" } else { "AFTER" },
            "forEach": if trigger.each_row { "ROW" } else { "STATEMENT" },
            "conditional": trigger.conditional,
            "fires": trigger.fires(),
        })
    });
    triggers.collect()
}

pub(super) fn publications(effects: &SideEffects) -> Value {
    let publications = effects.publications.iter().map(|publication| {
        json!({
            "name": publication.name,
            "scope": publication.reach.as_str(),
            "tables": publication.tables,
            "deletes": publication.deletes,
            "viaPartitionRoot": publication.via_root,
            "rowFilter": publication.filter,
        })
    });
    publications.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::side_effects::{Event, Reach};

    #[test]
    fn a_trigger_is_said_with_its_time_its_table_and_what_it_calls() {
        let trigger = Trigger {
            table: "public.t".to_owned(),
            name: "audit".to_owned(),
            function: Some("public.log".to_owned()),
            event: Event::Delete,
            each_row: true,
            before: false,
            conditional: false,
            enabled: Enabled::Origin,
        };

        assert_eq!(
            trigger_in_words(&trigger),
            "audit after DELETE of each row of public.t, calls public.log"
        );
    }

    #[test]
    fn a_publication_without_deletes_says_that_subscribers_keep_the_rows() {
        let publication = Publication {
            name: "feed".to_owned(),
            reach: Reach::Table,
            tables: ["a", "b", "c", "d"]
                .map(|it| format!("public.{it}"))
                .to_vec(),
            deletes: false,
            via_root: false,
            filter: Some("(id > 5)".to_owned()),
        };

        assert_eq!(
            published_in_words(&publication),
            "feed (FOR TABLE) has public.a, public.b, public.c and 1 more, of rows where (id > 5): it carries no deletes: its subscribers keep the rows"
        );
    }
}
