//! The figure of the weights before and after thresholding: a panel of histograms per layer.

use super::figure::{Figure, SIZE};
use super::number;
use super::plots::{Anchor, Canvas, fit, ink};
use super::run::{Edge, Flip, Histogram, LayerFlip, Run};
use super::timeline::Timeline;

/// Height of one panel.
const PANEL: f64 = 150.0;

/// Histograms of the weights before and after the first and the last threshold, a panel per layer.
pub fn weights(run: &Run) -> Option<Figure> {
    let timeline = Timeline::of(run);
    let drawn = |flip: &&Flip| {
        flip.edge == Edge::Threshold && flip.layers.iter().any(|layer| layer.histogram.is_some())
    };
    let first = run.flips.iter().find(drawn)?;
    let last = run.flips.iter().rfind(drawn)?;
    let flips = if std::ptr::eq(first, last) {
        vec![("the threshold", first)]
    } else {
        vec![("first threshold", first), ("last threshold", last)]
    };
    let panels: Vec<Canvas> = last
        .layers
        .iter()
        .filter_map(|layer| {
            let shown: Vec<_> = flips
                .iter()
                .filter_map(|(name, flip)| {
                    let layer = flip.layers.iter().find(|other| other.name == layer.name)?;
                    let when = format!(
                        "{name}, epoch {}",
                        number::significant(timeline.at(flip.step), 3)
                    );
                    Some((when, layer, layer.histogram.as_ref()?))
                })
                .collect();
            (!shown.is_empty()).then(|| histogram_panel(&layer.name, &shown))
        })
        .collect();
    let title = "Weights before and after thresholding";
    let head = 62.0;
    let mut canvas = Canvas::new(SIZE.0, head + PANEL * panels.len() as f64);
    canvas.bold((12.0, 24.0), title, 15, Anchor::Start, ink::TEXT);
    canvas.rect((12.0, 38.0), (18.0, 12.0), ink::BEFORE, 1.0);
    canvas.text((35.0, 48.0), "before", 12, Anchor::Start, ink::MUTED);
    canvas.rect((92.0, 38.0), (18.0, 12.0), ink::KEPT, 1.0);
    canvas.text((115.0, 48.0), "kept", 12, Anchor::Start, ink::MUTED);
    for (index, panel) in panels.iter().enumerate() {
        canvas.place((0.0, head + PANEL * index as f64), panel);
    }
    let caption = "Number of weights by value, on a logarithmic scale: grey before a threshold, green what it kept. \
                   The gap in the middle is what it dropped.";
    let mut figure = Figure::new("weights", title, caption, canvas);
    figure.panels = panels;
    Some(figure)
}

