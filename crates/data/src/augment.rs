//! Random changes of training pictures that leave their class as it is.
//!
//! A picture is `[C, H, W]` with values 0 to 255, before normalization. What is drawn depends on the key
//! (seed, epoch, index of the picture) alone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::random::{Purpose, Random};

/// A random change of a picture, written as in a recipe: "shift:2", "crop:4", "mirror", "affine:10,0.1,5", "cutout:8".
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Augment {
    /// Moves by up to so many whole pixels in each direction; zeros move in. The same as padding with zeros and
    /// cutting out the old size anywhere.
    Shift {
        /// Largest shift in pixels, 1 to 4096.
        pixels: u32,
    },
    /// Pads by so many pixels on each side, mirrored at the edge, and cuts out the old size anywhere.
    Crop {
        /// Width of the padding in pixels, 1 to 4096; at most the size of the picture is used.
        pixels: u32,
    },
    /// Rotates, scales and shears about the centre, bilinear; the set's fill value moves in.
    Affine {
        /// Largest rotation in degrees, 0 to 180.
        degrees: f32,
        /// Largest relative change of size, 0 up to but not including 1.
        scale: f32,
        /// Largest horizontal shear in degrees, 0 to 60.
        shear: f32,
    },
    /// Mirrors left to right, every other picture on average.
    Mirror,
    /// Covers a square about a random pixel with the set's mean; what reaches beyond the edge is cut off (DeVries & Taylor 2017).
    Cutout {
        /// Side of the square in pixels, 1 to 4096.
        side: u32,
    },
}

const PIXELS: &str = "needs whole pixels, 1 to 4096";

/// A text that is no augmentation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "augmentation \"{text}\" {reason}; write \"shift:PIXELS\", \"crop:PIXELS\", \"cutout:PIXELS\", \"affine:DEGREES,SCALE,SHEAR\" (e.g. \"affine:10,0.1,5\") or \"mirror\""
)]
pub struct AugmentError {
    text: String,
    reason: &'static str,
}

impl Augment {
    /// Checks that the values are within their limits, as they are if they come from a text.
    ///
    /// # Errors
    /// [`AugmentError`] saying what the limits are.
    pub fn check(&self) -> Result<(), AugmentError> {
        let reason = match *self {
            Self::Shift { pixels: 1..=4096 }
            | Self::Crop { pixels: 1..=4096 }
            | Self::Cutout { side: 1..=4096 }
            | Self::Mirror => return Ok(()),
            Self::Affine {
                degrees,
                scale,
                shear,
            } if (0.0..=180.0).contains(&degrees)
                && (0.0..1.0).contains(&scale)
                && (0.0..=60.0).contains(&shear) =>
            {
                return Ok(());
            }
            Self::Shift { .. } | Self::Crop { .. } | Self::Cutout { .. } => PIXELS,
            Self::Affine { .. } => {
                "needs degrees 0 to 180, scale 0 to below 1, shear 0 to 60 degrees"
            }
        };
        Err(AugmentError {
            text: self.to_string(),
            reason,
        })
    }
}

impl FromStr for Augment {
    type Err = AugmentError;

