//! A set of labelled pictures of one shape.

use skinny_network::Preprocess;

use crate::DataError;
use crate::files::Files;
use crate::random::{Purpose, Random};

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
    /// What the network reads of them, `[N, C, H, W]`, where that was computed beforehand because it is too much
    /// work to be done for each batch; the loader then augments these values and leaves out the preprocessing.
    pub prepared: Option<Vec<f32>>,
}

/// Where the pictures of a [`Dataset`] are.
#[derive(Clone, Debug)]
pub enum Pixels {
    /// All in memory: `[N, C, H, W]`, one byte a value.
    Memory(Vec<u8>),
    /// PNG and JPEG files, decoded when they are read.
    Files(Files),
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
    /// Number of pictures of which mean and standard deviation were taken, evenly spread over the set.
    pub measured: usize,
    /// Mean of each channel, values 0 to 1.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel, values 0 to 1.
    pub std: Vec<f64>,
}

/// Mean and standard deviation of each channel, of values scaled to 0 to 1, as published.
const PUBLISHED: [(&str, &[f32], &[f32]); 5] = [
    ("mnist", &[0.1307], &[0.3081]),
    ("fashion-mnist", &[0.2860], &[0.3530]),
    (
        "cifar10",
        &[0.4914, 0.4822, 0.4465],
        &[0.2470, 0.2435, 0.2616],
    ),
    ("cifar100", CIFAR_100.0, CIFAR_100.1),
    ("cifar100-coarse", CIFAR_100.0, CIFAR_100.1),
];
const CIFAR_100: (&[f32], &[f32]) = (&[0.5071, 0.4865, 0.4409], &[0.2673, 0.2564, 0.2762]);
/// So many pictures give the mean and standard deviation of a set for which none are published.
const MEASURED: usize = 512;

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
            prepared: None,
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
            Pixels::Files(files) if files.len() != self.len() || expected.is_none() => {
                inconsistent(format!(
                    "{} labels but {} files, read as {channels}x{height}x{width}",
                    self.len(),
                    files.len()
                ))
            }
            Pixels::Memory(_) | Pixels::Files(_) => match &self.prepared {
                Some(values) if Some(values.len()) != expected => inconsistent(format!(
                    "{} pictures of {channels}x{height}x{width} do not make {} prepared values",
                    self.len(),
                    values.len()
                )),
                _ => Ok(()),
            },
        }
    }

    /// Reads picture `index` into `image`, `[C, H, W]`, values 0 to 255 and whole.
    ///
    /// # Errors
    /// [`DataError::Read`] or [`DataError::Corrupt`] naming the file that cannot be read.
    ///
    /// # Panics
    /// If there is no picture `index` or `image` has not the length of a picture.
    pub fn read(&self, index: usize, image: &mut [f32]) -> Result<(), DataError> {
        let length = self.picture_len();
        assert_eq!(image.len(), length, "an image of the wrong length");
        match &self.pixels {
            Pixels::Memory(pixels) => {
                let picture = &pixels[index * length..(index + 1) * length];
                for (value, &byte) in image.iter_mut().zip(picture) {
                    *value = f32::from(byte);
                }
                Ok(())
            }
            Pixels::Files(files) => files.read(index, self.shape, image),
        }
    }

    /// The set of the pictures `indices`, in their order.
    ///
    /// # Panics
    /// If there is no picture of one of the indices.
    #[must_use]
    pub fn subset(&self, indices: &[u32]) -> Self {
        let length = self.picture_len();
        let pixels = match &self.pixels {
            Pixels::Memory(pixels) => Pixels::Memory(chosen(pixels, length, indices)),
            Pixels::Files(files) => Pixels::Files(files.subset(indices)),
        };
        Self {
            name: self.name.clone(),
            shape: self.shape,
            classes: self.classes,
            label_names: self.label_names.clone(),
            labels: indices
                .iter()
                .map(|&index| self.labels[index as usize])
                .collect(),
            pixels,
            prepared: (self.prepared.as_ref()).map(|values| chosen(values, length, indices)),
        }
    }

    /// A part of the set with at most `most` pictures: the first ones of a set in memory, whose classes are mixed, and of picture files,
    /// which are sorted by class, ones that are evenly spread.
    #[must_use]
    pub fn part(&self, most: usize) -> Self {
        let (all, most) = (self.len(), most.min(self.len()));
        let chosen = |place: usize| match self.pixels {
            Pixels::Memory(_) => place,
            Pixels::Files(_) => place * all / most,
        };
        let indices: Vec<u32> = (0..most).map(|place| chosen(place) as u32).collect();
        self.subset(&indices)
    }

    /// Divides the set into what is learned from and a held-out part of `validation` pictures, chosen by
    /// `seed` alone. Both keep the order of the set.
    ///
    /// # Errors
    /// [`DataError::Setting`] unless both parts get a picture.
    pub fn hold_out(&self, validation: usize, seed: u64) -> Result<(Self, Self), DataError> {
        if validation == 0 || validation >= self.len() {
            return Err(DataError::hold_out(validation, self.len(), &self.name));
        }
        let mut order = vec![0; self.len()];
        Random::new(seed, Purpose::Divide, 0, 0).permutation(&mut order);
        let (held_out, rest) = order.split_at_mut(validation);
        held_out.sort_unstable();
        rest.sort_unstable();
        Ok((self.subset(rest), self.subset(held_out)))
    }

    /// What is to happen to a picture before the first layer of a network trained on this set: to the
    /// set's size, values scaled to 0 to 1, then per channel minus the mean and divided by the standard
    /// deviation. These are the published ones of MNIST, Fashion-MNIST and CIFAR, otherwise those of 512
    /// pictures spread evenly over the set, so ask the training part, before anything is held out.
    ///
    /// # Errors
    /// [`DataError::Read`] or [`DataError::Corrupt`] naming a file that cannot be read.
    pub fn preprocess(&self) -> Result<Preprocess, DataError> {
        let geometry = match &self.pixels {
            Pixels::Memory(_) => Preprocess::for_input(self.shape),
            Pixels::Files(files) => files.geometry().clone(),
        };
        let published = PUBLISHED
            .iter()
            .find(|(name, mean, _)| *name == self.name && mean.len() == self.shape[0]);
        let (mean, std) = match published {
            Some((_, mean, std)) => (mean.to_vec(), std.to_vec()),
            None => {
                let (mean, std) = self.statistics(MEASURED)?;
                // A channel of one value has nothing to divide by.
                let std = std
                    .iter()
                    .map(|&std| if std > 1e-6 { std as f32 } else { 1.0 });
                (
                    mean.iter().map(|&mean| mean as f32).collect(),
                    std.collect(),
                )
            }
        };
        Ok(Preprocess {
            mean,
            std,
            labels: self.label_names.clone(),
            ..geometry
        })
    }

    /// Facts about the set; mean and standard deviation are those of at most `at_most` pictures (at least
    /// one), spread evenly over it.
    ///
    /// # Errors
    /// [`DataError::Read`] or [`DataError::Corrupt`] naming a file that cannot be read.
    pub fn info(&self, at_most: usize) -> Result<Info, DataError> {
        let mut counts = vec![0; self.classes];
        for &label in &self.labels {
            counts[label as usize] += 1;
        }
        let (mean, std) = self.statistics(at_most)?;
        Ok(Info {
            name: self.name.clone(),
            pictures: self.len(),
            shape: self.shape,
            classes: self.label_names.iter().cloned().zip(counts).collect(),
            measured: self.len().min(at_most.max(1)),
            mean,
            std,
        })
    }

    /// Mean and standard deviation of each channel, of values scaled to 0 to 1, over at most `at_most`
    /// pictures.
    fn statistics(&self, at_most: usize) -> Result<(Vec<f64>, Vec<f64>), DataError> {
        let [channels, height, width] = self.shape;
        let taken = self.len().min(at_most.max(1));
        let mut image = vec![0.0; self.picture_len()];
        // Sums of whole numbers are exact, so no order of summing can matter.
        let mut sums = vec![(0_u64, 0_u64); channels];
        for number in 0..taken {
            let index = (number as u128 * self.len() as u128 / taken as u128) as usize;
            self.read(index, &mut image)?;
            for (plane, (sum, squares)) in image.chunks_exact(height * width).zip(&mut sums) {
                for &value in plane {
                    *sum += value as u64;
                    *squares += (value as u64).pow(2);
                }
            }
        }
        let count = (taken * height * width) as f64;
        Ok(sums
            .into_iter()
            .map(|(sum, squares)| {
                let (mean, square) = (sum as f64 / count, squares as f64 / count);
                (mean / 255.0, (square - mean * mean).max(0.0).sqrt() / 255.0)
            })
            .unzip())
    }
}

