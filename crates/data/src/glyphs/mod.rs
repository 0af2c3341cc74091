//! `glyphs`: an embedded data set of hand-drawn digits and letters that needs no file and no
//! network.
//!
//! Every picture is drawn from scratch: a shape of its class is chosen, its points are jittered, a
//! random hand bends, tilts, sizes and places it, the pen's pressure changes along the way, stray
//! marks and gaps are added, and the paper is unevenly lit and noisy. A linear classifier fails
//! on the result, a good convolutional network does not.
//!
//! The bits depend on the seed alone. Each picture has a stream of random numbers of its own, keyed
//! by (seed, split, index), so neither the number of threads nor the size of a split matters: a
//! smaller split is the beginning of a larger one. Only basic arithmetic and square roots are
//! used, which IEEE 754 defines to the bit, so that platforms agree.

mod alphabet;
mod hand;
mod render;
mod strokes;

use std::num::NonZero;
use std::thread;

use alphabet::{ALPHABET, Shape};
use hand::{Dab, Hand};
use render::{Ink, Paper};
use strokes::Point;

use crate::random::{Purpose, Random};
use crate::{DataError, Dataset, Split};

/// Height and width of a picture in pixels.
pub const SIDE: usize = 28;
/// The most pictures that [`split`] draws for one part; they take 784 MB of memory.
pub const MOST_PICTURES: usize = 1_000_000;
/// Number of pixels of a picture.
const PIXELS: usize = SIDE * SIDE;
/// Number of classes.
pub const CLASSES: usize = ALPHABET.len();

/// Which pictures to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlyphSettings {
    /// The seed of everything.
    pub seed: u64,
    /// Number of training pictures.
    pub train: usize,
    /// Number of test pictures.
    pub test: usize,
}

impl Default for GlyphSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            train: 12_000,
            test: 3_000,
        }
    }
}

/// Pictures with their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glyphs {
    /// Gray values [N, 1, 28, 28], bright ink on dark paper.
    pub pixels: Vec<u8>,
    /// The class of each of the N pictures, below [`CLASSES`].
    pub labels: Vec<u32>,
}

/// The names of the classes in the order of their labels.
#[must_use]
pub fn names() -> Vec<String> {
    ALPHABET
        .iter()
        .map(|letter| letter.name.to_owned())
        .collect()
}

/// Draws the training and the test pictures, on all cores.
#[must_use]
pub fn generate(settings: &GlyphSettings) -> (Glyphs, Glyphs) {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let GlyphSettings { seed, train, test } = *settings;
    (
        TRAIN.draw(seed, train, threads),
        TEST.draw(seed, test, threads),
    )
}

/// The pictures of [`generate`] as a data set.
///
/// # Errors
/// [`DataError::Setting`] if either part is to have no picture or more than [`MOST_PICTURES`].
pub fn split(settings: &GlyphSettings) -> Result<Split, DataError> {
    for (key, count) in [("train", settings.train), ("test", settings.test)] {
        if !(1..=MOST_PICTURES).contains(&count) {
            return Err(DataError::Setting {
                key: format!("glyphs.{key}"),
                reason: format!("{count} pictures; choose a number from 1 to {MOST_PICTURES}"),
            });
        }
    }
    let (train, test) = generate(settings);
    Ok(Split {
        train: train.into_dataset()?,
        test: test.into_dataset()?,
    })
}

impl Glyphs {
    fn into_dataset(self) -> Result<Dataset, DataError> {
        Dataset::in_memory("glyphs", [1, SIDE, SIDE], names(), self.labels, self.pixels)
    }
}

/// The random streams of one part of the set.
struct Part {
    pictures: Purpose,
    labels: Purpose,
}

const TRAIN: Part = Part {
    pictures: Purpose::GlyphsTrain,
    labels: Purpose::GlyphsTrainLabels,
};
const TEST: Part = Part {
    pictures: Purpose::GlyphsTest,
    labels: Purpose::GlyphsTestLabels,
};

impl Part {
    /// Draws the first `count` pictures of the part.
    fn draw(&self, seed: u64, count: usize, threads: usize) -> Glyphs {
        let labels = self.labels(seed, count);
        let mut pixels = vec![0; count * PIXELS];
        let share = count.div_ceil(threads).max(1);
        thread::scope(|scope| {
            let shares = pixels.chunks_mut(share * PIXELS).zip(labels.chunks(share));
            for (first, (pixels, labels)) in (0..).step_by(share).zip(shares) {
                scope.spawn(move || {
                    let pictures = pixels.chunks_exact_mut(PIXELS).zip(labels);
                    for (index, (pixels, &label)) in (first..).zip(pictures) {
                        let mut random = Random::new(seed, self.pictures, 0, index);
                        draw(ALPHABET[label as usize].shapes, &mut random, pixels);
                    }
                });
            }
        });
        Glyphs { pixels, labels }
    }

    /// Labels in blocks that hold every class once, in random order: any stretch of the part is
    /// balanced, and no regular selection of pictures is biased.
    fn labels(&self, seed: u64, count: usize) -> Vec<u32> {
        let mut labels = vec![0; count.next_multiple_of(CLASSES)];
        for (block, labels) in (0..).zip(labels.chunks_exact_mut(CLASSES)) {
            Random::new(seed, self.labels, 0, block).permutation(labels);
        }
        labels.truncate(count);
        labels
    }
}

