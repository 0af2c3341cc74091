//! A small picture of the data, as it is shown in a page.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _};

use super::run::Mistake;

/// Rows of red, green and blue.
#[derive(Debug, Clone, PartialEq)]
pub struct Photo {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<[u8; 3]>,
}

impl Photo {
    /// The picture of a mistake, whose bytes lie channel by channel.
    pub fn of(mistake: &Mistake) -> Photo {
        let plane = mistake.width * mistake.height;
        let channel = |index: usize, channel: usize| {
            mistake.pixels[(channel % mistake.channels) * plane + index]
        };
        let pixel = |index| [channel(index, 0), channel(index, 1), channel(index, 2)];
        Photo {
            width: mistake.width,
            height: mistake.height,
            pixels: (0..plane).map(pixel).collect(),
        }
    }

    /// The picture at most `side` pixels wide and high: each pixel the mean of those it stands for.
    pub fn shrunk(&self, side: usize) -> Photo {
        let longest = self.width.max(self.height);
        if longest <= side {
            return self.clone();
        }
        let (width, height) = (
            (self.width * side / longest).max(1),
            (self.height * side / longest).max(1),
        );
        let mean = |column: usize, row: usize| {
            let (left, right) = (
                column * self.width / width,
                (column + 1) * self.width / width,
            );
            let (top, bottom) = (row * self.height / height, (row + 1) * self.height / height);
            let mut sums = [0u64; 3];
            for y in top..bottom {
                for x in left..right {
                    for (sum, value) in sums.iter_mut().zip(self.pixels[y * self.width + x]) {
                        *sum += u64::from(value);
                    }
                }
            }
            let count = ((right - left) * (bottom - top)) as u64;
            sums.map(|sum| ((sum + count / 2) / count) as u8)
        };
        let pixels = (0..width * height)
            .map(|index| mean(index % width, index / width))
            .collect();
        Photo {
            width,
            height,
            pixels,
        }
    }

    /// The picture as a PNG file inside a `data:` address.
    pub fn data_url(&self) -> String {
        let mut file = Vec::new();
        // Writing to memory fails only where the buffer and the size disagree, which they do not.
        let _ = PngEncoder::new(&mut file).write_image(
            self.pixels.as_flattened(),
            self.width as u32,
            self.height as u32,
            ExtendedColorType::Rgb8,
        );
        format!("data:image/png;base64,{}", STANDARD.encode(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(channels: usize, pixels: Vec<u8>) -> Mistake {
        Mistake {
            index: 0,
            label: 0,
            predicted: 1,
            confidence: 0.9,
            channels,
            height: 1,
            width: 2,
            pixels,
        }
    }

    #[test]
    fn channels_are_interleaved_and_grey_is_repeated() {
        assert_eq!(Photo::of(&mistake(1, vec![7, 9])).pixels, [[7; 3], [9; 3]]);
        assert_eq!(
            Photo::of(&mistake(3, vec![1, 2, 3, 4, 5, 6])).pixels,
            [[1, 3, 5], [2, 4, 6]]
        );
    }

    #[test]
    fn the_data_url_holds_the_picture() {
        let photo = Photo::of(&mistake(3, vec![1, 2, 3, 4, 5, 6]));
        let url = photo.data_url();
        let file = STANDARD
            .decode(url.strip_prefix("data:image/png;base64,").unwrap())
            .unwrap();
        let read = image::load_from_memory(&file).unwrap().to_rgb8();
        assert_eq!(read.into_raw(), photo.pixels.as_flattened());
    }

    #[test]
    fn shrinking_takes_means_and_keeps_proportions() {
        let pixels = (0..8).map(|index| [index * 10; 3]).collect();
        let photo = Photo {
            width: 4,
            height: 2,
            pixels,
        };
        assert_eq!(photo.shrunk(9), photo);
        assert_eq!(
            photo.shrunk(2),
            Photo {
                width: 2,
                height: 1,
                pixels: vec![[25; 3], [45; 3]]
            }
        );
    }
}
