//! The only module that knows the plotting library, kuva: a canvas of simple marks, axes made of kuva's layout,
//! and drawings as SVG and PNG.
//!
//! Colours are the constants of [`ink`]. They are written as they look on light paper; [`dark_rules`] turns
//! each into its counterpart for a dark screen with CSS alone, inside the page and inside every SVG file.

use std::fmt::Write as _;

use kuva::backend::raster::RasterBackend;
use kuva::backend::svg::SvgBackend;
use kuva::plot::legend::LegendPosition;
use kuva::render::axis::{add_axes_and_grid, add_labels_and_title};
use kuva::render::color::Color;
use kuva::render::layout::{ComputedLayout, Layout, TickFormat};
use kuva::render::render::{PathData, Primitive, Scene, TextAnchor};
use kuva::render::theme::Theme;

use super::html::escape;
use super::photo::Photo;

/// Pixels of a PNG per unit of a canvas.
const PNG_SCALE: f32 = 3.0;

/// Room below axes for numbers and a label.
const BOTTOM: f64 = 40.0;

/// Length of a stroke of a dashed line and of the gap behind it.
const DASHES: [f32; 2] = [5.0, 4.0];

/// Size of the text of legends.
const LEGEND: u32 = 13;

const FONT: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";

/// Names for colours by what they stand for.
pub mod ink {
    /// Background of a picture file.
    pub const PAPER: &str = "#ffffff";
    /// Titles and labels.
    pub const TEXT: &str = "#1b2733";
    /// Axis numbers and remarks.
    pub const MUTED: &str = "#5d6b79";
    /// Grid lines and empty tracks.
    pub const GRID: &str = "#e4e9ee";
    /// Sparse phases, behind curves; drawn thin.
    pub const SPARSE: &str = "#12a594";
    /// What is kept: the skinny network.
    pub const KEPT: &str = "#0d8577";
    /// Weights before a threshold.
    pub const BEFORE: &str = "#b3bec8";
    /// The dense twin.
    pub const DENSE: &str = "#8794a1";
    /// Training.
    pub const TRAIN: &str = "#2f6fc4";
    /// Validation.
    pub const VALIDATION: &str = "#d9580d";
    /// Errors.
    pub const WRONG: &str = "#d6336c";
    /// Colours for series that have an order, such as layers from input to output.
    pub const ORDERED: [&str; 8] = [
        "#45277b", "#3f5fb0", "#2586a8", "#149f86", "#52ac4f", "#a3a524", "#dd8a2a", "#d0493f",
    ];

    /// Each colour and its counterpart on a dark screen.
    pub(super) const DARK: [(&str, &str); 19] = [
        (PAPER, "#161c23"),
        (TEXT, "#e8edf2"),
        (MUTED, "#9aa8b5"),
        (GRID, "#2b3640"),
        (SPARSE, "#2bd0bd"),
        (KEPT, "#35c9b7"),
        (BEFORE, "#566472"),
        (DENSE, "#93a1ae"),
        (TRAIN, "#6ea8f7"),
        (VALIDATION, "#ff9a57"),
        (WRONG, "#ff7ba6"),
        ("#45277b", "#b39af0"),
        ("#3f5fb0", "#8aa6f5"),
        ("#2586a8", "#62b9dc"),
        ("#149f86", "#3fcdb2"),
        ("#52ac4f", "#86d67f"),
        ("#a3a524", "#d5d658"),
        ("#dd8a2a", "#f7b266"),
        ("#d0493f", "#ff8f84"),
    ];
}

/// CSS rules that show a picture's colours on a dark screen; `within` selects the SVG elements, such as `.plot `.
pub fn dark_rules(within: &str) -> String {
    let mut rules = String::new();
    for (light, dark) in ink::DARK {
        let _ = write!(
            rules,
            "{within}[fill=\"{light}\"]{{fill:{dark}}}{within}[stroke=\"{light}\"]{{stroke:{dark}}}"
        );
    }
    rules
}

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// About how wide a text is, in units of a canvas.
pub fn text_width(text: &str, size: u32) -> f64 {
    text.chars().count() as f64 * f64::from(size) * 0.56
}