/// Standard deviation of the points of a shape, in boxes.
const JITTER: f32 = 0.022;

/// Draws one picture of a class that is written in one of these ways.
fn draw(shapes: &[Shape], random: &mut Random, pixels: &mut [u8]) {
    let shape = shapes[random.below(shapes.len() as u32) as usize];
    let hand = Hand::new(SIDE, random);
    let softness = random.between(0.8, 1.9);
    let mut ink = Ink::new();
    for stroke in strokes::draw(shape, JITTER, random) {
        let dabs: Vec<Dab> = stroke.into_iter().map(|point| hand.place(point)).collect();
        ink.stroke(&dabs, softness);
    }
    if random.unit() < 0.3 {
        ink.erase(mark(0.5, 1.3, random), softness);
    }
    for _ in 0..random.below(3) {
        ink.spot(mark(0.4, 1.2, random), random.between(0.3, 0.9), softness);
    }
    Paper::new(random).develop(&ink, random, pixels);
}

/// A stray spot anywhere on the picture, its radius in pixels between two bounds.
fn mark(smallest: f32, largest: f32, random: &mut Random) -> Dab {
    let side = SIDE as f32;
    Dab {
        center: Point {
            x: random.between(0.0, side),
            y: random.between(0.0, side),
        },
        radius: random.between(smallest, largest),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use sha2::{Digest, Sha256};

    use super::*;

    const SMALL: GlyphSettings = GlyphSettings {
        seed: 0,
        train: 260,
        test: 130,
    };

    const BITS_OF_SEED_0: &str = "73ae55e9911ad12a23032f36256753a87bc02338d9e5cb82c5d1e4721f884bdd";

    /// Every published figure on the glyphs depends on these bits.
    #[test]
    fn the_bits_of_seed_0_never_change() {
        let (train, test) = generate(&SMALL);
        let mut hash = Sha256::new();
        for glyphs in [train, test] {
            hash.update(glyphs.pixels);
            glyphs
                .labels
                .iter()
                .for_each(|label| hash.update(label.to_le_bytes()));
        }
        let hex: String = hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, BITS_OF_SEED_0);
    }

    #[test]
    fn classes_are_balanced_in_every_stretch() {
        let (train, _) = generate(&SMALL);
        for block in train.labels.chunks(CLASSES) {
            assert_eq!(block.iter().collect::<HashSet<_>>().len(), CLASSES);
        }
        let (uneven, _) = generate(&GlyphSettings {
            train: 100,
            ..SMALL
        });
        let counts = (0..CLASSES as u32).map(|class| {
            uneven
                .labels
                .iter()
                .filter(|&&label| label == class)
                .count()
        });
        assert!(counts.clone().max() <= counts.min().map(|least| least + 1));
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let draw = |threads| TRAIN.draw(5, 101, threads);
        let alone = draw(1);
        for threads in [2, 3, 8, 500] {
            assert_eq!(alone, draw(threads));
        }
    }

    #[test]
    fn a_smaller_split_is_the_beginning_of_a_larger_one() {
        let (large, _) = generate(&SMALL);
        let (small, empty) = generate(&GlyphSettings {
            train: 50,
            test: 0,
            ..SMALL
        });
        assert_eq!(small.pixels, large.pixels[..50 * PIXELS]);
        assert_eq!(small.labels, large.labels[..50]);
        assert!(empty.pixels.is_empty() && empty.labels.is_empty());
    }

    #[test]
    fn no_two_pictures_are_alike_in_either_split_or_under_another_seed() {
        let (train, test) = generate(&SMALL);
        let (other, _) = generate(&GlyphSettings { seed: 1, ..SMALL });
        let pictures = [&train, &test, &other].map(|glyphs| glyphs.pixels.chunks(PIXELS));
        let distinct: HashSet<&[u8]> = pictures.into_iter().flatten().collect();
        assert_eq!(distinct.len(), 260 + 130 + 260);
    }

    #[test]
    fn every_picture_shows_ink() {
        let (train, _) = generate(&SMALL);
        for picture in train.pixels.chunks(PIXELS) {
            let mean = picture.iter().map(|&p| f32::from(p)).sum::<f32>() / picture.len() as f32;
            let bright = picture
                .iter()
                .filter(|&&p| f32::from(p) > mean + 40.0)
                .count();
            assert!((15..400).contains(&bright), "{bright} bright pixels");
        }
    }

    #[test]
    fn a_split_is_a_valid_data_set() {
        let split = split(&SMALL).unwrap();
        for (dataset, count) in [(split.train, 260), (split.test, 130)] {
            assert_eq!(dataset.name, "glyphs");
            assert_eq!(dataset.shape, [1, 28, 28]);
            assert_eq!(dataset.classes, 26);
            assert_eq!(dataset.len(), count);
            dataset.validate().unwrap();
        }
    }

    #[test]
    fn impossible_numbers_of_pictures_are_refused() {
        for (train, test, key) in [
            (0, 10, "glyphs.train"),
            (10, 0, "glyphs.test"),
            (usize::MAX, 10, "glyphs.train"),
        ] {
            let settings = GlyphSettings {
                seed: 0,
                train,
                test,
            };
            let message = split(&settings).unwrap_err().to_string();
            assert!(message.starts_with(key), "{message}");
        }
    }
}
