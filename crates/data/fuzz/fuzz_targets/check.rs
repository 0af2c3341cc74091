//! What must hold for any bytes; the fuzz targets and the replay of their corpus share it.

use skinny_data::{decode_picture, idx::decode_bytes};
use skinny_network::Preprocess;

fn one_line(reason: &str) {
    assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
}

/// An IDX file is an error in one line, or holds what its header says: `true`.
pub fn idx(bytes: &[u8]) -> bool {
    values::<3>(bytes) | values::<1>(bytes)
}

fn values<const D: usize>(bytes: &[u8]) -> bool {
    match decode_bytes::<D>(bytes) {
        Ok((dimensions, values)) => {
            assert_eq!(dimensions.iter().product::<usize>(), values.len());
            assert!(!values.is_empty());
            true
        }
        Err(reason) => {
            one_line(&reason);
            false
        }
    }
}

/// A picture is an error in one line, or as large as it says and fit for a network: `true`.
pub fn picture(bytes: &[u8]) -> bool {
    let picture = match decode_picture(bytes) {
        Ok(picture) => picture,
        Err(reason) => {
            one_line(&reason);
            return false;
        }
    };
    assert_eq!(
        picture.pixels.len(),
        picture.width * picture.height * picture.channels
    );
    let shape = [3, 8, 8];
    match Preprocess::for_input(shape).geometry(&picture, shape) {
        Ok(image) => {
            assert_eq!(image.len(), 3 * 8 * 8);
            assert!(image.iter().all(|value| (0.0..=255.0).contains(value)));
        }
        // A strip so long that it would not fit into memory at this height.
        Err(error) => one_line(&error.to_string()),
    }
    true
}