    fn from_str(text: &str) -> Result<Self, AugmentError> {
        let refuse = |reason| AugmentError {
            text: text.to_owned(),
            reason,
        };
        let (name, values) = match text.split_once(':') {
            Some((name, values)) => (name.trim(), Some(values)),
            None => (text.trim(), None),
        };
        let augment = match (name, values) {
            ("mirror", None) => Self::Mirror,
            ("mirror", Some(_)) => return Err(refuse("takes no value")),
            ("shift" | "crop" | "cutout", Some(pixels)) => match (name, pixels.trim().parse()) {
                (_, Err(_)) => return Err(refuse(PIXELS)),
                ("shift", Ok(pixels)) => Self::Shift { pixels },
                ("crop", Ok(pixels)) => Self::Crop { pixels },
                (_, Ok(side)) => Self::Cutout { side },
            },
            ("affine", Some(values)) => {
                let numbers: Result<Vec<f32>, _> = values
                    .split(',')
                    .map(|value| value.trim().parse())
                    .collect();
                match numbers.as_deref() {
                    Ok(&[degrees, scale, shear]) => Self::Affine {
                        degrees,
                        scale,
                        shear,
                    },
                    _ => return Err(refuse("needs three numbers")),
                }
            }
            ("shift" | "crop" | "cutout" | "affine", None) => {
                return Err(refuse("lacks its values"));
            }
            _ => return Err(refuse("is not known")),
        };
        augment
            .check()
            .map(|()| augment)
            .map_err(|error| refuse(error.reason))
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shift { pixels } => write!(f, "shift:{pixels}"),
            Self::Crop { pixels } => write!(f, "crop:{pixels}"),
            Self::Cutout { side } => write!(f, "cutout:{side}"),
            Self::Affine {
                degrees,
                scale,
                shear,
            } => write!(f, "affine:{degrees},{scale},{shear}"),
            Self::Mirror => f.write_str("mirror"),
        }
    }
}

impl TryFrom<String> for Augment {
    type Error = AugmentError;

    fn try_from(text: String) -> Result<Self, AugmentError> {
        text.parse()
    }
}

impl From<Augment> for String {
    fn from(augment: Augment) -> Self {
        augment.to_string()
    }
}

/// Which draw of random numbers a picture gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Seed of the run.
    pub seed: u64,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Index of the picture in its set.
    pub index: u64,
}

/// Values that a change brings into a picture, on the scale of its values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fill<'a> {
    /// Of what was outside the picture, for `affine`.
    pub outside: f32,
    /// Of what is covered, for `cutout`: one value per channel, or one for all.
    pub cover: &'a [f32],
}

/// Applies `steps` in order to one picture `[C, H, W]` in place; `scratch` is as long as the picture.
///
/// # Panics
/// If `image` or `scratch` has not the length of `shape`, or `fill.cover` is empty.
pub fn augment(
    steps: &[Augment],
    image: &mut [f32],
    scratch: &mut [f32],
    shape: [usize; 3],
    fill: Fill<'_>,
    key: Key,
) {
    assert_eq!(image.len(), shape.iter().product::<usize>());
    assert_eq!(image.len(), scratch.len());
    if steps.is_empty() {
        return;
    }
    let mut random = Random::new(key.seed, Purpose::Augment, key.epoch, key.index);
    for step in steps {
        match *step {
            Augment::Shift { pixels } => {
                let mut draw = || i64::from(random.below(2 * pixels + 1)) - i64::from(pixels);
                shift(image, scratch, shape, draw(), draw());
            }
            Augment::Affine {
                degrees,
                scale,
                shear,
            } => {
                let map = Map::new(
                    random.within(degrees),
                    1.0 + random.within(scale),
                    random.within(shear),
                );
                affine(image, scratch, shape, map, fill.outside);
            }
            Augment::Crop { pixels } => {
                let mut draw = |size: usize| {
                    // Beyond its own size a picture has nothing to mirror.
                    let most = i64::from(pixels).min(size as i64 - 1) as u32;
                    i64::from(random.below(2 * most + 1)) - i64::from(most)
                };
                let (down, right) = (draw(shape[1]), draw(shape[2]));
                crop(image, scratch, shape, down, right);
            }
            Augment::Cutout { side } => {
                let (row, column) = (
                    random.below(shape[1] as u32) as usize,
                    random.below(shape[2] as u32) as usize,
                );
                cutout(image, shape, row, column, side as usize, fill.cover);
            }
            Augment::Mirror => {
                if random.below(2) == 1 {
                    mirror(image, shape[2]);
                }
            }
        }
    }
}

