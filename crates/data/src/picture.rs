//! Decoding of PNG and JPEG files.

use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use skinny_network::Picture;

use crate::DataError;

/// No picture file is longer.
const LARGEST_FILE: u64 = 1 << 28;
/// No picture is wider or higher.
const LARGEST_SIDE: u32 = 1 << 15;
/// A decoded picture takes no more bytes.
const LARGEST_PICTURE: u64 = 1 << 29;

/// What to do about a picture that cannot be decoded.
const CURE: &str = "repair the file or delete it";

/// Reads a PNG or JPEG file, upright (the orientation of its EXIF data is applied): 1 channel if it is
/// gray, otherwise 3; transparency is ignored. The content says which format it is, not the name.
///
/// # Errors
/// [`DataError::Read`] if the file cannot be read, [`DataError::Corrupt`] if it is not a whole picture.
pub fn read_picture(path: &Path) -> Result<Picture, DataError> {
    let corrupt = |reason: String| DataError::Corrupt {
        path: path.to_owned(),
        reason,
        cure: CURE.to_owned(),
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
        .map_err(|source| DataError::Read {
            path: path.to_owned(),
            source,
        })?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(corrupt(format!(
            "is longer than {} MiB",
            LARGEST_FILE >> 20
        )));
    }
    decode_picture(&bytes).map_err(corrupt)
}

/// Decodes the bytes of a PNG or JPEG file, as [`read_picture`].
///
/// # Errors
/// What is wrong, in one line, without the name of a file.
pub fn decode_picture(bytes: &[u8]) -> Result<Picture, String> {
    // The decoders are libraries for hostile input, but a defect in one must not end a training run.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(bytes)))
        .unwrap_or_else(|_| Err("the decoder panicked on this picture".into()))?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let (channels, pixels) = if decoded.color().has_color() {
        (3, decoded.into_rgb8().into_raw())
    } else {
        (1, decoded.into_luma8().into_raw())
    };
    Ok(Picture {
        width,
        height,
        channels,
        pixels,
    })
}

fn decode(bytes: &[u8]) -> Result<DynamicImage, String> {
    let words = |error: image::ImageError| error.to_string().replace('\n', " ");
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| error.to_string())?;
    match reader.format() {
        Some(ImageFormat::Png) => {}
        Some(ImageFormat::Jpeg) if ends_early(bytes) => {
            return Err("the JPEG data ends early (truncated)".into());
        }
        Some(ImageFormat::Jpeg) => {}
        Some(other) => {
            return Err(format!(
                "this is a {other:?} file; only PNG and JPEG can be read"
            ));
        }
        None => return Err("this is neither PNG nor JPEG".into()),
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(LARGEST_PICTURE);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(words)?;
    if decoder.total_bytes() > LARGEST_PICTURE {
        return Err(format!(
            "the decoded picture would take more than {} MiB",
            LARGEST_PICTURE >> 20
        ));
    }
    let orientation = decoder.orientation().map_err(words)?;
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(words)?;
    decoded.apply_orientation(orientation);
    if decoded.width() == 0 || decoded.height() == 0 {
        return Err("the picture has no pixels".into());
    }
    Ok(decoded)
}

