//! A canvas with two axes that are measured in what the caller says, for pictures of studies: linear or logarithmic, with few round
//! ticks, a legend at the side, and bands around curves.

use super::{Anchor, Canvas, fit, ink, text_width};
use crate::report::number;

/// Size of the text of axes and legend.
const SIZE: u32 = 13;
const LEFT: f64 = 64.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 50.0;

/// How values lie along an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    low: f64,
    high: f64,
    log: bool,
}

impl Range {
    /// One that holds all values with a margin; logarithmic if `log` and all of them are above 0. Of nothing, 0 to 1.
    pub fn of(values: impl IntoIterator<Item = f64>, log: bool) -> Range {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|value| value.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let log = log && low > 0.0;
        if log {
            // A margin of a twentieth, and never a range of nothing.
            let margin = (high / low).max(1.2).powf(0.05);
            return Range {
                low: low / margin,
                high: high * margin,
                log,
            };
        }
        let margin = ((high - low) * 0.05).max(1e-9 + 0.02 * high.abs());
        let low = match low >= 0.0 && low < margin * 4.0 {
            true => 0.0,
            false => low - margin,
        };
        Range {
            low,
            high: high + margin,
            log,
        }
    }

    /// Where a value lies, 0 to 1; what lies beyond an end lies on it.
    fn at(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        match self.log {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        }
    }

    /// Round values within, four or more where that is possible.
    fn ticks(&self) -> Vec<f64> {
        let linear = || {
            let step = super::axes::round_step(self.high - self.low, 6.0);
            let first = (self.low / step).ceil() as i64;
            let last = (self.high / step).floor() as i64;
            (first..=last).map(|index| index as f64 * step).collect()
        };
        if !self.log {
            return linear();
        }
        let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let sets: [(&[f64], usize); 5] = [
            (&[1.0, 2.0, 5.0], 9),
            (&[1.0, 1.5, 2.0, 3.0, 5.0, 7.0], 8),
            (&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 9),
            (&[1.0, 3.0], 9),
            (&[1.0], 12),
        ];
        for (factors, most) in sets {
            let ticks: Vec<f64> = (decades.clone())
                .flat_map(|decade| {
                    factors
                        .iter()
                        .map(move |factor| factor * 10f64.powi(decade))
                })
                .filter(|tick| (self.low..=self.high).contains(tick))
                .collect();
            if (4..=most).contains(&ticks.len()) {
                return ticks;
            }
        }
        linear()
    }
}

/// An axis: its name, its range, and how its numbers are written.
#[derive(Clone, Copy)]
pub struct Axis<'a> {
    /// What is along it.
    pub label: &'a str,
    /// From where to where.
    pub range: Range,
    /// How a number is written.
    pub format: fn(f64) -> String,
}

/// How a series looks.
#[derive(Debug, Clone, PartialEq)]
pub struct Style {
    /// Its name in the legend.
    pub name: String,
    /// Its colour.
    pub ink: &'static str,
    /// Whether its line is dashed.
    pub dashed: bool,
    /// Whether its points are rings: another series has its colour.
    pub hollow: bool,
    /// Whether it stands out.
    pub bold: bool,
}

/// A canvas with axes and a legend, on which data are drawn in their own units.
pub struct Chart {
    /// The drawing so far.
    pub canvas: Canvas,
    x: Range,
    y: Range,
    right: f64,
    bottom: f64,
}