/// Moves a picture `down` and `right` by whole pixels (negative: up and left); zeros move in.
fn shift(
    image: &mut [f32],
    scratch: &mut [f32],
    [_, height, width]: [usize; 3],
    down: i64,
    right: i64,
) {
    if down == 0 && right == 0 {
        return;
    }
    scratch.fill(0.0);
    // Where the kept part starts in the result and in the source, and how long it is.
    let overlap = |size: usize, by: i64| {
        let moved = by.unsigned_abs().min(size as u64) as usize;
        let (to, from) = if by > 0 { (moved, 0) } else { (0, moved) };
        (to, from, size - moved)
    };
    let (to_row, from_row, rows) = overlap(height, down);
    let (to_column, from_column, columns) = overlap(width, right);
    for (result, source) in scratch
        .chunks_exact_mut(height * width)
        .zip(image.chunks_exact(height * width))
    {
        for row in 0..rows {
            let to = (to_row + row) * width + to_column;
            let from = (from_row + row) * width + from_column;
            result[to..to + columns].copy_from_slice(&source[from..from + columns]);
        }
    }
    image.copy_from_slice(scratch);
}

/// The picture as seen `down` and `right` of its own frame, mirrored at its edges without repeating them; neither may
/// exceed the size by which there is something to mirror.
fn crop(
    image: &mut [f32],
    scratch: &mut [f32],
    [_, height, width]: [usize; 3],
    down: i64,
    right: i64,
) {
    let mirrored = |at: i64, size: usize| {
        let last = size as i64 - 1;
        let at = at.abs();
        (if at > last { 2 * last - at } else { at }) as usize
    };
    for (result, source) in scratch
        .chunks_exact_mut(height * width)
        .zip(image.chunks_exact(height * width))
    {
        for (row, values) in result.chunks_exact_mut(width).enumerate() {
            let from = mirrored(row as i64 + down, height) * width;
            for (column, value) in values.iter_mut().enumerate() {
                *value = source[from + mirrored(column as i64 + right, width)];
            }
        }
    }
    image.copy_from_slice(scratch);
}

/// Covers the square of `side` about a pixel; of an even side, the pixel is the first behind the middle.
fn cutout(
    image: &mut [f32],
    [_, height, width]: [usize; 3],
    row: usize,
    column: usize,
    side: usize,
    cover: &[f32],
) {
    let range = |at: usize, size: usize| {
        let start = at as i64 - side as i64 / 2;
        start.max(0) as usize..(start + side as i64).min(size as i64) as usize
    };
    let (rows, columns) = (range(row, height), range(column, width));
    for (channel, plane) in image.chunks_exact_mut(height * width).enumerate() {
        let value = cover[channel.min(cover.len() - 1)];
        for line in plane[rows.start * width..rows.end * width].chunks_exact_mut(width) {
            line[columns.clone()].fill(value);
        }
    }
}

/// Mirrors every row.
fn mirror(image: &mut [f32], width: usize) {
    for row in image.chunks_exact_mut(width) {
        row.reverse();
    }
}

/// Where, relative to the centre, a pixel of the result comes from: `x = xx·X + xy·Y`, `y = yx·X + yy·Y`.
#[derive(Clone, Copy, Debug)]
struct Map {
    xx: f32,
    xy: f32,
    yx: f32,
    yy: f32,
}

impl Map {
    /// Undoes: scale, then shear, then rotate (angles in degrees, clockwise on the screen).
    fn new(rotation: f32, scale: f32, shear: f32) -> Self {
        let (sine, cosine) = rotation.to_radians().sin_cos();
        let tangent = shear.to_radians().tan();
        Self {
            xx: (cosine + tangent * sine) / scale,
            xy: (sine - tangent * cosine) / scale,
            yx: -sine / scale,
            yy: cosine / scale,
        }
    }
}