fn histogram_panel(name: &str, shown: &[(String, &LayerFlip, &Histogram)]) -> Canvas {
    let mut canvas = Canvas::new(SIZE.0, PANEL);
    let low = shown
        .iter()
        .map(|(_, _, histogram)| histogram.low)
        .fold(f64::INFINITY, f64::min);
    let high = shown
        .iter()
        .map(|(_, _, histogram)| histogram.high)
        .fold(f64::NEG_INFINITY, f64::max);
    let highest = shown
        .iter()
        .flat_map(|(_, layer, histogram)| {
            let kept = without_zeros(layer, histogram);
            kept.into_iter().chain(histogram.before.iter().copied())
        })
        .max()
        .unwrap_or(1)
        .max(1);
    let layer = shown[shown.len() - 1].1;
    canvas.bold(
        (12.0, 16.0),
        &fit(name, 13, 200.0),
        13,
        Anchor::Start,
        ink::TEXT,
    );
    let counted = format!(
        "{} of {} kept",
        number::count(layer.k),
        number::count(layer.weights)
    );
    canvas.text((468.0, 16.0), &counted, 12, Anchor::End, ink::MUTED);
    let (top, bottom, gap) = (42.0, PANEL - 26.0, 28.0);
    let width = (456.0 - 34.0 - gap * (shown.len() - 1) as f64) / shown.len() as f64;
    let height =
        |count: u64| (bottom - top) * (1.0 + count as f64).ln() / (1.0 + highest as f64).ln();
    for (index, (when, layer, histogram)) in shown.iter().enumerate() {
        let left = 46.0 + (width + gap) * index as f64;
        let x = |value: f64| left + width * (value - low) / (high - low);
        canvas.text((left, 34.0), when, 12, Anchor::Start, ink::MUTED);
        for tick in (0..)
            .map(|power| 10u64.pow(power))
            .take_while(|tick| *tick <= highest.min(10u64.pow(15)))
        {
            let y = bottom - height(tick);
            canvas.line((left, y), (left + width, y), ink::GRID, 1.0);
            if index == 0 {
                canvas.text(
                    (left - 5.0, y + 3.5),
                    &short_count(tick),
                    9,
                    Anchor::End,
                    ink::MUTED,
                );
            }
        }
        let bins = histogram.before.len();
        let edge = |bin: usize| {
            histogram.low + (histogram.high - histogram.low) * bin as f64 / bins as f64
        };
        let kept = without_zeros(layer, histogram);
        for (counts, color) in [(&histogram.before, ink::BEFORE), (&kept, ink::KEPT)] {
            for (start, end) in filled(counts) {
                let mut outline = vec![(x(edge(start)), bottom)];
                for (bin, count) in counts.iter().enumerate().take(end).skip(start) {
                    let y = bottom - height(*count);
                    outline.extend([(x(edge(bin)), y), (x(edge(bin + 1)), y)]);
                }
                outline.push((x(edge(end)), bottom));
                canvas.area(&outline, color, 1.0);
            }
        }
        canvas.line((left, bottom), (left + width, bottom), ink::DENSE, 1.0);
        let mut ticks = vec![(low, Anchor::Start), (high, Anchor::End)];
        if low < 0.0 && high > 0.0 {
            ticks.push((0.0, Anchor::Middle));
            canvas.line((x(0.0), bottom), (x(0.0), bottom + 4.0), ink::DENSE, 1.0);
        }
        for (value, anchor) in ticks {
            let text = number::significant(value, 2).replace('-', "−");
            canvas.text((x(value), bottom + 15.0), &text, 10, anchor, ink::MUTED);
        }
    }
    canvas
}

/// The counts after a threshold without the weights that it set to zero.
fn without_zeros(layer: &LayerFlip, histogram: &Histogram) -> Vec<u64> {
    let mut counts = histogram.after.clone();
    let surplus = counts.iter().sum::<u64>().saturating_sub(layer.k);
    let place = -histogram.low / (histogram.high - histogram.low) * counts.len() as f64;
    if place >= 0.0
        && let Some(count) = counts.get_mut(place as usize)
    {
        *count = count.saturating_sub(surplus);
    }
    counts
}

/// The runs of bins that are not empty, from–to.
fn filled(counts: &[u64]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for bin in (0..counts.len()).filter(|&bin| counts[bin] > 0) {
        match runs.last_mut() {
            Some(last) if last.1 == bin => last.1 = bin + 1,
            _ => runs.push((bin, bin + 1)),
        }
    }
    runs
}

/// `1000` → `1k`.
fn short_count(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{}k", count / 1_000),
        1_000_000..1_000_000_000 => format!("{}M", count / 1_000_000),
        _ => format!("{}G", count / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_first_and_the_last_threshold_are_drawn_for_every_layer() {
        let mut run = sample::run();
        let figure = weights(&run).unwrap();
        assert_eq!(figure.panels.len(), 4);
        let panel = figure.panels[0].svg_file();
        assert!(
            panel.contains("first threshold, epoch 3") && panel.contains("last threshold, epoch 9"),
            "{panel}"
        );
        assert!(panel.contains("50 of 500 kept"), "{panel}");
        run.flips.truncate(1);
        assert!(
            weights(&run).unwrap().panels[0]
                .svg_file()
                .contains("the threshold, epoch 3")
        );
        run.flips.clear();
        assert!(weights(&run).is_none());
    }

    #[test]
    fn zeros_are_no_kept_weights() {
        let mut layer = sample::run().flips[0].layers[0].clone();
        layer.k = 3;
        let histogram = |after| Histogram {
            low: -2.0,
            high: 2.0,
            before: vec![1, 4, 4, 1],
            after,
        };
        assert_eq!(
            without_zeros(&layer, &histogram(vec![1, 0, 8, 1])),
            [1, 0, 1, 1]
        );
        assert_eq!(
            without_zeros(&layer, &histogram(vec![1, 0, 1, 1])),
            [1, 0, 1, 1]
        );
        assert_eq!(filled(&[0, 1, 2, 0, 3]), [(1, 3), (4, 5)]);
    }
}
