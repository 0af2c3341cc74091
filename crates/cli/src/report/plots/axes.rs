//! A canvas with a title, axes and a legend, on which data are drawn in their own units.

use kuva::plot::legend::LegendPosition;
use kuva::render::axis::{add_axes_and_grid, add_labels_and_title};
use kuva::render::color::Color;
use kuva::render::layout::{ComputedLayout, Layout, TickFormat};
use kuva::render::render::Primitive;
use kuva::render::theme::Theme;

use super::legend::{Entry, Legend};
use super::{Anchor, Canvas, FONT, ink};
use crate::report::number;

/// Room below axes for numbers and a label.
const BOTTOM: f64 = 40.0;

/// How values map to heights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Log,
}

/// What the numbers of an axis are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Plain,
    /// A fraction, written as a percentage.
    Percent,
}

/// A canvas with a title, axes and a legend, on which data are drawn in their own units.
pub struct Axes {
    /// The drawing so far.
    pub canvas: Canvas,
    map: ComputedLayout,
}

/// What [`Axes::new`] draws first.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    pub title: &'a str,
    pub size: (f64, f64),
    pub x: (f64, f64),
    pub y: (f64, f64),
    pub scale: Scale,
    pub unit: Unit,
    pub x_label: &'a str,
    /// From–to ranges of x that lie behind the data, shaded.
    pub bands: &'a [(f64, f64)],
    /// What the colours of the data stand for.
    pub legend: &'a [Entry],
}

impl Axes {
    /// Draws title, legend, bands and axes.
    pub fn new(frame: &Frame<'_>) -> Axes {
        let (width, height) = frame.size;
        let legend = Legend::new(frame.legend, !frame.bands.is_empty(), width);
        // A long legend makes the drawing higher, not the plot lower.
        let height = height + 18.0 * legend.rows().saturating_sub(2) as f64;
        let top = 34.0 + legend.height() + 6.0;
        let unit = frame.unit;
        let format = TickFormat::Custom(std::sync::Arc::new(move |value| match unit {
            Unit::Plain => number::value(value),
            Unit::Percent => number::short_percent(value),
        }));
        let theme = Theme {
            background: ink::PAPER.into(),
            axis_color: ink::DENSE.into(),
            grid_color: ink::GRID.into(),
            tick_color: ink::DENSE.into(),
            text_color: ink::MUTED.into(),
            legend_bg: ink::PAPER.into(),
            legend_border: ink::PAPER.into(),
            font_family: Some(FONT.into()),
            ..Theme::light()
        };
        let mut layout = Layout::new(frame.x, frame.y)
            .with_width(width)
            .with_height(height)
            .with_theme(theme)
            .with_legend_position(LegendPosition::InsideTopRight)
            .with_x_axis_min(frame.x.0)
            .with_x_axis_max(frame.x.1)
            .with_y_axis_min(frame.y.0)
            .with_y_axis_max(frame.y.1)
            .with_x_tick_step(whole_step(frame.x))
            .with_y_tick_format(format)
            .with_tick_size(12)
            .with_label_size(12)
            .with_tick_length(4.0)
            .with_x_label(frame.x_label)
            .with_force_margins(54.0, 16.0)
            .with_force_margins_y(top, BOTTOM);
        layout.show_legend = false;
        layout = match frame.scale {
            Scale::Log => layout.with_log_y(),
            Scale::Linear => layout.with_y_tick_step(round_step(frame.y.1 - frame.y.0, 5.0)),
        };
        let map = ComputedLayout::from_layout(&layout);
        let mut canvas = Canvas::new(width, height);
        canvas.bold((12.0, 24.0), frame.title, 15, Anchor::Start, ink::TEXT);
        for &(from, to) in frame.bands {
            let (left, right) = (map.map_x(from.max(frame.x.0)), map.map_x(to.min(frame.x.1)));
            canvas.rect(
                (left, top),
                ((right - left).max(0.0), height - BOTTOM - top),
                ink::SPARSE,
                0.11,
            );
        }
        let drawn = canvas.scene.elements.len();
        add_axes_and_grid(&mut canvas.scene, &map, &layout);
        add_labels_and_title(&mut canvas.scene, &map, &layout);
        for element in &mut canvas.scene.elements[drawn..] {
            if let Primitive::Text { color, .. } = element {
                *color = Some(Color::from(ink::MUTED));
            }
        }
        legend.draw(&mut canvas);
        Axes { canvas, map }
    }

    /// Where data lie on the canvas; values beyond the end of an axis lie on its end.
    pub fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let within = |value: f64, (least, most): (f64, f64)| value.max(least).min(most);
        let (x, y) = (within(x, self.map.x_range), within(y, self.map.y_range));
        (self.map.map_x(x), self.map.map_y(y))
    }

    /// A curve; a point of its own where there is only one.
    pub fn curve(&mut self, points: &[(f64, f64)], ink: &str, dashed: bool) {
        let mapped: Vec<_> = points.iter().map(|&point| self.at(point)).collect();
        match mapped[..] {
            [] => {}
            [point] => self.canvas.dot(point, 3.0, ink),
            _ => self
                .canvas
                .polyline(mapped, ink, if dashed { 1.6 } else { 2.2 }, dashed),
        }
    }
}

/// A step of 1, 2 or 5 times a power of ten that cuts `span` into about `parts`.
pub(super) fn round_step(span: f64, parts: f64) -> f64 {
    let raw = (span / parts).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= raw * 0.999)
        .unwrap_or(raw)
}

/// The same in whole numbers, for epochs.
fn whole_step((from, to): (f64, f64)) -> f64 {
    let step = round_step(to - from, 8.0);
    if to - from <= 1.5 {
        step
    } else {
        step.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_map_into_the_frame() {
        let frame = Frame {
            title: "t",
            size: (480.0, 290.0),
            x: (0.0, 10.0),
            y: (0.01, 1.0),
            scale: Scale::Log,
            unit: Unit::Percent,
            x_label: "epoch",
            bands: &[(2.0, 5.0)],
            legend: &[("training".into(), ink::TRAIN, false)],
        };
        let axes = Axes::new(&frame);
        let (left, bottom) = axes.at((0.0, 0.01));
        let (right, top) = axes.at((10.0, 1.0));
        assert_eq!((left, right), (54.0, 464.0));
        assert!(top > 50.0 && top < bottom && bottom < 290.0);
        let middle = axes.at((5.0, 0.1));
        assert!(
            (middle.1 - (top + bottom) / 2.0).abs() < 1e-6,
            "the middle of two decades"
        );
        assert_eq!(
            axes.at((0.0, 0.0)).1,
            bottom,
            "zero lies on the end of a logarithmic axis"
        );
        assert_eq!(axes.at((99.0, 1e300)), axes.at((10.0, 1.0)));
    }

    #[test]
    fn steps_are_round() {
        assert_eq!(round_step(10.0, 5.0), 2.0);
        assert_eq!(round_step(0.07, 5.0), 0.02);
        assert_eq!(whole_step((0.0, 15.0)), 2.0);
        assert_eq!(whole_step((0.0, 3.0)), 1.0);
    }
}