impl Chart {
    /// Draws title, axes, and the legend of `styles` at the right side.
    pub fn new(
        title: &str,
        (width, height): (f64, f64),
        x: Axis<'_>,
        y: Axis<'_>,
        styles: &[Style],
    ) -> Chart {
        let names = styles.iter().map(|style| text_width(&style.name, SIZE));
        let legend = match styles.is_empty() {
            true => 20.0,
            false => names.fold(60.0, f64::max).min(width * 0.3) + 62.0,
        };
        let needed = TOP + 20.0 * styles.len() as f64 + 20.0;
        let height = height.max(needed);
        let (right, bottom) = (width - legend, height - BOTTOM);
        let mut canvas = Canvas::new(width, height);
        canvas.bold(
            (12.0, 24.0),
            &fit(title, 16, width - 24.0),
            16,
            Anchor::Start,
            ink::TEXT,
        );
        canvas.text((12.0, 46.0), y.label, SIZE, Anchor::Start, ink::MUTED);
        canvas.text(
            ((LEFT + right) / 2.0, height - 12.0),
            x.label,
            SIZE,
            Anchor::Middle,
            ink::MUTED,
        );
        let mut chart = Chart {
            canvas,
            x: x.range,
            y: y.range,
            right,
            bottom,
        };
        for tick in y.range.ticks() {
            let (_, height) = chart.at((x.range.low, tick));
            chart
                .canvas
                .line((LEFT, height), (right, height), ink::GRID, 1.0);
            let text = (y.format)(tick);
            chart.canvas.text(
                (LEFT - 8.0, height + 4.5),
                &text,
                SIZE,
                Anchor::End,
                ink::MUTED,
            );
        }
        let mut free = f64::NEG_INFINITY;
        for tick in x.range.ticks() {
            let (at, _) = chart.at((tick, y.range.low));
            chart.canvas.line((at, TOP), (at, bottom), ink::GRID, 1.0);
            let text = (x.format)(tick);
            let half = text_width(&text, SIZE) / 2.0;
            if at - half > free {
                chart
                    .canvas
                    .text((at, bottom + 18.0), &text, SIZE, Anchor::Middle, ink::MUTED);
                free = at + half + 14.0;
            }
        }
        chart
            .canvas
            .line((LEFT, bottom), (right, bottom), ink::DENSE, 1.2);
        chart
            .canvas
            .line((LEFT, TOP), (LEFT, bottom), ink::DENSE, 1.2);
        for (row, style) in styles.iter().enumerate() {
            let (left, y) = (right + 16.0, TOP + 10.0 + 20.0 * row as f64);
            let width = if style.bold { 3.4 } else { 2.2 };
            chart.canvas.polyline(
                vec![(left, y), (left + 18.0, y)],
                style.ink,
                width,
                style.dashed,
            );
            match (style.hollow, style.dashed) {
                (true, _) => chart.canvas.ring((left + 9.0, y), 3.6, style.ink),
                (false, true) => {}
                (false, false) => chart.canvas.dot((left + 9.0, y), 3.6, style.ink),
            }
            let name = fit(&style.name, SIZE, legend - 52.0);
            let ink = if style.bold { ink::TEXT } else { ink::MUTED };
            match style.bold {
                true => chart
                    .canvas
                    .bold((left + 25.0, y + 4.5), &name, SIZE, Anchor::Start, ink),
                false => chart
                    .canvas
                    .text((left + 25.0, y + 4.5), &name, SIZE, Anchor::Start, ink),
            }
        }
        chart
    }

