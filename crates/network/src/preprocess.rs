//! What happens to a picture before the first layer, as data: the same for training and use.
//!
//! First the geometry, on 8-bit pictures: channels, resize, centre crop. Then the values: scale,
//! global contrast normalization, ZCA whitening, mean and standard deviation, in this order.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::graph::shape_text;
use crate::picture::{Picture, central, resized, to_planes, with_channels};
use crate::tensors::{Tensor, Tensors};
use crate::whitening::{Gcn, Zca};

/// The steps from a picture to the network's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Preprocess {
    /// Length of the shorter side after resizing (bilinear with antialiasing); the aspect ratio is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<usize>,
    /// Height and width that are cut out of the centre.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<[usize; 2]>,
    /// Factor of the values 0 to 255; 1/255 by default.
    pub scale: f32,
    /// Subtracted after all else: one value per channel, or one for all, or none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mean: Vec<f32>,
    /// Divided by after `mean`: one value per channel, or one for all, or none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub std: Vec<f32>,
    /// Global contrast normalization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gcn: Option<Gcn>,
    /// ZCA whitening.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zca: Option<Zca>,
    /// Names of the classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

impl Default for Preprocess {
    fn default() -> Self {
        Self {
            resize: None,
            crop: None,
            scale: 1.0 / 255.0,
            mean: Vec::new(),
            std: Vec::new(),
            gcn: None,
            zca: None,
            labels: Vec::new(),
        }
    }
}

/// Why a picture cannot be prepared for a network. Every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessError {
    /// A setting that cannot be.
    #[error("preprocess: key `{key}`: {message}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong, and what to do.
        message: String,
    },
    /// A picture that cannot be used.
    #[error("a picture of {width}x{height} with {channels} channels cannot be used: {reason}")]
    Picture {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Values per pixel.
        channels: usize,
        /// Why not, and what to do.
        reason: String,
    },
}

const ZCA_MEAN: &str = "preprocess.zca.mean";
const ZCA_MATRIX: &str = "preprocess.zca.matrix";

impl Preprocess {
    /// The geometry that brings pictures of any size to `input` (channels, height, width): resize
    /// the shorter side to the longer side of the input, then cut out its centre.
    pub fn for_input(input: [usize; 3]) -> Self {
        let [_, height, width] = input;
        Self {
            resize: Some(height.max(width)),
            crop: Some([height, width]),
            ..Self::default()
        }
    }

    /// Checks the settings against the input of a network, which makes [`Preprocess::normalize`]
    /// safe to call.
    ///
    /// # Errors
    /// [`PreprocessError::Value`] for the first key that is wrong.
    pub fn check(&self, input: [usize; 3]) -> Result<(), PreprocessError> {
        let wrong = |key, message| Err(PreprocessError::Value { key, message });
        let [channels, height, width] = input;
        if self.resize == Some(0) {
            return wrong("resize", "0 must be 1 or more".to_owned());
        }
        if let Some(crop) = self.crop
            && crop != [height, width]
        {
            let (crop, needed) = (shape_text(&crop), shape_text(&[height, width]));
            return wrong(
                "crop",
                format!("{crop} is not the network's input, {needed}; make them equal"),
            );
        }
        if !self.scale.is_finite() || self.scale == 0.0 {
            return wrong(
                "scale",
                format!("{} must be a number other than 0", self.scale),
            );
        }
        for (key, values) in [("mean", &self.mean), ("std", &self.std)] {
            if !(values.len() <= 1 || values.len() == channels) {
                let count = values.len();
                return wrong(
                    key,
                    format!(
                        "{count} values for {channels} channels; give one for each, or one for all"
                    ),
                );
            }
            if let Some(value) = values
                .iter()
                .find(|value| !value.is_finite() || key == "std" && **value <= 0.0)
            {
                return wrong(
                    key,
                    format!(
                        "{value} must be a number{}",
                        if key == "std" { " above 0" } else { "" }
                    ),
                );
            }
        }
        if let Some(gcn) = &self.gcn
            && !(gcn.scale.is_finite() && gcn.scale > 0.0 && gcn.eps.is_finite() && gcn.eps > 0.0)
        {
            return wrong(
                "gcn",
                "scale and eps must be numbers above 0; for example { scale = 55.0 }".to_owned(),
            );
        }
        if let Some(zca) = &self.zca {
            let values = channels * height * width;
            if zca.mean.len() != values || Some(zca.matrix.len()) != values.checked_mul(values) {
                return wrong(
                    "zca",
                    format!(
                        "the mean has {} values and the matrix {}, but the input has {values}; attach the tensors of a whitening fitted to this input",
                        zca.mean.len(),
                        zca.matrix.len()
                    ),
                );
            }
        }
        Ok(())
    }

