//! The forms in which a range is deleted, and which comes after which.

use super::obstacles::Obstacles;
use crate::policy::dependents::Dependents;

/// How a range is deleted, from the fastest form to the one that cannot fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// One statement.
    #[default]
    Plain,
    /// Without the rows that a row keeps which refers to them; `insists`: keys that cannot be set keep rows, too.
    Careful { insists: bool },
    /// Nothing is deleted: what is expired is counted as blocked.
    Count,
}

/// Which forms a plan's deletes have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forms {
    /// The plain form is never tried.
    careful: bool,
    /// Foreign keys may keep single rows.
    pub(super) yields: bool,
    /// Keys that cannot be set may keep rows, too.
    pub(super) insists: bool,
    /// Rows that are gone may free others of the same table.
    pub(super) repeats: bool,
}

impl Forms {
    pub(super) fn of(obstacles: &Obstacles<'_>) -> Self {
        let plan = obstacles.plan;
        let referred = !obstacles.keys.is_empty();
        Self {
            careful: match plan.dependents {
                Dependents::Refuse => false,
                Dependents::Skip => referred,
                Dependents::Cascade => obstacles.is_held() || obstacles.goes_too_far(),
            },
            yields: referred && plan.dependents != Dependents::Refuse,
            insists: obstacles.may_be_set(),
            repeats: obstacles.refers_to_itself(),
        }
    }

    pub(super) fn first(self, wary: bool) -> Form {
        if self.careful || (self.yields && wary) {
            Form::Careful { insists: false }
        } else {
            Form::Plain
        }
    }

    /// What to try after `form` failed on a range of so many rows; `None`: the same on less of it.
    pub(super) fn after(self, form: Form, rows: u64) -> Option<Form> {
        match form {
            Form::Plain => Some(Form::Careful { insists: false }),
            Form::Careful { insists: false } if self.insists => {
                Some(Form::Careful { insists: true })
            }
            _ if rows > 1 => None,
            _ => Some(Form::Count),
        }
    }
}

/// Rows of a table that refer to each other go from the last to the first, one round each, in at most so many rounds a chunk.
pub(super) const MAX_ROUNDS: u32 = 50;
