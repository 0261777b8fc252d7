//! Who was granted which generation, and what may not be so.

use std::collections::BTreeMap;

use atdd::domain::{Fence, Generation, OwnerId};

/// All grants, and what they have made impossible.
#[derive(Default)]
pub(crate) struct Ledger {
    /// When each generation was first granted, and with which fence.
    grants: BTreeMap<Generation, (u64, Fence)>,
    continued: Vec<(Generation, Fence)>,
    violation: Option<String>,
}

impl Ledger {
    /// An attach is granted, now. `continues` is the generation that the owner had before.
    pub(crate) fn granted(
        &mut self,
        now: u64,
        owner: OwnerId,
        fence: Fence,
        continues: Option<Generation>,
    ) {
        let (_, first) = *self.grants.entry(fence.generation).or_insert((now, fence));
        if first != fence {
            self.violated(format!("granted as {first:?} and as {fence:?}"));
        }
        if let Some(before) = continues
            && fence.owner() == Some(owner)
        {
            self.continued.push((before, fence));
        }
    }

    /// A change that was begun at that time is done under this generation.
    pub(crate) fn done(&mut self, begun: u64, generation: Generation) {
        let newer = self.grants.range(Generation(generation.0 + 1)..);
        let mut before = newer.filter(|&(_, &(at, _))| at < begun);
        if let Some((newer, (at, _))) = before.next() {
            let why = format!("{newer:?} was open at {at}, yet {generation:?} does at {begun}");
            self.violated(why);
        }
    }

    /// Whether anybody else has had the disk after the one generation and before the other.
    pub(crate) fn was_anothers(&self, after: Generation, before: Generation, own: OwnerId) -> bool {
        let after = Generation(after.0 + 1);
        let mut owners = (after < before)
            .then(|| self.grants.range(after..before))
            .into_iter()
            .flatten()
            .map(|(_, (_, fence))| fence.owner());
        owners.any(|owner| owner != Some(own))
    }

    /// Whether generations were what they ought to be.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(violation) = &self.violation {
            return Err(format!("generation {violation}"));
        }
        for &(before, fence) in &self.continued {
            let after = Generation(before.0 + 1);
            if after >= fence.generation {
                continue;
            }
            let mut between = self.grants.range(after..fence.generation);
            if let Some((_, (at, other))) =
                between.find(|(_, (_, other))| other.owner() != fence.owner())
            {
                return Err(format!(
                    "generation {before:?} is continued by {fence:?}, but {other:?}, granted at \
                     {at}, came in between"
                ));
            }
        }
        Ok(())
    }

    fn violated(&mut self, why: String) {
        self.violation.get_or_insert(why);
    }
}