    /// Where data lie on the canvas; values beyond the end of an axis lie on its end.
    pub fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (
            LEFT + self.x.at(x) * (self.right - LEFT),
            self.bottom - self.y.at(y) * (self.bottom - TOP),
        )
    }

    /// The right end of the x axis on the canvas.
    pub fn right(&self) -> f64 {
        self.right
    }

    /// A curve through its points, each marked.
    pub fn curve(&mut self, points: &[(f64, f64)], style: &Style) {
        let mapped: Vec<_> = points.iter().map(|&point| self.at(point)).collect();
        let width = if style.bold { 3.2 } else { 2.0 };
        if mapped.len() > 1 {
            self.canvas
                .polyline(mapped.clone(), style.ink, width, style.dashed);
        }
        let radius = if style.bold { 4.4 } else { 3.4 };
        for point in mapped {
            match style.hollow {
                true => self.canvas.ring(point, radius, style.ink),
                false => self.canvas.dot(point, radius, style.ink),
            }
        }
    }

    /// What lies between the lower and the upper values of `points` (x, low, high).
    pub fn band(&mut self, points: &[(f64, f64, f64)], ink: &str, opacity: f64) {
        if points.len() < 2 {
            return;
        }
        let upper = points.iter().map(|&(x, _, high)| self.at((x, high)));
        let lower = points.iter().rev().map(|&(x, low, _)| self.at((x, low)));
        let outline: Vec<_> = upper.chain(lower).collect();
        self.canvas.area(&outline, ink, opacity);
    }

    /// A level across the whole width, with its band.
    pub fn level(&mut self, value: f64, band: Option<(f64, f64)>, style: &Style) {
        let (x_low, x_high) = (self.x.low, self.x.high);
        if let Some((low, high)) = band {
            self.band(&[(x_low, low, high), (x_high, low, high)], style.ink, 0.16);
        }
        let ends = vec![self.at((x_low, value)), self.at((x_high, value))];
        self.canvas.polyline(ends, style.ink, 1.8, true);
    }

    /// A bar from `low` to `high` at `x`.
    pub fn whisker(&mut self, x: f64, (low, high): (f64, f64), ink: &str) {
        let (from, to) = (self.at((x, low)), self.at((x, high)));
        self.canvas.line(from, to, ink, 1.2);
        for end in [from, to] {
            self.canvas
                .line((end.0 - 3.0, end.1), (end.0 + 3.0, end.1), ink, 1.2);
        }
    }
}

/// Fractions as percentages, counts of bytes and milliseconds, as axes write them.
pub mod format {
    use super::number;

    /// A fraction.
    pub fn percent(value: f64) -> String {
        number::short_percent(value)
    }

    /// Bytes.
    pub fn bytes(value: f64) -> String {
        number::bytes(value.max(0.0).round() as u64)
    }

    /// Milliseconds.
    pub fn milliseconds(value: f64) -> String {
        format!("{} ms", number::significant(value, 3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_values_and_have_round_ticks() {
        let range = Range::of([0.02, 0.25, 1.0], true);
        assert!(range.at(0.02) > 0.02 && range.at(1.0) < 0.98);
        assert!((range.at(0.1) - range.at(0.02) - (range.at(0.5) - range.at(0.1))).abs() < 1e-12);
        assert_eq!(range.ticks(), [0.02, 0.05, 0.1, 0.2, 0.5, 1.0]);
        let narrow = Range::of([0.0054, 0.0058], true);
        assert!(narrow.ticks().len() >= 3, "{:?}", narrow.ticks());
        let linear = Range::of([0.0, 10.0], false);
        assert_eq!(
            (linear.low, linear.at(-5.0), linear.at(99.0)),
            (0.0, 0.0, 1.0)
        );
        assert!(linear.ticks().len() >= 4);
        for odd in [
            vec![],
            vec![f64::NAN],
            vec![0.0],
            vec![5.0],
            vec![0.0, 1e-300],
        ] {
            for log in [false, true] {
                let range = Range::of(odd.clone(), log);
                assert!(range.low < range.high, "{odd:?}");
                assert!(range.ticks().len() < 50, "{odd:?}");
            }
        }
    }

    #[test]
    fn data_lie_within_the_frame_and_beside_the_legend() {
        let styles = [Style {
            name: "a method with a long name".into(),
            ink: ink::TRAIN,
            dashed: false,
            hollow: false,
            bold: true,
        }];
        let axis = |label, range| Axis {
            label,
            range,
            format: format::percent,
        };
        let chart = Chart::new(
            "t",
            (720.0, 400.0),
            axis("density", Range::of([0.01, 1.0], true)),
            axis("error", Range::of([0.005, 0.9], true)),
            &styles,
        );
        let (x, y) = chart.at((1.0, 0.005));
        assert!(x < chart.right && x > LEFT && y < chart.bottom && y > TOP);
        assert!(chart.right < 720.0 - text_width(&styles[0].name, SIZE));
    }
}