/// The pieces of `length` values with these numbers, one after the other.
fn chosen<T: Copy>(values: &[T], length: usize, indices: &[u32]) -> Vec<T> {
    let mut chosen = Vec::with_capacity(indices.len() * length);
    for &index in indices {
        let start = index as usize * length;
        chosen.extend_from_slice(&values[start..start + length]);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pictures of 2 channels of 1x2; picture `n` holds n, n+1, n+2, n+3 and has label n modulo 3.
    fn counting(count: u8) -> Dataset {
        Dataset::in_memory(
            "counting",
            [2, 1, 2],
            ["a", "b", "c"].map(String::from).to_vec(),
            (0..u32::from(count)).map(|n| n % 3).collect(),
            (0..count).flat_map(|n| [n, n + 1, n + 2, n + 3]).collect(),
        )
        .unwrap()
    }

    fn pictures(dataset: &Dataset) -> Vec<u8> {
        let mut image = [0.0; 4];
        (0..dataset.len())
            .map(|index| {
                dataset.read(index, &mut image).unwrap();
                image[0] as u8
            })
            .collect()
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let names = || vec!["a".to_owned(), "b".to_owned()];
        let build = |shape, names, labels: &[u32], pixels| {
            Dataset::in_memory("mine", shape, names, labels.to_vec(), vec![0; pixels])
                .map_err(|error| error.to_string())
        };
        build([1, 2, 2], names(), &[0, 1], 8).unwrap();
        for (shape, labels, pixels, word) in [
            ([1, 2, 2], &[][..], 0, "no picture"),
            ([1, 2, 2], &[0, 1], 7, "do not make 7 pixels"),
            ([1, 2, 2], &[0, 2], 8, "picture 1 has label 2"),
            ([1, 0, 2], &[0, 1], 0, "do not make 0 pixels"),
            ([1 << 40, 1 << 40, 2], &[0, 1], 0, "do not make 0 pixels"),
        ] {
            let message = build(shape, names(), labels, pixels).unwrap_err();
            assert!(
                message.contains("\"mine\"") && message.contains(word),
                "{message}"
            );
        }
        let mut prepared = counting(5);
        prepared.prepared = Some(vec![0.0; 19]);
        let message = prepared.validate().unwrap_err().to_string();
        assert!(message.contains("19 prepared values"), "{message}");
        let mut renamed = counting(5);
        renamed.label_names.pop();
        assert!(
            renamed
                .validate()
                .unwrap_err()
                .to_string()
                .contains("3 classes but 2")
        );
    }

    #[test]
    fn a_subset_takes_pictures_with_their_labels() {
        let mut set = counting(9);
        set.prepared = Some((0..36).map(|value| value as f32).collect());
        let subset = set.subset(&[7, 2, 2]);
        let prepared = subset.prepared.as_ref().unwrap();
        assert_eq!(
            prepared[..],
            [
                28.0, 29.0, 30.0, 31.0, 8.0, 9.0, 10.0, 11.0, 8.0, 9.0, 10.0, 11.0
            ]
        );
        assert_eq!(pictures(&subset), [7, 2, 2]);
        assert_eq!(subset.labels, [1, 2, 2]);
    }

    #[test]
    fn info_counts_and_measures() {
        let info = counting(5).info(usize::MAX).unwrap();
        assert_eq!(
            (info.pictures, info.measured, info.shape),
            (5, 5, [2, 1, 2])
        );
        let counts: Vec<usize> = info.classes.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 2, 1]);
        // Channel 0 holds 0 1 1 2 2 3 3 4 4 5: mean 2.5, variance 2.25; channel 1 two more.
        for (channel, mean) in [2.5, 4.5].into_iter().enumerate() {
            assert!((info.mean[channel] * 255.0 - mean).abs() < 1e-12);
            assert!((info.std[channel] * 255.0 - 1.5).abs() < 1e-12);
        }
        // Of 5 pictures, 0 and 2 are the two evenly spread ones: channel 0 holds 0 1 2 3.
        let info = counting(5).info(2).unwrap();
        assert_eq!(info.measured, 2);
        assert!((info.mean[0] * 255.0 - 1.5).abs() < 1e-12);
        assert_eq!(counting(5).info(0).unwrap().measured, 1);
    }

    #[test]
    fn preprocessing_centres_what_it_measured() {
        let dataset = counting(50);
        let preprocess = dataset.preprocess().unwrap();
        preprocess.check(dataset.shape).unwrap();
        assert_eq!(preprocess.labels, dataset.label_names);
        let (mut sum, mut squares) = ([0.0; 2], [0.0; 2]);
        let mut image = [0.0; 4];
        for index in 0..50 {
            dataset.read(index, &mut image).unwrap();
            preprocess.normalize(&mut image, dataset.shape);
            for (position, value) in image.iter().enumerate() {
                sum[position / 2] += f64::from(*value) / 100.0;
                squares[position / 2] += f64::from(value * value) / 100.0;
            }
        }
        assert!(sum.iter().all(|sum| sum.abs() < 1e-5), "{sum:?}");
        assert!(
            squares.iter().all(|square| (square - 1.0).abs() < 1e-4),
            "{squares:?}"
        );
    }

    #[test]
    fn published_numbers_are_used_and_one_colour_divides_by_one() {
        let mut flat =
            Dataset::in_memory("mnist", [1, 1, 1], vec!["0".into()], vec![0], vec![51]).unwrap();
        let preprocess = flat.preprocess().unwrap();
        assert_eq!(
            (preprocess.mean, preprocess.std),
            (vec![0.1307], vec![0.3081])
        );
        flat.name = "mine".into();
        let preprocess = flat.preprocess().unwrap();
        assert_eq!((preprocess.mean, preprocess.std), (vec![0.2], vec![1.0]));
    }

    #[test]
    fn a_part_that_would_be_empty_is_refused() {
        for validation in [0, 9, 10] {
            let message = counting(9).hold_out(validation, 0).unwrap_err().to_string();
            assert!(
                message.contains("data.validation") && message.contains("1 to 8"),
                "{message}"
            );
        }
    }

    proptest! {
        #[test]
        fn holding_out_divides_the_set(count in 2_u8..100, part in any::<proptest::sample::Index>(), seed in any::<u64>()) {
            let set = counting(count);
            let validation = 1 + part.index(usize::from(count) - 1);
            let (train, held_out) = set.hold_out(validation, seed).unwrap();
            prop_assert_eq!(held_out.len(), validation);
            let (train, held_out) = (pictures(&train), pictures(&held_out));
            prop_assert!(train.is_sorted() && held_out.is_sorted());
            let mut all = [train, held_out.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..count).collect::<Vec<u8>>());
            let again = set.hold_out(validation, seed).unwrap().1;
            prop_assert_eq!(pictures(&again), held_out);
        }
    }
}
