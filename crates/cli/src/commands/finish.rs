//! One of many runs: left alone if it is finished, gone on with if it was interrupted, begun otherwise.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde_json::json;
use skinny::train::{Event, Job, JobOptions, Recipe, Resolved, RunFolder, Summary};

use crate::commands::train::resolved_hash;
use crate::failure::Failure;

/// The file in the folder of a run that can never be finished.
pub const FAILURE: &str = "failure.json";

/// A finished run.
#[derive(Debug)]
pub struct Finished {
    /// What it has come to.
    pub summary: Summary,
    /// It was finished when this command came to it.
    pub before: bool,
}

/// Sees that the run of `recipe` in the folder `path` is finished.
///
/// # Errors
/// A folder that holds another run; a run that has diverged, now or before; an interruption.
pub fn finish(
    recipe: &Recipe,
    path: &Path,
    options: &JobOptions,
    observe: &mut dyn FnMut(&Resolved, Event<'_>),
    stop: &AtomicBool,
) -> Result<Finished, Failure> {
    let hash = resolved_hash(recipe)?;
    let other = || {
        Failure::usage(format!(
            "{} holds a run of other settings, which is never overwritten; choose another --out",
            path.display()
        ))
    };
    if path.join(FAILURE).exists() {
        return Err(Failure {
            message: format!(
                "has failed before ({}); delete {} to try it again",
                failure_of(path),
                path.display()
            ),
            code: 4,
        });
    }
    let job = match RunFolder::open(path) {
        Ok(folder) => {
            if let Some(summary) = folder.summary()? {
                let same = summary.settings_hash == hash
                    && summary.seed == recipe.seed
                    && folder.recipe()?.place() == recipe.place();
                let finished = Finished {
                    summary,
                    before: true,
                };
                return same.then_some(finished).ok_or_else(other);
            }
            let begun = folder.recipe()?;
            if begun.seed != recipe.seed
                || begun.place() != recipe.place()
                || resolved_hash(&begun)? != hash
            {
                return Err(other());
            }
            Job::resume(path, options)?
        }
        Err(_) => Job::start(recipe.clone(), Some(path), options)?,
    };
    let resolved = job.resolved().clone();
    let ended = job.run(None, &mut |event| observe(&resolved, event), stop);
    let finished = ended.map(|summary| Finished {
        summary,
        before: false,
    });
    finished.map_err(|error| {
        let failure = Failure::from(error);
        if failure.code == 4 {
            let text = json!({ "code": failure.code, "message": failure.message }).to_string();
            // Without it the run fails again in the same way.
            let _ = std::fs::write(path.join(FAILURE), text + "\n");
        }
        failure
    })
}

/// What a run that failed before has failed of.
pub fn failure_of(path: &Path) -> String {
    let text = std::fs::read_to_string(path.join(FAILURE)).unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    value["message"]
        .as_str()
        .unwrap_or("for a reason that is lost")
        .to_string()
}