    /// Brings a picture to the channels and the size of `input` (channels, height, width), as values
    /// 0 to 255 in planes.
    ///
    /// Grey becomes three equal channels and colour becomes grey (luma of BT.601) where the input
    /// asks for it.
    ///
    /// # Errors
    /// [`PreprocessError::Picture`] if the picture is inconsistent or does not come out at the
    /// size of the input.
    pub fn geometry(
        &self,
        picture: &Picture,
        input: [usize; 3],
    ) -> Result<Vec<f32>, PreprocessError> {
        let refuse = |reason: String| PreprocessError::Picture {
            width: picture.width,
            height: picture.height,
            channels: picture.channels,
            reason,
        };
        let [channels, height, width] = input;
        let mut result = with_channels(picture, channels).map_err(refuse)?;
        if let Some(shorter) = self.resize {
            result = resized(&result, shorter).map_err(refuse)?;
        }
        if let Some(crop) = self.crop {
            result = central(&result, crop).map_err(refuse)?;
        }
        if [result.height, result.width] != [height, width] {
            return Err(refuse(format!(
                "it comes out at {}x{} (width x height) but the network reads {width}x{height}; set `resize = {}` and `crop = [{height}, {width}]`",
                result.width,
                result.height,
                height.max(width)
            )));
        }
        Ok(to_planes(&result, channels))
    }

    /// Turns the values 0 to 255 of one image of shape `input` into the network's input, in place.
    ///
    /// # Panics
    /// If [`Preprocess::check`] refuses these settings for `input`, or if `image` does not have
    /// the size of `input`.
    pub fn normalize(&self, image: &mut [f32], input: [usize; 3]) {
        if let Err(error) = self.check(input) {
            panic!("{error}");
        }
        let plane = input[1] * input[2];
        assert_eq!(
            image.len(),
            input[0] * plane,
            "an image has the size of the input"
        );
        for value in image.iter_mut() {
            *value *= self.scale;
        }
        if let Some(gcn) = &self.gcn {
            gcn.apply(image);
        }
        if let Some(zca) = &self.zca {
            zca.apply(image);
        }
        for (channel, values) in image.chunks_exact_mut(plane).enumerate() {
            let of = |all: &[f32]| all.get(channel).or(all.first()).copied();
            let (mean, std) = (of(&self.mean).unwrap_or(0.0), of(&self.std).unwrap_or(1.0));
            for value in values {
                *value = (*value - mean) / std;
            }
        }
    }

    /// Geometry, then values: from a picture to the network's input.
    ///
    /// # Errors
    /// As [`Preprocess::check`] and [`Preprocess::geometry`].
    pub fn apply(&self, picture: &Picture, input: [usize; 3]) -> Result<Vec<f32>, PreprocessError> {
        self.check(input)?;
        let mut image = self.geometry(picture, input)?;
        self.normalize(&mut image, input);
        Ok(image)
    }

