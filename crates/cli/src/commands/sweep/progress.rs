//! What is seen of a sweep while it goes on: a bar on a terminal, a line now and then elsewhere, JSON for machines.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::json;
use skinny::train::{Event, SweepRun};

use super::End;
use crate::commands::finish::Finished;
use crate::output::{self, Output, duration, note, percent, thousands};

/// Where there is no bar, the end of an epoch is told if nothing was for so long.
const PAUSE: Duration = Duration::from_secs(60);

/// Where there is no bar, steps are told if nothing was for so long: some epochs take hours.
const LONG_PAUSE: Duration = Duration::from_secs(600);

/// Steps of the bar per run.
const FINE: f64 = 1000.0;

/// Shows what the runs of a sweep come to; from any thread.
pub struct Progress<'a> {
    runs: &'a [&'a SweepRun],
    out: &'a Path,
    output: Output,
    bar: Option<ProgressBar>,
    begun: Instant,
    state: Mutex<State>,
}

struct State {
    shares: Vec<Share>,
    /// Runs that have ended, those of earlier commands only once they have been come to.
    ended: usize,
    /// When the last line about runs that go on was written.
    told: Instant,
}

/// How much of a run is done.
#[derive(Clone, Debug, Default)]
struct Share {
    /// The part that was done before this command, 0–1.
    before: f64,
    /// The part that is done, 0–1.
    now: f64,
    /// Nothing of it is left to do: it is finished, or has failed.
    ended: bool,
    /// It goes on.
    runs: bool,
    /// What its last epoch has come to.
    epoch: Option<String>,
}

impl<'a> Progress<'a> {
    /// Of runs that are about to be come to; `ended` says which of them were finished, or had failed, before.
    pub fn new(
        runs: &'a [&'a SweepRun],
        ended: Vec<bool>,
        out: &'a Path,
        output: Output,
    ) -> Progress<'a> {
        let share = |ended| Share {
            ended,
            ..Share::default()
        };
        let length = (FINE * runs.len() as f64) as u64;
        let begun = Instant::now();
        Progress {
            runs,
            out,
            output,
            bar: output::bar("{bar:30} {percent} %, {wide_msg}", Some(length)),
            begun,
            state: Mutex::new(State {
                shares: ended.into_iter().map(share).collect(),
                ended: 0,
                told: begun,
            }),
        }
    }

    /// Shows an event of run number `index`.
    pub fn show(&self, index: usize, event: Event<'_>) {
        let mut state = self.state();
        let id = &self.runs[index].id;
        match event {
            Event::Step { step, total, .. } => {
                state.shares[index].advance(step, total);
                self.go_on(&mut state, LONG_PAUSE);
            }
            Event::Epoch { row, epochs } => {
                let (pictures, error) = match row.validation_error {
                    Some(error) => ("held-out", error),
                    None => ("training", row.train_error),
                };
                state.shares[index].epoch = Some(format!(
                    ", epoch {}/{epochs}, {pictures} error {}",
                    row.epoch,
                    percent(error)
                ));
                self.object(json!({ "event": "epoch", "run": self.out.join(id), "row": row }));
                self.go_on(&mut state, PAUSE);
            }
            Event::Flip(_) => {}
            Event::Warning(text) => {
                self.line(&format!("warning: {id}: {text}"));
                self.object(
                    json!({ "event": "warning", "run": self.out.join(id), "message": text }),
                );
            }
        }
    }

    /// Shows that nothing goes on any more in run number `index`; no `end` if it was interrupted.
    pub fn end(&self, index: usize, end: &Option<End>, took: Duration) {
        let mut state = self.state();
        let share = &mut state.shares[index];
        share.runs = false;
        share.ended = end.is_some();
        if let Some(Ok(Finished { before: false, .. })) = end {
            share.now = 1.0;
        }
        state.ended += usize::from(end.is_some());
        let (status, what) = match end {
            None => ("interrupted", "interrupted".to_string()),
            Some(Err(failure)) => ("failed", failure.message.clone()),
            Some(Ok(Finished { summary, before })) => (
                "finished",
                format!(
                    "error {}, {} non-zeros, {}",
                    percent(summary.test_error),
                    thousands(summary.nonzeros as u64),
                    match before {
                        true => "finished already".to_string(),
                        false => duration(took.as_secs_f64()),
                    }
                ),
            ),
        };
        let run = &self.runs[index].id;
        self.line(&format!(
            "[{}/{}] {run}: {what}; {}",
            state.ended,
            self.runs.len(),
            self.left(&state)
        ));
        self.draw(&state);
        self.object(json!({
            "event": "run", "run": self.out.join(run), "status": status,
            "message": end.as_ref().and_then(|end| end.as_ref().err()).map(|failure| &failure.message),
            "summary": end.as_ref().and_then(|end| end.as_ref().ok()).map(|finished| &finished.summary),
        }));
    }

    /// Takes the bar away.
    pub fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|error| error.into_inner())
    }

    /// The time that is left, or how many runs are, as long as nothing says how long they take.
    fn left(&self, state: &State) -> String {
        let open = state.shares.iter().filter(|share| !share.ended).count();
        match seconds_left(&state.shares, self.begun.elapsed()) {
            _ if open == 0 => "nothing left to do".into(),
            Some(seconds) => format!("about {} left", duration(seconds)),
            None => format!("{open} to do"),
        }
    }

    /// Moves the bar, or tells how far the runs are if nothing was told for as long as `pause`.
    fn go_on(&self, state: &mut State, pause: Duration) {
        self.draw(state);
        if self.bar.is_none() && state.told.elapsed() >= pause {
            state.told = Instant::now();
            note!("{}; {}", self.stages(state), self.left(state));
        }
    }

    fn draw(&self, state: &State) {
        if let Some(bar) = &self.bar {
            let done = |share: &Share| if share.ended { 1.0 } else { share.now };
            bar.set_position((FINE * state.shares.iter().map(done).sum::<f64>()) as u64);
            bar.set_message(format!("{}; {}", self.left(state), self.stages(state)));
        }
    }

    /// What is said of the runs that go on.
    fn stages(&self, state: &State) -> String {
        let shares = self.runs.iter().zip(&state.shares);
        let stages: Vec<String> = shares
            .filter(|(_, share)| share.runs)
            .map(|(run, share)| share.stage(&run.id))
            .collect();
        stages.join("; ")
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note!("{text}")),
            None => note!("{text}"),
        }
    }

    fn object(&self, value: serde_json::Value) {
        // A reader that has gone away must not end the training.
        let _ = self.output.object(&value);
    }
}