/// `text` cut to `width` with an ellipsis.
pub fn fit(text: &str, size: u32, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_string();
    }
    let room = (width / text_width("x", size)).floor() as usize;
    let mut cut: String = text.chars().take(room.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// A drawing of fixed size.
#[derive(Debug)]
pub struct Canvas {
    scene: Scene,
    /// Pictures with their corner and the side of one of their pixels; they lie above the scene.
    photos: Vec<((f64, f64), f64, Photo)>,
}

impl Canvas {
    /// An empty drawing of `width` × `height` units.
    pub fn new(width: f64, height: f64) -> Canvas {
        let mut scene = Scene::new(width, height);
        scene.text_color = Some(ink::TEXT.into());
        scene.font_family = Some(FONT.into());
        Canvas {
            scene,
            photos: Vec::new(),
        }
    }

    pub fn width(&self) -> f64 {
        self.scene.width
    }

    pub fn height(&self) -> f64 {
        self.scene.height
    }

    /// A line of text whose baseline starts, is centred or ends at (x, y).
    pub fn text(&mut self, (x, y): (f64, f64), text: &str, size: u32, anchor: Anchor, ink: &str) {
        self.write((x, y), text, size, anchor, ink, false, None);
    }

    /// The same in bold.
    pub fn bold(&mut self, (x, y): (f64, f64), text: &str, size: u32, anchor: Anchor, ink: &str) {
        self.write((x, y), text, size, anchor, ink, true, None);
    }

    /// Text turned by `angle` degrees about its point.
    pub fn turned(
        &mut self,
        (x, y): (f64, f64),
        text: &str,
        size: u32,
        anchor: Anchor,
        ink: &str,
        angle: f64,
    ) {
        self.write((x, y), text, size, anchor, ink, false, Some(angle));
    }

    #[allow(clippy::too_many_arguments)]
    fn write(
        &mut self,
        (x, y): (f64, f64),
        text: &str,
        size: u32,
        anchor: Anchor,
        ink: &str,
        bold: bool,
        rotate: Option<f64>,
    ) {
        let anchor = match anchor {
            Anchor::Start => TextAnchor::Start,
            Anchor::Middle => TextAnchor::Middle,
            Anchor::End => TextAnchor::End,
        };
        let color = Some(Color::from(ink));
        self.scene.add(Primitive::Text {
            x,
            y,
            content: literal(text),
            size,
            anchor,
            rotate,
            bold,
            color,
        });
    }

    /// A filled rectangle; `opacity` from 0 to 1.
    pub fn rect(
        &mut self,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        ink: &str,
        opacity: f64,
    ) {
        let opacity = (opacity < 1.0).then_some(opacity);
        let fill = Color::from(ink);
        self.scene.add(Primitive::Rect {
            x,
            y,
            width,
            height,
            fill,
            stroke: None,
            stroke_width: None,
            opacity,
        });
    }

    /// A straight line.
    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), ink: &str, width: f64) {
        let stroke = Color::from(ink);
        self.scene.add(Primitive::Line {
            x1,
            y1,
            x2,
            y2,
            stroke,
            stroke_width: width,
            stroke_dasharray: None,
        });
    }

    /// A line through points; with `dashed` in strokes.
    pub fn polyline(&mut self, points: Vec<(f64, f64)>, ink: &str, width: f64, dashed: bool) {
        let stroke_dasharray = dashed.then(|| DASHES.map(|length| length.to_string()).join(" "));
        self.scene.add(Primitive::PolyLine {
            points,
            stroke: Color::from(ink),
            stroke_width: width,
            stroke_dasharray,
        });
    }

    /// A filled area bounded by points.
    pub fn area(&mut self, points: &[(f64, f64)], ink: &str, opacity: f64) {
        let mut d = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let _ = write!(d, "{}{x:.2} {y:.2} ", if index == 0 { 'M' } else { 'L' });
        }
        d.push('Z');
        self.scene.add(Primitive::Path(Box::new(PathData {
            d,
            fill: Some(Color::from(ink)),
            stroke: Color::None,
            stroke_width: 0.0,
            opacity: (opacity < 1.0).then_some(opacity),
            stroke_dasharray: None,
        })));
    }

    /// A disc.
    pub fn dot(&mut self, (cx, cy): (f64, f64), r: f64, ink: &str) {
        let fill = Color::from(ink);
        self.scene.add(Primitive::Circle {
            cx,
            cy,
            r,
            fill,
            fill_opacity: None,
            stroke: None,
            stroke_width: None,
        });
    }

    /// A circle filled with paper.
    pub fn ring(&mut self, (cx, cy): (f64, f64), r: f64, ink: &str) {
        self.scene.add(Primitive::Circle {
            cx,
            cy,
            r,
            fill: Color::from(ink::PAPER),
            fill_opacity: None,
            stroke: Some(Color::from(ink)),
            stroke_width: Some(1.8),
        });
    }

    /// What follows until [`Canvas::end_hint`] shows `hint` under the pointer.
    pub fn hint(&mut self, hint: &str) {
        let title = Some(printable(hint));
        self.scene.add(Primitive::GroupStart {
            transform: None,
            title,
            extra_attrs: None,
        });
    }

    /// Ends what [`Canvas::hint`] began.
    pub fn end_hint(&mut self) {
        self.scene.add(Primitive::GroupEnd);
    }

    /// Puts another canvas on this one with its corner at (x, y).
    pub fn place(&mut self, (x, y): (f64, f64), other: &Canvas) {
        let transform = Some(format!("translate({x:.2},{y:.2})"));
        self.scene.add(Primitive::GroupStart {
            transform,
            title: None,
            extra_attrs: None,
        });
        self.scene
            .elements
            .extend(other.scene.elements.iter().cloned());
        self.scene.add(Primitive::GroupEnd);
        let moved = other
            .photos
            .iter()
            .map(|((left, top), side, photo)| ((x + left, y + top), *side, photo.clone()));
        self.photos.extend(moved);
    }

    /// A photo with its corner at (x, y), each of its pixels a square of `side` units.
    pub fn photo(&mut self, corner: (f64, f64), side: f64, photo: Photo) {
        self.photos.push((corner, side, photo));
    }

    /// The drawing as an SVG file: on paper, with a dark variant for viewers that ask for one.
    pub fn svg_file(&self) -> String {
        let style = format!(
            "<style>@media (prefers-color-scheme: dark){{{}}}</style>",
            dark_rules("")
        );
        let paper = format!(
            "<rect width=\"100%\" height=\"100%\" fill=\"{}\" />",
            ink::PAPER
        );
        self.svg(
            &format!("width=\"{0}\" height=\"{1}\"", self.width(), self.height()),
            &(style + &paper),
        )
    }

    /// The drawing as an element of a page: no size of its own, no paper; `label` says what it shows.
    pub fn svg_inline(&self, label: &str) -> String {
        self.svg(
            &format!("role=\"img\" aria-label=\"{}\"", escape(label)),
            "",
        )
    }

    /// kuva's SVG with its head replaced, so that it scales, `first` put in front of the marks and photos behind.
    fn svg(&self, attributes: &str, first: &str) -> String {
        let mut scene = Scene::new(self.width(), self.height()).with_background(None);
        scene.elements.clone_from(&self.scene.elements);
        let written = SvgBackend::new().render_scene(&scene);
        // What kuva always writes: an opening tag and its stamp in front, the closing tag behind.
        let marks = written
            .split_once("-->")
            .map_or(written.as_str(), |(_, marks)| marks);
        let marks = marks.strip_suffix("</svg>").unwrap_or(marks);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" {attributes} font-family=\"{FONT}\" fill=\"{}\">{first}{marks}",
            self.width(),
            self.height(),
            ink::TEXT
        );
        for ((x, y), side, photo) in &self.photos {
            let (width, height) = (side * photo.width as f64, side * photo.height as f64);
            let _ = write!(
                svg,
                "<image x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" style=\"image-rendering:pixelated\" href=\"{}\" />",
                photo.data_url()
            );
        }
        svg + "</svg>"
    }

    /// The drawing as a PNG file, three pixels per unit.
    ///
    /// # Errors
    /// What the encoder says.
    pub fn png(&self) -> Result<Vec<u8>, String> {
        let mut scene = Scene::new(self.width(), self.height());
        scene.text_color.clone_from(&self.scene.text_color);
        scene.elements.clone_from(&self.scene.elements);
        for element in &mut scene.elements {
            if let Primitive::PolyLine {
                stroke_dasharray: Some(dashes),
                ..
            } = element
            {
                // kuva scales points and widths of a PNG but not its dashes.
                *dashes = DASHES
                    .map(|length| (length * PNG_SCALE).to_string())
                    .join(" ");
            }
        }
        for ((x, y), side, photo) in &self.photos {
            let place = |index: usize| {
                (
                    x + (index % photo.width) as f64 * side,
                    y + (index / photo.width) as f64 * side,
                )
            };
            let count = photo.pixels.len();
            scene.add(Primitive::RectBatch {
                x: (0..count).map(|index| place(index).0).collect(),
                y: (0..count).map(|index| place(index).1).collect(),
                w: vec![*side; count],
                h: vec![*side; count],
                fills: photo
                    .pixels
                    .iter()
                    .map(|&[red, green, blue]| Color::Rgb(red, green, blue))
                    .collect(),
            });
        }
        RasterBackend::new()
            .with_scale(PNG_SCALE)
            .render_scene(&scene)
    }
}