    /// The tensors that belong to these settings: those of the ZCA whitening, if there is one.
    pub fn tensors(&self) -> Tensors {
        let mut tensors = Tensors::new();
        if let Some(zca) = &self.zca {
            let values = zca.mean.len();
            tensors.insert(
                ZCA_MEAN,
                Tensor {
                    shape: vec![values],
                    data: zca.mean.clone(),
                },
            );
            tensors.insert(
                ZCA_MATRIX,
                Tensor {
                    shape: vec![values, values],
                    data: zca.matrix.clone(),
                },
            );
        }
        tensors
    }

    /// Takes the tensors that belong to these settings out of `tensors`, as
    /// [`Preprocess::tensors`] gave them.
    ///
    /// # Errors
    /// [`PreprocessError::Value`] if a tensor is missing or has the wrong shape.
    pub fn attach(&mut self, tensors: &mut Tensors) -> Result<(), PreprocessError> {
        let Some(zca) = &mut self.zca else {
            return Ok(());
        };
        let mut take = |name: &str| {
            tensors
                .remove(name)
                .filter(Tensor::is_consistent)
                .ok_or_else(|| PreprocessError::Value {
                    key: "zca",
                    message: format!(
                        "tensor `{name}` is missing; take the weights of the run that fitted it"
                    ),
                })
        };
        let (mean, matrix) = (take(ZCA_MEAN)?, take(ZCA_MATRIX)?);
        if mean.shape.len() != 1 || matrix.shape != [mean.data.len(); 2] {
            return Err(PreprocessError::Value {
                key: "zca",
                message: format!(
                    "the mean has shape {} and the matrix {}; the matrix must be square with a row for each value of the mean",
                    shape_text(&mean.shape),
                    shape_text(&matrix.shape)
                ),
            });
        }
        (zca.mean, zca.matrix) = (mean.data, matrix.data);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: usize, height: usize, pixels: Vec<u8>) -> Picture {
        Picture {
            width,
            height,
            channels: 1,
            pixels,
        }
    }

    #[test]
    fn mean_and_std_are_per_channel_after_the_scale() {
        let preprocess = Preprocess {
            mean: vec![0.5, 0.0],
            std: vec![0.5, 2.0],
            ..Preprocess::default()
        };
        let mut image = [255.0, 0.0, 255.0, 0.0];
        preprocess.normalize(&mut image, [2, 1, 2]);
        assert_eq!(image, [1.0, -1.0, 0.5, 0.0]);
        let for_all = Preprocess {
            mean: vec![0.5],
            ..Preprocess::default()
        };
        let mut image = [255.0, 0.0, 255.0, 0.0];
        for_all.normalize(&mut image, [2, 1, 2]);
        assert_eq!(image, [0.5, -0.5, 0.5, -0.5]);
    }

    #[test]
    fn gcn_centres_and_sets_the_norm_whatever_the_scale() {
        let gcn = Preprocess {
            gcn: Some(Gcn::default()),
            ..Preprocess::default()
        };
        let mut image: Vec<f32> = (0..12).map(|value| (value * value) as f32).collect();
        let mut unscaled = image.clone();
        gcn.normalize(&mut image, [3, 2, 2]);
        Preprocess {
            scale: 1.0,
            ..gcn.clone()
        }
        .normalize(&mut unscaled, [3, 2, 2]);
        let norm = image.iter().map(|value| value * value).sum::<f32>().sqrt();
        assert!((norm - 55.0).abs() < 1e-4, "{norm}");
        assert!(image.iter().sum::<f32>().abs() < 1e-4);
        for (one, other) in image.iter().zip(&unscaled) {
            assert!((one - other).abs() < 1e-4);
        }
        // A picture of one colour has no contrast to divide by.
        let mut flat = [7.0; 12];
        gcn.normalize(&mut flat, [3, 2, 2]);
        assert!(flat.iter().all(|value| value.abs() < 1e-3), "{flat:?}");
    }

