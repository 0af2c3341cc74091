//! 8-bit pictures and what may be done to their geometry.

#[cfg(feature = "pictures")]
use image::imageops::{FilterType, resize};
#[cfg(feature = "pictures")]
use image::{ImageBuffer, Luma, Pixel, Rgb};

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Values per pixel: 1 for grey, 3 for red, green and blue.
    pub channels: usize,
    /// Values row by row, the channels of a pixel side by side.
    pub pixels: Vec<u8>,
}

/// The largest number of pixels that a resize may produce.
const MAX_PIXELS: usize = 1 << 28;

/// The picture in as many channels as must be kept apart: grey stays grey if `channels` is 3,
/// because equal channels can be made last.
pub(crate) fn with_channels(picture: &Picture, channels: usize) -> Result<Picture, String> {
    let values = [picture.width, picture.height, picture.channels]
        .iter()
        .try_fold(1usize, |product, extent| product.checked_mul(*extent));
    if values != Some(picture.pixels.len()) || picture.pixels.is_empty() {
        return Err(format!(
            "it holds {} values; decode it again",
            picture.pixels.len()
        ));
    }
    match (picture.channels, channels) {
        (1, 1 | 3) | (3, 3) => Ok(picture.clone()),
        (3, 1) => {
            let pixels = picture
                .pixels
                .as_chunks::<3>()
                .0
                .iter()
                .map(|pixel| luma(*pixel))
                .collect();
            Ok(Picture {
                channels: 1,
                pixels,
                ..*picture
            })
        }
        _ => Err(format!(
            "the network reads {channels} channels; only grey and colour are converted"
        )),
    }
}

/// Luma of BT.601, in the fixed point and with the rounding of common image libraries.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    ((u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471 + 0x8000) >> 16)
        as u8
}

/// The picture with its shorter side at this length, bilinear with antialiasing.
pub(crate) fn resized(picture: &Picture, shorter: usize) -> Result<Picture, String> {
    let (width, height) = (picture.width, picture.height);
    let smallest = width.min(height);
    if smallest == shorter {
        return Ok(picture.clone());
    }
    let to = |side: usize| side.checked_mul(shorter).map(|product| product / smallest);
    let size = to(width).zip(to(height)).filter(|(width, height)| {
        width
            .checked_mul(*height)
            .is_some_and(|pixels| (1..=MAX_PIXELS).contains(&pixels))
    });
    let Some((new_width, new_height)) = size else {
        return Err(format!(
            "with its shorter side at {shorter} it would be larger than {MAX_PIXELS} pixels; cut it before"
        ));
    };
    let side = |length: usize| u32::try_from(length).map_err(|_| "a side is too long".to_owned());
    let from = [side(width)?, side(height)?];
    let to = [side(new_width)?, side(new_height)?];
    let pixels = scaled(picture, from, to)?;
    Ok(Picture {
        width: new_width,
        height: new_height,
        channels: picture.channels,
        pixels,
    })
}

/// Bilinear, over all the pixels that a smaller one covers.
#[cfg(feature = "pictures")]
fn scaled(picture: &Picture, from: [u32; 2], to: [u32; 2]) -> Result<Vec<u8>, String> {
    Ok(match picture.channels {
        1 => scaled_pixels::<Luma<u8>>(&picture.pixels, from, to),
        _ => scaled_pixels::<Rgb<u8>>(&picture.pixels, from, to),
    })
}

#[cfg(not(feature = "pictures"))]
fn scaled(_: &Picture, from: [u32; 2], to: [u32; 2]) -> Result<Vec<u8>, String> {
    Err(format!(
        "this build does not resize {}x{} to {}x{}; give pictures of that size, or build with the feature `pictures`",
        from[0], from[1], to[0], to[1]
    ))
}

#[cfg(feature = "pictures")]
fn scaled_pixels<P: Pixel<Subpixel = u8> + 'static>(
    pixels: &[u8],
    from: [u32; 2],
    to: [u32; 2],
) -> Vec<u8> {
    let source: ImageBuffer<P, &[u8]> = ImageBuffer::from_raw(from[0], from[1], pixels)
        .expect("`with_channels` checked the number of values");
    resize(&source, to[0], to[1], FilterType::Triangle).into_raw()
}

/// The centre of the picture, of this height and width.
pub(crate) fn central(picture: &Picture, crop: [usize; 2]) -> Result<Picture, String> {
    let [height, width] = crop;
    if crop == [picture.height, picture.width] {
        return Ok(picture.clone());
    }
    if height > picture.height || width > picture.width {
        return Err(format!(
            "it comes to the crop at {}x{} (width x height), smaller than `crop = {crop:?}`; set `resize = {}` or more",
            picture.width,
            picture.height,
            height.max(width)
        ));
    }
    let (top, left) = (half(picture.height - height), half(picture.width - width));
    let channels = picture.channels;
    let pixels = picture
        .pixels
        .chunks_exact(picture.width * channels)
        .skip(top)
        .take(height)
        .flat_map(|row| &row[left * channels..(left + width) * channels])
        .copied()
        .collect();
    Ok(Picture {
        width,
        height,
        channels,
        pixels,
    })
}

