//! The only module, with its parts, that knows the plotting library, kuva: a canvas of simple marks, axes made of kuva's layout,
//! and drawings as SVG and PNG.
//!
//! Colours are the constants of [`ink`]. They are written as they look on light paper; [`dark_rules`] turns
//! each into its counterpart for a dark screen with CSS alone, inside the page and inside every SVG file.

mod axes;
pub mod chart;
mod legend;

use std::fmt::Write as _;

use kuva::backend::raster::RasterBackend;
use kuva::backend::svg::SvgBackend;
use kuva::render::color::Color;
use kuva::render::render::{PathData, Primitive, Scene, TextAnchor};

pub use axes::{Axes, Frame, Scale, Unit};
pub use legend::Legend;

use super::html::escape;
use super::photo::Photo;

/// Pixels of a PNG per unit of a canvas.
const PNG_SCALE: f32 = 3.0;

/// Length of a stroke of a dashed line and of the gap behind it.
const DASHES: [f32; 2] = [5.0, 4.0];

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
    text.chars().count() as f64 * f64::from(size) * 0.53
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut() {
        assert_eq!(fit("abcdefghij", 10, 30.0), "abcd…");
        assert_eq!(fit("abc", 10, 30.0), "abc");
    }

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
}
