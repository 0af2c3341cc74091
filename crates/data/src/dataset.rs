//! A set of labelled pictures of one shape.

use crate::DataError;

/// A set of labelled pictures, all of one shape.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Name of the set, e.g. "mnist".
    pub name: String,
    /// Channels, height and width of every picture.
    pub shape: [usize; 3],
    /// Number of classes; every label is below it.
    pub classes: usize,
    /// Name of each class.
    pub label_names: Vec<String>,
    /// Class of each picture.
    pub labels: Vec<u32>,
    /// The pictures.
    pub pixels: Pixels,
}

/// Where the pictures of a [`Dataset`] are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Pixels {
    /// All in memory: `[N, C, H, W]`, one byte a value.
    Memory(Vec<u8>),
}

/// A set divided by its publisher: what is learned from, and what the error is measured on.
#[derive(Clone, Debug)]
pub struct Split {
    /// Pictures to learn from.
    pub train: Dataset,
    /// Pictures that choose nothing and give the reported error.
    pub test: Dataset,
}

/// Facts about a [`Dataset`], as `skinny data info` prints them.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    /// Name of the set.
    pub name: String,
    /// Number of pictures.
    pub pictures: usize,
    /// Channels, height and width.
    pub shape: [usize; 3],
    /// Name and number of pictures of each class.
    pub classes: Vec<(String, usize)>,
    /// Mean of each channel, values 0 to 1.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel, values 0 to 1.
    pub std: Vec<f64>,
}

impl Dataset {
    /// A set in memory; `pixels` is `[N, C, H, W]`.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] if there is no picture, the number of pixels is not
    /// `labels.len() * C * H * W`, or a label has no name.
    pub fn in_memory(
        name: &str,
        shape: [usize; 3],
        label_names: Vec<String>,
        labels: Vec<u32>,
        pixels: Vec<u8>,
    ) -> Result<Self, DataError> {
        let dataset = Self {
            name: name.to_owned(),
            shape,
            classes: label_names.len(),
            label_names,
            labels,
            pixels: Pixels::Memory(pixels),
        };
        dataset.validate()?;
        Ok(dataset)
    }

    /// Number of pictures.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no picture.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of values of one picture.
    #[must_use]
    pub fn picture_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Checks that labels, names, shape and pixels belong together.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] naming what does not agree.
    pub fn validate(&self) -> Result<(), DataError> {
        let inconsistent = |reason: String| {
            Err(DataError::Inconsistent {
                name: self.name.clone(),
                reason,
            })
        };
        if self.is_empty() {
            return inconsistent("it holds no picture".into());
        }
        if self.label_names.len() != self.classes {
            return inconsistent(format!(
                "{} classes but {} class names",
                self.classes,
                self.label_names.len()
            ));
        }
        if let Some(index) = self
            .labels
            .iter()
            .position(|&label| label as usize >= self.classes)
        {
            return inconsistent(format!(
                "picture {index} has label {} but there are {} classes (0 to {})",
                self.labels[index],
                self.classes,
                self.classes.saturating_sub(1)
            ));
        }
        let [channels, height, width] = self.shape;
        let expected = channels
            .checked_mul(height)
            .and_then(|n| n.checked_mul(width))
            .filter(|&n| n > 0)
            .and_then(|n| n.checked_mul(self.len()));
        match &self.pixels {
            Pixels::Memory(pixels) if Some(pixels.len()) != expected => inconsistent(format!(
                "{} pictures of {channels}x{height}x{width} do not make {} pixels",
                self.len(),
                pixels.len()
            )),
            Pixels::Memory(_) => Ok(()),
        }
    }
}