    #[test]
    fn zca_multiplies_and_travels_as_tensors() {
        let zca = Zca {
            mean: vec![1.0, 2.0],
            matrix: vec![0.0, 2.0, 1.0, 1.0],
            ..Zca::default()
        };
        let preprocess = Preprocess {
            scale: 1.0,
            zca: Some(zca),
            ..Preprocess::default()
        };
        let mut image = [4.0, 7.0];
        preprocess.normalize(&mut image, [1, 1, 2]);
        assert_eq!(image, [10.0, 8.0]);

        let mut tensors = Tensors::from_bytes(&preprocess.tensors().to_bytes().unwrap()).unwrap();
        let text = toml::to_string(&preprocess).unwrap();
        let mut read: Preprocess = toml::from_str(&text).unwrap();
        let message = read.check([1, 1, 2]).unwrap_err().to_string();
        assert!(message.contains("attach"), "{message}");
        read.attach(&mut tensors).unwrap();
        assert_eq!(read, preprocess);
        let message = read.attach(&mut tensors).unwrap_err().to_string();
        assert!(message.contains("preprocess.zca.mean"), "{message}");
    }

    #[test]
    fn a_picture_of_the_networks_size_needs_no_settings() {
        let image = Preprocess::default()
            .apply(&grey(2, 1, vec![0, 255]), [1, 1, 2])
            .unwrap();
        assert_eq!(image, [0.0, 1.0]);
    }

    #[test]
    fn any_picture_fits_with_the_geometry_for_the_input() {
        let preprocess = Preprocess::for_input([3, 4, 6]);
        preprocess.check([3, 4, 6]).unwrap();
        for (width, height) in [(1, 1), (50, 7), (3, 90), (6, 4)] {
            let image = preprocess
                .geometry(&grey(width, height, vec![9; width * height]), [3, 4, 6])
                .unwrap();
            assert_eq!(image, [9.0; 72]);
        }
    }

    #[test]
    fn a_wrong_size_says_what_to_set() {
        let message = Preprocess::default()
            .apply(&grey(3, 2, vec![0; 6]), [1, 4, 4])
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("comes out at 3x2") && message.contains("`crop = [4, 4]`"),
            "{message}"
        );
    }

    #[test]
    fn wrong_settings_are_refused_by_key() {
        let base = Preprocess::default();
        for (key, wrong) in [
            (
                "resize",
                Preprocess {
                    resize: Some(0),
                    ..base.clone()
                },
            ),
            (
                "crop",
                Preprocess {
                    crop: Some([3, 4]),
                    ..base.clone()
                },
            ),
            (
                "scale",
                Preprocess {
                    scale: f32::NAN,
                    ..base.clone()
                },
            ),
            (
                "mean",
                Preprocess {
                    mean: vec![0.0; 2],
                    ..base.clone()
                },
            ),
            (
                "mean",
                Preprocess {
                    mean: vec![f32::INFINITY],
                    ..base.clone()
                },
            ),
            (
                "std",
                Preprocess {
                    std: vec![0.5, 0.0, 0.5],
                    ..base.clone()
                },
            ),
            (
                "gcn",
                Preprocess {
                    gcn: Some(Gcn {
                        scale: 0.0,
                        eps: 1.0,
                    }),
                    ..base.clone()
                },
            ),
            (
                "zca",
                Preprocess {
                    zca: Some(Zca::default()),
                    ..base.clone()
                },
            ),
        ] {
            let message = wrong.check([3, 4, 4]).unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("preprocess: key `{key}`: ")),
                "{message}"
            );
        }
    }

    #[test]
    fn settings_survive_toml_and_unknown_keys_do_not() {
        let settings = Preprocess {
            mean: vec![0.1307],
            std: vec![0.3081],
            gcn: Some(Gcn::default()),
            labels: vec!["cat".to_owned(), "dog".to_owned()],
            ..Preprocess::for_input([1, 28, 28])
        };
        let text = toml::to_string(&settings).unwrap();
        assert_eq!(toml::from_str::<Preprocess>(&text).unwrap(), settings);
        let message = toml::from_str::<Preprocess>("scales = 1")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("scales") && message.contains("scale`"),
            "{message}"
        );
    }
}