/// Whether JPEG data stops before its end-of-image marker. The decoder would paint the rest gray.
fn ends_early(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[first, marker]) = bytes.get(at..at + 2) {
        match (first, marker) {
            (0xff, 0xd9) => return false,
            // Markers without a segment, stuffed and fill bytes, and (outside the first case) the
            // compressed data itself, in which every 0xff is followed by 0 or a restart marker.
            (0xff, 0x00 | 0x01 | 0xd0..=0xd8) => at += 2,
            (0xff, 0xff) => at += 1,
            (0xff, _) => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => at += 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return true,
            },
            _ => at += 1,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, ImageEncoder, Luma, Rgb, RgbImage, codecs::jpeg::JpegEncoder};
    use proptest::prelude::*;

    fn gray() -> GrayImage {
        GrayImage::from_fn(5, 3, |x, y| Luma([(x * 40 + y * 10) as u8]))
    }

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn refused(bytes: &[u8], word: &str) {
        let reason = decode_picture(bytes).unwrap_err();
        assert!(
            reason.contains(word) && !reason.contains('\n'),
            "\"{reason}\" does not say \"{word}\""
        );
    }

    #[test]
    fn a_png_is_read_exactly_in_gray_and_colour() {
        let png = encoded(&gray().into(), ImageFormat::Png);
        let picture = decode_picture(&png).unwrap();
        assert_eq!((picture.width, picture.height, picture.channels), (5, 3, 1));
        assert_eq!(picture.pixels, gray().into_raw());
        let colour = RgbImage::from_fn(2, 2, |x, y| Rgb([x as u8, y as u8, 7]));
        let colour = DynamicImage::from(colour);
        for with_alpha in [colour.clone(), colour.to_rgba8().into()] {
            let picture = decode_picture(&encoded(&with_alpha, ImageFormat::Png)).unwrap();
            assert_eq!(picture.channels, 3);
            assert_eq!(picture.pixels, colour.as_bytes());
        }
        let deep = encoded(
            &DynamicImage::from(gray()).to_luma16().into(),
            ImageFormat::Png,
        );
        assert_eq!(decode_picture(&deep).unwrap().pixels, gray().into_raw());
    }

    #[test]
    fn a_jpeg_is_turned_upright() {
        let wide = GrayImage::from_fn(16, 8, |x, _| Luma([if x < 8 { 0 } else { 255 }]));
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new(&mut bytes);
        // EXIF with orientation 6: the picture is to be turned clockwise.
        let exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        encoder
            .write_image(wide.as_raw(), 16, 8, image::ExtendedColorType::L8)
            .unwrap();
        let picture = decode_picture(&bytes).unwrap();
        assert_eq!((picture.width, picture.height), (8, 16));
        assert!(
            picture.pixels[0] < 10 && picture.pixels[15 * 8] > 245,
            "left has become top"
        );
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        refused(b"", "empty");
        refused(b"hello, world", "neither PNG nor JPEG");
        refused(b"GIF89a\x01\0\x01\0\0\0\0;", "Gif");
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            read_picture(folder.path()),
            Err(DataError::Read { .. })
        ));
        let path = folder.path().join("no-picture.png");
        std::fs::write(&path, "text").unwrap();
        let message = read_picture(&path).unwrap_err().to_string();
        assert!(
            message.contains("no-picture.png") && message.contains("delete it"),
            "{message}"
        );
    }

    #[test]
    fn a_picture_cut_anywhere_is_refused() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let whole = encoded(&gray().into(), format);
            decode_picture(&whole).unwrap();
            // The last chunk of a PNG only says that it is the last.
            let needed = if format == ImageFormat::Png {
                whole.len() - 12
            } else {
                whole.len()
            };
            for end in 0..needed {
                assert!(
                    decode_picture(&whole[..end]).is_err(),
                    "{format:?} cut at {end} of {}",
                    whole.len()
                );
            }
        }
    }

    #[test]
    fn what_follows_a_jpeg_does_not_matter() {
        let mut bytes = encoded(&gray().into(), ImageFormat::Jpeg);
        bytes.extend(b"\xff\xda rubbish");
        decode_picture(&bytes).unwrap();
    }

    #[test]
    fn a_picture_that_would_fill_memory_is_refused() {
        let mut png = encoded(&gray().into(), ImageFormat::Png);
        // Width and height of the header, made 4 billion; the checksum of the header no longer fits either,
        // so the dimensions of a valid header are tried with a JPEG.
        png[16..24].fill(0xff);
        assert!(decode_picture(&png).is_err());
        let mut jpeg = encoded(&gray().into(), ImageFormat::Jpeg);
        let frame = jpeg
            .windows(2)
            .position(|pair| pair == [0xff, 0xc0])
            .unwrap();
        jpeg[frame + 5..frame + 9].fill(0xff);
        refused(&jpeg, "limit");
    }

    proptest! {
        #[test]
        fn damage_never_panics(place in any::<proptest::sample::Index>(), value in any::<u8>(), png in any::<bool>()) {
            let format = if png { ImageFormat::Png } else { ImageFormat::Jpeg };
            let mut bytes = encoded(&gray().into(), format);
            let place = place.index(bytes.len());
            bytes[place] = value;
            if let Ok(picture) = decode_picture(&bytes) {
                prop_assert_eq!(picture.pixels.len(), picture.width * picture.height * picture.channels);
            }
        }
    }
}