/// `text` without what no XML file may hold.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect()
}

/// `text` such that kuva takes no part of it for a formula.
fn literal(text: &str) -> String {
    printable(text).replace('$', "\\$")
}

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
    log: bool,
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
    /// Name, colour and whether dashed.
    pub legend: &'a [(String, &'static str, bool)],
}

impl Axes {
    /// Draws title, legend, bands and axes.
    pub fn new(frame: &Frame<'_>) -> Axes {
        let (width, height) = frame.size;
        let legend = legend_rows(frame.legend, !frame.bands.is_empty(), width - 24.0);
        let top = 34.0 + 18.0 * legend.len() as f64 + 6.0;
        let unit = frame.unit;
        let format = TickFormat::Custom(std::sync::Arc::new(move |value| match unit {
            Unit::Plain => super::number::value(value),
            Unit::Percent => super::number::short_percent(value),
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
        for (row, entries) in legend.iter().enumerate() {
            let mut x = 12.0;
            let y = 43.0 + 18.0 * row as f64;
            for (name, mark) in entries {
                match mark {
                    Mark::Line(ink, dashed) => {
                        canvas.polyline(vec![(x, y), (x + 18.0, y)], ink, 2.4, *dashed)
                    }
                    Mark::Band => canvas.rect((x, y - 6.0), (18.0, 12.0), ink::SPARSE, 0.2),
                }
                canvas.text((x + 23.0, y + 4.5), name, LEGEND, Anchor::Start, ink::MUTED);
                x += entry_width(name);
            }
        }
        Axes {
            canvas,
            map,
            log: frame.scale == Scale::Log,
        }
    }

    /// Where data lie on the canvas; values below a logarithmic axis lie on its lower end.
    pub fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let y = if self.log {
            y.max(self.map.y_range.0)
        } else {
            y
        };
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

/// How a legend shows a series.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mark {
    Line(&'static str, bool),
    Band,
}

fn entry_width(name: &str) -> f64 {
    text_width(name, LEGEND) + 23.0 + 16.0
}

/// The entries of a legend in rows of at most `width`.
fn legend_rows(
    series: &[(String, &'static str, bool)],
    bands: bool,
    width: f64,
) -> Vec<Vec<(String, Mark)>> {
    let mut entries: Vec<_> = series
        .iter()
        .map(|(name, ink, dashed)| (fit(name, LEGEND, width - 40.0), Mark::Line(ink, *dashed)))
        .collect();
    if bands {
        entries.push(("sparse phase".to_string(), Mark::Band));
    }
    let mut rows: Vec<Vec<(String, Mark)>> = Vec::new();
    let mut used = f64::INFINITY;
    for entry in entries {
        let needed = entry_width(&entry.0);
        if used + needed > width + 16.0 {
            rows.push(Vec::new());
            used = 0.0;
        }
        used += needed;
        if let Some(row) = rows.last_mut() {
            row.push(entry);
        }
    }
    rows
}

/// A step of 1, 2 or 5 times a power of ten that cuts `span` into about `parts`.
fn round_step(span: f64, parts: f64) -> f64 {
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
    fn every_colour_has_a_dark_counterpart() {
        let known: Vec<&str> = ink::DARK.iter().map(|(light, _)| *light).collect();
        let named = [
            ink::PAPER,
            ink::TEXT,
            ink::MUTED,
            ink::GRID,
            ink::SPARSE,
            ink::KEPT,
            ink::BEFORE,
            ink::DENSE,
            ink::TRAIN,
            ink::VALIDATION,
            ink::WRONG,
        ];
        for color in named.iter().chain(&ink::ORDERED) {
            assert_eq!(
                known.iter().filter(|light| *light == color).count(),
                1,
                "{color}"
            );
        }
        assert!(dark_rules(".plot ").contains(".plot [fill=\"#ffffff\"]{fill:#161c23}"));
    }

    #[test]
    fn text_is_taken_literally_and_escaped() {
        let mut canvas = Canvas::new(100.0, 50.0);
        canvas.text(
            (1.0, 2.0),
            "<$x^2$ & \"\u{7}\">",
            12,
            Anchor::Start,
            ink::TEXT,
        );
        canvas.hint("a<b\u{1}");
        canvas.end_hint();
        let svg = canvas.svg_file();
        assert!(
            svg.contains("&lt;$x^2$ &amp; &quot;\u{fffd}&quot;&gt;"),
            "{svg}"
        );
        assert!(svg.contains("<title>a&lt;b\u{fffd}</title>"), "{svg}");
        assert!(
            svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 100 50\"")
        );
        assert!(svg.ends_with("</svg>"));
    }

    #[test]
    fn png_has_three_pixels_per_unit() {
        let mut canvas = Canvas::new(40.0, 20.0);
        canvas.rect((0.0, 0.0), (20.0, 20.0), ink::KEPT, 1.0);
        let png = canvas.png().unwrap();
        let picture = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (120, 60));
        assert_eq!(picture.get_pixel(10, 30).0, [0x0d, 0x85, 0x77]);
        assert_eq!(picture.get_pixel(110, 30).0, [255, 255, 255]);
    }

    #[test]
    fn dashes_have_gaps_in_both_formats() {
        let mut canvas = Canvas::new(40.0, 10.0);
        canvas.polyline(vec![(0.0, 5.0), (40.0, 5.0)], ink::KEPT, 1.6, true);
        assert!(canvas.svg_file().contains("stroke-dasharray=\"5 4\""));
        let png = image::load_from_memory(&canvas.png().unwrap())
            .unwrap()
            .to_rgb8();
        let paper = (0..120)
            .filter(|&x| png.get_pixel(x, 15).0 == [255; 3])
            .count();
        assert!((15..60).contains(&paper), "{paper} of 120 pixels are gaps");
    }

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
    }

    #[test]
    fn steps_are_round_and_legends_wrap() {
        assert_eq!(round_step(10.0, 5.0), 2.0);
        assert_eq!(round_step(0.07, 5.0), 0.02);
        assert_eq!(whole_step((0.0, 15.0)), 2.0);
        assert_eq!(whole_step((0.0, 3.0)), 1.0);
        let series: Vec<_> = (0..9)
            .map(|index| (format!("a long layer name {index}"), ink::TRAIN, false))
            .collect();
        let rows = legend_rows(&series, true, 456.0);
        assert!(rows.len() > 2);
        assert_eq!(rows.iter().map(Vec::len).sum::<usize>(), 10);
        assert_eq!(fit("abcdefghij", 10, 30.0), "abcd…");
    }
}
