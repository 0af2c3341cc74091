//! What is seen of a run while it goes on: a bar on a terminal, plain lines elsewhere, JSON for machines.

use std::path::Path;
use std::time::Instant;

use indicatif::ProgressBar;
use serde_json::json;
use skinny::train::{EpochRow, Event, FlipRecord, Resolved, Summary};

use crate::output::{self, Output, duration, note};

/// Shows the events of one run.
pub struct Display {
    output: Output,
    bar: Option<ProgressBar>,
    started: Instant,
    first_step: Option<usize>,
    total: usize,
}

impl Display {
    /// The display of a run that is about to start.
    pub fn new(output: Output, resolved: &Resolved, folder: &Path) -> Display {
        let total = resolved.total_steps();
        let bar = "{bar:30} {pos}/{len} steps, {eta} left, {msg}";
        let display = Display {
            output,
            bar: output::bar(bar, Some(total as u64)),
            started: Instant::now(),
            first_step: None,
            total,
        };
        let recipe = &resolved.recipe;
        display.line(&format!(
            "{}: {} on {}, seed {}, {} epochs, {} steps, in {}",
            recipe.name,
            resolved.network.name,
            recipe.data.name,
            recipe.seed,
            recipe.train.epochs,
            total,
            folder.display()
        ));
        display.object(json!({
            "event": "start", "run": folder, "name": recipe.name, "seed": recipe.seed,
            "epochs": recipe.train.epochs, "steps": total,
        }));
        display
    }

    /// Shows one event.
    pub fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Step {
                step,
                loss,
                images_per_second,
                ..
            } => {
                let resumed = self.first_step.is_none();
                self.first_step.get_or_insert(step - 1);
                if let Some(bar) = &self.bar {
                    if resumed {
                        // What was done before says nothing about the speed.
                        bar.set_position(step as u64 - 1);
                        bar.reset_eta();
                    }
                    bar.set_position(step as u64);
                    bar.set_message(format!("loss {loss:.3}, {images_per_second:.0} images/s"));
                }
            }
            Event::Epoch { row, epochs } => {
                self.line(&self.epoch_line(row, epochs));
                self.object(json!({ "event": "epoch", "row": row }));
            }
            Event::Flip(record) => {
                self.line(&flip_line(record));
                self.object(json!({ "event": "flip", "flip": record }));
            }
            Event::Warning(text) => {
                self.line(&format!("warning: {text}"));
                self.object(json!({ "event": "warning", "message": text }));
            }
        }
    }

    /// Takes the bar away.
    pub fn finish(self, summary: Option<&Summary>) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some(summary) = summary {
            note!(
                "{}: done in {}",
                summary.name,
                duration(self.started.elapsed().as_secs_f64())
            );
        }
    }

    fn epoch_line(&self, row: &EpochRow, epochs: usize) -> String {
        let held_out = match row.validation_error {
            Some(error) => format!(", held-out error {:.2} %", 100.0 * error),
            None => String::new(),
        };
        let first = self.first_step.unwrap_or(0);
        let pace = self.started.elapsed().as_secs_f64() / (row.step - first).max(1) as f64;
        format!(
            "epoch {:>2}/{epochs} {:<6} density {:<5.3} loss {:.4}, error {:.2} %{held_out}, {:.0} images/s, {} left",
            row.epoch,
            row.phase,
            row.density,
            row.train_loss,
            100.0 * row.train_error,
            row.images_per_second,
            duration(pace * (self.total - row.step) as f64),
        )
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

fn flip_line(record: &FlipRecord) -> String {
    let transition = &record.transition;
    let kept: usize = transition.layers.iter().map(|layer| layer.k).sum();
    let weights: usize = transition.layers.iter().map(|layer| layer.weights).sum();
    let cost = match (record.loss_before, record.loss_after) {
        (Some(before), Some(after)) => format!(", loss {before:.4} -> {after:.4}"),
        _ => String::new(),
    };
    match kept == weights {
        true => format!(
            "flip before step {}: all {weights} weights train again{cost}",
            transition.step
        ),
        false => format!(
            "flip before step {}: {kept} of {weights} weights kept (density {:.3}){cost}",
            transition.step, transition.density
        ),
    }
}
