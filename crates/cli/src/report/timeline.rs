//! When things happened in a run, in epochs since its start.

use super::run::{Edge, Run};

/// Converts steps to epochs and knows the sparse phases.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// Steps in one epoch.
    per_epoch: f64,
    /// Where the recorded part ends.
    pub end: f64,
    /// The sparse phases, from–to.
    pub sparse: Vec<(f64, f64)>,
}

impl Timeline {
    /// The timeline of a run, from its epochs and flips.
    pub fn of(run: &Run) -> Timeline {
        let per_epoch = steps_per_epoch(run);
        let last = run
            .epochs
            .last()
            .map(|row| row.step)
            .max(run.flips.last().map(|flip| flip.step))
            .unwrap_or(0);
        let mut timeline = Timeline {
            per_epoch,
            end: last as f64 / per_epoch,
            sparse: Vec::new(),
        };
        timeline.sparse = if run.flips.is_empty() {
            timeline.phases_of_rows(run)
        } else {
            timeline.phases_of_flips(run)
        };
        timeline
    }

    /// The moment before step `step`, in epochs.
    pub fn at(&self, step: u64) -> f64 {
        step as f64 / self.per_epoch
    }

    /// The right end of an axis of time.
    pub fn span(&self) -> (f64, f64) {
        (0.0, if self.end > 0.0 { self.end } else { 1.0 })
    }

    fn phases_of_flips(&self, run: &Run) -> Vec<(f64, f64)> {
        let mut sparse = Vec::new();
        let mut since = None;
        for flip in &run.flips {
            let now = self.at(flip.step);
            match (flip.edge, since) {
                (Edge::Threshold | Edge::Regrow, None) => since = Some(now),
                (Edge::Reactivate, Some(start)) => {
                    sparse.push((start, now));
                    since = None;
                }
                _ => {}
            }
        }
        sparse.extend(
            since
                .filter(|start| *start < self.end)
                .map(|start| (start, self.end)),
        );
        sparse
    }

    fn phases_of_rows(&self, run: &Run) -> Vec<(f64, f64)> {
        let mut sparse: Vec<(f64, f64)> = Vec::new();
        let mut before = 0.0;
        for row in &run.epochs {
            let now = self.at(row.step);
            if row.sparse {
                match sparse.last_mut() {
                    Some(last) if last.1 == before => last.1 = now,
                    _ => sparse.push((before, now)),
                }
            }
            before = now;
        }
        sparse
    }
}

/// Steps per epoch, whether rows count epochs from 0 or from 1.
fn steps_per_epoch(run: &Run) -> f64 {
    let of_rows = match &run.epochs[..] {
        [] => None,
        [only] => Some(only.step as f64 / only.epoch.max(1) as f64),
        [first, .., last] => Some(
            (last.step - first.step) as f64 / last.epoch.saturating_sub(first.epoch).max(1) as f64,
        ),
    };
    let of_flips = || {
        run.flips
            .iter()
            .find(|flip| flip.epoch > 0.0)
            .map(|flip| flip.step as f64 / flip.epoch)
    };
    of_rows
        .filter(|steps| *steps > 0.0)
        .or_else(of_flips)
        .filter(|steps| steps.is_finite())
        .map_or(1.0, |steps| steps.max(1e-3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn phases_of_a_run_with_flips() {
        let run = sample::run();
        let timeline = Timeline::of(&run);
        assert_eq!(timeline.end, 15.0);
        assert_eq!(timeline.sparse, [(3.0, 5.0), (6.0, 8.0), (9.0, 15.0)]);
    }

    #[test]
    fn phases_of_rows_alone_agree() {
        let mut run = sample::run();
        run.flips.clear();
        assert_eq!(
            Timeline::of(&run).sparse,
            [(3.0, 5.0), (6.0, 8.0), (9.0, 15.0)]
        );
        for row in &mut run.epochs {
            row.epoch -= 1;
        }
        assert_eq!(Timeline::of(&run).end, 15.0, "epochs counted from 0");
    }

    #[test]
    fn nothing_is_no_division_by_zero() {
        let mut run = Run::default();
        assert_eq!(Timeline::of(&run).span(), (0.0, 1.0));
        run.flips = sample::run().flips;
        assert_eq!(Timeline::of(&run).sparse[0], (3.0, 5.0));
    }
}
