//! Under `dependents: Refuse`: rows that come to refer to the rule's table while it is swept.

use std::borrow::Cow;

use crate::{
    engine::EngineError,
    policy::{dependents::Dependents, plan::RulePlan},
};

/// How the walk goes on as to rows that refer to the table's.
pub(super) struct Referred<'a> {
    /// What is walked by: the plan itself, or one that leaves out what is referred to.
    pub(super) plan: Cow<'a, RulePlan>,
    /// A walk has begun: nothing referred to the table then.
    pub(super) has_begun: bool,
    /// How it was seen that something does now.
    seen: Option<String>,
}

impl<'a> Referred<'a> {
    pub(super) fn new(plan: &'a RulePlan) -> Self {
        Self {
            plan: Cow::Borrowed(plan),
            has_begun: false,
            seen: None,
        }
    }

    /// A rule is refused while anything refers to its table; one that is being swept keeps the rows that are referred to, and goes on
    /// with the others. That another table refers to it is another matter.
    ///
    /// # Errors
    /// Any other error, and where the role may not know which rows those are: nothing more of the table may go.
    pub(super) fn keeps_rows(&mut self, error: EngineError) -> Result<(), EngineError> {
        match (error, &self.seen) {
            (EngineError::Dependents(seen), None)
                if self.has_begun && self.plan.dependents == Dependents::Refuse =>
            {
                tracing::info!(
                    rule = self.plan.rule,
                    seen,
                    "rows that are referred to are kept"
                );
                self.plan.to_mut().dependents = Dependents::Skip;
                self.seen = Some(seen);
                Ok(())
            }
            (EngineError::Permission(grant), Some(seen)) => {
                Err(EngineError::Dependents(format!("{seen}; {grant}")))
            }
            (error, _) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::runner::tests::a_plan;

    fn seen() -> EngineError {
        EngineError::Dependents("public.items is not empty any more".to_owned())
    }

    #[test]
    fn what_comes_to_be_referred_to_is_kept_from_then_on() {
        let plan = a_plan();
        let mut referred = Referred::new(&plan);
        assert!(
            referred.keeps_rows(seen()).is_err(),
            "nothing has begun: refused"
        );
        referred.has_begun = true;

        referred.keeps_rows(seen()).unwrap();

        assert_eq!(referred.plan.dependents, Dependents::Skip);
        assert!(
            referred.keeps_rows(seen()).is_err(),
            "and not again and again"
        );
    }

    #[test]
    fn a_role_that_may_not_look_ends_the_sweep_with_what_it_takes() {
        let plan = a_plan();
        let mut referred = Referred::new(&plan);
        referred.has_begun = true;
        referred.keeps_rows(seen()).unwrap();

        let grant = EngineError::Permission("run: GRANT SELECT".to_owned());
        let error = referred.keeps_rows(grant).unwrap_err();

        assert_eq!(error.category(), "dependents");
        assert!(
            error.to_string().contains("any more; run: GRANT"),
            "{error}"
        );
    }
}