impl Share {
    /// `step` of `total` steps are done. What was done before the first one that is seen says nothing about the speed.
    fn advance(&mut self, step: usize, total: usize) {
        let part = |steps: usize| steps as f64 / total.max(1) as f64;
        if self.now == 0.0 {
            self.before = part(step - 1);
        }
        self.now = part(step);
        self.runs = true;
    }

    fn stage(&self, id: &str) -> String {
        let epoch = self.epoch.as_deref().unwrap_or_default();
        format!("{id} {:.0} %{epoch}", 100.0 * self.now)
    }
}

/// The seconds that all that is left takes at the pace of what was done in `elapsed`, by as many runs at once; none
/// before anything was done.
fn seconds_left(shares: &[Share], elapsed: Duration) -> Option<f64> {
    let done: f64 = shares.iter().map(|share| share.now - share.before).sum();
    let open = shares.iter().filter(|share| !share.ended);
    let left: f64 = open.map(|share| 1.0 - share.now).sum();
    (done > 0.0).then(|| elapsed.as_secs_f64() / done * left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_what_was_done() {
        let mut shares = vec![Share::default(); 4];
        let minute = Duration::from_secs(60);
        assert_eq!(seconds_left(&shares, minute), None);
        // Finished by an earlier command: neither done now nor left.
        shares[0].ended = true;
        assert_eq!(seconds_left(&shares, minute), None);
        // Interrupted at its half, and gone on with for a quarter.
        shares[1].advance(51, 100);
        shares[1].advance(75, 100);
        assert_eq!((shares[1].before, shares[1].now), (0.5, 0.75));
        assert_eq!(seconds_left(&shares, minute), Some(4.0 * 2.25 * 60.0));
        // Another one goes on beside it: the same time does more.
        shares[2].advance(25, 100);
        shares[2].before = 0.0;
        assert_eq!(seconds_left(&shares, minute), Some(2.0 * 2.0 * 60.0));
        // What has failed takes no time any more.
        shares[2].ended = true;
        assert_eq!(seconds_left(&shares, minute), Some(2.0 * 1.25 * 60.0));
    }

    #[test]
    fn a_run_says_how_far_it_is() {
        let mut share = Share::default();
        share.advance(30, 400);
        assert_eq!(share.stage("dense-seed-0"), "dense-seed-0 8 %");
        share.epoch = Some(", epoch 1/10, held-out error 6.08 %".into());
        assert_eq!(
            share.stage("dense-seed-0"),
            "dense-seed-0 8 %, epoch 1/10, held-out error 6.08 %"
        );
    }
}