/// Resamples a picture through `map` about its centre, bilinear.
fn affine(
    image: &mut [f32],
    scratch: &mut [f32],
    [_, height, width]: [usize; 3],
    map: Map,
    fill: f32,
) {
    let (centre_x, centre_y) = ((width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0);
    for (result, source) in scratch
        .chunks_exact_mut(height * width)
        .zip(image.chunks_exact(height * width))
    {
        let pixel = |y: i32, x: i32| {
            if (0..height as i32).contains(&y) && (0..width as i32).contains(&x) {
                source[y as usize * width + x as usize]
            } else {
                fill
            }
        };
        for (row, values) in result.chunks_exact_mut(width).enumerate() {
            let dy = row as f32 - centre_y;
            for (column, value) in values.iter_mut().enumerate() {
                let dx = column as f32 - centre_x;
                let x = centre_x + map.xx * dx + map.xy * dy;
                let y = centre_y + map.yx * dx + map.yy * dy;
                let (left, right_part) = floor(x, width);
                let (top, lower_part) = floor(y, height);
                let upper =
                    pixel(top, left) * (1.0 - right_part) + pixel(top, left + 1) * right_part;
                let lower = pixel(top + 1, left) * (1.0 - right_part)
                    + pixel(top + 1, left + 1) * right_part;
                *value = upper * (1.0 - lower_part) + lower * lower_part;
            }
        }
    }
    image.copy_from_slice(scratch);
}

/// The pixel at or before position `at`, and how far behind it the position is, 0 to 1. Positions at which
/// everything is outside the `size` pixels are moved to the next such position. (`f32::floor` is a
/// call on processors that are not known to have an instruction for it.)
fn floor(at: f32, size: usize) -> (i32, f32) {
    let at = at.clamp(-1.0, size as f32);
    let towards_zero = at as i32;
    let below = towards_zero - i32::from(towards_zero as f32 > at);
    (below, at - below as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPE: [usize; 3] = [2, 5, 7];
    const FILL: Fill<'static> = Fill {
        outside: 9.0,
        cover: &[-1.0, -2.0],
    };

    fn picture(shape: [usize; 3]) -> Vec<f32> {
        (0..shape.iter().product::<usize>())
            .map(|i| ((i * 37) % 256) as f32)
            .collect()
    }

    fn changed(shape: [usize; 3], change: impl Fn(&mut [f32], &mut [f32])) -> Vec<f32> {
        let mut image = picture(shape);
        let mut scratch = vec![f32::NAN; image.len()];
        change(&mut image, &mut scratch);
        image
    }

    fn augmented(steps: &[Augment], key: Key) -> Vec<f32> {
        changed(SHAPE, |image, scratch| {
            augment(steps, image, scratch, SHAPE, FILL, key)
        })
    }

    fn key(seed: u64, epoch: u64, index: u64) -> Key {
        Key { seed, epoch, index }
    }

    #[test]
    fn recipes_write_augmentations_as_short_strings() {
        for (text, augment) in [
            ("shift:2", Augment::Shift { pixels: 2 }),
            ("mirror", Augment::Mirror),
            ("crop:4", Augment::Crop { pixels: 4 }),
            ("cutout:16", Augment::Cutout { side: 16 }),
            (
                "affine:10,0.1,5",
                Augment::Affine {
                    degrees: 10.0,
                    scale: 0.1,
                    shear: 5.0,
                },
            ),
        ] {
            assert_eq!(text.parse(), Ok(augment));
            assert_eq!(augment.to_string(), text);
        }
        assert_eq!(
            " affine: 10, 0.1 ,5 "
                .parse::<Augment>()
                .unwrap()
                .to_string(),
            "affine:10,0.1,5"
        );
    }

    #[test]
    fn what_is_no_augmentation_is_refused_with_the_forms() {
        for text in [
            "",
            "shift",
            "shift:",
            "shift:0",
            "shift:-1",
            "shift:1.5",
            "shift:4294967295",
            "mirror:1",
            "affine:1,2",
            "affine:NaN,0,0",
            "affine:0,1,0",
            "affine:0,0,90",
            "affine:inf,0,0",
            "crop",
            "crop:0",
            "cutout:0.5",
            "cutout:5000",
            "flip",
        ] {
            let message = text.parse::<Augment>().unwrap_err().to_string();
            assert!(
                message.contains("shift:PIXELS") && !message.contains('\n'),
                "{message}"
            );
        }
    }

    #[test]
    fn a_shift_moves_and_fills_with_zero() {
        let shape = [1, 2, 3];
        // The picture is 0 37 74 / 111 148 185.
        let moved = |down, right| {
            changed(shape, |image, scratch| {
                shift(image, scratch, shape, down, right)
            })
        };
        assert_eq!(moved(1, 1), [0.0, 0.0, 0.0, 0.0, 0.0, 37.0]);
        assert_eq!(moved(-1, -2), [185.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(moved(0, -1), [37.0, 74.0, 0.0, 148.0, 185.0, 0.0]);
        assert_eq!(moved(2, 0), [0.0; 6]);
        assert_eq!(moved(0, i64::from(u32::MAX)), [0.0; 6]);
    }

    #[test]
    fn a_crop_mirrors_at_the_edge() {
        let shape = [1, 2, 3];
        // The picture is 0 37 74 / 111 148 185.
        let seen = |down, right| {
            changed(shape, |image, scratch| {
                crop(image, scratch, shape, down, right)
            })
        };
        assert_eq!(seen(0, 1), [37.0, 74.0, 37.0, 148.0, 185.0, 148.0]);
        assert_eq!(seen(0, -2), [74.0, 37.0, 0.0, 185.0, 148.0, 111.0]);
        assert_eq!(seen(1, 0), [111.0, 148.0, 185.0, 0.0, 37.0, 74.0]);
        // Padding larger than the picture is cut to what can be mirrored.
        let one = [Augment::Crop { pixels: 4096 }];
        let kept = picture([2, 1, 1]);
        let mut image = kept.clone();
        augment(
            &one,
            &mut image,
            &mut [0.0; 2],
            [2, 1, 1],
            FILL,
            key(0, 0, 0),
        );
        assert_eq!(image, kept);
    }

    #[test]
    fn a_cutout_covers_a_square_and_no_more() {
        let covered = |row, column, side| -> Vec<usize> {
            let mut image = vec![1.0; 2 * 4 * 5];
            cutout(&mut image, [2, 4, 5], row, column, side, &[-1.0, -2.0]);
            let (first, second) = image.split_at(20);
            let covered = |plane: &[f32], value: f32| -> Vec<usize> {
                (0..20).filter(|&i| plane[i] == value).collect()
            };
            assert_eq!(covered(first, -1.0), covered(second, -2.0));
            assert!(image.iter().all(|value| [1.0, -1.0, -2.0].contains(value)));
            covered(first, -1.0)
        };
        assert_eq!(covered(1, 2, 1), [7]);
        assert_eq!(covered(1, 2, 3), [1, 2, 3, 6, 7, 8, 11, 12, 13]);
        assert_eq!(covered(1, 2, 2), [1, 2, 6, 7]);
        assert_eq!(covered(0, 0, 3), [0, 1, 5, 6]);
        assert_eq!(covered(3, 4, 4), [7, 8, 9, 12, 13, 14, 17, 18, 19]);
        assert_eq!(covered(2, 2, 100).len(), 20);
    }

    #[test]
    fn a_quarter_turn_moves_each_pixel_to_its_place() {
        let shape = [1, 3, 3];
        let turned = changed(shape, |image, scratch| {
            affine(image, scratch, shape, Map::new(90.0, 1.0, 0.0), 0.0);
        });
        // 0 37 74 / 111 148 185 / 222 3 40, clockwise.
        let expected = [222.0, 111.0, 0.0, 3.0, 148.0, 37.0, 40.0, 185.0, 74.0];
        for (found, expected) in turned.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-3, "{turned:?}");
        }
    }

    #[test]
    fn scale_and_shear_go_the_way_they_say() {
        let shape = [1, 5, 5];
        let run = |map| {
            let mut image = vec![0.0; 25];
            image[2 * 5 + 3] = 100.0; // right of the centre
            image[5 + 2] = 50.0; // above the centre
            affine(&mut image, &mut [0.0; 25], shape, map, 0.0);
            image
        };
        let twice = run(Map::new(0.0, 2.0, 0.0));
        assert_eq!(twice[2 * 5 + 4], 100.0);
        assert_eq!(twice[2], 50.0);
        let sheared = run(Map::new(0.0, 1.0, 45.0));
        assert!(
            (sheared[2 * 5 + 3] - 100.0).abs() < 1e-3,
            "the row of the centre stays"
        );
        assert!(
            (sheared[5 + 1] - 50.0).abs() < 1e-3,
            "a row above it moves left"
        );
    }

    #[test]
    fn positions_are_divided_into_pixel_and_part() {
        for (at, expected) in [
            (0.0, (0, 0.0)),
            (1.25, (1, 0.25)),
            (-0.25, (-1, 0.75)),
            (-1.0, (-1, 0.0)),
            (-7.5, (-1, 0.0)),
            (4.5, (4, 0.5)),
            (5.0, (5, 0.0)),
            (1e30, (5, 0.0)),
        ] {
            assert_eq!(floor(at, 5), expected, "{at}");
        }
    }

    #[test]
    fn what_moves_in_has_the_fill_value() {
        let shape = [1, 8, 8];
        let mut image = vec![200.0; 64];
        affine(
            &mut image,
            &mut [0.0; 64],
            shape,
            Map::new(0.0, 0.5, 0.0),
            33.0,
        );
        assert_eq!(image[0], 33.0);
        assert_eq!(image[63], 33.0);
        assert_eq!(image[3 * 8 + 3], 200.0);
    }

    #[test]
    fn epochs_and_pictures_draw_separately() {
        let steps = [Augment::Shift { pixels: 2 }, Augment::Mirror];
        let distinct: std::collections::BTreeSet<Vec<u32>> = (0..20)
            .flat_map(|n| [key(1, n, 0), key(1, 0, n), key(n, 0, 0)])
            .map(|key| {
                augmented(&steps, key)
                    .into_iter()
                    .map(f32::to_bits)
                    .collect()
            })
            .collect();
        assert!(distinct.len() > 20, "{}", distinct.len());
    }

    proptest! {
        #[test]
        fn no_change_is_the_identity(a in any::<u64>(), b in any::<u64>()) {
            let nothing = "affine:0,0,0".parse().unwrap();
            prop_assert_eq!(augmented(&[nothing], key(a, b, 3)), picture(SHAPE));
            prop_assert_eq!(augmented(&[], key(a, b, 3)), picture(SHAPE));
            prop_assert_eq!(changed(SHAPE, |image, scratch| shift(image, scratch, SHAPE, 0, 0)), picture(SHAPE));
        }

        #[test]
        fn mirroring_twice_is_the_identity(channels in 1_usize..4, height in 1_usize..6, width in 1_usize..6) {
            let shape = [channels, height, width];
            let twice = changed(shape, |image, _| {
                mirror(image, width);
                mirror(image, width);
            });
            prop_assert_eq!(twice, picture(shape));
        }

        #[test]
        fn shifting_there_and_back_keeps_the_overlap(down in -6_i64..7, right in -8_i64..9) {
            let back = changed(SHAPE, |image, scratch| {
                shift(image, scratch, SHAPE, down, right);
                shift(image, scratch, SHAPE, -down, -right);
            });
            for (found, original) in back.iter().zip(picture(SHAPE)) {
                prop_assert!(*found == original || *found == 0.0);
            }
            let survivors = (5 - down.abs()).max(0) * (7 - right.abs()).max(0) * 2;
            let kept = back.iter().zip(picture(SHAPE)).filter(|(a, b)| **a == *b && *b != 0.0).count() as i64;
            // One pixel of the picture in 256 is 0 itself.
            prop_assert!(kept <= survivors && kept + 2 >= survivors);
        }

        #[test]
        fn augmentation_is_a_function_of_its_key_and_stays_in_range(
            seed in any::<u64>(), epoch in any::<u64>(), index in any::<u64>(),
        ) {
            let steps = ["affine:30,0.3,20", "shift:3", "crop:9", "mirror"].map(|step| step.parse().unwrap());
            let first = augmented(&steps, key(seed, epoch, index));
            prop_assert!(first.iter().all(|value| (0.0..=255.0).contains(value)));
            let second = augmented(&steps, key(seed, epoch, index));
            prop_assert!(first.iter().zip(&second).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}
