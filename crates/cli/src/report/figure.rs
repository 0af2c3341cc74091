//! A figure of the report: a drawing with its caption.

use super::plots::Canvas;
use super::run::Run;

/// The size of a figure that stands in a column.
pub const SIZE: (f64, f64) = (480.0, 290.0);

/// A run among several: its label, which no other has, and how its curves look.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    pub run: &'a Run,
    pub label: String,
    pub ink: &'static str,
    pub dashed: bool,
}

/// A drawing with what is said about it.
#[derive(Debug)]
pub struct Figure {
    /// The name of its files.
    pub slug: String,
    /// What it shows, for those who cannot see it.
    pub title: String,
    /// One line that says what one sees.
    pub caption: String,
    /// The drawing, as it is written to files.
    pub canvas: Canvas,
    /// The parts that a page shows instead of the whole, so that they wrap on a narrow screen.
    pub panels: Vec<Canvas>,
}

impl Figure {
    /// A figure that is shown as one drawing.
    pub fn new(slug: &str, title: &str, caption: impl Into<String>, canvas: Canvas) -> Figure {
        Figure {
            slug: slug.into(),
            title: title.into(),
            caption: caption.into(),
            canvas,
            panels: Vec::new(),
        }
    }
}