/// Half of a margin; halves are rounded to even, as torchvision's centre crop does.
fn half(margin: usize) -> usize {
    let down = margin / 2;
    if margin % 2 == 1 && down % 2 == 1 {
        down + 1
    } else {
        down
    }
}

/// The values in planes, a grey picture as often as there are channels.
pub(crate) fn to_planes(picture: &Picture, channels: usize) -> Vec<f32> {
    let step = picture.channels;
    (0..channels)
        .flat_map(|channel| {
            picture
                .pixels
                .iter()
                .skip(channel.min(step - 1))
                .step_by(step)
        })
        .map(|value| f32::from(*value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(width: usize, height: usize, channels: usize) -> Picture {
        let pixels = (0..width * height * channels)
            .map(|index| (index * 37 % 251) as u8)
            .collect();
        Picture {
            width,
            height,
            channels,
            pixels,
        }
    }

    #[test]
    fn grey_is_repeated_and_colour_is_weighed() {
        let grey = gradient(2, 1, 1);
        assert_eq!(
            to_planes(&with_channels(&grey, 3).unwrap(), 3),
            [0.0, 37.0, 0.0, 37.0, 0.0, 37.0]
        );
        let colour = Picture {
            width: 4,
            height: 1,
            channels: 3,
            pixels: vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255],
        };
        assert_eq!(
            with_channels(&colour, 1).unwrap().pixels,
            [76, 150, 29, 255]
        );
        assert_eq!(to_planes(&colour, 3)[..4], [255.0, 0.0, 0.0, 255.0]);
    }

    #[test]
    fn a_picture_that_lies_about_its_size_is_refused() {
        for (width, height, channels) in [(3, 1, 1), (usize::MAX, 2, 1), (0, 0, 1), (1, 1, 2)] {
            let picture = Picture {
                width,
                height,
                channels,
                pixels: vec![0; 2],
            };
            assert!(
                with_channels(&picture, 1).is_err(),
                "{width} {height} {channels}"
            );
        }
        assert!(with_channels(&gradient(2, 2, 3), 5).is_err());
    }

    #[test]
    fn a_resize_keeps_the_aspect_ratio_and_the_mean() {
        let picture = gradient(64, 48, 3);
        let small = resized(&picture, 12).unwrap();
        assert_eq!((small.width, small.height, small.channels), (16, 12, 3));
        let mean = |picture: &Picture| {
            picture
                .pixels
                .iter()
                .map(|value| f64::from(*value))
                .sum::<f64>()
                / picture.pixels.len() as f64
        };
        // Antialiasing averages all pixels; picking single ones would not come this close.
        assert!(
            (mean(&small) - mean(&picture)).abs() < 1.5,
            "{} {}",
            mean(&small),
            mean(&picture)
        );
        assert_eq!(resized(&picture, 48).unwrap(), picture);
    }

    #[test]
    fn halving_weighs_neighbours_like_a_triangle() {
        // Half size: weights 1, 3, 3, 1 of 8 inside, renormalized at the edges.
        let picture = Picture {
            width: 8,
            height: 2,
            channels: 1,
            pixels: [[0, 0, 0, 80, 0, 0, 0, 0]; 2].concat(),
        };
        assert_eq!(resized(&picture, 1).unwrap().pixels, [0, 30, 10, 0]);
    }

    #[test]
    fn a_picture_that_would_grow_too_large_is_refused() {
        let thin = gradient(100_000, 1, 1);
        assert!(resized(&thin, 100_000).unwrap_err().contains("larger"));
        assert!(resized(&thin, usize::MAX).is_err());
        assert_eq!(resized(&thin, 2).unwrap().width, 200_000);
    }

    #[test]
    fn the_centre_is_cut_out() {
        let picture = gradient(5, 4, 3);
        let centre = central(&picture, [2, 3]).unwrap();
        assert_eq!(
            &centre.pixels[..9],
            &picture.pixels[(5 + 1) * 3..(5 + 4) * 3]
        );
        assert_eq!(centre.pixels.len(), 18);
        assert!(
            central(&picture, [5, 5])
                .unwrap_err()
                .contains("resize = 5")
        );
        assert_eq!([0, 1, 2, 3, 4, 5].map(half), [0, 0, 1, 2, 2, 2]);
    }
}
